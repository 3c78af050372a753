#!/usr/bin/env bash
# Checks that sources are as clang-format leaves them (`make format`).
# Usage: check_format.sh [--fix]
set -euo pipefail
cd "$(dirname "$0")/.."

# Without clang-format there is nothing to ask; its absence must not stop a build.
if ! command -v clang-format >/dev/null; then
    echo "SKIP format: clang-format is not installed (scripts/setup --dev)"
    exit 0
fi
mapfile -d '' files < <(git ls-files -z -co --exclude-standard -- '*.c' '*.h' '*.cpp' ':!:*unicode_data.c')
if [ "${1:-}" = --fix ]; then
    clang-format -i "${files[@]}"
    exit 0
fi
bad=()
for file in "${files[@]}"; do
    clang-format --dry-run -Werror "$file" >/dev/null 2>&1 || bad+=("$file")
done
if [ ${#bad[@]} -ne 0 ]; then
    printf 'not in the shape of .clang-format: %s\n' "${bad[@]}"
    echo "format: run make format"
    exit 1
fi
echo "format: ${#files[@]} files as clang-format leaves them"
