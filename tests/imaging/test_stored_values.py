"""The values that a viewer windows are those of the file, and its own curve shows them as the detector sees them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pneumoscope.errors import UnreadableError
from pneumoscope.imaging import radiograph, stored_values
from pneumoscope.imaging.stored_values import StoredValues, Window
from tests.builders.dicoms import image, table
from tests.conftest import drawn_image

CHEST = drawn_image(1, 5, 96).astype(np.uint16) * 16 + 3


def values(stored: StoredValues) -> NDArray[np.float64]:
    return np.asarray(stored.slope * stored.codes + stored.intercept, dtype=np.float64)


def shown(stored: StoredValues) -> NDArray[np.float64]:
    """Show each code as the curve has it."""
    places = np.linspace(0, int(stored.codes.max()), len(stored.curve))
    return np.asarray(np.interp(stored.codes, places, stored.curve))


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"RescaleSlope": "2", "RescaleIntercept": "-1024", "RescaleType": "HU"},
        {"RescaleSlope": "0.25", "RescaleIntercept": "0.5"},
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"VOILUTSequence": table(np.arange(4096) ** 2 // 256, 16)},
        {"WindowCenter": "1500", "WindowWidth": "900"},
    ],
    ids=str,
)
def test_dicom_values_are_exact_and_shown_as_the_detector_sees_them(header: dict[str, Any]) -> None:
    data = image(CHEST, **header)
    stored = stored_values.read(data)
    expected = CHEST * float(header.get("RescaleSlope", 1)) + float(header.get("RescaleIntercept", 0))
    np.testing.assert_allclose(values(stored), expected, atol=1e-6)
    np.testing.assert_allclose(shown(stored), radiograph.read(data).pixels, atol=0.01)
    assert stored.unit == header.get("RescaleType", "")
    assert stored.inverted == (header.get("PhotometricInterpretation") == "MONOCHROME1")


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    "header",
    [
        {
            "ShutterShape": "RECTANGULAR",
            "ShutterUpperHorizontalEdge": 17,
            "ShutterLowerHorizontalEdge": 80,
            "ShutterLeftVerticalEdge": 9,
            "ShutterRightVerticalEdge": 88,
        },
        {"PixelPaddingValue": 4095},
        {"PixelPaddingValue": 0},
    ],
    ids=["shutter", "bright padding", "dark padding"],
)
def test_what_is_not_shown_is_the_darkest_in_every_window(photometric: str, header: dict[str, Any]) -> None:
    pixels = np.full_like(CHEST, header.get("PixelPaddingValue", 4095))
    inside = np.s_[16:80, 8:88]
    pixels[inside] = CHEST[inside]
    stored = stored_values.read(image(pixels, PhotometricInterpretation=photometric, **header))
    hidden = np.ones(CHEST.shape, dtype=bool)
    hidden[inside] = False
    darkest = CHEST[inside].max() if photometric == "MONOCHROME1" else CHEST[inside].min()
    assert np.all(values(stored)[hidden] == darkest)
    np.testing.assert_array_equal(values(stored)[inside], CHEST[inside])


def test_windows_and_spacing_are_the_headers() -> None:
    header: dict[str, Any] = {
        "WindowCenter": [1500, 900],
        "WindowWidth": [900, 0],
        "WindowCenterWidthExplanation": ["SOFT", "NONE"],
    }
    stored = stored_values.read(image(CHEST, **header, ImagerPixelSpacing=[0.143, 0.139]))
    assert stored.windows == (Window("SOFT", 1500.0, 900.0),)
    assert stored.spacing == (0.143, 0.139)
    assert stored_values.read(image(CHEST)).spacing is None


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_gray_image_of_16_bits_keeps_them_all(kind: str) -> None:
    file = io.BytesIO()
    Image.fromarray(CHEST * 13).save(file, kind)
    stored = stored_values.read(file.getvalue())
    np.testing.assert_array_equal(values(stored), CHEST * 13)
    with Image.open(io.BytesIO(stored.png())) as png:
        np.testing.assert_array_equal(np.asarray(png), stored.codes)


def test_an_image_of_8_bits_has_the_brightness_that_is_read() -> None:
    file = io.BytesIO()
    Image.fromarray(drawn_image(0, 1, 64)).save(file, "PNG")
    stored = stored_values.read(file.getvalue())
    np.testing.assert_allclose(values(stored), radiograph.read(file.getvalue()).pixels, atol=1e-4)


def test_a_huge_image_is_thinned_out_and_its_spacing_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_values, "MOST_PIXELS", 96 * 96 // 4)
    stored = stored_values.read(image(CHEST, PixelSpacing=[0.1, 0.2]))
    np.testing.assert_array_equal(values(stored), CHEST[::2, ::2])
    assert stored.spacing == (0.2, 0.4)


def test_what_cannot_be_read_is_an_error() -> None:
    with pytest.raises(UnreadableError):
        stored_values.read(image(CHEST)[:-100])


@pytest.mark.images
def test_a_real_radiograph_is_shown_as_it_is_read(data: Path) -> None:
    file = next((data / "kermany_original" / "val" / "NORMAL").glob("*.jpeg")).read_bytes()
    np.testing.assert_allclose(shown(stored_values.read(file)), radiograph.read(file).pixels, atol=0.01)
