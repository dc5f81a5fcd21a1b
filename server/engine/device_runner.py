"""Steps and decodes on a device that works while the host goes on: nothing here waits for it but `Pending.wait`.

Steps are packs of columns (`columns`), run by captured graphs (`graphs`) over fused kernels (`model.kernels`). The
codec has a lane of its own, so that a decode overlaps with the next steps. It runs on a CPU as well, slower than
`runner`: there its logic is tested.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sled_tts.model.codec.codec import Codec
from sled_tts.model.following import AlignmentHeads
from sled_tts.model.kernels.choose import PLAIN, Kernels
from sled_tts.model.melody.melody import Melody
from sled_tts.model.sled import Sled
from sled_tts.server.engine.columns import Counters, Pack
from sled_tts.server.engine.device_codec import DeviceCodec, Waves
from sled_tts.server.engine.graphs import Sizes, StepGraphs
from sled_tts.server.engine.looks import Looks
from sled_tts.server.engine.melodies import Melodies
from sled_tts.server.engine.packed import PackedNetwork
from sled_tts.server.engine.prefix import Prefix, PrefixCache
from sled_tts.server.engine.request import Float32, SynthesisRequest
from sled_tts.server.engine.state import NOISE_BLOCK, EngineState, draw_noise, runner_info, stop_level
from sled_tts.server.engine.transfers import Array, Download, Landing, Lanes, Upload, send_once
from sled_tts.server.engine.work import OUTCOMES, DecodeWork, PromptWork, RowOutcome, RowWork, RunnerInfo


@dataclass(frozen=True)
class Outcomes:
    """The stop flags of one step, in the order of its rows, and where its followed streams looked (into `looked`)."""

    parts: Sequence[Landing[list[RowOutcome]]] = field(repr=False)
    looks: Sequence[Landing[dict[int, Float32]]] = field(repr=False)
    looked: dict[int, Float32] = field(repr=False)

    @property
    def done(self) -> bool:
        return all(part.done for part in self.parts)

    def wait(self) -> list[RowOutcome]:
        for look in self.looks:
            self.looked.update(look.wait())
        return [outcome for part in self.parts for outcome in part.wait()]


class DeviceRunner:
    """Steps one loaded SLED and its codec over a fixed number of slots; see `runner.SledRunner` for the arguments.

    `lag`: how many steps may be under way before the first one's outcomes are asked for. Keys and values are of the
    model's `cache_dtype`; in e4m3 each head of each position has a scale. `graphed`: None means on a GPU.
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
        kernels: Kernels = PLAIN,
        graphed: bool | None = None,
        lag: int = 1,
    ) -> None:
        config = sled.config
        held = min(positions or config.max_position_embeddings, config.max_position_embeddings)
        self.sled, self.codec, self.kernels = sled, codec, kernels
        self.device = sled.cos.device
        # The slot and the cache rows after the last absorb padding. Masked attention reads what was never written.
        self.state = EngineState.allocate(sled, slots + 1, held, mean, std, zeroed=True)
        if self.state.cache.keys[0].dtype.itemsize == 1:
            self.state.cache.add_scales()
        self._prefixes = PrefixCache()
        self._noise_scale = noise_scale
        self.lanes = Lanes(self.device)
        turns = lag + 2
        graphed = self.device.type == "cuda" if graphed is None else graphed
        self.network = PackedNetwork(sled, self.state, kernels, alignment.layer if alignment else 0)
        # Eight-bit keys would have to be scaled back first: where they are, nobody looks.
        self._looks = Looks(None if self.state.cache.scales else alignment, self.network, slots, self.lanes)
        sizes = Sizes(slots, held, kernels.live_only)
        self.graphs = StepGraphs(self.network, sizes, self.lanes, graphed)
        channels = config.generator.noise_channels
        self._noise = Upload((slots, NOISE_BLOCK, channels), torch.float32, self.lanes, turns)
        self._redrawn = Upload((slots,), torch.long, self.lanes, turns)
        self._codes = Download(torch.int32, slots, self.lanes)
        self._melodies = Melodies(melody)
        self.speech = DeviceCodec(codec, self.state, self.lanes, graphed, self._melodies)
        self._info = runner_info(sled, codec, slots, held)
        self.lag = lag
        self.lanes.begin()

    @property
    def info(self) -> RunnerInfo:
        return self._info

    @torch.inference_mode()
    def prepare(self) -> int:
        """Capture every graph before the first `open`, so that whatever is slow only once is over when readiness is
        reported. Returns the number of graphs."""
        with self.lanes.steps():
            self.graphs.prepare()
        with self.lanes.codec():
            self.speech.prepare()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return len(self.graphs.graphs) + len(self.speech.graphs)

    @torch.inference_mode()
    def open(self, slot: int, request: SynthesisRequest) -> int:
        state = self.state
        state.cache.reset([2 * slot, 2 * slot + 1])
        state.noise[slot].manual_seed(request.seed)
        state.used[slot], state.filled[slot] = NOISE_BLOCK, 0
        # A decode for the slot's last stream may still be reading its latents, if that was cancelled.
        with self.lanes.steps(after=self.speech.last_decode(slot)):
            state.scale[slot] = request.cfg_scale
            state.stop_at[slot] = stop_level(request.mode)
            if request.prompt is not None:
                state.enter(slot, send_once(request.prompt.latents, self.device))
        self.speech.reset(slot)
        behind = self._melodies.open(slot, request, self._info)
        self._looks.open(slot, request.follow_text)
        if (block := PromptWork.of(slot, request, self._info)) is not None:
            self._enter_prompt(block)
        return behind

    def _enter_prompt(self, block: PromptWork) -> None:
        """Bring a slot to where its prompt block has been read and decoded, but for the guidance row's last frame."""
        slot, key = block.slot, block.key
        rows, held = [2 * slot, 2 * slot + 1], self._prefixes.get(key)
        if held is not None:
            with self.lanes.steps():
                self.state.cache.restore(rows, held.rows)
            with self.lanes.codec():
                self.speech.restore(slot, held.decoder)
            return
        work = block.row()
        with self.lanes.steps():
            self.graphs.read(Pack.of([work], self._counters))
        self._advance([work])
        with self.lanes.codec():
            self.speech.enter(slot, block.prompt.latents)
        if block.prompt.once:
            return
        with self.lanes.steps():
            kept = self.state.cache.snapshot(rows)
        with self.lanes.codec():
            self._prefixes.put(key, Prefix(kept, self.speech.snapshot(slot)))

    def close(self, slot: int) -> None:
        """Little to undo: opening a slot resets all that it holds."""
        self._melodies.close(slot)

    def looked(self, slot: int) -> Float32 | None:
        return self._looks.found.get(slot)

    def step(self, rows: Sequence[RowWork]) -> list[RowOutcome]:
        return self.launch(rows).wait()

    @torch.inference_mode()
    def launch(self, rows: Sequence[RowWork]) -> Outcomes:
        """Queue a step; its outcomes are there when the device has come to its end."""
        landings, looks = list[Landing[list[RowOutcome]]](), list[Landing[dict[int, Float32]]]()
        with self.lanes.steps():
            self._redraw([row.slot for row in rows if self.state.used[row.slot] == NOISE_BLOCK])
            for part in self._parts(rows):
                pack = Pack.of(part, self._counters)
                codes, seen = self.graphs.step(pack)
                landings.append(self._codes.start(codes[: len(part)], _outcomes))
                looks += self._looks.start(part, pack, seen)
        self._advance(rows)
        for row in rows:
            self.state.used[row.slot] += 1
            self.state.filled[row.slot] += 1
        return Outcomes(landings, looks, self._looks.found)

    def decode(self, work: Sequence[DecodeWork]) -> list[Float32]:
        return self.launch_decode(work).wait()

    @torch.inference_mode()
    def launch_decode(self, work: Sequence[DecodeWork]) -> Waves:
        """Queue a decode of frames whose outcomes are known, hence written; it waits for no step."""
        with self.lanes.codec():
            return self.speech.launch(work)

    @torch.inference_mode()
    def latents(self, slot: int, start: int, count: int) -> Float32:
        with self.lanes.codec():
            landing = self.speech.latents(slot, start, count)
        return landing.wait()

    def _parts(self, rows: Sequence[RowWork]) -> Iterator[Sequence[RowWork]]:
        """Rows in groups whose columns fit the step's buffer: only very many long texts at once need two."""
        group, columns = list[RowWork](), 0
        for row in rows:
            more = len(row.conditional) + len(row.unconditional)
            if group and max(columns + more, 2 * len(group) + 2) > self.graphs.most:
                yield group
                group, columns = [], 0
            group.append(row)
            columns += more
        if group:
            yield group

    @property
    def _counters(self) -> Counters:
        return Counters(self.state.cache.lengths, self.state.filled, self.state.used)

    def _advance(self, rows: Sequence[RowWork]) -> None:
        lengths = self.state.cache.lengths
        for row in rows:
            lengths[2 * row.slot] += len(row.conditional)
            lengths[2 * row.slot + 1] += len(row.unconditional)

    def _redraw(self, slots: Sequence[int]) -> None:
        """New noise and its modulation for slots whose last is spent: drawn here, so that a seed means the same on
        every device, modulated there, for all of them at once."""
        if not slots:
            return
        state, generator, count = self.state, self.sled.generator, len(slots)
        host = self._noise.host()
        for i, slot in enumerate(slots):
            host[i] = draw_noise(state.noise[slot], host.shape[2]).numpy()
            state.used[slot] = 0
        self._redrawn.host()[:count] = slots
        noise, index = self._noise.send(count), self._redrawn.send(count)
        made = generator.modulation((self._noise_scale * noise).to(self.network.dtype))
        for block, new in zip(state.blocks, made.blocks, strict=True):
            block[index] = new
        state.final[index] = made.final


def _outcomes(codes: Array) -> list[RowOutcome]:
    return [OUTCOMES[code] for code in codes]
