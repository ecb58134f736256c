#!/bin/sh
# install.sh venv    what $PYTHON lacks to make a virtual environment
# install.sh tests   what the tests start themselves, and the libraries of it
#
# Installs what is missing where this user is root and there is apt-get; says in one line what to install elsewhere.
set -eu

PYTHON=${PYTHON:-python3}
missing=""

need() { # need PACKAGE COMMAND...: the package is missing where the command fails
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}

case $1 in
venv)
    # Debian keeps ensurepip, which puts pip into an environment, in a package of its own.
    need "$(basename "$PYTHON")-venv" "$PYTHON" -c 'import ensurepip'
    ;;
tests)
    need chromium sh -c 'command -v chromium || command -v chromium-browser || command -v google-chrome'
    need redis-server command -v redis-server
    need postgresql sh -c 'ls /usr/lib/postgresql/*/bin/initdb || command -v initdb'
    # The wheel with mongod is for this platform alone, and brings none of the libraries that mongod needs.
    if [ "$(uname -sm)" = "Linux x86_64" ]; then
        need libcurl4 "$PYTHON" -c 'import ctypes; ctypes.CDLL("libcurl.so.4")'
    fi
    ;;
*)
    echo "usage: install.sh venv|tests" >&2
    exit 2
    ;;
esac

[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing:$missing"
    apt-get update -qq
    # shellcheck disable=SC2086 -- a list of package names
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    exit 0
fi
echo "please install:$missing (on Debian, as root: apt-get install$missing)" >&2
# No environment, no demo and no tests. Without a server the others' tests can still run, though not in CI.
[ "$1" = tests ] && [ -z "${CI:-}" ]
