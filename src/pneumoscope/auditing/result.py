"""The result of an audit: the images, the findings about them, and the faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pneumoscope.auditing import duplicates
from pneumoscope.auditing.shortcuts import Shortcut
from pneumoscope.data.layouts import LABELS, Sample
from pneumoscope.errors import PneumoscopeError
from pneumoscope.metrics import metrics
from pneumoscope.metrics.metrics import Estimate

SEVERITIES = ("critical", "warning", "note")
"""`critical`: figures measured on this data set would be misleading. `warning`: they may be. `note`: good to know."""


@dataclass(frozen=True)
class Fault:
    """A fault of the data set.

    Attributes:
        severity: one of `SEVERITIES`.
        kind: a stable identifier for programs, such as `identical_across_splits`.
        count: the number of images, groups, patients or splits concerned; 1 for a shortcut.
        text: what was found.
        advice: what to do about it.
    """

    severity: str
    kind: str
    count: int
    text: str
    advice: str


@dataclass(frozen=True)
class Part:
    """The images of one class in one split.

    Attributes:
        split: `train`, `val`, `test`, or None if the layout names none.
        label: 0 for `NORMAL`, 1 for `PNEUMONIA`.
        images: the number of images.
        unreadable: the number of images that cannot be read.
        patients: the number of patients; an image of an unknown patient counts as a patient of its own.
        most: the largest number of images of one patient.
    """

    split: str | None
    label: int
    images: int
    unreadable: int
    patients: int
    most: int


@dataclass(frozen=True)
class Group:
    """Images with the same content.

    Attributes:
        samples: two or more, in the order of the data set.
        links: the pairs that were found to be copies, by their positions in `samples`; empty for identical images.
    """

    samples: tuple[Sample, ...]
    links: tuple[duplicates.Pair, ...] = ()

    @property
    def pairs(self) -> int:
        """The number of pairs that were found; for identical images, of all possible pairs."""
        return len(self.links) or len(self.samples) * (len(self.samples) - 1) // 2

    @property
    def alike(self) -> float:
        """The smallest correlation of its pairs; 1 for identical images."""
        return min((link.similarity for link in self.links), default=1.0)

    @property
    def across(self) -> tuple[str, ...]:
        """What the images differ in: `labels`, `splits`, `patients`."""
        seen: dict[str, set[str | int | None]] = {
            "labels": {sample.label for sample in self.samples},
            "splits": {sample.split for sample in self.samples},
            "patients": {sample.patient for sample in self.samples},
        }
        return tuple(name for name, values in seen.items() if len(values) > 1)


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Attributes:
        samples: all images.
        failures: the images that cannot be read, with the reason.
        rejected: the images that can be read but that `predict` rejects as not being frontal chest radiographs.
        parts: the counts by split and class.
        identical: groups of images with identical pixels.
        near: groups of images that are copies of one another, but not identical.
        compared: the number of images that were large enough to be compared for such copies.
        patients_across_splits: the images of each patient with images in several splits.
        patients_across_labels: the images of each patient with images of both labels.
        shortcuts: features that may predict the class without the lungs, the strongest first.
        faults: the faults, the most serious first.
    """

    samples: list[Sample]
    failures: list[tuple[Sample, PneumoscopeError]]
    rejected: list[tuple[Sample, PneumoscopeError]]
    parts: list[Part]
    identical: list[Group]
    near: list[Group]
    compared: int
    patients_across_splits: list[list[Sample]]
    patients_across_labels: list[list[Sample]]
    shortcuts: list[Shortcut]
    faults: list[Fault] = field(default_factory=list)

    @property
    def splits(self) -> list[str | None]:
        """The splits that occur; None for images without a split."""
        return list(dict.fromkeys(part.split for part in self.parts))

    def part(self, split: str | None, label: int) -> Part:
        """Return the counts of one class in one split; zeros if there are no images."""
        found = (part for part in self.parts if (part.split, part.label) == (split, label))
        return next(found, Part(split, label, 0, 0, 0, 0))

    def share(self, split: str | None) -> Estimate:
        """Estimate the share of pneumonias in one split."""
        normal, pneumonia = (self.part(split, label).images for label in (0, 1))
        return metrics.wilson(pneumonia, normal + pneumonia)

    def as_dict(self) -> dict[str, Any]:
        """Return the content of `audit.json`; undefined figures are null, and only their images identify patients."""
        return {
            "images": len(self.samples),
            "unreadable": [_failed(*failure) for failure in self.failures],
            "rejected": [_failed(*rejection) for rejection in self.rejected],
            "faults": [vars(fault) for fault in self.faults],
            "parts": [
                vars(part)
                | {
                    "label": LABELS[part.label],
                    "unreadable_share": _plain(metrics.wilson(part.unreadable, part.images)),
                }
                for part in self.parts
            ],
            "pneumonia_share": {split or "all": _plain(self.share(split)) for split in self.splits},
            "identical": _groups_as_dict(self.identical),
            "near_duplicates": _groups_as_dict(self.near) | {"compared": self.compared, "limit": duplicates.LIMIT},
            "patients_across_splits": [list(map(_place, images)) for images in self.patients_across_splits],
            "patients_across_labels": [list(map(_place, images)) for images in self.patients_across_labels],
            "shortcuts": [
                vars(shortcut)
                | {
                    "quantiles": dict(zip(LABELS, shortcut.quantiles, strict=True)),
                    "auc": _plain(shortcut.auc),
                    "strength": _plain(shortcut.strength),
                }
                for shortcut in self.shortcuts
            ],
        }


def _groups_as_dict(groups: Sequence[Group]) -> dict[str, Any]:
    return {
        "pairs": sum(group.pairs for group in groups),
        "groups": [
            {
                "images": list(map(_place, group.samples)),
                "across": list(group.across),
                "links": [vars(link) for link in group.links],
            }
            for group in groups
        ],
    }


def _place(sample: Sample) -> dict[str, Any]:
    return {"path": str(sample.path), "label": LABELS[sample.label], "split": sample.split}


def _failed(sample: Sample, error: PneumoscopeError) -> dict[str, Any]:
    return _place(sample) | {"error": {"kind": error.kind, "message": str(error)}}


def _plain(estimate: Estimate) -> dict[str, float | None]:
    return {name: None if np.isnan(value) else round(float(value), 6) for name, value in vars(estimate).items()}
