"""A training run in TensorBoard: loss parts, what the network says, and where it looks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from sled_tts.model.codec.codec import Codec
from sled_tts.model.generation import GenerationRequest, generate, seeded_noise
from sled_tts.model.sled import Sled
from sled_tts.model.training.attention_map import attention_map
from sled_tts.model.training.batches import Corpus, collate
from sled_tts.model.training.loop import StepReport

_SAMPLES = 3
_FRAMES_PER_TOKEN = 12


@dataclass
class Board:
    """Writes to `folder`; samples are the texts of the corpus's first utterances, spoken with a fixed seed."""

    folder: Path
    corpus: Corpus
    codec: Codec
    cfg_scale: float = 2.0
    _writer: Any = None

    def __post_init__(self) -> None:
        self._writer = SummaryWriter(str(self.folder))

    def scalars(self, report: StepReport) -> None:
        for name, value in asdict(report).items():
            if name != "step":
                self._writer.add_scalar(f"training/{name}", value, report.step)

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
                    self._writer.add_audio(f"speech/{index}", wave.clamp(-1, 1), step, sample_rate=rate)
                picture = attention_map(model, batch).amax(0)
                self._writer.add_image(f"attention/{index}", (picture / picture.max()).T[None].flip(1), step)
        finally:
            model.train(training)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _speak(self, model: Sled, text: str, seed: int) -> Tensor:
        config, ids = model.config, self.corpus.tokenizer.encode(text)
        noise = seeded_noise(seed, config.generator.noise_channels)
        most = min(_FRAMES_PER_TOKEN * len(ids), config.max_position_embeddings - len(ids))
        request = GenerationRequest(ids, noise, most)
        (made,) = generate(model, [request], cfg_scale=self.cfg_scale, n=config.stream_n, m=config.stream_m)
        latents = (made.latents * self.corpus.std + self.corpus.mean).float()
        return self.codec.decode(latents[None])[0] if len(latents) else latents.flatten()
