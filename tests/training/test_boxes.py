"""Boxes: drawn where the network sees them, and silent where nothing is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pneumoscope.data.layouts import Box, Sample
from pneumoscope.imaging import preprocessing
from pneumoscope.training import boxes

WHOLE = preprocessing.Box(0.0, 0.0, 1.0, 1.0)


def sample(label: int, *shown: Box, other: bool = False) -> Sample:
    return Sample(Path("a.png"), label, "a", boxes=shown, other=other)


def test_a_box_covers_its_share_of_each_place() -> None:
    found = boxes.masks([sample(1, Box("opacity", 0.25, 0.5, 0.5, 0.875))], [WHOLE], 4)
    assert found is not None
    assert found[0][0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0], [0, 0.5, 0, 0]]


def test_a_frame_that_is_cut_off_moves_the_boxes() -> None:
    part = preprocessing.Box(0.25, 0.25, 0.75, 0.75)
    found = boxes.masks([sample(1, Box("Pneumonia", 0.25, 0.25, 0.5, 0.5))], [part], 2)
    assert found is not None
    assert found[0][0].tolist() == [[1, 0], [0, 0]]


def test_only_what_is_fully_known_is_taught() -> None:
    opacity, mass = Box("opacity", 0.0, 0.0, 0.5, 0.5), Box("Mass", 0.0, 0.0, 0.5, 0.5)
    found = boxes.masks(
        [sample(1, opacity), sample(1), sample(1, mass), sample(0), sample(0, opacity), sample(0, other=True)],
        [WHOLE] * 6,
        2,
    )
    assert found is not None
    assert found[1].tolist() == [True, False, False, True, True, False]
    assert not np.any(found[0][1:])


def test_without_boxes_there_is_nothing_to_teach() -> None:
    assert boxes.masks([sample(0), sample(1)], [WHOLE] * 2, 4) is None
