"""The device side of the engine on a CPU; `device_runner` is for GPUs.

Row arithmetic is independent of batch-mates on a CPU (see `model/stepping.py`), the codec included.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sled_tts.model.codec.codec import Codec
from sled_tts.model.following import AlignmentHeads, TextWatch, Watched
from sled_tts.model.melody.melody import Melody
from sled_tts.model.quantization import Precision
from sled_tts.model.quantization import pack as pack_weight
from sled_tts.model.sled import Sled
from sled_tts.model.stepping import forward_packed, pack, pad_rows
from sled_tts.server.engine.melodies import Melodies
from sled_tts.server.engine.prefix import Prefix, PrefixCache
from sled_tts.server.engine.request import Float32, SynthesisRequest
from sled_tts.server.engine.state import NOISE_BLOCK, EngineState, draw_noise, runner_info, stop_level
from sled_tts.server.engine.work import LAST_LATENT, OUTCOMES, DecodeWork, PromptWork, RowOutcome, RowWork, RunnerInfo

_STOP_COLUMNS = 8


class SledRunner:
    """Steps one loaded SLED and its codec over a fixed number of slots.

    `mean`, `std` `[D]` relate codec latents to the network's: `(codec - mean) / std`. Every stream has the same bits in
    any company.
    """

    def __init__(
        self,
        sled: Sled,
        codec: Codec,
        mean: Tensor,
        std: Tensor,
        *,
        slots: int,
        positions: int | None = None,
        noise_scale: float = 1.0,
        alignment: AlignmentHeads | None = None,
        melody: Melody | None = None,
    ) -> None:
        config = sled.config
        held = min(positions or config.max_position_embeddings, config.max_position_embeddings)
        self.sled, self.codec = sled, codec
        self.device = sled.cos.device
        self.state = EngineState.allocate(sled, slots, held, mean, std, zeroed=False)
        self.dtype = sled.z_proj.weight.dtype
        # A matrix-vector product would take another kernel than the rest; eight columns do not.
        self._stop_weight = F.pad(sled.eos_head.weight.detach(), (0, 0, 0, _STOP_COLUMNS - 1))
        self._stop = pack_weight(self._stop_weight, None, Precision.FP32)
        self._prefixes = PrefixCache()
        self._noise_scale = noise_scale
        self._alignment = alignment
        self._melodies = Melodies(melody)
        # Where a followed slot's text is in its conditional row, and where its last frame looked in it.
        self._text_at: dict[int, list[int]] = {}
        self._looked: dict[int, Tensor] = {}
        self.decoder = codec.streaming_decoder(slots)
        self._info = runner_info(sled, codec, slots, held)

    @property
    def info(self) -> RunnerInfo:
        return self._info

    @torch.inference_mode()
    def open(self, slot: int, request: SynthesisRequest) -> int:
        state = self.state
        state.cache.reset([2 * slot, 2 * slot + 1])
        state.noise[slot].manual_seed(request.seed)
        state.guided[slot] = request.guided
        state.scale[slot] = request.cfg_scale
        state.stop_at[slot] = stop_level(request.mode)
        state.filled[slot] = 0
        self._text_at.pop(slot, None)
        if request.prompt is not None:
            state.enter(slot, torch.from_numpy(request.prompt.latents).to(self.device))
        self._draw_noise(slot)
        self.decoder.reset([slot])
        behind = self._melodies.open(slot, request, self._info)
        if (block := PromptWork.of(slot, request, self._info)) is not None:
            self._enter_prompt(block)
        if request.follow_text and self._alignment is not None:
            self._text_at[slot] = []
        return behind

    def _enter_prompt(self, block: PromptWork) -> None:
        """Bring a slot to where its prompt block has been read and decoded, but for the guidance row's last frame."""
        slot, key = block.slot, block.key
        rows, held = [2 * slot, 2 * slot + 1], self._prefixes.get(key)
        if held is not None:
            self.state.cache.restore(rows, held.rows)
            self.decoder.restore(slot, held.decoder)
            return
        self._forward([block.row()])
        self.decoder.decode([torch.from_numpy(block.prompt.latents).to(self.device)], [slot], [False])
        if block.prompt.once:
            return
        self._prefixes.put(key, Prefix(self.state.cache.snapshot(rows), self.decoder.snapshot(slot)))

    def close(self, slot: int) -> None:
        """Little to undo: opening a slot resets all that it holds."""
        self._text_at.pop(slot, None)
        self._looked.pop(slot, None)
        self._melodies.close(slot)

    def looked(self, slot: int) -> Float32 | None:
        held = self._looked.get(slot)
        return None if held is None else held.cpu().numpy()

    @torch.inference_mode()
    def step(self, rows: Sequence[RowWork]) -> list[RowOutcome]:
        state = self.state
        for row in rows:
            if state.used[row.slot] == NOISE_BLOCK:
                self._draw_noise(row.slot)
        hidden, conditional, unconditional = self._forward(rows)
        slots, frame = torch.tensor([[r.slot for r in rows], [state.filled[r.slot] for r in rows]], device=self.device)
        told = hidden[conditional]
        free = hidden[unconditional]
        guided = free + state.scale[slots, None].to(free.dtype) * (told - free)
        z = torch.where((conditional != unconditional)[:, None], guided, told)
        logits = self._stop(pad_rows(told))[: len(rows), 0]
        latents = self._sample(z, [r.slot for r in rows], [state.used[r.slot] for r in rows])
        state.latents[slots, frame] = latents
        for row in rows:
            state.used[row.slot] += 1
            state.filled[row.slot] += 1
        stopped = logits.float() >= state.stop_at[slots]
        invalid = ~torch.isfinite(latents).all(dim=-1)
        return [OUTCOMES[code] for code in (stopped.int() + 2 * invalid.int()).tolist()]

    @torch.inference_mode()
    def decode(self, work: Sequence[DecodeWork]) -> list[Float32]:
        chunks = [self.state.for_codec(w.slot, w.start, w.count) for w in work]
        waves = self.decoder.decode(chunks, [w.slot for w in work], [w.final for w in work])
        heard = []
        for w, chunk, wave in zip(work, chunks, waves, strict=True):
            melodist = self._melodies.of(w.slot)
            told = wave.numpy()
            heard.append(told if melodist is None else melodist.push(told, chunk.float().cpu().numpy(), w.final))
        return heard

    @torch.inference_mode()
    def latents(self, slot: int, start: int, count: int) -> Float32:
        held: Float32 = self.state.for_codec(slot, start, count).float().cpu().numpy()
        return held

    def _forward(self, rows: Sequence[RowWork]) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden states of all columns, and where each stream's last conditional and guidance columns are."""
        state = self.state
        cache_rows, counts, columns, owner = list[int](), list[int](), list[int](), list[int]()
        conditional, unconditional = list[int](), list[int]()
        for row in rows:
            for offset, part in enumerate((row.conditional, row.unconditional)):
                if part:
                    cache_rows.append(2 * row.slot + offset)
                    counts.append(len(part))
                    columns += part
                    owner += [row.slot] * len(part)
                (unconditional if offset else conditional).append(len(columns) - 1)
        plan = pack(state.cache, cache_rows, counts, state.padding_row)
        embeds = self._embed(columns, owner, plan.columns)
        watch = self._watch(rows, conditional)
        hidden = forward_packed(self.sled, embeds, state.cache, plan, watch)
        if watch is not None:
            self._looked.update(zip((r.slot for r in rows if r.slot in self._text_at), watch.looks, strict=True))
        ends = torch.tensor([conditional, unconditional], device=self.device)
        return hidden, ends[0], ends[1]

    def _watch(self, rows: Sequence[RowWork], conditional: Sequence[int]) -> TextWatch | None:
        """Before a step: the columns that write the frames of followed slots, and all the text they will see."""
        watched = list[Watched]()
        for row, column in zip(rows, conditional, strict=True):
            if (text := self._text_at.get(row.slot)) is not None:
                past = self.state.cache.lengths[2 * row.slot]
                text += (past + k for k, told in enumerate(row.conditional) if told >= 0)
                position = past + len(row.conditional) - 1
                watched.append(Watched(column, 2 * row.slot, position, torch.tensor(text, device=self.device)))
        return TextWatch(self._alignment, watched) if watched and self._alignment is not None else None

    def _embed(self, columns: Sequence[int], owner: Sequence[int], rows: int) -> Tensor:
        """Inputs `[rows, H]` for text and speech columns; rows beyond the columns are zero."""
        embeds = torch.zeros(rows, self.sled.config.hidden_size, device=self.device, dtype=self.dtype)
        text = [i for i, column in enumerate(columns) if column >= 0]
        speech = [i for i, column in enumerate(columns) if column < 0]
        if text:
            at, ids = torch.tensor([text, [columns[i] for i in text]], device=self.device)
            embeds[at] = self.sled.embed_text(ids)
        if speech:
            frames = [self.state.filled[owner[i]] - 1 if columns[i] == LAST_LATENT else -2 - columns[i] for i in speech]
            at, slots, frame = torch.tensor([speech, [owner[i] for i in speech], frames], device=self.device)
            latents = self.state.latents[slots, frame].to(self.dtype)
            embeds[at] = self.sled.embed_speech(pad_rows(latents))[: len(speech)]
        return embeds

    def _sample(self, z: Tensor, slots: list[int], index: list[int]) -> Tensor:
        """One latent `[B, D]` for each conditioning vector `z [B, H]`, with noise `index` of each slot."""
        padded = z if self.sled.compiled is not None else pad_rows(z)
        missing = padded.shape[0] - z.shape[0]
        slots, index = [*slots, *slots[-1:] * missing], [*index, *index[-1:] * missing]
        return self.sled.latents(padded, self.state.ahead, slots, index)[: z.shape[0]].float()

    def _draw_noise(self, slot: int) -> None:
        """The next block of a stream's noise; its draws depend on the seed alone."""
        channels = self.sled.config.generator.noise_channels
        noise = draw_noise(self.state.noise[slot], channels)
        made = self.sled.generator.modulation((self._noise_scale * noise).to(self.device, self.dtype))
        for block, new in zip(self.state.blocks, made.blocks, strict=True):
            block[slot] = new
        self.state.final[slot] = made.final
        self.state.used[slot] = 0
