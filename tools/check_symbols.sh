#!/usr/bin/env bash
# Checks that libdoppler exports what include/doppler declares, no more, no less.
# Usage: check_symbols.sh BUILD_DIR
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
library=${1:?usage: check_symbols.sh BUILD_DIR}/src/libdoppler.so

# A declaration goes from DP_API to the first "(" of its parameters.
declared=$(cat "$root"/include/doppler/*.h | grep -v '^ *#' | tr '\n' ' ' |
    grep -o 'DP_API [^;(]*(' | sed 's/ *($//; s/.*[ *]//' | sort -u)
exported=$(nm -D --defined-only "$library" | awk '{ print $NF }' | sed 's/@.*//' | sort -u)

if ! difference=$(diff <(echo "$declared") <(echo "$exported")); then
    echo "$difference" | sed -n 's/^< \(.*\)/declared with DP_API, not exported: \1/p
                                 s/^> \(.*\)/exported, not in include\/doppler: \1/p'
    echo "symbols: 0 passed, 1 failed"
    exit 1
fi
echo "exported: the $(echo "$declared" | wc -l) functions of include/doppler"
echo "symbols: 1 passed, 0 failed"
