"""The acquisition probe: high where a model reads the scanner, low where it does not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pneumoscope.errors import DatasetError
from pneumoscope.evaluation import acquisition
from tests.conftest import drawn_image


def normals(n: int) -> list[NDArray[np.float64]]:
    exposures = np.random.default_rng(0).uniform(0.7, 1.3, n)
    return [np.clip(drawn_image(0, i, 56) / 255 * exposure, 0, 1) for i, exposure in enumerate(exposures)]


def test_a_model_that_reads_brightness_is_found_out() -> None:
    images = normals(80)
    probe = acquisition.probe(images, [float(image.mean()) for image in images], range(80))
    assert probe.value > 0.8
    assert probe.low <= probe.value <= probe.high <= 1.0


def test_a_model_that_does_not_is_not() -> None:
    probe = acquisition.probe(normals(80), np.random.default_rng(1).normal(size=80), range(80))
    assert abs(probe.value) < 0.4
    assert probe.low < 0.0 < probe.high or abs(probe.value) < 0.3


@pytest.mark.parametrize("size", [28, 57, 224])
def test_images_of_any_size_are_described_alike(size: int) -> None:
    described = acquisition.describe(np.full((size, size), 0.5))
    assert described[:108] == pytest.approx(0.5)
    assert described[108:140].sum() == pytest.approx(1.0)


def test_too_few_images_are_an_error_that_says_how_many_it_takes() -> None:
    with pytest.raises(DatasetError, match="Expected at least 50 normal images"):
        acquisition.probe(normals(5), range(5), range(5))
