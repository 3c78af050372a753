#!/usr/bin/env python3
"""How long a page takes from three peers over emulated links, well and with faults.

usage: page_bench.py [BUILD_DIR] [--pages N] [--idle-pages N] [--case NAME]... [--server ours|nginx]
                     [--runs N] [--trace FILE]

Three servers and a client, each a host of its own on a cable of 1 Gbit/s, 20 ms of round trip and
a drop-tail queue of 30 ms (tools/linkem). A page is 50 pieces of 256 KiB (13.1 MB) in three runs,
as an expert of three tensors lies in its file; the client is the pager (src/swarm/pager.h),
the servers are the range server, or nginx for comparison. A page ends when all of its pieces
are hashed; then its bytes are compared with the file.

Cases  well        three servers that answer
       stalled     after a tenth of the pages one of them is stopped (SIGSTOP) for good
       stalling    one of them is stopped for a second after every 25th page
       killed      after a tenth of the pages one of them is killed
       corrupting  one of them sends other bytes from the start
       half        the cable of one of them has 500 Mbit/s
       idle        silence before each page: five clients, each a host of its own with connections
                   of its own, want one every 2 s, one after the other, 400 ms apart
       one-run     as well, but the page is one run of pieces

One JSON line a case. floor_ms is the round trip and the page's bytes x 1.045 at 1 Gbit/s;
cpu is in processors, by who used it; load_1m is the machine's load average before the case: other
work on the machine makes everything slower. The first 10 pages open connections and are not
counted, of each client, except that they are never a failure. Exit status 1: a page was wrong or did not come.
Without the right to make network namespaces nothing is measured (exit status 77).
"""
import argparse
import json
import math
import os
import pathlib
import platform
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "swarm"))
from links import Links, NoLinks, cpu_s  # noqa: E402

PIECE = 256 << 10
PIECES = 50        # of a page
FILE_PAGES = 16    # of the file: 210 MB
WARM_UP = 10
KEY = "0123456789abcdef"  # page_bench.h
NAME = "model.gguf"
DELAY_US, RATE_MBIT, QUEUE_MS = 10000, 1000, 30
FLOOR_MS = 2 * DELAY_US / 1e3 + PIECES * PIECE * 8 * 1.045 / (RATE_MBIT * 1e3)
PAGE_LIMIT_S = 60  # one that takes longer is a hang
VICTIM = 3         # the host of the server that has the fault
CLIENT = 0
IDLE_CLIENTS = [CLIENT, 4, 5, 6, 7]
IDLE_PERIOD_MS = 2000  # of each; a page takes 0.15 s of it

CASES = ["well", "stalled", "stalling", "killed", "corrupting", "half", "idle", "one-run"]

NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off; sendfile on; tcp_nodelay on; keepalive_timeout 1h; keepalive_requests 1000000;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server {{ listen {address}:8080; root {root}; }}
}}
"""


def make_files(folder):
    """The model and its corrupted copy: /KEY/NAME below two folders."""
    paths = []
    for name, change in (("true", 0), ("false", 0x55)):
        path = folder / name / KEY / NAME
        path.parent.mkdir(parents=True)
        numbers = random.Random(1)
        with path.open("wb") as out:
            for _ in range(FILE_PAGES * PIECES):
                piece = bytearray(numbers.randbytes(PIECE))
                piece[PIECE // 2] ^= change
                out.write(piece)
        paths.append(path)
    return paths


class Server:
    def __init__(self, links, host, build, kind, path, folder):
        self.address = links.hosts[host].address
        if kind == "nginx":
            own = folder / f"nginx{host}"
            own.mkdir()
            (own / "nginx.conf").write_text(NGINX.format(
                folder=own, address=self.address, root=path.parents[1]))
            self.process = links.start(host, "nginx", "-p", own, "-c", own / "nginx.conf",
                                       stderr=subprocess.DEVNULL)
            self.port = 8080
            time.sleep(0.3)
        else:
            self.process = links.start(host, build / "bench" / "page_server", path,
                                       f"{self.address}:0", PIECE, stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, text=True)
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError("page_server did not start")
            self.port = int(line)

    def signal(self, number):
        os.kill(self.process.pid, number)

    def cpu_s(self):
        try:
            return cpu_s(self.process.pid)
        except OSError:
            return 0.0


class Fault:
    """What happens to the victim, told after every page."""

    def __init__(self, case, server, links, pages):
        self.case, self.server, self.at = case, server, WARM_UP + pages // 10
        self.timer = None
        if case == "half":
            links.set_rate(VICTIM, RATE_MBIT // 2)

    def after_page(self, number):
        if self.case == "stalled" and number == self.at:
            self.server.signal(signal.SIGSTOP)
        elif self.case == "killed" and number == self.at:
            self.server.signal(signal.SIGKILL)
        elif self.case == "stalling" and number % 25 == 24:
            self.server.signal(signal.SIGSTOP)
            self.timer = threading.Timer(1, self.server.signal, (signal.SIGCONT,))
            self.timer.start()

    def end(self):
        if self.timer:
            self.timer.join()


def busy_s():
    """Seconds that the processors were busy since the start of the machine."""
    fields = [int(word) for word in pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
    return (sum(fields[:8]) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def quantile(values, q):
    values = sorted(values)
    return values[max(0, math.ceil(q * len(values)) - 1)]


def read_pages(client, fault, trace):
    """The lines of the client; one that does not come in time ends it."""
    pages, end = [], {}
    while True:
        watchdog = threading.Timer(PAGE_LIMIT_S, client.kill)
        watchdog.start()
        line = client.stdout.readline()
        watchdog.cancel()
        if not line:
            return pages, end
        row = json.loads(line)
        if "page" not in row:
            end = row
            continue
        pages.append(row)
        fault.after_page(row["page"])
        if trace:
            trace.write(line)


class Client(threading.Thread):
    """One that wants pages: what it says, read as it comes."""

    def __init__(self, links, host, build, path, servers, words, fault, trace):
        super().__init__()
        self.rows, self.end, self.fault, self.trace = [], {}, fault, trace
        self.process = links.start(host, build / "bench" / "page_client", path,
                                   *(f"{s.address}:{s.port}" for s in servers), *words,
                                   stdout=subprocess.PIPE, text=True)
        self.start()

    def run(self):
        self.rows, self.end = read_pages(self.process, self.fault, self.trace)


def start_clients(case, args, links, build, path, servers, fault, trace):
    """The clients, and how many pages each wants."""
    hosts = IDLE_CLIENTS if case == "idle" else [CLIENT]
    pages = -(-(args.idle_pages if case == "idle" else args.pages) // len(hosts)) + WARM_UP
    words = ["--pages", pages, "--pieces", PIECES, "--piece-size", PIECE, "--runs",
             1 if case == "one-run" else args.runs, "--trace", int(bool(trace))]
    clients = []
    for i, host in enumerate(hosts):
        when = (["--period-ms", IDLE_PERIOD_MS, "--phase-ms", IDLE_PERIOD_MS // len(hosts) * i,
                 "--seed", i + 1] if case == "idle" else ["--gap-ms", 20])
        clients.append(Client(links, host, build, path, servers, words + when, fault, trace))
    return clients, pages


def together(ends):
    """What the pagers counted."""
    return {key: sum((end.get(key, type(value)()) for end in ends), type(value)())
            for key, value in ends[0].items()}


def run_case(case, args, build, paths, folder, trace):
    hosts = 8 if case == "idle" else 4
    with Links(build / "tools" / "linkem", hosts=hosts, rate_mbit=RATE_MBIT, delay_us=DELAY_US,
               queue_ms=QUEUE_MS) as links, tempfile.TemporaryDirectory(dir=folder) as own:
        servers = [Server(links, host, build, args.server,
                          paths[case == "corrupting" and host == VICTIM], pathlib.Path(own))
                   for host in (1, 2, VICTIM)]
        load = os.getloadavg()[0]
        fault = Fault(case, servers[-1], links, args.pages)
        begin, busy, bridge = time.monotonic(), busy_s(), links.cpu_s()
        clients, pages = start_clients(case, args, links, build, paths[0], servers, fault, trace)
        served = [server.cpu_s() for server in servers]
        for client in clients:
            client.join()
        wall = time.monotonic() - begin
        # Waited for, their processor time is the difference of what children used.
        used = os.times()
        for client in clients:
            client.process.wait()
        after = os.times()
        cpu = {"linkem": links.cpu_s() - bridge,
               "servers": sum(s.cpu_s() - was for s, was in zip(servers, served)
                              if s.process.poll() is None),
               "client": after[2] + after[3] - used[2] - used[3]}
        fault.end()
        stats = links.stats()["hosts"]
        stats = [stats[i] for i in (IDLE_CLIENTS if case == "idle" else [CLIENT])]
        ms = [row["ms"] for client in clients for row in client.rows[WARM_UP:]
              if not row["failed"]]
        bad = sum(bool(row["failed"] or row["wrong"]) for client in clients for row in client.rows)
        missing = pages * len(clients) - sum(len(client.rows) for client in clients)
        result = {"case": case, "server": args.server, "pages": len(ms), "failed": bad + missing,
                  "bytes": PIECES * PIECE, "runs": 1 if case == "one-run" else args.runs,
                  "floor_ms": round(FLOOR_MS, 1)}
        if ms:
            result |= {name: round(quantile(ms, q), 1) for name, q in (
                ("min", 0), ("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1))}
            result |= {"p50_ratio": round(result["p50"] / FLOOR_MS, 3),
                       "p99_ratio": round(result["p99"] / FLOOR_MS, 3)}
        result |= {"cpu": {who: round(s / wall, 2) for who, s in cpu.items()},
                   "cpu_all": round((busy_s() - busy) / wall, 2), "cores": os.cpu_count(),
                   "load_1m": round(load, 2), "congestion": links.hosts[1].congestion,
                   "idle_restart": links.hosts[1].idle_restart,
                   "clients": len(clients),
                   "dropped_frames": sum(host["dropped_frames"] for host in stats),
                   "queue_ms_max": max(host["queue_ms_max"] for host in stats),
                   "pager": together([client.end for client in clients])}
        return result


def commit():
    done = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"],
                          capture_output=True, text=True)
    return done.stdout.strip()


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1].removeprefix("usage: "))
    parser.add_argument("build", nargs="?", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--pages", type=int, default=500)
    parser.add_argument("--idle-pages", type=int, default=500)
    parser.add_argument("--case", action="append", choices=CASES)
    parser.add_argument("--server", choices=("ours", "nginx"), default="ours")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--trace", type=pathlib.Path)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all is torn down
    build = args.build.resolve()
    failed = 0
    trace = args.trace.open("w") if args.trace else None
    print(json.dumps({"commit": commit(), "machine": platform.machine(),
                      "kernel": platform.release(), "cores": os.cpu_count()}), flush=True)
    with tempfile.TemporaryDirectory(prefix="doppler-pages-") as folder:
        paths = make_files(pathlib.Path(folder))
        os.chmod(folder, 0o755)  # nginx's worker is nobody
        for case in args.case or CASES:
            try:
                result = run_case(case, args, build, paths, folder, trace)
            except NoLinks as why:
                print(f"SKIP page_bench: {why}", file=sys.stderr)
                return 77
            failed += result["failed"]
            print(json.dumps(result), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
