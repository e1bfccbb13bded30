#!/bin/sh
# The demo behind `make demo`: a base from this machine, a build, a run, and two rebuilds.
# Works in a store of its own below target/, on a copy of the files, so that nothing else is touched.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${DUNNAGE_DEMO:-$here/../../target/demo}
rm -rf "$work/context"
mkdir -p "$work/context"
cp "$here"/* "$here/.dockerignore" "$work/context/"
export DUNNAGE_ROOT="$work/store"

step() { printf '\n\033[1m$ dunnage %s\033[0m\n' "$*"; "$DUNNAGE" "$@"; }
[ -t 1 ] || step() { printf '\n$ dunnage %s\n' "$*"; "$DUNNAGE" "$@"; }

cd "$work/context"
step bootstrap demo-base
step build -t demo .
step run --rm demo
echo
echo "Nothing changed: a second build runs nothing."
step build -t demo .
echo
echo "One file changed: only what it reaches runs again."
echo "and nothing breaks" >> poem.txt
step build -t demo .
step run --rm demo again
step images
