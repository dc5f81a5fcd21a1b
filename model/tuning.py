"""How many threads a CPU should step a model with: measured at start, because cores, caches and neighbours differ."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from sled_tts.model.codec.codec import Codec
from sled_tts.model.cores import usable_cores
from sled_tts.model.kv_cache import KVCache
from sled_tts.model.sled import Sled
from sled_tts.model.stepping import forward_packed, pack, pad_rows

# More threads must earn their keep: the event loop and the audio encoders want a core as well, and threads that wait
# for each other on a shared core cost more than they save. Through the server on two cores, a small model that two
# threads alone step faster served half as many streams with them (docs/benchmarks.md).
_WORTHWHILE = 0.7
_FRAMES_A_CHUNK = 4
_PAST = 64


@dataclass(frozen=True)
class ThreadChoice:
    """`times` holds (threads, seconds for a frame of one guided stream), in ascending order of threads."""

    threads: int
    times: tuple[tuple[int, float], ...]


def thread_candidates(cores: int | None = None) -> tuple[int, ...]:
    """1, 2, 4, ... up to the cores this process may use, and their number itself; OMP_NUM_THREADS is a bound."""
    usable = cores or usable_cores()
    bound = os.environ.get("OMP_NUM_THREADS", "")
    if bound.isdecimal() and int(bound):
        usable = min(usable, int(bound))
    powers = [2**k for k in range(usable.bit_length()) if 2**k <= usable]
    return tuple(sorted({*powers, usable}))


def pick(times: Sequence[tuple[int, float]]) -> int:
    """The smallest number of threads that no larger one beats by three tenths."""
    chosen, best = times[0]
    for threads, seconds in times[1:]:
        if seconds < _WORTHWHILE * best:
            chosen, best = threads, seconds
    return chosen


def choose_threads(
    work: Callable[[], object], candidates: Sequence[int] | None = None, rounds: int = 7
) -> ThreadChoice:
    """Time `work` with each number of threads, in turns, and set the best for this process.

    The median of `rounds` counts, not the best of them: on a core that somebody else is busy on, threads that wait for
    each other are fast once in a while and ten times slower than one otherwise.
    Threads that have already run torch code keep their own setting: call it before the engine's thread starts.
    """
    candidates = candidates or thread_candidates()
    taken: dict[int, list[float]] = {threads: [] for threads in candidates}
    for turn in range(rounds + 1 if len(candidates) > 1 else 0):
        for threads in candidates:
            torch.set_num_threads(threads)
            began = time.perf_counter()
            work()
            if turn:
                taken[threads].append(time.perf_counter() - began)
    if len(candidates) == 1:
        torch.set_num_threads(candidates[0])
        return ThreadChoice(candidates[0], ())
    times = tuple((threads, statistics.median(seconds)) for threads, seconds in taken.items())
    chosen = pick(times)
    torch.set_num_threads(chosen)
    return ThreadChoice(chosen, times)


def frame_work(sled: Sled, codec: Codec) -> Callable[[], None]:
    """The work of one stream for one frame: a guided step, the generator, and its share of a decoded chunk."""
    config = sled.config
    cache = KVCache.allocate(
        config, 3, min(2 * _PAST, config.max_position_embeddings), dtype=sled.cache_dtype or torch.float32
    )
    past = min(_PAST, cache.capacity - 1)
    embeds = torch.zeros(pad_rows(torch.zeros(2, 1)).shape[0], config.hidden_size)
    modulation = sled.generator.modulation(torch.zeros(1, 1, config.generator.noise_channels))
    decoder = codec.streaming_decoder(1)
    first = codec.config.first_chunk_frames
    decoder.decode([torch.zeros(first, codec.config.dimension)], [0])
    chunk = [torch.zeros(_FRAMES_A_CHUNK, codec.config.dimension)]

    @torch.inference_mode()
    def work() -> None:
        for _ in range(_FRAMES_A_CHUNK):
            cache.lengths[:2] = [past, past]
            hidden = forward_packed(sled, embeds, cache, pack(cache, [0, 1], [1, 1], padding_row=2))
            one = pad_rows(hidden[:1])
            sled.latents(one, modulation, [0] * len(one), [0] * len(one))
        decoder.decode(chunk, [0])

    return work
