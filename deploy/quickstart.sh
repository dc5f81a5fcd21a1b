#!/usr/bin/env bash
# From nothing to a server that has spoken: an environment, the packages, the built-in voice.
# Arguments go to `sled-tts serve`.
set -euo pipefail
cd "$(dirname "$0")/.."
venv="${VENV:-.venv}"
if [ ! -x "$venv/bin/sled-tts" ]; then
    echo "1/3 an environment in $venv"
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --upgrade pip
    echo "2/3 torch, the largest part"
    # First and by itself, so that machines without a GPU get the CPU build where there is one.
    "$venv/bin/python" -m pip install --progress-bar on torch==2.13.0
    echo "3/3 sled-tts and the rest of the server"
    "$venv/bin/python" -m pip install --quiet ".[server]"
fi
exec "$venv/bin/sled-tts" serve --demo hello.wav "$@"
