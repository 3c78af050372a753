#!/usr/bin/env python3
"""Lists what has grown long, and fails above limits. Usage: longest.py [--top N] [root]

A file past 800 lines asks whether it is two rooms, a function past 100 whether
it does two things. Files that are tables (generated or data) say so in
GENERATED. The functions are found by the house style: a definition's `{` and
`}` stand alone in the first column.
"""
import argparse
import pathlib
import sys

FILE_LINES_MAX = 800
FUNCTION_LINES_MAX = 100
GENERATED = {"casing_data.c", "unicode_data.c"}
SOURCES = {".c", ".h", ".cpp"}


def functions(lines):
    """(line number, length, name) of each function, signature included."""
    start = None
    for number, line in enumerate(lines, 1):
        if line == "{":
            start = number
        elif line == "}" and start is not None:
            # The signature is what stands between the last blank line and the brace.
            first = start - 1
            while first > 1 and lines[first - 2] and not lines[first - 2].endswith((";", "}", "*/")):
                first -= 1
            name = " ".join(lines[first - 1:start - 1]).split("(")[0].split()[-1:]
            yield first, number - first + 1, name[0].lstrip("*") if name else "?"
            start = None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--top", type=int, default=0, help="also list the N longest of each")
    parser.add_argument("root", nargs="?", default=pathlib.Path(__file__).parents[1])
    args = parser.parse_args()
    root = pathlib.Path(args.root)

    file_rows, function_rows = [], []
    for folder in ("src", "include", "tests", "bench", "examples", "tools"):
        for path in (root / folder).rglob("*"):
            if (path.suffix not in SOURCES or path.name in GENERATED
                    or "node_modules" in path.parts):  # npm ci of bench/peers
                continue
            lines = path.read_text(errors="replace").splitlines()
            where = str(path.relative_to(root))
            file_rows.append((len(lines), where))
            function_rows += [(length, f"{where}:{number} {name}")
                              for number, length, name in functions(lines)]
    file_rows.sort(reverse=True)
    function_rows.sort(reverse=True)

    problems = [f"{where}: {count} lines, at most {FILE_LINES_MAX}"
                for count, where in file_rows if count > FILE_LINES_MAX]
    problems += [f"{where}: {count} lines, at most {FUNCTION_LINES_MAX}"
                 for count, where in function_rows if count > FUNCTION_LINES_MAX]
    for rows in (file_rows, function_rows):
        for count, where in rows[:args.top]:
            print(f"{count:6} {where}")
    if problems:
        print("\n".join(problems))
    else:
        longest = function_rows[0][0] if function_rows else 0
        under = sum(count <= 50 for count, _ in function_rows) * 100 // max(1, len(function_rows))
        print(f"lengths: {len(file_rows)} files up to {file_rows[0][0]} lines, {len(function_rows)} "
              f"functions up to {longest}, {under} % of them up to 50")
    return 1 if problems else 0


sys.exit(main())
