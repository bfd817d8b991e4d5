"""Figures of a part of the images: of a site, a view, an age group, and of sick people without pneumonia."""

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
"""Those of `metrics.performance` that a part has, too."""


@dataclass(frozen=True)
class Group:
    """What a model does on one part of the images.

    Attributes:
        n: images of both classes; those that the data set names something else than the two are not among them.
        positives: images that show pneumonia.
        auc: how well the two are told apart; undefined without both, as are the others without what they count.
        sensitivity: of the pneumonias, the share called so.
        specificity: of the normals, the share called so.
        balanced_accuracy: the mean of both.
        ece: the expected calibration error.
        others: images that show something else than the two: sick, without pneumonia.
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
        """Lay it out as a part of `metrics.json`."""
        return {name: value.as_dict() if isinstance(value, Estimate) else value for name, value in vars(self).items()}


def _site(sample: Sample) -> str:
    return sample.site


def _view(sample: Sample) -> str:
    return f"{sample.site} {sample.view}".strip() if sample.view else ""


def _age(sample: Sample) -> str:
    return "" if sample.age is None else ages.group(sample.age).removesuffix("_patient")


PARTS: dict[str, Callable[[Sample], str]] = {"site": _site, "view": _view, "age_group": _age}
"""By what images are parted, and the name of a sample's part; empty where it is not known."""


def group(samples: Sequence[Sample], probabilities: NDArray[np.float64], threshold: float) -> Group:
    """Measure on images of which some may be of neither class.

    Args:
        samples: N images.
        probabilities: (N,), of `PNEUMONIA`.
        threshold: the probability from which an image is called so.

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
    """Measure on each site, view within its site and age group, where the data set says which they are.

    Args:
        samples: as with `group`.
        probabilities: likewise.
        threshold: likewise.

    Returns:
        For each of `PARTS` the groups by name, sorted; none where nothing is known of any image.
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
