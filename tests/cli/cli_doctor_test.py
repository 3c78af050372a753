#!/usr/bin/env python3
"""Tests doppler doctor as a user meets it: cli_doctor_test.py PROGRAM MODEL"""
import json
import os
import shutil
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


PROBE = {"machine", "kernel", "device", "fs", "version", "is_quick", "is_saved", "skipped",
         "file_bytes", "seconds", "best", "sustained_bytes_s", "latencies", "rows"}
QUICK = ["--quick", "--probe-size", "64MiB"]


def test_text(cli, check):
    done = cli.run("doctor", *QUICK, cli.folder)
    check(done.code == 0 and not done.err, f"{done}")
    for part in ("processor  ", "kernels  ", "memory  ", "bandwidth  ", "memory model  ",
                 f"\n{cli.folder}\n", "lies on", "reads"):
        check(part in done.out, f"{part!r} is not in {done.out!r}")


def test_json(cli, check):
    done = cli.run("doctor", "--json", "--probe", "never", cli.folder, cli.model)
    check(done.code == 0 and not done.err, f"{done}")
    got = json.loads(done.out)
    for keys, found, what in [(TOP, got, "report"), (CPU, got["cpu"], "cpu"),
                              (MEMORY, got["memory"], "memory"),
                              (DEVICES, got["devices"], "devices"),
                              (DRIVE, got["drives"][0], "drive"),
                              (PROBE, got["drives"][0]["probe"], "probe")]:
        check(keys <= set(found), f"{what} lacks {keys - set(found)}")
    check(got["cpu"]["usable_count"] <= len(os.sched_getaffinity(0)), f"{got['cpu']}")
    check(got["memory"]["bandwidth_bytes_s"] > 1e8, f"{got['memory']}")
    check([d["path"] for d in got["drives"]] == [str(cli.folder), cli.model], f"{got['drives']}")
    check(got["devices"]["evidence"], "a verdict without evidence")


def doctor_probe(cli, *words):
    done = cli.run("doctor", "--json", *words, cli.folder)
    return json.loads(done.out)["drives"][0]["probe"] if done.code == 0 else {"failed": str(done)}


def run_keys(cli, *words):
    done = cli.run("run", cli.model, "--json", "-q", "-p", "a", "-n", "2", *words)
    return (json.loads(done.out) if done.code == 0 else {}), done.err


def test_saved(cli, check):
    """What was measured is used by a run, until it does not hold any more."""
    saved = cli.folder / "cache/doppler/drives.json"
    saved.unlink(missing_ok=True)
    keys, said = run_keys(cli)
    check(keys.get("io_is_probed") is False and keys["io_depth"] == 16
          and keys["io_request_bytes"] == 1 << 20 and not said, f"{keys} {said}")
    probe = doctor_probe(cli, *QUICK)
    if probe.get("skipped"):
        print(f"SKIP saved probes: {probe['skipped']}")
        return
    check(probe.get("best") and not probe["is_saved"] and len(probe["latencies"]) == 4, f"{probe}")
    ample = [r for r in probe["rows"]
             if r["depth"] >= 8 and r["depth"] * r["request_bytes"] >= 8 << 20] or probe["rows"]
    check(probe["best"]["bytes_s"] >= 0.97 * max(r["bytes_s"] for r in ample), f"{probe}")
    again = doctor_probe(cli)
    check(again.get("is_saved") and again["best"] == probe["best"], f"{again}")

    # The demo model may lie on another drive than the folder: a copy does not.
    copy = cli.folder / "copy.gguf"
    shutil.copy(cli.model, copy)
    cli_model, cli.model = cli.model, str(copy)
    keys, said = run_keys(cli)
    check(keys.get("io_is_probed") is True and keys["io_depth"] == probe["best"]["depth"]
          and keys["io_request_bytes"] == probe["best"]["request_bytes"] and not said,
          f"{keys.get('io_depth')} {said}")
    keys, said = run_keys(cli, "--io-depth", "3", "--io-request", "128KiB")
    check(keys.get("io_depth") == 3 and keys["io_request_bytes"] == 128 << 10, f"{keys} {said}")

    text = saved.read_text()
    for damaged, says in [(text[:-20], "saved probes are ignored"), ("", "saved probes are ignored"),
                          (text.replace('"version": 1', '"version": 9'), "version 9, not 1"),
                          (text.replace(probe["kernel"], "0.0.1"), "")]:
        saved.write_text(damaged)
        keys, said = run_keys(cli)
        check(keys.get("io_is_probed") is False and says in said
              and said.count("\n") == (1 if says else 0), f"{damaged[:40]!r}: {said}")
    check(doctor_probe(cli, *QUICK).get("is_saved") is False, "what does not hold was used")
    check(doctor_probe(cli).get("is_saved") is True, "it was not saved again")
    cli.model = cli_model
    copy.unlink()


SPEED = {"token_bytes", "drive_bytes", "hit_rate", "hit_is_from_heat", "memory_bytes_s",
         "drive_bytes_s", "memory_ms", "compute_ms", "step_ms", "drive_ms", "token_ms", "tok_s", "bottleneck"}


def test_plan(cli, check):
    words = [cli.model, "--ram", "8MiB", "--json"]
    got = json.loads(cli.run("plan", "--heat", "off", *words).out)
    inspected = json.loads(cli.run("inspect", "--heat", "off", *words).out)
    check(got["plan"] == inspected["plan"], f"another plan than inspect's: {got['plan']}")
    speed = got["speed"]
    held = got["plan"]["experts_held"] / got["plan"]["experts_total"]
    check(SPEED <= set(speed) and abs(speed["hit_rate"] - held) < 1e-9
          and not speed["hit_is_from_heat"], f"{speed}")
    check(0 < speed["drive_bytes"] < speed["token_bytes"], f"{speed}")
    whole = json.loads(cli.run("plan", cli.model, "--ram", "1GiB", "--heat", "off", "--json").out)
    check(whole["speed"]["drive_bytes"] == 0 and whole["speed"]["tok_s"] > 0
          and whole["speed"]["hit_rate"] == 1, f"{whole['speed']}")
    small = json.loads(cli.run("plan", cli.model, "--ram", "1MiB", "--json").out)
    check(small["speed"] is None and not small["plan"]["fits"], f"{small}")

    # A run keeps heat, and the next plan knows what is wanted.
    heat = cli.folder / "plan.heat"
    run = cli.run("run", cli.model, "--ram", "8MiB", "--heat", heat, "-p", "Once", "-n", "60")
    warm = json.loads(cli.run("plan", "--heat", heat, *words).out)["speed"]
    check(run.code == 0 and warm["hit_is_from_heat"] and held < warm["hit_rate"] <= 1, f"{warm}")
    text = cli.run("plan", cli.model, "--ram", "8MiB")
    for part in ("holds  ", "hits  ", "a token  ", "memory  ", "compute  "):
        check(text.code == 0 and part in text.out, f"{part!r} is not in {text}")


def test_refusals(cli, check):
    for words, code, says in [(["/no/such/path"], 3, "/no/such/path"),
                              (["a", "b", "c", "d", "e"], 2, '"e" is one argument too many'),
                              (["--probe", "maybe"], 2, "--probe takes auto|always|never"),
                              (["--probe-size", "lots", "."], 2, "--probe-size takes")]:
        done = cli.run("doctor", *words)
        check(done.code == code and says in done.err and not done.out, f"{words}: {done}")


def main():
    checks = Checks()
    checks.run([test_text, test_json, test_saved, test_plan, test_refusals], Cli(sys.argv[1], sys.argv[2]))
    return checks.report("cli-doctor")


sys.exit(main())
