#!/bin/sh
# A subscription that is granted: the broker listens, lets clients in by certificate and answers.
#
# It comes in with the broker's own certificate, the name of which has no rights.
pki=${1:-/pki/broker}
exec mosquitto_sub -h localhost -p "${2:-8883}" -V 5 --cafile "$pki/ca.pem" --cert "$pki/server.pem" --key "$pki/server-key.pem" \
    -t health -E -W 3
