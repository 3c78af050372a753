#!/usr/bin/env python3
"""What paging takes from a model that fits: the same steps with the engine's tier and without one.

usage: resident.py BUILD_DIR FOLDER [--case NAME]... [--pairs N] [--tokens N] [--keep]
                   [-- NAME=VALUE ...]

bench_steps runs the model with the engine's tier, bench_steps_flat with one that reads all pages
into plain memory and hands out pointers (flat_tier.c); all else is the same code, and so have to
be the logits. Runs of the two alternate, and who is first does too. A JSON line a pair, and one a
shape:

  paged_tok_s, flat_tok_s   medians over the runs, each by its median step
  ratio                     paged / flat, the median over the pairs
  spread                    the median absolute deviation of the pairs' ratios
  error                     of the median ratio: 1.4826 spread sqrt(pi / 2 / pairs), were they normal
  within_noise              paging costs nothing that could be seen: the ratio is at most two of it, or
                            1 %, below 1

The exit status is 1 when logits differ, something was read while it was timed, or a shape is not
within noise.
"""
import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys

# name: arguments of mkmodel
CASES = {
    "qwen3moe-3b": ["--preset", "qwen3moe-3b"],
    "gpt-oss-4": ["--preset", "gpt-oss-20b", "--layers", "4", "--vocab", "32000"],
    "qwen3-30b-8": ["--preset", "qwen3-30b-a3b", "--layers", "8", "--vocab", "32000"],
}
SMALL = 0.01  # a difference that nobody would notice


def make(build, folder, name):
    path = folder / f"resident-{name}.gguf"
    if not path.exists():
        part = path.with_suffix(".part")
        subprocess.run([build / "tools" / "mkmodel", *CASES[name], "-o", part], check=True,
                       stdout=subprocess.DEVNULL)
        part.rename(path)
    return path


def run(program, model, tokens, options):
    command = [program, model, tokens, f"ram={model.stat().st_size * 2 + (1 << 30)}", *options]
    return json.loads(subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE,
                                     text=True).stdout)


def run_pair(arguments, name, model, i):
    programs = {"paged": "bench_steps", "flat": "bench_steps_flat"}
    order = list(programs) if i % 2 == 0 else list(programs)[::-1]
    done = {key: run(arguments.build / "bench" / programs[key], model, arguments.tokens,
                     arguments.options) for key in order}
    return {"case": name, "first": order[0], "ratio": done["paged"]["tok_s"] / done["flat"]["tok_s"],
            **{f"{key}_{what}": done[key][what] for key in programs
               for what in ("tok_s", "tok_s_all", "cpu_ms_per_token")},
            "is_same": done["paged"]["logits_crc"] == done["flat"]["logits_crc"],
            "read_bytes": done["paged"]["read_bytes"], "load_average": os.getloadavg()[0]}


def judge(name, pairs):
    ratios = [pair["ratio"] for pair in pairs]
    ratio = statistics.median(ratios)
    spread = statistics.median(abs(r - ratio) for r in ratios)
    error = 1.4826 * spread * math.sqrt(math.pi / 2 / len(pairs))
    is_same = all(pair["is_same"] and not pair["read_bytes"] for pair in pairs)
    return {"case": name, "median": True, "pairs": len(pairs),
            **{key: statistics.median(pair[key] for pair in pairs)
               for key in ("paged_tok_s", "flat_tok_s", "paged_cpu_ms_per_token",
                           "flat_cpu_ms_per_token")},
            "ratio": ratio, "spread": spread, "error": error, "is_same": is_same,
            "within_noise": ratio >= 1 - max(2 * error, SMALL)}


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("options", nargs="*")  # behind --
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_intermixed_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    is_ok = True
    for name in arguments.case or CASES:
        model = make(arguments.build, arguments.folder, name)
        pairs = []
        for i in range(arguments.pairs):
            pairs.append(run_pair(arguments, name, model, i))
            print(json.dumps(pairs[-1]), flush=True)
        verdict = judge(name, pairs)
        print(json.dumps(verdict), flush=True)
        is_ok = is_ok and verdict["is_same"] and verdict["within_noise"]
        if not arguments.keep:
            model.unlink()
    sys.exit(0 if is_ok else 1)


main()
