"""`colour`: radiographs are gray; what is coloured, or photographed off a screen, is warned of."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pneumoscope.imaging.dicom.decoder import decode
from pneumoscope.imaging.radiograph import read
from tests.builders import dicoms
from tests.builders.images import saved
from tests.conftest import drawn_image

GRAY = drawn_image(1, seed=3, size=128)


def mapped(name: str) -> NDArray[np.uint8]:
    return (mpl.colormaps[name](GRAY)[..., :3] * 255).astype(np.uint8)


@pytest.mark.parametrize(
    "name", ["jet", "viridis", "hot", "inferno", "plasma", "turbo", "rainbow", "magma", "coolwarm"]
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "array", "DICOM"])
def test_a_pseudo_coloured_image_is_noted(name: str, kind: str) -> None:
    values = mapped(name)
    if kind == "DICOM":
        notes = decode(dicoms.image(values, PhotometricInterpretation="RGB"), dicoms.LIMIT)[2]
    else:
        notes = read(values if kind == "array" else saved(values, kind), at_least=32).notes
    assert "pseudo_coloured" in notes


def test_an_image_under_a_heat_map_is_noted() -> None:
    blended = np.stack([GRAY] * 3, axis=-1)
    blended[30:80, 30:80] = blended[30:80, 30:80] // 2 + mapped("jet")[30:80, 30:80] // 2
    assert "pseudo_coloured" in read(blended).notes


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 120, 255), (255, 255, 0)])
def test_a_mask_of_one_colour_over_a_gray_image_is_a_colouring(colour: tuple[int, int, int]) -> None:
    blended = np.stack([GRAY] * 3, axis=-1)
    blended[30:100, 20:60] = blended[30:100, 20:60] // 2 + np.array(colour, dtype=np.uint8) // 2
    assert read(blended).notes == ("pseudo_coloured",)


@pytest.mark.parametrize("quality", [30, 95])
def test_gray_in_three_channels_is_gray(quality: int) -> None:
    values = np.stack([GRAY] * 3, axis=-1)
    assert read(values).notes == ()
    assert read(saved(values, "JPEG", quality=quality)).notes == ()


def test_coloured_letters_on_a_gray_image_are_no_colouring() -> None:
    values = np.stack([GRAY] * 3, axis=-1)
    values[2:10, 2:40] = 255, 255, 0
    values[110:120, 90:110] = 255, 0, 0
    assert read(values).notes == ()


@pytest.mark.parametrize("tint", [(0.85, 0.95, 1.0), (1.0, 0.93, 0.8), (0.9, 1.0, 0.9)])
def test_a_tinted_image_is_a_photograph(tint: tuple[float, float, float]) -> None:
    values = (GRAY[..., None] * np.array(tint)).astype(np.uint8)
    assert read(values).notes == ("photograph_of_screen",)
    assert read(saved(values, "JPEG", quality=90)).notes == ("photograph_of_screen",)


@pytest.mark.parametrize("tint", [(0.98, 1.0, 0.99), (1.0, 0.97, 0.98), (1.0, 0.985, 0.98)])
def test_a_nearly_gray_image_is_a_photograph_too(tint: tuple[float, float, float]) -> None:
    values = (GRAY[..., None] * np.array(tint)).round().astype(np.uint8)
    assert read(values).notes == ("photograph_of_screen",)
    assert read(saved(values, "JPEG", quality=90), at_least=32).notes == ("photograph_of_screen",)


def test_a_step_of_colour_that_rounding_makes_is_none() -> None:
    values = np.stack([GRAY, GRAY, np.maximum(GRAY, 2) - 2], axis=-1)
    assert read(values).notes == ()


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_what_a_camera_exposed_is_a_photograph(mode: str) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x829A] = 0.02
    exif[0x010F] = "A maker of phones"
    data = saved(np.asarray(Image.fromarray(GRAY).convert(mode)), "JPEG", exif=exif)
    assert read(data).notes == ("photograph_of_screen",)


def test_what_a_scanner_of_films_made_is_none() -> None:
    exif = Image.Exif()
    exif[0x010F] = "A maker of scanners"
    assert read(saved(GRAY, "JPEG", exif=exif)).notes == ()
