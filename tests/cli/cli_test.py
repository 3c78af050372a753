#!/usr/bin/env python3
"""Tests doppler as a user meets it: cli_test.py PROGRAM MODEL SOURCE_ROOT

MODEL is the demo model; chat has a script of its own (cli_chat_test.py)."""
import array
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys

import cli_testing
from cli_testing import Checks, Cli, SUMMARY, Terminal, interrupt
from scripted_model import scripted_model

ROOT = pathlib.Path(sys.argv[3])
COMMANDS = ["run", "chat", "inspect", "render", "tokenize", "perplexity", "logits", "replay", "convert",
            "doctor", "plan", "help", "version"]
STORY = ("Once upon a time, there was a little girl named Lily. She loved to play outside in the "
         "sunshine. One day, she saw a big, red ball and wanted to play with it.")
GREEDY = ["--temp", "0"]
NEEDED_KEYS = {
    "text", "finish", "model", "seed", "threads", "kernels", "kv_type", "prompt_tokens", "new_tokens",
    "decode_tokens", "decode_tok_s", "prefill_tok_s", "ttft_ms", "budget_bytes", "peak_bytes",
    "expert_hits", "expert_misses", "disk_read_bytes", "swarm_read_bytes", "page_ms_p50",
    "page_ms_p90", "page_ms_p99", "page_ms_max", "cache_state",
}

# words (M: the model), exit code, what standard error says
REFUSALS = [
    ([], 2, "doppler: give a command"),
    (["rnu"], 2, 'doppler: no command "rnu"; did you mean "run"? (doppler help lists them)'),
    (["help", "serve"], 2, 'doppler: no command "serve" (doppler help lists them)'),
    (["version", "x"], 2, 'version: "x" is one argument too many: doppler version'),
    (["run"], 2, "run: an argument is missing: doppler run MODEL [-]"),
    (["run", "M", "--promt", "x"], 2, "run: no option --promt; did you mean --prompt?"),
    (["run", "M", "-x"], 2, "run: no option -x (doppler help run lists them)"),
    (["run", "M", "-p"], 2, "run: --prompt needs a value"),
    (["run", "M", "-p", "x", "--ram", "lots"], 2, "--ram takes a size"),
    (["run", "M", "-p", "x", "--ram="], 2, "--ram takes a size"),
    (["run", "M", "-p", "x", "-n", "-1"], 2, "--max-tokens takes N"),
    (["run", "M", "-p", "x", "--temp", "hot"], 2, "--temp"),
    (["run", "M", "-p", "x", "-t", "100000"], 2, "--threads"),
    (["run", "M", "-p", "x", "--json=maybe"], 2, "--json takes on or off"),
    (["run", "M", "-p", "x", "--stop", ""], 2, "--stop takes 1 to 256 bytes, not 0"),
    (["run", "M", "-p", "x"] + ["--stop", "a"] * 17, 2, "more than 16 stop texts"),
    (["run", "M", "-p", "x", "--system", "y"], 2, "--system is for a conversation"),
    (["run", "M", "-p", "x", "--thinking", "show"], 2, "--thinking is for a conversation"),
    (["run", "M", "-p", "x", "--chat", "--thinking", "maybe"], 2, "--thinking takes auto|show|hide"),
    (["run", "M", "-p", "x", "--chat", "--tools", "/no/such/file"], 3, "/no/such/file"),
    (["run", "M", "-p", "x", "--chat", "--tools", "/dev/null"], 2, "/dev/null: line 1: no JSON"),
    (["chat", "M", "--tools", "/no/such/file"], 3, "/no/such/file"),
    (["run", "M"], 2, "give one text: --prompt TEXT, --file FILE, or -"),
    (["run", "M", "-p", "x", "-"], 2, "give one text"),
    (["run", "M", "x"], 2, '"x" is not "-"'),
    (["run", "M", "-f", "/no/such/file"], 3, "/no/such/file: cannot open: No such file"),
    (["run", "/no/such/model", "-p", "x"], 3, "/no/such/model"),
    (["run", "/", "-p", "x"], None, "doppler: /: "),
    (["run", "M", "-p", "x", "--ram", "1KiB"], 6, "--ram"),
    (["run", "M", "-p", "x " * 900, "--ctx", "256"], 6, "256"),
    (["tokenize", "M", "-p", "x", "--temp", "1"], 2, "tokenize: no option --temp"),
    (["tokenize", "M", "-p", "x", "--decode"], 2, "tokenize: line 1 is not made of token ids"),
    (["tokenize", "M", "-p", "4096", "--decode"], 2, "the vocabulary has ids 0 to 4095, not 4096"),
    (["tokenize", "/no/such/model", "-p", "x"], 3, "/no/such/model"),
    (["inspect", "/no/such/model"], 3, "/no/such/model"),
    (["inspect", "M", "extra"], 2, '"extra" is one argument too many'),
    (["perplexity", "M"], 2, "doppler perplexity MODEL FILE"),
    (["perplexity", "M", "/no/such/file"], 3, "/no/such/file"),
    (["perplexity", "M", "/dev/null", "--ctx", "1"], 2, "nothing to score"),
    (["logits", "M"], 2, "logits: give --tokens FILE and --out FILE"),
    (["logits", "M", "--tokens", "/dev/null", "-o", "x"], 2, "/dev/null: no token ids"),
    (["logits", "M", "--tokens", "/no/such/file", "-o", "x"], 3, "/no/such/file"),
    (["chat", "/no/such/model"], 3, "/no/such/model"),
    (["chat", "M", "-n", "many"], 2, "--max-tokens takes N"),
    (["run", "M", "-p", "x", "--chat-arg", "a=1"], 2, "--chat-arg is for a conversation"),
    (["run", "M", "-p", "x", "--chat", "--chat-arg", "a"], 2, "--chat-arg takes NAME=JSON"),
    (["run", "M", "-p", "x", "--chat", "--chat-date", "today"], 2, "--chat-date takes a day"),
    (["run", "M", "-p", "x", "--chat", "--chat-format", "vicuna"], 2, 'no format "vicuna"'),
    (["run", "M", "-p", "x", "--chat", "--chat-format", "template"], 2, "has no template"),
    (["run", "M", "-p", "x", "--chat", "--chat-template", "/no/such/file"], 3, "/no/such/file"),
    (["render", "M"], 2, "--messages FILE"),
    (["render", "M", "--messages", "/no/such/file"], 3, "/no/such/file"),
    (["render", "/no/such/model", "--messages", "/dev/null"], 3, "/no/such/model"),
]


def test_refusals(cli, check):
    for words, code, sentence in REFUSALS:
        done = cli.run(*[cli.model if word == "M" else word for word in words])
        is_code = done.code not in (0, 1) if code is None else done.code == code
        check(is_code and sentence in done.err, f"{words[:6]}: {done}")
        check(done.out == "" and done.err.startswith("doppler: ") and done.err.count("\n") == 1,
              f"{words[:6]}: one sentence and no answer: {done}")


def test_help(cli, check):
    done = cli.run("help")
    check(done.code == 0 and not done.err, f"help: {done}")
    check(cli.run("--help").out == done.out and cli.run("-h").out == done.out, "--help is help")
    for name in COMMANDS:
        check(f"\n  {name} " in done.out, f"help does not list {name}")
        page = cli.run("help", name)
        check(page.code == 0 and page.out.startswith(f"Usage: doppler {name}"), f"{name}: {page}")
        check(max(map(len, page.out.splitlines())) <= 80, f"help {name}: wider than 80 columns")
        check(cli.run(name, "--help").out == page.out, f"{name} --help is help {name}")
    check("\nSampling:\n" in cli.run("help", "run").out, "run samples")
    check("\nSampling:\n" not in cli.run("help", "logits").out, "logits does not sample")
    version = cli.run("version")
    check(version.code == 0 and version.out == cli.run("--version").out, f"version: {version}")
    check(version.out.split()[0] == "doppler" and version.out[8].isdigit(), f"version: {version}")


def test_man_page(cli, check):
    page = cli.run("help", "--man").bytes
    check(page == (ROOT / "docs/doppler.1").read_bytes(),
          "docs/doppler.1 is not what the tables say: doppler help --man > docs/doppler.1")
    if shutil.which("groff"):
        done = subprocess.run(["groff", "-man", "-ww", "-Tutf8"], input=page, capture_output=True)
        check(done.returncode == 0 and not done.stderr, f"groff: {done.stderr[:400]!r}")


def test_broken_models(cli, check):
    whole = pathlib.Path(cli.model).read_bytes()
    rows = [("empty", b"", 4), ("magic only", whole[:4], 4), ("other magic", b"GGML" + whole[4:], 4),
            ("cut header", whole[:1000], 4), ("cut tensors", whole[:len(whole) // 2], 4),
            ("last byte", whole[:-40000], 4), ("version 99", whole[:4] + b"c\0\0\0" + whole[8:], 5)]
    for name, content, code in rows:
        path = cli.file("broken.gguf", content)
        for words in (["run", path, "-p", "x"], ["inspect", path]):
            done = cli.run(*words)
            check(done.code == code and str(path) in done.err, f"{name}, {words[0]}: {done}")


def test_unknown_tokenizer(cli, check):
    path = cli.folder / "strange.gguf"
    scripted_model(path, ["a", "b"], ["b"], "", tokenizer="hieroglyphs")
    ids, out = cli.file("three.txt", "13 259 13"), cli.folder / "strange.f32"
    done = cli.run("logits", path, "--tokens", ids, "-o", out)
    check(done.code == 0 and out.stat().st_size == 3 * 261 * 4, f"logits: {done}")
    check(cli.run("inspect", path).code == 0, "inspect")
    for words in (["run", path, "-p", "x"], ["chat", path], ["tokenize", path, "-p", "x"]):
        done = cli.run(*words)
        check(done.code == 5 and 'unknown model "hieroglyphs"' in done.err, f"{words[0]}: {done}")


def test_run_is_repeatable(cli, check):
    def text(*words, **more):
        done = cli.run("run", cli.model, "-n", "24", *words, **more)
        check(done.code == 0 and SUMMARY.fullmatch(done.err), f"{words}: {done}")
        return done.bytes

    prompt = ["-p", "Once upon a time"]
    greedy = text(*prompt, *GREEDY)
    check(greedy.startswith(b", there was a little girl named"), f"greedy: {greedy!r}")
    for words in (["--seed", "5"], ["--ram", "6MiB"], ["--threads", "1"], ["--batch", "1"],
                  ["--io", "buffered"], ["--kernels", "ref"], ["--ctx", "64"]):
        check(text(*prompt, *GREEDY, *words) == greedy, f"{words}: another text")
    seeded = text(*prompt, "--seed", "7")
    check(text(*prompt, "--seed=7") == seeded, "the same seed, another text")
    check(len({text(*prompt, "--seed", seed) for seed in range(1, 6)}) > 1, "seeds do nothing")
    path = cli.file("prompt.txt", "Once upon a time\n")
    check(text("-f", path, *GREEDY) == greedy, "--file")
    check(text("-", *GREEDY, input=b"Once upon a time\n") == greedy, "standard input")
    check(text(*prompt, *GREEDY, "--echo") == b"Once upon a time" + greedy, "--echo")
    done = cli.run("run", cli.model, "-n", "24", *prompt, *GREEDY, "-q")
    check(done.bytes == greedy and done.err == "", f"--quiet: {done}")


def run_json(cli, *words):
    done = cli.run("run", cli.model, "--json", *words)
    return done, json.loads(done.out)


def test_run_json(cli, check):
    prompt = ["-p", "Once upon a time", *GREEDY]
    plain = cli.run("run", cli.model, "-n", "12", *prompt)
    done, answer = run_json(cli, "-n", "12", *prompt, "--threads", "2", "--seed", "9")
    check(done.out.count("\n") == 1 and SUMMARY.fullmatch(done.err), f"{done}")
    check(not NEEDED_KEYS - set(answer), f"keys: {NEEDED_KEYS - set(answer)} are missing")
    check(answer["text"] + "\n" == plain.out, f"text: {answer['text']!r}")
    for key, want in [("finish", "length"), ("new_tokens", 12), ("prompt_tokens", 5), ("seed", 9),
                      ("threads", 2), ("model", cli.model)]:
        check(answer.get(key) == want, f"{key}: {answer.get(key)!r}")
    check(answer["decode_tok_s"] > 0 and answer["ttft_ms"] > 0, f"rates: {answer}")
    check(0 < answer["peak_bytes"] and 0 < answer["budget_bytes"], f"bytes: {answer}")

    drawn = run_json(cli, "-n", "12", "-p", "One day")[1]
    again = run_json(cli, "-n", "12", "-p", "One day", "--seed", drawn["seed"])[1]
    check(drawn["seed"] > 0 and drawn["text"] == again["text"], f"drawn: {drawn['seed']}")

    # A token of this vocabulary is half a character: JSON must hold it all the same.
    special = run_json(cli, "-n", "30", "-p", "\u00e9\u20ac", "--temp", "100", "--top-p", "1",
                       "--min-p", "0", "--top-k", "0", "--seed", "3", "--ignore-eos")[1]
    check(special["new_tokens"] == 30, f"any bytes: {special}")


def test_stops(cli, check):
    prompt = ["-p", "Once upon a time", "-n", "40", *GREEDY]
    whole = cli.run("run", cli.model, *prompt).out.removesuffix("\n")
    for stop in ("girl", "little girl named Li", ".", whole[30:35]):
        answer = run_json(cli, *prompt, "--stop", "not in it", "--stop", stop)[1]
        check(answer["text"] == whole[:whole.index(stop)] and answer["finish"] == "stop_text",
              f"--stop {stop!r}: {answer['text']!r} {answer['finish']}")
    answer = run_json(cli, *prompt, "--stop", "Zanzibar")[1]
    check(answer["text"] == whole and answer["finish"] == "length", "a stop that never comes")
    full = run_json(cli, "-p", "Once upon a time", "--ctx", "48", "--ignore-eos", *GREEDY)[1]
    check(full["finish"] == "length" and full["prompt_tokens"] + full["new_tokens"] == 48,
          f"a full context: {full['finish']}, {full['new_tokens']} tokens")


def test_interrupt(cli, check):
    process = cli.start("run", cli.model, "-p", "Once", "--ignore-eos", "--ctx", "1024", "--kernels",
                        "ref", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first = process.stdout.read(1)
    interrupt(process)
    out, err = process.communicate(timeout=cli_testing.TIMEOUT_S)
    check(process.returncode == 130, f"exit status {process.returncode}: {err!r}")
    check(SUMMARY.fullmatch(err.decode()), f"the numbers are missing: {err!r}")
    check(first and len(out) < 3000, f"{len(out)} bytes after Ctrl-C")


LOADED = r"\x1b\[K\r\x1b\[K"  # the bar was drawn for the last time, then wiped


def test_interrupt_still_reports(cli, check):
    slow = ["--kernels", "ref", "--threads", "1"]
    terminal = Terminal(cli, "run", cli.model, "-p", "Once", "--ignore-eos", "--json", *slow)
    terminal.wait_for(LOADED)
    terminal.type("\x03")
    shown, code = terminal.end()
    answer = json.loads(re.search(r"\{.*\}", shown)[0])
    check(code == 130 and answer["finish"] == "canceled", f"--json: {code} {shown!r}")

    text = cli.file("long.txt", STORY * 200)
    terminal = Terminal(cli, "perplexity", cli.model, text, "--ctx", "128", *slow)
    terminal.wait_for(r"scoring \[")
    terminal.type("\x03")
    shown, code = terminal.end()
    check(code == 130 and "\nnll " in shown.replace("\x1b[K", "\n"), f"perplexity: {code} {shown!r}")

    out = cli.folder / "unfinished.f32"
    ids = cli.file("many.txt", "654 " * 1000)
    terminal = Terminal(cli, "logits", cli.model, "--tokens", ids, "-o", out, "--ctx", "1024",
                        "--batch", "8", *slow)
    terminal.wait_for(r"logits \[")
    terminal.type("\x03")
    shown, code = terminal.end()
    check(code == 130 and not out.exists(), f"logits: {code} {shown!r}")


def test_progress_is_for_terminals(cli, check):
    words = ["run", cli.model, "-p", "Once", "-n", "4"]
    done = cli.run(*words)
    check("\r" not in done.err and "\033" not in done.err and "loading" not in done.err, f"{done}")
    terminal = Terminal(cli, *words)
    shown, code = terminal.end()
    check("loading [" in shown and "\033[K" in shown and code == 0, f"{code}: {shown!r}")


def test_failed_writes(cli, check):
    ids = cli.file("ids.txt", "0 654 563")
    text = cli.file("story.txt", STORY)
    rows = [["run", cli.model, "-p", "x", "-n", "4"], ["run", cli.model, "-p", "x", "-n", "4", "--json"],
            ["help"], ["version"], ["help", "--man"], ["inspect", cli.model], ["inspect", cli.model, "--json"],
            ["tokenize", cli.model, "-p", "x"], ["perplexity", cli.model, text],
            ["logits", cli.model, "--tokens", ids, "-o", "-"]]
    for words in rows:
        with open("/dev/full", "wb") as full:
            done = cli.run(*words, stdout=full)
        check(done.code == 7 and "standard output: cannot write: No space left" in done.err,
              f"{words}: {done}")
    done = cli.run("logits", cli.model, "--tokens", ids, "-o", "/dev/full")
    check(done.code == 7 and "/dev/full: cannot write" in done.err, f"{done}")


def test_reader_gone(cli, check):
    for words in (["run", cli.model, "-p", "x", "--ignore-eos"], ["help"], ["inspect", cli.model]):
        read_end, write_end = os.pipe()
        os.close(read_end)
        done = cli.run(*words, stdout=write_end)
        os.close(write_end)
        check(done.code == 141 and done.err == "", f"{words}: {done}")


def test_tokenize(cli, check):
    def ids(*words, **more):
        done = cli.run("tokenize", cli.model, *words, **more)
        check(done.code == 0 and done.out.count("\n") == 1, f"{words}: {done}")
        return list(map(int, done.out.split()))

    for row in json.loads((ROOT / "tests/oracle/tokenizer-4096.json").read_text()):
        text = row["text"].encode()
        got = ids("-", input=text)
        check(got == row["ids"], f"{row['text']!r}: {got}")
        plain = ids("-", "--no-bos", input=text)
        check(plain == row["ids"][1:], f"--no-bos {row['text']!r}: {plain}")
        back = cli.run("tokenize", cli.model, "--decode", "-", input=json.dumps(plain).encode())
        check(back.code == 0 and back.bytes == text, f"back: {back}")
    check(ids("-p", "Hello world") == ids("-f", cli.file("h", "Hello world")), "--prompt and --file")
    name = cli.run("tokenize", cli.model, "--decode", "-p", "0").out
    check(name and ids("-p", name, "--no-bos") == [0], f"the name of token 0: {name!r}")
    check(len(ids("-p", name, "--no-special")) > 1, f"{name!r} as text")


def test_render(cli, check):
    """Templates of tests/chat_templates; what a message spells stays text."""
    folder = ROOT / "tests/chat_templates"
    chat = cli.folder / "chat.json"
    chat.write_text(json.dumps([{"role": "user", "content": "Hi <|begin_of_text|>"}]))
    words = ["render", cli.model, "--messages", chat, "--chat-template"]
    done = cli.run(*words, folder / "mixtral.jinja")
    check(done.out == "<|begin_of_text|>[INST] Hi <|begin_of_text|> [/INST]" and done.code == 0, f"{done}")
    ids = cli.run(*words, folder / "mixtral.jinja", "--tokens").out.split()
    check(ids[0] == "0" and ids.count("0") == 1, f"a name in a message is no token: {ids}")
    done = cli.run(*words, folder / "qwen3.jinja", "--chat-arg", "enable_thinking=false")
    check(done.out.endswith("assistant\n<think>\n\n</think>\n\n"), f"{done}")
    done = cli.run(*words, folder / "qwen3.jinja", "--closed")
    check(done.out == "<|im_start|>user\nHi <|begin_of_text|><|im_end|>\n", f"{done}")
    done = cli.run(*words, folder / "harmony.jinja", "--chat-arg", "reasoning_effort=high",
                   "--chat-date", "2025-06-30")
    check("Reasoning: high" in done.out and "Current date: 2025-06-30" in done.out, f"{done}")
    chat.write_text(json.dumps([{"role": "narrator", "content": "So"}]))
    done = cli.run(*words, folder / "mixtral.jinja")
    check(done.code == 2 and "chat template, line 1: no role narrator" not in done.out, f"{done}")
    done = cli.run("run", cli.model, "--chat", "-p", "One day,", "-n", "3", *GREEDY,
                   "--chat-template", folder / "chatml.jinja")
    check(done.code == 0, f"{done}")


def read_floats(path):
    values = array.array("f")
    values.frombytes(path.read_bytes())
    return values


def test_logits(cli, check):
    reference = json.loads((ROOT / "tests/oracle/demo/q4_0.json").read_text())["prompts"][1]
    ids, out = reference["ids"], cli.folder / "logits.f32"
    contents = []
    for content, words in [(" ".join(map(str, ids)), []), (json.dumps(ids), ["--ram", "6MiB"]),
                           (",\n".join(map(str, ids)), ["--threads", "1", "--batch", "7"])]:
        done = cli.run("logits", cli.model, "--tokens", cli.file("ids", content), "-o", out, *words)
        check(done.code == 0 and done.out == "" and SUMMARY.fullmatch(done.err), f"{words}: {done}")
        contents.append(out.read_bytes())
    check(len(set(contents)) == 1, "another budget or thread count, other bits")
    done = cli.run("logits", cli.model, "--tokens", cli.folder / "ids", "-o", "-")
    check(done.bytes == contents[0], "-o - writes other bytes")

    values = read_floats(out)
    check(len(values) == len(ids) * 4096 and all(map(math.isfinite, values)), f"{len(values)} values")
    best = [max(range(4096), key=lambda i: values[at * 4096 + i]) for at in range(len(ids))]
    agreed = sum(a == b for a, b in zip(best, reference["argmax"]))
    check(agreed >= len(ids) * 0.9, f"best tokens: {agreed} of {len(ids)} as the reference says")

    out.unlink()
    for content, words, code in [("0 4096", [], 2), ("0 " * 100, ["--ctx", "64"], 6), ("0 x", [], 2)]:
        done = cli.run("logits", cli.model, "--tokens", cli.file("ids", content), "-o", out, *words)
        check(done.code == code and not out.exists(), f"{content[:9]!r}: {done}")


def nll_by_hand(cli, ids):
    out = cli.folder / "logits.f32"
    cli.run("logits", cli.model, "--tokens", cli.file("ids", json.dumps(ids)), "-o", out)
    values, nlls = read_floats(out), []
    for at in range(len(ids) - 1):
        row = values[at * 4096:(at + 1) * 4096]
        most = max(row)
        nlls.append(most + math.log(sum(math.exp(v - most) for v in row)) - row[ids[at + 1]])
    return nlls


def test_perplexity(cli, check):
    story = cli.file("story.txt", STORY)
    done = cli.run("perplexity", cli.model, story, "--json")
    got = json.loads(done.out)
    check(done.code == 0 and SUMMARY.fullmatch(done.err), f"{done}")
    ids = list(map(int, cli.run("tokenize", cli.model, "-f", story).out.split()))
    nlls = nll_by_hand(cli, ids)
    mean = sum(nlls) / len(nlls)
    error = math.sqrt(sum((x - mean) ** 2 for x in nlls) / (len(nlls) - 1) / len(nlls))
    check(got["tokens"] == len(nlls) and got["chunks"] == 1, f"{got}")
    for key, want in [("nll", mean), ("nll_stderr", error), ("ppl", math.exp(mean)),
                      ("ppl_stderr", math.exp(mean) * error)]:
        check(abs(got[key] - want) < 1e-3 * want, f"{key}: {got[key]}, by hand {want}")
    check(1 < got["ppl"] < 100, f"a model of stories foresees a story: {got['ppl']}")

    other = cli.file("other.txt", STORY[::-1])
    check(json.loads(cli.run("perplexity", cli.model, other, "--json").out)["ppl"] > 5 * got["ppl"],
          "nonsense is foreseen as well as a story")
    chunked = json.loads(cli.run("perplexity", cli.model, story, "--json", "--ctx", "16").out)
    check(chunked["chunks"] == -(-len(nlls) // 15) and chunked["tokens"] == len(nlls), f"{chunked}")
    limited = json.loads(cli.run("perplexity", cli.model, story, "--json", "-c16", "--chunks=2").out)
    check(limited["chunks"] == 2 and limited["tokens"] == 30, f"{limited}")
    line = cli.run("perplexity", cli.model, "-", input=STORY.encode()).out
    check(line.startswith(f"nll {got['nll']:.5f} +- ") and line.count("\n") == 1, line)


def test_replay(cli, check):
    trace = str(ROOT / "tests/fuzz/corpus/trace/uniform")
    done = cli.run("replay", trace, "--json", "--cache", "10%,50%,4MiB")
    got = json.loads(done.out)
    check(done.code == 0 and got["steps"] == 100 and got["wants"] == 2800, f"{done}")
    for row in got["caches"]:
        bound = [r for r in got["caches"] if r["policy"] == "belady" and
                 r["cache_bytes"] == row["cache_bytes"]]
        check(row["hits"] <= bound[0]["hits"] <= 2800 - 7 * 4, f"{row} {bound}")
    sizes = {row["cache_bytes"] for row in got["caches"]}
    check(sizes == {928973, 4644864, 4 << 20}, f"{sizes}")
    text = cli.run("replay", trace, "--policy", "lru,next", "--cache", "37.5%").out
    check(re.search(r"\n +37.50% +\d+\.\d\d +\d+\.\d\d +\d+\.\d\d +\w+ \d+%\n", text), text)
    cut = cli.run("replay", str(ROOT / "tests/fuzz/corpus/trace/cut"))
    check(cut.code == 0 and "missing or damaged" in cut.out, f"{cut}")
    for words, code, says in [
            (["--policy", "fifo"], 2, 'no policy "fifo"'), (["--cache", "0%"], 2, "--cache takes"),
            (["--cache", "x"], 2, "--cache takes"), (["--cache", ""], 2, "has no sizes")]:
        done = cli.run("replay", trace, *words)
        check(done.code == code and says in done.err, f"{words}: {done}")
    done = cli.run("replay", cli.model)
    check(done.code == 4 and "is not a trace" in done.err, f"{done}")


def test_trace(cli, check):
    trace = cli.folder / "run.trace"
    run = ["run", cli.model, "-p", "Once upon a time", "-n", "60", "--seed", "3", "--ram", "9MiB", "--json",
           "--speculate", "off"]  # a token a step
    plain = json.loads(cli.run(*run).out)
    got = json.loads(cli.run(*run, "--trace", trace, "--heat", "off").out)
    check(plain["text"] == got["text"], "a trace changes nothing")
    replay = json.loads(cli.run("replay", trace, "--json", "--cache", "20%").out)
    steps = got["decode_tokens"] + 1
    check(replay["steps"] == steps and replay["tokens"] == steps - 1 + got["prompt_tokens"],
          f"{replay} {got}")
    check(replay["recorded_hits"] == got["expert_hits"], f"{replay} {got}")
    check(replay["wants"] == got["expert_hits"] + got["expert_misses"] + got["expert_prefetch_hits"],
          f"{replay} {got}")
    device = cli.run(*run, "--trace", "/dev/full")
    check(device.code == 2 and "not a regular file" in device.err, f"{device}")


def test_explain(cli, check):
    run = ["run", cli.model, "-p", "Once upon a time", "-n", "800", "--seed", "3", "--ram", "10MiB",
           "--ignore-eos", "--heat", "off"]
    done = cli.run(*run, "--explain")
    check(done.code == 0 and "policy: " in done.err and "regret" in done.err
          and "pages, ms p50" in done.err and "prefetch: " in done.err, f"{done.err}")
    got = json.loads(cli.run(*run, "--explain", "--json").out)["explain"]
    check(got["is_contended"] and got["is_auto"] and got["heat"] == "off", f"{got}")
    check(got["window_steps"] > 100 and 0 < got["regret"] < 0.5, f"{got}")
    check(got["shadow_time_share"] < 0.02, f"{got['shadow_time_share']}")
    for point in got["curve"]:
        check(point["belady"] >= max(point["used"], point["lru"]), f"{point}")
    check([row["used"] for row in got["curve"]] == sorted(row["used"] for row in got["curve"]),
          f"more memory, more hits: {got['curve']}")
    disk = got["tiers"][0]
    check(disk["loads"] > 0 and disk["page_ms_p50"] <= disk["page_ms_p90"] <= disk["page_ms_p99"]
          <= disk["page_ms_max"], f"{disk}")
    alone = cli.run("explain", *run[1:], "--ram", "4MiB", "-q")
    check(alone.code == 0 and alone.err == "" and alone.out.startswith("policy: ") and
          "regret" in alone.out and "little" not in alone.out, f"{alone}")
    alone = json.loads(cli.run("explain", *run[1:], "-n3", "--ram", "4MiB", "--json").out)
    check(alone["new_tokens"] == 3 and alone["explain"]["is_contended"], f"{alone}")
    whole = json.loads(cli.run(*run, "-n2", "--ram", "64MiB", "--json", "--explain").out)
    check(not whole["explain"]["is_contended"], f"{whole}")


def test_heat(cli, check):
    run = ["run", cli.model, "-p", "Once upon a time", "--seed", "3", "--ram", "10MiB", "--json",
           "--look-ahead", "off", "--speculate", "off"]  # which both go by the clock
    kept = cli.folder / "cache/doppler/heat"
    shutil.rmtree(kept, ignore_errors=True)
    cold = json.loads(cli.run(*run, "-n", "200").out)
    files = list(kept.iterdir())
    check(len(files) == 1 and files[0].suffix == ".heat", f"{files}")
    warm = json.loads(cli.run(*run, "-n", "200").out)
    check(warm["text"] == cold["text"], "heat changes nothing but speed")
    check(warm["expert_hits"] > cold["expert_hits"], f"{warm} {cold}")
    # Killed at any moment, it leaves heat that the next run can use.
    for seconds in (0.02, 0.1, 0.3):
        process = cli.start(*run, "-n", "2000", "--ignore-eos", stdout=subprocess.DEVNULL)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        done = cli.run(*run, "-n", "5", "--explain")
        check(done.code == 0 and json.loads(done.out)["explain"]["heat"] == "restored", f"{done}")
    files[0].write_bytes(files[0].read_bytes()[:1000])
    done = cli.run(*run, "-n", "5", "--explain")
    check(json.loads(done.out)["explain"]["heat"] == "new" and done.err.count("is ignored") == 1,
          f"{done}")


def test_inspect(cli, check):
    text = cli.run("inspect", cli.model, "--tensors", "--keys")
    check(text.code == 0 and not text.err, f"{text}")
    for part in ("architecture  llama", "19.0 M", "32 a layer, 4 used", "token_embd.weight",
                 "general.architecture"):
        check(part in text.out, f"{part!r} is not in {text.out[:2000]!r}")
    done = cli.run("inspect", cli.model, "--json", "--tensors", "--keys", "--ram", "8MiB")
    got = json.loads(done.out)
    for key, want in [("architecture", "llama"), ("layer_count", 7), ("expert_count", 32),
                      ("expert_used", 4), ("vocab_size", 4096), ("is_supported", True),
                      ("file_bytes", os.path.getsize(cli.model))]:
        check(got.get(key) == want, f"{key}: {got.get(key)!r}")
    values = {row["key"]: row["value"] for row in got["keys"]}
    check(values.get("general.architecture") == "llama" and values.get("llama.expert_count") == "32"
          and values.get("tokenizer.ggml.tokens", "").startswith("[4096]"), f"keys: {values}")
    shapes = {row["name"]: row["shape"] for row in got["tensors"]}
    check(shapes.get("token_embd.weight") == [256, 4096], f"tensors: {shapes}")
    check(len(got["tensors"]) == got["tensor_count"] and len(got["keys"]) == got["key_count"], "lists")
    check(sum(t["size"] for t in got["tensors"]) == got["tensor_bytes"], "bytes of tensors")
    pages = {group["kind"]: group for group in got["pages"]}
    check(pages["expert"]["page_count"] == 224 and pages["expert"]["bytes_min"] == 41472,
          f"{pages['expert']}")
    plan = got["plan"]
    check(plan["fits"] and plan["budget_bytes"] == 8 << 20 and 0 < plan["experts_held"] < 224,
          f"{plan}")

    # What it calls the least budget is the least: run agrees on both sides.
    least = plan["least_bytes"]
    small = json.loads(cli.run("inspect", cli.model, "--json", "--ram", "1MiB").out)["plan"]
    check(not small["fits"] and small["least_bytes"] > 1 << 20, f"{small}")
    words = ["run", cli.model, "-p", "Once", "-n", "3", "--ram"]
    check(cli.run(*words, least).code == 0, f"--ram {least} does not run")
    check(cli.run(*words, least // 2).code == 6, f"--ram {least // 2} runs")
    check("tensors" not in json.loads(cli.run("inspect", cli.model, "--json").out), "unasked lists")


def main():
    cli, check = Cli(sys.argv[1], sys.argv[2]), Checks()
    check.run([test for name, test in globals().items() if name.startswith("test_")], cli)
    return check.report("cli")


sys.exit(main())
