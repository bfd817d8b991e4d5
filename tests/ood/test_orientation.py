"""Orientation: what is no chest radiograph is rejected, and one that is turned, inverted or mirrored is told of."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from pneumoscope import Detector, Finding
from pneumoscope.errors import ModelFileError, NotAChestRadiographError
from pneumoscope.evaluation.evaluate import evaluate
from pneumoscope.imaging import corruptions, radiograph
from pneumoscope.inference.finding import WARNINGS
from pneumoscope.ood import hog, negatives, orientation, synthetic
from pneumoscope.ood.orientation import Orientation, OrientationModel
from tests.conftest import SIZE, drawn, drawn_image

NOTHING = OrientationModel(
    np.zeros((hog.LENGTH + 1, 4), np.float32), np.zeros((5, len(orientation.WAYS) + 1), np.float32)
)
NOISE = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE), dtype=np.uint8)


def negatives_of(kind: str, n: int, size: int = SIZE) -> list[NDArray[np.float32]]:
    images = np.stack([drawn_image(i % 2, 90_000 + i) for i in range(8)]) / 255
    return [negatives.draw(kind, np.random.default_rng([i, 7]), size, images) for i in range(n)]


@pytest.fixture(scope="module")
def detector(tiny_model: Path) -> Detector:
    return Detector(tiny_model)


@pytest.mark.parametrize("kind", negatives.KINDS)
def test_a_negative_is_an_image_and_the_same_draw_the_same(kind: str) -> None:
    for one, again in zip(negatives_of(kind, 5), negatives_of(kind, 5), strict=True):
        assert one.shape == (SIZE, SIZE)
        assert one.dtype == np.float32
        assert 0.0 <= one.min() <= one.max() <= 1.0
        np.testing.assert_array_equal(one, again)


@pytest.mark.parametrize("kind", synthetic.KINDS)
def test_negatives_that_are_not_made_of_images_need_none(kind: str) -> None:
    negatives.draw(kind, np.random.default_rng(0), SIZE, np.zeros((0, SIZE, SIZE)))


@given(st.integers(0, 50), st.floats(0.2, 1.0), st.floats(0.0, 0.5))
@settings(deadline=None, max_examples=30)
def test_an_outline_does_not_depend_on_contrast_and_brightness(seed: int, contrast: float, brightness: float) -> None:
    image = drawn_image(seed % 2, seed, 64) / 255
    change = np.abs(hog.describe(contrast * image + brightness) - hog.describe(image))
    assert change.max() < 0.15
    assert np.isfinite(hog.describe(np.full((5, 9), contrast))).all()


def test_images_are_predicted_and_images_that_are_none_are_rejected(detector: Detector) -> None:
    images = [drawn_image(i % 2, 60_000 + i) for i in range(100)]
    assert sum(finding.error is not None for finding in detector.examine(images)) <= 1
    others = [image for kind in negatives.KINDS for image in negatives_of(kind, 10)]
    findings = list(detector.examine(others))
    rejected = [finding for finding in findings if isinstance(finding.error, NotAChestRadiographError)]
    assert len(rejected) >= 0.5 * len(others)  # few drawn images set wide limits
    assert all(f.finding is None and f.probability is None and f.uncertain is None for f in rejected)


def test_a_rejected_file_keeps_its_path_and_the_others_are_answered(
    detector: Detector, draw_folder: Callable[..., Path]
) -> None:
    folder = draw_folder(2, 2)
    Image.fromarray(NOISE).save(folder / "NORMAL" / "noise.png")
    findings = {Path(finding.path).name: finding for finding in detector.examine(radiograph.files(folder))}
    row = json.loads(json.dumps(findings.pop("noise.png").as_dict()))
    assert row["path"].endswith("noise.png")
    assert row["finding"] is None
    assert row["error"]["kind"] == "not_a_chest_radiograph"
    assert "check that it is the right file" in row["error"]["message"]
    assert [finding.error for finding in findings.values()] == [None] * 4


def test_images_on_their_side_and_inverted_ones_are_told_of(detector: Detector) -> None:
    images = [drawn_image(i % 2, 61_000 + i) for i in range(60)]

    def told(changed: list[NDArray[np.uint8]], warning: str) -> int:
        return sum(warning in finding.warnings or finding.error is not None for finding in detector.examine(changed))

    for warning in ("rotated", "inverted", "mirrored"):
        assert told(images, warning) <= 2
    assert told([np.rot90(image) for image in images], "rotated") >= 50
    assert told([255 - image for image in images], "inverted") >= 50


def test_every_warning_of_an_orientation_is_explained() -> None:
    assert {warning for warning, _ in orientation.WAYS.values() if warning} | {"unlike_training_images"} <= set(
        WARNINGS
    )


def test_a_rejected_image_of_a_data_set_is_counted_and_not_predicted(detector: Detector) -> None:
    images = drawn(40)
    images[3] = replace(images[3], pixels=NOISE)
    done = evaluate(images, detector)
    assert [type(finding.error) for finding in done.failures] == [NotAChestRadiographError]
    assert done.performance.n == 39
    assert done.as_dict()["errors"] == 1


def test_predicting_squashed_images_rejects_nothing(detector: Detector) -> None:
    probabilities, _ = detector.predict_pixels(negatives_of("noise", 3))
    assert len(probabilities) == 3


def test_no_more_than_the_stated_share_of_held_out_images_is_rejected_or_remarked_on() -> None:
    rng = np.random.default_rng(0)
    hidden, last = (rng.normal(size=weights.shape).astype(np.float32) for weights in (NOTHING.hidden, NOTHING.last))
    random = OrientationModel(hidden, last)
    held_out = rng.normal(size=(4000, hog.LENGTH)).astype(np.float32)
    changed = rng.normal(size=held_out.shape).astype(np.float32)
    fitted = orientation._limited(random, held_out, changed)
    logits = fitted.logits(held_out)
    odds = orientation.negative_odds(logits)
    assert (odds > fitted.rejection).mean() <= orientation.REJECTED
    assert (orientation.negative_odds(fitted.logits(changed)) > fitted.rejection).mean() <= orientation.REJECTED_CHANGED
    told = [
        way if excess > dict(fitted.remarks).get(way or "", np.inf) else None
        for way, excess in map(orientation.way_of, logits)
    ]
    for warning, limit in fitted.remarks:
        assert limit >= 0.0
        assert told.count(warning) <= 2 * orientation.REMARKED * len(held_out)


def test_no_image_is_rejected_by_narrow_odds() -> None:
    fitted = orientation._limited(NOTHING, *np.zeros((2, 200, hog.LENGTH), np.float32))
    assert fitted.rejection == orientation.SURE
    assert fitted.look(np.zeros((8, 8))) == Orientation()


def test_one_network_says_the_mean_of_what_several_say() -> None:
    rng = np.random.default_rng(0)
    several = [
        OrientationModel(rng.normal(size=(hog.LENGTH + 1, 5)), rng.normal(size=(6, len(orientation.WAYS) + 1)))
        for _ in "abc"
    ]
    images = rng.normal(size=(20, hog.LENGTH))
    expected = np.mean([network.logits(images) for network in several], axis=0)
    assert orientation._mean(several).logits(images) == pytest.approx(expected)


def test_every_seed_of_a_recipe_can_be_learnt_with() -> None:
    inputs = np.random.default_rng(0).normal(size=(140, hog.LENGTH)).astype(np.float32)
    learnt = orientation._learnt(inputs, np.arange(140) % (len(orientation.WAYS) + 1), 2**32 - 1)
    assert learnt.hidden.shape == (hog.LENGTH + 1, orientation.NETWORKS * orientation.UNITS)


def test_images_as_they_are_alone_say_what_is_unlike_them() -> None:
    rng = np.random.default_rng(0)
    held_out = rng.normal(size=(1000, hog.LENGTH)).astype(np.float32)
    random = OrientationModel(rng.normal(size=NOTHING.hidden.shape), rng.normal(size=NOTHING.last.shape))
    one, other = (orientation._limited(random, held_out, scale * held_out[:100]) for scale in (1.0, 9.0))
    assert one.doubt == other.doubt


def test_views_come_back_from_the_model_files_card_as_they_were(detector: Detector) -> None:
    learnt = OrientationModel.from_dict(detector.card.orientation)
    back = OrientationModel.from_dict(json.loads(json.dumps(learnt.as_dict())))
    np.testing.assert_array_equal(back.hidden, learnt.hidden)
    np.testing.assert_array_equal(back.last, learnt.last)
    assert (back.rejection, back.doubt, back.remarks) == (learnt.rejection, learnt.doubt, learnt.remarks)


@pytest.mark.parametrize("change", [{"hidden": "AAAA"}, {"units": "many"}, {"remarks": 3}, {"last": "!"}])
def test_damaged_views_are_an_error_of_the_model_file(change: dict[str, object]) -> None:
    with pytest.raises(ModelFileError, match="Expected the orientation model"):
        OrientationModel.from_dict(NOTHING.as_dict() | change)
    with pytest.raises(ModelFileError, match="Expected the orientation model"):
        OrientationModel.from_dict({"units": 4})


@pytest.mark.images
def test_real_images_are_predicted_and_told_of_when_they_hang_wrong(data: Path) -> None:
    images = [radiograph.read(path).pixels for path in sorted((data / "kermany_original" / "val").rglob("*.jpeg"))]
    detector = Detector()

    def predicted(changed: list[NDArray[np.float32]]) -> list[Finding]:
        return list(detector.examine(changed))

    for changed in (
        images,
        *([corruptions.apply(name, image) for image in images[:6]] for name in corruptions.CORRUPTIONS),
    ):
        assert all(finding.error is None for finding in predicted(changed))
    assert sum(bool({"rotated", "inverted", "mirrored"} & set(finding.warnings)) for finding in predicted(images)) <= 1
    for warning, make in list(orientation.WAYS.values())[1:]:
        told = sum(str(warning) in finding.warnings for finding in predicted([make(image) for image in images]))
        assert told >= (11 if warning == "mirrored" else 15)


@pytest.mark.images
def test_most_images_cut_in_half_or_blurred_beyond_recognition_get_no_finding_without_a_warning(data: Path) -> None:
    images = [radiograph.read(path).pixels for path in sorted((data / "kermany_original" / "val").rglob("*.jpeg"))]
    detector = Detector()

    def doubted(changed: list[NDArray[np.float32]]) -> int:
        return sum(finding.error is not None or bool(finding.warnings) for finding in detector.examine(changed))

    assert doubted([image[: len(image) // 2] for image in images]) >= 14
    assert doubted([image[len(image) // 2 :] for image in images]) >= 8
    assert doubted([image[:, : image.shape[1] // 2] for image in images]) == 16
    assert doubted([image[:, image.shape[1] // 2 :] for image in images]) >= 15
    assert doubted([gaussian_filter(image, 0.05 * len(image)) for image in images]) == 16


@pytest.mark.images
def test_negatives_are_rejected_and_those_that_are_not_are_warned_of(data: Path) -> None:
    images = np.stack(
        [
            radiograph.resize(radiograph.read(path).pixels, 224)
            for path in sorted((data / "kermany_original" / "val").rglob("*.jpeg"))
        ]
    )
    detector = Detector()
    for kind in negatives.KINDS:
        others = [negatives.draw(kind, np.random.default_rng([i, 3]), 224, images) for i in range(20)]
        findings = list(detector.examine(others))
        assert sum(finding.error is not None for finding in findings) >= 17, kind
        assert sum(not finding.error and not finding.warnings for finding in findings) <= 1, kind
