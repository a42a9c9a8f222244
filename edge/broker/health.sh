#!/bin/sh
# Health check: succeeds if the broker accepts a client and grants it a subscription.
#
#     health.sh [FOLDER [PORT]]
#
# FOLDER has the credentials for mosquitto_sub, in a file that serve.sh has written.
XDG_CONFIG_HOME=${1:-/tmp} exec mosquitto_sub -p "${2:-1883}" -t health -E -W 3
