#!/usr/bin/env bash
# Fuzzes every target: `fuzz/run.sh [RUNS]`. An input that panics, takes over a second or 256 MiB ends it with an error.
# Needs cargo-fuzz and a C++ compiler; no nightly toolchain, since no sanitizer is used: there is no unsafe code in what is
# fuzzed.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-50000}
for target in word ignore reference values dockerfile layer; do
    options=(-runs="$runs" -max_len=512 -timeout=1 -rss_limit_mb=256 -print_final_stats=1)
    corpus=target/fuzz-corpus/$target
    mkdir -p "$corpus"
    if [ "$target" = dockerfile ]; then
        options+=(-dict=fuzz/dockerfile.dict)
        cp testdata/language/*.Dockerfile "$corpus"
    fi
    if [ "$target" = layer ]; then
        options+=(-max_len=4096)
    fi
    log=$(mktemp)
    if ! cargo fuzz run -s none "$target" "$corpus" -- "${options[@]}" >"$log" 2>&1; then
        tail -40 "$log"
        echo "$target: failed"
        exit 1
    fi
    awk -v target="$target" '/number_of_executed_units/ { units = $2 } /peak_rss_mb/ { peak = $2 } /slowest_unit/ { slow = $2 }
        END { printf "%-10s %10d executions, slowest %d s, peak %d MiB\n", target, units, slow, peak }' "$log"
    rm -f "$log"
done
