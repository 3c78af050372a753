#!/usr/bin/env python3
"""A client that others wrote, qbittorrent-nox, gives to our node and takes from it.

Usage: stock_client_test.py TORRENT_TOOL SCRATCH

Hybrid and v2-only torrents, both ways, on 127.0.0.1; every wait has an end.
"""
import hashlib
import http.client
import json
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

TOOL, SCRATCH = sys.argv[1], pathlib.Path(sys.argv[2])
WAIT_S = 60
SIZE = 5_000_000  # not a multiple of anything

CONFIG = """[LegalNotice]
Accepted=true

[BitTorrent]
Session\\DHTEnabled=false
Session\\LSDEnabled=false
Session\\PeXEnabled=false
Session\\Port={port}
Session\\Interface=lo
Session\\InterfaceName=lo
Session\\MultiConnectionsPerIp=true
Session\\Preallocation=false
Session\\QueueingSystemEnabled=false

[Network]
PortForwardingEnabled=false

[Preferences]
WebUI\\Enabled=true
WebUI\\Address=127.0.0.1
WebUI\\Port={web}
WebUI\\LocalHostAuth=false
WebUI\\UseUPnP=false
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait(what, ready):
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        value = ready()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {WAIT_S} s")


class Client:
    """qbittorrent-nox with a profile of its own, spoken to over its web API."""

    def __init__(self, folder):
        self.port, self.web = free_port(), free_port()
        config = folder / "profile/qBittorrent/config"
        config.mkdir(parents=True)
        (config / "qBittorrent.conf").write_text(CONFIG.format(port=self.port, web=self.web))
        self.log = open(folder / "client.log", "wb")
        self.process = subprocess.Popen(
            ["qbittorrent-nox", f"--profile={folder / 'profile'}", f"--webui-port={self.web}"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        wait("qbittorrent-nox answers", lambda: self.ask("GET", "/api/v2/app/version"))

    def ask(self, method, path, body=None, kind="application/x-www-form-urlencoded"):
        try:
            link = http.client.HTTPConnection("127.0.0.1", self.web, timeout=10)
            link.request(method, path, body, {"Content-Type": kind} if body else {})
            answer = link.getresponse()
            text = answer.read()
            return text if answer.status == 200 else None
        except OSError:
            return None
        finally:
            link.close()

    def add(self, torrent, folder, is_complete):
        fields = {"savepath": str(folder), "skip_checking": str(is_complete).lower(),
                  "paused": "false"}
        body = b"".join(f'--X\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode()
                        for k, v in fields.items())
        body += (b'--X\r\nContent-Disposition: form-data; name="torrents"; filename="x.torrent"\r\n'
                 b"Content-Type: application/x-bittorrent\r\n\r\n" + torrent.read_bytes()
                 + b"\r\n--X--\r\n")
        known = {t["hash"] for t in self.torrents()}
        assert self.ask("POST", "/api/v2/torrents/add", body, "multipart/form-data; boundary=X"), \
            "the client refuses the torrent"
        return wait("the torrent is listed", lambda: next(
            (t["hash"] for t in self.torrents() if t["hash"] not in known), None))

    def torrents(self):
        return json.loads(self.ask("GET", "/api/v2/torrents/info") or "[]")

    def torrent(self, name):
        return next(t for t in self.torrents() if t["hash"] == name)

    def add_peer(self, name, peer):
        return self.ask("POST", "/api/v2/torrents/addPeers",
                        urllib.parse.urlencode({"hashes": name, "peers": peer}))

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def make(folder, kind, seed):
    """A file of made-up bytes and its torrent."""
    folder.mkdir()
    path, torrent = folder / f"{kind}{seed}.gguf", folder / f"{kind}{seed}.torrent"
    path.write_bytes(random.Random(seed).randbytes(SIZE))
    subprocess.run([TOOL, "make", kind, str(path), str(torrent)], check=True)
    return path, torrent


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def takes_from_us(client, folder, kind):
    path, torrent = make(folder, kind, 1)
    seed = subprocess.Popen([TOOL, "seed", str(path), str(torrent)], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE)
    try:
        port = int(seed.stdout.readline())
        target = folder / "got"
        target.mkdir()
        name = client.add(torrent, target, False)
        client.add_peer(name, f"127.0.0.1:{port}")
        wait(f"the client has all of a {kind} torrent",
             lambda: client.torrent(name)["progress"] == 1)
        wait("its file is written", lambda: digest(target / path.name) == digest(path))
    finally:
        seed.stdin.close()
        seed.wait(20)
    assert seed.returncode == 0, f"torrent_tool seed: {seed.returncode}"


def gives_to_us(client, folder, kind):
    path, torrent = make(folder, kind, 2)
    name = client.add(torrent, folder, True)
    wait("the client seeds", lambda: client.torrent(name)["state"] in ("uploading", "stalledUP"))
    got = folder / "got.gguf"
    subprocess.run([TOOL, "get", str(torrent), f"127.0.0.1:{client.port}", str(got)], check=True,
                   stdout=subprocess.DEVNULL, timeout=WAIT_S + 30)
    assert digest(got) == digest(path), "other bytes"


def main():
    if not shutil.which("qbittorrent-nox"):
        print("SKIP stock client: qbittorrent-nox is not installed (scripts/setup)")
        print("stock_client: 0 passed, 0 failed, 4 skipped")
        return 0
    passed = failed = 0
    with tempfile.TemporaryDirectory(dir=SCRATCH) as name:
        folder = pathlib.Path(name)
        client = Client(folder)
        try:
            for case in (takes_from_us, gives_to_us):
                for kind in ("hybrid", "v2"):
                    try:
                        case(client, folder / f"{case.__name__}-{kind}", kind)
                        passed += 1
                    except (AssertionError, subprocess.SubprocessError, OSError) as problem:
                        print(f"FAILED {case.__name__} {kind}: {problem}")
                        failed += 1
        finally:
            client.close()
        if failed:
            print((folder / "client.log").read_text(errors="replace")[-2000:])
    print(f"stock_client: {passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
