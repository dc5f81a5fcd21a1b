"""Every voice behind one door: those of the loaded checkpoints, the cloned ones, and OpenAI's names for them."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

from sled_tts.server.engine.request import Float32
from sled_tts.server.errors import ConflictError, InvalidParameterError, UnsupportedError, VoiceNotFoundError
from sled_tts.server.logs import get_logger
from sled_tts.server.service import NewVoice, Reference, Voice, VoiceKind
from sled_tts.server.voices.entry import VoiceEntry
from sled_tts.server.voices.folder import Scan, VoiceFolder
from sled_tts.server.voices.ledger import CloneLedger
from sled_tts.server.voices.recordings import ReferenceRules, Transcriber, read_reference
from sled_tts.server.voices.speaker import Speaker, VoicePrompt, calibrated, registered

log = get_logger(__name__)

DEFAULT = "default"
# Names that OpenAI's clients send, in the order in which they stand for a checkpoint's voices.
OPENAI_NAMES = (
    "alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer", "verse",
)  # fmt: skip
MAX_NAME, MAX_NOTE = 64, 1000
_CACHED_PROMPTS = 64
_PLAIN = Voice(DEFAULT, "Default", VoiceKind.BUILT_IN, description="What the checkpoint speaks with by itself.")


class VoiceCatalogue:
    """`server.service.VoiceStore` over `speakers`; without a `folder` nothing can be added."""

    def __init__(
        self,
        speakers: Sequence[Speaker],
        folder: VoiceFolder | None = None,
        rules: ReferenceRules | None = None,
        transcriber: Transcriber | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._speakers = {speaker.model: speaker for speaker in speakers}
        self._folder = folder
        self._rules = rules or ReferenceRules()
        self._transcriber = transcriber
        self._clock = clock
        self._prompts: OrderedDict[tuple[str, str], VoicePrompt] = OrderedDict()
        self._lock = threading.Lock()
        self.ledger = CloneLedger()

    def list(self) -> tuple[Voice, ...]:
        return (*self._built_in(), *(entry.voice for entry in self._scan().entries))

    def get(self, voice_id: str) -> Voice:
        return self._find(lambda voice: voice.id == voice_id, voice_id)

    def resolve(self, name: str | None) -> Voice:
        built_in = self._built_in()
        name = _reserved(name)
        if name == DEFAULT:
            return built_in[0]
        if name in OPENAI_NAMES and name not in (voice.id for voice in built_in):
            return built_in[OPENAI_NAMES.index(name) % len(built_in)]
        wanted = name.casefold()
        return self._find(lambda voice: voice.id == name or voice.name.casefold() == wanted, name)

    def aliases(self) -> dict[str, str]:
        return {name: self.resolve(name).id for name in OPENAI_NAMES}

    def add(self, new: NewVoice) -> Voice:
        folder = self._writable()
        name = self._checked_name(new.name, None)
        consent = _checked_note(new.consent, "consent")
        if not consent:
            raise InvalidParameterError(
                "consent is needed: who is heard in the recording, and that they agree to this use", param="consent"
            )
        description = _checked_note(new.description, "description")
        reference = read_reference(new.recording, new.text, self._rules, self._transcriber, audio_param="audio_sample")
        latents = {codec: speaker.encode(reference, "audio_sample") for codec, speaker in self._by_codec().items()}
        now = int(self._clock())
        entry = VoiceEntry(
            id=f"voice_{secrets.token_hex(8)}",
            name=name,
            text=reference.text,
            consent=consent,
            consent_at=now,
            created_at=now,
            seconds=round(len(reference.pcm) / reference.rate, 3),
            rate=reference.rate,
            description=description,
        )
        folder.add(entry, reference.pcm, latents)
        log.info("voice added", voice=entry.id, seconds=entry.seconds)
        self._make_ready(entry.id)
        return entry.voice

    def rename(self, voice_id: str, name: str) -> Voice:
        folder = self._cloned_only(voice_id, "renamed")
        checked = self._checked_name(name, voice_id)
        return folder.change(voice_id, lambda entry: replace(entry, name=checked)).voice

    def delete(self, voice_id: str) -> None:
        self._cloned_only(voice_id, "deleted").delete(voice_id)
        with self._lock:
            for key in [key for key in self._prompts if key[0] == voice_id]:
                del self._prompts[key]
        log.info("voice deleted", voice=voice_id)

    def clone_uses(self) -> dict[str, int]:
        return self.ledger.counts()

    def problems(self) -> dict[str, str]:
        """Entries on disk that were left out, and why."""
        return self._scan().problems

    def prompt(self, name: str | None, model: str) -> tuple[Voice, VoicePrompt | None]:
        """The voice `name` means on `model`, and what to go on from; None for a checkpoint without voices.

        Reads a small file the first time; encodes when a cloned voice meets a codec it has not met before. Raises
        VoiceNotFoundError, or UnsupportedError for a built-in voice of another model.
        """
        speaker = self._speakers[model]
        voice, name = self.resolve(name), _reserved(name)
        if voice.kind is VoiceKind.CLONED:
            return voice, self._cloned(voice.id, speaker)
        for own, prompt in speaker.own:
            if own.id == voice.id:
                return own, prompt
        if voice.id == DEFAULT or name in (DEFAULT, *OPENAI_NAMES):
            # The name asks for no voice in particular: each checkpoint answers with one of its own.
            place = OPENAI_NAMES.index(name) if name in OPENAI_NAMES else 0
            return speaker.own[place % len(speaker.own)] if speaker.own else (_PLAIN, None)
        raise UnsupportedError(f"voice {voice.id!r} belongs to another model than {model!r}", param="voice")

    def at_hand(self, name: str | None, model: str) -> bool:
        """Whether `prompt` has nothing to read and nothing to encode. Raises VoiceNotFoundError."""
        voice = self.resolve(name)
        with self._lock:
            return voice.kind is not VoiceKind.CLONED or (voice.id, model) in self._prompts

    def encode_stored(self) -> None:
        """Blocking: make every cloned voice ready for every loaded model, so that no request has to wait for it."""
        for entry in self._scan().entries:
            self._make_ready(entry.id)

    def _make_ready(self, voice_id: str) -> None:
        for speaker in self._speakers.values():
            try:
                self._cloned(voice_id, speaker)
            except Exception as error:
                log.warning("voice cannot be used", voice=voice_id, model=speaker.model, problem=str(error))

    def _cloned(self, voice_id: str, speaker: Speaker) -> VoicePrompt:
        key = (voice_id, speaker.model)
        with self._lock:
            if key in self._prompts:
                self._prompts.move_to_end(key)
                return self._prompts[key]
        folder, entry = self._folder, next((e for e in self._scan().entries if e.id == voice_id), None)
        if folder is None or entry is None:
            raise VoiceNotFoundError(f"voice {voice_id!r} is unknown", param="voice")

        def encode(pcm: Float32, rate: int) -> Float32:
            return speaker.encode(Reference(pcm, rate, entry.text), "voice")

        latents = folder.prompt(entry, speaker.codec, encode)
        plain = VoicePrompt(entry.text, latents, register=registered(speaker, folder, entry))
        prompt = calibrated(speaker, folder, entry, plain)
        with self._lock:
            self._prompts[key] = prompt
            while len(self._prompts) > _CACHED_PROMPTS * len(self._speakers):
                self._prompts.popitem(last=False)
        return prompt

    def _built_in(self) -> tuple[Voice, ...]:
        found: dict[str, Voice] = {}
        for speaker in self._speakers.values():
            for voice, _ in speaker.own:
                found.setdefault(voice.id, voice)
        return tuple(found.values()) or (_PLAIN,)

    def _by_codec(self) -> dict[str, Speaker]:
        return {speaker.codec: speaker for speaker in self._speakers.values()}

    def _scan(self) -> Scan:
        return self._folder.scan() if self._folder is not None else Scan((), {})

    def _find(self, matches: Callable[[Voice], bool], name: str) -> Voice:
        for voice in self.list():
            if matches(voice):
                return voice
        raise VoiceNotFoundError(f"voice {name!r} is unknown; GET /v1/audio/voices lists them", param="voice")

    def _writable(self) -> VoiceFolder:
        if self._folder is None:
            raise UnsupportedError("this server keeps no voices: it has no voices folder", param="voice")
        return self._folder

    def _cloned_only(self, voice_id: str, what: str) -> VoiceFolder:
        if any(voice.id == voice_id for voice in self._built_in()):
            raise UnsupportedError(f"voice {voice_id!r} is built in and cannot be {what}", param="voice")
        folder = self._folder
        if folder is None:
            raise VoiceNotFoundError(f"voice {voice_id!r} is unknown", param="voice")
        return folder

    def _checked_name(self, name: str, voice_id: str | None) -> str:
        name = " ".join(name.split())
        if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
            raise InvalidParameterError(f"name must have 1 to {MAX_NAME} printable characters", param="name")
        taken = name.casefold()
        reserved = {DEFAULT, *OPENAI_NAMES}
        for voice in self._built_in():
            reserved |= {voice.id.casefold(), voice.name.casefold()}
        for voice in self.list():
            if voice.id != voice_id:
                reserved |= {voice.id.casefold(), voice.name.casefold()}
        if taken in reserved:
            raise ConflictError(f"there is a voice called {name!r} already", param="name")
        return name


def _reserved(name: str | None) -> str:
    """What nobody may be called in its one spelling, since names count in any case; other names as they are."""
    if name is None:
        return DEFAULT
    folded = name.casefold()
    return folded if folded in (DEFAULT, *OPENAI_NAMES) else name


def _checked_note(value: str, param: str) -> str:
    value = value.strip()
    if len(value) > MAX_NOTE:
        raise InvalidParameterError(f"{param} must have at most {MAX_NOTE} characters", param=param)
    return value
