"""`duplicates`: identical images and copies are found, and other images are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pneumoscope.auditing import duplicates
from pneumoscope.auditing.audit import audit
from pneumoscope.data import layouts
from pneumoscope.data.layouts import Sample
from tests.builders.audits import Pixels, chest, jpeg, kinds, sample, save


def resized(image: Pixels, share: float) -> Pixels:
    return np.asarray(Image.fromarray(image).resize([round(share * side) for side in image.shape[::-1]]))


def turned(image: Pixels, degrees: float) -> Pixels:
    return np.asarray(Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR))


def cropped(image: Pixels, share: float) -> Pixels:
    rows, columns = (round(share * side) for side in image.shape)
    return image[rows : image.shape[0] - rows, columns : image.shape[1] - columns]


def gamma(image: Pixels, exponent: float) -> Pixels:
    return np.asarray(255 * (image / 255) ** exponent, dtype=np.uint8)


COPIES: dict[str, Callable[[Pixels], Pixels]] = {
    "JPEG quality 40": lambda image: jpeg(image, 40),
    "resized to 70 %": lambda image: resized(image, 0.7),
    "cropped by 3 % at each side": lambda image: cropped(image, 0.03),
    "cropped at one corner": lambda image: image[image.shape[0] // 30 :, image.shape[1] // 30 :],
    "brightened": lambda image: np.asarray(np.minimum(image * 1.2, 255), dtype=np.uint8),
    "gamma 0.7": lambda image: gamma(image, 0.7),
    "gamma 1.4": lambda image: gamma(image, 1.4),
    "turned by 2 degrees": lambda image: turned(image, 2),
    "mirrored": lambda image: image[:, ::-1],
    "mirrored, cropped and re-encoded": lambda image: jpeg(cropped(image, 0.03)[:, ::-1], 60),
    "padded to a square": lambda image: np.pad(image, ((20, 20), (0, 0))),
    "in a white frame": lambda image: np.pad(image, 12, constant_values=255),
}


def test_images_are_identical_whatever_their_names_and_formats(tmp_path: Path) -> None:
    paths = [save(chest(0), tmp_path / name) for name in ("a.png", "b.tiff", "folder/c.png")]
    images = [Sample(path, 0, "one patient") for path in paths]
    found = audit([*images, sample(chest(1)), sample(chest(2), 1)])
    assert [group.samples for group in found.identical] == [tuple(images)]
    assert found.identical[0].pairs == 3
    assert kinds(found)["identical"] == "warning"
    assert found.near == []


@pytest.mark.parametrize(
    ("change", "kind", "severity", "across"),
    [
        ({}, "identical", "warning", ()),
        ({"patient": "another"}, "identical", "warning", ("patients",)),
        ({"label": 1}, "identical_across_labels", "critical", ("labels",)),
        ({"split": "test", "patient": "another"}, "identical_across_splits", "critical", ("splits", "patients")),
    ],
)
def test_identical_images_are_the_worse_the_more_they_differ(
    unspoilt: list[Sample], change: dict[str, Any], kind: str, severity: str, across: tuple[str, ...]
) -> None:
    found = audit([*unspoilt, replace(unspoilt[0], path=Path("again"), **change)])
    assert kinds(found) | {"patient_across_labels": "note"} == {kind: severity, "patient_across_labels": "note"}
    assert [group.across for group in found.identical] == [across]


def test_an_image_in_16_bits_is_identical_to_the_same_in_8(tmp_path: Path) -> None:
    image = chest(0)
    save(image, tmp_path / "8.png")
    Image.fromarray(image.astype(np.uint16) * 257).save(tmp_path / "16.png")
    images = [Sample(tmp_path / name, 0, name) for name in ("8.png", "16.png")]
    assert [group.samples for group in audit(images).identical] == [tuple(images)]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_every_set_of_identical_images_is_one_group(shown: list[int]) -> None:
    found = audit([sample(np.full((6, 4 + i), 40 * i, dtype=np.uint8), label=i % 2) for i in shown])
    expected = sorted(n for n in (shown.count(i) for i in range(6)) if n > 1)
    assert sorted(len(group.samples) for group in found.identical) == expected
    assert sum(group.pairs for group in found.identical) == sum(n * (n - 1) // 2 for n in expected)


def test_images_of_another_shape_are_not_identical_though_their_bytes_are() -> None:
    assert audit([sample(np.zeros((2, 6), dtype=np.uint8)), sample(np.zeros((3, 4), dtype=np.uint8))]).identical == []


@pytest.mark.parametrize("copy", COPIES)
def test_copies_are_found_and_other_images_are_not(copy: str) -> None:
    samples = [sample(chest(i, 200), i % 2) for i in range(12)]
    planted = [sample(COPIES[copy](np.asarray(original.pixels)), original.label) for original in samples[:6]]
    found = audit([*samples, *planted])
    assert found.identical == []
    expected = [(original.path, copied.path) for original, copied in zip(samples, planted, strict=False)]
    assert sorted(tuple(sample.path for sample in group.samples) for group in found.near) == sorted(expected)
    assert all(link.mirrored == ("mirrored" in copy) for group in found.near for link in group.links)
    assert all(duplicates.LIMIT <= group.alike <= 1 for group in found.near)


def test_near_duplicates_across_splits_and_labels_are_critical(unspoilt: list[Sample]) -> None:
    original = unspoilt[0]
    again = sample(jpeg(np.asarray(original.pixels), 40), label=1, split="test")
    found = audit([*unspoilt, again])
    assert kinds(found) == {
        "near_duplicates_across_labels": "critical",
        "near_duplicates_across_splits": "critical",
    }
    assert found.near[0].samples == (original, again)
    assert found.near[0].across == ("labels", "splits", "patients")


def test_copies_of_copies_are_one_group_and_identical_images_join_it() -> None:
    original = chest(0, 200)
    images = [sample(image) for image in (original, jpeg(original, 50), cropped(original, 0.03), original, chest(1))]
    found = audit(images)
    assert [group.samples for group in found.near] == [tuple(images[:4])]
    assert [group.samples for group in found.identical] == [(images[0], images[3])]


def test_blank_and_tiny_images_are_no_copies_of_each_other() -> None:
    images = [sample(np.full((100 + i, 100), 9, dtype=np.uint8)) for i in range(3)]
    images += [sample(chest(i, 28), label=1) for i in range(3)]
    found = audit(images)
    assert found.near == []
    assert found.compared == 0
    assert kinds(found)["not_compared"] == "note"


@pytest.mark.images
def test_on_kermanys_training_split_the_28_identical_pairs_are_found_and_no_near_one(data: Path) -> None:
    found = audit(layouts.load(data / "kermany224" / "train"))
    assert sum(group.pairs for group in found.identical) == 28
    assert sorted(len(group.samples) for group in found.identical) == [2] * 22 + [3] * 2
    assert found.near == []
    assert {s.name for s in found.shortcuts if s.grade == "constant"} >= {"size", "aspect", "depth"}


@pytest.mark.images
@pytest.mark.parametrize("copy", sorted(set(COPIES) - {"in a white frame"}))
def test_copies_of_real_images_are_found(data: Path, copy: str) -> None:
    paths = sorted((data / "kermany224" / "train" / "NORMAL").iterdir())[:300]
    images = [np.asarray(Image.open(path).convert("L")) for path in paths]
    thumbnails = [duplicates.thumbnails(np.float32(1 / 255) * image) for image in images]
    thumbnails += [duplicates.thumbnails(np.float32(1 / 255) * COPIES[copy](image)) for image in images[::10]]
    owners = np.array([i for i, own in enumerate(thumbnails) for _ in own])
    pairs = duplicates.near(np.array([image for own in thumbnails for image in own]), owners)
    right = {(pair.first, pair.second) for pair in pairs} & {(10 * i, 300 + i) for i in range(30)}
    assert len(right) >= 29
    assert len(pairs) == len(right)
