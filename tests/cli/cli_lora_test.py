#!/usr/bin/env python3
"""Tests --lora as a user meets it: cli_lora_test.py PROGRAM MODEL"""
import random
import struct
import sys

from cli_testing import Checks, Cli

STORY = ["run", "M", "-p", "Once upon a time", "-n", "12", "--temp", "0", "-q"]


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def adapter(tensors, arch="llama", kind="adapter"):
    """The bytes of an adapter file; tensors: (name, shape fastest first, rms) of F32."""
    keys = [("general.type", kind), ("general.architecture", arch), ("adapter.type", "lora")]
    rng = random.Random(5)
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys) + 1)
    header += b"".join(text(key) + struct.pack("<I", 8) + text(value) for key, value in keys)
    header += text("adapter.lora.alpha") + struct.pack("<If", 6, 16)
    data = b""
    for name, shape, rms in tensors:
        header += text(name) + struct.pack("<I", len(shape))
        header += struct.pack(f"<{len(shape)}QIQ", *shape, 0, len(data))
        count = 1
        for dim in shape:
            count *= dim
        values = struct.pack(f"<{count}f", *(rng.gauss(0, rms) for _ in range(count)))
        data += values + bytes(-len(values) % 32)
    return header + bytes(-len(header) % 32) + data


def pair(name, columns, rows, rank=4, experts=()):
    return [(name + ".lora_a", (columns, rank, *experts), columns ** -0.5),
            (name + ".lora_b", (rank, rows, *experts), 0.2)]


ATTENTION = [t for layer in range(7) for t in pair(f"blk.{layer}.attn_q.weight", 256, 256)]
EXPERTS = pair("blk.3.ffn_down_exps.weight", 96, 256, experts=(32,))


def run(cli, *words):
    return cli.run(*[cli.model if word == "M" else word for word in words])


def test_text_changes_by_scale(cli, check):
    a = cli.file("a.gguf", adapter(ATTENTION))
    b = cli.file("b=2.gguf", adapter(EXPERTS))
    plain = run(cli, *STORY).out
    check(run(cli, *STORY, "--lora", f"{a}=0").out == plain, "a scale of 0 changes the text")
    done = run(cli, *STORY, "--lora", f"{a}=4")
    check(done.code == 0 and done.out != plain, f"no change: {done}")
    tight = run(cli, *STORY, "--lora", f"{a}=4", "--ram", "4MiB", "--threads", "1")
    check(tight.out == done.out, f"another budget, another text: {tight}")
    two = run(cli, *STORY, "--lora", f"{a}=4", "--lora", b)
    check(two.code == 0, f"two: {two}")


def test_other_commands(cli, check):
    a = cli.file("a.gguf", adapter(ATTENTION + EXPERTS))
    ids, out = cli.file("ids", "1 5 9 200 31"), cli.folder / "out"
    contents = []
    for words in [[], ["--lora", a], ["--lora", a, "--ram", "4MiB", "--batch", "1"]]:
        done = run(cli, "logits", "M", "--tokens", ids, "-o", out, *words)
        check(done.code == 0, f"logits {words}: {done}")
        contents.append(out.read_bytes())
    check(contents[0] != contents[1] and contents[1] == contents[2], "logits")
    story = cli.file("story", "Once upon a time there was a dog. " * 4)
    worse = run(cli, "perplexity", "M", story, "-q", "--lora", f"{a}=8").out
    check("ppl" in worse and worse != run(cli, "perplexity", "M", story, "-q").out, worse)
    done = cli.run("chat", cli.model, "-q", "--lora", a, "-n", "4", input=b"Hello\n")
    check(done.code == 0, f"chat: {done}")


def test_inspect_says_what_it_is(cli, check):
    a = cli.file("a.gguf", adapter(ATTENTION))
    done = cli.run("inspect", a)
    check(done.code == 0 and "a LoRA adapter for llama (7 matrices, rank 4, alpha 16)" in done.out
          and "shape" not in done.out, f"{done}")


def test_refusals(cli, check):
    a = cli.file("a.gguf", adapter(ATTENTION))
    other = cli.file("other.gguf", adapter(ATTENTION, arch="qwen3"))
    half = cli.file("half.gguf", adapter(ATTENTION[1:]))
    wide = cli.file("wide.gguf", adapter(pair("blk.0.attn_q.weight", 256, 512)))
    strange = cli.file("strange.gguf", adapter(pair("blk.0.attn_w.weight", 256, 256)))
    cut = cli.file("cut.gguf", adapter(ATTENTION)[:-1000])
    for words, code, sentence in [
            (["--lora", "M"], 2, "not an adapter: general.type"),
            (["--lora", "=1"], 2, "run: --lora takes FILE or FILE=SCALE"),
            (["--lora", a] * 17, 2, "more than 16 adapters"),
            (["--lora", a, "--lora", f"{a}=2"], 0, ""),
            (["--lora", "/no/such/file"], 3, "/no/such/file: cannot open"),
            (["--lora", other], 5, "the adapter is for qwen3, the model is llama"),
            (["--lora", half], 4, "blk.0.attn_q.weight.lora_a: missing from the adapter"),
            (["--lora", wide], 4, "blk.0.attn_q.weight.lora_b: shape {4, 512, 1, 1}"),
            (["--lora", strange], 5, "blk.0.attn_w.weight.lora_a: not a part of a weight"),
            (["--lora", cut], 4, "cut.gguf"),
    ]:
        done = run(cli, *STORY, *words)
        check(done.code == code and sentence in done.err, f"{words[:2]}: {done}")
    done = cli.run("run", a, "-p", "x")
    check(done.code == 5 and "open the model it is for" in done.err, f"{done}")


def main():
    cli, check = Cli(sys.argv[1], sys.argv[2]), Checks()
    check.run([test for name, test in globals().items() if name.startswith("test_")], cli)
    return check.report("cli-lora")


if __name__ == "__main__":
    sys.exit(main())
