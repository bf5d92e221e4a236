#!/usr/bin/env bash
# Create the Python environment from the compiled, hashed constraints. usage: hack/env.sh PYTHON VENV
set -euo pipefail
python=$1 venv=$2
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "trimtab: Python 3.11 or newer is needed as '$python'; name another with 'make PYTHON=... '" >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv
    else
        echo "trimtab: Python's venv module is missing; install it (Debian: apt-get install python3-venv)" >&2
        exit 1
    fi
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
echo "trimtab: installing the environment into $venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --requirement constraints.txt
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
