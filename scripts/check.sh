#!/usr/bin/env bash
# Everything CI runs, in an environment that has .[server,train,eval,dev].
set -euo pipefail
cd "$(dirname "$0")/.."
python scripts/site_paths.py
ruff check .
(cd site-paths && mypy --config-file ../pyproject.toml -p sled_tts.model -p sled_tts.server -p sled_tts.clients -p sled_tts.bench)
lint-imports
# Two cores: more threads than that only fight.
OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" python -m pytest -q "$@"
