#!/usr/bin/env python3
"""Tests doppler chat, through a terminal and through pipes: cli_chat_test.py PROGRAM MODEL"""
import json
import re
import subprocess
import sys

from cli_testing import Checks, Cli, SUMMARY, Terminal, interrupt, TIMEOUT_S
from scripted_model import scripted_model

LONG = ("Once upon a time there was a little girl who lived in a small house with her mother and a "
        "big dog, and every day they went to the park together to play with a red ball.")


def chat(cli, lines, *words):
    return cli.run("chat", cli.model, "-n", "12", "--seed", "3", *words, input=lines.encode())


def prompt_tokens(text):
    return [int(count) for count in re.findall(r"prompt (\d+) tok", text)]


def test_pipes(cli, check):
    done = chat(cli, "One day,\n\nTom saw a cat.\n")
    check(done.code == 0 and SUMMARY.fullmatch(done.err), f"{done}")
    check(done.out.endswith("\n") and len(done.out) > 20, f"two answers: {done}")
    check(chat(cli, "One day,\n\nTom saw a cat.\n").out == done.out, "the same seed, other answers")
    check(chat(cli, "One day,\nTom saw a cat.").out == done.out, "a last line without a newline")
    joined = chat(cli, "One day,\\\nTom saw a cat.\n")
    check(joined.code == 0 and joined.out != done.out, f"one message of two lines: {joined}")
    quiet = chat(cli, "One day,\n", "-q")
    check(quiet.err == "" and done.out.startswith(quiet.out), f"--quiet: {quiet}")
    check(chat(cli, "").out == "" and chat(cli, "").code == 0, "no question")


def test_commands(cli, check):
    saved = cli.folder / "saved.json"
    lines = f"/system Be kind.\nOne day,\n//slash\n/stats\n/save {saved}\n/quit\nnot read\n"
    done = chat(cli, lines)
    check(done.code == 0 and done.err.count("doppler: prompt") == 2, f"{done}")
    messages = json.loads(saved.read_text())["messages"]
    check([m["role"] for m in messages] == ["system", "user", "assistant", "user", "assistant"],
          f"{messages}")
    check([messages[i]["content"] for i in (0, 1, 3)] == ["Be kind.", "One day,", "/slash"],
          f"{messages}")
    check(done.out == messages[2]["content"] + "\n" + messages[4]["content"] + "\n", f"{done}")

    chat(cli, f"/system A\nOne day,\n/clear\n/system\n/save {saved}\n")
    check(json.loads(saved.read_text())["messages"] == [], "/clear and /system without a text")
    chat(cli, f"/clear\n/save {saved}\n", "--system", "Be kind.")
    check(len(json.loads(saved.read_text())["messages"]) == 1, "/clear keeps the system message")
    check("/save FILE" in chat(cli, "/help\n").err, "/help")
    check("/quit" not in chat(cli, "/help me\n/quit\n").out, "help is no answer")
    for line, code, sentence in [("/sav", 2, "no command /sav; did you mean /save?"),
                                 ("/xyzzy", 2, "no command /xyzzy (/help lists them)"),
                                 ("/save", 2, "/save needs a file"),
                                 ("/save /no/such/folder/x", 3, "/no/such/folder/x")]:
        done = chat(cli, line + "\nOne day,\n")
        check(done.code == code and sentence in done.err and done.out == "", f"{line}: {done}")


def test_prefix_is_reused(cli, check):
    done = chat(cli, f"{LONG}\n/stats\nTom saw a cat.\n/stats\n")
    first, second, _ = prompt_tokens(done.err)
    check(first > 30 and second - first < 20,
          f"{first} tokens for a long question, {second - first} for a short one after it")


def test_full_context(cli, check):
    done = chat(cli, (LONG + "\n") * 6, "--ctx", "160")
    check(done.code == 0 and "oldest questions are forgotten" in done.err, f"{done}")
    check(done.out.count("\n") >= 6, f"an answer to each: {done}")
    done = chat(cli, LONG * 8 + "\n", "--ctx", "64")
    check(done.code == 6 and "raise --ctx" in done.err and done.out == "", f"{done}")


CHATML = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
          "<|im_start|>assistant\n{# <think></think> <tool_call> #}")
CALL = '{"name": "find", "arguments": {"n": 1}}'


def thinking_model(cli, *says):
    path = cli.folder / "scripted.gguf"
    scripted_model(path, [*says, "<|im_end|>"], ["<|im_start|>", "<|im_end|>"], CHATML)
    return str(path)


def test_thinking(cli, check):
    model = thinking_model(cli, "<think>\nHm", ".\n</th", "ink>\n\nYes.")
    words = ["run", model, "--chat", "-p", "Well?", "-q"]
    for more, want in [([], "Yes.\n"), (["--thinking", "hide"], "Yes.\n"),
                       (["--thinking", "show"], "<think>\nHm.\n</think>\n\nYes.\n")]:
        done = cli.run(*words, *more)
        check(done.code == 0 and done.out == want, f"{more}: {done}")
    answer = json.loads(cli.run(*words, "--json").out)
    check((answer["content"], answer["reasoning"], answer["tool_calls"], answer["finish"]) ==
          ("Yes.", "Hm.", [], "stop_token"), f"{answer}")
    check(answer["text"] == "<think>\nHm.\n</think>\n\nYes.", f"{answer['text']!r}")
    check("reasoning" not in json.loads(cli.run("run", model, "-p", "a\n", "--json").out), "no chat")
    shown = Terminal(cli, *words).end()[0]
    check("\x1b[2mHm.\x1b[0m\r\n\r\nYes." in shown, f"on a terminal: {shown!r}")
    raw = cli.run(*words, "--special")
    check(raw.out == "<think>\nHm.\n</think>\n\nYes.\n", f"--special is raw: {raw}")

    saved = cli.folder / "saved.json"
    done = cli.run("chat", model, "-q", input=f"Well?\n/save {saved}\n".encode())
    message = json.loads(saved.read_text())["messages"][1]
    check(done.out == "Yes.\n" and message == {"role": "assistant", "content": "Yes.",
                                               "reasoning": "Hm."}, f"{done} {message}")


def test_tool_calls(cli, check):
    model = thinking_model(cli, "I look.\n<tool_", f"call>{CALL}</tool", "_call>")
    done = cli.run("run", model, "--chat", "-p", "Well?", "-q")
    check(done.code == 0 and done.out.startswith("I look.\n{"), f"{done}")
    call = json.loads(done.out.splitlines()[1])["tool_call"]
    check(call == {"id": "call00001", "name": "find", "arguments": {"n": 1}}, f"{call}")
    answer = json.loads(cli.run("run", model, "--chat", "-p", "Well?", "--json").out)
    check(answer["content"] == "I look." and
          answer["tool_calls"] == [{"id": "call00001", "type": "function",
                                    "function": {"name": "find", "arguments": {"n": 1}}}],
          f"{answer}")
    done = cli.run("chat", model, "-q", input=b"/tool 42\n")
    check(done.code == 2 and "no call of a tool waits" in done.err, f"{done}")


def test_failed_writes(cli, check):
    with open("/dev/full", "wb") as full:
        done = cli.run("chat", cli.model, "-n", "4", input=b"One day,\n", stdout=full)
    check(done.code == 7 and "standard output: cannot write" in done.err, f"{done}")


def test_interrupt_in_pipes(cli, check):
    process = cli.start("chat", cli.model, "--ctx", "1024", "--kernels", "ref", stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(b"Once upon a time\n")
    process.stdin.flush()
    process.stdout.read(1)
    interrupt(process)
    _, err = process.communicate(timeout=TIMEOUT_S)
    check(process.returncode == 130 and SUMMARY.fullmatch(err.decode()),
          f"exit status {process.returncode}: {err!r}")


def test_terminal(cli, check):
    terminal = Terminal(cli, "chat", cli.model, "-n", "10", "--seed", "3", "--ctx", "1024")
    check("/help lists commands" in terminal.wait_for("> $"), "a greeting")
    terminal.type("One day, a c\u00e9\x7fat\n")  # a character of two bytes, taken back
    first = terminal.wait_for(r"\n> $")
    terminal.type("and a dog \\\n")
    terminal.wait_for(r"\| $")
    terminal.type("went out.\n")
    second = terminal.wait_for(r"\n> $")
    answers = [text.replace("\r", "").split("\n")[1:-1] for text in (first, second)]
    check(all(any(lines) for lines in answers), f"two answers: {first!r} {second!r}")

    terminal.type("/stats\n")
    check(SUMMARY.search(terminal.wait_for(r"\n> $").replace("\r", "")), "/stats")
    terminal.type("/oops\n")
    check("doppler: no command /oops" in terminal.wait_for(r"\n> $"), "a slip ends nothing")
    terminal.type("half a line\x03")  # Ctrl-C while typing
    check("ends" in terminal.wait_for(r"\n> $"), "Ctrl-C says how to end")
    for _ in range(50):  # wherever in the program the signal meets it
        terminal.type("\x03")
        terminal.wait_for(r"\n> $")
    terminal.type("\x1b[A\x01\x0b/quit\n")  # arrow up, then a line of its own
    shown, code = terminal.end()
    check(code == 0 and SUMMARY.search(shown.replace("\r", "")), f"{code}: {shown!r}")

    history = cli.folder / "state/doppler/chat_history"
    check("cat" in history.read_text() and history.stat().st_mode & 0o77 == 0, "the history")
    terminal = Terminal(cli, "chat", cli.model, "-q")
    terminal.wait_for("> $")
    terminal.type("\x1b[A")
    check("/quit" in terminal.wait_for("/quit"), "the history of the run before")
    terminal.type("\n")
    check(terminal.end()[1] == 0, "/quit from the history")


def test_terminal_interrupts_an_answer(cli, check):
    terminal = Terminal(cli, "chat", cli.model, "--ctx", "1024", "--kernels", "ref", "--temp", "0",
                        "--no-history")
    terminal.wait_for("> $")
    for _ in range(8):  # each shows that the one before was put right again
        terminal.type("Once upon a time\n")
        terminal.wait_for(r"Once upon a time\r\n(.|\n)*[a-z]")
        terminal.type("\x03")
        terminal.wait_for(r"\n> $")
        terminal.type("/clear\n")  # the same beginning again: a partial answer changes what follows
        terminal.wait_for(r"\n> $")
    terminal.type("\x04")  # Ctrl-D
    shown, code = terminal.end()
    stats = SUMMARY.search(shown.replace("\r", ""))
    check(code == 0 and stats, f"{code}: {shown!r}")
    check(int(re.search(r"decode (\d+) tok", shown)[1]) < 4000, f"all ran to their end: {shown!r}")


def main():
    cli, check = Cli(sys.argv[1], sys.argv[2]), Checks()
    check.run([test for name, test in globals().items() if name.startswith("test_")], cli)
    return check.report("cli-chat")


sys.exit(main())
