#!/usr/bin/env python3
"""Models of their real size: shapes_test.py PROGRAM MKMODEL FOLDER [--all]

mkmodel writes them with holes, so DeepSeek-V3's 386 GB take 10 MB of disk. Offsets
pass 4 GiB, parts are split, a mixture has 256 experts in each of 58 layers. Each must
open and be planned; those marked, with --all every one, evaluate a prompt and say a
token, the same one in two budgets."""
import json
import pathlib
import subprocess
import sys
import tempfile

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "cli"))
from cli_testing import Checks  # noqa: E402

TIMEOUT_S = 900
DISK_MAX = 1 << 30  # a file system without holes is told apart from a bug by this
SHAPES = [
    # preset, parts, bytes of weights at least, expert pages, budgets, steps in the short test
    ("llama-8b", 1, 4.8e9, 0, ["1GiB", "2GiB"], False),
    ("llama-70b", 3, 42e9, 0, ["1GiB", "4GiB"], False),
    ("mixtral-8x7b", 2, 26e9, 32 * 8, ["1GiB", "3GiB"], False),
    ("qwen3-30b-a3b", 2, 17e9, 48 * 128, ["1GiB", "3GiB"], False),
    ("gpt-oss-20b", 1, 12e9, 24 * 32, ["1GiB", "3GiB"], True),
    ("gpt-oss-120b", 4, 62e9, 36 * 128, ["1GiB", "4GiB"], False),
    ("deepseek-v2-lite", 1, 8e9, 26 * 64, ["1GiB", "3GiB"], False),
    ("deepseek-v3", 6, 386e9, 58 * 256, ["2GiB", "6GiB"], True),
]


def call(*words):
    return subprocess.run([str(word) for word in words], timeout=TIMEOUT_S, capture_output=True,
                          text=True, stdin=subprocess.DEVNULL)


def make(mkmodel, preset, parts, folder):
    end = f"-00001-of-{parts:05}.gguf" if parts > 1 else ".gguf"
    model = folder / (preset + end)
    done = call(mkmodel, "--preset", preset, "--sparse", 64, "--split", parts, "-o", model)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return model


def disk_bytes(folder):
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir())


def check_plan(check, program, model, shape):
    preset, parts, bytes_least, experts, budgets, _ = shape
    done = call(program, "inspect", model, "--json", "--ram", budgets[0], "--ctx", 256)
    check(done.returncode == 0, f"{preset}: inspect: {done.stderr}")
    if done.returncode:
        return
    found = json.loads(done.stdout)
    check(found["tensor_bytes"] >= bytes_least, f"{preset}: {found['tensor_bytes']} bytes")
    check(found["part_count"] == parts, f"{preset}: {found['part_count']} parts")
    check(found["plan"]["experts_total"] == experts, f"{preset}: {found['plan']}")
    check(found["plan"]["fits"], f"{preset}: {found['plan']}")


def check_step(check, program, model, shape):
    preset, budgets = shape[0], shape[4]
    said = []
    for ram in budgets:
        done = call(program, "run", model, "-p", "hi", "-n", 1, "--temp", 0, "--ctx", 256, "--json",
                    "--ram", ram)
        check(done.returncode == 0, f"{preset} in {ram}: {done.stderr}")
        if done.returncode:
            return
        run = json.loads(done.stdout)
        said.append(run["text"])
        limit = run["budget_bytes"] + max(run["budget_bytes"] // 50, 32 << 20)
        check(run["peak_bytes"] <= limit, f"{preset} in {ram}: peak {run['peak_bytes']}")
    check(said[0] == said[1], f"{preset}: {said}")


def main():
    program, mkmodel, where = sys.argv[1:4]
    check = Checks()
    for shape in SHAPES:
        with tempfile.TemporaryDirectory(prefix="shapes-", dir=where) as folder:
            model = make(mkmodel, shape[0], shape[1], pathlib.Path(folder))
            if disk_bytes(pathlib.Path(folder)) > DISK_MAX:
                print(f"SKIPPED {shape[0]}: {where} knows no holes")
                continue
            check_plan(check, program, model, shape)
            if shape[5] or "--all" in sys.argv:
                check_step(check, program, model, shape)
    return check.report("shapes")


sys.exit(main())
