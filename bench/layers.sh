#!/bin/sh
# What unpacking and packing layers costs, as ratios of one run: against tar, against SHA-256 alone, side by side against one
# after another; and peak memory. Needs root, GNU tar and GNU time. $DUNNAGE is the binary, $LAYERS the example of the cache.
#
# "dunnage load" also copies the layout's documents, hashes, and flushes the layer to the disk; "import" is the codec alone,
# hashes and flush included. tar does neither: "tar -x and flush" is the fair peer of both. Half of the cores are taken by
# hashing and reading where there are only two.
set -eu
work=$(mktemp -d "${TMPDIR:-/var/tmp}/dunnage-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM
cd "$work"
sync

now() { date +%s%N; }
# wall COMMAND…: microseconds.
wall() {
    from=$(now)
    "$@" >/dev/null
    echo $((($(now) - from) / 1000))
}
# best COUNT COMMAND…: the least of what COUNT calls print, each after a flush so that no one pays for another's writes.
best() {
    count=$1
    shift
    i=0
    while [ "$i" -lt "$count" ]; do
        sync
        "$@"
        i=$((i + 1))
    done | sort -n | head -1
}
show() { printf '%-58s %9d µs\n' "$1" "$2"; }
ratio() { awk -v label="$1" -v a="$2" -v b="$3" 'BEGIN { printf "  %-56s %9.2f\n", label, a / b }'; }
# A place of its own for each round, removed at the end: ext4 passes over inodes that were freed a moment ago, one by one, and
# whoever makes files after a large removal pays for it.
fresh() { round=$(mktemp -d "$work/round.XXXXXX"); mkdir "$round/out"; }

# 50,000 files of some hundred bytes in 500 directories, as a layout of one plain layer.
mkdir tree
i=0
while [ "$i" -lt 500 ]; do
    mkdir "tree/d$i"
    i=$((i + 1))
done
awk 'BEGIN { for (i = 0; i < 50000; i++) { f = "tree/d" i % 500 "/file" i; s = ""; for (j = 0; j < 20 + i % 60; j++) s = s "line " i "\n"; printf "%s", s > f; close(f) } }'
tar --sort=name --owner=0 --group=0 --numeric-owner -cf many.tar -C tree .

# layout NAME TAR…: an OCI layout of plain layers.
layout() {
    place=$1
    shift
    mkdir -p "$place/blobs/sha256"
    layers= ids=
    for tar in "$@"; do
        hex=$(sha256sum "$tar" | cut -d' ' -f1)
        ln "$tar" "$place/blobs/sha256/$hex"
        layers="$layers,{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"sha256:$hex\",\"size\":$(stat -c %s "$tar")}"
        ids="$ids,\"sha256:$hex\""
    done
    machine=$(uname -m | sed 's/x86_64/amd64/;s/aarch64/arm64/')
    blob() { hex=$(sha256sum "$1" | cut -d' ' -f1); size=$(stat -c %s "$1"); mv "$1" "$place/blobs/sha256/$hex"; }
    printf '{"os":"linux","architecture":"%s","rootfs":{"type":"layers","diff_ids":[%s]}}' "$machine" "${ids#,}" > document
    blob document
    printf '{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%s},"layers":[%s]}' "$hex" "$size" "${layers#,}" > document
    blob document
    printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s}]}' "$hex" "$size" > "$place/index.json"
    echo '{"imageLayoutVersion":"1.0.0"}' > "$place/oci-layout"
}
layout many many.tar

untar() { fresh; wall tar -xf many.tar -C "$round/out"; }
untar_flush() { fresh; wall sh -c 'tar -xf many.tar -C "$1/out" && sync -f "$1/out"' - "$round"; }
load() { fresh; DUNNAGE_ROOT=$round/store wall "$DUNNAGE" load -i many; }
import() { fresh; "$LAYERS" import "$round/store" many.tar; }

echo "50,000 small files, $(($(stat -c %s many.tar) / 1048576)) MiB"
tar_time=$(best 3 untar)
tar_flush=$(best 3 untar_flush)
load_time=$(best 3 load)
import_time=$(best 3 import)
show "tar -x" "$tar_time"
show "tar -x and flush" "$tar_flush"
show "dunnage load" "$load_time"
show "import: the codec alone" "$import_time"
ratio "dunnage load / tar -x (goal 1.30)" "$load_time" "$tar_time"
ratio "dunnage load / tar -x and flush" "$load_time" "$tar_flush"
ratio "import / tar -x" "$import_time" "$tar_time"
ratio "import / tar -x and flush" "$import_time" "$tar_flush"

echo "four layers of 12,500 small files"
for n in 0 1 2 3; do
    tar --sort=name --owner=0 --group=0 --numeric-owner -cf "part$n.tar" -C tree $(seq -f 'd%g' $((n * 125)) $((n * 125 + 124)))
done
serial() { fresh; "$LAYERS" import "$round/store" part0.tar part1.tar part2.tar part3.tar; }
together() { fresh; "$LAYERS" together "$round/store" part0.tar part1.tar part2.tar part3.tar; }
serial_time=$(best 3 serial)
together_time=$(best 3 together)
show "one after another" "$serial_time"
show "side by side, on $(nproc) cores" "$together_time"
ratio "one after another / side by side" "$serial_time" "$together_time"

echo "a file of 1 GiB"
head -c 1073741824 /dev/urandom > big
hash_time=$(best 5 "$LAYERS" sha256 big)
pack() { fresh; "$LAYERS" pack "$round/store" big; }
pack_time=$(best 3 pack)
show "SHA-256 alone" "$hash_time"
show "packing, SHA-256 and BLAKE3" "$pack_time"
ratio "packing / SHA-256 alone" "$pack_time" "$hash_time"
awk -v us="$hash_time" 'BEGIN { printf "  SHA-256 alone: %.2f GB/s (without SHA extensions: some 0.4)\n", 1073741824 / us / 1000 }'

tar -cf big.tar big
rm -f big
layout large big.tar
fresh
peak=$(DUNNAGE_ROOT=$work/store /usr/bin/time -f %M "$DUNNAGE" load -i large 2>&1 >/dev/null | tail -1)
printf '%-58s %9d KiB\n' "peak memory of dunnage load, a layer of 1 GiB" "$peak"
[ "$peak" -lt 65536 ] && echo "  under the goal of 64 MiB" || echo "  OVER the goal of 64 MiB"
