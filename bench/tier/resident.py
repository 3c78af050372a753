#!/usr/bin/env python3
"""What paging takes from a model that fits: nothing is read, so that only the tier's calls are left.

usage: resident.py BUILD_DIR FOLDER [--pairs N] [--keep] [-- NAME=VALUE ...]

There is no way to run without the tier, so its calls are timed alone (bench_resident: the same
calls a token, over pages of the same number, nothing computed between), by turns with decoding
by bench_paging in memory for all. A JSON line a pair, and one with medians:

  tok_s        decoded, all resident: wait_share and gb_per_token say that it was
  tier_share   of a token's time: tok_s without the tier would be tok_s / (1 - tier_share)
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

# name: (arguments of mkmodel, layers, experts, used)
CASES = {
    "qwen3moe-3b": (["--preset", "qwen3moe-3b"], 18, 32, 4),
    "gpt-oss-4": (["--preset", "gpt-oss-20b", "--layers", "4", "--vocab", "32000"], 4, 32, 4),
    "qwen3-30b-8": (["--preset", "qwen3-30b-a3b", "--layers", "8", "--vocab", "32000"], 8, 128, 8),
}


def make(build, folder, name, shape):
    path = folder / f"resident-{name}.gguf"
    if not path.exists():
        part = path.with_suffix(".part")
        subprocess.run([build / "tools" / "mkmodel", *shape, "-o", part], check=True,
                       stdout=subprocess.DEVNULL)
        part.rename(path)
    return path


def run(*command):
    return json.loads(subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE,
                                     text=True).stdout)


def main():
    words = sys.argv[1:]
    options = words[words.index("--") + 1:] if "--" in words else []
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args(words[:words.index("--")] if "--" in words else words)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name, (shape, layers, experts, used) in CASES.items():
        model = make(arguments.build, arguments.folder, name, shape)
        ram = model.stat().st_size * 5 // 4 + (1 << 30)
        pairs = []
        for _ in range(arguments.pairs):
            done = run(arguments.build / "bench" / "bench_paging", model, 160, 32, 1, "ctx=512",
                       f"ram={ram}", *options)
            tier = run(arguments.build / "bench" / "bench_resident", model, layers, experts, used)
            pair = {"case": name, "tok_s": done["tok_s"], "hit_rate": done["hit_rate"],
                    "gb_per_token": done["gb_per_token"], "wait_share": done["wait_share"],
                    "tier_us_per_token": tier["tier_us_per_token"],
                    "tier_share": tier["tier_us_per_token"] * done["tok_s"] / 1e6,
                    "load_average": os.getloadavg()[0]}
            pairs.append(pair)
            print(json.dumps(pair), flush=True)
        print(json.dumps({"case": name, "median": True, **{
            key: statistics.median(pair[key] for pair in pairs)
            for key in ("tok_s", "tier_us_per_token", "tier_share", "wait_share")}}), flush=True)
        if not arguments.keep:
            model.unlink()


main()
