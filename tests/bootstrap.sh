#!/bin/sh
# Make the virtual environment and install the package with its development tools, pinned.
# Usage: bootstrap.sh PYTHON VENV
set -eu
python=$1
venv=$2

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Python 3.11 or newer is needed; $python is $("$python" -V 2>&1)." >&2
    echo "Name another with: make PYTHON=python3.12 ..." >&2
    exit 1
}

# Debian and Ubuntu keep ensurepip in a package of its own.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    install="apt-get install -y python$version-venv"
    if [ "$(id -u)" = 0 ]; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive $install
    elif command -v sudo >/dev/null && [ -t 0 ]; then
        echo "Python's venv module is missing; installing it with sudo."
        sudo apt-get update -qq && sudo $install
    else
        echo "Python's venv module is missing. Install it and try again: $install" >&2
        exit 1
    fi
fi

echo "Setting up $venv; this needs the network once."
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint constraints.txt --upgrade pip
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint constraints.txt --editable . --group dev
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
    --requirement tests/public-clients.txt
