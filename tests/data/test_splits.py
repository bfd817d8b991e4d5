"""`splits`: images are read once, and a patient is on one side of a split only."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pneumoscope.data.layouts import LABELS, Sample, load
from pneumoscope.data.splits import Decoded, decode, folds, hold_out, image_key
from pneumoscope.errors import DatasetError, NotFoundError, UnreadableError, UnsupportedError
from pneumoscope.imaging import preprocessing
from tests.conftest import CALM, SIZE, drawn_image

WHOLE = preprocessing.Box(0.0, 0.0, 1.0, 1.0)

pytestmark = pytest.mark.filterwarnings("error")


def test_images_are_read_once_in_order_and_squashed(draw_folder: Callable[..., Path]) -> None:
    samples = load(draw_folder(3, 2))
    called: list[None] = []
    decoded = decode(samples, 16, progress=lambda: called.append(None))
    assert decoded.samples == samples
    assert decoded.pixels.shape == (5, 16, 16)
    assert decoded.pixels.dtype == np.float16
    assert decoded.labels.tolist() == [0, 0, 0, 1, 1]
    assert decoded.failures == []
    assert len(called) == 5
    whole = decode(samples, SIZE).pixels
    for sample, pixels in zip(samples, whole, strict=True):
        assert np.abs(np.asarray(Image.open(sample.path)) / 255 - pixels).max() < 0.001


def test_an_image_that_cannot_be_read_is_listed_with_its_reason(draw_folder: Callable[..., Path]) -> None:
    folder = draw_folder(3, 3)
    images = load(folder)
    images[1].path.write_bytes(b"")
    images[3].path.write_bytes(images[3].path.read_bytes()[:100])
    images[4].path.unlink()
    images.append(Sample(folder / "notes.txt", 1, "p"))
    images[-1].path.write_text("no image")
    called: list[None] = []
    decoded = decode(images, 16, progress=lambda: called.append(None))
    assert decoded.samples == [images[0], images[2], images[5]]
    assert decoded.pixels.shape == (3, 16, 16)
    assert decoded.groups.shape == (3,)
    assert [(image, type(error)) for image, error in decoded.failures] == [
        (images[1], UnreadableError),
        (images[3], UnreadableError),
        (images[4], NotFoundError),
        (images[6], UnsupportedError),
    ]
    assert len(called) == 7


def test_no_images_are_an_empty_data_set() -> None:
    decoded = decode([], 16)
    assert decoded.pixels.shape == (0, 16, 16)
    assert decoded.groups.shape == (0,)


def test_images_may_be_taken_by_position() -> None:
    decoded = decode([sample(i % 2, f"p{i}", i) for i in range(5)], 16)
    taken = decoded.take(np.array([4, 0]))
    assert taken.samples == [decoded.samples[4], decoded.samples[0]]
    assert np.array_equal(taken.pixels, decoded.pixels[[4, 0]])
    assert np.array_equal(taken.groups, decoded.groups[[4, 0]])


def test_the_fingerprint_is_of_content_and_label_not_of_name_and_order() -> None:
    images = [sample(i % 2, f"p{i}", i) for i in range(6)]
    renamed = [sample(i % 2, f"other{i}", i) for i in reversed(range(6))]
    relabelled = [replace(one, label=1) for one in images]
    prints = [decode(some, 16).fingerprint() for some in (images, renamed, relabelled, images[:5])]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def sample(label: int, patient: str, seed: int) -> Sample:
    """A drawn image; equal seeds and labels give equal images."""
    return Sample(Path(f"{patient}-{seed}"), label, patient, pixels=drawn_image(label, seed))


def together(decoded: Decoded) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(decoded.groups == group).tolist()) for group in decoded.groups}


def test_images_of_one_patient_are_one_group() -> None:
    decoded = decode([sample(0, "a", 1), sample(0, "b", 2), sample(1, "a", 3)], 16)
    assert together(decoded) == {frozenset({0, 2}), frozenset({1})}


def test_identical_images_under_different_names_are_one_group(draw_folder: Callable[..., Path]) -> None:
    folder = draw_folder(3, 3)
    copy = folder / "PNEUMONIA" / "copy.png"
    copy.write_bytes((folder / "PNEUMONIA" / "pneumonia001.png").read_bytes())
    decoded = decode(load(folder), 16)
    pairs = [{decoded.samples[i].path.name for i in group} for group in together(decoded) if len(group) > 1]
    assert pairs == [{"copy.png", "pneumonia001.png"}]
    assert image_key(decoded.pixels[3]) == image_key(decoded.pixels[5])


def test_links_between_patients_reach_through_identical_images() -> None:
    chain = [
        sample(0, "a", 1),
        sample(0, "b", 1),
        sample(0, "b", 2),
        sample(0, "c", 2),
        sample(0, "c", 3),
        sample(0, "d", 4),
    ]
    assert together(decode(chain, 16)) == {frozenset(range(5)), frozenset({5})}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
@settings(CALM, max_examples=100)
def test_groups_are_the_smallest_sets_closed_under_patient_and_image(pairs: list[tuple[int, int]]) -> None:
    decoded = decode([sample(0, f"p{patient}", image) for patient, image in pairs], 8)
    reached = np.array([[a == c or b == d for c, d in pairs] for a, b in pairs]).reshape(len(pairs), len(pairs))
    for _ in pairs:
        reached = reached @ reached
    assert np.array_equal(decoded.groups[:, None] == decoded.groups, reached)


def grouped(groups: list[tuple[int, int]]) -> Decoded:
    """Images of the given (label, size) groups, without images: a split looks at labels and groups only."""
    images = [Sample(Path(f"{i}-{j}"), label, str(i)) for i, (label, size) in enumerate(groups) for j in range(size)]
    numbers = np.repeat(np.arange(len(groups)), [size for _, size in groups])
    return Decoded(images, np.zeros((len(images), 1, 1), dtype=np.float16), numbers, [], [WHOLE] * len(images))


GROUPS = st.lists(st.tuples(st.integers(0, 1), st.integers(1, 9)), min_size=0, max_size=30).map(
    lambda some: [(0, 1), (1, 1)] * 3 + some
)


@given(GROUPS, st.integers(2, 3), st.integers(0, 99))
@settings(CALM, max_examples=100)
def test_folds_keep_groups_whole_and_hold_every_image_out_once(
    groups: list[tuple[int, int]], n: int, seed: int
) -> None:
    decoded = grouped(groups)
    parts = folds(decoded, n, seed)
    assert len(parts) == n
    assert np.array_equal(np.sort(np.concatenate([held_out for _, held_out in parts])), np.arange(len(decoded.samples)))
    for training, held_out in parts:
        assert np.array_equal(np.sort(np.concatenate([training, held_out])), np.arange(len(decoded.samples)))
        assert np.all(np.diff(training) > 0)
        assert np.all(np.diff(held_out) > 0)
        assert not set(decoded.groups[training]) & set(decoded.groups[held_out])
        assert set(decoded.labels[training]) == set(decoded.labels[held_out]) == {0, 1}


def many() -> Decoded:
    rng = np.random.default_rng(0)
    return grouped([(int(i % 4 > 0), int(rng.integers(1, 12))) for i in range(400)])


def test_the_share_of_pneumonias_is_the_same_in_every_fold() -> None:
    decoded = many()
    share = decoded.labels.mean()
    for training, held_out in folds(decoded, 5, seed=1):
        assert decoded.labels[training].mean() == pytest.approx(share, abs=0.01)
        assert decoded.labels[held_out].mean() == pytest.approx(share, abs=0.03)
        assert len(held_out) == pytest.approx(len(decoded.samples) / 5, rel=0.1)


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.25, 0.5])
def test_the_share_held_out_is_the_one_asked_for(fraction: float) -> None:
    training, held_out = hold_out(many(), fraction, seed=0)
    assert len(held_out) / (len(training) + len(held_out)) == pytest.approx(fraction, abs=0.02)


def test_equal_seeds_give_equal_splits_and_different_ones_different() -> None:
    decoded = many()
    first, again, other = (hold_out(decoded, 0.2, seed)[1] for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    for one, two in zip(folds(decoded, 4, 7), folds(decoded, 4, 7), strict=True):
        assert np.array_equal(one[1], two[1])


@pytest.mark.parametrize("label", [0, 1])
def test_too_few_patients_of_a_class_are_said_so(label: int) -> None:
    decoded = grouped([(1 - label, 1)] * 20 + [(label, 10)] * 4)
    with pytest.raises(DatasetError, match=f"at least 5 patients of class {LABELS[label]} for this split, got 4: give"):
        hold_out(decoded, 0.2, seed=0)
    assert len(folds(decoded, 4, seed=0)) == 4


@pytest.fixture(scope="module")
def kermany(data: Path) -> Decoded:
    return decode(load(data / "kermany224" / "train"), 64)


@pytest.mark.images
def test_kermanys_training_images_are_all_there(kermany: Decoded, data: Path) -> None:
    assert len(kermany.samples) == 5216
    assert kermany.failures == []
    assert np.bincount(kermany.labels).tolist() == [1341, 3875]
    assert Counter(sample.subtype for sample in kermany.samples if sample.label) == {"bacteria": 2530, "virus": 1345}
    assert {sample.split for sample in load(data / "kermany224")} == {"train", "val"}


@pytest.mark.images
def test_kermanys_28_pairs_of_identical_images_share_their_groups(kermany: Decoded) -> None:
    same = defaultdict(list)
    for i, pixels in enumerate(kermany.pixels):
        same[image_key(pixels)].append(i)
    pairs = [found for found in same.values() if len(found) > 1]
    assert sum(math.comb(len(found), 2) for found in pairs) == 28
    for found in pairs:
        assert len(set(kermany.groups[found])) == 1


@pytest.mark.images
def test_no_patient_and_no_image_of_kermanys_is_on_both_sides(kermany: Decoded) -> None:
    for training, held_out in [hold_out(kermany, 0.15, seed=0), *folds(kermany, 3, seed=1)]:
        assert not {kermany.samples[i].patient for i in training} & {kermany.samples[i].patient for i in held_out}
        assert not {image_key(kermany.pixels[i]) for i in training} & {image_key(kermany.pixels[i]) for i in held_out}
        assert kermany.labels[held_out].mean() == pytest.approx(kermany.labels.mean(), abs=0.01)
