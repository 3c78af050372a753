#!/usr/bin/python3
"""A mixture of 2.1 GB from two sharing processes, in memory and on disk for a quarter of it each.

Logits have to be those of a run from the file, twice: with an empty cache and with the one that
the first run left. Needs 5 GB below the folder, which are removed afterwards.

usage: swarm_soak.py DOPPLER MKMODEL FOLDER
"""
import filecmp
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

QUARTER = 530_000_000
TOKENS = " ".join(str(i) for i in range(1, 49))


def logits(doppler, out, model, *options):
    start = time.monotonic()
    done = subprocess.run(
        [doppler, "logits", "--tokens", "-", "--ram", "600MB", "-c", "64", "--heat", "off",
         "-o", out, *options, model],
        input=TOKENS, text=True, stderr=subprocess.PIPE, timeout=900)
    if done.returncode:
        sys.exit(f"swarm_soak: {model}: {done.stderr}")
    print(f"{model}: {time.monotonic() - start:.1f} s;{done.stderr.splitlines()[-1]}")


def share(doppler, folder, number):
    """A process that gives the model, and where peers find it."""
    child = subprocess.Popen(
        [doppler, "share", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
         "--cache-dir", f"{folder}/giver{number}", "--torrent", f"{folder}/m.torrent",
         f"{folder}/m.gguf"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for line in child.stderr:
        found = re.search(r"peers at ([0-9.:]+)", line)
        if found:
            return child, found.group(1)
    sys.exit("swarm_soak: a giver ended")


def soak(doppler, mkmodel, folder):
    model = f"{folder}/m.gguf"
    subprocess.run([mkmodel, "--preset", "qwen3-30b-a3b", "--layers", "6", "--type", "Q4_0",
                    "--vocab", "4096", "-o", model], check=True)
    logits(doppler, f"{folder}/file.f32", model)
    givers = []
    try:
        for number in range(2):
            givers.append(share(doppler, folder, number))
        peers = [word for _, at in givers for word in ("--peer", at)]
        for run in range(2):
            out = f"{folder}/swarm.f32"
            logits(doppler, out, f"{folder}/m.torrent", "--disk", str(QUARTER), "--cache-dir",
                   f"{folder}/cache", *peers)
            if not filecmp.cmp(f"{folder}/file.f32", out, shallow=False):
                sys.exit(f"swarm_soak: run {run}: logits differ from those of a run from the file")
            kept = sum(os.stat(os.path.join(at, name)).st_blocks * 512
                       for at, _, names in os.walk(f"{folder}/cache") for name in names)
            if kept > QUARTER:
                sys.exit(f"swarm_soak: the cache has {kept} bytes, at most {QUARTER} were allowed")
    finally:
        for child, _ in givers:
            child.terminate()
            child.wait(60)


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
