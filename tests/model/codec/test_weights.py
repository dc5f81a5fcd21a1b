"""Weight files: both public layouts, strictness, Encodec's .th, and folders of our own."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sled_tts.model.codec.codec import Codec, codec_config_from
from sled_tts.model.codec.config import CodecConfig
from sled_tts.model.codec.networks import SEANetDecoder, SEANetEncoder
from sled_tts.model.codec.weights import export_state, fold_weight_norm, read_weights
from sled_tts.model.errors import CheckpointError, ConfigError
from tests.model.codec.factories import DEEP, NO_LSTM, SHAPES, SMALL, random_codec, random_latents

SHARED = Path(os.environ.get("SLED_TTS_SHARED", Path(__file__).parents[4] / "shared"))
State = dict[str, Tensor]


def as_transformers(state: State, config: CodecConfig) -> State:
    """The package layout under transformers' names, written from the naming rules in its conversion script."""
    out: State = {}
    for key, value in state.items():
        name = key.replace("model.", "layers.", 1).replace(".convtr.convtr.", ".conv.").replace(".conv.conv.", ".conv.")
        name = name.replace("quantizer.vq.layers.", "quantizer.layers.").replace("._codebook.", ".codebook.")
        name = name.replace("weight_g", "parametrizations.weight.original0")
        out[name.replace("weight_v", "parametrizations.weight.original1")] = value
    return out


@pytest.fixture
def package() -> State:
    state = export_state(random_codec(SMALL).state_dict())
    for index in range(SMALL.n_q, 6):  # a published file holds more codebooks than are used
        state[f"quantizer.vq.layers.{index}._codebook.embed"] = torch.ones(16, 6)
    for index in range(6):
        state[f"quantizer.vq.layers.{index}._codebook.inited"] = torch.ones(1)
        state[f"quantizer.vq.layers.{index}._codebook.cluster_size"] = torch.ones(16)
        state[f"quantizer.vq.layers.{index}._codebook.embed_avg"] = torch.ones(16, 6)
    return state


def test_names_of_the_published_network() -> None:
    """Where the layers of the 24 kHz model lie, as its checkpoint spells them."""
    state = export_state(Codec(CodecConfig()).state_dict())
    assert state["encoder.model.0.conv.conv.weight_v"].shape == (32, 1, 7)
    assert state["encoder.model.1.block.1.conv.conv.weight_v"].shape == (16, 32, 3)
    assert state["encoder.model.12.conv.conv.weight_g"].shape == (512, 1, 1)
    assert state["encoder.model.13.lstm.weight_hh_l1"].shape == (2048, 512)
    assert state["encoder.model.15.conv.conv.weight_v"].shape == (128, 512, 7)
    assert state["decoder.model.3.convtr.convtr.weight_v"].shape == (512, 256, 16)
    assert state["decoder.model.3.convtr.convtr.weight_g"].shape == (512, 1, 1)
    assert state["decoder.model.13.shortcut.conv.conv.bias"].shape == (32,)
    assert state["decoder.model.15.conv.conv.weight_v"].shape == (1, 32, 7)
    assert state["quantizer.vq.layers.7._codebook.embed"].shape == (1024, 128)
    assert not any(".16." in key for key in state)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("layout", ["package", "transformers"])
def test_both_layouts_load_to_the_same_codec(name: str, layout: str) -> None:
    config = SHAPES[name]
    codec = random_codec(config, 3)
    state = export_state(codec.state_dict())
    loaded = Codec.from_state(config, as_transformers(state, config) if layout == "transformers" else state)
    latents = random_latents(config, 11)[None]
    wave = codec.decode(latents)
    torch.testing.assert_close(loaded.decode(latents), wave, rtol=0, atol=1e-6)
    torch.testing.assert_close(loaded.encode(wave[:, None]), codec.encode(wave[:, None]), rtol=0, atol=1e-6)


def test_folding_is_what_torch_computes() -> None:
    """Gains unlike the norms of the directions, as in trained files; transposed convolutions too."""
    for module in (nn.Conv1d(3, 5, 4), nn.ConvTranspose1d(3, 5, 4)):
        normed = nn.utils.parametrizations.weight_norm(module, dim=0)
        weights = normed.parametrizations["weight"]
        nn.init.normal_(weights.original0)
        state = {"x.weight_g": weights.original0.detach(), "x.weight_v": weights.original1.detach()}
        torch.testing.assert_close(fold_weight_norm(state)["x.weight"], normed.weight.detach())


def test_a_filter_of_zeros_survives_save_and_load(tmp_path: Path) -> None:
    codec = random_codec(SMALL)
    codec.decoder.get_parameter("model.0.conv.conv.weight")[2] = 0
    codec.save(tmp_path)
    loaded = Codec.load(tmp_path)
    assert bool((loaded.decoder.get_parameter("model.0.conv.conv.weight")[2] == 0).all())
    assert bool(torch.isfinite(loaded.decode(random_latents(SMALL, 8)[None])).all())


def _without(key: str) -> Callable[[State], None]:
    def change(state: State) -> None:
        del state[key]

    return change


def _with(key: str, *shape: int) -> Callable[[State], None]:
    return lambda state: state.update({key: torch.ones(shape)})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_without("decoder.model.0.conv.conv.bias"), "decoder.model.0.conv.conv.bias is missing"),
        (_without("decoder.model.3.convtr.convtr.weight_g"), "decoder.model.3.convtr.convtr.weight_g is missing"),
        (_without("decoder.model.3.convtr.convtr.weight_v"), "decoder.model.3.convtr.convtr.weight_v is missing"),
        (_without("encoder.model.10.lstm.bias_ih_l1"), "encoder.model.10.lstm.bias_ih_l1 is missing"),
        (_without("quantizer.vq.layers.2._codebook.embed"), "quantizer.vq.layers.2._codebook.embed is missing"),
        (_with("quantizer.vq.layers.1._codebook.embed", 16, 7), r"layers.1._codebook.embed has shape \(16, 7\)"),
        (
            _with("decoder.model.0.conv.conv.weight_g", 1, 1, 1),
            r"weight_g has shape \(1, 1, 1\), expected \(32, 1, 1\)",
        ),
        (_with("decoder.model.0.conv.conv.bias", 31), r"conv.bias has shape \(31,\), expected \(32,\)"),
        (_with("decoder.model.99.conv.conv.bias", 2), "unexpected codec tensor decoder.model.99.conv.conv.bias"),
        (_with("surprise", 2), "unexpected codec tensor surprise"),
    ],
)
def test_what_does_not_fit_is_named(package: State, change: Callable[[State], None], named: str) -> None:
    Codec.from_state(SMALL, package)
    change(package)
    with pytest.raises(CheckpointError, match=named):
        Codec.from_state(SMALL, package)


def test_half_precision_folders_are_read_as_fp32(tmp_path: Path) -> None:
    codec = random_codec(SMALL)
    codec.save(tmp_path, dtype=torch.float16)
    assert load_file(tmp_path / "model.safetensors")["decoder.model.0.conv.conv.weight_v"].dtype == torch.float16
    loaded = Codec.load(tmp_path)
    assert loaded.config == SMALL
    assert all(value.dtype == torch.float32 for value in loaded.state_dict().values())
    latents = random_latents(SMALL, 9)[None]
    torch.testing.assert_close(loaded.decode(latents), codec.decode(latents), rtol=0, atol=2e-2)


def th_file(folder: Path, content: object, digits: int = 8, stem: str = "small") -> Path:
    """A file named by its own checksum, as the publisher does."""
    made = folder / "made"
    torch.save(content, made)
    path = folder / f"{stem}-{hashlib.sha256(made.read_bytes()).hexdigest()[:digits]}.th"
    return made.rename(path)


def test_encodecs_own_file(tmp_path: Path, package: State) -> None:
    path = th_file(tmp_path, package)
    codec = Codec.load(path, SMALL)
    latents = random_latents(SMALL, 9)[None]
    torch.testing.assert_close(codec.decode(latents), random_codec(SMALL).decode(latents), rtol=0, atol=1e-6)


def test_a_changed_file_is_refused_before_it_is_unpickled(tmp_path: Path, package: State) -> None:
    path = th_file(tmp_path, package)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="does not match the name"):
        read_weights(path)
    with pytest.raises(CheckpointError, match="no checksum"):
        read_weights(path.rename(tmp_path / "encodec.th"))


class Harmful:
    """Runs code when a careless loader unpickles it."""

    ran = False

    def __reduce__(self) -> tuple[object, ...]:
        return setattr, (Harmful, "ran", True)


@pytest.mark.parametrize("content", [{"a": Harmful()}, Harmful(), {"a": 3}, [torch.ones(1)]])
def test_anything_but_tensors_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(CheckpointError, match="state dict"):
        read_weights(th_file(tmp_path, content))
    assert not Harmful.ran


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="do not exist"):
        Codec.load(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match=r"needs config\.json and model\.safetensors"):
        Codec.load(tmp_path)
    (tmp_path / "weights.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"must be \.safetensors or Encodec's \.th"):
        Codec.load(tmp_path / "weights.bin")
    random_codec(SMALL).save(tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"model\.safetensors .* damaged"):
        Codec.load(tmp_path)
    for text, message in (("{", "not JSON"), ("[1]", "must hold an object")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(CheckpointError, match=message):
            Codec.load(tmp_path)


def test_a_transformers_folder(tmp_path: Path) -> None:
    """Its own field names, bookkeeping beside them, and the codebook count from the bandwidth."""
    data = {
        "architectures": ["EncodecModel"], "audio_channels": 1, "hidden_size": 6, "num_filters": 4,
        "upsampling_ratios": [4, 3, 2], "num_residual_layers": 1, "num_lstm_layers": 2, "dilation_growth_rate": 2,
        "codebook_size": 16, "sampling_rate": 16_000, "use_causal_conv": True, "pad_mode": "reflect",
        "norm_type": "weight_norm", "target_bandwidths": [6.0], "chunk_length_s": None,
    }  # fmt: skip
    config = codec_config_from(data, bandwidth_kbps=8.1)
    assert config == SMALL  # 8.1 kbps at 666.7 Hz and 4 bits: three codebooks
    assert codec_config_from({"hidden_size": 128, "num_filters": 32}) == CodecConfig()
    codec = random_codec(SMALL)
    save_file(as_transformers(export_state(codec.state_dict()), SMALL), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(data | {"n_q": 3}))
    loaded = Codec.load(tmp_path)
    torch.testing.assert_close(
        loaded.decode(random_latents(SMALL, 9)[None]), codec.decode(random_latents(SMALL, 9)[None]), rtol=0, atol=1e-6
    )
    for key, value in (("pad_mode", "constant"), ("use_causal_conv", False), ("norm_type", "time_group_norm")):
        with pytest.raises(CheckpointError, match=f"{key}={value!r}"):
            codec_config_from(data | {key: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ratio": [2]}, "unknown codec config key.*ratio"),
        ({"ratios": []}, "ratios must all be >= 2"),
        ({"ratios": [4, 1]}, "ratios must all be >= 2"),
        ({"ratios": 8}, "ratios must be a list"),
        ({"ratios": ["8"]}, "ratios must be an integer"),
        ({"n_q": 0}, "n_q must be an integer >= 1"),
        ({"sampling_rate": 24000.5}, "sampling_rate must be an integer"),
        ({"lstm": True}, "lstm must be an integer"),
        ({"n_filters": 3}, "n_filters must be a multiple of compress=2"),
        ({"channels": 2}, "channels must be 1"),
        ({"trim_right_ratio": 0.5}, "trim_right_ratio must be 1.0"),
    ],
)
def test_a_bad_configuration_names_its_field(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CodecConfig.from_dict(SMALL.to_dict() | change)


def test_configurations_round_trip() -> None:
    for config in (CodecConfig(), SMALL, DEEP, NO_LSTM):
        assert CodecConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert (CodecConfig().hop_length, CodecConfig().frame_rate) == (320, 75.0)


@pytest.mark.skipif(not (SHARED / "parity").is_dir(), reason="recorded cases are not here (SLED_TTS_SHARED)")
@pytest.mark.parametrize("layout", ["pkg", "hf"])
def test_recorded_encodec_streams_at_any_chunking(layout: str) -> None:
    """What the reference's own decoder made, from our streaming decoder."""
    data = load_file(SHARED / "parity" / f"h_encodec_{layout}.safetensors")
    case = json.loads((SHARED / "parity" / f"h_encodec_{layout}.json").read_text())
    config = codec_config_from(case["config"])
    codec = Codec.from_state(config, {key[3:]: value for key, value in data.items() if key.startswith("sd.")})
    latents = data["in.latents_bdt"].transpose(1, 2)
    decoder = codec.streaming_decoder(len(latents))
    for sizes in (1, 4, 9):
        decoder.reset(range(len(latents)))
        parts = [latents[:, :7], *torch.split(latents[:, 7:], sizes, dim=1)]
        heard = [torch.stack(decoder.decode(list(part), range(len(latents)))) for part in parts if part.shape[1]]
        torch.testing.assert_close(torch.cat(heard, dim=1), data["out.wave"][:, 0], rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_encodec_package_agrees() -> None:
    """The original implementation over the same random weights, where it can be imported."""
    try:
        modules = importlib.import_module("encodec.modules")
    except (ImportError, OSError) as error:  # OSError: a torchaudio built for another torch
        pytest.skip(f"the encodec package does not load here: {error}")
    for ours, theirs, x in (
        (SEANetEncoder(CodecConfig(n_filters=4)), modules.SEANetEncoder, torch.randn(2, 1, 3210)),
        (SEANetDecoder(CodecConfig(n_filters=4)), modules.SEANetDecoder, torch.randn(2, 128, 9)),
    ):
        original = theirs(n_filters=4, dimension=128, norm="weight_norm", causal=True, lstm=2).eval()
        state = {f"encoder.{key}": value for key, value in original.state_dict().items()}
        ours.load_state_dict({key[8:]: value for key, value in fold_weight_norm(state).items()})
        torch.testing.assert_close(ours.eval()(x), original(x), rtol=0, atol=1e-5)
