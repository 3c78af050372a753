"""What the tests of the command line share: running the program, and counting checks."""
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import tempfile
import time
import traceback

TIMEOUT_S = 120  # a hang, under any sanitizer
SUMMARY = re.compile(
    r"doppler: prompt \d+ tok [\d.]+ tok/s, decode \d+ tok [\d.]+ tok/s, ttft \d+ ms \| "
    r"(drafts \d+ of \d+ right, \d+ steps saved \| )?"
    r"peak [\d.]+ [KMG]iB of [\d.]+ [KMGT]iB budget \(\+[\d.]+ [MG]iB\) \| "
    r"(experts [\d.]+% of \d+ hit|pages [\d.]+% of \d+ hit|all weights held), read [\d.]+ \w+ \| "
    r"page p50 [\d.]+ ms p99 [\d.]+ ms \| (cold|warm)\n")


class Checks:
    """Counts what held; a test that raises is one failure more."""

    def __init__(self):
        self.passed = self.failed = 0

    def __call__(self, is_ok, text):
        if is_ok:
            self.passed += 1
        else:
            self.failed += 1
            print("FAILED " + text, flush=True)

    def run(self, tests, cli):
        for test in tests:
            try:
                test(cli, self)
            except Exception:
                self(False, test.__name__ + "\n" + traceback.format_exc())

    def report(self, name):
        print(f"{name}: {self.passed} passed, {self.failed} failed")
        return 1 if self.failed else 0


class Done:
    def __init__(self, process):
        self.code = process.returncode
        self.bytes = process.stdout
        self.out = (process.stdout or b"").decode("utf-8", "replace")
        self.err = (process.stderr or b"").decode("utf-8", "replace")

    def __str__(self):
        return f"exit status {self.code}, stdout {self.out[:400]!r}, stderr {self.err[:800]!r}"


class Cli:
    """The program, the model and a folder that goes away."""

    def __init__(self, program, model):
        self.program = str(pathlib.Path(program).resolve())
        self.model = str(pathlib.Path(model).resolve())
        self._folder = tempfile.TemporaryDirectory(prefix="doppler-cli-")
        self.folder = pathlib.Path(self._folder.name)
        self.environment = dict(os.environ, XDG_STATE_HOME=str(self.folder / "state"),
                                XDG_CACHE_HOME=str(self.folder / "cache"),
                                TERM="xterm", LC_ALL="C.UTF-8")

    def run(self, *words, **more):
        more.setdefault("stdout", subprocess.PIPE)
        if "input" not in more:
            more.setdefault("stdin", subprocess.DEVNULL)
        return Done(subprocess.run([self.program, *map(str, words)], stderr=subprocess.PIPE,
                                   env=self.environment, timeout=TIMEOUT_S, **more))

    def start(self, *words, **more):
        return subprocess.Popen([self.program, *map(str, words)], env=self.environment, **more)

    def file(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path


class Terminal:
    """The program on a terminal of its own, driven like a person would."""

    def __init__(self, cli, *words):
        self.seen = ""
        self.process, self.fd = pty.fork()
        if self.process == 0:
            os.execve(cli.program, [cli.program, *map(str, words)], cli.environment)

    def _read(self, deadline):
        ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError(f"the terminal shows {self.seen!r}")
        try:
            piece = os.read(self.fd, 65536)
        except OSError:  # how Linux says that the other end is closed
            piece = b""
        self.seen += piece.decode("utf-8", "replace")
        return bool(piece)

    def wait_for(self, pattern):
        """Reads until pattern came up behind what was waited for before; returns all up to it."""
        deadline = time.monotonic() + TIMEOUT_S
        while not (found := re.search(pattern, self.seen)):
            if not self._read(deadline):
                raise EOFError(f"{pattern!r} never came: {self.seen!r}")
        before, self.seen = self.seen[:found.end()], self.seen[found.end():]
        return before

    def type(self, text):
        os.write(self.fd, text.encode())

    def end(self):
        """Reads the rest; returns it and the exit code (negative: the signal)."""
        deadline = time.monotonic() + TIMEOUT_S
        while self._read(deadline):
            pass
        _, status = os.waitpid(self.process, 0)
        os.close(self.fd)
        return self.seen, os.waitstatus_to_exitcode(status)


def interrupt(process):
    os.kill(process.pid, signal.SIGINT)
