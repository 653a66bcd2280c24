#!/usr/bin/env bash
# Installs the programs that read our files, and those that are measured beside ours, with PyTorch, into .venv-readers (5.3 GB, about two minutes), unless that is done.
set -euo pipefail
cd "$(dirname "$0")/.."

VENV=.venv-readers
WANTED=python/requirements-readers.txt
STAMP=$VENV/pixtok-requirements

say() { echo "venv: $*" >&2; }

if cmp -s "$WANTED" "$STAMP"; then
    exit
fi
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    say "$(python3 --version) is too old: put python3.11 or newer first in PATH"
    exit 1
}
say "installing $WANTED (5.3 GB on disk) into $VENV"
python3 -m venv --clear "$VENV"
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --requirement "$WANTED" || {
    say "pip could not install them (its message is above); mend that and run again"
    exit 1
}
# Written last: without it the installation was cut short.
cp "$WANTED" "$STAMP"
