"""Samples without a container, and which encoder writes them."""

from __future__ import annotations

from sled_tts.server.audio.formats import Codec
from sled_tts.server.audio.g711 import G711Encoder
from sled_tts.server.audio.pcm import PcmEncoder


def raw_encoder(codec: Codec) -> PcmEncoder | G711Encoder:
    """For a key of `IN_WAV`. Raises ValueError for any other codec."""
    match codec:
        case Codec.PCM_S16LE:
            return PcmEncoder("s16le")
        case Codec.PCM_F32LE:
            return PcmEncoder("f32le")
        case Codec.MULAW:
            return G711Encoder("mulaw")
        case Codec.ALAW:
            return G711Encoder("alaw")
        case _:
            raise ValueError(f"{codec} is not raw")
