"""The shapes of what the service answers, as its OpenAPI description tells them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel
from pydantic.config import JsonDict

from pneumoscope.inference.finding import WARNINGS

KINDS = {
    "busy": "There is no room now; `Retry-After` says when to try again.",
    "failed": "A fault of the service.",
    "host": "The request names another host than this machine, and the service has no token.",
    "method": "The address does not take this method.",
    "missing_extra": "A part of Pneumoscope that this needs is not installed where it runs.",
    "model_file": "The model cannot be loaded.",
    "not_a_chest_radiograph": "The image is no frontal chest radiograph, or none that the model can read.",
    "not_acceptable": "The client accepts no answer that there is.",
    "not_found": "There is nothing at this address.",
    "origin": "The request comes from another site's page.",
    "request": "The request is damaged, or lacks something.",
    "token": "The token is missing or wrong.",
    "too_large": "The request, or an image, is larger than the service allows.",
    "too_slow": "The image takes too long to read, or the request too long to send.",
    "unreadable": "The file is damaged, or cut.",
    "unsupported": "The file, or the request, is of a kind that is not read.",
}
"""What each kind of error means; there may be more of them in a later version."""

FAILURE: JsonDict = {
    "kind": "unsupported",
    "message": "Expected a JPEG, PNG, TIFF or DICOM file, got something else: export the image in one of these.",
}
"""An example of an error."""

FINDING: JsonDict = {
    "index": 0,
    "path": "image.png",
    "probability": 0.912345,
    "finding": "PNEUMONIA",
    "uncertain": False,
    "threshold": 0.35,
    "warnings": ["low_resolution"],
    "error": None,
}
"""An example of a finding."""

FAILED: JsonDict = {
    "index": 1,
    "path": "notes.txt",
    "probability": None,
    "finding": None,
    "uncertain": None,
    "threshold": None,
    "warnings": [],
    "error": FAILURE,
}
"""An example of an image that has no finding."""


EXAMPLES: dict[str, list[JsonDict]] = {
    "Failure": [FAILURE],
    "ErrorAnswer": [{"error": FAILURE}],
    "FindingAnswer": [FINDING, FAILED],
    "FindingsAnswer": [{"findings": [FINDING, FAILED]}],
}
"""Examples of shapes, apart from them: FastAPI leaves out what is null in an example that stands at a model."""


def _words(meanings: Mapping[str, str]) -> ConfigDict:
    """Bound a word to those that have a meaning; generators of clients read it from `x-enum-descriptions`."""
    words: JsonDict = {"enum": [*meanings], "x-enum-descriptions": [*meanings.values()]}
    return ConfigDict(json_schema_extra=words | {"examples": [next(iter(meanings))]})


class ErrorKind(RootModel[str]):
    """What went wrong, as a stable word for programs."""

    model_config = _words(KINDS)


class FindingWarning(RootModel[str]):
    """What to keep in mind about a finding, as a stable word for programs."""

    model_config = _words(WARNINGS)


class Failure(BaseModel):
    """Why there is no finding, or no answer."""

    kind: ErrorKind
    message: str = Field(description="What was expected, what was got, and what to do.")


class ErrorAnswer(BaseModel):
    """A request that was refused as a whole."""

    error: Failure


class Evidence(BaseModel):
    """What each place adds to the logit beyond a usual image: above 0 towards pneumonia, below 0 towards normal."""

    cells: list[list[float]] = Field(description="Rows from the top; the cells divide the image evenly.")
    scale: float = Field(description="The contribution to paint in the full colour.", gt=0)


class Preview(BaseModel):
    """The image as a browser can show it: 8 bits, bright is dense tissue."""

    width: int = Field(gt=0)
    height: int = Field(gt=0)
    jpeg: str = Field(description="A JPEG file in base 64.")


class FindingAnswer(BaseModel):
    """The finding on one image, or why there is none."""

    index: int = Field(description="Which image of the request, from 0.", ge=0)
    path: str = Field(description="The file name as the request gave it; it is not kept.")
    probability: float | None = Field(description="Of pneumonia, calibrated.", ge=0, le=1)
    finding: Literal["NORMAL", "PNEUMONIA"] | None
    uncertain: bool | None = Field(description="Whether the probability lies in the model's uncertain band.")
    threshold: float | None = Field(description="The probability from which the finding is PNEUMONIA.", ge=0, le=1)
    warnings: list[FindingWarning] = Field(description="In alphabetical order.")
    error: Failure | None
    evidence: Evidence | None = Field(None, description="Where `evidence` was asked for.")
    preview: Preview | None = Field(None, description="Where `preview` was asked for.")


class FindingsAnswer(BaseModel):
    """The findings on the images of a request, in their order."""

    findings: list[FindingAnswer]


class Window(BaseModel):
    """A window that the file's header names, in the values' units."""

    name: str
    center: float
    width: float = Field(gt=0)


class ValuesAnswer(BaseModel):
    """An image's values with all their bits: a pixel's value is `slope * code + intercept`."""

    width: int = Field(gt=0)
    height: int = Field(gt=0)
    slope: float
    intercept: float
    unit: str = Field(description="As DICOM names it, such as HU; empty where the file names none.")
    curve: list[float] = Field(description="How bright the detector sees codes spaced evenly from 0 to the largest.")
    inverted: bool = Field(description="Whether a small value is dense tissue (MONOCHROME1).")
    windows: list[Window]
    spacing: tuple[float, float] | None = Field(description="Height and width of a pixel in mm.")
    png: str = Field(description="The codes: a gray PNG of 16 bits in base 64.")


class ModelAnswer(BaseModel):
    """What the model says of itself, and what the service allows."""

    name: str
    version: str
    notice: str
    card: dict[str, Any] = Field(
        description="Architecture, calibration, training data, metrics, intended use, licence."
    )
    warnings: dict[str, str] = Field(description="What each warning of a finding means.")
    limits: dict[str, float] = Field(description="Bytes and images a request, pixels an image, seconds an image.")


class StateAnswer(BaseModel):
    """Whether the service lives, or is ready."""

    status: Literal["ok", "starting"]
