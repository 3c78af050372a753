# The front door. `make help` says what there is; Meson and Ninja do the work.

BUILD  ?= build
PREFIX ?= /usr/local
JOBS   ?= $(shell nproc)
FUZZ_SECONDS ?= 60
# What `make test` runs: empty is everything, e.g. SUITE="base tier".
SUITE  ?=

MODEL  := models/demo-q4_0.gguf
NINJA  := ninja -j $(JOBS)
CHOSEN := $(if $(SUITE),--suite $(SUITE))

BIG ?= /tmp/doppler-big
# Arguments of bench/tier/big.py, e.g. BIG_ARGS="--scale small".
BIG_ARGS ?=

.PHONY: all help setup setup-dev demo bench bench-big test soak asan tsan fuzz valgrind check format install clean

all: setup $(BUILD)/build.ninja
	$(NINJA) -C $(BUILD)

help:
	@echo "make            build $(BUILD)/doppler and libdoppler"
	@echo "make demo       build, then let the model in models/ tell a story in 8 MiB"
	@echo "make bench      decode and prefill speed of a made-up 1B model, as JSON"
	@echo "make bench-big  models of 12 to 41 GB in less memory, in BIG=$(BIG) (removed afterwards)"
	@echo "make test       build with assertions and run every test (SUITE=\"base tier\": some)"
	@echo "make soak       long runs: models of real size, with holes, all of them stepped; swarms, real and simulated"
	@echo "make check      layers, exported symbols, file names, lengths, format"
	@echo "make asan       tests under the address and undefined-behaviour sanitizers"
	@echo "make tsan       tests under the thread sanitizer"
	@echo "make fuzz       every fuzz target for FUZZ_SECONDS=$(FUZZ_SECONDS) (clang)"
	@echo "make valgrind   the demo model under memcheck"
	@echo "make format     clang-format over the tree"
	@echo "make install    into PREFIX=$(PREFIX), below DESTDIR"
	@echo "make setup      install missing packages (Debian); nothing when all are there"
	@echo "make clean      remove the build folders"

setup:
	@scripts/setup

setup-dev:
	@scripts/setup --dev

# Tests are built in build-test: the release build is only what gets installed.
$(BUILD)/build.ninja:
	meson setup $(BUILD) --buildtype=release --prefix=$(PREFIX) -Dtests=false

build-test/build.ninja:
	meson setup build-test --buildtype=debugoptimized

build-asan/build.ninja:
	meson setup build-asan --buildtype=debugoptimized -Db_sanitize=address,undefined

build-tsan/build.ninja:
	meson setup build-tsan --buildtype=debugoptimized -Db_sanitize=thread

build-fuzz/build.ninja:
	CC=clang CXX=clang++ meson setup build-fuzz --buildtype=debugoptimized -Db_sanitize=address,undefined \
	    -Db_lundef=false -Ddefault_library=static -Dfuzz=true -Dc_args=-fsanitize=fuzzer-no-link \
	    -Dcpp_args=-fsanitize=fuzzer-no-link

demo: all
	$(BUILD)/doppler run $(MODEL) -p "Once upon a time" --echo -n 200 --ram 8MiB \
	    --temp 0.6 --top-p 0.9 --seed 7

$(BUILD)/llama-1b.gguf: | all
	$(BUILD)/tools/mkmodel --preset llama-1b -o $@

bench: all $(BUILD)/llama-1b.gguf
	$(BUILD)/bench/bench_decode $(BUILD)/llama-1b.gguf

bench-big: all
	bench/tier/big.py $(BUILD) $(BIG) $(BIG_ARGS)

test: setup build-test/build.ninja
	$(NINJA) -C build-test
	tools/run_tests.py build-test $(CHOSEN)

# What takes longer than a test may: every model of real size says a token, swarms of
# thousands of peers, 2 GB come from three peers that hold it together.
soak: all build-test/build.ninja
	$(NINJA) -C build-test tests/sim/swarm_sim
	build-test/tests/sim/swarm_sim
	tests/shapes/shapes_test.py $(BUILD)/doppler $(BUILD)/tools/mkmodel $(BUILD) --all
	tests/swarm/swarm_soak.py $(BUILD)/doppler $(BUILD)/tools/mkmodel $(BUILD)

# A sanitizer multiplies memory and time, so promises about both are not judged here.
asan: setup build-asan/build.ninja
	$(NINJA) -C build-asan
	ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	    tools/run_tests.py build-asan $(CHOSEN) --no-suite cgroup shapes --timeout-factor 8

tsan: setup build-tsan/build.ninja
	$(NINJA) -C build-tsan
	TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:suppressions=$(CURDIR)/tests/tsan.supp \
	    tools/run_tests.py build-tsan $(CHOSEN) --no-suite cgroup shapes --timeout-factor 15

fuzz: setup-dev build-fuzz/build.ninja
	tools/run_fuzz.py build-fuzz --seconds $(FUZZ_SECONDS)

# memcheck 3.19 knows no AVX-512 and waits for ever in io_uring: both are chosen by hand.
valgrind: setup-dev build-test/build.ninja
	$(NINJA) -C build-test
	valgrind --error-exitcode=1 --leak-check=full --show-leak-kinds=definite,possible \
	    --errors-for-leak-kinds=definite,possible \
	    build-test/doppler run $(MODEL) -p "Once upon a time" -n 8 --ram 8MiB \
	    --kernels x86.avx2 --io-engine threads

check: build-test/build.ninja
	tools/check_layers.py
	tools/check_names.py
	tools/longest.py
	tools/check_format.sh
	$(NINJA) -C build-test
	tools/check_symbols.sh build-test

format: setup-dev
	tools/check_format.sh --fix

install: all
	meson configure $(BUILD) --prefix=$(PREFIX)
	meson install -C $(BUILD)

clean:
	rm -rf $(BUILD) build-test build-asan build-tsan build-fuzz
