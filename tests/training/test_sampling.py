"""Batches: neither site nor view tells the class, however the images are spread over them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pneumoscope.data.layouts import Sample
from pneumoscope.training import sampling


def samples(site: str, label: int, n: int, view: str = "", other: bool = False) -> list[Sample]:
    return [Sample(Path(f"{site}{label}{view}{i}"), label, str(i), site=site, view=view, other=other) for i in range(n)]


def shown(found: list[Sample], n: int = 4000, other_share: float = 0.5) -> list[Sample]:
    return [found[i] for i in sampling.draw(sampling.strata(found, other_share), n, np.random.default_rng(0))]


def share(found: list[Sample], **wanted: object) -> float:
    return float(np.mean([all(getattr(sample, k) == v for k, v in wanted.items()) for sample in found]))


def test_a_planted_site_shortcut_is_gone_from_the_batches() -> None:
    drawn = shown(
        samples("A", 0, 10) + samples("A", 1, 190) + samples("B", 0, 80) + samples("B", 1, 20),
    )
    for site in ("A", "B"):
        assert share([s for s in drawn if s.site == site], label=1) == pytest.approx(0.5, abs=0.01)


def test_a_planted_view_shortcut_is_gone_from_the_batches() -> None:
    drawn = shown(
        samples("A", 0, 90, "PA") + samples("A", 0, 10, "AP") + samples("A", 1, 20, "PA") + samples("A", 1, 80, "AP")
    )
    for label in (0, 1):
        assert share([s for s in drawn if s.label == label], view="AP") == pytest.approx(0.5, abs=0.01)


def test_a_view_of_one_class_only_is_left_out_and_told_of() -> None:
    found = samples("A", 0, 50, "PA") + samples("A", 1, 30, "PA") + samples("A", 1, 20, "AP")
    assert {sample.view for sample in shown(found)} == {"PA"}
    assert sampling.warnings(found) == [
        "20 training images of site 'A' are left out: it has their view for one class only, so the "
        "view would predict the class."
    ]


def test_a_site_of_one_class_is_told_of() -> None:
    found = samples("A", 0, 50) + samples("A", 1, 50) + samples("B", 1, 50)
    (warning,) = sampling.warnings(found)
    assert "Site 'B' has images of PNEUMONIA only" in warning


def test_a_small_site_is_heard_more_than_its_number_says_and_less_than_evenly() -> None:
    drawn = shown(samples("A", 0, 200) + samples("A", 1, 200) + samples("B", 0, 50) + samples("B", 1, 50))
    assert share(drawn, site="B") == pytest.approx(1 / 3, abs=0.01)  # square roots: 20 to 10


@pytest.mark.parametrize(("asked", "expected"), [(0.0, 0.0), (0.25, 0.25), (1.0, 1.0)])
def test_other_findings_have_the_share_of_the_negatives_that_is_asked_for(asked: float, expected: float) -> None:
    found = samples("A", 0, 40) + samples("A", 0, 40, other=True) + samples("A", 1, 40)
    negatives = [sample for sample in shown(found, other_share=asked) if sample.label == 0]
    assert share(negatives, other=True) == pytest.approx(expected, abs=0.01)
    assert len(negatives) == pytest.approx(2000, abs=20)


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 40), min_size=2, max_size=6), seed=st.integers(0, 99))
def test_every_batch_holds_each_stratum_in_its_share(sizes: list[int], seed: int) -> None:
    groups, start = [], 0
    for size in sizes:
        groups.append(sampling.Stratum("", np.arange(start, start + size), size / sum(sizes)))
        start += size
    order = sampling.draw(groups, 320, np.random.default_rng(seed))
    assert len(order) == 320
    for batch in order.reshape(-1, 32):
        for group in groups:
            assert abs(np.isin(batch, group.members).sum() - 32 * group.share) < 2 + len(groups)


def test_every_image_comes_before_any_comes_again() -> None:
    groups = sampling.strata(samples("A", 0, 30) + samples("A", 1, 30))
    assert len(set(sampling.draw(groups, 56, np.random.default_rng(0)).tolist())) == 56
