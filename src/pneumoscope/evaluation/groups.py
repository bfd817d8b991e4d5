"""Figures for groups of images: sites, views, age groups, and patients with other findings than pneumonia."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pneumoscope.data.samples import Sample
from pneumoscope.imaging import ages
from pneumoscope.metrics import metrics
from pneumoscope.metrics.metrics import UNDEFINED, Estimate

FIGURES = ("auc", "sensitivity", "specificity", "balanced_accuracy", "ece")
"""The figures of `metrics.performance` that are computed for each group."""


@dataclass(frozen=True)
class Group:
    """A model's figures on one group of images; each is undefined if the images that it needs are missing.

    Attributes:
        n: the number of images of the two classes, without those of other findings.
        positives: the number of images that show pneumonia.
        auc: the area under the ROC curve.
        sensitivity: the share of the pneumonias that is called positive.
        specificity: the share of the normals that is called negative.
        balanced_accuracy: the mean of sensitivity and specificity.
        ece: the expected calibration error.
        others: the number of images of other findings: patients who are ill, but not with pneumonia.
        others_called: the share of those that is called pneumonia.
    """

    n: int
    positives: int
    auc: Estimate
    sensitivity: Estimate
    specificity: Estimate
    balanced_accuracy: Estimate
    ece: Estimate
    others: int
    others_called: Estimate

    def as_dict(self) -> dict[str, Any]:
        """Return the entry for `metrics.json`."""
        return {name: value.as_dict() if isinstance(value, Estimate) else value for name, value in vars(self).items()}


def _site(sample: Sample) -> str:
    return sample.site


def _view(sample: Sample) -> str:
    return f"{sample.site} {sample.view}".strip() if sample.view else ""


def _age(sample: Sample) -> str:
    return "" if sample.age is None else ages.group(sample.age).removesuffix("_patient")


PARTS: dict[str, Callable[[Sample], str]] = {"site": _site, "view": _view, "age_group": _age}
"""The groupings, and for each the function that names a sample's group; an empty name means that it is unknown."""


def group(samples: Sequence[Sample], probabilities: NDArray[np.float64], threshold: float) -> Group:
    """Measure a group of images, some of which may be of neither class.

    Args:
        samples: N images.
        probabilities: (N,), the probabilities of `PNEUMONIA`.
        threshold: the probability from which on an image is called pneumonia.

    Example:
        >>> from pathlib import Path
        >>> samples = [Sample(Path(f"{i}.png"), 0, f"patient{i}", other=True) for i in range(100)]
        >>> measured = group(samples, np.linspace(0.0, 1.0, 100), 0.7)
        >>> print(measured.others_called)
        0.300 (0.219–0.396)
    """
    other = np.array([sample.other for sample in samples], dtype=bool)
    labels = np.array([sample.label for sample in samples], dtype=np.int64)
    called = probabilities >= threshold
    patients = np.array([sample.patient for sample in samples])
    of = dict.fromkeys(FIGURES, UNDEFINED)
    if not other.all():
        of |= metrics.performance(
            labels[~other], probabilities[~other], threshold, patients[~other], only=FIGURES
        ).figures
    return Group(
        n=int((~other).sum()),
        positives=int(labels[~other].sum()),
        auc=of["auc"],
        sensitivity=of["sensitivity"],
        specificity=of["specificity"],
        balanced_accuracy=of["balanced_accuracy"],
        ece=of["ece"],
        others=int(other.sum()),
        others_called=metrics.wilson(int(called[other].sum()), int(other.sum())),
    )


def parts(
    samples: Sequence[Sample], probabilities: NDArray[np.float64], threshold: float
) -> dict[str, dict[str, Group]]:
    """Measure each site, each view within a site, and each age group, as far as the data set names them.

    Args:
        samples: as with `group`.
        probabilities: as with `group`.
        threshold: as with `group`.

    Returns:
        For each of `PARTS`, the groups by name, sorted; empty if no image has a known group.
    """
    found = {}
    for by, name_of in PARTS.items():
        names = np.array([name_of(sample) for sample in samples], dtype=object)
        places = {name: np.flatnonzero(names == name) for name in sorted(set(names)) if name}
        found[by] = {
            name: group([samples[int(i)] for i in chosen], probabilities[chosen], threshold)
            for name, chosen in places.items()
        }
    return found
