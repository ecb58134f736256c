#!/bin/sh
# Runs the tests that an sdist holds, from the sdist alone: sh tests/sdist/run.sh FILE.tar.gz PYTHON [TESTS...]
#
# All of them are collected, which fails where a module that one needs was left out. Then those run that need no server
# and no browser, so that this also works where a distributor builds a package of it; or those of them that are named.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
tar -xzf "$1" -C "$folder" --strip-components 1
python=$2
shift 2
cd "$folder"
export PYTHONPATH="$folder" PYTHONDONTWRITEBYTECODE=1

"$python" -c '
import sys, aiohttp_persistent_session
assert aiohttp_persistent_session.__file__.startswith(sys.argv[1]), aiohttp_persistent_session.__file__
' "$folder"
collected=$("$python" -m pytest -p no:cacheprovider -q --collect-only) || { echo "$collected"; exit 1; }
echo "$collected" | tail -n 1
"$python" -m pytest -p no:cacheprovider -q -n auto --dist worksteal \
    -m "not browser" -k "not redis and not mongo and not postgres" --ignore tests/model "$@"
