#!/bin/sh
# Runs Mosquitto, and makes it reload its certificate and the CRL when the authority has written new ones.
#
#     serve.sh [CONFIGURATION [STAMP [MOSQUITTO]]]
#
# The authority runs in another container and cannot send a signal. Instead, it replaces the stamp file after all other
# files. This script exits with Mosquitto's exit status. SIGTERM and SIGINT stop Mosquitto.
set -u
configuration=${1:-/mosquitto/config/mosquitto.conf}
stamp=${2:-/pki/broker/stamp}
mosquitto=${3:-mosquitto}

# A socket for each device, and for connections that the guard has not ended yet. Docker's default may be 1,024.
# shellcheck disable=SC3045  # all shells that this runs in know -S and -H
ulimit -S -n 65536 2>/dev/null || ulimit -S -n "$(ulimit -H -n)" 2>/dev/null || true

# Disables TLS session resumption.
OPENSSL_CONF=$(dirname "$0")/openssl.cnf
export OPENSSL_CONF

read_stamp() {
    cat "$stamp" 2>/dev/null
}

# If the CRL is missing during a reload, Mosquitto 2.0 continues without it. (The guard rereads its list by itself.)
is_complete() {
    for file in ca.pem server.pem server-key.pem crl.pem; do
        [ -r "${stamp%/*}/$file" ] && [ -s "${stamp%/*}/$file" ] || return 1
    done
    [ "$(tail -n 1 "${stamp%/*}/crl.pem")" = "-----END X509 CRL-----" ]
}

# Read the stamp before Mosquitto reads the files: a file written in between is then reloaded, not missed.
seen=$(read_stamp)
"$mosquitto" -c "$configuration" &
broker=$!
stopping=
trap 'stopping=yes; kill -TERM "$broker" 2>/dev/null' TERM INT

while [ -z "$stopping" ] && kill -0 "$broker" 2>/dev/null; do
    # In the background, because a signal interrupts `wait`, but not `sleep`.
    sleep 1 &
    wait $!
    now=$(read_stamp)
    if [ -n "$now" ] && [ "$now" != "$seen" ] && is_complete; then
        seen=$now
        kill -HUP "$broker" 2>/dev/null
    fi
done

# Another signal interrupts this wait too.
wait "$broker"
status=$?
while kill -0 "$broker" 2>/dev/null; do
    wait "$broker"
    status=$?
done
exit "$status"
