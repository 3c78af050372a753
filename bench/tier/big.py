#!/usr/bin/env python3
"""Models larger than their memory, beside what drive and processor would allow.

usage: big.py BUILD_DIR FOLDER [--case NAME]... [--scale full|small] [--samples N] [--keep]
              [-- NAME=VALUE ...]

Cases  16-on-16  a dense Q8_0 model of 18.7 GB, --ram auto, in a memory cgroup of 16 GiB
       gpt-oss   the shape of gpt-oss-20b (12 GB, MXFP4) in 4, 6 and 8 GiB
       40-in-16  the shape of Mixtral 8x7B at Q6_K (38 GiB, 41 GB) in 12 GiB
--scale small makes models and memory about a tenth, for quick looks.

Models are made in FOLDER (reused when there) and removed after their case unless --keep. Each
run is bench_paging's: the model's cached pages are dropped, and the drive is measured between
the samples by the same engine, request size and depth. A JSON line a run adds:

  compute_tok_s   of a model of the same shape with fewer layers, all resident, times its bytes
                  a token over this one's: what the processor alone would do
  bound_tok_s     the slower of compute_tok_s and the drive's limit at the measured hit rate
  bound_ratio     tok_s of it: 1 where reading hides all computing or the other way round

Weights are random, so routing is nearly uniform: hit rates are about the share of experts that
fits, lower than those of real text. Where no cgroup can be made 16-on-16 is skipped, loudly.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "cgroup"))
from memory_cgroup import make_group  # noqa: E402

GIB = 1 << 30

# shape: arguments of mkmodel; few: the same with fewer layers, for the bound by computing;
# runs: (--ram, limit of the cgroup or None)
CASES = {
    "16-on-16": {
        "full": {"shape": ["--preset", "llama-8b", "--type", "Q8_0", "--layers", "76"],
                 "few": ["--layers", "6"], "runs": [("auto", 16 * GIB)], "tokens": (2, 4)},
        "small": {"shape": ["--preset", "llama-8b", "--type", "Q8_0", "--layers", "6"],
                  "few": ["--layers", "2"], "runs": [("auto", 2 * GIB)], "tokens": (3, 6)},
    },
    "gpt-oss": {
        "full": {"shape": ["--preset", "gpt-oss-20b"], "few": ["--layers", "4"],
                 "runs": [("4GiB", None), ("6GiB", None), ("8GiB", None)], "tokens": (48, 8)},
        "small": {"shape": ["--preset", "gpt-oss-20b", "--layers", "3", "--vocab", "32000"],
                  "few": ["--layers", "1"],
                  "runs": [("400MiB", None), ("800MiB", None), ("1200MiB", None)],
                  "tokens": (32, 16)},
    },
    "40-in-16": {
        "full": {"shape": ["--preset", "mixtral-8x7b", "--type", "Q6_K", "--layers", "34"],
                 "few": ["--layers", "3"], "runs": [("12GiB", None)], "tokens": (16, 64)},
        "small": {"shape": ["--preset", "mixtral-8x7b", "--type", "Q6_K", "--layers", "2"],
                  "few": ["--layers", "1"], "runs": [("1GiB", None)], "tokens": (8, 16)},
    },
}


def change(shape, few):
    """The shape's arguments with others in place of those of the same names."""
    kept = []
    for name, value in zip(shape[::2], shape[1::2]):
        if name not in few[::2]:
            kept += [name, value]
    return kept + few


class Bench:
    def __init__(self, arguments):
        self.build = pathlib.Path(arguments.build)
        self.folder = pathlib.Path(arguments.folder)
        self.samples, self.keep, self.options = arguments.samples, arguments.keep, arguments.options

    def make(self, name, shape):
        path = self.folder / f"{name}.gguf"
        if not path.exists():
            part = path.with_suffix(".part")
            subprocess.run([self.build / "tools" / "mkmodel", *shape, "-o", part], check=True,
                           stdout=subprocess.DEVNULL)
            part.rename(path)
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)  # dirty pages cannot be dropped
            os.close(fd)
        return path

    def remove(self, path):
        if not self.keep:
            path.unlink()

    def bytes_per_token(self, model):
        text = subprocess.run([self.build / "doppler", "inspect", model, "--json"], check=True,
                              capture_output=True, text=True).stdout
        return sum(group["bytes_per_token"] for group in json.loads(text)["pages"])

    def run(self, model, warm, tokens, samples, options, group=None):
        command = [self.build / "bench" / "bench_paging", model, str(warm), str(tokens),
                   str(samples), "ctx=1024", *options, *self.options]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True,
                              preexec_fn=group.enter if group else None)
        if done.returncode:
            sys.exit(f"big.py: {' '.join(map(str, command))}: exit status {done.returncode}")
        return json.loads(done.stdout)

    def compute(self, name, case, model):
        """Tokens a second of the model were it resident, and how that was found."""
        few = self.make(f"{name}-few", change(case["shape"], case["few"]))
        # every expert was wanted once: 128 tokens
        warm = 128 if "--preset llama-8b" not in " ".join(case["shape"]) else 2
        done = self.run(few, warm, 16, 3, [f"ram={few.stat().st_size * 5 // 4 + GIB}"])
        part = self.bytes_per_token(few) / self.bytes_per_token(model)
        self.remove(few)
        return done["tok_s"] * part, (f"{done['tok_s']:.4g} tok/s of {' '.join(case['few'])} at "
                                      f"{done['hit_rate']:.3f} hits, times {part:.3f}")

    def measure(self, name, scale):
        case = CASES[name][scale]
        model = self.make(f"{name}-{scale}", case["shape"])
        compute, how = self.compute(f"{name}-{scale}", case, model)
        for ram, limit in case["runs"]:
            group, reason = make_group(limit) if limit else (None, None)
            if limit and not group:
                print(f"SKIP {name}: no memory cgroup can be made here ({reason})", flush=True)
                continue
            try:
                done = self.run(model, *case["tokens"], self.samples, [f"ram={ram}"], group)
                kills = group.kills() if group else 0
            finally:
                if group:
                    group.close()
            self.report(name, scale, ram, limit, kills, compute, how, done)
        self.remove(model)

    def report(self, name, scale, ram, limit, kills, compute, how, done):
        reading = done["limit_tok_s"]
        bound = min(compute, reading) if reading else compute
        done.update(case=name, scale=scale, ram=ram, cgroup_bytes=limit, kills=kills,
                    compute_tok_s=compute, compute_from=how, bound_tok_s=bound,
                    bound_ratio=done["tok_s"] / bound, load_average=os.getloadavg()[0])
        print(json.dumps(done), flush=True)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("build")
    parser.add_argument("folder")
    parser.add_argument("options", nargs="*")  # behind --
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--scale", choices=["full", "small"], default="full")
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_intermixed_args()
    bench = Bench(arguments)
    bench.folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.case or CASES:
        bench.measure(name, arguments.scale)


main()
