"""`shortcuts`: what tells the class without the lungs is found with its direction and grade."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pneumoscope.auditing import shortcuts
from pneumoscope.auditing.audit import audit
from pneumoscope.data import layouts
from tests.builders.audits import Pixels, chest, files, kinds


def framed(image: Pixels, width: int, tone: int) -> Pixels:
    return np.pad(image, width, constant_values=tone)


def leveled(image: Pixels, mean: float, deviation: float) -> Pixels:
    values = (image - image.mean()) / image.std()
    return np.asarray(np.clip(values * deviation + mean, 20, 235), dtype=np.uint8)


PLANTED: dict[str, tuple[Callable[[int, int], tuple[Pixels, str, dict[str, Any]]], str]] = {
    "size": (lambda i, y: (chest(i, 64 + i % 7 + 12 * y), ".png", {}), "pneumonias are larger"),
    "aspect": (
        lambda i, y: (chest(i, 120)[: 110 - 40 * (1 - y), : 110 - 40 * y], ".png", {}),
        "normal images are wider",
    ),
    "brightness": (lambda i, y: (leveled(chest(i), 110 + i % 5 + 30 * y, 25), ".png", {}), "pneumonias are brighter"),
    "contrast": (
        lambda i, y: (leveled(chest(i), 128, 32 - i % 3 - 15 * y), ".png", {}),
        "normal images have more contrast",
    ),
    "corners": (lambda i, y: (255 - chest(i) if y else chest(i), ".png", {}), "normal images have brighter corners"),
    "black border": (
        lambda i, y: (framed(chest(i), 2 + i % 3 + 9 * y, 0), ".png", {}),
        "pneumonias have more black border",
    ),
    "white border": (
        lambda i, y: (framed(chest(i), 12 + i % 3 - 9 * y, 255), ".png", {}),
        "normal images have more white border",
    ),
    "file size": (lambda i, y: (chest(i), ".jpg", {"quality": 30 + 60 * y}), "pneumonias have larger files"),
    "depth": (
        lambda i, y: ((chest(i).astype(np.uint16) * 257 if y else chest(i)), ".tiff", {}),  # type: ignore[dict-item,return-value]
        "pneumonias have more bits",
    ),
    "format JPEG": (lambda i, y: (chest(i), ".jpg" if y else ".png", {}), "pneumonias are more often JPEG files"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_shortcut_is_found_with_its_direction(name: str, tmp_path: Path) -> None:
    made, direction = PLANTED[name]
    found = audit(files(tmp_path, made))
    shortcut = next(shortcut for shortcut in found.shortcuts if shortcut.name == name)
    assert shortcut.grade == "strong shortcut"
    assert shortcut.direction == direction
    assert shortcut.strength.low > 0.7
    assert any(fault.kind == "shortcut" and shortcut.title in fault.text for fault in found.faults)


def test_the_grade_follows_the_lower_end_of_the_interval() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    grades = [shortcuts.assess("size", labels, rng.normal(size=400) + gap * labels).grade for gap in (0, 0.7, 2)]
    assert grades == ["none shown", "shortcut", "strong shortcut"]


def test_few_images_prove_no_shortcut() -> None:
    labels = np.arange(12) % 2
    assert shortcuts.assess("size", labels, labels.astype(float)).grade == "too few images to tell"


def test_what_all_images_have_alike_is_said() -> None:
    shortcut = shortcuts.assess("size", np.arange(40) % 2, np.full(40, 50176.0))
    assert (shortcut.grade, shortcut.direction) == ("constant", "the same in all images: 50176")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 10), min_size=24, max_size=60), st.integers(0, 1000))
def test_an_area_below_a_half_predicts_as_well_as_one_above(values: Sequence[float], seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.arange(len(values)) % 2)
    once, other = (shortcuts.assess("size", y, np.array(values)) for y in (labels, 1 - labels))
    assert once.grade == other.grade
    if once.grade != "constant":
        assert once.strength.value >= 0.5
        assert vars(once.strength) == pytest.approx(vars(other.strength))
        assert once.strength.low <= once.strength.value <= once.strength.high


@pytest.mark.images
def test_on_kermanys_originals_size_and_aspect_are_strong_shortcuts(data: Path) -> None:
    found = audit(layouts.load(data / "kermany_original"))
    grades = {shortcut.name: shortcut for shortcut in found.shortcuts}
    assert grades["size"].grade == grades["aspect"].grade == "strong shortcut"
    assert grades["size"].strength.value == pytest.approx(0.9, abs=0.03)
    assert grades["size"].direction == "normal images are larger"
    assert kinds(found)["small_split"] == "critical"
