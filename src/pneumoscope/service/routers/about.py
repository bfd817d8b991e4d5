"""Information about the service: its model, its health and its counters."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse

from pneumoscope.inference.finding import WARNINGS
from pneumoscope.inference.model_file import Card
from pneumoscope.reporting.writers import NOT_A_DEVICE
from pneumoscope.service import schemas
from pneumoscope.service.routers import refusals
from pneumoscope.service.security import Limits
from pneumoscope.service.state import Parts
from pneumoscope.version import __version__

TOLD = (
    "architecture",
    "input_size",
    "calibration",
    "bias",
    "recipe",
    "data",
    "metrics",
    "licence",
    "intended_use",
    "labels",
)
"""The fields of a card that are of interest to clients; the others are long parameters of the model's gates."""

router = APIRouter()


def description(card: Card, limits: Limits) -> dict[str, Any]:
    """Return the answer of `/v1/model`.

    Example:
        >>> description(card, Limits())["card"]["input_size"]
        224
    """
    fields = asdict(card)
    allowed = {
        "bytes": limits.body,
        "images": limits.images,
        "pixels": limits.pixels,
        "seconds": limits.image_seconds,
    }
    return {
        "name": "Pneumoscope",
        "version": __version__,
        "notice": NOT_A_DEVICE,
        "card": {name: fields[name] for name in TOLD},
        "warnings": WARNINGS,
        "limits": allowed,
    }


@router.head("/v1/model", include_in_schema=False)
@router.get(
    "/v1/model",
    response_description="Card and limits.",
    response_model=schemas.ModelAnswer,
    responses=refusals.ANY,
)
async def model(service: Parts) -> JSONResponse:
    """Return the model's card, the meaning of the warnings, and the limits of the service."""
    return JSONResponse(description(service.worker.card, service.limits))


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", response_description="It is alive.", response_model=schemas.StateAnswer)
async def healthz() -> dict[str, str]:
    """Return that the service is alive."""
    return {"status": "ok"}


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    response_description="It is ready.",
    response_model=schemas.StateAnswer,
    responses={503: {"model": schemas.StateAnswer, "description": "It is not ready."}},
)
async def readyz(service: Parts) -> JSONResponse:
    """Return whether the service is ready to predict; 503 while the detector's process is restarting."""
    return JSONResponse({"status": "ok"}) if service.queue.ready else JSONResponse({"status": "starting"}, 503)


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", response_description="The counters.", response_class=PlainTextResponse, responses=refusals.ANY)
async def metrics(service: Parts) -> PlainTextResponse:
    """Return counters in Prometheus's text format."""
    return PlainTextResponse(service.telemetry.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
