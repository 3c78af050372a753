#!/usr/bin/env python3
"""Runs examples/generate on the demo model: generate_test.py PROGRAM MODEL"""
import re
import subprocess
import sys

program, model = sys.argv[1:]
failures = []
count = 0


def run(*args):
    return subprocess.run([program, *args], capture_output=True, timeout=100)


def check(is_ok, text):
    global count
    count += 1
    if not is_ok:
        failures.append(text)
        print("FAILED " + text)


small = run(model, "Once upon a time", "8MiB")
large = run(model, "Once upon a time", "64MiB")
check(small.returncode == 0, f"exit status {small.returncode}: {small.stderr!r}")
check(len(small.stdout.split()) > 10, f"few words: {small.stdout!r}")
check(small.stdout == large.stdout, "another budget, another text")
check(re.search(rb"loading 100 %", small.stderr), f"no progress: {small.stderr!r}")
check(re.search(rb"\d+ tokens, \d+ experts held, [1-9]\d* read", small.stderr),
      f"no numbers: {small.stderr!r}")
for args, status, sentence in [((), 1, b"usage"), ((model + ".not", "x", "8MiB"), 1, b".gguf.not"),
                               ((model, "x", "1KiB"), 1, b"ram")]:
    done = run(*args)
    check(done.returncode == status and sentence in done.stderr,
          f"{args}: {done.returncode} {done.stderr!r}")

print(f"generate: {count - len(failures)} passed, {len(failures)} failed")
sys.exit(bool(failures))
