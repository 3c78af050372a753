#!/usr/bin/env python3
"""Tests models from URLs, torrents and peers as a user meets them:
cli_swarm_test.py PROGRAM MODEL MKMODEL

Everything is on 127.0.0.1. nginx is the web server that gives ranges, http.server the one
that gives none.
"""
import contextlib
import functools
import http.server
import json
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

from cli_testing import Checks, Cli, TIMEOUT_S, interrupt

STORY = ["-p", "Once upon a time", "-n", "24", "--temp", "0", "-q", "--heat", "off"]
QUIET_NODE = ["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def nginx(cli, folder):
    """A web server as people run one; gives its address."""
    port, home = free_port(), cli.folder / "nginx"
    home.mkdir(exist_ok=True)
    config = home / "nginx.conf"
    config.write_text(f"""daemon off; master_process off; worker_processes 1; pid {home}/pid;
error_log {home}/error.log; events {{ worker_connections 256; }}
http {{ access_log {home}/access.log; client_body_temp_path {home}; proxy_temp_path {home};
fastcgi_temp_path {home}; uwsgi_temp_path {home}; scgi_temp_path {home};
server {{ listen 127.0.0.1:{port}; root {folder}; }} }}
""")
    process = subprocess.Popen([NGINX, "-p", str(home), "-c", str(config)],
                               stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(TIMEOUT_S)


@contextlib.contextmanager
def plain_server(folder):
    """A server that knows nothing of ranges."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    http.server.SimpleHTTPRequestHandler.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None  # a client that has seen enough
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def sharing(cli, model, *words):
    """doppler share; gives its peer address, its HTTP address and its magnet link."""
    process = cli.start("share", model, *QUIET_NODE, "--disk", "0", *words, stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE, text=True)
    killer = threading.Timer(TIMEOUT_S, process.kill)
    killer.start()
    try:
        magnet, line = process.stdout.readline().strip(), ""
        while "sharing" not in line:
            line = process.stderr.readline()
            if not line:
                raise EOFError(f"share ended: {process.wait()}")
        torrent, ranges = re.search(r"peers at (\S+), ranges at (\S+)", line).groups()
        yield torrent, ranges, magnet
    finally:
        killer.cancel()
        if process.poll() is None:
            interrupt(process)
        process.wait(TIMEOUT_S)


def fresh(cli, name):
    """A cache of its own."""
    return ["--cache-dir", cli.folder / "caches" / name]


def test_names(cli, check):
    """What cannot be: each with one sentence and a code."""
    for words, code, says in [
            (["run", "http://127.0.0.1:9/m.gguf", *STORY, *fresh(cli, "none")], (1, 7), "127.0.0.1"),
            (["run", cli.folder / "no.torrent", *STORY], (3,), "no.torrent"),
            (["run", "magnet:?xt=urn:nothing", *STORY], (2, 4, 5), ""),
            (["tokenize", "http://127.0.0.1:9/x", "-p", "x", "--disk", "lots"], (2,), "--disk"),
            (["peers", cli.model], (2,), "is a file"),
            (["share", "/no/such.gguf"], (3,), "/no/such.gguf"),
            (["verify", cli.model, "/no/such.torrent"], (3,), "/no/such.torrent")]:
        done = cli.run(*words)
        check(done.code in code and says in done.err and done.err.startswith("doppler: "),
              f"{words}: {done}")


def test_url(cli, check):
    folder = pathlib.Path(cli.model).parent
    name = pathlib.Path(cli.model).name
    want = cli.run("run", cli.model, *STORY).out
    with nginx(cli, folder) as address:
        url, cache = f"{address}/{name}", fresh(cli, "url")
        for ram in ["4MiB", "64MiB"]:
            for disk in ["0", "auto"]:
                done = cli.run("run", url, *STORY, "--ram", ram, "--disk", disk, *cache)
                check(done.code == 0 and done.out == want and done.err == "",
                      f"{ram}, disk {disk}: {done}")
        told = cli.run("run", url, "-p", "x", "-n", "1", *cache)
        check("checked by size and ETag only" in told.err, f"{told}")

        first = json.loads(cli.run("run", url, *STORY, "--json", *fresh(cli, "json")).out)
        again = json.loads(cli.run("run", url, *STORY, "--json", *fresh(cli, "json")).out)
        check(first["text"] == again["text"] and first["swarm_read_bytes"] > 2 << 20, f"{first}")
        check(again["swarm_read_bytes"] < first["swarm_read_bytes"] / 10 and
              again["swarm"]["cache_read_bytes"] > 0, f"the cache is not used: {again}")
        for words in [["inspect", "--json", "--ram", "8MiB", "--heat", "off"],
                      ["tokenize", "-p", "Once upon a time"],
                      ["logits", "--tokens", cli.file("ids", "1 5 9"), "-o", cli.folder / "out", "-q"]]:
            outs = []
            for model in [cli.model, url]:
                done = cli.run(words[0], model, *words[1:], *cache)
                check(done.code == 0, f"{words[0]}: {done}")
                if words[0] == "inspect":
                    got = json.loads(done.out)
                    outs.append((got["tensor_bytes"], got["pages"]))
                else:
                    outs.append(done.out if words[0] != "logits" else (cli.folder / "out").read_bytes())
            check(outs[0] == outs[1], f"{words[0]}: another answer")
        plan = cli.run("plan", url, "--ram", "8MiB", *cache)
        check(plan.code == 0 and "peers  " in plan.out, f"{plan}")
        missing = cli.run("run", f"{address}/none.gguf", *STORY, *cache)
        check(missing.code == 3 and "none.gguf" in missing.err, f"{missing}")


def test_cache(cli, check):
    folder = pathlib.Path(cli.model).parent
    cache = fresh(cli, "kept")
    with nginx(cli, folder) as address:
        url = f"{address}/{pathlib.Path(cli.model).name}"
        want = cli.run("run", url, *STORY, *cache).out
        files = json.loads(cli.run("cache", "--json", *cache).out)["files"]
        check(len(files) == 1 and files[0]["origin"] == url and files[0]["present"] > 0 and
              files[0]["file_bytes"] == pathlib.Path(cli.model).stat().st_size, f"{files}")
        listed = cli.run("cache", *cache)
        check(files[0]["key"][:12] in listed.out and url in listed.out, f"{listed}")
        check(cli.run("cache", "verify", *cache).code == 0, "nothing is wrong yet")
        mirror = cache[1] / files[0]["key"] / files[0]["name"]
        with open(mirror, "r+b") as file:  # rot in the header, which is always there
            file.seek(1000)
            byte = file.read(1)[0]
            file.seek(1000)
            file.write(bytes([byte ^ 1]))
        done = cli.run("cache", "verify", url, *cache)
        check(done.code == 1 and "1 pieces were bad" in done.out, f"{done}")
        check(cli.run("run", url, *STORY, *cache).out == want, "the piece did not come again")
        check(cli.run("cache", "verify", *cache).code == 0, "nothing is wrong any more")
        done = cli.run("cache", "evict", "1MiB", files[0]["name"], *cache)
        check(done.code == 0 and "freed" in done.out, f"{done}")
        check(cli.run("run", url, *STORY, *cache).out == want, "after evicting")
        done = cli.run("cache", "rm", files[0]["key"][:8], *cache)
        check(done.code == 0 and not mirror.exists(), f"{done}")


def test_no_ranges(cli, check):
    with plain_server(pathlib.Path(cli.model).parent) as address:
        done = cli.run("run", f"{address}/{pathlib.Path(cli.model).name}", *STORY,
                       *fresh(cli, "plain"))
        check(done.code == 5 and "range" in done.err, f"{done}")


def test_publish(cli, check):
    model = cli.folder / "published.gguf"
    shutil.copy(cli.model, model)
    done = cli.run("share", model, "--no-serve", "--tracker", "http://127.0.0.1:1/announce",
                   "--web-seed", "http://127.0.0.1:1/published.gguf")
    torrent = cli.folder / "published.gguf.torrent"
    check(done.code == 0 and torrent.exists() and f"wrote {torrent}" in done.err, f"{done}")
    check(re.fullmatch(r"magnet:\?xt=urn:btmh:1220[0-9a-f]{64}&xt=urn:btih:[0-9a-f]{40}"
                       r"&dn=published\.gguf&tr=http%3A%2F%2F127\.0\.0\.1%3A1%2Fannounce"
                       r"&ws=http%3A%2F%2F\S+\n", done.out), f"{done}")
    again = cli.run("share", model, "--no-serve")
    check(again.code == 0 and again.out == done.out and again.err == "", f"{again}")
    other = cli.run("share", model, "--no-serve", "--v2-only")
    check(other.code == 2 and "is there already" in other.err, f"{other}")
    check(cli.run("share", model, "--no-serve", "--v2-only", "--torrent", cli.folder / "v2.torrent",
                  "--piece-size", "64KiB").code == 0, "v2 only")

    done = cli.run("verify", model, torrent)
    check(done.code == 0 and done.out.startswith("ok: "), f"{done}")
    with open(model, "r+b") as file:
        file.seek(3000000)
        byte = file.read(1)[0]
        file.seek(3000000)
        file.write(bytes([byte ^ 1]))
    done = cli.run("verify", model, torrent)
    check(done.code == 1 and "1 of" in done.out and "published.gguf" in done.out, f"{done}")
    got = json.loads(cli.run("verify", model, cli.folder / "v2.torrent", "--json").out)
    check(not got["is_ok"] and got["bad_pieces"] == 1 and
          got["first_bad"] == {"file": "published.gguf", "offset": 3000000 // 65536 * 65536}, f"{got}")


def test_split(cli, check):
    """A split model by its .torrent, from a web seed."""
    folder = cli.folder / "web" / "tiny"
    folder.mkdir(parents=True)
    subprocess.run([sys.argv[3], "--preset", "mixtral-tiny", "--split", "3", "-o",
                    folder / "tiny-00001-of-00003.gguf"], check=True, stdout=subprocess.DEVNULL)
    part, torrent = folder / "tiny-00002-of-00003.gguf", cli.folder / "tiny.torrent"
    words = ["-p", "x y z", "-n", "12", "--temp", "0", "-q", "--heat", "off"]
    with nginx(cli, cli.folder / "web") as address:
        done = cli.run("share", part, "--no-serve", "--torrent", torrent, "--web-seed", f"{address}/")
        check(done.code == 0, f"{done}")
        check(cli.run("verify", folder, torrent).code == 0, "its folder")
        want = cli.run("run", part, *words)
        done = cli.run("run", torrent, *words, *fresh(cli, "stranger"), "--swarm-wait", "1")
        check(done.code == 1 and "nobody gave it" in done.err,
              f"a .torrent makes us talk to what is beside us: {done}")
        got = cli.run("run", torrent, *words, *fresh(cli, "split"), "--ram", "20MiB", "--peer",
                      address.replace("http://", ""))
        check(want.code == 0 and got.code == 0 and got.out == want.out, f"{want} {got}")


def test_node_to_node(cli, check):
    model = cli.folder / "node.gguf"
    shutil.copy(cli.model, model)
    want = cli.run("run", cli.model, *STORY).out
    torrent = cli.folder / "node.gguf.torrent"
    with sharing(cli, model) as (peer, ranges, magnet):
        done = cli.run("run", torrent, *STORY, "--peer", peer, "--json", *fresh(cli, "node"))
        got = json.loads(done.out) if done.code == 0 else {}
        check(done.code == 0 and got["text"] == want.rstrip("\n"), f"{done}")
        check(got.get("swarm", {}).get("check", "").startswith("sha-256"), f"{got.get('swarm')}")
        done = cli.run("run", magnet, *STORY, "--peer", peer, "--ram", "4MiB", *fresh(cli, "magnet"))
        check(done.code == 0 and done.out == want, f"by magnet: {done}")
        done = cli.run("peers", torrent, "--peer", peer, "--json", "--for", "3", "-q",
                       *fresh(cli, "peers"))
        got = json.loads(done.out) if done.code == 0 else {"peers": [], "holders": []}
        check(len(got["peers"]) >= 1 and any(p["kind"] == "doppler" for p in got["peers"]), f"{done}")
        check(len(got["holders"]) == 7 and all(len(row) == 32 and min(row) >= 1
                                               for row in got["holders"]), f"{got['holders']}")
        with contextlib.suppress(urllib.error.HTTPError):  # 404: no list of what there is
            urllib.request.urlopen(f"http://{ranges}/", timeout=TIMEOUT_S)
            check(False, "the range server shows what there is")


def test_tracker_finds_peers(cli, check):
    model = cli.folder / "tracked.gguf"
    shutil.copy(cli.model, model)
    want = cli.run("run", cli.model, *STORY).out
    tracker = cli.start("tracker", "--listen", "127.0.0.1:0", stdout=subprocess.PIPE, text=True)
    try:
        url = tracker.stdout.readline().strip()
        with sharing(cli, model, "--tracker", url):
            done = cli.run("run", cli.folder / "tracked.gguf.torrent", *STORY, "--share", *QUIET_NODE,
                           *fresh(cli, "tracked"))
            check(done.code == 0 and done.out == want, f"{done}")
    finally:
        interrupt(tracker)
        tracker.wait(TIMEOUT_S)


def test_adapter_from_url(cli, check):
    from cli_lora_test import ATTENTION, adapter
    a = cli.file("web-a.gguf", adapter(ATTENTION))
    want = cli.run("run", cli.model, *STORY, "--lora", f"{a}=4")
    with nginx(cli, cli.folder) as address:
        got = cli.run("run", cli.model, *STORY, "--lora", f"{address}/web-a.gguf=4", *fresh(cli, "lora"))
    check(want.code == 0 and got.code == 0 and got.out == want.out, f"{want} {got}")


def test_interrupt(cli, check):
    """Ctrl-C while nobody answers ends it."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        process = cli.start("run", f"http://127.0.0.1:{silent.getsockname()[1]}/m.gguf", *STORY,
                            *fresh(cli, "silent"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        silent.settimeout(TIMEOUT_S)
        connection, _ = silent.accept()
        process.send_signal(signal.SIGINT)
        check(process.wait(TIMEOUT_S) == 130, f"ended with {process.returncode}")
        connection.close()


def main():
    checks = Checks()
    cli = Cli(sys.argv[1], sys.argv[2])
    tests = [test_names, test_no_ranges, test_publish, test_node_to_node, test_tracker_finds_peers,
             test_interrupt]
    if NGINX:
        tests += [test_url, test_cache, test_split, test_adapter_from_url]
    else:
        print("SKIP models from a web server: nginx is not installed")
    checks.run(tests, cli)
    return checks.report("cli-swarm")


if __name__ == "__main__":
    sys.exit(main())
