"""What a number cannot be read without: processor, threads, load, versions."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

from sled_tts.model.cores import usable_cores


def machine(device: torch.device | str = "cpu") -> dict[str, Any]:
    """The machine as it is now, for the head of a table."""
    device = torch.device(device)
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def machine_line() -> str:
    """Processor and versions in a line, for what prints no table."""
    cpu = platform.processor() or platform.machine()
    return f"{cpu}, python {platform.python_version()}, torch {torch.__version__}"


def _cpu_name() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
