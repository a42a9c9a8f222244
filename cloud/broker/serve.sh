#!/bin/sh
# Runs Mosquitto, and has it read certificates, revocations and rights again when the authority has written new ones.
#
#     serve.sh [CONFIGURATION [STAMP [MOSQUITTO]]]
#
# The authority is in another container and cannot send a signal; it replaces the stamp, as the last of its files.
# Ends with Mosquitto's exit status. SIGTERM and SIGINT end Mosquitto.
set -u
configuration=${1:-/mosquitto/config/mosquitto.conf}
stamp=${2:-/pki/broker/stamp}
mosquitto=${3:-mosquitto}

# Read by OpenSSL; see there.
OPENSSL_CONF=$(dirname "$0")/openssl.cnf
export OPENSSL_CONF

read_stamp() {
    cat "$stamp" 2>/dev/null
}

# Without its list of rights or of revoked certificates Mosquitto 2.0 goes on reading, and lets everybody do everything.
complete() {
    for file in ca.pem server.pem server-key.pem crl.pem acl.conf; do
        [ -r "${stamp%/*}/$file" ] && [ -s "${stamp%/*}/$file" ] || return 1
    done
    [ "$(tail -n 1 "${stamp%/*}/crl.pem")" = "-----END X509 CRL-----" ]
}

# Before Mosquitto reads the files: what is written meanwhile is read twice rather than never.
seen=$(read_stamp)
"$mosquitto" -c "$configuration" &
broker=$!
stopping=
trap 'stopping=yes; kill -TERM "$broker" 2>/dev/null' TERM INT

while [ -z "$stopping" ] && kill -0 "$broker" 2>/dev/null; do
    # Not `sleep` itself: a signal interrupts `wait` alone.
    sleep 1 &
    wait $!
    now=$(read_stamp)
    if [ -n "$now" ] && [ "$now" != "$seen" ] && complete; then
        seen=$now
        kill -HUP "$broker" 2>/dev/null
    fi
done

# A further signal interrupts this one too.
wait "$broker"
status=$?
while kill -0 "$broker" 2>/dev/null; do
    wait "$broker"
    status=$?
done
exit "$status"
