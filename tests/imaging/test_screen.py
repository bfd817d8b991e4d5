"""`screen`: gray photographs of a screen or a light box are warned of, radiographs are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pneumoscope.imaging import preprocessing, radiograph, screen
from tests.conftest import drawn_image

CHEST = drawn_image(1, seed=3, size=224)


def photographed(around: int, wall: float, leaning: float = 0.0, size: tuple[int, int] = (600, 800)) -> Image.Image:
    """Show the chest within a border of some brightness, in a brighter room whose light falls off."""
    shown = Image.new("L", (320, 300), around)
    shown.paste(Image.fromarray(CHEST).resize((280, 260)), (20, 20))
    width, height = size
    light = wall * np.linspace(0.85, 1.0, width) * np.linspace(1.0, 0.8, height)[:, None]
    room = Image.fromarray((light * 255).astype(np.uint8))
    turned = shown.resize((width * 3 // 4, height * 3 // 4)).convert("LA").rotate(leaning, expand=True)
    room.paste(turned.getchannel(0), ((width - turned.width) // 2, (height - turned.height) // 2), turned.getchannel(1))
    return room


def squashed(image: Image.Image, size: int = 224) -> NDArray[np.float32]:
    return preprocessing.squash(np.asarray(image, dtype=np.float32) / np.float32(255), size)[0]


@pytest.mark.parametrize("leaning", [0, -3, 4])
@pytest.mark.parametrize("size", [(600, 800), (800, 600)])
@pytest.mark.parametrize(("around", "wall"), [(10, 0.45), (10, 0.9), (120, 0.95)])
def test_a_gray_photograph_of_a_screen_is_known(
    around: int, wall: float, leaning: float, size: tuple[int, int]
) -> None:
    assert screen.remarks(squashed(photographed(around, wall, leaning, size))) == ["photograph_of_screen"]


@pytest.mark.parametrize("changed", [CHEST, 255 - CHEST, np.pad(CHEST, 30), np.pad(CHEST, 30, constant_values=255)])
def test_a_chest_and_its_even_frame_are_no_screen(changed: NDArray[np.uint8]) -> None:
    assert screen.remarks(squashed(Image.fromarray(changed))) == []


def test_a_size_of_its_own_is_looked_at_alike() -> None:
    assert screen.remarks(squashed(photographed(10, 0.9), 150)) == ["photograph_of_screen"]


@pytest.mark.images
@pytest.mark.parametrize("folder", ["kermany_original", "nih/films", "kermany224/train"])
def test_real_radiographs_are_no_screens(data: Path, folder: str) -> None:
    if not (data / folder).is_dir():
        pytest.skip(f"no images in {folder}")
    images = sorted(path for path in (data / folder).rglob("*") if path.suffix in (".jpg", ".jpeg"))
    every = max(1, len(images) // 136)
    told = [
        path.name
        for path in images[::every]
        if screen.remarks(preprocessing.squash(radiograph.read(path, at_least=224).pixels, 224)[0])
    ]
    assert told == []
