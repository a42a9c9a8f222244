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

# A new instance may be installing updates by itself.
for wait in 5 10 20 40 80 fail; do
    apt-get -qq update && break
    [ "$wait" != fail ] || fail "apt-get cannot update its lists; expected that the instance reaches Ubuntu's mirrors"
    sleep "$wait"
done
apt-get -qq -y -o DPkg::Lock::Timeout=600 install --no-install-recommends \
    docker.io docker-buildx docker-compose-v2 nftables >/dev/null
compose=$(docker compose version --short)
printf '2.30.3\n%s\n' "${compose#v}" | sort --version-sort --check=quiet ||
    fail "Compose is $compose; expected 2.30.3 or newer"

sh deploy/aws/close_metadata.sh

# Nothing in .env is secret, until the operator adds keys of the gallery.
chmod 600 .env
# One image after the other, because a small instance has little memory.
for service in $(docker compose -f docker-compose.cloud.yml config --services); do
    docker compose -f docker-compose.cloud.yml build --quiet "$service"
done
docker compose -f docker-compose.cloud.yml up --detach --wait
