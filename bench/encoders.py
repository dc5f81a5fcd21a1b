"""What audio formats cost: CPU time a second of speech, the longest call, speech held back before the first sound."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import dataclass
from statistics import median

import av
import numpy as np
import numpy.typing as npt

from sled_tts.bench.common import machine
from sled_tts.server.audio.encoder import make_encoder
from sled_tts.server.audio.formats import AudioFormat, Codec

_RATES = {Codec.MULAW: 8_000, Codec.ALAW: 8_000}
_MODEL_RATE = 24_000


@dataclass(frozen=True)
class Cost:
    """Of one format: milliseconds of CPU time a second of speech and a call, and of speech held back."""

    a_second: float
    a_chunk: float
    held_back: float


def speech_like(seconds: float, seed: int) -> npt.NDArray[np.float32]:
    """Noise with the slope of speech's spectrum and its rise and fall, at the model's rate."""
    count = round(seconds * _MODEL_RATE)
    white = np.fft.rfft(np.random.default_rng(seed).normal(0, 1, count))
    wave = np.fft.irfft(white / (1 + np.arange(white.size) / (200 * seconds)), count)
    wave *= 0.5 + 0.5 * np.sin(2 * np.pi * 4 * np.arange(count) / _MODEL_RATE)
    return np.asarray(0.5 * wave / np.abs(wave).max(), dtype=np.float32)


def measure(wanted: AudioFormat, speed: float, wave: npt.NDArray[np.float32], chunk: int) -> Cost:
    """CPU time of every call with chunks of `chunk` samples; then, with chunks of 5 ms, what is held back."""
    encoder, calls = make_encoder(wanted, _MODEL_RATE, speed=speed), []
    for begin in range(0, wave.size, chunk):
        began = time.thread_time()
        encoder.encode(wave[begin : begin + chunk])
        calls.append(time.thread_time() - began)
    encoder.finish()
    encoder, fed, step = make_encoder(wanted, _MODEL_RATE, speed=speed), 0, _MODEL_RATE // 200
    encoder.encode(wave[:0])
    while fed < wave.size:
        fed += step
        if encoder.encode(wave[fed - step : fed]):
            break
    return Cost(
        1000 * sum(calls) * _MODEL_RATE / wave.size, 1000 * max(calls[1:], default=calls[0]), 1000 * fed / _MODEL_RATE
    )


async def thread_trip(count: int) -> float:
    """Milliseconds that handing a call to another thread and back takes on an idle loop."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        await asyncio.to_thread(int)
        times.append(1000 * (time.perf_counter() - began))
    return median(times)


def main() -> int:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--seconds", type=float, default=5.0, help="of speech for each format")
    made.add_argument("--chunk-ms", type=int, default=100)
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--seed", type=int, default=0)
    options = made.parse_args()
    wave, chunk = speech_like(options.seconds, options.seed), _MODEL_RATE * options.chunk_ms // 1000
    cases = [(codec.value, codec, 1.0) for codec in Codec] + [("pcm at speed 1.5", Codec.PCM_S16LE, 1.5)]
    found: dict[str, dict[str, float]] = {}
    print(f"{'format':18} {'ms CPU/s':>9} {'longest ms':>11} {'held ms':>8}")
    for name, codec, speed in cases:
        wanted = AudioFormat(codec, _RATES.get(codec, _MODEL_RATE))
        costs = [measure(wanted, speed, wave, chunk) for _ in range(options.rounds)]
        best = {
            "ms_a_second": round(median(cost.a_second for cost in costs), 3),
            "longest_call_ms": round(median(cost.a_chunk for cost in costs), 3),
            "held_back_ms": round(costs[0].held_back, 1),
        }
        found[name] = best
        print(f"{name:18} {best['ms_a_second']:9.2f} {best['longest_call_ms']:11.2f} {best['held_back_ms']:8.0f}")
    trip = round(asyncio.run(thread_trip(500)), 3)
    about = machine() | {"av": av.__version__, "seed": options.seed, "chunk_ms": options.chunk_ms}
    print(json.dumps({"bench": "encoders", "machine": about, "formats": found, "thread_trip_ms": trip}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
