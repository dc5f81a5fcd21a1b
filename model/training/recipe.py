"""A whole training as one TOML file, and the strict reading of it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from sled_tts.model.codec.codec import Codec
from sled_tts.model.codec.config import CodecConfig
from sled_tts.model.config import SledConfig
from sled_tts.model.errors import ConfigError, ModelError
from sled_tts.model.training.aligned import Sampling
from sled_tts.model.training.codec_loop import CodecTraining
from sled_tts.model.training.loop import SledTraining
from sled_tts.model.training.melody import MelodyTraining
from sled_tts.model.training.polish import Polish
from sled_tts.model.training.speakers import check_weights

if TYPE_CHECKING:
    from sled_tts.model.training.recordings import Preparation


@dataclass(frozen=True)
class DataRecipe:
    """Recordings (`manifests`, audio paths relative to `root`), or `texts` for flite to read, one sentence a line, or
    `shards`: a folder that `sled-tts data encode` wrote, read `window_shards` at a time (then nothing else here
    but `weights` matters).

    `skip_bad`: go on without the cuts that cannot be used, after saying which. `level`: the RMS every utterance gets,
    0 to leave it as recorded. `weights`: by speaker, how often the network sees an utterance in an epoch, 1 for those
    without; of 2.5, it sees each twice and half of them once more.
    """

    manifests: tuple[str, ...] = ()
    root: str | None = None
    texts: str | None = None
    shards: str | None = None
    window_shards: int = 4
    longest_s: float = 35.0
    skip_bad: bool = False
    lock_pitch: bool = True
    align: bool = True
    trim: bool = True
    level: float = 0.07
    limit: int | None = None
    weights: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CodecRecipe:
    """A codec to train, or `source`: a folder with one that exists, whose shape `config` must be.

    `quantised`: the network learns the codes' summed embeddings, as the published ones do, not the encoder's output.
    `polish`: its decoder against a discriminator; `tune`: the same once more after the network, on its samples,
    which are drawn as `samples` says.
    """

    source: str | None = None
    quantised: bool = False
    config: CodecConfig = field(default_factory=CodecConfig)
    training: CodecTraining = field(default_factory=CodecTraining)
    polish: Polish | None = None
    tune: Polish | None = None
    samples: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True)
class TokenizerRecipe:
    """A byte-level BPE of `vocab_size` entries trained on the corpus (260 is bytes only), or one in `source`."""

    vocab_size: int = 260
    source: str | None = None


@dataclass(frozen=True)
class VoiceRecipe:
    """What the finished folder says of itself. `voices`: speakers whose speech becomes a built-in voice."""

    name: str = "sled-tts"
    max_segment_chars: int | None = 80
    max_frames_per_token: float = 10.0
    voices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """`start`: a checkpoint folder to fine-tune from, such as the offline one of the paper's streaming recipe; one with
    fewer layers than `sled` grows (`growth.grow_network`). `melody`: how a network learns the pitch that recordings had
    before it was locked, None to speak at the locked one."""

    data: DataRecipe
    sled: SledConfig
    training: SledTraining
    codec: CodecRecipe = field(default_factory=CodecRecipe)
    tokenizer: TokenizerRecipe = field(default_factory=TokenizerRecipe)
    voice: VoiceRecipe = field(default_factory=VoiceRecipe)
    melody: MelodyTraining | None = None
    start: str | None = None


def find_recipe(name: str) -> Path:
    """A recipe's file, or one that comes along by its name. Raises ConfigError that lists those."""
    own = Path(name)
    if own.is_file():
        return own
    folder = Path(__file__).parent / "recipes"
    if (folder / f"{name}.toml").is_file():
        return folder / f"{name}.toml"
    known = ", ".join(sorted(path.stem for path in folder.glob("*.toml")))
    raise ConfigError(f"no recipe file {name}; recipes that come along: {known}", param="config")


def with_data(recipe: Recipe, source: Path) -> Recipe:
    """The recipe on other data: a manifest, a shard folder, a folder with `cuts_train.jsonl`, or sentences (.txt);
    these are read at one pitch, so without the recipe's melody. Raises ConfigError for anything else."""
    data = replace(recipe.data, manifests=(), texts=None, shards=None, root=None)
    if (source / "index.json").is_file():
        return replace(recipe, data=replace(data, shards=str(source)))
    if (source / "cuts_train.jsonl").is_file():
        return replace(recipe, data=replace(data, manifests=(str(source / "cuts_train.jsonl"),)))
    if source.is_dir():
        there = ", ".join(sorted(path.name for path in source.glob("*.jsonl*"))) or "no manifest"
        raise ConfigError(f"{source} holds neither shards nor cuts_train.jsonl; there is {there}", param="data")
    if not source.exists():
        raise ConfigError(f"there is no {source}", param="data")
    if source.suffix == ".txt":
        return replace(recipe, data=replace(data, texts=str(source)), melody=None)
    return replace(recipe, data=replace(data, manifests=(str(source),)))


def with_codec(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with a codec that exists instead of one to train; what the recipe says about its decoder (`polish`,
    `tune`) stays. Raises CheckpointError when it cannot be read."""
    return replace(recipe, codec=replace(recipe.codec, source=str(folder), config=Codec.load(folder).config))


def read_recipe(path: Path) -> Recipe:
    """Raises ConfigError that names the file and the key: one that does not exist, is missing or has a wrong value."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}", param="config") from None
    _check_keys(Recipe, data, path.name, "")
    try:
        return TypeAdapter(Recipe).validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path.name}: {where}: {first['msg']}", param=where) from None


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
            shards=there(data.shards),
        ),
        codec=replace(recipe.codec, source=there(recipe.codec.source)),
        tokenizer=replace(recipe.tokenizer, source=there(recipe.tokenizer.source)),
        start=there(recipe.start),
    )


def preparation(recipe: Recipe) -> Preparation:
    """How its recordings become a corpus."""
    # Here, so that synthetic training needs none of the train extra.
    from sled_tts.model.training.recordings import Preparation

    data, codec = recipe.data, recipe.codec.config
    return Preparation(codec.sampling_rate, codec.hop_length, data.level, data.trim, data.lock_pitch, align=data.align)


def speaker_weights(recipe: Recipe) -> dict[str, dict[str, float]]:
    """Every table of a recipe that weighs speakers, by its name there."""
    codec = recipe.codec
    stages = {"polish": codec.polish, "tune": codec.tune}
    tables = {f"codec.{name}.weights": stage.weights for name, stage in stages.items() if stage is not None}
    return {"data.weights": recipe.data.weights, **tables}


def check_recipe(recipe: Recipe) -> None:
    """Raises ModelError (ConfigError for a melody) for what does not go together, before anything is made."""
    data, codec = recipe.data, recipe.codec
    if (bool(data.manifests), bool(data.texts), bool(data.shards)).count(True) != 1:
        raise ModelError("data needs either manifests or texts or shards", param="data.manifests")
    if recipe.sled.latent_dim != codec.config.dimension:
        raise ModelError(
            f"sled.latent_dim is {recipe.sled.latent_dim}, the codec's latents have {codec.config.dimension}",
            param="sled.latent_dim",
        )
    if data.shards is not None and codec.source is None:
        why = "shards need the codec they were encoded with: set codec.source, or --codec"
        raise ModelError(why, param="codec.source")
    averaged = {"training": recipe.training, "codec.polish": codec.polish, "codec.tune": codec.tune}
    for name, stage in averaged.items():
        if stage is not None and not 0.0 <= stage.average < 1.0:
            raise ModelError(f"{name}.average must be in [0, 1), got {stage.average}", param=f"{name}.average")
    for name in ("noise", "guidance"):
        least, most = getattr(codec.samples, name)
        if not 0.0 <= least <= most:
            where = f"codec.samples.{name}"
            raise ModelError(f"{where} must be from 0 or more to as much or more, got {(least, most)}", param=where)
    for table, weights in speaker_weights(recipe).items():
        check_weights(weights, table)
    for name in ("polish", "tune"):
        if data.shards is not None and getattr(codec, name) is not None:
            where = f"codec.{name}"
            why = f"{where}: a decoder is trained on recordings, and shards have none; take it out of the recipe"
            raise ModelError(why, param=where)
    if recipe.melody is not None:
        _check_melody(recipe.melody, data)


def _check_melody(melody: MelodyTraining, data: DataRecipe) -> None:
    if not (data.manifests and data.lock_pitch):
        why = "melody is learnt from recordings (data.manifests) whose pitch is locked (data.lock_pitch)"
        raise ConfigError(f"{why}; take it out of the recipe", param="melody")
    for name in ("steps", "batch", "width", "least_voiced_s"):
        if getattr(melody, name) < 1:
            raise ConfigError(f"melody.{name} must be at least 1, got {getattr(melody, name)}", param=f"melody.{name}")
    for name in ("depth", "noise_scale"):
        if not 0.0 <= getattr(melody, name) <= 4.0:
            raise ConfigError(f"melody.{name} must be in [0, 4], got {getattr(melody, name)}", param=f"melody.{name}")


def _check_keys(kind: Any, data: Mapping[str, Any], file: str, prefix: str) -> None:
    """Unknown keys, in every table."""
    known = {f.name for f in fields(kind)}
    unknown = sorted(set(data) - known)
    if unknown:
        where = f"{prefix}{unknown[0]}"
        raise ConfigError(f"{file}: unknown key {where}; known here: {', '.join(sorted(known))}", param=where)
    hints = get_type_hints(kind)
    for name, value in data.items():
        parts = [hints[name], *getattr(hints[name], "__args__", ())]
        inner = next((part for part in parts if is_dataclass(part)), None)
        if inner is not None and isinstance(value, Mapping):
            _check_keys(inner, value, file, f"{prefix}{name}.")
