"""Serves the files of the page, the API documentation and the sample images, and no others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from pneumoscope.data import sources

_FOLDER = Path(__file__).parents[1] / "page"

FILES = (
    {f"/{file.name}": file for file in _FOLDER.iterdir()}
    | {f"/samples/{file.name}": file for file in sources.BUNDLED.rglob("*.jpeg")}
    | {"/": _FOLDER / "index.html", "/docs": _FOLDER / "api.html"}
)
"""The path of each file."""


def routes() -> list[Route]:
    """Create the routes to all files, for GET and HEAD."""
    return [Route(path, _sender(file), methods=["GET"], include_in_schema=False) for path, file in FILES.items()]


def _sender(file: Path) -> Callable[[Request], Awaitable[Response]]:
    async def send(request: Request) -> Response:
        return FileResponse(file, headers={"Cache-Control": "no-cache"})

    return send
