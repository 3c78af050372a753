#!/usr/bin/env python3
"""doppler beside llama.cpp: the same file, prompt, tokens, threads and memory limit.

usage: peers.py MODEL [--limit BYTES] [--pairs N] [--new N] [--ctx N] [--threads N]
                      [--prompt TEXT] [--lazy] [--readahead KB] [--doppler PATH] [-- OPTION ...]

Runs the engines in turns. Before each first run ("cold") the model's pages are dropped from the
page cache, the second ("warm") finds what the first left. With --limit both run in a memory cgroup
(v1 or v2) of that many bytes; llama.cpp's has as much more as Node itself takes. --readahead sets
the drive's for the time being, where that is allowed. Options behind -- go to doppler.

Prints one JSON object: every sample, medians, ratios. README.md says what to mind.
"""
import argparse
import ctypes
import json
import mmap
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
PROMPT = "Once upon a time there was a cat that sat on a mat and looked at the rain."
TIMEOUT_S = 1800


# ---- the page cache and the drive ----

def cached_bytes(path):
    """How much of a file is in the page cache."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
    size = os.path.getsize(path)
    pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    with open(path, "rb") as file:
        at = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
        failed = libc.mincore(ctypes.c_void_p(at), ctypes.c_size_t(size), pages)
        libc.munmap(ctypes.c_void_p(at), ctypes.c_size_t(size))
    return None if failed else sum(p & 1 for p in bytes(pages)) * mmap.PAGESIZE


def drop(path):
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def readahead_file(path):
    device = os.stat(path).st_dev
    block = pathlib.Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    for folder in (block, block.parent):  # a partition's drive has the queue
        if (folder / "queue/read_ahead_kb").exists():
            return folder / "queue/read_ahead_kb"
    return None


class Readahead:
    """The drive's readahead, another one for a while."""

    def __init__(self, model, wanted):
        self.file, self.wanted, self.before = readahead_file(model), wanted, None

    def __enter__(self):
        if self.file:
            self.before = self.file.read_text().strip()
        if self.wanted is not None:
            if not self.file:
                sys.exit("peers: the drive's readahead is not to be found")
            self.file.write_text(str(self.wanted))
        return self.file.read_text().strip() if self.file else None

    def __exit__(self, *_):
        if self.wanted is not None:
            self.file.write_text(self.before)


# ---- cgroups ----

class Group:
    """A memory cgroup with a limit, below the first place that allows one."""

    def __init__(self, limit):
        mounts = [line.split() for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
        for mount in mounts:
            is_v1 = mount[2] == "cgroup" and "memory" in mount[3].split(",")
            if not is_v1 and mount[2] != "cgroup2":
                continue
            path = pathlib.Path(mount[1]) / f"doppler-peers-{os.getpid()}-{limit}"
            name = "memory.limit_in_bytes" if is_v1 else "memory.max"
            try:
                path.mkdir()
            except OSError:
                continue
            if (path / name).exists():
                (path / name).write_text(str(limit))
                self.path = path
                self.peak_name = "memory.max_usage_in_bytes" if is_v1 else "memory.peak"
                return
            path.rmdir()
        sys.exit("peers: no memory cgroup can be made here")

    def enter(self):
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def peak(self):
        file = self.path / self.peak_name
        return int(file.read_text()) if file.exists() else None

    def close(self):
        self.path.rmdir()


# ---- runs ----

def run(command, group):
    """The program's JSON line and what the system says of it."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryFile("w+") as errors:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                              stderr=errors, preexec_fn=group.enter if group else None,
                              timeout=TIMEOUT_S, check=False)
        errors.seek(0)
        said = errors.read().strip()[-300:]
    if done.returncode:
        return {"failed": f"exit status {done.returncode}: {said}"}
    report = json.loads(done.stdout.splitlines()[-1])
    keys = ("prompt_tokens", "new_tokens", "prefill_tok_s", "decode_tok_s", "peak_bytes",
            "anon_bytes", "load_ms", "disk_read_bytes", "release", "kernels")
    sample = {key: report[key] for key in keys if key in report}
    sample["machine_load"] = round(load, 1)
    sample["group_peak_bytes"] = group.peak() if group else None
    return sample


def commands(args, prompt_file):
    doppler = [args.doppler, "run", args.model, "--file", prompt_file, "-n", str(args.new),
               "--ctx", str(args.ctx), "--threads", str(args.threads), "--temp", "0",
               "--ignore-eos", "--json", "--quiet", "--heat", "off", "--speculate", "off",
               *args.options]
    peer = ["node", str(HERE / "peer.mjs"), args.model, prompt_file, str(args.new), str(args.ctx),
            str(args.threads), *(["lazy"] if args.lazy else [])]
    return {"doppler": doppler, "llama.cpp": peer}


def node_bytes():
    """Memory of its own that Node with the library takes, without a model."""
    done = subprocess.run(["node", str(HERE / "peer.mjs")], capture_output=True, text=True,
                          check=True)
    return json.loads(done.stdout.splitlines()[-1])["anon_bytes"]


def measure(args):
    samples = {name: {"cold": [], "warm": []} for name in ("doppler", "llama.cpp")}
    extra = node_bytes() if args.limit else 0
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as prompt:
        prompt.write(args.prompt)
        prompt.flush()
        for pair in range(args.pairs):
            for name in sorted(samples, reverse=pair % 2 == 1):
                limit = args.limit and args.limit + (extra if name != "doppler" else 0)
                drop(args.model)
                group = Group(limit) if limit else None
                try:
                    for state in ("cold", "warm"):
                        before = cached_bytes(args.model)
                        sample = run(commands(args, prompt.name)[name], group)
                        samples[name][state].append({"cached_before_bytes": before, **sample})
                        print(name, state, json.dumps(sample), file=sys.stderr)
                finally:
                    drop(args.model)
                    if group:
                        group.close()
    return samples, extra


def median(samples, key):
    values = [s[key] for s in samples if key in s]
    return statistics.median(values) if values else None


def summary(samples):
    out = {}
    for state in ("cold", "warm"):
        for key in ("prefill_tok_s", "decode_tok_s", "peak_bytes"):
            ours, theirs = (median(samples[n][state], key) for n in ("doppler", "llama.cpp"))
            out[f"{state}_{key}"] = {"doppler": ours, "llama.cpp": theirs,
                                     "ratio": ours / theirs if ours and theirs else None}
    return out


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("model")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--new", type=int, default=32)
    parser.add_argument("--ctx", type=int, default=512)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--lazy", action="store_true")
    parser.add_argument("--readahead", type=int)
    parser.add_argument("--doppler", default=str(HERE.parents[1] / "build/doppler"))
    parser.add_argument("options", nargs="*")
    args = parser.parse_args()
    with Readahead(args.model, args.readahead) as readahead:
        samples, extra = measure(args)
    print(json.dumps({
        "model": args.model, "model_bytes": os.path.getsize(args.model), "limit_bytes": args.limit,
        "node_extra_bytes": extra, "readahead_kb": readahead, "threads": args.threads,
        "new_tokens": args.new, "machine": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)), "median": summary(samples), "samples": samples,
    }, indent=1))


main()
