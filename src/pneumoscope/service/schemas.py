"""The shapes of what the service answers, as its OpenAPI description tells them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


class Failure(BaseModel):
    """Why there is no finding, or no answer."""

    kind: str = Field(description="A stable word for programs.", examples=["unreadable"])
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
    warnings: list[str] = Field(description="Words that `/v1/model` explains.")
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
