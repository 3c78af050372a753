#!/usr/bin/env python3
"""Tests doppler cache and doppler tracker as a user meets them: cli_cache_test.py PROGRAM MODEL"""
import json
import subprocess
import sys
import urllib.parse
import urllib.request

from cli_testing import Checks, Cli, TIMEOUT_S, interrupt

INFO = "00112233445566778899aabbccddeeff00112233"


def test_empty_cache(cli, check):
    folder = cli.folder / "cache/doppler/models"
    done = cli.run("cache")
    check(done.code == 0 and done.out == f"0 B of 0 models in {folder}\n", f"{done}")
    got = json.loads(cli.run("cache", "ls", "--json").out)
    check(got == {"folder": str(folder), "files": []}, f"{got}")
    done = cli.run("cache", "verify", "--cache-dir", "/no/such/folder")
    check(done.code == 0 and "0 models in /no/such/folder" in done.out, f"{done}")
    done = cli.run("cache", "evict", "1GiB")
    check(done.code == 0 and done.out == "0 B freed\n", f"{done}")


def test_cache_refusals(cli, check):
    for words, code, says in [(["rm"], 2, "rm takes which model"),
                              (["rm", "abcdef"], 3, 'holds nothing called "abcdef"'),
                              (["evict"], 2, "evict takes how much"),
                              (["evict", "much"], 2, 'not "much"'),
                              (["evict", "1GiB", "abcdef"], 3, "holds nothing"),
                              (["ls", "a", "b"], 2, '"b" is one argument too many'),
                              (["list"], 2, 'not "list"')]:
        done = cli.run("cache", *words)
        check(done.code == code and says in done.err and not done.out, f"{words}: {done}")


def announce(address, port):
    query = urllib.parse.urlencode({"port": port, "left": 1})
    info = urllib.parse.quote_from_bytes(bytes.fromhex(INFO))
    with urllib.request.urlopen(f"{address}?info_hash={info}&{query}", timeout=TIMEOUT_S) as reply:
        return reply.read()


def test_tracker(cli, check):
    for words, is_tracked in [([], True), (["--torrent", INFO], True), (["--torrent", "ab" * 20], False)]:
        process = cli.start("tracker", "--listen", "127.0.0.1:0", *words, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)
        address = process.stdout.readline().decode().strip()
        check(address.startswith("http://127.0.0.1:") and address.endswith("/announce"), address)
        first, second = announce(address, 7001), announce(address, 7002)
        check((b"peers" in first and bytes([127, 0, 0, 1, 7001 >> 8, 7001 & 255]) in second)
              == is_tracked, f"{words}: {second}")
        interrupt(process)
        check(process.wait(TIMEOUT_S) == 0 and process.stderr.read() == b"", "its end")
    for words, code, says in [(["--torrent", "/no/such"], 3, "/no/such"),
                              (["--listen", "nowhere"], 2, "nowhere"),
                              (["--interval", "x"], 2, "--interval takes")]:
        done = cli.run("tracker", *words)
        check(done.code == code and says in done.err, f"{words}: {done}")


def main():
    checks = Checks()
    checks.run([test_empty_cache, test_cache_refusals, test_tracker], Cli(sys.argv[1], sys.argv[2]))
    return checks.report("cli-cache")


sys.exit(main())
