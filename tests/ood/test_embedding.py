"""The gate: images unlike those learnt from are told of, one by one and as a site."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pneumoscope import Detector
from pneumoscope.errors import ModelFileError
from pneumoscope.imaging import corruptions
from pneumoscope.ood import embedding
from pneumoscope.ood.embedding import Gate


def embeddings(n: int, seed: int, spread: tuple[float, ...] = (9.0, 5.0, 1.0, 1.0, 1.0, 1.0)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, len(spread))) * spread + 3.0


@pytest.fixture(scope="module")
def fitted() -> Gate:
    return embedding.fit(embeddings(2000, 0), embeddings(1000, 1))


def test_one_image_in_a_hundred_of_other_patients_lies_beyond_the_limit(fitted: Gate) -> None:
    beyond = fitted.distances(embeddings(10_000, 2)) > fitted.limit
    assert 0.002 < beyond.mean() < 0.03


@pytest.mark.parametrize("held_out", [100, 300])
def test_the_limit_keeps_its_promise_with_few_held_out_images(held_out: int) -> None:
    spread = tuple(np.linspace(9.0, 0.5, 100))
    training, new = embeddings(3000, 0, spread), embeddings(4000, 1, spread)
    beyond = []
    for seed in range(2, 12):
        fitted = embedding.fit(training, embeddings(held_out, seed, spread))
        beyond.append((fitted.distances(new) > fitted.limit).mean())
    assert np.mean(beyond) < 0.02


def test_an_image_far_off_the_usual_directions_lies_beyond_the_limit() -> None:
    usual = embeddings(500, 0, (5.0,) * 32 + (0.1,) * 68)
    fitted = embedding.fit(usual, embeddings(500, 1, (5.0,) * 32 + (0.1,) * 68))
    odd = usual[:1].copy()
    odd[0, -1] += 10.0
    assert fitted.distances(odd)[0] > fitted.limit > fitted.distances(usual[:1])[0]


def test_it_comes_back_from_the_model_files_card_as_it_was(fitted: Gate) -> None:
    back = Gate.from_dict(fitted.as_dict())
    images = embeddings(50, 3)
    np.testing.assert_array_equal(back.distances(images), fitted.distances(images))
    assert back.limit == fitted.limit


@pytest.mark.parametrize("values", [{}, {"mean": "AAAA"}, {"mean": "!", "components": "", "scale": 1, "limit": 1}])
def test_a_damaged_gate_is_an_error_of_the_model_file(values: dict[str, object]) -> None:
    with pytest.raises(ModelFileError, match="Expected a gate"):
        Gate.from_dict(values)


@given(st.integers(2, 400), st.floats(0.0, 1.0))
@settings(deadline=None)
def test_a_site_is_warned_of_only_where_the_excess_is_certain(n: int, share: float) -> None:
    unusual = round(share * n)
    warning = embedding.site_shift([True] * unusual + [False] * (n - unusual))
    if n < embedding.FEW or unusual / n <= embedding.SHIFTED:
        assert warning is None
    if n >= embedding.FEW and share > 0.5:
        assert warning is not None
        assert f"{unusual} of {n} images" in warning


@pytest.mark.images
def test_real_images_pass_and_images_on_their_side_do_not(data: Path) -> None:
    from pneumoscope.imaging import radiograph

    pixels = [radiograph.read(path).pixels for path in sorted((data / "kermany_original" / "val").rglob("*.jpeg"))]
    detector = Detector()

    def unlike(images: list[np.ndarray]) -> int:
        return sum("unlike_training_images" in finding.warnings for finding in detector.examine(images))

    assert unlike(pixels) <= 2  # originals have more grain than what the model was trained on
    turned = list(detector.examine([np.rot90(image) for image in pixels]))
    told = {"unlike_training_images", "rotated"}  # an averaged embedding hardly knows which way is up
    assert sum(finding.error is not None or bool(told & set(finding.warnings)) for finding in turned) >= 14
    assert unlike([corruptions.apply("contrast 0.6", image) for image in pixels]) <= 2
