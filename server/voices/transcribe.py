"""What is said in a recording, found by a recogniser: optional, for uploads without a transcript."""

from __future__ import annotations

from sled_tts.server.engine.request import Float32
from sled_tts.server.errors import UnsupportedError


class PocketsphinxTranscriber:
    """English words by pocketsphinx's own model: far from perfect, on clear speech good enough to align to.

    Raises UnsupportedError when the package (extra `eval`) is missing.
    """

    def __init__(self) -> None:
        try:
            from pocketsphinx import Decoder

            from sled_tts.model.evaluation.recognition import to_recogniser
        except ImportError as error:
            raise UnsupportedError(
                f"voice_transcriber pocketsphinx needs the extra 'eval': {error}", param="voice_transcriber"
            ) from None
        self._decoder_type, self._samples = Decoder, to_recogniser

    def transcribe(self, pcm: Float32, rate: int) -> str:
        """Blocking; mono samples `[N]` at `rate` Hz. Lower case, without punctuation; empty when nothing was heard."""
        # A decoder adapts to what it hears and is not thread-safe: a new one gives the same words for the same sound.
        decoder = self._decoder_type(loglevel="FATAL")
        decoder.start_utt()
        decoder.process_raw(self._samples(pcm, rate), full_utt=True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        return "" if hypothesis is None else str(hypothesis.hypstr).strip()
