#!/bin/sh
# What the demo image runs.
echo "hello, $1, from $(id -un) in a container"
cat /app/loud.txt
echo "($(cat /app/words.txt) words)"
cat /app/table.txt
