#!/usr/bin/env python3
"""Tests doppler doctor as a user meets it: cli_doctor_test.py PROGRAM MODEL"""
import json
import os
import sys

from cli_testing import Checks, Cli

# Stable (docs/doctor.md).
TOP = {"id", "kernel", "cpu", "memory", "devices", "drives"}
CPU = {"name", "kernels", "kernels_limit", "package_count", "core_count", "thread_count", "has_smt",
       "affinity_count", "quota_count", "usable_count", "l1_bytes", "l2_bytes", "l3_bytes",
       "l1_count", "l2_count", "l3_count"}
MEMORY = {"total_bytes", "available_bytes", "room_bytes", "cgroup_limit_bytes",
          "cgroup_used_bytes", "swap_bytes", "swap_free_bytes", "overcommit", "has_pressure",
          "huge_pages", "bandwidth_bytes_s", "bandwidth_threads", "nodes"}
DEVICES = {"memory_model", "has_vulkan", "evidence", "gpus"}
DRIVE = {"path", "mount", "source", "fs", "device", "model", "layers", "is_network", "is_memory",
         "is_layer", "is_encrypted", "is_rotational", "device_count", "size_bytes", "free_bytes",
         "read_ahead_bytes", "has_direct", "direct_offset_align", "direct_memory_align"}


def test_text(cli, check):
    done = cli.run("doctor", cli.folder)
    check(done.code == 0 and not done.err, f"{done}")
    for part in ("processor  ", "kernels  ", "memory  ", "bandwidth  ", "memory model  ",
                 f"\n{cli.folder}\n", "lies on", "reads"):
        check(part in done.out, f"{part!r} is not in {done.out!r}")


def test_json(cli, check):
    done = cli.run("doctor", "--json", cli.folder, cli.model)
    check(done.code == 0 and not done.err, f"{done}")
    got = json.loads(done.out)
    for keys, found, what in [(TOP, got, "report"), (CPU, got["cpu"], "cpu"),
                              (MEMORY, got["memory"], "memory"),
                              (DEVICES, got["devices"], "devices"),
                              (DRIVE, got["drives"][0], "drive")]:
        check(keys <= set(found), f"{what} lacks {keys - set(found)}")
    check(got["cpu"]["usable_count"] <= len(os.sched_getaffinity(0)), f"{got['cpu']}")
    check(got["memory"]["bandwidth_bytes_s"] > 1e8, f"{got['memory']}")
    check([d["path"] for d in got["drives"]] == [str(cli.folder), cli.model], f"{got['drives']}")
    check(got["devices"]["evidence"], "a verdict without evidence")


def test_refusals(cli, check):
    for words, code, says in [(["/no/such/path"], 3, "/no/such/path"),
                              (["a", "b", "c", "d", "e"], 2, '"e" is one argument too many')]:
        done = cli.run("doctor", *words)
        check(done.code == code and says in done.err and not done.out, f"{words}: {done}")


def main():
    checks = Checks()
    checks.run([test_text, test_json, test_refusals], Cli(sys.argv[1], sys.argv[2]))
    return checks.report("cli-doctor")


sys.exit(main())
