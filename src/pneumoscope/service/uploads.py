"""The films of a request, out of its form and into memory: nothing of a film ever reaches a disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from pneumoscope.service.security import Limits, Refusal
from pneumoscope.service.worker import Submission

FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["films"],
                    "properties": {
                        "films": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "contentMediaType": "application/octet-stream"},
                            "description": "JPEG, PNG, TIFF or DICOM files.",
                        }
                    },
                }
            }
        },
    }
}
"""A request with films, for the OpenAPI description."""


@dataclass(frozen=True)
class Films:
    """The films of a request.

    Attributes:
        names: what the request calls each; told in its answer and nowhere else.
        submissions: the films.
    """

    names: list[str]
    submissions: list[Submission]


class _InMemory(MultiPartParser):
    """Keeps files in memory, whatever their size."""

    spool_max_size = 2**62


async def read(request: Request, limits: Limits, evidence: bool = False, preview: bool = False) -> Films:
    """Read the films of a form; every file of it is one, whatever its field is called.

    Args:
        request: its body is read.
        limits: how many films there may be.
        evidence: whether to ask for evidence maps; the form may say so too.
        preview: whether to ask for previews, likewise.

    Raises:
        Refusal: it is no form with films, or there are too many.

    Example:
        >>> films = await read(request, Limits())  # doctest: +SKIP
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Refusal(
            415, "unsupported", "Expected a multipart/form-data request, such as curl -F films=@film.png sends."
        )
    parser = _InMemory(request.headers, request.stream(), max_files=limits.films, max_fields=16)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            message = f"Expected at most {limits.films} films a request, got more: send them in several requests."
            raise Refusal(413, "too_large", message) from None
        raise Refusal(400, "request", "Expected a multipart form, got a damaged one.") from None
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    if not files:
        message = "Expected one or more films as files of a form, got none: curl -F films=@film.png"
        raise Refusal(400, "request", message)
    evidence, preview = (
        asked or str(form.get(name)).lower() in ("true", "1")
        for name, asked in (("evidence", evidence), ("preview", preview))
    )
    return Films(
        [file.filename or "" for file in files],
        [Submission(await file.read(), evidence, preview) for file in files],
    )
