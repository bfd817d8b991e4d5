"""Lines around what a model counted: closed, on the image, and around the places with half of the most weight."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path
from numpy.typing import NDArray

from pneumoscope.reporting.outlines import outlines

MAPS = arrays(
    np.float32,
    st.tuples(st.integers(1, 8), st.integers(1, 8)),
    elements=st.floats(-2, 2, width=32).map(lambda value: round(value, 2)),
)


def test_nothing_is_outlined_where_nothing_speaks_for_pneumonia() -> None:
    assert outlines(np.full((4, 4), -0.5, np.float32)) == []
    assert outlines(np.zeros((4, 4), np.float32)) == []


def test_two_places_have_a_line_each_and_a_weak_one_has_none() -> None:
    cells = np.zeros((9, 9), np.float32)
    cells[1, 1], cells[7, 7], cells[1, 7] = 1.0, 0.9, 0.3
    assert [tuple(np.round(line.mean(axis=0) * 9, 1)) for line in outlines(cells)] == [(1.5, 1.5), (7.5, 7.5)]


def test_a_place_at_the_border_is_closed_along_it() -> None:
    (line,) = outlines(np.eye(1, 16, dtype=np.float32).reshape(4, 4))
    assert line.min() == 0.0
    assert Path(line).contains_point((0.05, 0.05))


@given(cells=MAPS)
def test_every_line_is_closed_and_on_the_image_and_the_strongest_cell_lies_within_one(
    cells: NDArray[np.float32],
) -> None:
    lines = outlines(cells)
    assert bool(lines) == bool(cells.max() > 0)
    for line in lines:
        assert (line[0] == line[-1]).all()
        assert line.min() >= 0.0
        assert line.max() <= 1.0
    if lines:
        height, width = cells.shape
        row, column = np.unravel_index(np.argmax(cells), cells.shape)
        strongest = ((column + 0.5) / width, (row + 0.5) / height)
        assert any(Path(line).contains_point(strongest, radius=r) for line in lines for r in (-0.02, 0.0, 0.02))
