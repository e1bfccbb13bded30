#!/bin/sh
# What it costs to have no root: the same builds by root on overlay, by a user with ranges of ids, by a user with one id, and
# by a user on copies; medians of one run on this machine, all taking turns. Needs root, useradd, newuidmap, setpriv and
# busybox. The binary is taken from $DUNNAGE.
set -eu
work=$(mktemp -d "${TMPDIR:-/var/tmp}/dunnage-bench.XXXXXX")
ranges=dnbr$$
single=dnbs$$
finish() {
    for user in "$ranges" "$single"; do userdel -f "$user" 2>/dev/null || :; done
    rm -rf "$work"
}
trap finish EXIT INT TERM
chmod 755 "$work"
cp "$DUNNAGE" "$work/dunnage"
mkdir "$work/root"
useradd -M -K SUB_UID_COUNT=65536 -K SUB_GID_COUNT=65536 -d "$work/$ranges" "$ranges"
useradd -M -K SUB_UID_COUNT=0 -K SUB_GID_COUNT=0 -d "$work/$single" "$single"
for user in "$ranges" "$single"; do install -d -o "$user" -g "$user" "$work/$user"; done

# as WHO COMMAND…: in WHO's directory, with the store that is there.
as() {
    person=$1
    shift
    case $person in
    root) (cd "$work/root" && DUNNAGE_ROOT="$work/root/store" "$@") ;;
    *) (cd "$work/$person" && DUNNAGE_ROOT="$work/$person/store" HOME="$work/$person" \
        setpriv --reuid "$person" --regid "$person" --init-groups --inh-caps=-all "$@") ;;
    esac
}
now() { date +%s%N; }
middle() { sort -n "$1" | sed -n "$((($(wc -l < "$1") + 1) / 2))p"; }

mkdir "$work/files"
head -c 8192000 /dev/urandom | (cd "$work/files" && split -b 4096 -a 4 -)
as root "$work/dunnage" bootstrap --from busybox base >/dev/null 2>&1
as root "$work/dunnage" save -o "$work/base.tar" base >/dev/null
chmod 644 "$work/base.tar"
for who in root "$ranges" "$single"; do
    as "$who" "$work/dunnage" load -i "$work/base.tar" >/dev/null
    as "$who" mkdir nothing run ten copy
    as "$who" sh -c 'printf "FROM base\nRUN true\n" > run/Dockerfile
        { echo FROM base; for n in 1 2 3 4 5 6 7 8 9 10; do echo "RUN echo $n > /$n"; done; } > ten/Dockerfile
        printf "FROM base\nRUN mkdir -p /srv; i=0; while [ \$i -lt 2000 ]; do echo \$i > /srv/\$i; i=\$((i+1)); done; chown -R 33:33 /srv\n" > nothing/Dockerfile
        printf "FROM base\nCOPY --chown=33:33 files /srv/\n" > copy/Dockerfile'
    as "$who" cp -r "$work/files" copy/
done

# The same text, and the median of what each took.
measure() {
    what=$1
    shift
    rm -f "$work"/time-*
    i=0
    while [ "$i" -lt "${COUNT-7}" ]; do
        for who in root "$ranges" "$single" copy; do
            user=$who
            driver=overlay
            [ "$who" != copy ] || { user=$ranges driver=copy; }
            from=$(now)
            as "$user" "$work/dunnage" "$@" --storage-driver "$driver" $rest >/dev/null 2>&1
            echo $((($(now) - from) / 1000)) >> "$work/time-$who"
        done
        i=$((i + 1))
    done
    root=$(middle "$work/time-root")
    printf '%-22s root %8d µs' "$what" "$root"
    for who in "$ranges" "$single" copy; do
        case $who in "$ranges") name=ranges ;; "$single") name='one id' ;; *) name=copies ;; esac
        time=$(middle "$work/time-$who")
        printf '   %s %8d µs (%d.%02dx)' "$name" "$time" $((time / root)) $((time * 100 / root % 100))
    done
    echo
}
rest=run measure "RUN true" build --no-cache -q
rest=ten measure "ten small RUN" build --no-cache -q
rest=nothing measure "RUN of 2000 files" build --no-cache -q
rest=copy measure "COPY of 2000 files" build --no-cache -q
rest=ten measure "ten RUN, unchanged" build -q
rest='base true' measure "run true" run --rm --network host
