"""Images that a model was trained on: remembered without their pixels, found on any machine, never mistaken."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pneumoscope import Detector
from pneumoscope.imaging import preprocessing, radiograph
from pneumoscope.inference import seen
from tests.conftest import SIZE, drawn_image


def images(n: int, size: int = SIZE) -> list[NDArray[np.float32]]:
    return [(drawn_image(i % 2, 70_000 + i, size) / 255).astype(np.float32) for i in range(n)]


def distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> int:
    return int(seen.distances(seen.decode(seen.encode([one])), other)[0])


def test_images_are_written_down_without_their_pixels() -> None:
    text = seen.encode(images(6))
    assert len(seen.decode(text)) == 6
    assert len(text) < 6 * 24


def test_images_seen_earlier_are_not_forgotten() -> None:
    both = seen.encode(images(9)[3:], seen.encode(images(6)))
    assert both == seen.encode(images(9))


def test_an_image_is_found_again_and_another_is_not() -> None:
    signatures = seen.decode(seen.encode(images(200)))
    assert all(seen.is_among(signatures, image) for image in images(200))
    assert not any(seen.is_among(signatures, (drawn_image(i % 2, i) / 255)) for i in range(100))


def test_another_rounding_of_the_last_bit_hides_no_image() -> None:
    """Processors add three colours to brightness with and without rounding in between."""
    for image in images(20):
        for towards in (0.0, 1.0):
            rounded = np.nextafter(image, np.float32(towards))
            assert distance(image, rounded) <= 1
            assert distance(image, rounded.astype(np.float16).astype(np.float32)) <= 1


def test_what_version_0_1_wrote_gives_no_image() -> None:
    assert len(seen.decode(base64.b64encode(bytes(10)).decode())) == 0
    assert len(seen.decode("")) == 0
    assert not seen.is_among(seen.decode(""), images(1)[0])


@pytest.mark.images
def test_the_default_model_finds_the_images_it_was_trained_on(data: Path) -> None:
    detector = Detector()
    some = sorted((data / "kermany224" / "train").rglob("*.jpeg"))[::60]
    found = ["seen_in_training" in finding.warnings for finding in detector.examine(some)]
    assert sum(found) == len(some)


@pytest.mark.images
def test_most_originals_of_small_copies_are_found_and_no_other_image(data: Path) -> None:
    def squashed(path: Path) -> NDArray[np.float32]:
        return preprocessing.squash(radiograph.read(path, at_least=224).pixels, 224)[0]

    originals = sorted((data / "kermany_original" / "train").rglob("*.jpeg"))[::4]
    copies = [data / "kermany224" / "train" / path.parent.name / path.name for path in originals]
    distances = np.array([[distance(squashed(one), copy) for one in originals] for copy in map(squashed, copies)])
    assert (np.diag(distances) <= seen.NEAR).mean() >= 0.9
    assert distances[~np.eye(len(originals), dtype=bool)].min() > 2 * seen.NEAR
