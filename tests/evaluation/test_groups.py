"""Figures by site, view and age group, and of sick people without pneumonia."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from pneumoscope.data.samples import Sample
from pneumoscope.evaluation import groups
from pneumoscope.metrics import metrics

PATIENTS = count()


def sample(label: int, site: str = "a", view: str = "", age: float | None = None, other: bool = False) -> Sample:
    return Sample(Path("a.png"), label, f"p{next(PATIENTS)}", site=site, view=view, age=age, other=other)


def test_images_of_neither_class_have_a_figure_of_their_own_and_are_in_no_other() -> None:
    some = [sample(0), sample(1), *[sample(0, other=True)] * 4]
    measured = groups.group(some, np.array([0.1, 0.9, 0.8, 0.7, 0.6, 0.2]), 0.5)
    assert (measured.n, measured.positives, measured.others) == (2, 1, 4)
    assert measured.auc.value == measured.sensitivity.value == measured.specificity.value == 1.0
    assert measured.others_called.value == 0.75
    assert measured.others_called.low < 0.75 < measured.others_called.high


def test_a_part_has_the_figures_that_all_images_have_within_it() -> None:
    some = [sample(label) for label in (0, 1) for _ in range(30)]
    probabilities = np.linspace(0.05, 0.95, 60)
    measured = groups.group(some, probabilities, 0.4)
    labels = [image.label for image in some]
    whole = metrics.performance(labels, probabilities, 0.4, [image.patient for image in some])
    assert {name: getattr(measured, name) for name in groups.FIGURES} == {
        name: whole.figures[name] for name in groups.FIGURES
    }
    assert measured.ece.low < measured.ece.value < measured.ece.high


def test_what_cannot_be_measured_is_undefined_and_null_in_json() -> None:
    measured = groups.group([sample(1), sample(1)], np.array([0.1, 0.9]), 0.5)
    assert np.isnan(measured.auc.value)
    assert measured.as_dict()["specificity"] == {"value": None, "low": None, "high": None}
    assert measured.as_dict()["sensitivity"]["value"] == 0.5


def test_a_view_is_counted_within_its_site() -> None:
    some = [sample(0, "a", "AP"), sample(1, "a", "AP"), sample(0, "b", "AP"), sample(1, "a", "PA"), sample(0, "b")]
    found = groups.parts(some, np.linspace(0.1, 0.9, 5), 0.5)
    assert {name: part.n for name, part in found["site"].items()} == {"a": 3, "b": 2}
    assert {name: part.n for name, part in found["view"].items()} == {"a AP": 2, "a PA": 1, "b AP": 1}


@pytest.mark.parametrize(("years", "name"), [(0.5, "infant"), (3, "child"), (15, "adolescent"), (60, "adult")])
def test_an_age_group_is_counted_where_ages_are_known(years: float, name: str) -> None:
    found = groups.parts([sample(0, age=years), sample(1)], np.array([0.1, 0.9]), 0.5)
    assert list(found["age_group"]) == [name]


def test_parts_of_which_nothing_is_known_have_no_figures() -> None:
    bare = [replace(sample(i), site="") for i in (0, 1)]
    assert groups.parts(bare, np.array([0.1, 0.9]), 0.5) == {"site": {}, "view": {}, "age_group": {}}
