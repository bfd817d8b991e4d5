"""The views: what is no chest film is refused, and one that is turned, inverted or mirrored is told of."""

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
from pneumoscope.inference.detector import WARNINGS
from pneumoscope.ood import hog, negatives, orientation, synthetic
from pneumoscope.ood.orientation import View, Views
from tests.conftest import SIZE, drawn, drawn_film

NOTHING = Views(np.zeros((hog.LENGTH + 1, 4), np.float32), np.zeros((5, len(orientation.WAYS) + 1), np.float32))
NOISE = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE), dtype=np.uint8)


def pictures(kind: str, n: int, size: int = SIZE) -> list[NDArray[np.float32]]:
    films = np.stack([drawn_film(i % 2, 90_000 + i) for i in range(8)]) / 255
    return [negatives.draw(kind, np.random.default_rng([i, 7]), size, films) for i in range(n)]


@pytest.fixture(scope="module")
def detector(tiny_model: Path) -> Detector:
    return Detector(tiny_model)


@pytest.mark.parametrize("kind", negatives.KINDS)
def test_a_stranger_is_a_picture_and_the_same_draw_the_same(kind: str) -> None:
    for one, again in zip(pictures(kind, 5), pictures(kind, 5), strict=True):
        assert one.shape == (SIZE, SIZE)
        assert one.dtype == np.float32
        assert 0.0 <= one.min() <= one.max() <= 1.0
        np.testing.assert_array_equal(one, again)


@pytest.mark.parametrize("kind", synthetic.KINDS)
def test_strangers_that_are_not_made_of_films_need_none(kind: str) -> None:
    negatives.draw(kind, np.random.default_rng(0), SIZE, np.zeros((0, SIZE, SIZE)))


@given(st.integers(0, 50), st.floats(0.2, 1.0), st.floats(0.0, 0.5))
@settings(deadline=None, max_examples=30)
def test_an_outline_does_not_depend_on_contrast_and_brightness(seed: int, contrast: float, brightness: float) -> None:
    film = drawn_film(seed % 2, seed, 64) / 255
    change = np.abs(hog.describe(contrast * film + brightness) - hog.describe(film))
    assert change.max() < 0.15
    assert np.isfinite(hog.describe(np.full((5, 9), contrast))).all()


def test_films_are_judged_and_pictures_that_are_none_are_refused(detector: Detector) -> None:
    films = [drawn_film(i % 2, 60_000 + i) for i in range(100)]
    assert sum(finding.error is not None for finding in detector.examine(films)) <= 1
    others = [picture for kind in negatives.KINDS for picture in pictures(kind, 10)]
    findings = list(detector.examine(others))
    refused = [finding for finding in findings if isinstance(finding.error, NotAChestRadiographError)]
    assert len(refused) >= 0.5 * len(others)  # few drawn films set wide limits
    assert all(f.finding is None and f.probability is None and f.uncertain is None for f in refused)


def test_a_refused_file_keeps_its_path_and_the_others_are_answered(
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


def test_films_on_their_side_and_inverted_ones_are_told_of(detector: Detector) -> None:
    films = [drawn_film(i % 2, 61_000 + i) for i in range(60)]

    def told(changed: list[NDArray[np.uint8]], warning: str) -> int:
        return sum(warning in finding.warnings or finding.error is not None for finding in detector.examine(changed))

    for warning in ("rotated", "inverted", "mirrored"):
        assert told(films, warning) <= 2
    assert told([np.rot90(film) for film in films], "rotated") >= 50
    assert told([255 - film for film in films], "inverted") >= 50


def test_every_warning_of_a_view_is_explained() -> None:
    assert {warning for warning, _ in orientation.WAYS.values() if warning} | {"unlike_training_films"} <= set(WARNINGS)


def test_a_refused_film_of_a_data_set_is_counted_and_not_judged(detector: Detector) -> None:
    films = drawn(40)
    films[3] = replace(films[3], pixels=NOISE)
    done = evaluate(films, detector)
    assert [type(finding.error) for finding in done.failures] == [NotAChestRadiographError]
    assert done.performance.n == 39
    assert done.as_dict()["errors"] == 1


def test_judging_squashed_films_refuses_nothing(detector: Detector) -> None:
    probabilities, _ = detector.judge(pictures("noise", 3))
    assert len(probabilities) == 3


def test_no_more_than_the_stated_share_of_held_out_films_is_refused_or_remarked_on() -> None:
    rng = np.random.default_rng(0)
    hidden, last = (rng.normal(size=weights.shape).astype(np.float32) for weights in (NOTHING.hidden, NOTHING.last))
    random = Views(hidden, last)
    held_out = rng.normal(size=(4000, hog.LENGTH)).astype(np.float32)
    changed = rng.normal(size=held_out.shape).astype(np.float32)
    fitted = orientation._limited(random, held_out, changed)
    logits = fitted.logits(held_out)
    odds = orientation.stranger_odds(logits)
    assert (odds > fitted.refusal).mean() <= orientation.REFUSED
    assert (orientation.stranger_odds(fitted.logits(changed)) > fitted.refusal).mean() <= orientation.REFUSED_CHANGED
    told = [
        way if excess > dict(fitted.remarks).get(way or "", np.inf) else None
        for way, excess in map(orientation.way_of, logits)
    ]
    for warning, limit in fitted.remarks:
        assert limit >= 0.0
        assert told.count(warning) <= 2 * orientation.REMARKED * len(held_out)


def test_no_picture_is_refused_by_narrow_odds() -> None:
    fitted = orientation._limited(NOTHING, *np.zeros((2, 200, hog.LENGTH), np.float32))
    assert fitted.refusal == orientation.SURE
    assert fitted.look(np.zeros((8, 8))) == View()


def test_one_network_says_the_mean_of_what_several_say() -> None:
    rng = np.random.default_rng(0)
    several = [
        Views(rng.normal(size=(hog.LENGTH + 1, 5)), rng.normal(size=(6, len(orientation.WAYS) + 1))) for _ in "abc"
    ]
    films = rng.normal(size=(20, hog.LENGTH))
    expected = np.mean([network.logits(films) for network in several], axis=0)
    assert orientation._mean(several).logits(films) == pytest.approx(expected)


def test_every_seed_of_a_recipe_can_be_learnt_with() -> None:
    inputs = np.random.default_rng(0).normal(size=(140, hog.LENGTH)).astype(np.float32)
    learnt = orientation._learnt(inputs, np.arange(140) % (len(orientation.WAYS) + 1), 2**32 - 1)
    assert learnt.hidden.shape == (hog.LENGTH + 1, orientation.NETWORKS * orientation.UNITS)


def test_films_as_they_are_alone_say_what_is_unlike_them() -> None:
    rng = np.random.default_rng(0)
    held_out = rng.normal(size=(1000, hog.LENGTH)).astype(np.float32)
    random = Views(rng.normal(size=NOTHING.hidden.shape), rng.normal(size=NOTHING.last.shape))
    one, other = (orientation._limited(random, held_out, scale * held_out[:100]) for scale in (1.0, 9.0))
    assert one.doubt == other.doubt


def test_views_come_back_from_the_model_files_card_as_they_were(detector: Detector) -> None:
    learnt = Views.from_dict(detector.card.views)
    back = Views.from_dict(json.loads(json.dumps(learnt.as_dict())))
    np.testing.assert_array_equal(back.hidden, learnt.hidden)
    np.testing.assert_array_equal(back.last, learnt.last)
    assert (back.refusal, back.doubt, back.remarks) == (learnt.refusal, learnt.doubt, learnt.remarks)


@pytest.mark.parametrize("change", [{"hidden": "AAAA"}, {"units": "many"}, {"remarks": 3}, {"last": "!"}])
def test_damaged_views_are_an_error_of_the_model_file(change: dict[str, object]) -> None:
    with pytest.raises(ModelFileError, match="Expected views"):
        Views.from_dict(NOTHING.as_dict() | change)
    with pytest.raises(ModelFileError, match="Expected views"):
        Views.from_dict({"units": 4})


@pytest.mark.films
def test_real_films_are_judged_and_told_of_when_they_hang_wrong(data: Path) -> None:
    films = [radiograph.read(path).pixels for path in sorted((data / "kermany_original" / "val").rglob("*.jpeg"))]
    detector = Detector()

    def judged(changed: list[NDArray[np.float32]]) -> list[Finding]:
        return list(detector.examine(changed))

    for changed in (films, *([corruptions.apply(name, film) for film in films[:6]] for name in corruptions.SHIFTS)):
        assert all(finding.error is None for finding in judged(changed))
    assert sum(bool({"rotated", "inverted", "mirrored"} & set(finding.warnings)) for finding in judged(films)) <= 1
    for warning, make in list(orientation.WAYS.values())[1:]:
        told = sum(str(warning) in finding.warnings for finding in judged([make(film) for film in films]))
        assert told >= (11 if warning == "mirrored" else 15)


@pytest.mark.films
def test_most_films_cut_in_half_or_blurred_beyond_recognition_get_no_verdict_without_a_warning(data: Path) -> None:
    films = [radiograph.read(path).pixels for path in sorted((data / "kermany_original" / "val").rglob("*.jpeg"))]
    detector = Detector()

    def doubted(changed: list[NDArray[np.float32]]) -> int:
        return sum(finding.error is not None or bool(finding.warnings) for finding in detector.examine(changed))

    assert doubted([film[: len(film) // 2] for film in films]) >= 14
    assert doubted([film[len(film) // 2 :] for film in films]) >= 11
    assert doubted([film[:, : film.shape[1] // 2] for film in films]) == 16
    assert doubted([film[:, film.shape[1] // 2 :] for film in films]) >= 15
    assert doubted([gaussian_filter(film, 0.05 * len(film)) for film in films]) == 16


@pytest.mark.films
def test_strangers_are_refused_and_those_that_are_not_are_warned_of(data: Path) -> None:
    films = np.stack(
        [
            radiograph.resize(radiograph.read(path).pixels, 192)
            for path in sorted((data / "kermany_original" / "val").rglob("*.jpeg"))
        ]
    )
    detector = Detector()
    for kind in negatives.KINDS:
        others = [negatives.draw(kind, np.random.default_rng([i, 3]), 192, films) for i in range(20)]
        findings = list(detector.examine(others))
        assert sum(finding.error is not None for finding in findings) >= 17, kind
        assert all(finding.error or finding.warnings for finding in findings), kind
