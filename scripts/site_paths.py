"""Lay out `site-paths/sled_tts/{model,server,clients,bench}` as links, so that mypy sees the import names."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    namespace = ROOT / "site-paths" / "sled_tts"
    namespace.mkdir(parents=True, exist_ok=True)
    for part in ("model", "server", "clients", "bench"):
        link = namespace / part
        if not link.is_symlink():
            link.symlink_to(ROOT / part, target_is_directory=True)


if __name__ == "__main__":
    main()
