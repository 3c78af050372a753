#!/usr/bin/env python3
"""A model in each type of weights gives the same logits by every kernel: types_test.py PROGRAM MKMODEL

The weights are made from a seed, so only sameness and size can be judged; what a
type's bytes mean is src/kernel/dequant_test.c's. A prompt in one step and in steps of
one token: products of many columns and of one."""
import array
import math
import pathlib
import subprocess
import sys
import tempfile

from cli_testing import TIMEOUT_S, Checks

TYPES = ["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS",
         "TQ1_0", "TQ2_0"]
KERNELS = ["x86.avx2", "x86.avx512", "x86.avx512vnni", "x86.avx512vbmi"]
TOKENS = " ".join(str(i * 37 % 300) for i in range(9))


def logits(program, model, kernels, batch):
    return subprocess.run([program, "logits", model, "--tokens", "-", "-o", "-", "-q", "--ctx", "64",
                           "--kernels", kernels, "--batch", batch], timeout=TIMEOUT_S,
                          capture_output=True, input=TOKENS.encode())


def check_type(check, program, mkmodel, name, folder):
    model = pathlib.Path(folder) / (name + ".gguf")
    subprocess.run([mkmodel, "--preset", "llama-tiny", "--type", name, "--layers", "2", "--vocab",
                    "512", "-o", model], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    plain = logits(program, model, "ref", "16")
    check(plain.returncode == 0, f"{name}: {plain.stderr}")
    values = array.array("f", plain.stdout)
    check(len(values) == 9 * 512 and all(math.isfinite(v) for v in values), f"{name}: logits")
    check(max(values) < 1e3 and max(values) > min(values), f"{name}: {min(values)} {max(values)}")
    for kernels in KERNELS:
        for batch in ["16", "1"]:
            other = logits(program, model, kernels, batch)
            if other.returncode and b"kernels" in other.stderr:
                print(f"SKIP {name} by {kernels}: {other.stderr.decode().strip()}")
                continue
            check(other.stdout == plain.stdout, f"{name} by {kernels}, batch {batch}")
    model.unlink()


def main():
    check = Checks()
    with tempfile.TemporaryDirectory() as folder:
        for name in TYPES:
            check_type(check, sys.argv[1], sys.argv[2], name, folder)
    return check.report("types")


sys.exit(main())
