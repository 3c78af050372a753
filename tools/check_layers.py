#!/usr/bin/env python3
"""Checks that every #include points down the layers. Usage: check_layers.py [root]

tools/layers.txt says what each layer may include: layer names, or single files.
src/<layer>/... belongs to <layer>; include/doppler/... is the layer "api".
Project includes are written from the root ("tier/page.h"), so the first word
of every include names the layer it reaches into. Two more rules hold:

  - tests and what helps them (x_test.c, x_testing.h, fake_x.h) may include
    "testing/..." and system headers; nothing else may include them or those;
  - headers of the operating system are included in base, in backends of device,
    and in programs only.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1])
PROJECT = re.compile(r'^\s*#\s*(?:include|import)\s+"([^"]+)"')
SYSTEM = re.compile(r"^\s*#\s*include\s+<([^>]+)>")
SOURCES = {".c", ".h", ".cpp", ".cu", ".cuh", ".m", ".metal"}
# Threads, files, memory maps, clocks and sockets: what base wraps.
OS_HEADERS = re.compile(r"^(sys/|linux/|unistd\.h|fcntl\.h|pthread\.h|sched\.h|signal\.h|dirent\.h|"
                        r"dlfcn\.h|poll\.h|time\.h|liburing\.h|netinet/|arpa/|windows\.h)")
IS_TEST = re.compile(r"(_test|_testing|_fake)$|^fake_")
SEES_OS = {"base", "device", "app", "testing", "swarm"}


def read_table():
    table = {}
    for line in (ROOT / "tools/layers.txt").read_text().splitlines():
        words = line.split("#")[0].split()
        if words:
            table[words[0]] = [w for w in words[1:] if w != "-"]
    return table


def check_order(table):
    """The table itself must be acyclic: a layer names only layers listed before it."""
    seen = set()
    for layer, allowed in table.items():
        for word in allowed:
            if word.split("/")[0] not in seen:
                yield f"tools/layers.txt: {layer} names {word}, which is not listed before it"
        seen.add(layer)


def check_project(where, path, layer, target, table):
    first = "api" if target.startswith("doppler/") else target.split("/")[0]
    if first not in table:
        return where + f'"{target}" is not written from the root'
    is_test = IS_TEST.search(path.stem)
    if IS_TEST.search(pathlib.PurePath(target).stem) and not is_test:
        return where + f'"{target}" is for tests'
    if first == layer or first in table[layer] or target in table[layer]:
        return None
    if first == "testing" and is_test:
        return None
    return where + f'{layer} may not include "{target}"'


def check_file(path, layer, table):
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        where = f"{path.relative_to(ROOT)}:{number}: "
        found = PROJECT.match(line)
        if found:
            problem = check_project(where, path, layer, found.group(1), table)
            if problem:
                yield problem
        found = SYSTEM.match(line)
        if (found and OS_HEADERS.match(found.group(1)) and layer not in SEES_OS
                and not IS_TEST.search(path.stem)):
            yield where + f"{layer} may not include <{found.group(1)}>: the system is reached through base"


def main():
    table = read_table()
    problems = list(check_order(table))
    count = 0
    for path in sorted((ROOT / "src").rglob("*")) + sorted((ROOT / "include").rglob("*")):
        if path.suffix not in SOURCES:
            continue
        count += 1
        parts = path.relative_to(ROOT).parts
        layer = "api" if parts[0] == "include" else parts[1]
        if layer not in table:
            problems.append(f"{path.relative_to(ROOT)}: {layer} is not in tools/layers.txt")
        else:
            problems += check_file(path, layer, table)
    print("\n".join(problems) or f"layers: every include of {count} files points down")
    return 1 if problems else 0


sys.exit(main())
