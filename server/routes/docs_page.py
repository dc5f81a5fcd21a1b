"""`/docs`: Swagger UI over `/openapi.json`, with its files served from here, so that it works without a network."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

log = logging.getLogger(__name__)

ASSETS_PATH = "/docs/assets"
# The package is only where the files lie; its code, which builds an application of its own, is not imported.
_PACKAGE = "fastapi_offline"


def assets_folder() -> Path | None:
    """Where Swagger UI lies, or None when its package is missing."""
    spec = importlib.util.find_spec(_PACKAGE)
    for base in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(base) / "static"
        if (folder / "swagger-ui-bundle.js").is_file():
            return folder
    return None


def mount_docs(app: FastAPI) -> None:
    """Serve the page. Without the files there is none; the description itself stays at `/openapi.json`."""
    folder = assets_folder()
    if folder is None:
        log.warning("package %s is not installed: no page at /docs", _PACKAGE)
        return
    app.mount(ASSETS_PATH, StaticFiles(directory=folder), name="docs-assets")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=app.title,
            swagger_js_url=f"{ASSETS_PATH}/swagger-ui-bundle.js",
            swagger_css_url=f"{ASSETS_PATH}/swagger-ui.css",
            swagger_favicon_url=f"{ASSETS_PATH}/favicon.png",
        )
