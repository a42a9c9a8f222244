#!/bin/sh
# Runs Mosquitto. If LOCAL_MQTT_USERNAME is set, clients need it and its password.
#
#     serve.sh [CONFIGURATION [FOLDER [MOSQUITTO]]]
#
# The password is read from LOCAL_MQTT_PASSWORD or from the file LOCAL_MQTT_PASSWORD_FILE. It is never passed on a
# command line.
set -eu
configuration=${1:-/mosquitto/config/mosquitto.conf}
folder=${2:-/tmp}
mosquitto=${3:-mosquitto}

if [ -n "${LOCAL_MQTT_USERNAME:-}" ]; then
    umask 077
    password=${LOCAL_MQTT_PASSWORD:-}
    if [ -n "${LOCAL_MQTT_PASSWORD_FILE:-}" ]; then
        password=$(cat "$LOCAL_MQTT_PASSWORD_FILE")
    fi
    if [ -z "$password" ]; then
        echo "LOCAL_MQTT_USERNAME is '$LOCAL_MQTT_USERNAME', LOCAL_MQTT_PASSWORD is not set: expected both or neither" >&2
        exit 2
    fi
    for text in "$LOCAL_MQTT_USERNAME" "$password"; do
        case $text in
            *:* | ' '* | *' ')
                echo "LOCAL_MQTT_USERNAME or LOCAL_MQTT_PASSWORD: expected no colon, and no space at either end" >&2
                exit 2
                ;;
        esac
    done
    # mosquitto_passwd replaces the password by its hash.
    printf '%s:%s\n' "$LOCAL_MQTT_USERNAME" "$password" > "$folder/passwords"
    mosquitto_passwd -U "$folder/passwords"
    # health.sh reads these options.
    printf -- '-u %s\n-P %s\n' "$LOCAL_MQTT_USERNAME" "$password" > "$folder/mosquitto_sub"
    sed "s|^allow_anonymous true$|allow_anonymous false\npassword_file $folder/passwords|" "$configuration" \
        > "$folder/mosquitto.conf"
    configuration=$folder/mosquitto.conf
fi
exec "$mosquitto" -c "$configuration"
