#!/usr/bin/env python3
"""Builds and runs every libFuzzer target. Usage: run_fuzz.py BUILD_DIR [--seconds N]

A target is an executable fuzz_NAME; its seeds are tests/fuzz/corpus/NAME. What
it finds on the way is kept in BUILD_DIR/corpus/NAME and used again; an input
that breaks a promise is left in BUILD_DIR and named. Ends with a line of counts.
"""
import argparse
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
INPUT_BYTES_MAX = 1 << 16  # every parser's interesting cases fit well inside


def targets(build):
    listing = subprocess.run(["meson", "introspect", "--targets", build], capture_output=True,
                             check=True)
    return sorted(pathlib.Path(target["filename"][0]) for target in json.loads(listing.stdout)
                  if target["name"].startswith("fuzz_") and target["type"] == "executable")


def fuzz(target, build, seconds):
    name = target.name.removeprefix("fuzz_")
    found = build / "corpus" / name
    found.mkdir(parents=True, exist_ok=True)
    seeds = [str(path) for path in [ROOT / "tests/fuzz/corpus" / name] if path.is_dir()]
    command = [str(target), f"-max_total_time={seconds}", f"-max_len={INPUT_BYTES_MAX}",
               "-rss_limit_mb=2048", "-timeout=10", "-print_final_stats=1",
               f"-artifact_prefix={build}/{name}-", str(found), *seeds]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output = run.stdout.decode(errors="replace").splitlines()
    stats = [line for line in output if "number_of_executed_units" in line]
    if run.returncode:
        print("\n".join(output[-60:]))
    runs = stats[0].split()[-1] if stats else "?"
    print(f"fuzz_{name}: {runs} inputs, " + ("FAILED" if run.returncode else "ok"), flush=True)
    return run.returncode == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    args = parser.parse_args()

    build = args.build.resolve()
    found = targets(build)
    if not found:
        sys.exit(f"{build} has no fuzz targets: meson setup with -Dfuzz=true and clang")
    subprocess.run(["ninja", "-C", str(build), *(str(t.relative_to(build)) for t in found)], check=True)
    passed = sum(fuzz(target, build, args.seconds) for target in found)
    print(f"{passed} passed, {len(found) - passed} failed")
    return 0 if passed == len(found) else 1


sys.exit(main())
