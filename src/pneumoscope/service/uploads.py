"""The images of a request, out of its form and into memory: nothing of an image ever reaches a disk."""

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
"""Parts of a form that are no images, at most."""

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
        names: what the request calls each; told in its answer and nowhere else.
        submissions: the images.
    """

    names: list[str]
    submissions: list[Submission]


class Form:
    """The images of a form as they arrive; every file of it is one, whatever its field is called.

    Args:
        request: its body is read.
        limits: how many images there may be.
        evidence: whether to ask for evidence maps.
        preview: whether to ask for previews.

    Attributes:
        evidence: likewise, by what has arrived: a field of the form may ask for it too.
        preview: likewise.
    """

    def __init__(self, request: Request, limits: Limits, evidence: bool = False, preview: bool = False) -> None:
        self._request = request
        self._limits = limits
        self.evidence = evidence
        self.preview = preview

    async def images(self) -> AsyncIterator[tuple[str, Submission]]:
        """Give each image as soon as it is there, with what the request calls it.

        Raises:
            Refusal: it is no form with images, or there are too many.
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
                message = f"Expected at most {self._limits.images} images a request, got more: send several requests."
                raise Refusal(413, "too_large", message)
            name = extended or given.get("filename", "").encode("latin-1").decode("utf-8", "replace")
            yield name, Submission(part.data, self.evidence, self.preview)
        if not n:
            message = "Expected one or more images as files of a form, got none: curl -F images=@image.png"
            raise Refusal(400, "request", message)


async def read(request: Request, limits: Limits, evidence: bool = False, preview: bool = False) -> Images:
    """Read all images of a form, and its fields wherever they stand in it.

    Args:
        request: its body is read.
        limits: how many images there may be.
        evidence: whether to ask for evidence maps; the form may say so too.
        preview: whether to ask for previews, likewise.

    Raises:
        Refusal: it is no form with images, or there are too many.

    Example:
        >>> images = await read(request, Limits())  # doctest: +SKIP
    """
    form = Form(request, limits, evidence, preview)
    received = [image async for image in form.images()]
    return Images(
        [name for name, _ in received],
        [Submission(image.data, form.evidence, form.preview) for _, image in received],
    )
