#!/usr/bin/env bash
# Everything that only a GPU can show, from a plain checkout: the tests of the kernels on the device, then every figure
# of `bench gpu`. Needs python3 with torch, triton, numpy, rich and safetensors; nothing is installed. Ten minutes.
#   bash scripts/gpu_check.sh [FOLDER]      the log goes to FOLDER/gpu.log (default: the present folder)
set -euo pipefail
into="$(mkdir -p "${1:-.}" && cd "${1:-.}" && pwd)"
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"
"$python" scripts/site_paths.py
export PYTHONPATH="$PWD/site-paths:$PWD" PYTHONUNBUFFERED=1
"$python" -m sled_tts.bench.gpu "${@:2}" 2>&1 | tee "$into/gpu.log"
