"""What a stream takes is what is allocated for it, and no more streams are let in than fit."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from sled_tts.model.errors import ConfigError
from sled_tts.server.engine.memory import MemoryLimit, available_memory
from sled_tts.server.engine.state import EngineState
from tests.fakes import make_engine, tiny_runner
from tests.model.factories import tiny


@pytest.mark.parametrize("positions", [16, 100])
def test_a_stream_takes_what_one_more_slot_allocates(positions: int) -> None:
    sled, _ = tiny(seed=3)

    def held(slots: int) -> int:
        state = EngineState.allocate(sled, slots, positions, torch.zeros(10), torch.ones(10), zeroed=False)
        others = [state.latents, *state.blocks, state.final]
        return state.cache.bytes + sum(t.numel() * t.element_size() for t in others)

    assert held(3) - held(2) == EngineState.stream_bytes(sled, positions)


def test_as_many_slots_as_fit_and_never_more_than_wanted(caplog: pytest.LogCaptureFixture) -> None:
    limit = MemoryLimit(1000)
    assert limit.slots(4, 250, 9.0, "m") == 4
    assert limit.slots(2, 250, 9.0, "m") == 2
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert limit.slots(5, 250, 9.0, "m") == 4
    assert "4 streams of 9 s fit into 1000 bytes, not 5" in caplog.text
    assert limit.shared(2).slots(5, 250, 9.0, "m") == 2
    assert MemoryLimit(None).shared(3).slots(5, 250, 9.0, "m") == 5


def test_no_room_for_one_stream_names_the_setting() -> None:
    with pytest.raises(ConfigError, match="kv_memory_bytes allows 249") as refused:
        MemoryLimit(249, asked=True).slots(1, 250, 9.0, "m")
    assert refused.value.param == "kv_memory_bytes"


def test_the_engine_accounts_for_its_caches() -> None:
    runner = tiny_runner(slots=3)[0]
    engine = make_engine(runner, lambda: 0.0)
    assert engine.stats.stream_bytes == EngineState.stream_bytes(runner.sled, runner.info.positions) > 0
    engine.pool.acquire()
    engine.step()
    assert (engine.stats.kv_bytes, engine.stats.kv_bytes_in_use) == (
        3 * runner.info.stream_bytes,
        runner.info.stream_bytes,
    )


def test_what_the_system_says(tmp_path: Path) -> None:
    told = tmp_path / "meminfo"
    assert available_memory(told) is None
    told.write_text("MemTotal:  10 kB\nMemAvailable:    7 kB\n")
    assert available_memory(told) == 7 * 1024
