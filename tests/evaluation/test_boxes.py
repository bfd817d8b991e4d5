"""Evidence and radiologists' boxes: whether the one lies in the other, beside what chance gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pneumoscope.data.samples import Box, Sample
from pneumoscope.evaluation import boxes

CORNER = Box("opacity", 0.0, 0.0, 0.25, 0.5)  # an eighth of the image, above left


def sample(*seen: Box, label: int = 1, patient: str = "p") -> Sample:
    return Sample(Path("a.png"), label, patient, boxes=seen)


def cells(**hot: float) -> np.ndarray:
    grid = np.full((4, 4), -1.0)
    for place, value in hot.items():
        grid[int(place[1]), int(place[2])] = value
    return grid


def test_evidence_in_the_box_is_a_hit_and_counts_by_its_share() -> None:
    measured = boxes.pointing([sample(CORNER)], [cells(c00=3.0, c33=1.0)])
    assert measured is not None
    assert (measured.n, measured.hits.value) == (1, 1.0)
    assert measured.inside.value == pytest.approx(0.75)
    assert measured.chance == measured.area == pytest.approx(1 / 8)
    assert 0.2 < measured.thorax.value < 0.9


def test_evidence_elsewhere_is_a_miss_however_much_there_is() -> None:
    measured = boxes.pointing([sample(CORNER)], [cells(c00=0.5, c33=4.0)])
    assert measured is not None
    assert measured.hits.value == 0.0
    assert measured.inside.value == pytest.approx(1 / 9)


def test_one_of_two_boxes_is_enough_and_what_lies_in_both_counts_once() -> None:
    measured = boxes.pointing([sample(CORNER, CORNER, Box("", 0.75, 0.75, 1.0, 1.0))], [cells(c33=2.0)])
    assert measured is not None
    assert measured.hits.value == measured.inside.value == 1.0
    assert measured.area == pytest.approx(1 / 8 + 1 / 16)


def test_a_cell_that_a_box_covers_by_half_counts_by_half() -> None:
    measured = boxes.pointing([sample(Box("opacity", 0.0, 0.0, 0.125, 0.25))], [cells(c00=1.0)])
    assert measured is not None
    assert measured.inside.value == pytest.approx(0.5)


def test_where_nothing_speaks_for_pneumonia_nothing_lies_in_the_boxes() -> None:
    measured = boxes.pointing([sample(CORNER)], [cells(c33=-0.5)])
    assert measured is not None
    assert measured.inside.value == measured.thorax.value == 0.0


@pytest.mark.parametrize("other", [sample(), sample(CORNER, label=0), sample(Box("nodule", 0.0, 0.0, 0.5, 0.5))])
def test_images_without_a_box_around_an_opacity_are_in_no_figure(other: Sample) -> None:
    assert boxes.pointing([other], [cells()]) is None
    both = boxes.pointing([other, sample(CORNER)], [cells(c33=1.0), cells(c00=1.0)])
    assert both is not None
    assert (both.n, both.hits.value) == (1, 1.0)


def test_random_evidence_has_the_figures_of_chance() -> None:
    rng = np.random.default_rng(0)
    some = [
        sample(Box("opacity", x, y, x + 0.3, y + 0.4), patient=str(i))
        for i, (x, y) in enumerate(rng.random((400, 2)) * 0.6)
    ]
    measured = boxes.pointing(some, [rng.random((10, 10)) for _ in some])
    assert measured is not None
    assert measured.hits.low <= measured.chance <= measured.hits.high
    assert measured.inside.value == pytest.approx(measured.area, abs=0.02)
    assert measured.inside.low <= measured.inside.value <= measured.inside.high
