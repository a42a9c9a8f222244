#!/bin/sh
# Runs Mosquitto: at the edge there is nothing to watch.
exec mosquitto -c /mosquitto/config/mosquitto.conf
