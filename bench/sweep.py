"""How many streams at once before the first underrun: a closed loop with more and more clients.

    sled-tts bench sweep --start 1 --most 32

Without `--url` a server of its own is started with as many slots as `--most`. Takes the options of `bench load`.
Doubles the clients until a listener with a buffer of `--buffer-ms` runs dry or an answer is not whole, then halves the
gap between the last good and the first bad number. Underruns count from the end of the text on. JSON last.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import Any

from sled_tts.bench.load import parser as load_parser
from sled_tts.bench.load import run
from sled_tts.bench.serving import client_machine, started_server


def sweep(options: argparse.Namespace) -> dict[str, Any]:
    """Rows by number of clients, the most that were fine, and the first that were not."""
    rows: dict[int, dict[str, Any]] = {}

    def fine(clients: int) -> bool:
        options.clients = clients
        figures, heard = asyncio.run(run(options))
        dry = sum(h.underruns(options.buffer_ms / 1000, h.last_word_at - h.first_word_at) for h in heard)
        rows[clients] = {name: figures[name] for name in ("ttfa_ms", "chunk_gap_ms", "rtf", "whole_answers", "errors")}
        rows[clients] |= {"clients": clients, "underruns": dry}
        print(json.dumps(rows[clients]), flush=True)
        return dry == 0 and figures["whole_answers"] == figures["requests"]

    good, bad, clients = 0, None, options.start
    while bad is None and good < options.most:
        if fine(clients):
            good, clients = clients, min(2 * clients, options.most)
        else:
            bad = clients
    while bad is not None and bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fine(middle) else (good, middle)
    return {"streams_without_underrun": good, "first_bad": bad, "rows": [rows[k] for k in sorted(rows)]}


def main() -> int:
    made = load_parser()
    made.description = __doc__
    made.set_defaults(url=None, rounds=2)
    made.add_argument("--model", default="built-in")
    made.add_argument("--start", type=int, default=1)
    made.add_argument("--most", type=int, default=16)
    made.add_argument("--buffer-ms", type=float, default=100.0)
    options = made.parse_args()
    if options.rate or not 1 <= options.start <= options.most:
        made.error("needs a closed loop (no --rate) and 1 <= start <= most")
    about = client_machine() | {"seed": options.seed, "gap_ms": options.gap_ms, "buffer_ms": options.buffer_ms}
    if options.url:
        figures = sweep(options)
    else:
        with started_server(options.model, options.most) as server:
            options.url = server.url
            figures = sweep(options)
    print(json.dumps({"about": about, "results": figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
