#!/usr/bin/env python3
"""The emulated links do what they say: links_test.py LINKEM

Round trips last as long as the delay says, TCP fills a cable and no more, rates change while
it runs, and nothing is left afterwards. Without the right to make namespaces what needs it is
skipped, loudly; that linkem then says why is checked everywhere."""
import os
import pathlib
import signal
import subprocess
import sys
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "cli"))
from cli_testing import Checks  # noqa: E402
from links import Links, NoLinks  # noqa: E402

# Frames of 1538 bytes on the wire carry 1448: 941 Mbit/s of a gigabit.
GOODPUT_MAX = 1448 / 1538
WAIT_S = 20

SERVER = """
import socket, time
listener = socket.socket()
listener.bind(("0.0.0.0", 9000))
listener.listen()
print("up", flush=True)
block = bytearray(1 << 20)
while True:
    connection = listener.accept()[0]
    begin = middle = None
    total = 0
    while got := connection.recv_into(block):
        total += got
        now = time.monotonic()
        begin = begin or now
        if not middle and now - begin > 0.7:  # past slow start
            middle, before = now, total
    if middle and now > middle:
        print((total - before) * 8e-6 / (now - middle), flush=True)
"""

SENDER = """
import socket, sys, time
connection = socket.create_connection((sys.argv[1], 9000), 10)
block = bytes(1 << 20)
end = time.monotonic() + 1.5
while time.monotonic() < end:
    connection.sendall(block)
"""

PINGER = """
import socket, sys, time
times = []
for _ in range(10):
    begin = time.monotonic()
    socket.create_connection((sys.argv[1], 9000), 10).close()
    times.append(time.monotonic() - begin)
print(min(times) * 1e3)
"""


def number_of(links, host, code, *words):
    child = links.start(host, sys.executable, "-c", code, *words, stdout=subprocess.PIPE, text=True)
    return child.communicate(timeout=WAIT_S)[0]


def check_links(check, linkem):
    with Links(linkem, hosts=3, rate_mbit=1000, delay_us=10000, idle_restart=0) as links:
        server = links.start(0, sys.executable, "-c", SERVER, stdout=subprocess.PIPE, text=True)
        server.stdout.readline()
        to = links.hosts[0].address
        ms = float(number_of(links, 1, PINGER, to))
        check(20 <= ms < 30, f"round trip of {ms} ms, 20 is expected")

        # On a busy machine TCP may be slower than its wire; never faster.
        number_of(links, 1, SENDER, to)
        mbit = float(server.stdout.readline())
        check(150 < mbit <= 1000 * GOODPUT_MAX * 1.02, f"{mbit} Mbit/s of 941")
        print(f"1 Gbit/s cable: {mbit:.0f} Mbit/s of TCP, round trip {ms:.2f} ms, "
              f"{links.hosts[0].congestion}, linkem {links.cpu_s():.2f} s of a processor")
        links.set_rate(1, 100)
        number_of(links, 1, SENDER, to)
        mbit = float(server.stdout.readline())
        check(30 < mbit <= 100 * GOODPUT_MAX * 1.05, f"{mbit} Mbit/s of 94")
        stats = links.stats()["hosts"]
        check(stats[0]["received_bytes"] >= stats[1]["sent_bytes"] * 0.3, f"{stats}")
        check(stats[2]["received_bytes"] == 0, "a host that nobody spoke to heard something")
        pid, space = links.process.pid, links.hosts[0].netns
    check(server.poll() is not None, "the server outlived its network")
    check(not os.path.exists(f"/proc/{pid}") and not os.path.exists(space), "something is left")


def check_orphan(check, linkem):
    """Who started linkem dies: linkem goes, too."""
    code = ("import sys; sys.path.insert(0, sys.argv[1]); from links import Links\n"
            "import time; links = Links(sys.argv[2], hosts=2)\n"
            "print(links.process.pid, flush=True); time.sleep(60)")
    parent = subprocess.Popen([sys.executable, "-c", code, str(pathlib.Path(__file__).parent),
                               linkem], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + WAIT_S
    state = "R"
    while state not in "ZX" and time.monotonic() < end:
        try:
            state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            state = "X"
        time.sleep(0.01)
    check(state in "ZX", "linkem outlived who started it")


def check_sentences(check, linkem):
    """What is wrong is said, and is no crash."""
    for words, needle in ((["--hosts", "1"], "2 to 64"), (["--hosts"], "usage"),
                          (["--hsots", "3"], "no such option"), (["--queue-ms", "x"], "number")):
        done = subprocess.run([linkem, *words], capture_output=True, text=True, timeout=WAIT_S,
                              stdin=subprocess.DEVNULL)
        check(done.returncode > 0 and needle in done.stderr, f"{words}: {done.stderr}")
    drop = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"] if os.getuid() == 0 else []
    done = subprocess.run([*drop, linkem], capture_output=True, text=True, timeout=WAIT_S,
                          stdin=subprocess.DEVNULL)
    check(done.returncode in (0, 1) and (done.returncode == 0 or "linkem: " in done.stderr),
          f"without rights: {done.returncode} {done.stderr}")


def main():
    linkem = sys.argv[1]
    check, skipped = Checks(), 0
    check_sentences(check, linkem)
    try:
        check_links(check, linkem)
        check_orphan(check, linkem)
    except NoLinks as why:
        print(f"SKIP emulated links: {why}")
        skipped = 1
    print(f"links: {check.passed} passed, {check.failed} failed"
          + (f", {skipped} skipped" if skipped else ""))
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())
