"""The HTTP service: images in, findings out, and the page."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

import pneumoscope
from pneumoscope.inference.detector import WARNINGS
from pneumoscope.reporting.writers import NOT_A_DEVICE
from pneumoscope.service import dicomweb, schemas, uploads
from pneumoscope.service import stream as streaming
from pneumoscope.service.queue import ImageQueue, QueueFullError
from pneumoscope.service.security import OPEN, Guard, Limits, Refusal
from pneumoscope.service.telemetry import Telemetry
from pneumoscope.service.worker import Row, Submission, Worker

_FOLDER = Path(__file__).parent / "page"
PAGE = {f"/{file.name}": file for file in _FOLDER.iterdir()} | {
    "/": _FOLDER / "index.html",
    "/docs": _FOLDER / "api.html",
}
"""What a browser asks for, and the file that it gets: there is no other way to a file."""

STATUS = {"too_large": 413, "unsupported": 415}
"""The answer's status where no image of a request could be read, by the first one's kind of error; 422 for others."""

DESCRIPTION = (
    "Says of chest radiographs how likely they show pneumonia. " + NOT_A_DEVICE + "\n\n"
    "`curl -F images=@image.png http://127.0.0.1:8000/v1/predict`"
)

Evidence = Annotated[bool, Query(description="Add the evidence map of each image.")]
Preview = Annotated[bool, Query(description="Add each image as a JPEG that a browser can show.")]
Captured = Annotated[bool, Query(description="Add a Secondary Capture of each image with its evidence map.")]

_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.ErrorAnswer, "description": description}
    for status, description in (
        (400, "The request holds no image, or is damaged."),
        (401, "The token is missing or wrong."),
        (403, "The request comes from another site's page."),
        (408, "The request was sent too slowly."),
        (421, "The request names another host."),
        (500, "A fault of the service."),
        (503, "No room now: `Retry-After` says when to try again."),
    )
}
_REFUSED_IMAGES: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.FindingsAnswer | schemas.ErrorAnswer, "description": description}
    for status, description in (
        (413, "The request or its image is too large, or it holds too many images."),
        (415, "The request is no multipart form, or its image of no kind that is read."),
        (422, "No image of the request could be read, or an option is wrong."),
    )
}
_REFUSED_INSTANCES: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.ErrorAnswer, "description": description}
    for status, description in (
        (406, "The client accepts no answer that there is."),
        (413, "The request is too large, or holds too many instances."),
        (415, "The request, or a part of it, is of another media type."),
        (422, "An option is wrong."),
    )
}


def create_app(
    worker: Worker, *, limits: Limits | None = None, token: str | None = None, origins: Sequence[str] = ()
) -> ASGIApp:
    """Make the service.

    Args:
        worker: a started worker; the service ends it when it stops.
        limits: how much a client may ask for.
        token: what a client must show; None where only this machine can ask.
        origins: other sites whose pages may ask, such as `https://images.example`.

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
        version=pneumoscope.__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own pages ask another host for their scripts
        redoc_url=None,
    )
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _refused)

    def submitted(images: Sequence[Submission]) -> list[asyncio.Future[Row]]:
        _check_room(queue, len(images))
        return queue.submit(images)

    @app.post(
        "/v1/predict",
        response_description="A finding for each image.",
        response_model=schemas.FindingsAnswer,
        response_model_exclude_unset=True,
        responses=_REFUSALS | _REFUSED_IMAGES,
        openapi_extra=uploads.FORM,
    )
    async def predict(request: Request, evidence: Evidence = False, preview: Preview = False) -> Response:
        """Predict on one or many images.

        Every image has a row; one that cannot be read has an error in its row. Where that is so for all images of the
        request, the status says why: 413, 415 or 422.
        """
        _check_room(queue)  # before the images are sent
        images = await uploads.read(request, limits, evidence, preview)
        rows = await _unless_gone(request, submitted(images.submissions))
        if rows is None:
            return Response(status_code=499)
        request.state.facts["images"] = telemetry.answered(rows)
        findings = [{"index": i} | row | {"path": images.names[i]} for i, row in enumerate(rows)]
        error = next((row["error"] for row in rows), None)
        failed = all(row["error"] for row in rows)
        return JSONResponse({"findings": findings}, STATUS.get(error["kind"], 422) if failed and error else 200)

    @app.post(
        "/v1/predict/stream",
        response_class=StreamingResponse,
        responses=_REFUSALS
        | _REFUSED_IMAGES
        | {
            200: {
                "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
                "description": "A finding a line.",
            }
        },
        openapi_extra=uploads.FORM,
    )
    async def stream(request: Request, evidence: Evidence = False, preview: Preview = False) -> StreamingResponse:
        """Predict on many images; each finding is a line of JSON, sent as soon as it is there, in any order.

        `index` says which image of the request it belongs to. Images are read while later ones still arrive; the fields
        `evidence` and `preview` count for the images after them. Where the rest of a request is refused after the first
        image, the last line is `{"error": {"kind", "message"}}`.
        """

        def answered(rows: Sequence[Row]) -> None:
            request.state.facts["images"] = telemetry.answered(rows)

        _check_room(queue)
        return await streaming.response(uploads.Form(request, limits, evidence, preview), queue, answered)

    async def store(request: Request, study: str | None, evidence: bool) -> Response:
        reports = dicomweb.wants_reports(request.headers.get("accept"))
        _check_room(queue)
        rows = await _unless_gone(request, submitted(await dicomweb.read(request, limits, evidence)))
        if rows is None:
            return Response(status_code=499)
        results = dicomweb.results_of(rows, study)
        request.state.facts["images"] = telemetry.answered(rows)
        return dicomweb.answer(results, reports)

    described: dict[str, Any] = {
        "response_class": Response,
        "responses": _REFUSALS | _REFUSED_INSTANCES | dicomweb.ANSWERS,
        "openapi_extra": dicomweb.BODY,
    }

    @app.post("/dicom-web/studies", **described)
    async def store_instances(request: Request, evidence: Captured = False) -> Response:
        """Predict on DICOM instances as DICOMweb's STOW-RS sends them.

        Nothing is stored. The answer is a DICOM Structured Report on each image, with `evidence` beside a Secondary
        Capture of it, as parts of `multipart/related; type="application/dicom"`; the last part is the response's data
        set as `application/dicom+json`, with `ReferencedSOPSequence`, `FailedSOPSequence` and for what could not even
        be identified `OtherFailuresSequence`. A client that accepts `application/dicom+json` alone, or prefers it, gets
        the data set only.
        """
        return await store(request, None, evidence)

    @app.post("/dicom-web/studies/{study}", **described)
    async def store_instances_of_study(request: Request, study: str, evidence: Captured = False) -> Response:
        """Predict on DICOM instances of one study, as above; an instance of another study fails."""
        return await store(request, study, evidence)

    @app.get(
        "/v1/model", response_description="Card and limits.", response_model=schemas.ModelAnswer, responses=_REFUSALS
    )
    async def model() -> JSONResponse:
        """Tell what the model says of itself, what warnings mean, and what the service allows."""
        card = asdict(worker.card)
        for long in ("seen", "gate"):
            del card[long]
        allowed = {
            "bytes": limits.body,
            "images": limits.images,
            "pixels": limits.pixels,
            "seconds": limits.image_seconds,
        }
        about = {"name": "Pneumoscope", "version": pneumoscope.__version__, "notice": NOT_A_DEVICE}
        return JSONResponse(about | {"card": card, "warnings": WARNINGS, "limits": allowed})

    @app.get("/healthz", response_description="It lives.", response_model=schemas.StateAnswer)
    async def healthz() -> dict[str, str]:
        """Say that the service lives."""
        return {"status": "ok"}

    @app.get(
        "/readyz",
        response_description="It is ready.",
        response_model=schemas.StateAnswer,
        responses={503: {"model": schemas.StateAnswer, "description": "It is not."}},
    )
    async def readyz() -> JSONResponse:
        """Say whether images are read at once; 503 while the detector's process is started anew."""
        return JSONResponse({"status": "ok"}) if queue.ready else JSONResponse({"status": "starting"}, 503)

    @app.get("/metrics", response_description="The counters.", response_class=PlainTextResponse, responses=_REFUSALS)
    async def metrics() -> PlainTextResponse:
        """Give counters as Prometheus reads them."""
        return PlainTextResponse(telemetry.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    for path, file in PAGE.items():
        app.add_route(path, _sender(file), methods=["GET"], include_in_schema=False)
    guarded = Guard(app, telemetry, limits, token, origins, open_paths={*PAGE, *OPEN})
    if not origins:
        return guarded
    allowed_headers = ["Authorization", "Content-Type"]
    return CORSMiddleware(guarded, origins, allow_methods=["GET", "POST"], allow_headers=allowed_headers)


def _sender(file: Path) -> Callable[[Request], Awaitable[Response]]:
    async def send(request: Request) -> Response:
        return FileResponse(file, headers={"Cache-Control": "no-cache"})

    return send


def _check_room(queue: ImageQueue, images: int = 1) -> None:
    try:
        queue.check_room(images)
    except QueueFullError as error:
        raise Refusal(503, "busy", str(error), error.retry_after) from None


async def _unless_gone(request: Request, answers: Sequence[asyncio.Future[Row]]) -> list[Row] | None:
    """Wait for all answers; None, and nothing more is done for them, where the client hangs up before."""

    async def hung_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    rows = asyncio.gather(*answers)
    gone = asyncio.create_task(hung_up())
    try:
        waiting: set[asyncio.Future[Any]] = {rows, gone}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        return rows.result() if rows.done() else None
    finally:
        gone.cancel()
        rows.cancel()


async def _refused(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, Refusal):
        return error.response()
    if isinstance(error, RequestValidationError):
        return Refusal(422, "request", "Expected true or false for evidence and preview.").response()
    assert isinstance(error, HTTPException)
    kind = {404: "not_found", 405: "method"}.get(error.status_code, "request")
    refusal = Refusal(error.status_code, kind, error.detail)
    refusal.headers = error.headers
    return refusal.response()
