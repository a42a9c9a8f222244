#!/bin/sh
# Installs what the demo and the tests need: Mosquitto, and what compiles its plugin, with the system's package manager; the
# rest in a virtual environment.
# Usage: [PYTHON=/path/to/python3] setup.sh FOLDER-OF-THE-VIRTUAL-ENVIRONMENT
set -eu
venv=$1

fail() {
    echo "facewire: $*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "to install packages this needs root or sudo: $*"
    fi
}

has_mosquitto() {
    PATH="$PATH:/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin:/usr/local/opt/mosquitto/sbin"
    command -v mosquitto >/dev/null && command -v mosquitto_pub >/dev/null
}

has_guard() {
    PATH="$PATH:/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin:/usr/local/opt/mosquitto/sbin"
    output=$(mktemp -d) && sh cloud/broker/guard/build.sh "$output/guard.so" 2>/dev/null
    status=$?
    rm -rf "$output"
    return "$status"
}

# Prints a Python that is new enough. A command of that name does not always work: pyenv installs such stubs.
find_python() {
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

# Debian starts a service when it is installed. Only the program is needed here.
forbid_services='[ -e /usr/sbin/policy-rc.d ] ||
    { printf "#!/bin/sh\n# facewire\nexit 101\n" >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; }'
allow_services='! grep -qs "^# facewire$" /usr/sbin/policy-rc.d || rm -f /usr/sbin/policy-rc.d'

apt_install() {
    as_root sh -c "$forbid_services"
    as_root apt-get -qq update
    status=0
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "$@" >/dev/null || status=1
    as_root sh -c "$allow_services"
    [ "$status" = 0 ] || fail "apt-get could not install $*"
}

missing=""
(has_mosquitto) || missing="mosquitto mosquitto-clients"
(has_guard) || missing="$missing gcc libc6-dev mosquitto-dev libmosquitto-dev libssl-dev"
python=$(find_python)
"${python:-false}" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3 python3-venv"

if [ -n "$missing" ]; then
    if command -v apt-get >/dev/null; then
        echo "facewire: installing $missing with apt-get"
        # shellcheck disable=SC2086  # each word is a package
        apt_install $missing
    elif command -v brew >/dev/null; then
        echo "facewire: installing mosquitto, openssl and python with Homebrew"
        brew install --quiet mosquitto openssl python
    else
        fail "missing: $missing; expected apt-get (Debian, Ubuntu) or brew (macOS) to install it"
    fi
    python=$(find_python)
fi
[ -n "$python" ] || fail "no Python 3.11 or newer on the path: install one, or set PYTHON=/path/to/python3"

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
echo "facewire: installing Python packages into $venv"
# Nothing but what is locked: ncnn names packages that we do not need.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.txt
