"""A training run in TensorBoard: loss parts, what the network says, and where it looks."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor
from torch.utils.tensorboard import summary as untyped_summary

from sled_tts.model.codec.codec import Codec
from sled_tts.model.generation import GenerationRequest, generate, seeded_noise
from sled_tts.model.sled import Sled
from sled_tts.model.training.attention_map import attention_map
from sled_tts.model.training.batches import Corpus, collate
from sled_tts.model.training.loop import StepReport

summary: Any = untyped_summary
_SAMPLES = 3
_FRAMES_PER_TOKEN = 12


@dataclass
class Board:
    """Writes to `folder`; samples are the texts of the corpus's first utterances, spoken with a fixed seed.

    At once and in the caller's thread, so that a full disk is an OSError here and not a traceback of a thread.
    """

    folder: Path
    corpus: Corpus
    codec: Codec
    cfg_scale: float = 2.0
    _file: IO[bytes] = field(init=False, repr=False)
    _records: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        # Unbuffered: a buffer that cannot be written would come up again when the file is closed.
        self._file = (self.folder / name).open("wb", buffering=0)
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def scalars(self, report: StepReport) -> None:
        for name, value in asdict(report).items():
            if name != "step":
                self._add(summary.scalar(f"training/{name}", value), report.step)

    @torch.no_grad()
    def samples(self, model: Sled, step: int) -> None:
        """Audio of free-running speech and pictures of attention on the true speech; the model's mode is kept."""
        training = model.training
        model.eval()
        try:
            for index, item in enumerate(self.corpus.items[:_SAMPLES]):
                batch = collate([self.corpus.utterance(item)], left_pad_text=not model.config.is_streaming)
                wave = self._speak(model, item.text, index)
                if wave.numel():
                    rate = self.codec.config.sampling_rate
                    self._add(summary.audio(f"speech/{index}", wave.clamp(-1, 1), rate), step)
                picture = attention_map(model, batch).amax(0)
                shades = (picture / picture.max()).T[None].flip(1)
                self._add(summary.image(f"attention/{index}", shades, dataformats="CHW"), step)
        finally:
            model.train(training)

    def close(self) -> None:
        self._file.close()

    def _add(self, what: Any, step: int) -> None:
        self._write(Event(wall_time=time.time(), step=step, summary=what))

    def _write(self, event: Any) -> None:
        self._records.write(event.SerializeToString())

    def _speak(self, model: Sled, text: str, seed: int) -> Tensor:
        config, ids = model.config, self.corpus.tokenizer.encode(text)
        noise = seeded_noise(seed, config.generator.noise_channels)
        most = min(_FRAMES_PER_TOKEN * len(ids), config.max_position_embeddings - len(ids))
        request = GenerationRequest(ids, noise, most)
        (made,) = generate(model, [request], cfg_scale=self.cfg_scale, n=config.stream_n, m=config.stream_m)
        latents = (made.latents * self.corpus.std + self.corpus.mean).float()
        return self.codec.decode(latents[None])[0] if len(latents) else latents.flatten()
