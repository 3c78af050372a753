#!/usr/bin/env python3
"""A model that does not fit runs inside a memory limit the system enforces.

usage: cgroup_test.py DOPPLER MKMODEL SCRATCH_DIR

Makes a mixture model of about 740 MB in SCRATCH_DIR and a memory cgroup (v1 or
v2) of less than half of that, runs the model inside and asks: did it end well,
did it stay within --ram, and did the system have to kill anything? Where no
cgroup can be made those runs are skipped, loudly, and budgets are still checked.
In one run another program eats the cgroup's memory meanwhile: the budget falls,
nothing is killed, the text stays the same.
"""
import json
import os
import re
import subprocess
import sys
import tempfile

from memory_cgroup import make_group

MIB = 1 << 20
LIMIT = 320 * MIB   # of the cgroup
BUDGET = 224 * MIB  # --ram inside it
NEW_TOKENS = 12
HOG_TOKENS = 120    # while a hog takes HOG_STEP at each, up to HOG_BYTES
HOG_STEP = 2 * MIB
HOG_BYTES = 150 * MIB
MODEL_BYTES_MIN = 600 * 1000 * 1000

# 12 layers of 16 experts of 3.5 MB, 2 of them used: a token reads 85 MB of 680.
SHAPE = ["--preset", "mixtral-tiny", "--type", "Q4_0", "--layers", "12", "--experts", "16"]
for pair in ("n_embd=1024", "n_ff=2048", "n_head=16", "n_head_kv=4", "head_dim=64", "n_ctx=2048"):
    SHAPE += ["--set", pair]


class Failed(Exception):
    pass


def need(condition, sentence):
    if not condition:
        raise Failed(sentence)


def allowed(budget):
    """Most resident memory under a budget: code and libraries are not in it."""
    return budget + max(budget // 50, 32 * MIB)


# ---- runs ----

class Run:
    def __init__(self, status, output, errors, peak):
        self.status, self.output, self.errors, self.peak = status, output, errors, peak

    def report(self):
        need(self.status == 0, f"exit status {self.status}: {self.errors.strip()[-400:]}")
        return json.loads(self.output)


def run(doppler, model, arguments, group=None):
    command = [doppler, "run", model, "-p", "The first page", "-n", str(NEW_TOKENS), "--ctx", "256",
               "--temp", "0", "--ignore-eos", "--json", "--quiet", *arguments]
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors,
                                   preexec_fn=group.enter if group else None)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        return Run(process.returncode, output.read().decode(), errors.read().decode(),
                   usage.ru_maxrss * 1024)


class Hog:
    """A program in the group that holds as much memory as it is told to."""

    BODY = """
import sys
held = []
for line in sys.stdin:
    held.append(bytearray(b"x") * int(line))
    print(flush=True)
"""

    def __init__(self, group):
        self.held = 0
        self.process = subprocess.Popen([sys.executable, "-c", self.BODY], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, preexec_fn=group.enter)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def take(self):
        """A step more; returns when it is taken."""
        if self.held < HOG_BYTES:
            self.process.stdin.write(f"{HOG_STEP}\n")
            self.process.stdin.flush()
            need(self.process.stdout.readline() == "\n", "the hog died")
            self.held += HOG_STEP


def talk(doppler, model, group, hog):
    """Text and log of a run; the hog takes a step whenever text comes."""
    command = [doppler, "run", model, "-p", "The first page", "-n", str(HOG_TOKENS), "--ctx", "256",
               "--temp", "0", "--ignore-eos", "--quiet", "--log", "info", "--ram", "auto"]
    text = b""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=errors, preexec_fn=group.enter)
        while piece := process.stdout.read1(4096):
            text += piece
            if hog:
                hog.take()
        status = process.wait()
        errors.seek(0)
        log = errors.read().decode()
    need(status == 0, f"exit status {status}: {log.strip()[-400:]}")
    return text, log


class Tests:
    def __init__(self, doppler, model, group, reason):
        self.doppler, self.model, self.group, self.reason = doppler, model, group, reason
        self.text = None  # of the first run; every other must say the same

    def check(self, arguments, group, budget):
        """One run, held to its budget; budget None: whatever it chose."""
        kills = group.kills() if group else 0
        done = run(self.doppler, self.model, arguments, group)
        if group:
            need(group.kills() == kills, "the system killed a process for memory")
        report = done.report()
        chosen = report["budget_bytes"]
        need(report["new_tokens"] == NEW_TOKENS, f"{report['new_tokens']} tokens")
        need(budget is None or chosen == budget, f"a budget of {chosen}, asked for {budget}")
        need(not group or chosen <= LIMIT, f"a budget of {chosen} in a cgroup of {LIMIT}")
        for what, peak in (("reported", report["peak_bytes"]), ("measured", done.peak)):
            need(peak <= allowed(chosen),
                 f"peak {what} {peak} of a budget of {chosen}, at most {allowed(chosen)}")
        need(report["peak_bytes"] >= 0.9 * done.peak - 4 * MIB,
             f"a peak of {report['peak_bytes']} reported, {done.peak} measured")
        if self.text is None:
            self.text = report["text"]
        need(report["text"] == self.text, "another text than under the first budget")
        print(f"  peak {done.peak / MIB:.0f} MiB of {chosen / MIB:.0f}, read "
              f"{report['disk_read_bytes'] / MIB:.0f} MiB, {report['decode_tok_s']:.2f} tok/s")

    def budget_without_cgroup(self):
        self.check(["--ram", str(BUDGET)], None, BUDGET)

    def budget_of_everything(self):
        self.check(["--ram", "2GiB"], None, 2048 * MIB)

    def too_small_is_refused(self):
        done = run(self.doppler, self.model, ["--ram", "1MiB"], None)
        need(done.status > 0, f"exit status {done.status}")
        need("--ram" in done.errors, f"the refusal does not name --ram: {done.errors.strip()}")

    def budget_in_cgroup(self):
        self.check(["--ram", str(BUDGET)], self.group, BUDGET)

    def budget_in_cgroup_buffered(self):
        self.check(["--ram", str(BUDGET), "--io", "buffered"], self.group, BUDGET)

    def auto_in_cgroup(self):
        self.check(["--ram", "auto"], self.group, None)

    def hog_in_cgroup(self):
        kills = self.group.kills()
        alone, _ = talk(self.doppler, self.model, self.group, None)
        with Hog(self.group) as hog:
            beside, log = talk(self.doppler, self.model, self.group, hog)
            need(hog.held == HOG_BYTES, f"the hog holds {hog.held} bytes")
        need(self.group.kills() == kills, "the system killed a process for memory")
        need(beside == alone, "another text than without the hog")
        budgets = [int(found) for found in re.findall(r"governor budget_bytes=(\d+)", log)]
        need(budgets and min(budgets) < LIMIT - HOG_BYTES, f"budgets fell to {budgets}")
        print(f"  the hog took {HOG_BYTES / MIB:.0f} of {LIMIT / MIB:.0f} MiB, the budget fell to "
              f"{min(budgets) / MIB:.0f}")


def run_all(tests):
    passed = failed = skipped = 0
    for name in ("budget_without_cgroup", "budget_of_everything", "too_small_is_refused",
                 "budget_in_cgroup", "budget_in_cgroup_buffered", "auto_in_cgroup",
                 "hog_in_cgroup"):
        print(name, flush=True)
        if "in_cgroup" in name and not tests.group:
            print(f"SKIP {name}: no memory cgroup can be made here ({tests.reason})")
            skipped += 1
            continue
        try:
            getattr(tests, name)()
            passed += 1
        except Failed as failure:
            print(f"FAILED {name}: {failure}")
            failed += 1
    print(f"cgroup: {passed} passed, {failed} failed, {skipped} skipped")
    return failed


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    doppler, mkmodel, scratch = sys.argv[1:]
    with tempfile.TemporaryDirectory(dir=scratch, prefix="cgroup-") as folder:
        model = os.path.join(folder, "model.gguf")
        subprocess.run([mkmodel, *SHAPE, "-o", model], check=True)
        size = os.path.getsize(model)
        if size < max(MODEL_BYTES_MIN, 2 * LIMIT):
            sys.exit(f"the model has {size} bytes: too few to mean anything")
        group, reason = make_group(LIMIT)
        try:
            return 1 if run_all(Tests(doppler, model, group, reason)) else 0
        finally:
            if group:
                group.close()


sys.exit(main())
