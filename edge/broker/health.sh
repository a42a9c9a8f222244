#!/bin/sh
# A subscription that is granted: the broker listens, lets clients in and answers.
#
#     health.sh [FOLDER [PORT]]
#
# What mosquitto_sub needs to get in, it finds in the folder, where serve.sh has put it.
XDG_CONFIG_HOME=${1:-/tmp} exec mosquitto_sub -p "${2:-1883}" -t health -E -W 3
