#!/usr/bin/python3
"""A mixture of 2.1 GB from three peers that hold it together, none of them alone.

Each giver is a process that shares a file with holes: the header and half of the pieces, at
random, every piece somewhere. The first giver's file is damaged, too, where others are not. The
model is mounted with a quarter of it in memory and a quarter of it on disk.

  1. Logits are those of a run from the file, with an empty cache and with what the first run left.
  2. What leaves the cache is announced: somebody who asks the mount meanwhile never sees more
     pieces than fit; what left is fetched again, for more comes than the model has.
  3. A short text needs less than a quarter of the model: the second time it runs from the cache,
     with every giver gone.
  4. The mount's own memory stays within --ram and 2 % of it, or 32 MiB.

Needs 7 GB below the folder, which are removed afterwards.

usage: swarm_soak.py DOPPLER MKMODEL FOLDER
"""
import array
import filecmp
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

GIVERS = 3
SEED = 20
QUARTER = 530_000_000
RAM = 600_000_000
OVER = max(RAM // 50, 32 << 20)
LONG = " ".join(str(i) for i in range(1, 49))
SHORT = "7 8"
DAMAGED = 20  # pieces of the first giver
HEADER = 4 << 20  # is with everybody: what is shared has to be a model
ALLOWED_S = 900


def give_up(text):
    sys.exit(f"swarm_soak: {text}")


class Run:
    """`doppler logits`: how long it took, what it said, the most memory it had."""

    def __init__(self, doppler, out, model, tokens, *options):
        start = time.monotonic()
        child = subprocess.Popen(
            [doppler, "logits", "--tokens", "-", "--ram", str(RAM), "-c", "64", "--heat", "off",
             "-o", out, *options, model],
            stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        late = threading.Timer(ALLOWED_S, child.kill)
        late.start()
        child.stdin.write(tokens)
        child.stdin.close()
        said = child.stderr.read()
        _, status, used = os.wait4(child.pid, 0)
        late.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            give_up(f"{model}: ended with {child.returncode}: {said}")
        self.seconds = time.monotonic() - start
        self.peak = used.ru_maxrss * 1024
        self.said = said
        found = re.search(r"([0-9.]+) (B|KiB|MiB|GiB) from peers", said)
        self.fetched = (float(found[1]) * 1024 ** ["B", "KiB", "MiB", "GiB"].index(found[2])
                        if found else 0)
        print(f"{os.path.basename(model)}, {len(tokens.split())} tokens: {self.seconds:.1f} s, "
              f"{self.peak / 2**20:.0f} MiB at most; {said.splitlines()[-1]}",
              flush=True)


class Watch(threading.Thread):
    """Connects to a mount again and again: how many pieces it says it has."""

    def __init__(self, doppler, torrent, at):
        super().__init__()
        self.command = [doppler, "peers", torrent, "--json", "--for", "1", "--disk", "0",
                        "--peer", at]
        self.seen = []
        self.over = threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.3):
            done = subprocess.run(self.command, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, text=True, check=False)
            if done.returncode:
                continue  # it is not there yet, or no more
            peers = json.loads(done.stdout)["peers"]
            self.seen += [peer["pieces"] for peer in peers if peer["kind"] == "bittorrent"]

    def end(self):
        self.over.set()
        self.join()
        return self.seen


def piece_size_of(torrent):
    with open(torrent, "rb") as file:
        return int(re.search(rb"12:piece lengthi(\d+)e", file.read())[1])


def spread(model, piece_size, folder):
    """Files with holes; how many pieces each has."""
    draw = random.Random(SEED)
    size = os.path.getsize(model)
    paths = [f"{folder}/part{i}.gguf" for i in range(GIVERS)]
    outs = [open(path, "wb") for path in paths]
    counts, shared = [0] * GIVERS, []
    with open(model, "rb") as file:
        for at in range(0, size, piece_size):
            bytes_ = file.read(piece_size)
            holders = draw.randrange(1, 2**GIVERS - 1)  # somebody, not everybody
            if at < HEADER:
                holders = 2**GIVERS - 1
            for i, out in enumerate(outs):
                if holders >> i & 1:
                    out.seek(at)
                    out.write(bytes_)
                    counts[i] += 1
            if at >= HEADER and holders & 1 and holders != 1:
                shared.append(at)
    for at in draw.sample(shared, DAMAGED):
        outs[0].seek(at + 12345)
        outs[0].write(b"damage")
    for out in outs:
        out.truncate(size)
        out.close()
    return paths, counts


def share(doppler, folder, path):
    """A process that gives what the file has, and where peers find it."""
    child = subprocess.Popen(
        [doppler, "share", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
         "--disk", "0", "--torrent", f"{folder}/m.torrent", path],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = ""
    for line in child.stderr:
        found = re.search(r"peers at ([0-9.:]+)", line)
        if found:
            return child, found.group(1)
        said += line
    give_up(f"a giver ended: {said}")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def check_same(folder, out, expected):
    if not filecmp.cmp(f"{folder}/{expected}", out, shallow=False):
        a, b = array.array("f"), array.array("f")
        for name, values in ((f"{folder}/{expected}", a), (out, b)):
            with open(name, "rb") as file:
                values.frombytes(file.read())
        give_up(f"{sum(x != y for x, y in zip(a, b))} logits of {len(a)} differ from {expected}")


def check_run(folder, out, run, expected, cache):
    check_same(folder, out, expected)
    if run.peak > RAM + OVER:
        give_up(f"{run.peak} bytes of memory, {RAM} and {OVER} were allowed")
    kept = sum(os.stat(os.path.join(at, name)).st_blocks * 512
               for at, _, names in os.walk(cache) for name in names)
    if kept > QUARTER:
        give_up(f"the cache has {kept} bytes, at most {QUARTER} were allowed")


def soak(doppler, mkmodel, folder):
    model, torrent, out = f"{folder}/m.gguf", f"{folder}/m.torrent", f"{folder}/swarm.f32"
    disk = ["--disk", str(QUARTER), "--cache-dir"]
    large, small = f"{folder}/large", f"{folder}/small"
    subprocess.run([mkmodel, "--preset", "qwen3-30b-a3b", "--layers", "6", "--type", "Q4_0",
                    "--vocab", "4096", "-o", model], check=True)
    subprocess.run([doppler, "share", "--no-serve", "--torrent", torrent, model], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    Run(doppler, f"{folder}/long.f32", model, LONG)
    Run(doppler, f"{folder}/short.f32", model, SHORT)
    piece_size = piece_size_of(torrent)
    paths, counts = spread(model, piece_size, folder)
    size = os.path.getsize(model)
    os.remove(model)
    print(f"{size} bytes in pieces of {piece_size}, the givers have {counts} of "
          f"{-(-size // piece_size)}; {DAMAGED} of the first are damaged", flush=True)

    givers, seen = [], []
    try:
        for path in paths:
            givers.append(share(doppler, folder, path))
        peers = [word for _, at in givers for word in ("--peer", at)]
        fetched = 0
        for _ in range(2):
            at = f"127.0.0.1:{free_port()}"
            watch = Watch(doppler, torrent, at)
            try:
                run = Run(doppler, out, torrent, LONG, *disk, large, *peers, "--share", "--listen", at,
                          "--http-listen", "off")
            finally:
                seen += watch.end()
            check_run(folder, out, run, "long.f32", large)
            fetched += run.fetched
        most = max(seen, default=0) * piece_size
        print(f"the mount said {len(seen)} times what it has, {most} bytes at most; {fetched:.0f} "
              f"were fetched")
        if not 0 < most <= QUARTER + piece_size:
            give_up("what left was not announced, or nobody saw the mount")
        if fetched <= size:
            give_up("nothing was fetched again")
        run = Run(doppler, out, torrent, SHORT, *disk, small, *peers)
        check_run(folder, out, run, "short.f32", small)
    finally:
        for child, _ in givers:
            child.terminate()
            child.wait(60)
    run = Run(doppler, out, torrent, SHORT, *disk, small)
    check_run(folder, out, run, "short.f32", small)
    if run.fetched:
        give_up("somebody gave, but nobody was there")


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    folder = tempfile.mkdtemp(prefix="swarm_soak.", dir=sys.argv[3])
    try:
        soak(sys.argv[1], sys.argv[2], folder)
    finally:
        shutil.rmtree(folder)
    print("swarm_soak: the same logits")


main()
