#!/bin/sh
# How long an unchanged rebuild of a 20-step file takes, and what a RUN step costs; medians of one run on this machine.
# Needs root and a static busybox. The binary is taken from $DUNNAGE.
set -eu
work=$(mktemp -d "${TMPDIR:-/var/tmp}/dunnage-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM
export DUNNAGE_ROOT="$work/store"
mkdir "$work/context"
cd "$work/context"

now() { date +%s%N; }
# median COUNT COMMAND…: the middle of COUNT wall times, in microseconds.
median() {
    count=$1
    shift
    i=0
    while [ "$i" -lt "$count" ]; do
        from=$(now)
        "$@" >/dev/null 2>&1
        echo $((($(now) - from) / 1000))
        i=$((i + 1))
    done | sort -n | sed -n "$(((count + 1) / 2))p"
}
show() { printf '%-52s %8d µs\n' "$1" "$2"; }

"$DUNNAGE" bootstrap --from busybox base >/dev/null 2>&1
{
    echo "FROM base"
    for n in 1 2 3 4 5 6; do
        echo "file $n" > "f$n"
        printf 'COPY f%s /f%s\nRUN cat /f%s > /r%s\nWORKDIR /d%s\n' "$n" "$n" "$n" "$n" "$n"
    done
    printf 'RUN true\nCMD ["true"]\n'
} > Dockerfile
"$DUNNAGE" build -t bench . >/dev/null 2>&1

show "a bare process (true)" "$(median 21 true)"
show "dunnage --version" "$(median 21 "$DUNNAGE" --version)"
rebuild=$(median 21 "$DUNNAGE" build -t bench .)
show "unchanged rebuild, 20 steps" "$rebuild"
[ "$rebuild" -lt 50000 ] && echo "  under the goal of 50 ms" || echo "  OVER the goal of 50 ms"
all=$(median 5 "$DUNNAGE" build --no-cache -t bench .)
show "all 20 steps performed (--no-cache)" "$all"
show "  of which one step" "$((all / 19))"
show "run --rm --network none base true" "$(median 21 "$DUNNAGE" run --rm --network none base true)"
