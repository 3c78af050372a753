#!/usr/bin/env python3
"""How long pages take that somebody waits for, by the size of an expert, beside the drive's own time.

usage: page_latency.py BUILD_DIR FOLDER [--samples N] [--burn N] [--keep] [-- NAME=VALUE ...]

For each size a model of three layers and 32 experts, 4 a token, is made in FOLDER and decodes with
memory for a third of them, so that most tokens wait for several. --burn runs so many busy
processes beside it. A JSON line a size, bench_paging's, and

  p99_ok  p99 of pages waited for is below 100 ms, those included that are on their way by then
  p50_ok  p50 is at most 1.5 times alone_ms, what one such page takes from the drive when nothing else
          is asked of it. Pages wanted together come one after the other, so each counts from the
          moment it is its turn (page_ms_turn); p50_ratio has the same from the want on (page_ms_demand)

and a histogram for people on stderr. The exit status is 1 when a size failed.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys

P99_MS, P50_RATIO = 100, 1.5

# (MB of an expert, n_embd, n_ff_exp, type of experts)
SIZES = [(1.8, 2048, 512, "Q4_K"), (4.4, 2048, 1280, "Q4_K"), (13.3, 4096, 1920, "Q4_0"),
         (26.5, 4096, 3840, "Q4_K")]
LAYERS, EXPERTS = 3, 32


def make(build, folder, mb, embed, ff, kind):
    path = folder / f"page-{mb}.gguf"
    if not path.exists():
        part = path.with_suffix(".part")
        subprocess.run([build / "tools" / "mkmodel", "--preset", "qwen3moe-3b", "--type", "Q8_0",
                        "--expert-type", kind, "--layers", str(LAYERS), "--vocab", "32000",
                        "--set", f"n_embd={embed}", "--set", f"n_ff_exp={ff}", "-o", part],
                       check=True, stdout=subprocess.DEVNULL)
        part.rename(path)
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)  # dirty pages cannot be dropped
        os.close(fd)
    return path


def memory_for(build, model):
    """Bytes for what is always used, and a third of the experts."""
    text = subprocess.run([build / "doppler", "inspect", model, "--json"], check=True,
                          capture_output=True, text=True).stdout
    groups = json.loads(text)["pages"]
    experts = sum(g["bytes"] for g in groups if "expert" in g["kind"])
    rest = sum(g["bytes"] for g in groups) - experts
    return rest + experts // 3 + (96 << 20)  # keys, buffers


def show(mb, done):
    print(f"{mb} MB, alone {done['alone_ms']} ms ({done['alone_ms_contiguous']} in one range)",
          file=sys.stderr)
    for name in ("demand", "covered", "turn", "ahead"):
        times = done[f"page_ms_{name}"]
        print(f"  {name}: {times['pages']} pages, p50 {times['p50']} p99 {times['p99']} "
              f"max {times['max']}", file=sys.stderr)
    rows = done["page_ms_demand"]["histogram"]
    most = max([count for _, count in rows], default=1)
    for to, count in rows:
        print(f"    to {to:8.2f} ms {count:6d} {'#' * (1 + 50 * count // most)}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("options", nargs="*")  # behind --
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--burn", type=int, default=0)
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_intermixed_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    is_ok = True
    for mb, embed, ff, kind in SIZES:
        model = make(arguments.build, arguments.folder, mb, embed, ff, kind)
        ram = memory_for(arguments.build, model)
        burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"])
                   for _ in range(arguments.burn)]
        try:
            text = subprocess.run([arguments.build / "bench" / "bench_paging", model, "64", "64",
                                   str(arguments.samples), "ctx=512", f"ram={ram}",
                                   *arguments.options],
                                  check=True, stdout=subprocess.PIPE, text=True).stdout
        finally:
            for burner in burners:
                burner.kill()
                burner.wait()
        done = json.loads(text)
        demand, covered, turn = (done[f"page_ms_{name}"] for name in ("demand", "covered", "turn"))
        done["p99_ok"] = demand["p99"] < P99_MS and covered["p99"] < P99_MS
        done["p50_ok"] = turn["p50"] <= P50_RATIO * done["alone_ms"]
        done["p50_ratio"] = demand["p50"] / done["alone_ms"]
        done.update(expert_mb=mb, burners=arguments.burn, load_average=os.getloadavg()[0])
        is_ok = is_ok and done["p99_ok"] and done["p50_ok"]
        print(json.dumps(done), flush=True)
        show(mb, done)
        if not arguments.keep:
            model.unlink()
    sys.exit(0 if is_ok else 1)


main()
