"""`shutter`: what lies outside of a display shutter is black and counts for nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pneumoscope.imaging.dicom.decoder import decode
from tests.builders.dicoms import LIMIT, RAMP, image

WINDOW: dict[str, Any] = {"WindowCenter": 2048, "WindowWidth": 4096}
RECTANGLE: dict[str, Any] = {
    "ShutterShape": "RECTANGULAR",
    "ShutterUpperHorizontalEdge": 11,
    "ShutterLowerHorizontalEdge": 40,
    "ShutterLeftVerticalEdge": 6,
    "ShutterRightVerticalEdge": 60,
}
CIRCLE: dict[str, Any] = {
    "ShutterShape": "CIRCULAR",
    "CenterOfCircularShutter": [32, 32],
    "RadiusOfCircularShutter": 20,
}
SQUARE: dict[str, Any] = {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [11, 6, 11, 60, 40, 60, 40, 6]}
Y, X = np.mgrid[1:65, 1:65]
WITHIN_RECTANGLE = (Y >= 11) & (Y <= 40) & (X >= 6) & (X <= 60)
WITHIN_CIRCLE = (Y - 32) ** 2 + (X - 32) ** 2 <= 400


@pytest.mark.parametrize(
    ("shutter", "within"),
    [
        (RECTANGLE, WITHIN_RECTANGLE),
        (CIRCLE, WITHIN_CIRCLE),
        (SQUARE, WITHIN_RECTANGLE),
        (RECTANGLE | CIRCLE | {"ShutterShape": ["RECTANGULAR", "CIRCULAR"]}, WITHIN_RECTANGLE & WITHIN_CIRCLE),
    ],
    ids=["rectangle", "circle", "polygon", "both"],
)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_what_lies_outside_is_black(shutter: dict[str, Any], within: Any, photometric: str) -> None:
    plain = decode(image(RAMP, PhotometricInterpretation=photometric, **WINDOW), LIMIT)[0]
    pixels = decode(image(RAMP, PhotometricInterpretation=photometric, **WINDOW, **shutter), LIMIT)[0]
    assert np.array_equal(pixels, np.where(within, plain, 0))


def test_what_lies_outside_counts_for_nothing() -> None:
    values = RAMP // 4 + 1000
    values[:10] = 4095
    pixels = decode(image(values, **RECTANGLE), LIMIT)[0]
    values[:10] = 1500
    assert np.array_equal(pixels[10:], decode(image(values, **RECTANGLE), LIMIT)[0][10:])


@pytest.mark.parametrize("stored", [12, 16])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("most", [2300, 3000, 3500])
def test_a_shutter_changes_nothing_of_what_it_shows_where_there_is_no_window(
    stored: int, photometric: str, most: int
) -> None:
    values = RAMP.copy()
    values[WITHIN_CIRCLE] = np.linspace(700, most, np.count_nonzero(WITHIN_CIRCLE))  # neither black nor white
    how: dict[str, Any] = {"PhotometricInterpretation": photometric, "BitsStored": stored}
    plain, pixels = (decode(image(values, **how, **shutter), LIMIT)[0] for shutter in ({}, CIRCLE))
    assert np.array_equal(pixels, np.where(WITHIN_CIRCLE, plain, 0))


@pytest.mark.parametrize(
    "shutter",
    [
        {"ShutterShape": "RECTANGULAR"},
        RECTANGLE | {"ShutterLowerHorizontalEdge": 0},
        RECTANGLE | {"ShutterShape": "BITMAP"},
        CIRCLE | {"RadiusOfCircularShutter": 0},
        CIRCLE | {"CenterOfCircularShutter": 5},
        SQUARE | {"VerticesOfThePolygonalShutter": [1, 1, 2, 2]},
    ],
    ids=str,
)
def test_a_shutter_that_shows_nothing_or_is_damaged_is_as_good_as_none(shutter: dict[str, Any]) -> None:
    assert np.array_equal(decode(image(RAMP, **WINDOW, **shutter), LIMIT)[0], decode(image(RAMP, **WINDOW), LIMIT)[0])


def test_a_shutter_over_colour_is_black_outside() -> None:
    values = np.full((64, 64, 3), 200, dtype=np.uint8)
    pixels = decode(image(values, PhotometricInterpretation="RGB", **RECTANGLE), LIMIT)[0]
    assert np.array_equal(pixels > 0, WITHIN_RECTANGLE)
