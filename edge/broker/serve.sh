#!/bin/sh
# Runs a broker of the edge, whose clients all need an account.
#
#     serve.sh [CONFIGURATION [ACCOUNTS [FOLDER [MOSQUITTO]]]]
#
# CONFIGURATION is mosquitto.conf or publishers.conf. It names the file with the rights, and that file names the accounts.
# ACCOUNTS has a folder for each account, and in it the file `account`: one line NAME:PASSWORD. An account that does not
# exist is made with a random password. Whoever is to use an account gets its folder, read-only.
# FOLDER is for the hashed passwords and what else Mosquitto reads.
#
# LOCAL_MQTT_USERNAME adds an account of the operator, whose password is LOCAL_MQTT_PASSWORD or in the file
# LOCAL_MQTT_PASSWORD_FILE. No password is ever passed on a command line.
set -eu
umask 077
configuration=${1:-/mosquitto/config/mosquitto.conf}
accounts=${2:-/accounts}
folder=${3:-/tmp}
mosquitto=${4:-mosquitto}
rights=$(sed -n 's/^acl_file //p' "$configuration")
operator=${LOCAL_MQTT_USERNAME:-}

fail() {
    echo "$*" >&2
    exit 2
}

# Prints 64 random hexadecimal digits.
random() {
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n'
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
            mkdir -p "$accounts/$1" && printf '%s\n' "$line" > "$file.new" && mv "$file.new" "$file" ||
                fail "$file: expected the account '$1', or a folder in which it can be made"
            ;;
    esac
    printf '%s\n' "$line"
}

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
for name in $(sed -n 's/^user //p' "$rights"); do
    case $name in
        "$operator" | LOCAL_MQTT_USERNAME) ;; # the operator's account replaces one of the same name
        facewire-health) printf '%s\n' "$health" ;;
        *) account "$name" ;;
    esac
done > "$folder/passwords"
if [ -n "$operator" ]; then
    printf '%s:%s\n' "$operator" "$password" >> "$folder/passwords"
fi

# The operator's rights are the last ones in the file.
while IFS= read -r line; do
    if [ "$line" = "user LOCAL_MQTT_USERNAME" ]; then
        [ -n "$operator" ] || break
        line="user $operator"
    fi
    printf '%s\n' "$line"
done < "$rights" > "$folder/rights"

# Loops of the shell rather than sed: a command's arguments can be seen by other processes.
publisher=$(sed -n 's/^publisher://p' "$folder/passwords")
while IFS= read -r line; do
    case $line in
        "acl_file "*) line="acl_file $folder/rights" ;;
        "password_file "*) line="password_file $folder/passwords" ;;
        "remote_password "*) line="remote_password $publisher" ;;
        "remote_clientid "* | "local_clientid "*) line="${line%% *} facewire-publishers-$(random)" ;;
    esac
    printf '%s\n' "$line"
done < "$configuration" > "$folder/mosquitto.conf"

# mosquitto_passwd replaces each password by its hash.
mosquitto_passwd -U "$folder/passwords"
# health.sh reads these options.
printf -- '-u %s\n-P %s\n' "${health%%:*}" "${health#*:}" > "$folder/mosquitto_sub"
exec "$mosquitto" -c "$folder/mosquitto.conf"
