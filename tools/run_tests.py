#!/usr/bin/env python3
"""Runs the tests Meson knows and counts what they say, not only whether they ended well.

usage: run_tests.py [options] BUILD_DIR

A test program reports in one of two ways, and one that reports nothing fails:
  cmocka   "[  PASSED  ] 3 test(s).", "[  FAILED  ] ...", "[  SKIPPED ] ..."
  a line   "name: 3 passed, 0 failed" or "name: 3 passed, 0 failed, 1 skipped"
A crash, an exit status without a failed test and a timeout are one failure each.
Lines that begin with SKIP are reasons; they are printed again at the end.

The last line is "N passed, N failed", with ", N skipped" when something was.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

CMOCKA = re.compile(r"^\[\s+(PASSED|FAILED|SKIPPED)\s+\] (\d+) test\(s\)", re.M)
CMOCKA_ERROR = re.compile(r"^\[\s+ERROR\s+\]", re.M)
CMOCKA_SKIPPED = re.compile(r"^\[\s+SKIPPED\s+\] (?!\d+ test\(s\))(\S+)", re.M)
LINE = re.compile(r"^[\w.-]+: (\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", re.M)
REASON = re.compile(r"^SKIP(?:PED)?\b.*$", re.M)
SERIAL = "serial"  # a suite whose tests run with nothing beside them


class Result:
    def __init__(self, test):
        self.name = test["suite"][0].split(":")[-1] + "/" + test["name"]
        self.passed = self.failed = self.skipped = 0
        self.seconds = 0.0
        self.output = ""
        self.trouble = []
        self.reasons = []


def count(result, status, timed_out):
    """Fills in the counts from the output and the way the program ended."""
    counts = {"PASSED": 0, "FAILED": 0, "SKIPPED": 0}
    reports = 0
    for word, number in CMOCKA.findall(result.output):
        counts[word] += int(number)
        reports += 1
    for passed, failed, skipped in LINE.findall(result.output):
        counts["PASSED"] += int(passed)
        counts["FAILED"] += int(failed)
        counts["SKIPPED"] += int(skipped or 0)
        reports += 1
    result.passed, result.failed, result.skipped = counts.values()
    result.reasons = REASON.findall(result.output)
    if result.skipped and not result.reasons:
        result.reasons = sorted(set(CMOCKA_SKIPPED.findall(result.output)))

    if timed_out:
        result.trouble.append("ran past its time limit")
    elif status < 0:
        result.trouble.append(f"ended by {signal.Signals(-status).name}")
    elif status != 0 and result.failed == 0:
        result.trouble.append(f"exit status {status} although no test failed")
    elif CMOCKA_ERROR.search(result.output) and result.failed == 0:
        result.trouble.append("an error outside the tests")
    elif reports == 0 or result.passed + result.failed + result.skipped == 0:
        result.trouble.append("reported no test")
    if result.trouble:
        result.failed += 1


def run(test, build, factor):
    result = Result(test)
    limit = None if not test["timeout"] or test["timeout"] < 0 else test["timeout"] * factor
    begin = time.monotonic()
    # Commands are relative to the build folder. A session of its own, so that a
    # timeout ends what the test started as well.
    process = subprocess.Popen(test["cmd"], env={**os.environ, **test["env"]}, cwd=test["workdir"] or build,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True)
    timed_out = False
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        timed_out = True
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
    result.seconds = time.monotonic() - begin
    result.output = output.decode(errors="replace")
    count(result, process.returncode, timed_out)
    return result


def suites_of(test):
    return {suite.split(":")[-1] for suite in test["suite"]}


def choose(tests, args):
    for test in tests:
        names = suites_of(test) | {test["name"]}
        if (not args.suite or names & set(args.suite)) and not names & set(args.no_suite):
            yield test


def show(result, lock):
    with lock:
        mark = "FAIL" if result.failed else "ok"
        extra = f", {result.skipped} skipped" if result.skipped else ""
        print(f"{mark:4} {result.name:32} {result.passed:4} passed, {result.failed} failed{extra}"
              f"  {result.seconds:.1f} s", flush=True)
        if result.failed:
            print("\n".join("     | " + line for line in result.output.splitlines()[-200:]))
            for trouble in result.trouble:
                print(f"     | {result.name}: {trouble}")
            sys.stdout.flush()


def run_all(tests, args):
    lock, results = threading.Lock(), []

    def one(test):
        result = run(test, args.build, args.timeout_factor)
        show(result, lock)
        results.append(result)

    serial = [t for t in tests if SERIAL in suites_of(t) or not t["is_parallel"]]
    beside = [t for t in tests if t not in serial]
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as executor:
        list(executor.map(one, sorted(beside, key=lambda t: -t["timeout"])))
    for test in serial:
        one(test)
    return results


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("\n")[2][7:])
    parser.add_argument("--suite", nargs="+", default=[], help="only these suites or tests")
    parser.add_argument("--no-suite", nargs="+", default=[], help="not these suites or tests")
    parser.add_argument("--jobs", type=int, default=2, help="tests at a time")
    parser.add_argument("--timeout-factor", type=float, default=1)
    parser.add_argument("build", type=pathlib.Path)
    args = parser.parse_args()

    listing = subprocess.run(["meson", "introspect", "--tests", str(args.build)],
                             capture_output=True, check=True)
    tests = list(choose(json.loads(listing.stdout), args))
    if not tests:
        sys.exit("no test matches")
    results = run_all(tests, args)

    for result in results:
        for reason in result.reasons:
            print(f"SKIPPED in {result.name}: {reason}")
    bad = sorted(result.name for result in results if result.failed)
    if bad:
        print("failed: " + " ".join(bad))
    passed, failed, skipped = (sum(getattr(result, word) for result in results)
                               for word in ("passed", "failed", "skipped"))
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


sys.exit(main())
