"""What is answered in place of a finding: the handlers, and their place in the OpenAPI description."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from pneumoscope.service import schemas
from pneumoscope.service.security import Refusal

Responses = dict[int | str, dict[str, Any]]


def _described(model: Any, *texts: tuple[int, str]) -> Responses:  # noqa: ANN401 - a model or a union of some
    return {status: {"model": model, "description": text} for status, text in texts}


ANY: Responses = _described(
    schemas.ErrorAnswer,
    (400, "The request holds no image, or is damaged."),
    (401, "The token is missing or wrong."),
    (403, "The request comes from another site's page."),
    (408, "The request was sent too slowly."),
    (421, "The request names another host."),
    (500, "A fault of the service."),
    (503, "No room now: `Retry-After` says when to try again."),
)
"""Of every route that asks for something."""

IMAGES: Responses = _described(
    schemas.FindingsAnswer | schemas.ErrorAnswer,
    (413, "The request or its image is too large, or it holds too many images."),
    (415, "The request is no multipart form, or its image of no kind that is read."),
    (422, "No image of the request could be predicted, or an option is wrong."),
)
"""Of routes that take a form with images."""

INSTANCES: Responses = _described(
    schemas.ErrorAnswer,
    (406, "The client accepts no answer that there is."),
    (413, "The request is too large, or holds too many instances."),
    (415, "The request, or a part of it, is of another media type."),
    (422, "An option is wrong."),
)
"""Of routes that take DICOM instances."""


async def answer(request: Request, error: Exception) -> JSONResponse:
    """Lay out whatever ends a request before its answer, as every error of the service is laid out."""
    if isinstance(error, Refusal):
        return error.response()
    if isinstance(error, RequestValidationError):
        return Refusal(422, "request", "Expected true or false for evidence and preview.").response()
    assert isinstance(error, HTTPException)
    kind = {404: "not_found", 405: "method"}.get(error.status_code, "request")
    rejection = Refusal(error.status_code, kind, error.detail)
    rejection.headers = error.headers
    return rejection.response()
