#!/bin/sh
# Pins every requirement with its hashes, for all platforms. Names no index: pip uses the one that it is configured with.
#
#     lock.sh PYTHON [--upgrade]
#
# Without --upgrade, packages that are pinned already keep their versions. paho-mqtt never moves by itself: wire/mqtt/client.py
# replaces private methods of one version, which the *.in files name.
set -eu
python=$1
shift
cd "$(dirname "$0")"
case "$python" in /*) ;; *) python=../$python ;; esac
compile() {
    "$python" -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-header "$@"
}
compile dev.in -o dev.txt "$@"
compile film.in --no-deps -o film.txt "$@"
compile peers.in -o peers.txt "$@"
compile aws.in -o aws.txt "$@"
for image in detector forwarder gallery pki s3sink; do
    compile "$image.in" -c dev.txt -o "$image.txt" "$@"
done
