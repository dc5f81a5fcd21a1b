"""Names, whose voices they are, and what each checkpoint goes on from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save
from structlog.testing import capture_logs

from sled_tts.model.calibration import Calibration, Opening
from sled_tts.model.errors import ModelError
from sled_tts.model.melody.dynamics import Dynamics
from sled_tts.model.melody.register import Register
from sled_tts.server.engine.request import Float32
from sled_tts.server.errors import (
    ConflictError,
    InputTooLongError,
    InvalidParameterError,
    SledTtsError,
    UnsupportedError,
    VoiceNotFoundError,
)
from sled_tts.server.service import NewVoice, Reference, Voice, VoiceKind
from sled_tts.server.voices.catalogue import OPENAI_NAMES, VoiceCatalogue
from sled_tts.server.voices.folder import VoiceFolder
from sled_tts.server.voices.speaker import Speaker, VoicePrompt
from tests.server.voices.sounds import encoded, voiced

SAID = "three seconds of a voice saying this"
RECORDING = encoded(voiced(3.0))
NEW = NewVoice("Anna", RECORDING, SAID, "Anna Lind agreed on 2 May", "from the phone")


class Model:
    """A checkpoint whose latents are counted samples; `calls` is how often it has encoded."""

    def __init__(self, name: str, codec: str, *voices: str) -> None:
        own = tuple(
            (Voice(v, v.capitalize(), VoiceKind.BUILT_IN), VoicePrompt(f"I am {v}", np.full((4, 2), k, np.float32)))
            for k, v in enumerate(voices)
        )
        self.calls = 0
        self.speaker = Speaker(name, codec, own, self.encode)

    def calibrated(self, network: str, opening: Opening | None = None) -> Model:
        """The same for a checkpoint that is corrected in cloned voices; `listened` is how often it has been heard."""
        self.listened = 0

        def listen(spoken: VoicePrompt, reference: Reference) -> Calibration:
            self.listened += 1
            assert reference.text == SAID
            assert len(reference.pcm) > 2 * reference.rate
            if self.fails:
                raise ModelError("too few frames")
            curves = np.arange(18, dtype=np.float32).reshape(2, 9)
            dynamics = Dynamics(curves, -curves * self.listened)
            return Calibration(self.opening, None, dynamics)

        self.fails = False
        self.opening = opening
        self.speaker = replace(self.speaker, network=network, calibrate=listen)
        return self

    def encode(self, reference: Reference, param: str) -> Float32:
        self.calls += 1
        if len(reference.pcm) > 6 * reference.rate:
            raise InputTooLongError("longer than this model can use", param=param)
        return np.full((5, 2), len(reference.pcm), np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> VoiceFolder:
    return VoiceFolder(tmp_path / "voices")


def test_a_checkpoint_without_voices_has_the_default_one() -> None:
    catalogue = VoiceCatalogue([Model("m", "c").speaker])
    (only,) = catalogue.list()
    assert (only.id, only.kind) == ("default", VoiceKind.BUILT_IN)
    for name in (None, "default", "Default", *OPENAI_NAMES):
        assert catalogue.resolve(name) == only
        assert catalogue.prompt(name, "m") == (only, None)
    assert set(catalogue.aliases().values()) == {"default"}
    with pytest.raises(UnsupportedError, match="keeps no voices"):
        catalogue.add(NEW)


def test_openai_names_go_through_the_voices_in_order(folder: VoiceFolder) -> None:
    catalogue = VoiceCatalogue([Model("m", "c", "kim", "lee", "mo").speaker], folder)
    assert [catalogue.resolve(name).id for name in OPENAI_NAMES[:5]] == ["kim", "lee", "mo", "kim", "lee"]
    assert len(catalogue.aliases()) == 13
    catalogue.add(NEW)
    # Cloned voices do not take part: whoever asks for "alloy" never gets somebody's copied voice.
    assert set(catalogue.aliases().values()) == {"kim", "lee", "mo"}
    assert catalogue.resolve(None).id == "kim"
    voice, prompt = catalogue.prompt("LEE", "m")
    assert voice.id == "lee"
    assert prompt is not None
    assert (prompt.text, prompt.latents[0, 0]) == ("I am lee", 1.0)


def test_default_and_openai_names_count_in_any_case() -> None:
    catalogue = VoiceCatalogue([Model("m", "c", "kim", "lee").speaker])
    for name, wanted in (("Default", "kim"), ("ALLOY", "kim"), ("Ash", "lee")):
        assert catalogue.resolve(name).id == wanted
        assert catalogue.prompt(name, "m")[0].id == wanted


def test_a_shipped_voice_may_have_an_openai_name() -> None:
    catalogue = VoiceCatalogue([Model("m", "c", "kim", "alloy").speaker])
    assert catalogue.resolve("alloy").id == "alloy"


def test_each_of_two_checkpoints_answers_general_names_with_its_own() -> None:
    first, second, third = Model("a", "c", "kim", "lee"), Model("b", "c", "zoe"), Model("d", "c")
    catalogue = VoiceCatalogue([first.speaker, second.speaker, third.speaker])
    assert [voice.id for voice in catalogue.list()] == ["kim", "lee", "zoe"]
    for name in (None, "default", "alloy", "ash", "ALLOY"):
        assert catalogue.prompt(name, "b")[0].id == "zoe"
        assert catalogue.prompt(name, "d")[1] is None
    with pytest.raises(UnsupportedError, match="'kim' belongs to another model than 'b'"):
        catalogue.prompt("kim", "b")


def test_a_clone_is_encoded_once_a_codec_and_kept(folder: VoiceFolder) -> None:
    one, same, other = Model("one", "c"), Model("same", "c"), Model("other", "d")
    catalogue = VoiceCatalogue([one.speaker, same.speaker, other.speaker], folder, clock=lambda: 1234.9)
    voice = catalogue.add(NEW)
    assert (voice.name, voice.kind, voice.created_at, voice.description) == ("Anna", "cloned", 1234, "from the phone")
    assert (one.calls + same.calls, other.calls) == (1, 1)
    for name in (voice.id, "Anna", "anna"):
        for model in ("one", "same", "other"):
            found, prompt = catalogue.prompt(name, model)
            assert found == voice
            assert prompt is not None
            assert prompt.text == SAID
    (kept,) = folder.scan().entries
    assert (kept.consent, kept.consent_at) == ("Anna Lind agreed on 2 May", 1234)
    # After a restart with a codec it has not met, the voice is made ready before anybody asks.
    late = Model("late", "e")
    again = VoiceCatalogue([one.speaker, late.speaker], VoiceFolder(folder.path))
    again.encode_stored()
    again.prompt("Anna", "late")
    assert late.calls == 1
    assert one.calls + same.calls + other.calls == 2


def test_a_clone_is_calibrated_once_a_network_and_kept(folder: VoiceFolder) -> None:
    one, plain = Model("one", "c", "kim").calibrated("net1"), Model("plain", "c")
    catalogue = VoiceCatalogue([one.speaker, plain.speaker], folder)
    voice = catalogue.add(NEW)
    assert one.listened == 1
    assert catalogue.at_hand("Anna", "one")
    _, prompt = catalogue.prompt("Anna", "one")
    assert prompt is not None
    assert prompt.dynamics is not None
    assert prompt.dynamics.gains_db.tolist() == (-np.arange(18).reshape(2, 9)).tolist()
    for name, model in (("Anna", "plain"), ("kim", "one")):
        _, other = catalogue.prompt(name, model)
        assert other is not None
        assert other.dynamics is None
    # After a restart it is read; another network of the same codec is listened to.
    again, changed = Model("one", "c", "kim").calibrated("net1"), Model("two", "c").calibrated("net2")
    later = VoiceCatalogue([again.speaker, changed.speaker], VoiceFolder(folder.path))
    later.encode_stored()
    assert (again.listened, changed.listened) == (0, 1)
    _, kept = later.prompt(voice.id, "one")
    assert kept is not None
    assert kept.dynamics is not None
    assert np.array_equal(kept.dynamics.gains_db, prompt.dynamics.gains_db)
    assert np.array_equal(kept.dynamics.levels_db, prompt.dynamics.levels_db)


def test_a_network_goes_on_from_the_part_of_a_recording_that_its_calibration_names(folder: VoiceFolder) -> None:
    one, other = Model("one", "c").calibrated("net1", Opening(3, 4)), Model("other", "c").calibrated("net2")
    catalogue = VoiceCatalogue([one.speaker, other.speaker], folder)
    voice = catalogue.add(NEW)
    for speakers in (catalogue, VoiceCatalogue([one.speaker, other.speaker], folder)):  # found, and kept
        (_, part), (_, whole) = (speakers.prompt(voice.id, model) for model in ("one", "other"))
        assert part is not None
        assert whole is not None
        assert (whole.text, len(whole.latents)) == (SAID, 5)
        assert (part.text, part.latents.tolist()) == (SAID[:4], whole.latents[:3].tolist())
    assert (one.listened, other.listened) == (1, 1)


@pytest.mark.parametrize("opening", [None, Opening(3, 4)])
def test_the_melody_lies_where_a_calibration_has_it(opening: Opening | None) -> None:
    prompt = VoicePrompt(SAID, np.zeros((5, 2), np.float32), register=Register(174.0, 0.3, 150.0))
    lower = prompt.calibrated(Calibration(opening, 160.5))
    assert lower.register == Register(160.5, 0.3, 150.0)
    assert prompt.calibrated(Calibration(opening)).register == prompt.register
    assert replace(prompt, register=None).calibrated(Calibration(hz=160.5)).register is None


@pytest.mark.parametrize("opening", [Opening(6, 4), Opening(3, len(SAID) + 1)])
def test_an_opening_beyond_the_recording_is_not_believed(folder: VoiceFolder, opening: Opening) -> None:
    catalogue = VoiceCatalogue([Model("one", "c").calibrated("net1", opening).speaker], folder)
    with capture_logs() as logs:
        voice = catalogue.add(NEW)
    assert "voice not calibrated" in [entry["event"] for entry in logs]
    _, prompt = catalogue.prompt(voice.id, "one")
    assert prompt is not None
    assert (prompt.dynamics, prompt.text, len(prompt.latents)) == (None, SAID, 5)


def test_a_voice_that_cannot_be_calibrated_speaks_without(folder: VoiceFolder) -> None:
    model = Model("m", "c").calibrated("net")
    model.fails = True
    catalogue = VoiceCatalogue([model.speaker], folder)
    with capture_logs() as logs:
        catalogue.add(NEW)
    assert [(line["event"], line["problem"]) for line in logs if line["log_level"] == "warning"] == [
        ("voice not calibrated", "too few frames")
    ]
    _, prompt = catalogue.prompt("Anna", "m")
    assert prompt is not None
    assert prompt.dynamics is None
    assert not list(folder.path.glob("*/calibration-*"))


@pytest.mark.parametrize("harm", ["garbage", "shape", "half"])
def test_a_spoilt_calibration_does_not_silence_a_voice(folder: VoiceFolder, harm: str) -> None:
    VoiceCatalogue([Model("m", "c").calibrated("net").speaker], folder).add(NEW)
    (kept,) = folder.path.glob("*/calibration-net.safetensors")
    parts = load_file(kept)
    spoilt = {
        "garbage": b"no tensors",
        "shape": save(parts | {"levels_db": np.ones((2, 5), np.float32)}),
        "half": save({name: value for name, value in parts.items() if name != "gains_db"}),
    }
    kept.write_bytes(spoilt[harm])
    model = Model("m", "c").calibrated("net")
    _, prompt = VoiceCatalogue([model.speaker], VoiceFolder(folder.path)).prompt("Anna", "m")
    assert prompt is not None
    # What cannot be read is found again; what has been written so, by whomever, is left out.
    assert (prompt.dynamics is not None) is (harm == "garbage")
    assert model.listened == (1 if harm == "garbage" else 0)


def test_edits_of_another_process_are_seen(folder: VoiceFolder) -> None:
    here = VoiceCatalogue([Model("m", "c").speaker], folder)
    there = VoiceCatalogue([Model("m", "c").speaker], VoiceFolder(folder.path))
    voice = there.add(NEW)
    assert here.get(voice.id) == voice
    here.prompt("Anna", "m")
    there.rename(voice.id, "  Anne   Marie ")
    assert here.resolve("anne marie").id == voice.id
    with pytest.raises(VoiceNotFoundError):
        here.resolve("Anna")
    there.delete(voice.id)
    for attempt in (lambda: here.get(voice.id), lambda: here.prompt(voice.id, "m"), lambda: here.delete(voice.id)):
        with pytest.raises(VoiceNotFoundError, match=voice.id):
            attempt()


@pytest.mark.parametrize(
    ("changes", "kind", "param"),
    [
        ({"name": "kim"}, ConflictError, "name"),
        ({"name": " KIM "}, ConflictError, "name"),
        ({"name": "default"}, ConflictError, "name"),
        ({"name": "Alloy"}, ConflictError, "name"),
        ({"name": "anna"}, ConflictError, "name"),
        ({"name": ""}, InvalidParameterError, "name"),
        ({"name": "x" * 65}, InvalidParameterError, "name"),
        ({"name": "a\x00b"}, InvalidParameterError, "name"),
        ({"consent": "  "}, InvalidParameterError, "consent"),
        ({"consent": "x" * 1001}, InvalidParameterError, "consent"),
        ({"description": "x" * 1001}, InvalidParameterError, "description"),
        ({"text": None}, InvalidParameterError, "ref_text"),
        ({"recording": b"noise"}, SledTtsError, "audio_sample"),
        ({"recording": encoded(voiced(7.0)), "text": SAID * 2}, InputTooLongError, "audio_sample"),
    ],
)
def test_what_cannot_become_a_voice_leaves_nothing(
    folder: VoiceFolder, changes: dict[str, object], kind: type[SledTtsError], param: str
) -> None:
    catalogue = VoiceCatalogue([Model("m", "c", "kim").speaker], folder)
    catalogue.add(NEW)
    with pytest.raises(kind) as caught:
        catalogue.add(NewVoice(**({"name": "Ben", "recording": RECORDING, "text": SAID, "consent": "yes"} | changes)))
    assert caught.value.param == param
    assert [voice.name for voice in catalogue.list()] == ["Kim", "Anna"]


def test_built_in_voices_stay(folder: VoiceFolder) -> None:
    catalogue = VoiceCatalogue([Model("m", "c", "kim").speaker], folder)
    with pytest.raises(UnsupportedError, match="cannot be renamed"):
        catalogue.rename("kim", "Jim")
    with pytest.raises(UnsupportedError, match="cannot be deleted"):
        catalogue.delete("kim")
    with pytest.raises(VoiceNotFoundError):
        catalogue.delete("alloy")


def test_a_broken_clone_stops_nobody(folder: VoiceFolder) -> None:
    catalogue = VoiceCatalogue([Model("m", "c").speaker], folder)
    voice = catalogue.add(NEW)
    other = VoiceCatalogue([Model("m", "c").speaker], VoiceFolder(folder.path))
    (folder.path / voice.id / "prompt-c.safetensors").unlink()
    with (folder.path / voice.id / "recording.safetensors").open("r+b") as file:
        file.seek(200)
        file.write(np.full(8, np.nan, np.float32).tobytes())
    with capture_logs() as logs:
        other.encode_stored()
    assert [line["event"] for line in logs] == ["voice cannot be used"]
    assert len(other.list()) == 2
    with pytest.raises(VoiceNotFoundError, match="cannot be read"):
        other.prompt("Anna", "m")


def test_uses_are_logged_without_text_and_counted() -> None:
    catalogue = VoiceCatalogue([Model("m", "c").speaker])
    with capture_logs() as logs:
        catalogue.ledger.used("stored", voice="voice_1", request="r1", model="m")
        catalogue.ledger.used("recording", voice=None, request="r2", model="m")
        catalogue.ledger.used("stored", voice="voice_1", request="r3", model="m")
    assert catalogue.clone_uses() == {"stored": 2, "recording": 1}
    assert logs[0] == {
        "event": "cloned voice used", "log_level": "info", "source": "stored", "voice": "voice_1", "request": "r1",
        "model": "m",
    }  # fmt: skip
