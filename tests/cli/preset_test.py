#!/usr/bin/env python3
"""Runs a small model of each family's real layout: preset_test.py PROGRAM MKMODEL

mkmodel writes the keys and tensors that files in circulation have, with weights made
from a seed. Each must open, and say the same in the least memory it takes as when
everything fits."""
import pathlib
import re
import subprocess
import sys
import tempfile

from cli_testing import TIMEOUT_S, Checks

PRESETS = ["llama-tiny", "mixtral-tiny", "qwen3moe-tiny", "gpt-oss-tiny", "deepseek-tiny"]
WORDS = ["-p", "hi", "-n", "4", "--temp", "0", "--ctx", "256"]


def run(program, model, ram):
    return subprocess.run([program, "run", model, *WORDS, "--ram", ram], timeout=TIMEOUT_S,
                          capture_output=True, text=True, errors="backslashreplace",
                          stdin=subprocess.DEVNULL)


def check_preset(check, program, mkmodel, preset, folder):
    model = pathlib.Path(folder) / (preset + ".gguf")
    subprocess.run([mkmodel, "--preset", preset, "--vocab", "4096", "-o", model], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    full = run(program, model, "512MiB")
    check(full.returncode == 0 and full.stdout.strip(), f"{preset}: {full}")
    refused = run(program, model, "64KiB")
    least = re.search(r"give at least --ram (\d+)", refused.stderr)
    check(refused.returncode != 0 and least, f"{preset} in 64 KiB: {refused}")
    if not least:
        return
    check(int(least[1]) < 0.8 * model.stat().st_size, f"{preset}: at least {least[1]} bytes")
    small = run(program, model, least[1])
    check(small.returncode == 0 and small.stdout == full.stdout, f"{preset} in {least[1]}: {small}")


def main():
    check = Checks()
    with tempfile.TemporaryDirectory() as folder:
        for preset in PRESETS:
            check_preset(check, sys.argv[1], sys.argv[2], preset, folder)
    return check.report("presets")


sys.exit(main())
