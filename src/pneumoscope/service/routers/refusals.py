"""Error answers: their handlers, and their OpenAPI descriptions."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from pneumoscope.service import schemas
from pneumoscope.service.security import Refusal

Responses = dict[int | str, dict[str, Any]]


def _described(
    model: Any,  # noqa: ANN401 - a model or a union of some
    *answers: tuple[int, str, dict[str, Any]],
) -> Responses:
    return {
        status: {"model": model, "description": text, "content": {"application/json": {"example": example}}}
        for status, text, example in answers
    }


def _error(kind: str, message: str) -> dict[str, Any]:
    return {"error": {"kind": kind, "message": message}}


ANY: Responses = _described(
    schemas.ErrorAnswer,
    (
        400,
        "The request holds no image, or is damaged.",
        _error("request", "Expected a multipart request, got a damaged one."),
    ),
    (
        401,
        "The token is missing or wrong.",
        _error("token", "Expected the service's token (--token) as 'Authorization: Bearer TOKEN'."),
    ),
    (
        403,
        "The request comes from another site's page.",
        _error(
            "origin",
            "Expected a request from the service's own page, got one from another site: name it with "
            "--allow-origin, or let the proxy forward the browser's Host header.",
        ),
    ),
    (
        408,
        "The request was sent too slowly.",
        _error("too_slow", "Expected the rest of the request, got none in time."),
    ),
    (
        421,
        "The request names another host.",
        _error(
            "host",
            "Expected this machine's own name as host, got another: start the service with a token (--token) to allow "
            "other names, such as a proxy's.",
        ),
    ),
    (
        500,
        "An internal error.",
        _error("failed", "The service failed because of an internal error: see its log."),
    ),
    (
        503,
        "The service is busy: `Retry-After` says when to try again.",
        _error("busy", "The service is busy with other requests: try again."),
    ),
)
"""The errors of every route except those for health checks."""

IMAGES: Responses = _described(
    schemas.FindingsAnswer | schemas.ErrorAnswer,
    (
        413,
        "The request or its image is too large, or it holds too many images.",
        _error("too_large", "Expected at most 128,000,000 bytes per request, got more."),
    ),
    (
        415,
        "The request is not a multipart form, or its image is of an unsupported kind.",
        _error("unsupported", "Expected a multipart/form-data request, such as curl -F images=@image.png sends."),
    ),
    (
        422,
        "No image of the request could be predicted, or an option is wrong.",
        _error("request", "Expected true or false for evidence, evidence_of_normals and preview."),
    ),
)
"""The errors of routes that take a form with images."""

INSTANCES: Responses = _described(
    schemas.ErrorAnswer,
    (
        406,
        "The client accepts none of the possible answers.",
        _error(
            "not_acceptable",
            'Expected a client that accepts multipart/related; type="application/dicom" or application/dicom+json, '
            "got one that accepts neither.",
        ),
    ),
    (
        413,
        "The request is too large, or holds too many instances.",
        _error("too_large", "Expected at most 128,000,000 bytes per request, got more."),
    ),
    (
        415,
        "The request, or a part of it, has another media type.",
        _error("unsupported", 'Expected a multipart/related request; type="application/dicom", got another.'),
    ),
    (
        422,
        "An option is wrong.",
        _error("request", "Expected true or false for evidence, evidence_of_normals and preview."),
    ),
)
"""The errors of routes that take DICOM instances."""


async def answer(request: Request, error: Exception) -> JSONResponse:
    """Turn an exception that ends a request into an error answer of the service."""
    if isinstance(error, Refusal):
        return error.response()
    if isinstance(error, RequestValidationError):
        return Refusal(
            422, "request", "Expected true or false for evidence, evidence_of_normals and preview."
        ).response()
    assert isinstance(error, HTTPException)
    kind = {404: "not_found", 405: "method"}.get(error.status_code, "request")
    rejection = Refusal(error.status_code, kind, error.detail)
    rejection.headers = error.headers
    return rejection.response()
