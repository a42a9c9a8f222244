#!/bin/sh
# Runs the local broker, whose clients all need an account.
#
#     serve.sh [CONFIGURATION [ACCOUNTS [FOLDER [MOSQUITTO]]]]
#
# ACCOUNTS has a folder for each account, and in it the file `account`: one line NAME:PASSWORD. An account that does not
# exist is made with a random password. Whoever is to use an account gets its folder, read-only.
# FOLDER is for the hashed passwords and what else Mosquitto and health.sh read.
#
# LOCAL_MQTT_USERNAME adds an account of the operator, with all rights. Its password is LOCAL_MQTT_PASSWORD or in the file
# LOCAL_MQTT_PASSWORD_FILE. No password is ever passed on a command line.
# HOME_ASSISTANT_PREFIX is the first part of Home Assistant's topics, by default «homeassistant».
set -eu
umask 077
configuration=${1:-/mosquitto/config/mosquitto.conf}
accounts=${2:-/accounts}
folder=${3:-/tmp}
mosquitto=${4:-mosquitto}
rights=$(sed -n 's/^acl_file //p' "$configuration")
operator=${LOCAL_MQTT_USERNAME:-}
prefix=${HOME_ASSISTANT_PREFIX:-homeassistant}

fail() {
    echo "$*" >&2
    exit 2
}

# Prints 64 random hexadecimal digits.
random() {
    head -c 32 /dev/urandom | sha256sum | cut -d ' ' -f 1
}

# Prints the account NAME. A file that a power cut has left empty or damaged counts as missing.
account() {
    file=$accounts/$1/account
    line=$(head -n 1 "$file" 2>/dev/null | tr -d '\000\r')
    case $line in
        "$1":?*) ;;
        *)
            echo "making the account '$1'" >&2
            line=$1:$(random)
            if ! { mkdir -p "$accounts/$1" && printf '%s\n' "$line" > "$file.new" && mv "$file.new" "$file"; }; then
                fail "$file: expected the account '$1', or a folder in which it can be made"
            fi
            ;;
    esac
    printf '%s\n' "$line"
}

case $prefix in
    faces | faces/* | receipts | receipts/* | status | status/* | *[!A-Za-z0-9_/-]* | /* | */ | *//*)
        fail "HOME_ASSISTANT_PREFIX is '$prefix': expected levels of a topic of letters, digits, - or _, the first none of ours"
        ;;
esac

if [ -n "$operator" ]; then
    password=${LOCAL_MQTT_PASSWORD:-}
    if [ -n "${LOCAL_MQTT_PASSWORD_FILE:-}" ]; then
        password=$(cat "$LOCAL_MQTT_PASSWORD_FILE")
    fi
    if [ -z "$password" ]; then
        fail "LOCAL_MQTT_USERNAME is '$operator', LOCAL_MQTT_PASSWORD is not set: expected both or neither"
    fi
    for text in "$operator" "$password"; do
        case $text in
            *:* | ' '* | *' ')
                fail "LOCAL_MQTT_USERNAME or LOCAL_MQTT_PASSWORD: expected no colon, and no space at either end"
                ;;
        esac
    done
fi

health=facewire-health:$(random)
{
    printf '%s\n' "$health"
    for name in detector forwarder publisher homeassistant; do
        # The operator's account replaces one of the same name.
        [ "$name" = "$operator" ] || account "$name"
    done
    [ -z "$operator" ] || printf '%s:%s\n' "$operator" "$password"
} > "$folder/passwords"
# mosquitto_passwd replaces each password by its hash.
mosquitto_passwd -U "$folder/passwords"

sed -e "s|^\(topic [a-z]* \)homeassistant/|\1$prefix/|" "$rights" > "$folder/rights"
[ -z "$operator" ] || printf '\nuser %s\ntopic readwrite #\ntopic read %s/#\n' "$operator" "\$SYS" >> "$folder/rights"
sed -e "s|^acl_file .*|acl_file $folder/rights|" -e "s|^password_file .*|password_file $folder/passwords|" \
    "$configuration" > "$folder/mosquitto.conf"
# health.sh reads these options.
printf -- '-u %s\n-P %s\n' "${health%%:*}" "${health#*:}" > "$folder/mosquitto_sub"
exec "$mosquitto" -c "$folder/mosquitto.conf"
