#!/usr/bin/env python3
"""What `doppler plan` expects, beside what a run has.

usage: plan.py BUILD_DIR FOLDER [--case NAME]... [--rounds N] [--samples N] [--gpt-oss FILE]
               [--keep] [-- NAME=VALUE ...]

Cases (mixtures of mkmodel with 32 experts of which a token uses 4, weights and with them routing
at random; --gpt-oss names an existing file in the shape of gpt-oss-20b, else one is made):

  dense           1.2 G weights of Q4_K_M, streamed in 600 MiB, and resident
  moe-3b          18 layers, experts of 2.2 MB: in 700 MiB, in 1 GiB, and resident
  page-1.8 ...    3 layers, experts of 1.8, 4.4, 13.3 and 26.5 MB: room for what is always used, and
  page-26.5       for a third and for two thirds of the experts; and resident
  gpt-oss         24 layers, experts of 13.3 MB, 12 GB: in 4, 6 and 8 GiB

A round of a case has `doppler doctor` probe the drive with its model, into FOLDER, and then for each
budget makes the plan and the run (bench_paging, which reads with what the probe chose) once warm
tokens have filled its memory. A JSON line each, of the medians over the rounds, as a machine's
memory and drive are not the same from one minute to the next: predicted and measured tokens a
second, their ratio, that of each round, and the same for the parts, as the plan has them (ms of
memory, computing and drive; bytes from the drive and hits).

The exit status is 1 when a ratio is outside 0.75 to 1.25.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

MIB, GIB = 1 << 20, 1 << 30
NEAR = 0.25


def page(embed, ff, kind):
    return ["--preset", "qwen3moe-3b", "--type", "Q8_0", "--expert-type", kind, "--layers", "3",
            "--vocab", "32000", "--set", f"n_embd={embed}", "--set", f"n_ff_exp={ff}"]


# name: (arguments of mkmodel, budgets, warm tokens, tokens a sample)
# A budget is bytes, a share of the experts, or None: all of the model.
CASES = {
    "dense": (["--preset", "llama-1b"], [600 * MIB, None], 4, 24),
    "moe-3b": (["--preset", "qwen3moe-3b"], [700 * MIB, GIB, None], 64, 48),
    "page-1.8": (page(2048, 512, "Q4_K"), [1 / 3, 2 / 3, None], 64, 96),
    "page-4.4": (page(2048, 1280, "Q4_K"), [1 / 3, 2 / 3, None], 64, 96),
    "page-13.3": (page(4096, 1920, "Q4_0"), [1 / 3, 2 / 3, None], 48, 48),
    "page-26.5": (page(4096, 3840, "Q4_K"), [1 / 3, 2 / 3, None], 48, 32),
    "gpt-oss": (["--preset", "gpt-oss-20b"], [4 * GIB, 6 * GIB, 8 * GIB], 32, 16),
}


class Bench:
    def __init__(self, arguments):
        self.build, self.folder = arguments.build, arguments.folder.resolve()
        self.samples, self.options = arguments.samples, arguments.options
        # plans and doctor find the probe here, and no heat of other runs
        self.env = {**os.environ, "XDG_CACHE_HOME": str(self.folder / "cache")}

    def output(self, *command):
        return subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE,
                              text=True, env=self.env).stdout

    def make(self, name, shape):
        path = self.folder / f"plan-{name}.gguf"
        if not path.exists():
            part = path.with_suffix(".part")
            self.output(self.build / "tools" / "mkmodel", *shape, "-o", part)
            part.rename(path)
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)  # dirty pages cannot be dropped
            os.close(fd)
        return path

    def probe(self, model):
        report = json.loads(self.output(self.build / "doppler", "doctor", model, "--probe",
                                        "always", "--json"))
        return report["drives"][0]["probe"]

    def bytes_for(self, model, budget):
        if budget is None:
            return model.stat().st_size * 5 // 4 + GIB
        if budget > 1:
            return int(budget)
        groups = json.loads(self.output(self.build / "doppler", "inspect", model,
                                        "--json"))["pages"]
        experts = sum(g["bytes"] for g in groups if "expert" in g["kind"])
        return int(sum(g["bytes"] for g in groups) - experts * (1 - budget)) + 96 * MIB

    def compare(self, name, model, probe, budget, warm, tokens):
        ram = self.bytes_for(model, budget)
        options = ["ctx=512", f"ram={ram}", *self.options]
        words = [word for o in options for word in ("--" + o.split("=")[0], o.split("=")[1])]
        report = json.loads(self.output(self.build / "doppler", "plan", model, "--json", "--heat", "off",
                                        *words))
        speed, plan = report["speed"], report["plan"]
        best = probe["best"]
        io = [f"io-depth={best['depth']}", f"io-request={best['request_bytes']}",
              f"io-engine={'io_uring' if best['engine'] == 'io_uring' else 'threads'}"]
        done = json.loads(self.output(self.build / "bench" / "bench_paging", model, warm, tokens,
                                      self.samples, *options, *io))
        return {"bench": "plan", "case": name, "ram": ram,
                "share": "all" if budget is None else plan["slot_bytes"] / done["model_bytes"],
                "predicted_tok_s": speed["tok_s"], "measured_tok_s": done["tok_s"],
                "ratio": speed["tok_s"] / done["tok_s"],
                "predicted_bytes": speed["drive_bytes"],
                "measured_bytes": int(done["gb_per_token"] * 1e9),
                "predicted_hits": speed["hit_rate"], "measured_hits": done["hit_rate"],
                **{key: speed[key] for key in ("memory_ms", "compute_ms", "step_ms",
                                               "drive_ms", "memory_bytes_s", "bottleneck")},
                "probed_bytes_s": probe["sustained_bytes_s"],
                **{key: done[key] for key in ("drive_gb_s", "run_gb_s", "idle_share", "wait_share",
                                              "cpu_s_per_token")},
                "load_average": os.getloadavg()[0]}


def median_of(rounds):
    """Each number's median; the others are the same in all rounds, or the first one's."""
    row = {key: statistics.median(r[key] for r in rounds) if isinstance(value, (int, float)) else value
           for key, value in rounds[0].items()}
    row["ratio"] = row["predicted_tok_s"] / row["measured_tok_s"]
    row["ratios"] = [r["ratio"] for r in rounds]
    row["is_near"] = abs(row["ratio"] - 1) <= NEAR
    return row


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("options", nargs="*")  # behind --
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--gpt-oss", type=pathlib.Path)
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_intermixed_args()
    bench = Bench(arguments)
    (bench.folder / "cache").mkdir(parents=True, exist_ok=True)
    is_ok = True
    for name in arguments.case or CASES:
        shape, budgets, warm, tokens = CASES[name]
        given = arguments.gpt_oss if name == "gpt-oss" else None
        model = given or bench.make(name, shape)
        rounds = []
        for _ in range(arguments.rounds):
            probe = bench.probe(model)
            rounds.append([bench.compare(name, model, probe, budget, warm, tokens)
                           for budget in budgets])
        for row in map(median_of, zip(*rounds)):
            is_ok = is_ok and row["is_near"]
            print(json.dumps(row), flush=True)
        if not (given or arguments.keep):
            model.unlink()
    sys.exit(0 if is_ok else 1)


main()
