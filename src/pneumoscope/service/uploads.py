"""Reads the images of a form into memory; they are never written to disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from pneumoscope.service import multipart
from pneumoscope.service.multipart import options
from pneumoscope.service.security import Limits, Refusal
from pneumoscope.service.worker import Submission

FIELDS = 16
"""The most parts of a form that are not images."""

FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {
                        "images": {
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
"""A request with images, for the OpenAPI description."""


@dataclass(frozen=True)
class Images:
    """The images of a request.

    Attributes:
        names: their names in the request, which are used only in its answer.
        submissions: the images.
    """

    names: list[str]
    submissions: list[Submission]


class Form:
    """A form that yields its images as they arrive; every file counts as an image, whatever its field is called.

    Args:
        request: the request, whose body is read.
        limits: limits the number of images.
        evidence: whether to request evidence maps.
        preview: whether to request previews.

    Attributes:
        evidence: whether evidence maps are requested, also by a field of the form that has arrived.
        preview: likewise for previews.
    """

    def __init__(self, request: Request, limits: Limits, evidence: bool = False, preview: bool = False) -> None:
        self._request = request
        self._limits = limits
        self.evidence = evidence
        self.preview = preview

    async def images(self) -> AsyncIterator[tuple[str, Submission]]:
        """Yield each image as soon as it has arrived, with its name in the request.

        Raises:
            Refusal: it is not a form with images, or there are too many.
        """
        if options(self._request.headers.get("content-type", ""))[0] != "multipart/form-data":
            message = "Expected a multipart/form-data request, such as curl -F images=@image.png sends."
            raise Refusal(415, "unsupported", message)
        n = 0
        async for part in multipart.parts(self._request, self._limits.images + FIELDS):
            disposition = part.headers.get("content-disposition", "")
            _, given = options(disposition)
            extended = multipart.extended_filename(disposition)
            if "name" not in given:
                raise Refusal(400, "request", "Expected a name for each part of the form, got one without.")
            if "filename" not in given and extended is None:
                if given["name"] in ("evidence", "preview"):
                    asked = part.data.strip().lower() in (b"true", b"1")
                    setattr(self, given["name"], asked or getattr(self, given["name"]))
                continue
            n += 1
            if n > self._limits.images:
                message = f"Expected at most {self._limits.images} images per request, got more: send several requests."
                raise Refusal(413, "too_large", message)
            name = extended or given.get("filename", "").encode("latin-1").decode("utf-8", "replace")
            yield name, Submission(part.data, self.evidence, self.preview)
        if not n:
            message = "Expected one or more images as files of a form, got none: curl -F images=@image.png"
            raise Refusal(400, "request", message)


async def read(request: Request, limits: Limits, evidence: bool = False, preview: bool = False) -> Images:
    """Read all images of a form, with fields that apply to all of them, whatever their order.

    Args:
        request: the request, whose body is read.
        limits: limits the number of images.
        evidence: whether to request evidence maps; a field of the form may request them too.
        preview: whether to request previews; likewise.

    Raises:
        Refusal: it is not a form with images, or there are too many.

    Example:
        >>> images = await read(request, Limits())  # doctest: +SKIP
    """
    form = Form(request, limits, evidence, preview)
    received = [image async for image in form.images()]
    return Images(
        [name for name, _ in received],
        [Submission(image.data, form.evidence, form.preview) for _, image in received],
    )
