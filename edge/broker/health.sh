#!/bin/sh
# A subscription that is granted: the broker listens, lets clients in and answers.
exec mosquitto_sub -t health -E -W 3
