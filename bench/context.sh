#!/bin/sh
# What reading a context costs, as ratios of one run on this machine: 50,000 files unchanged against a bare parallel walk,
# cold against `cp -a`, one file changed, and a COPY of 1 GiB against `cp` and a SHA-256.
# Needs root, a static busybox and openssl. The binaries are taken from $DUNNAGE and $STAT_WALK
# (`cargo build --release -p dunnage-cache --example stat_walk`).
set -eu
files=${FILES:-50000}
megabytes=${MEGABYTES:-1024}
work=$(mktemp -d "${TMPDIR:-/var/tmp}/dunnage-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM
export DUNNAGE_ROOT="$work/store"
mkdir "$work/context"
cd "$work"

now() { date +%s%N; }
# once COMMAND…: its wall time in microseconds.
once() {
    from=$(now)
    "$@" >/dev/null 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
    echo $((($(now) - from) / 1000))
}
# median COUNT COMMAND…: the middle of COUNT wall times.
median() {
    count=$1
    shift
    i=0
    while [ "$i" -lt "$count" ]; do
        once "$@"
        i=$((i + 1))
    done | sort -n | sed -n "$(((count + 1) / 2))p"
}
show() { printf '%-44s %9d µs\n' "$1" "$2"; }
ratio() { awk -v a="$2" -v b="$3" -v goal="$4" -v name="$1" 'BEGIN { printf "  %-42s %9.2f  (goal %s)\n", name, a / b, goal }'; }
build() { "$DUNNAGE" build -t bench -f Dockerfile context; }

"$DUNNAGE" bootstrap --from busybox base >/dev/null 2>&1
awk -v n="$files" 'BEGIN {
    for (i = 0; i < n; i++) {
        directory = sprintf("context/d%03d", i / 100)
        if (i % 100 == 0) system("mkdir -p " directory)
        file = sprintf("%s/file-%d.txt", directory, i)
        for (line = 0; line < 20; line++) printf "line %d of file %d\n", line, i > file
        close(file)
    }
}'
printf 'FROM base\nCOPY . /c/\n' > Dockerfile
sync
# The table does not trust files that changed within the last two seconds.
sleep 3

copy=$(once cp -a context copied)
rm -rf copied
cold=$(once build)
walk=$(median 7 "$STAT_WALK" context)
noop=$(median 7 build)
echo changed > context/d001/file-100.txt
changed=$(once build)
show "cp -a of $files files" "$copy"
show "cold build of them" "$cold"
ratio "cold to cp -a" "$cold" "$copy" "under 2.1"
show "bare parallel walk" "$walk"
show "unchanged rebuild" "$noop"
ratio "unchanged to the bare walk" "$noop" "$walk" "under 2"
show "one file changed" "$changed"

rm -rf context
mkdir context
head -c "${megabytes}M" /dev/urandom > context/big
printf 'FROM base\nCOPY big /big\n' > Dockerfile
sync
copy=$(once cp context/big copied)
rm copied
hash=$(once openssl dgst -sha256 context/big)
cold=$(once build)
show "cp of $megabytes MiB" "$copy"
show "one SHA-256 of them" "$hash"
show "cold build" "$cold"
ratio "cold to cp and one hash" "$cold" "$((copy + hash))" "under 1.25"
