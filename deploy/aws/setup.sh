#!/bin/sh
# Prepares a new Ubuntu instance, and starts the containers. The template's user data runs it as root, in a clone of this
# repository with its .env. It can be run again.
set -eu
cd "$(dirname "$0")/../.."
export DEBIAN_FRONTEND=noninteractive

fail() {
    echo "setup.sh: $*" >&2
    exit 1
}

apt-get -qq update
apt-get -qq -y install --no-install-recommends docker.io docker-buildx docker-compose-v2 nftables >/dev/null
compose=$(docker compose version --short)
printf '2.30.3\n%s\n' "${compose#v}" | sort --version-sort --check=quiet ||
    fail "Compose is $compose; expected 2.30.3 or newer"

sh deploy/aws/close_metadata.sh

# Nothing in .env is secret, until the operator adds keys of the gallery.
chmod 600 .env
docker compose -f docker-compose.cloud.yml up --build --detach --wait
