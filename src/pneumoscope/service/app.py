"""The HTTP service: images in, findings out, and the page."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from pneumoscope.reporting.writers import NOT_A_DEVICE
from pneumoscope.service import description
from pneumoscope.service.queue import ImageQueue
from pneumoscope.service.routers import about, page, prediction, refusals, stow
from pneumoscope.service.security import OPEN, Guard, Limits, Refusal
from pneumoscope.service.state import Service
from pneumoscope.service.telemetry import Telemetry
from pneumoscope.service.worker import Worker
from pneumoscope.version import __version__

DESCRIPTION = (
    "Predicts how likely chest radiographs show pneumonia. " + NOT_A_DEVICE + "\n\n"
    "`curl -F images=@image.png http://127.0.0.1:8000/v1/predict`"
)


def create_app(
    worker: Worker,
    *,
    limits: Limits | None = None,
    token: str | None = None,
    origins: Sequence[str] = (),
    root_path: str = "",
) -> ASGIApp:
    """Create the service.

    Args:
        worker: a started worker, which the service ends when it stops.
        limits: limits on requests.
        token: the token that clients must send; None if only this machine has access.
        origins: other origins whose pages have access, such as `https://images.example`.
        root_path: the path under which a proxy serves it, if that sends no `X-Forwarded-Prefix`.

    Returns:
        An ASGI application.

    Example:
        >>> worker = Worker()  # doctest: +SKIP
        >>> worker.start()  # doctest: +SKIP
        >>> uvicorn.run(create_app(worker))  # doctest: +SKIP
    """
    limits = limits or Limits()
    telemetry = Telemetry(lambda: queue.accepted, lambda: worker.starts)
    queue = ImageQueue(worker, limits.queue, limits.image_seconds, telemetry.batch)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        queue.start()
        yield
        await queue.stop()
        await asyncio.to_thread(worker.stop)

    app = FastAPI(
        title="Pneumoscope",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url=None,  # it depends on the request: see `description`
        docs_url=None,  # FastAPI's own pages load scripts from another host
        redoc_url=None,
    )
    app.state.service = Service(worker, queue, limits, telemetry)
    for error in (Refusal, HTTPException, RequestValidationError):
        app.add_exception_handler(error, refusals.answer)
    for router in (prediction.router, stow.router, about.router):
        app.include_router(router)
    app.routes.extend([*page.routes(), description.route(app, demands_token=token is not None)])
    guarded = Guard(app, telemetry, limits, token, origins, open_paths={*page.FILES, *OPEN}, root_path=root_path)
    if not origins:
        return guarded
    allowed_headers = ["Authorization", "Content-Type"]
    return CORSMiddleware(guarded, origins, allow_methods=["GET", "POST"], allow_headers=allowed_headers)
