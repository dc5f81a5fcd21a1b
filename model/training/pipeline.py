"""A recipe, stage by stage, in a working folder. A stage whose result is there is not run again.

Every stage writes its result under another name and renames it when it is whole, and takes its randomness from its
seed; the network's training also goes on from its last save. So a run that is killed and started again ends with the
same bits as one that is not.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from sled_tts.model.checkpoint import load_sled_state
from sled_tts.model.codec.codec import Codec
from sled_tts.model.cores import usable_cores
from sled_tts.model.errors import ModelError
from sled_tts.model.melody.melody import FILE as MELODY
from sled_tts.model.sled import Sled
from sled_tts.model.tokenizer import Tokenizer, train_tokenizer
from sled_tts.model.training.aligned import write_aligned_samples
from sled_tts.model.training.batches import Corpus, TrainingData, encode_corpus
from sled_tts.model.training.board import Board
from sled_tts.model.training.codec_stages import ALIGNED, CODEC, POLISHED, TUNED, CodecStages, Progress
from sled_tts.model.training.data.streaming import ShardCorpus, shard_utterances
from sled_tts.model.training.finishing import write_checkpoint
from sled_tts.model.training.growth import grow_network
from sled_tts.model.training.intonation import speaker_registers
from sled_tts.model.training.loop import StepReport, train_sled
from sled_tts.model.training.melody import MelodyReport, train_contour
from sled_tts.model.training.recipe import Recipe, check_recipe, preparation, speaker_weights
from sled_tts.model.training.resume import flush
from sled_tts.model.training.speakers import require_speakers
from sled_tts.model.training.synthetic import CorpusItem, read_items, synthesise_corpus
from sled_tts.model.training.workers import Workers


@dataclass(frozen=True)
class Pipeline:
    """Runs `recipe` in `work`. `say` hears what is being done, `report` the network's training, `progress` that of
    the stages before it: (stage, done, of, figures)."""

    recipe: Recipe
    work: Path
    workers: Workers
    say: Callable[[str], None] = lambda text: None
    report: Callable[[StepReport], None] | None = None
    progress: Progress = lambda stage, done, of, figures: None

    def run(self) -> Path:
        """All stages; returns the folder that `sled-tts serve --model` speaks with. Raises ModelError."""
        check_recipe(self.recipe)
        recorded, codecs = self.recipe.data.shards is None, self._codecs
        if self.workers.leads:
            if recorded:
                self._stage("corpus", self._corpus)
            self._check_speakers()
            self._stage(CODEC, codecs.train)
            if self.recipe.codec.polish is not None:
                self._stage(POLISHED, codecs.polish)
            if recorded:
                self._stage("latents.npy", self._latents)
            if self.recipe.melody is not None:
                self._stage(MELODY, self._melody)
            self._stage("tokenizer", self._tokenizer)
        self.workers.wait()
        if self.workers.leads:
            self.say("network ...")
        self._sled()
        if self.workers.leads:
            if self.recipe.codec.tune is not None:
                self._stage(ALIGNED, self._aligned)
                self._stage(TUNED, codecs.tune)
            self._stage("voice", self._voice)
        return self.work / "voice"

    @property
    def _codecs(self) -> CodecStages:
        return CodecStages(self.recipe, self.work, self.progress)

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
            for file in [partial] if partial.is_file() else partial.rglob("*"):
                if file.is_file():
                    flush(file)
            partial.rename(result)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{result} could not be written: {error}") from error

    def _corpus(self, out: Path) -> None:
        data, codec = self.recipe.data, self.recipe.codec.config
        if data.texts is not None:
            lines = [line.strip() for line in Path(data.texts).read_text(encoding="utf-8").splitlines()]
            synthesise_corpus([line for line in lines if line][: data.limit], out, hop=codec.hop_length)
            return
        # Here, so that synthetic training needs none of the train extra.
        from sled_tts.model.training.manifests import Limits, read_manifest
        from sled_tts.model.training.recordings import prepare_recordings

        cuts = []
        for name in data.manifests:
            found, report = read_manifest(
                Path(name), Limits(longest_s=data.longest_s), None if data.root is None else Path(data.root)
            )
            self.say(f"{name}: {report}")
            if report.problems and not data.skip_bad:
                raise ModelError(f"{name}: some cuts cannot be used; mend them or set skip_bad", param="data.manifests")
            cuts += found
        chosen, how = cuts[: data.limit], preparation(self.recipe)
        prepare_recordings(
            chosen, out, how, lambda done: self.progress("corpus", done, len(chosen), ""), usable_cores()
        )

    def _aligned(self, out: Path) -> None:
        data, training = self._data(), self.recipe.training
        assert isinstance(data, Corpus)
        model = self._trained().to(self.workers.device)
        how = self.recipe.codec.samples
        made = write_aligned_samples(model, data, out, prompts=training.prompts, sampling=how, seed=training.seed)
        self.say(f"{made} samples of the network")

    def _latents(self, out: Path) -> None:
        codec = Codec.load(self.work / CODEC)
        encode_corpus(self.work / "corpus", codec, out, quantised=self.recipe.codec.quantised)

    def _melody(self, out: Path) -> None:
        recipe, how, corpus = self.recipe, self.recipe.melody, self.work / "corpus"
        assert how is not None
        # That a voice has no pitch is better known now than when all is trained.
        require_speakers(
            (item.speaker for item in self._utterances()), dict.fromkeys(recipe.voice.voices, 1.0), "voice.voices"
        )
        speaker_registers(corpus, recipe.voice.voices)

        def report(step: MelodyReport) -> None:
            explained = "" if step.explained is None else f"  explains {step.explained:.2f} of the variance"
            self.progress(MELODY, step.step, how.steps, f"energy {step.energy:.3f}{explained}")

        frame_rate, weights = recipe.codec.config.frame_rate, recipe.data.weights
        train_contour(
            corpus, self.work / "latents.npy", how, out, frame_rate=frame_rate, weights=weights, report=report
        )

    def _utterances(self) -> Iterator[CorpusItem]:
        shards = self.recipe.data.shards
        return read_items(self.work / "corpus") if shards is None else shard_utterances(Path(shards))

    def _check_speakers(self) -> None:
        for table, weights in speaker_weights(self.recipe).items():
            if weights:
                require_speakers((item.speaker for item in self._utterances()), weights, table)

    def _tokenizer(self, out: Path) -> None:
        chosen = self.recipe.tokenizer
        if chosen.source is not None:
            Tokenizer.load(Path(chosen.source)).save(out)
            return
        trained = train_tokenizer((item.text for item in self._utterances()), chosen.vocab_size)
        self.say(f"tokenizer: {trained.vocab_size} entries")
        trained.save(out)

    def _data(self) -> TrainingData:
        config = self.recipe.sled
        tokenizer = Tokenizer.load(self.work / "tokenizer")
        if tokenizer.vocab_size > config.vocab_size:
            raise ModelError(
                f"sled.vocab_size is {config.vocab_size}, the tokenizer has {tokenizer.vocab_size} entries",
                param="sled.vocab_size",
            )
        data, (n, m), most = self.recipe.data, (config.stream_n, config.stream_m), config.max_position_embeddings
        if data.shards is not None:
            window, seed = data.window_shards, self.recipe.training.seed
            return ShardCorpus.open(Path(data.shards), tokenizer, n, m, most=most, window_shards=window, seed=seed)
        return Corpus.open(self.work / "corpus", self.work / "latents.npy", tokenizer, n, m, most)

    def _sled(self) -> None:
        start = None
        if self.recipe.start is not None:
            start = Sled(self.recipe.sled)
            held = load_file(Path(self.recipe.start) / "model.safetensors")
            load_sled_state(start, grow_network(held, self.recipe.sled.num_hidden_layers))
        data = self._data()
        board = None
        if self.workers.leads:
            first = next(data.windows())
            if first.left_out:
                where = "" if isinstance(first, type(data)) else "of the first shard "
                self.say(
                    f"{first.left_out} of {first.left_out + len(first.items)} utterances {where}are left out: longer "
                    "than the network's positions, or over before their text is read"
                )
            board = Board(self.work / "board", first, Codec.load(self.work / CODEC))

        def report(step: StepReport) -> None:
            if board is not None:
                board.scalars(step)
            if self.report is not None:
                self.report(step)

        try:
            train_sled(
                data,
                self.recipe.sled,
                self.recipe.training,
                self.work / "sled.safetensors",
                report=report,
                saved=None if board is None else board.samples,
                start=start,
                workers=self.workers,
                weights=self.recipe.data.weights,
            )
        except OSError as error:
            raise ModelError(f"{self.work / 'board'} could not be written: {error}") from error
        finally:
            if board is not None:
                board.close()

    def _trained(self) -> Sled:
        model = Sled(self.recipe.sled)
        load_sled_state(model, load_file(self.work / "sled.safetensors"))
        return model.eval()

    def _voice(self, out: Path) -> None:
        write_checkpoint(self.recipe, self.work, self._data(), self._trained(), self._codecs.last(), out)
