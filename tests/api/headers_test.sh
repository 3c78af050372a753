#!/usr/bin/env bash
# Every public header stands alone, in C11 and in C++. Usage: headers_test.sh ROOT
set -euo pipefail
root=${1:?usage: headers_test.sh ROOT}
passed=0 failed=0 skipped=0
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# compile COMPILER SUFFIX STANDARD HEADER
compile() {
    # Twice: the second must be empty.
    printf '#include "%s"\n#include "%s"\n' "$4" "$4" >"$scratch/unit.$2"
    if "$1" "-std=$3" -pedantic -Wall -Wextra -Werror -I "$root/include" -fsyntax-only \
        "$scratch/unit.$2"; then
        passed=$((passed + 1))
    else
        echo "FAILED: $4 alone as $3"
        failed=$((failed + 1))
    fi
}

for path in "$root"/include/doppler/*.h; do
    header=doppler/$(basename "$path")
    compile "${CC:-gcc}" c c11 "$header"
    if command -v "${CXX:-g++}" >/dev/null; then
        compile "${CXX:-g++}" cpp c++11 "$header"
    else
        skipped=$((skipped + 1))
    fi
done
[ $skipped -eq 0 ] || echo "SKIP headers as C++: ${CXX:-g++} is not installed"
echo "headers: $passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
