"""`/`: the page, served from the clients package's files without importing its code."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

log = logging.getLogger(__name__)


def studio_folder() -> Path | None:
    """Where the page lies, or None when this installation has none.

    The package is located, not imported: the server must not depend on client code.
    """
    try:
        spec = importlib.util.find_spec("sled_tts.clients")
    except ModuleNotFoundError:
        return None
    for base in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(base) / "studio"
        if (folder / "index.html").is_file():
            return folder
    return None


def mount_studio(app: FastAPI) -> None:
    """`/` answers with index.html and `/studio/` with the folder; without the page both answer 404."""
    folder = studio_folder()
    if folder is None:
        log.warning("the page is not part of this installation; / answers 404")
        return
    index = folder / "index.html"

    async def page() -> FileResponse:
        return FileResponse(index, media_type="text/html", headers={"Cache-Control": "no-cache"})

    app.add_api_route("/", page, include_in_schema=False, methods=["GET", "HEAD"])
    app.mount("/studio", StaticFiles(directory=folder), name="studio")
