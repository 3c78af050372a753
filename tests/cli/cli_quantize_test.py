#!/usr/bin/env python3
"""doppler quantize as a user meets it. Usage: cli_quantize_test.py DOPPLER MKMODEL"""
import array
import json
import math
import os
import re
import subprocess
import sys

from cli_testing import TIMEOUT_S, Checks, Cli, Terminal

SUMMARY = re.compile(r"\d+ tensors, [\d.]+ [KM]iB -> [\d.]+ [KM]iB, [\d.]+ bits a weight, [\d.]+ s, read "
                     r"\d+ MB/s(, \d+ in another type than asked for)?\n")


def make(cli, name, *words):
    path = cli.folder / name
    if not path.exists():
        subprocess.run([sys.argv[2], "--preset", "qwen3moe-tiny", "--type", "BF16", "--vocab", "512",
                        *words, "-o", path], check=True, timeout=TIMEOUT_S, stdout=subprocess.DEVNULL)
    return path


def logits(cli, model):
    ids = cli.file("ids.txt", " ".join(str(i * 37 % 512) for i in range(24)))
    out = cli.folder / "logits"
    done = cli.run("logits", model, "--tokens", ids, "-o", out, "-q")
    assert done.code == 0, done
    values = array.array("f")
    values.frombytes(out.read_bytes())
    return values


def distance(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b)) / sum(y * y for y in b))


def types_of(cli, model):
    return {t["name"]: t["type"] for t in json.loads(cli.run("inspect", model, "--json", "--tensors").out)["tensors"]}


# Type, types of a few tensors, the most the logits may move. Weights are noise, so
# routers are close calls; a trained model moves less (tests/oracle/quantized_test.c).
MIXES = [
    ("q8_0", {"output.weight": "Q8_0", "blk.0.ffn_down_exps.weight": "Q8_0"}, 0.06),
    ("q6_k", {"output.weight": "Q6_K", "token_embd.weight": "Q6_K"}, 0.1),
    ("q5_k_m", {"blk.1.ffn_up_exps.weight": "Q5_K", "blk.3.attn_v.weight": "Q6_K"}, 0.15),
    ("q4_k_m", {"output.weight": "Q6_K", "token_embd.weight": "Q4_K", "blk.0.attn_norm.weight": "F32",
                "blk.0.ffn_gate_inp.weight": "F32", "blk.1.attn_v.weight": "Q4_K",
                "blk.2.attn_v.weight": "Q6_K", "blk.3.ffn_down_exps.weight": "Q6_K"}, 0.25),
    ("Q4_K_S", {"blk.2.attn_v.weight": "Q5_K", "blk.2.ffn_down_exps.weight": "Q4_K"}, 0.25),
    ("mxfp4", {"blk.0.ffn_up_exps.weight": "MXFP4", "blk.0.attn_q.weight": "Q8_0"}, 0.2),
]


def test_mixes(cli, check):
    model = make(cli, "in.gguf")
    want = logits(cli, model)
    out = cli.folder / "out.gguf"
    for mix, types, most in MIXES:
        done = cli.run("quantize", model, out, mix)
        check(done.code == 0 and done.out == "" and SUMMARY.fullmatch(done.err), f"{mix}: {done}")
        got = types_of(cli, out)
        for name, kind in types.items():
            check(got.get(name) == kind, f"{mix}: {name} is {got.get(name)}, expected {kind}")
        moved = distance(logits(cli, out), want)
        print(f"{mix}: logits move by {moved:.3f}")
        check(0 < moved < most, f"{mix}: logits move by {moved}")


def test_lines(cli, check):
    model = make(cli, "in.gguf")
    out = cli.folder / "out.gguf"
    done = cli.run("quantize", model, out, "q4_k_m", "-v", "--tensor-type", "*attn_q*=Q8_0",
                   "--tensor-type=blk.?.attn_output.*=f16", "-t", "2")
    check(done.code == 0, f"{done}")
    lines = done.err.splitlines()
    check(len(lines) == len(types_of(cli, model)) + 1 and SUMMARY.fullmatch(lines[-1] + "\n"), f"{done}")
    check("blk.2.attn_q.weight: BF16 -> Q8_0, 256 KiB -> 136 KiB" in lines, f"{lines}")
    check("blk.2.attn_output.weight: BF16 -> F16, 256 KiB -> 256 KiB" in lines, f"{lines}")
    done = cli.run("quantize", model, out, "q4_k_m", "-q")
    check(done.code == 0 and done.err == "" and done.out == "", f"{done}")

    # Rows of 224 are no whole blocks of 256: said, and counted, without being asked.
    narrow = make(cli, "narrow.gguf", "--set", "n_ff_exp=224")
    done = cli.run("quantize", narrow, out, "q4_k_m")
    check("blk.1.ffn_down_exps.weight: BF16 -> Q5_0," in done.err
          and "(its rows are not whole blocks of Q4_K)" in done.err
          and "4 in another type than asked for" in done.err, f"{done}")


def test_same_bytes(cli, check):
    model = make(cli, "in.gguf")
    outs = []
    for threads in (1, 2, 7):
        out = cli.folder / "out.gguf"
        check(cli.run("quantize", model, out, "q4_k_m", "-t", threads).code == 0, f"{threads} threads")
        outs.append(out.read_bytes())
    check(outs[0] == outs[1] == outs[2], "bytes depend on the number of threads")


def test_refused(cli, check):
    model = make(cli, "in.gguf")
    small = cli.folder / "small.gguf"
    new = cli.folder / "new.gguf"
    check(cli.run("quantize", model, small, "q4_0").code == 0, "q4_0")
    rows = [
        (["quantize", model, new, "q3"], 2, "no type 'q3'; known are f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 "
         "q4_k_s q4_k_m q5_k_s q5_k_m q6_k mxfp4"),
        (["quantize", model, new], 2, "quantize"),
        (["quantize", model, model, "q8_0"], 2, "is the model to read"),
        (["quantize", small, new, "q8_0"], 2, "is Q4_0 already"),
        (["quantize", model, new, "q8_0", "--tensor-type", "x"], 2, "'x' is not PATTERN=TYPE"),
        (["quantize", "/no/such/file", new, "q8_0"], 3, "/no/such/file"),
        (["quantize", model, "/no/such/folder/x", "q8_0"], 3, "/no/such/folder/x.partial: cannot create"),
        (["quantize", model, "/dev/full", "q8_0"], 2, "/dev/full: is not a regular file"),
        (["quantize", model, cli.folder, "q8_0"], 2, "is not a regular file"),
    ]
    for words, code, text in rows:
        done = cli.run(*words)
        check(done.code == code and text in done.err and done.out == "", f"{words}: {done}")
        check(not new.exists() and not (cli.folder / "new.gguf.partial").exists(), f"{words}: left a file")
    check(cli.run("quantize", small, new, "q8_0", "--allow-requantize").code == 0, "allowed")
    new.unlink()


def test_interrupt(cli, check):
    model = make(cli, "large.gguf", "--layers", "24")
    new = cli.folder / "new.gguf"
    terminal = Terminal(cli, "quantize", model, new, "q6_k", "-t", "1")
    terminal.wait_for(r"quantizing \[")
    terminal.type("\x03")
    shown, code = terminal.end()
    check(code == 130 and not new.exists() and not os.path.exists(str(new) + ".partial"), f"{code}: {shown!r}")


def main():
    cli, check = Cli(sys.argv[1], sys.argv[2]), Checks()
    check.run([test for name, test in globals().items() if name.startswith("test_")], cli)
    return check.report("cli-quantize")


sys.exit(main())
