"""The `elevenlabs` package, unmodified, over a self-signed TLS listener."""

from __future__ import annotations

import io
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.interop.conftest import Live
from tests.interop.listening import assert_spoken, from_int16, paragraph
from tests.interop.tls import tls_in_front_of

REASON = "the extra `interop` is not installed"
pytestmark = [pytest.mark.interop, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
elevenlabs = pytest.importorskip("elevenlabs", reason=REASON)
trustme = pytest.importorskip("trustme", reason=REASON)


@pytest.fixture(scope="module")
def client(live: Live) -> Iterator[Any]:
    port = urlsplit(live.url).port
    assert port is not None
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with (
        authority.cert_pem.tempfile() as trusted,
        pytest.MonkeyPatch.context() as patch,
        tls_in_front_of(port, context) as secure,
    ):
        patch.setenv("SSL_CERT_FILE", trusted)
        yield elevenlabs.ElevenLabs(api_key="any", base_url=f"https://localhost:{secure}")


def test_a_paragraph_as_it_is_written(client: Any) -> None:
    text = paragraph(0)
    pieces = client.text_to_speech.convert_realtime(
        voice_id="default",
        text=(word + " " for word in text.split(" ")),
        model_id="eleven_turbo_v2_5",
        output_format="pcm_24000",
    )
    assert_spoken(from_int16(b"".join(pieces)), 24_000, text)


def test_a_paragraph_as_mp3_as_the_package_asks_by_default(client: Any) -> None:
    av = pytest.importorskip("av")
    text = paragraph(1)
    pieces = client.text_to_speech.convert_realtime(voice_id="default", text=iter([text]), model_id="eleven_turbo_v2_5")
    with av.open(io.BytesIO(b"".join(pieces))) as file:
        frames = [frame.to_ndarray()[0] for frame in file.decode(audio=0)]
        rate = file.streams.audio[0].rate
    assert rate == 44_100
    assert_spoken(np.concatenate(frames).astype(np.float32), rate, text)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_whole_text_over_http(client: Any, streamed: bool) -> None:
    text = paragraph(0)
    call = client.text_to_speech.stream if streamed else client.text_to_speech.convert
    data = b"".join(call(voice_id="default", text=text, output_format="pcm_16000", seed=1))
    assert_spoken(from_int16(data), 16_000, text)


def test_timestamps(client: Any) -> None:
    answer = client.text_to_speech.convert_with_timestamps(voice_id="default", text="Hello there.", seed=1)
    assert "".join(answer.alignment.characters) == "Hello there."
    assert answer.audio_base_64


def test_voices_and_models(client: Any) -> None:
    voices = client.voices.get_all().voices
    assert voices[0].voice_id
    assert client.voices.get(voices[0].voice_id).name == voices[0].name
    assert [model.model_id for model in client.models.list()]


def test_an_unknown_voice_is_refused(client: Any) -> None:
    with pytest.raises(elevenlabs.core.ApiError) as refused:
        b"".join(client.text_to_speech.convert(voice_id="nobody", text="Hello."))
    assert refused.value.status_code == 404
