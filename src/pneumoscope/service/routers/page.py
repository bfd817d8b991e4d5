"""The page, the description for programs, and the sample images: files, and no other way to one."""

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
"""What a browser asks for, and the file that it gets."""


def routes() -> list[Route]:
    """Make the routes to all files, for GET and HEAD."""
    return [Route(path, _sender(file), methods=["GET"], include_in_schema=False) for path, file in FILES.items()]


def _sender(file: Path) -> Callable[[Request], Awaitable[Response]]:
    async def send(request: Request) -> Response:
        return FileResponse(file, headers={"Cache-Control": "no-cache"})

    return send
