#!/bin/sh
# What the copy driver costs against overlay for `RUN true` and `run true` on a base of the size of Debian; medians of one
# run on this machine, the two drivers taking turns. Needs root and mmdebstrap. The binary is taken from $DUNNAGE.
set -eu
work=$(mktemp -d "${TMPDIR:-/var/tmp}/dunnage-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM
export DUNNAGE_ROOT="$work/store"
mkdir "$work/context"
cd "$work/context"

now() { date +%s%N; }
# timed COMMAND…: its wall time in microseconds.
timed() {
    from=$(now)
    "$@" >/dev/null 2>&1
    echo $((($(now) - from) / 1000))
}
middle() { sort -n "$1" | sed -n "$((($(wc -l < "$1") + 1) / 2))p"; }

"$DUNNAGE" bootstrap --from "debian:${SUITE-bookworm}" base >/dev/null 2>&1
printf 'FROM base\nRUN true\n' > Dockerfile
"$DUNNAGE" run --rm base sh -c 'echo "base: $(find / -xdev | wc -l) files, $(du -xsm / | cut -f1) MiB"'

i=0
while [ "$i" -lt "${COUNT-9}" ]; do
    for driver in overlay copy; do
        timed "$DUNNAGE" build --no-cache --storage-driver "$driver" -t bench . >> "$work/build-$driver"
        timed "$DUNNAGE" run --rm --storage-driver "$driver" base true >> "$work/run-$driver"
    done
    i=$((i + 1))
done
for what in build run; do
    overlay=$(middle "$work/$what-overlay")
    copy=$(middle "$work/$what-copy")
    printf '%-8s overlay %8d µs   copy %9d µs   ratio %d.%d\n' "$what" "$overlay" "$copy" \
        $((copy / overlay)) $((copy * 10 / overlay % 10))
done
