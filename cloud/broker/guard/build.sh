#!/bin/sh
# Compiles the guard, a plugin for Mosquitto.
#
#     build.sh OUTPUT
#
# It needs a C compiler, and the headers of Mosquitto and OpenSSL: on Debian gcc, libc6-dev, mosquitto-dev,
# libmosquitto-dev and libssl-dev; on Alpine gcc, musl-dev, mosquitto-dev and openssl-dev. CFLAGS and LDFLAGS are used.
set -eu
source=$(dirname "$0")
system=""
if [ "$(uname -s)" = Darwin ]; then
    # Mosquitto itself defines the functions that no library has.
    brew=$(brew --prefix)
    system="-D_DARWIN_C_SOURCE -I$brew/opt/openssl/include -I$brew/include -L$brew/lib -undefined dynamic_lookup"
fi
# shellcheck disable=SC2086  # each word is an option
exec "${CC:-cc}" -std=c11 -D_DEFAULT_SOURCE -O2 -g0 -fPIC -shared -fvisibility=hidden -fstack-protector-strong \
    -Wall -Wextra -Wno-unused-parameter ${CFLAGS:-} -o "$1" "$source"/*.c ${LDFLAGS:-} $system -lmosquitto -lpthread
