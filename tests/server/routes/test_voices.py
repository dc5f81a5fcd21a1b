"""Voices over HTTP and in speech: tiny real checkpoints, offline and streaming, against the naive network."""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from structlog.testing import capture_logs

from sled_tts.model.calibration import Calibration
from sled_tts.model.checkpoint import ModelBundle, load_bundle
from sled_tts.model.generation import seeded_noise
from sled_tts.model.melody.contour import ContourNet
from sled_tts.model.melody.dynamics import Dynamics
from sled_tts.model.melody.melody import write_melody
from sled_tts.model.melody.register import Register
from sled_tts.model.pitch import median_pitch
from sled_tts.model.voices import BuiltInVoice, write_voice
from sled_tts.server.engine.request import Float32
from sled_tts.server.errors import BadAudioError
from sled_tts.server.service import Reference
from sled_tts.server.voicebox import Voicebox
from sled_tts.server.voices.folder import VoiceFolder
from tests.reference import NaiveSled
from tests.server.routes.conftest import RATE, Load, write_checkpoint
from tests.server.routes.loopback import connect, running, speak
from tests.server.voices.sounds import encoded, silence, voiced

VOICES, SPEECH = "/v1/audio/voices", "/v1/audio/speech"
SAID = "words to learn some words from"
FIELDS = {"name": "Anna", "consent": "Anna agreed on 2 May", "ref_text": SAID}
SAMPLE = encoded(voiced(2.0, RATE), RATE)
TEXT, SEED, SECONDS = "some words", 11, 0.5


@pytest.fixture(scope="module")
def block_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A streaming checkpoint trained with prompt blocks, which brings two voices."""
    folder = tmp_path_factory.mktemp("blocks") / "voice"
    folder.mkdir()
    draw = torch.Generator().manual_seed(5)
    shipped = [
        BuiltInVoice(name, name.capitalize(), f"some {name} words", torch.randn(frames, 10, generator=draw), "tiny")
        for name, frames in (("kim", 9), ("lee", 14))
    ]
    extras = {"speech_prompts": True, "voices": [write_voice(voice, folder) for voice in shipped]}
    return write_checkpoint(folder, "tiny-blocks", extras, stream_n=3, stream_m=4)


async def post(http: httpx.AsyncClient, sample: bytes = SAMPLE, **changes: str | None) -> httpx.Response:
    fields = {key: value for key, value in (FIELDS | changes).items() if value is not None}
    return await http.post(VOICES, data=fields, files={"audio_sample": ("anna.wav", sample, "audio/wav")})


async def say(http: httpx.AsyncClient, **changes: Any) -> bytes:
    body = {"input": TEXT, "seed": SEED, "max_seconds": SECONDS, "response_format": "pcm", "sample_rate": RATE}
    answer = await http.post(SPEECH, json=body | changes)
    assert answer.status_code == 200, answer.text
    return answer.content


def expected(
    bundle: ModelBundle,
    text: str,
    latents: np.ndarray,
    register: Register | None = None,
    dynamics: Dynamics | None = None,
    cfg_scale: float = 2.0,
) -> np.ndarray:
    """PCM of a voice by the naive network and one offline decode: prompt ids and text ids are tokenised apart."""
    naive = NaiveSled(bundle.config.to_dict(), bundle.sled.state_dict())
    source = seeded_noise(SEED, bundle.config.generator.noise_channels)
    frames = round(SECONDS * RATE / bundle.codec.config.hop_length)
    noise = torch.stack([source(k) for k in range(frames)])
    prompt = bundle.normalise(torch.from_numpy(latents))
    n, m = bundle.config.stream_n, bundle.config.stream_m
    if n is not None:
        told, ids = bundle.tokenizer.encode(text)[:-1], bundle.tokenizer.encode(f" {TEXT}")[1:]
    else:
        told, ids = [], bundle.tokenizer.encode(f"{text} {TEXT}")
    steps = naive.synthesise(ids, noise, cfg_scale, n=n, m=m, prompt=prompt, prompt_ids=told)
    said = bundle.denormalise(steps.latents.float())
    whole = torch.cat([torch.from_numpy(latents), said])
    hop = bundle.codec.config.hop_length
    pcm: np.ndarray = bundle.codec.decode(whole[None])[0].numpy()[len(latents) * hop :]
    if register is None or bundle.extras.melody is None:
        return pcm
    melodist = bundle.extras.melody.begin(register, SEED, rate=RATE, hop=hop, dynamics=dynamics)
    return melodist.push(pcm, said.numpy(), final=True)


def heard(pcm: bytes) -> np.ndarray:
    return np.frombuffer(pcm, "<f4")


async def test_a_shipped_voice_streams_as_the_naive_network_speaks(load: Load, block_folder: Path) -> None:
    bundle = load_bundle(str(block_folder))
    async with running(load(block_folder)) as server, connect(server.ws_url) as socket:
        spoken = {}
        for name in ("kim", "lee", "alloy", "ash", None):
            voice = {} if name is None else {"voice": name}
            got = await speak(socket, list(TEXT), seed=SEED, max_seconds=SECONDS, format="f32le", **voice)
            spoken[name] = got.pcm
        listed = (await server.http.get(VOICES)).json()["voices"]
    for voice in bundle.extras.voices:
        want = expected(bundle, voice.text, voice.latents.numpy())
        np.testing.assert_allclose(heard(spoken[voice.id]), want, atol=1e-4)
    assert spoken["kim"] == spoken["alloy"] == spoken[None]
    assert spoken["lee"] == spoken["ash"] != spoken["kim"]
    assert [(v["id"], v["kind"], v["alias_of"]) for v in listed[:3]] == [
        ("kim", "built-in", None), ("lee", "built-in", None), ("alloy", "built-in", "kim"),
    ]  # fmt: skip
    assert len(listed) == 15


def changed(source: Path, place: Path, changes: dict[str, Any]) -> Path:
    """A checkpoint with other entries in its `sled_tts.json`."""
    folder = place / "voice"
    shutil.copytree(source, folder)
    about = folder / "sled_tts.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | changes))
    return folder


@pytest.fixture(scope="module")
def calibrated_folder(block_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, listened to in cloned voices, of which nothing comes without a melody."""
    return changed(block_folder, tmp_path_factory.mktemp("calibrated"), {"calibrate_voices": True})


@pytest.fixture(scope="module")
def melodic_folder(block_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, which knows speech at one pitch and gives it another."""
    changes = {"pitches_hz": [100.0], "melody": {"depth": 1.5}}
    folder = changed(block_folder, tmp_path_factory.mktemp("melodic"), changes)
    torch.manual_seed(2)
    write_melody(ContourNet(10, width=6, noise_channels=2), folder)
    return folder


@pytest.fixture(scope="module")
def likened_folder(melodic_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, corrected in cloned voices, which have a guidance of their own."""
    changes = {"calibrate_voices": True, "cloned_cfg_scale": 1.5}
    return changed(melodic_folder, tmp_path_factory.mktemp("likened"), changes)


@pytest.mark.parametrize("kind", ["offline", "blocks", "calibrated", "melodic", "likened"])
async def test_a_cloned_voice_speaks_as_the_naive_network_does(
    load: Load, tmp_path: Path, offline_folder: Path, block_folder: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    known = {"offline": offline_folder, "blocks": block_folder}
    folder: Path = known.get(kind) or request.getfixturevalue(f"{kind}_folder")
    sample = encoded(np.concatenate([silence(0.8, RATE), voiced(2.0, RATE), silence(0.5, RATE)]), RATE, "FLAC")
    async with running(load(folder, voices_dir=tmp_path)) as server:
        made = await post(server.http, sample)
        assert made.status_code == 200
        rest = await say(server.http, voice=made.json()["id"])
        assert rest == await say(server.http, voice={"id": "anna"})
        default = await say(server.http)
        async with connect(server.ws_url) as socket:
            stream = await speak(socket, list(TEXT), seed=SEED, max_seconds=SECONDS, format="f32le", voice="Anna")
            asked = {"seed": SEED, "max_seconds": SECONDS, "format": "f32le", "cfg_scale": 2.0}
            guided = await speak(socket, list(TEXT), voice="Anna", **asked)
            own = await speak(socket, list(TEXT), **{**asked, "cfg_scale": None})
    bundle = load_bundle(str(folder))
    (entry,) = VoiceFolder(tmp_path).scan().entries
    (codec,) = (tmp_path / entry.id).glob("prompt-*.safetensors")
    latents = VoiceFolder(tmp_path).prompt(entry, codec.stem.removeprefix("prompt-"), lambda *_: pytest.fail("again"))
    assert len(latents) * bundle.codec.config.hop_length / RATE == pytest.approx(2.2, abs=0.05)
    assert len(np.unique(latents, axis=0)) > 3
    found = [Calibration.of(load_file(file)) for file in (tmp_path / entry.id).glob("calibration-*")]
    assert [c.dynamics is not None for c in found] == {"calibrated": [False], "likened": [True]}.get(kind, [])
    registers = [load_file(file)["register"] for file in (tmp_path / entry.id).glob("register-*")]
    assert len(registers) == (kind in ("melodic", "likened"))
    register = Register(*registers[0][0].tolist()) if registers else None
    assert register is None or register.locked_hz == 100.0
    if found and register is not None:
        assert found[0].hz is not None
        assert found[0].hz == pytest.approx(register.hz, rel=0.26)
        register = replace(register, hz=found[0].hz)
    cfg_scale = 1.5 if kind == "likened" else 2.0
    assert [one.messages[0]["cfg_scale"] for one in (stream, guided, own)] == [cfg_scale, 2.0, 2.0]
    assert (guided.pcm != stream.pcm) == (kind == "likened")
    dynamics = found[0].dynamics if found else None
    want = expected(bundle, SAID, latents, register, dynamics, cfg_scale=cfg_scale)
    assert register is None or np.abs(want - expected(bundle, SAID, latents)).max() > 1e-3
    flat = expected(bundle, SAID, latents, register, cfg_scale=cfg_scale)
    assert (np.abs(want - flat).max() > 1e-3) == (kind == "likened")
    # Gains of some decibels multiply what rounding differs by.
    atol = 5e-4 if kind == "likened" else 1e-4
    np.testing.assert_allclose(heard(stream.pcm), want, atol=atol)
    np.testing.assert_allclose(np.frombuffer(rest, "<i2") / 32767, np.clip(want, -1, 1), atol=atol + 1e-4)
    assert rest != default


async def test_a_stored_voice_is_the_recording_and_survives_a_restart(
    load: Load, tmp_path: Path, offline_folder: Path
) -> None:
    async with running(load(offline_folder, voices_dir=tmp_path)) as server:
        made = (await post(server.http)).json()
        assert made["object"] == "audio.voice"
        assert made["name"] == "Anna"
        assert made["created_at"] > 1_700_000_000
        once = await say(server.http, ref_audio=base64.b64encode(SAMPLE).decode(), ref_text=SAID)
        stored = await say(server.http, voice="Anna")
        assert once == stored
    async with running(load(offline_folder, voices_dir=tmp_path)) as server:
        assert await say(server.http, voice="Anna") == stored
        renamed = await server.http.patch(f"{VOICES}/{made['id']}", json={"name": "Anne"})
        assert (renamed.status_code, renamed.json()["name"]) == (200, "Anne")
        assert (await server.http.get(f"{VOICES}/anne")).json()["id"] == made["id"]
        assert await say(server.http, voice="Anne") == stored
        gone = await server.http.delete(f"{VOICES}/{made['id']}")
        assert gone.json() == {"id": made["id"], "object": "audio.voice.deleted", "deleted": True}
        for name in (made["id"], "Anne", "Anna"):
            answer = await server.http.post(SPEECH, json={"input": "a", "voice": name})
            assert (answer.status_code, answer.json()["error"]["param"]) == (404, "voice")
        assert (await server.http.delete(f"{VOICES}/{made['id']}")).status_code == 404


async def test_a_checkpoint_without_prompts_in_its_training_refuses_them(load: Load, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "voice", "tiny-short", {"max_segment_chars": 80}, stream_n=3, stream_m=4)
    async with running(load(folder, voices_dir=tmp_path / "kept")) as server:
        assert (await post(server.http)).status_code == 200
        answer = await server.http.post(SPEECH, json={"input": TEXT, "voice": "Anna"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "unsupported")
        async with connect(server.ws_url) as socket:
            refused = await speak(socket, [TEXT], voice="Anna")
        assert refused.of("error")[0]["error"]["code"] == "unsupported"
        assert len(await say(server.http)) == 2 * round(SECONDS * RATE)
        assert 'sled_tts_slots_in_use{model="tiny-short"} 0.0' in (await server.http.get("/metrics")).text


async def test_clone_use_is_logged_and_counted(load: Load, tmp_path: Path, offline_folder: Path) -> None:
    async with running(load(offline_folder, voices_dir=tmp_path)) as server:
        made = (await post(server.http)).json()
        with capture_logs() as logs:
            await say(server.http)
            await say(server.http, voice="Anna")
            await say(server.http, voice="alloy", ref_audio=base64.b64encode(SAMPLE).decode(), ref_text=SAID)
        metrics = (await server.http.get("/metrics")).text
    uses = [line for line in logs if line["event"] == "cloned voice used"]
    assert [(use["source"], use["voice"], use["model"]) for use in uses] == [
        ("stored", made["id"], "tiny-offline"), ("recording", None, "tiny-offline"),
    ]  # fmt: skip
    assert len({use["request"] for use in uses}) == 2
    assert not any(secret in str(logs) for secret in (TEXT, SAID))
    assert 'sled_tts_cloned_utterances_total{source="stored"} 1.0' in metrics
    assert 'sled_tts_cloned_utterances_total{source="recording"} 1.0' in metrics


async def test_bad_uploads_are_refused_with_the_reason(load: Load, tmp_path: Path, offline_folder: Path) -> None:
    service = load(offline_folder, voices_dir=tmp_path)
    async with running(service, max_reference_bytes=100_000) as server:
        assert (await post(server.http, name="Taken")).status_code == 200
        cases: list[tuple[dict[str, Any], int, str, str]] = [
            ({"sample": b"GIF89a" + bytes(500)}, 422, "bad_audio", "audio_sample"),
            ({"sample": b""}, 422, "bad_audio", "audio_sample"),
            ({"sample": encoded(silence(2.0))}, 422, "bad_audio", "audio_sample"),
            ({"sample": bytes(100_001)}, 413, "input_too_long", "audio_sample"),
            ({"ref_text": "no"}, 422, "invalid_parameter", "ref_text"),
            ({"ref_text": None}, 422, "invalid_parameter", "ref_text"),
            ({"consent": None}, 422, "invalid_parameter", "consent"),
            ({"consent": " "}, 422, "invalid_parameter", "consent"),
            ({"name": None}, 422, "invalid_parameter", "name"),
            ({"name": "taken"}, 409, "conflict", "name"),
            ({"name": "nova"}, 409, "conflict", "name"),
        ]
        for changes, status, code, param in cases:
            answer = await post(server.http, **changes)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"], error["param"]) == (status, code, param), changes
        plain = await server.http.post(VOICES, json={"name": "Ben"})
        assert (plain.status_code, plain.json()["error"]["code"]) == (422, "invalid_parameter")
        no_file = await server.http.post(VOICES, data=FIELDS | {"audio_sample": "text"}, files={"other": b"x"})
        assert (no_file.status_code, no_file.json()["error"]["param"]) == (422, "audio_sample")
        for method, path, body, status in (
            ("PATCH", "default", {"name": "Mine"}, 422),
            ("DELETE", "default", None, 422),
            ("PATCH", "nobody", {"name": "Mine"}, 404),
            ("DELETE", "..%2F..", None, 404),
            ("PATCH", "nobody", {"nom": "Mine"}, 422),
        ):
            answer = await server.http.request(method, f"{VOICES}/{path}", json=body)
            assert answer.status_code == status, (method, path, answer.text)
        assert [voice["name"] for voice in (await server.http.get(VOICES)).json()["voices"]][:2] == ["Default", "Taken"]


def test_recordings_are_re_spoken_at_the_pitches_a_checkpoint_knows(block_folder: Path) -> None:
    bundle = load_bundle(str(block_folder))
    flat = replace(bundle, extras=replace(bundle.extras, pitches_hz=(110.0,)))
    seen: list[Float32] = []
    codec_encode = bundle.codec.encode
    object.__setattr__(bundle.codec, "encode", lambda wave: seen.append(wave[0, 0].numpy()) or codec_encode(wave))
    recording = Reference(voiced(1.0, RATE).astype(np.float32), RATE, SAID)
    for checkpoint in (bundle, flat):
        Voicebox(checkpoint, slots=1, device="cpu").hearing.encode(recording)
    own, locked = (median_pitch([wave.astype(np.float64)], RATE) for wave in seen)
    assert own == pytest.approx(median_pitch([recording.pcm.astype(np.float64)], RATE), rel=0.02)
    assert locked == pytest.approx(110, rel=0.02)
    assert abs(own / locked - 1) > 0.05
    with pytest.raises(BadAudioError, match="no voiced speech"):
        Voicebox(flat, slots=1, device="cpu").hearing.encode(Reference(np.zeros(RATE, np.float32), RATE, SAID))
