#!/usr/bin/env python3
"""Checks that a file's name says which file it is. Usage: check_names.py [root]

Sources have unique names in the tree, so that one can be named without its
folder. Exceptions: main.c, a public header named after the room behind it, and
examples, which stand for programs of strangers.
"""
import collections
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1])
SOURCES = {".c", ".h", ".cpp", ".py", ".sh", ".js"}
SHAPE = re.compile(r"^[a-z0-9]+(_[a-z0-9]+)*\.[a-z]+$")


def listed():
    """Files git knows or would take: build folders and editors' leftovers are neither."""
    run = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"],
                         capture_output=True, check=True)
    return sorted({pathlib.PurePath(name) for name in run.stdout.decode().split("\0") if name})


def main():
    problems = []
    places = collections.defaultdict(list)
    for path in listed():
        if path.suffix in SOURCES and (ROOT / path).exists():
            if not SHAPE.match(path.name):
                problems.append(f"{path}: names are lower case words joined by _")
            if path.name != "main.c" and path.parts[0] not in ("include", "examples"):
                places[path.name].append(path)
    for name, paths in places.items():
        if len(paths) > 1:
            problems.append(f"{name} names {len(paths)} files: " + ", ".join(map(str, paths)))
    print("\n".join(problems) or f"names: {len(places)} files, each name once")
    return 1 if problems else 0


sys.exit(main())
