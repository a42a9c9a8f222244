#!/bin/sh
# Pins every requirement with its hashes, for all platforms. Names no index: whoever installs uses their own.
set -eu
cd "$(dirname "$0")"
compile() {
    "$PYTHON" -m uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-header "$@"
}
case "$1" in /*) PYTHON=$1 ;; *) PYTHON=../$1 ;; esac
compile dev.in -o dev.txt
compile film.in --no-deps -o film.txt
compile benchmarks.in -o benchmarks.txt
for image in detector forwarder s3sink; do
    compile "$image.in" -c dev.txt -o "$image.txt"
done
