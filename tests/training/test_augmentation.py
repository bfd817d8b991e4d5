"""Augmentation: each change can be switched, stays in range, moves boxes with their image, and is repeatable."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pneumoscope.errors import TrainingError
from pneumoscope.evaluation import localisation
from pneumoscope.training.augmentation import NONE, Augmentation, augment
from tests.conftest import drawn_image

SIZE, SIDE = 64, 16
EMPTY = np.zeros((SIDE, SIDE), np.float32)


def image(i: int = 0) -> NDArray[np.float32]:
    return np.asarray(drawn_image(i % 2, i, SIZE), dtype=np.float32) / np.float32(255)


def alone(name: str) -> Augmentation:
    strength = 20.0 if name == "rotation" else 1.0
    return replace(NONE, **{"share": 1.0, "blur": float(name == "sharpen"), name: strength})


@pytest.mark.parametrize("name", [field.name for field in fields(Augmentation) if field.name != "share"])
def test_each_change_alone_changes_images_within_their_range(name: str) -> None:
    made = [augment(image(), EMPTY, image(1), alone(name), np.random.default_rng(seed)) for seed in range(8)]
    assert all(a.pixels.shape == (SIZE, SIZE) and a.pixels.dtype == np.float32 for a in made)
    assert min(a.pixels.min() for a in made) >= 0.0
    assert max(a.pixels.max() for a in made) <= 1.0
    assert max(float(np.abs(a.pixels - image()).mean()) for a in made) > 1e-3
    assert any(a.hidden for a in made) == (name == "hidden")


def test_without_any_strength_an_image_stays_as_it_is() -> None:
    same = augment(image(), EMPTY, image(1), NONE, np.random.default_rng(0))
    assert np.array_equal(same.pixels, image())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_equal_seeds_give_equal_images_in_range(seed: int) -> None:
    strong = Augmentation(tone=0.5, surround=0.5, hidden=0.3)
    one, other = (augment(image(), EMPTY, image(1), strong, np.random.default_rng(seed)) for _ in range(2))
    assert np.array_equal(one.pixels, other.pixels)
    assert one.pixels.min() >= 0.0
    assert one.pixels.max() <= 1.0


@pytest.mark.parametrize("seed", range(6))
def test_a_box_moves_with_what_it_surrounds(seed: int) -> None:
    pixels, boxes = np.zeros((SIZE, SIZE), np.float32), EMPTY.copy()
    pixels[16:32, 36:56] = 1.0
    boxes[4:8, 9:14] = 1.0
    moving = replace(NONE, share=1.0, rotation=10.0, width_shift=0.1, height_shift=0.1, zoom=0.2, horizontal_flip=0.5)
    moved = augment(pixels, boxes, pixels, moving, np.random.default_rng(seed))
    shown = moved.pixels.reshape(SIDE, 4, SIDE, 4).mean(axis=(1, 3))
    assert np.abs(shown - moved.boxes).mean() < 0.03
    assert moved.boxes.sum() > 5


def test_surroundings_come_from_the_other_image_and_boxes_there_go() -> None:
    boxes = np.ones((SIDE, SIDE), np.float32)
    mixed = augment(image(), boxes, image(1), replace(NONE, surround=1.0), np.random.default_rng(0))
    assert np.array_equal(mixed.pixels[:2, :2], image(1)[:2, :2])
    assert np.array_equal(mixed.pixels[28:36, 28:36], image()[28:36, 28:36])
    assert mixed.boxes[0, 0] == 0.0
    assert mixed.boxes[8, 8] == 1.0


def test_a_hidden_thorax_leaves_nothing_of_the_lungs() -> None:
    hidden = augment(image(), EMPTY, image(1), replace(NONE, hidden=1.0), np.random.default_rng(0))
    assert hidden.hidden
    assert np.ptp(hidden.pixels[localisation.inside(SIZE, SIZE)]) == 0.0


@pytest.mark.parametrize("change", [{"rotation": -1.0}, {"blur": 1.5}, {"noise": float("nan")}, {"hidden": 2.0}])
def test_a_strength_that_cannot_be_is_an_error_that_names_it(change: dict[str, float]) -> None:
    with pytest.raises(TrainingError, match=f"Expected augmentation.{next(iter(change))} in"):
        Augmentation(**change)
