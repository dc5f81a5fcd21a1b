"""A long text, word by word through a live server: is everything said once and in order, and does memory stay put?

    sled-tts bench longtext --words 3000 --listen
    sled-tts bench longtext --minutes 60

The text is the package's own sentences (CMU Arctic prompts), over again when they do not suffice, or `--text FILE`
with one sentence a line. Words are sent as fast as they are said, at most `--ahead` of them before they are; audio is
taken as fast as it comes. `--listen` (the `eval` extra) cuts the sound where the server said that sentences begin and
lets a recogniser judge each (see `bench/clips.py`), with planted faults to show that it finds some. A line of JSON for
every minute of audio goes to standard error, the last line of standard output is JSON; an interrupt ends the text and
judges what has been said. `--judge FOLDER` judges once more what `--out FOLDER` kept. Exit code 1 when a word was not
told once and in order, the audio was not complete, memory grew by more than `--max-growth-mb` after the first tenth, or
more than 1 % of the sentences sound lost or repeated.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from websockets.asyncio.client import ClientConnection, connect

from sled_tts.bench.serving import ServerProcess, client_machine, started_server
from sled_tts.model.evaluation.recognition import Wave, arctic_prompts

_TOLERATED = 0.01


@dataclass
class Reading:
    """One long utterance as a client hears it. `told`: what the server said of the words sent: (begin, end, start in
    seconds); `spoken`: all that was said of the last of them (et, cetera); `memory`: (seconds of audio, resident MiB of
    the server)."""

    keep: bool
    rate: int = 0
    pcm: list[bytes] = field(default_factory=list, repr=False)
    samples: int = 0
    told: list[tuple[int, int, float]] = field(default_factory=list, repr=False)
    spoken: list[str] = field(default_factory=list, repr=False)
    memory: list[tuple[float, float]] = field(default_factory=list)
    done: dict[str, Any] | None = None
    enough: bool = False
    interrupted: bool = False

    def hear(self, word: dict[str, Any]) -> bool:
        """Take a spoken word; whether it begins a word as it was sent, which may be read as several (etc., 42). The
        same one said again is no part of the reading but a repetition, and counts."""
        whole = (word["begin"], word["end"])
        if self.told and self.told[-1][:2] == whole and word["text"] not in self.spoken:
            self.spoken.append(word["text"])
            return False
        self.told.append((*whole, word["start_s"]))
        self.spoken = [word["text"]]
        return True

    @property
    def audio_s(self) -> float:
        return self.samples / self.rate if self.rate else 0.0

    @property
    def wave(self) -> Wave:
        return np.frombuffer(b"".join(self.pcm), "<i2").astype(np.float32) / np.float32(32768)


async def read_out(server: ServerProcess, sentences: Iterator[str], options: argparse.Namespace) -> tuple[Reading, str]:
    """Stream sentences until they end or `options.minutes` of audio have come; what was heard and what was sent."""
    reading, sent = Reading(options.listen), list[str]()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, lambda: setattr(reading, "interrupted", True))
    room = asyncio.Semaphore(options.ahead)
    url = server.url.replace("http", "ws", 1) + "/v1/stream"
    async with connect(url, max_size=None, compression=None) as connection:
        start = {"type": "start", "seed": options.seed, "timings": True, "format": "s16le"}
        await connection.send(json.dumps(start | ({"voice": options.voice} if options.voice else {})))

        async def write() -> None:
            for word in itertools.chain.from_iterable(sentence.split() for sentence in sentences):
                await room.acquire()
                if reading.enough or reading.interrupted:
                    break
                sent.append(f"{word} ")
                await connection.send(json.dumps({"type": "text", "text": sent[-1]}))
            await connection.send(json.dumps({"type": "end"}))

        writer = asyncio.create_task(write())
        try:
            await _listen(connection, reading, room, server, options.minutes)
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
    return reading, "".join(sent)


async def _listen(
    connection: ClientConnection,
    reading: Reading,
    room: asyncio.Semaphore,
    server: ServerProcess,
    minutes: float | None,
) -> None:
    began = time.monotonic()
    async for frame in connection:
        if isinstance(frame, bytes):
            reading.samples += len(frame) // 2
            if reading.keep:
                reading.pcm.append(frame)
            if reading.audio_s >= 60 * len(reading.memory):
                reading.memory.append((round(reading.audio_s, 1), server.resident_mb()))
                line = {"audio_s": reading.memory[-1][0], "rss_mb": reading.memory[-1][1], "words": len(reading.told)}
                print(json.dumps(line | {"s": round(time.monotonic() - began)}), file=sys.stderr, flush=True)
            reading.enough = minutes is not None and reading.audio_s >= 60 * minutes
            continue
        message = json.loads(frame)
        if message["type"] == "started":
            reading.rate = message["sample_rate"]
        elif message["type"] == "words":
            for word in message["words"]:
                if reading.hear(word):
                    room.release()
        elif message["type"] == "done":
            reading.done = message
            return
        elif message["type"] == "error":
            raise RuntimeError(message)


def told_once_in_order(text: str, told: Sequence[tuple[int, int, float]]) -> bool:
    """Whether the words told are the text's, each once, in order, none earlier than the one before."""
    starts = [start for _, _, start in told]
    words = [word for word in text.split() if any(c.isalnum() for c in word)]
    return [text[begin:end] for begin, end, _ in told] == words and starts == sorted(starts)


def sentence_starts(sentences: Sequence[str], told: Sequence[tuple[int, int, float]]) -> list[float]:
    """When each sentence begins, in seconds, as far as they have been told to their end."""
    ends = list(itertools.accumulate(len(sentence.split()) for sentence in sentences))
    firsts = [0, *ends[:-1]]
    return [told[first][2] for first, end in zip(firsts, ends, strict=True) if end <= len(told)]


def heard(
    sentences: Sequence[str], wave: Wave, rate: int, told: Sequence[tuple[int, int, float]], seed: int
) -> dict[str, Any]:
    """The recogniser's view of every sentence that was said to its end."""
    from sled_tts.bench.clips import Cut, judge_all

    return judge_all(sentences, Cut(wave, rate, sentence_starts(sentences, told)), seed)


def report(reading: Reading, text: str, server_s: float) -> dict[str, Any]:
    settled = [mb for at, mb in reading.memory if at >= reading.audio_s / 10] or [mb for _, mb in reading.memory]
    done = reading.done or {}
    return {
        "words": len(text.split()),
        "characters": len(text),
        "audio_minutes": round(reading.audio_s / 60, 2),
        "wall_minutes": round(server_s / 60, 2),
        "interrupted": reading.interrupted,
        "finish_reason": done.get("finish_reason"),
        "rtf": done.get("rtf"),
        "told_once_in_order": told_once_in_order(text, reading.told),
        "rss_mb": [mb for _, mb in reading.memory],
        "rss_mb_after_a_tenth": settled[0] if settled else None,
        "rss_mb_most_later": max(settled, default=None),
        "rss_mb_at_end": settled[-1] if settled else None,
    }


def source(options: argparse.Namespace) -> list[str]:
    """The sentences to read out; those the recogniser can judge when it has to."""
    texts = options.text.read_text(encoding="utf-8").splitlines() if options.text else arctic_prompts()
    texts = [text.strip() for text in texts if text.strip()]
    if options.listen:
        from sled_tts.bench.clips import speakable

        texts = speakable(texts)
    before = [0, *itertools.accumulate(len(text.split()) for text in texts)]
    return [text for text, words in zip(texts, before, strict=False) if options.minutes or words < options.words]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="built-in")
    parser.add_argument("--voice")
    parser.add_argument("--words", type=int, default=3000)
    parser.add_argument("--minutes", type=float, help="Of audio, instead of a number of words.")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--listen", action="store_true")
    parser.add_argument("--ahead", type=int, default=40)
    parser.add_argument("--max-growth-mb", type=float, default=32.0)
    parser.add_argument("--out", type=Path, help="Keep the sound and the word times in this folder.")
    parser.add_argument("--judge", type=Path, help="Judge the sound in this folder, of the same text, once more.")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.listen = options.listen or options.judge is not None
    if options.minutes is not None and options.listen:
        parser.error("--listen judges a whole text: give --words")
    sentences = source(options)
    about = client_machine() | {"model": options.model, "voice": options.voice, "seed": options.seed}
    if options.judge is not None:
        wave, rate = soundfile.read(options.judge / "long.flac", dtype="float32")
        told = json.loads((options.judge / "words.json").read_text(encoding="utf-8"))
        figures: dict[str, Any] = {"heard": heard(sentences, wave, rate, told, options.seed)}
        wrong, grown = False, 0.0
    else:
        figures = speak(sentences, options)
        wrong = figures["finish_reason"] != "stop" or not figures["told_once_in_order"]
        grown = (figures["rss_mb_most_later"] or 0.0) - (figures["rss_mb_after_a_tenth"] or 0.0)
    if "heard" in figures:
        wrong = wrong or figures["heard"]["lost_or_repeated"] > _TOLERATED * figures["heard"]["sentences"]
    for name, value in figures.items():
        print(f"{name:24} {value}")
    print(json.dumps({"about": about, "results": figures}))
    return int(wrong or grown > options.max_growth_mb)


def speak(sentences: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Read out, report, and judge if asked to."""
    endless = itertools.cycle(sentences) if options.minutes is not None else iter(sentences)
    began = time.monotonic()
    with started_server(options.model, 1, "--threads", "1") as server:
        reading, text = asyncio.run(read_out(server, endless, options))
        figures = report(reading, text, time.monotonic() - began)
    print(json.dumps(figures), file=sys.stderr, flush=True)
    if options.out is not None and options.listen:
        options.out.mkdir(parents=True, exist_ok=True)
        soundfile.write(options.out / "long.flac", reading.wave, reading.rate)
        (options.out / "words.json").write_text(json.dumps(reading.told), encoding="utf-8")
    if options.listen and figures["told_once_in_order"]:
        figures["heard"] = heard(sentences, reading.wave, reading.rate, reading.told, options.seed)
    return figures


if __name__ == "__main__":
    sys.exit(main())
