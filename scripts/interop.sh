#!/usr/bin/env bash
# Real clients of other services against a live server. They get an environment of their own, layered over the
# current one (which has .[server,eval,dev]), so that what they pin disturbs nothing here and torch is not fetched again.
set -euo pipefail
cd "$(dirname "$0")/.."
venv="${INTEROP_VENV:-.venv-interop}"
base="$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
[ -x "$venv/bin/python" ] || python -m venv "$venv"
own="$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
echo "import site; site.addsitedir('$base')" > "$own/layered.pth"
SECONDS=0
"$venv/bin/python" -m pip install --quiet -e ".[interop,interop-agents]"
echo "clients installed in $SECONDS s"
# What these packages warn about is not ours to mend.
speak=("$venv/bin/python" -m pytest -q -W default -m interop tests/interop)
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}"
# They speak in real time over real sockets: what failed on a busy machine is tried once more, by itself.
"${speak[@]}" "$@" || "${speak[@]}" --last-failed --last-failed-no-failures none "$@"
