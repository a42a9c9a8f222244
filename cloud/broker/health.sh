#!/bin/sh
# Succeeds if the broker listens, accepts a client certificate and grants a subscription.
#
# It connects with the broker's own certificate, which may only subscribe to this topic.
pki=${1:-/pki/broker}
exec mosquitto_sub -h localhost -p "${2:-8883}" -V 5 --cafile "$pki/ca.pem" --cert "$pki/server.pem" --key "$pki/server-key.pem" \
    -i facewire.broker -t health -E -W 3
