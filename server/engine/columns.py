"""A step's rows as columns of one ragged pack, in the plain integers that a device is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sled_tts.server.engine.work import LAST_LATENT, RowWork

Integers = NDArray[np.int64]

# Of a column: token id, whether it is text, slot and frame of the latent it feeds, cache row, position.
COLUMN_FIELDS = 6
# Of a stream: its last conditional and guidance column, slot, frame to write, modulation to use.
STREAM_FIELDS = 5


@dataclass(frozen=True)
class Counters:
    """What the host knows of the device's rows: positions of each cache row; frames and noise used of each slot."""

    lengths: Sequence[int]
    filled: Sequence[int]
    used: Sequence[int]


@dataclass
class Pack:
    """Columns and streams of one step, field by field for each."""

    columns: list[tuple[int, int, int, int, int, int]] = field(default_factory=list)
    streams: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    longest: int = 1

    @classmethod
    def of(cls, rows: Sequence[RowWork], now: Counters) -> Pack:
        """Every row's new columns at the end of its cache rows. An unguided stream's guidance column is its own
        conditional one, which makes guidance nothing."""
        made = cls()
        for row in rows:
            slot = row.slot
            made._add(row.conditional, slot, 2 * slot, now)
            told = free = len(made.columns) - 1
            if row.unconditional:
                made._add(row.unconditional, slot, 2 * slot + 1, now)
                free = len(made.columns) - 1
            made.streams.append((told, free, slot, now.filled[slot], now.used[slot]))
        return made

    def _add(self, part: Sequence[int], slot: int, cache_row: int, now: Counters) -> None:
        at = now.lengths[cache_row]
        for column in part:
            if column >= 0:
                self.columns.append((column, 1, 0, 0, cache_row, at))
            else:
                frame = now.filled[slot] - 1 if column == LAST_LATENT else -2 - column
                self.columns.append((0, 0, slot, frame, cache_row, at))
            at += 1
        self.longest = max(self.longest, at)

    def parts(self, most: int) -> Iterator[Pack]:
        """Consecutive packs of at most `most` columns and no streams, for reading without sampling."""
        for first in range(0, len(self.columns), most):
            columns = self.columns[first : first + most]
            yield Pack(columns, [], 1 + max(column[5] for column in columns))

    def write(self, target: Integers, columns: int, streams: int, padding_row: int, padding_slot: int) -> int:
        """Lay out `[COLUMN_FIELDS, columns]`, then `[STREAM_FIELDS, streams]`, in flat `target`; returns its used
        length. What is too many works on a row and a slot that belong to nobody."""
        heads = target[: COLUMN_FIELDS * columns].reshape(COLUMN_FIELDS, columns)
        live = len(self.columns)
        heads[:, :live] = np.asarray(self.columns, dtype=np.int64).T
        heads[:, live:] = np.array([0, 1, padding_slot, 0, padding_row, 0])[:, None]
        end = COLUMN_FIELDS * columns + STREAM_FIELDS * streams
        tails = target[COLUMN_FIELDS * columns : end].reshape(STREAM_FIELDS, streams)
        live = len(self.streams)
        if live:
            tails[:, :live] = np.asarray(self.streams, dtype=np.int64).T
        tails[:, live:] = np.array([0, 0, padding_slot, 0, 0])[:, None]
        return end
