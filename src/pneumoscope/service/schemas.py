"""The schemas of the service's answers, for its OpenAPI description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel
from pydantic.config import JsonDict

from pneumoscope.inference.finding import WARNINGS

KINDS = {
    "busy": "The service is busy; `Retry-After` says when to try again.",
    "failed": "An internal error of the service.",
    "host": "The request names another host than this machine, and the service has no token.",
    "method": "The address does not take this method.",
    "missing_extra": "The service lacks an optional part of Pneumoscope that this request needs.",
    "model_file": "The model cannot be loaded.",
    "not_a_chest_radiograph": "The image is not a frontal chest radiograph, or not one that the model can be used on.",
    "not_acceptable": "The client accepts none of the possible answers.",
    "not_found": "There is nothing at this address.",
    "origin": "The request comes from another site's page.",
    "request": "The request is damaged, or lacks something.",
    "token": "The token is missing or wrong.",
    "too_large": "The request, or an image, is larger than the service allows.",
    "too_slow": "The image takes too long to read, or the request too long to send.",
    "unreadable": "The file is damaged or truncated.",
    "unsupported": "The file, or the request, is of an unsupported kind.",
}
"""The meaning of each kind of error. Later versions may add more."""

FAILURE: JsonDict = {
    "kind": "unsupported",
    "message": "Expected a JPEG, PNG, TIFF or DICOM file, got something else: export the image in one of these "
    "formats.",
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
"""An example of an image without a finding."""

EXAMPLES: dict[str, list[JsonDict]] = {
    "Failure": [FAILURE],
    "ErrorAnswer": [{"error": FAILURE}],
    "FindingAnswer": [FINDING, FAILED],
    "FindingsAnswer": [{"findings": [FINDING, FAILED]}],
}
"""Examples for the schemas. They are not part of the models because FastAPI omits null values in their examples."""


def _words(meanings: Mapping[str, str]) -> ConfigDict:
    """Restrict a word to those with a meaning, which client generators read from `x-enum-descriptions`."""
    words: JsonDict = {"enum": [*meanings], "x-enum-descriptions": [*meanings.values()]}
    return ConfigDict(json_schema_extra=words | {"examples": [next(iter(meanings))]})


class ErrorKind(RootModel[str]):
    """What went wrong, as a stable identifier for programs."""

    model_config = _words(KINDS)


class FindingWarning(RootModel[str]):
    """What to keep in mind about a finding, as a stable identifier for programs."""

    model_config = _words(WARNINGS)


class Failure(BaseModel):
    """Why there is no finding, or no answer."""

    kind: ErrorKind
    message: str = Field(description="What was expected, what was found, and what to do.")


class ErrorAnswer(BaseModel):
    """A request that was refused as a whole."""

    error: Failure


class Evidence(BaseModel):
    """What each cell adds to the logit compared with a usual image: above 0 for pneumonia, below 0 against it."""

    cells: list[list[float]] = Field(description="Rows from the top; the cells divide the image evenly.")
    scale: float = Field(description="The contribution to draw in the full colour.", gt=0)


class Preview(BaseModel):
    """The image as a browser can show it: 8 bits, bright is dense tissue."""

    width: int = Field(gt=0)
    height: int = Field(gt=0)
    jpeg: str = Field(description="A JPEG file in base 64.")


class FindingAnswer(BaseModel):
    """The finding for one image, or the reason why there is none."""

    index: int = Field(description="Which image of the request, from 0.", ge=0)
    path: str = Field(description="The file name in the request, which is not stored.")
    probability: float | None = Field(description="The calibrated probability of pneumonia.", ge=0, le=1)
    finding: Literal["NORMAL", "PNEUMONIA"] | None
    uncertain: bool | None = Field(description="Whether the probability lies in the model's uncertain band.")
    threshold: float | None = Field(description="The finding is PNEUMONIA from this probability on.", ge=0, le=1)
    warnings: list[FindingWarning] = Field(description="In alphabetical order.")
    error: Failure | None
    evidence: Evidence | None = Field(None, description="If `evidence` was requested.")
    preview: Preview | None = Field(None, description="If `preview` was requested.")


class FindingsAnswer(BaseModel):
    """The findings for the images of a request, in their order."""

    findings: list[FindingAnswer]


class Window(BaseModel):
    """A window from the file's header, in the unit of the values."""

    name: str
    center: float
    width: float = Field(gt=0)


class ValuesAnswer(BaseModel):
    """An image's values at full depth: a pixel's value is `slope * code + intercept`."""

    width: int = Field(gt=0)
    height: int = Field(gt=0)
    slope: float
    intercept: float
    unit: str = Field(description="The unit as DICOM names it, such as HU; empty if the file names none.")
    curve: list[float] = Field(description="The brightness of codes spaced evenly from 0 to the largest.")
    inverted: bool = Field(description="Whether small values are dense tissue (MONOCHROME1).")
    windows: list[Window]
    spacing: tuple[float, float] | None = Field(description="Height and width of a pixel in mm.")
    png: str = Field(description="The codes: a 16-bit gray PNG in base 64.")


class ModelAnswer(BaseModel):
    """The model's card, and the limits of the service."""

    name: str
    version: str
    notice: str
    card: dict[str, Any] = Field(
        description="Architecture, calibration, training data, metrics, intended use, licence."
    )
    warnings: dict[str, str] = Field(description="The meaning of each warning of a finding.")
    limits: dict[str, float] = Field(description="Bytes and images per request, pixels and seconds per image.")


class StateAnswer(BaseModel):
    """Whether the service is alive, or ready."""

    status: Literal["ok", "starting"]
