"""Compares evidence maps with the boxes that radiologists drew around opacities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pneumoscope.data.samples import Box, Sample
from pneumoscope.evaluation import localisation
from pneumoscope.metrics import metrics
from pneumoscope.metrics.metrics import Estimate

OPACITIES = ("", "opacity", "lung opacity", "pneumonia", "infiltrate", "infiltration", "consolidation")
"""The names of boxes around signs of pneumonia, in lower case; a box without a name counts as one."""

FINE = 32
"""Sample points per side of a cell for computing the share of it that boxes cover."""


@dataclass(frozen=True)
class Pointing:
    """How well the evidence for `PNEUMONIA` agrees with boxes around opacities.

    Attributes:
        n: the number of images with such boxes.
        hits: the share of images whose hottest cell has its centre in a box: the pointing game (Zhang et al. 2018,
            "Top-Down Neural Attention by Excitation Backprop").
        chance: the mean share of cells whose centre is in a box: the expected hits of a random cell.
        inside: the mean share of the positive evidence that lies in the boxes.
        area: the mean share of the image that lies in the boxes: the expected value of `inside` for even evidence.
        thorax: the mean share of the positive evidence that lies in the thorax, as marked by `localisation.inside`.
    """

    n: int
    hits: Estimate
    chance: float
    inside: Estimate
    area: float
    thorax: Estimate

    def as_dict(self) -> dict[str, Any]:
        """Return the entry for `metrics.json`."""
        return {name: value.as_dict() if isinstance(value, Estimate) else value for name, value in vars(self).items()}


def opacities(sample: Sample) -> tuple[Box, ...]:
    """Return the boxes around signs of pneumonia on an image labelled `PNEUMONIA`; none for any other image."""
    return tuple(box for box in sample.boxes if sample.label and box.name.casefold() in OPACITIES)


def covered(boxes: Sequence[Box], height: int, width: int) -> NDArray[np.bool_]:
    """Mark the cells of a grid (height, width) whose centre lies in a box.

    Example:
        >>> covered([Box("opacity", 0.5, 0.0, 1.0, 0.5)], 2, 2).astype(int).tolist()
        [[0, 1], [0, 0]]
    """
    y = ((np.arange(height) + 0.5) / height)[:, None]
    x = (np.arange(width) + 0.5) / width
    inside = [(box.left <= x) & (x < box.right) & (box.top <= y) & (y < box.bottom) for box in boxes]
    return np.asarray(np.any(inside, axis=0)) if inside else np.zeros((height, width), dtype=bool)


def pointing(samples: Sequence[Sample], evidence: Sequence[NDArray[np.floating[Any]]]) -> Pointing | None:
    """Compare evidence with the boxes of the images that have any.

    Args:
        samples: N images.
        evidence: N maps (h, w), each covering the whole image; their sizes may differ.

    Returns:
        The measures; None if no image has a box around an opacity.

    Example:
        >>> from pathlib import Path
        >>> sample = Sample(Path("a.png"), 1, "a", boxes=(Box("opacity", 0.0, 0.0, 0.5, 0.5),))
        >>> pointing([sample], [np.eye(2)]).inside.value
        0.5
    """
    patients: list[str] = []
    rows: list[tuple[float, float, float, float, float]] = []
    for sample, cells in zip(samples, evidence, strict=True):
        if not (boxes := opacities(sample)):
            continue
        height, width = cells.shape
        centres = covered(boxes, height, width)
        area = covered(boxes, FINE * height, FINE * width).reshape(height, FINE, width, FINE).mean(axis=(1, 3))
        positive = np.maximum(np.asarray(cells, dtype=np.float64), 0.0)
        total = positive.sum()
        hit = float(centres.flat[int(np.argmax(cells))])
        inside = float((positive * area).sum() / total) if total else 0.0
        thorax = 1.0 - float(localisation.outside_share(positive[None])[0]) if total else 0.0
        rows.append((hit, float(centres.mean()), inside, float(area.mean()), thorax))
        patients.append(sample.patient)
    if not rows:
        return None
    groups = np.unique(patients, return_inverse=True)[1]
    hits, chance, inside_share, area_share, thorax_share = np.array(rows).T

    def averaged(shares: NDArray[np.float64]) -> Estimate:
        ones = np.ones(len(shares), dtype=np.int64)
        return metrics.bootstrap(lambda _, share: float(share.mean()), ones, shares, groups)

    return Pointing(
        len(rows),
        metrics.wilson(int(hits.sum()), len(hits)),
        float(chance.mean()),
        averaged(inside_share),
        float(area_share.mean()),
        averaged(thorax_share),
    )
