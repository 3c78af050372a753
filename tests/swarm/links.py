"""Hosts on emulated links (tools/linkem): starting programs in them, and what it cost."""
import json
import os
import pathlib
import shutil
import subprocess

TICKS_S = os.sysconf("SC_CLK_TCK")


class NoLinks(Exception):
    """The links cannot be made here; the text says why."""


def cpu_s(pid):
    """Processor seconds of a process so far, its threads and waited-for children in it."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / TICKS_S


class Host:
    def __init__(self, row):
        self.index, self.address, self.netns = row["host"], row["address"], row["netns"]
        self.congestion, self.idle_restart = row["congestion"], row["idle_restart"]

    def command(self, *words):
        return ["nsenter", f"--net={self.netns}", "--", *map(str, words)]


class Links:
    """A star of hosts; everything goes when it is closed. Programs started on it are the
    caller's only until then: what still runs is killed."""

    def __init__(self, linkem, **options):
        """options: hosts, rate_mbit, delay_us, queue_ms, congestion, idle_restart."""
        for program in ("nsenter", "setpriv"):
            if not shutil.which(program):
                raise NoLinks(f"{program} is not installed")
        words = [str(linkem)]
        for name, value in options.items():
            words += ["--" + name.replace("_", "-"), str(value)]
        self.options, self.children = options, []
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        self.hosts = []
        for line in self.process.stdout:
            row = json.loads(line)
            if "ready" in row:
                return
            self.hosts.append(Host(row))
        why = self.process.stderr.read().strip()
        self.process.wait()
        raise NoLinks(why)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def start(self, host, *words, **how):
        """A program on a host, as subprocess.Popen."""
        # It dies with this process, however that ends.
        child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL",
                                  *self.hosts[host].command(*words)], **how)
        self.children.append(child)
        return child

    def _ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def set_rate(self, host, mbit):
        self._ask(f"rate {host} {mbit}")

    def stats(self):
        return self._ask("stats")

    def cpu_s(self):
        return cpu_s(self.process.pid)

    def close(self):
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()
            for stream in (child.stdin, child.stdout, child.stderr):
                if stream:
                    stream.close()
        self.children = []
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()
