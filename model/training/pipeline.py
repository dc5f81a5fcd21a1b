"""A recipe, stage by stage, in a working folder. A stage whose result is there is not run again.

Every stage writes its result under another name and renames it when it is whole, and takes its randomness from its
seed; the network's training also goes on from its last save. So a run that is killed and started again ends with the
same bits as one that is not.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from sled_tts.model.checkpoint import load_sled_state, save_bundle
from sled_tts.model.codec.codec import Codec
from sled_tts.model.errors import ModelError
from sled_tts.model.sled import Sled
from sled_tts.model.tokenizer import Tokenizer, train_tokenizer
from sled_tts.model.training.batches import Corpus, encode_corpus
from sled_tts.model.training.board import Board
from sled_tts.model.training.codec_loop import train_codec
from sled_tts.model.training.loop import StepReport, train_sled
from sled_tts.model.training.polish import polish_decoder
from sled_tts.model.training.recipe import Recipe
from sled_tts.model.training.synthetic import read_items, synthesise_corpus
from sled_tts.model.training.workers import Workers
from sled_tts.model.voices import BuiltInVoice, write_voice

_PROMPT_S = (2.0, 3.5)


@dataclass(frozen=True)
class Pipeline:
    """Runs `recipe` in `work`. `say` hears what is being done, `report` the network's training."""

    recipe: Recipe
    work: Path
    workers: Workers
    say: Callable[[str], None] = lambda text: None
    report: Callable[[StepReport], None] | None = None

    def run(self) -> Path:
        """All stages; returns the folder that `sled-tts serve --model` speaks with. Raises ModelError."""
        if self.workers.leads:
            self._stage("corpus", self._corpus)
            self._stage("codec", self._codec)
            if self.recipe.codec.polish is not None:
                self._stage("codec-polished", self._polish)
            self._stage("latents.npy", self._latents)
            self._stage("tokenizer", self._tokenizer)
        self.workers.wait()
        self._sled()
        if self.workers.leads:
            self._stage("voice", self._voice)
        return self.work / "voice"

    def _stage(self, name: str, make: Callable[[Path], None]) -> None:
        result = self.work / name
        if result.exists():
            self.say(f"{name}: there already")
            return
        self.say(f"{name} ...")
        partial = self.work / f"{name}.partial{result.suffix}"
        if partial.is_dir():
            shutil.rmtree(partial)
        self.work.mkdir(parents=True, exist_ok=True)
        try:
            make(partial)
            partial.rename(result)
        except OSError as error:
            raise ModelError(f"{result} could not be written: {error}") from error

    def _corpus(self, out: Path) -> None:
        data, codec = self.recipe.data, self.recipe.codec.config
        if bool(data.manifests) == bool(data.texts):
            raise ModelError("data needs either manifests or texts", param="data.manifests")
        if data.texts is not None:
            lines = [line.strip() for line in Path(data.texts).read_text(encoding="utf-8").splitlines()]
            synthesise_corpus([line for line in lines if line][: data.limit], out, hop=codec.hop_length)
            return
        # Here, so that synthetic training needs none of the train extra.
        from sled_tts.model.training.manifests import Limits, read_manifest
        from sled_tts.model.training.recordings import Preparation, prepare_recordings

        cuts = []
        for name in data.manifests:
            found, report = read_manifest(
                Path(name), Limits(longest_s=data.longest_s), None if data.root is None else Path(data.root)
            )
            self.say(f"{name}: {report}")
            if report.problems and not data.skip_bad:
                raise ModelError(f"{name}: some cuts cannot be used; mend them or set skip_bad", param="data.manifests")
            cuts += found
        how = Preparation(codec.sampling_rate, codec.hop_length, lock_pitch=data.lock_pitch, align=data.align)
        prepare_recordings(cuts[: data.limit], out, how)

    def _codec(self, out: Path) -> None:
        codec = self.recipe.codec
        if codec.source is not None:
            ready = Codec.load(Path(codec.source))
            if ready.config != codec.config:
                raise ModelError(f"the codec in {codec.source} is {ready.config}, codec.config says {codec.config}")
            ready.save(out)
            return
        train_codec(self.work / "corpus", codec.config, codec.training, out)

    def _polish(self, out: Path) -> None:
        assert self.recipe.codec.polish is not None
        codec = Codec.load(self.work / "codec")
        polish_decoder(self.work / "corpus", codec, self.recipe.codec.polish, out)

    def _latents(self, out: Path) -> None:
        codec = Codec.load(self.work / "codec")
        encode_corpus(self.work / "corpus", codec, out, quantised=self.recipe.codec.quantised)

    def _tokenizer(self, out: Path) -> None:
        chosen = self.recipe.tokenizer
        if chosen.source is not None:
            Tokenizer.load(Path(chosen.source)).save(out)
        else:
            train_tokenizer((item.text for item in read_items(self.work / "corpus")), chosen.vocab_size).save(out)

    def _data(self) -> Corpus:
        config = self.recipe.sled
        tokenizer = Tokenizer.load(self.work / "tokenizer")
        if tokenizer.vocab_size > config.vocab_size:
            raise ModelError(
                f"sled.vocab_size is {config.vocab_size}, the tokenizer has {tokenizer.vocab_size} entries",
                param="sled.vocab_size",
            )
        return Corpus.open(
            self.work / "corpus", self.work / "latents.npy", tokenizer, config.stream_n, config.stream_m
        )

    def _sled(self) -> None:
        start = None
        if self.recipe.start is not None:
            start = Sled(self.recipe.sled)
            load_sled_state(start, load_file(Path(self.recipe.start) / "model.safetensors"))
        data = self._data()
        board = Board(self.work / "board", data, Codec.load(self.work / "codec")) if self.workers.leads else None

        def report(step: StepReport) -> None:
            if board is not None:
                board.scalars(step)
            if self.report is not None:
                self.report(step)

        train_sled(
            data,
            self.recipe.sled,
            self.recipe.training,
            self.work / "sled.safetensors",
            report=report,
            saved=None if board is None else board.samples,
            start=start,
            workers=self.workers,
        )
        if board is not None:
            board.close()

    def _voice(self, out: Path) -> None:
        recipe, data = self.recipe, self._data()
        model = Sled(recipe.sled)
        load_sled_state(model, load_file(self.work / "sled.safetensors"))
        polished = self.work / "codec-polished"
        codec = Codec.load(polished if polished.exists() else self.work / "codec")
        out.mkdir(parents=True, exist_ok=True)
        extras = {
            "name": recipe.voice.name,
            "latent_mean": data.mean.tolist(),
            "latent_std": data.std,
            "max_segment_chars": recipe.voice.max_segment_chars,
            "max_frames_per_token": recipe.voice.max_frames_per_token,
            "speech_prompts": recipe.training.prompts.share > 0,
            "voices": [write_voice(self._speaker(data, speaker), out) for speaker in recipe.voice.voices],
        }
        save_bundle(out, model, data.tokenizer, codec, extras, dtype=torch.float16)

    def _speaker(self, data: Corpus, speaker: str) -> BuiltInVoice:
        """The utterance of a speaker that is nearest to what a prompt should last."""
        rate = self.recipe.codec.config.frame_rate
        middle = rate * sum(_PROMPT_S) / 2
        own = [item for item in data.items if item.speaker == speaker]
        if not own:
            known = ", ".join(sorted({item.speaker for item in data.items}))
            raise ModelError(f"no speaker {speaker!r} in the corpus; there are: {known}", param="voice.voices")
        item = min(own, key=lambda item: abs(item.frames - middle))
        latents = np.asarray(data.latents[item.offset : item.offset + item.frames], dtype=np.float32)
        return BuiltInVoice(speaker, speaker.title(), item.text, torch.from_numpy(latents))


def with_paths_from(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with its relative paths taken from the folder its file lies in."""

    def there(name: str | None) -> str | None:
        return None if name is None else str(folder / name)

    data = recipe.data
    return replace(
        recipe,
        data=replace(
            data,
            manifests=tuple(str(folder / name) for name in data.manifests),
            root=there(data.root),
            texts=there(data.texts),
        ),
        codec=replace(recipe.codec, source=there(recipe.codec.source)),
        tokenizer=replace(recipe.tokenizer, source=there(recipe.tokenizer.source)),
        start=there(recipe.start),
    )
