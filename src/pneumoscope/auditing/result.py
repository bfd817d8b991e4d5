"""What an audit gives: what is there, what was found, and what of it is wrong."""

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
"""`critical`: figures measured on this data set would mislead. `warning`: they may. `note`: good to know."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        severity: one of `SEVERITIES`.
        kind: a stable word for programs, such as `identical_across_splits`.
        count: how many images, groups, patients or splits it concerns; 1 for a shortcut.
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
        split: `train`, `val`, `test`, or None where the layout names none.
        label: 0 for `NORMAL`, 1 for `PNEUMONIA`.
        images: how many are listed.
        unreadable: how many of them cannot be read.
        patients: how many they show; an image whose patient is not known counts as one.
        most: the images of the patient with most of them.
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
        links: the pairs that were found to be copies, by their positions in `samples`; none where all are identical.
    """

    samples: tuple[Sample, ...]
    links: tuple[duplicates.Pair, ...] = ()

    @property
    def pairs(self) -> int:
        """How many pairs were found; of identical images, all that there are."""
        return len(self.links) or len(self.samples) * (len(self.samples) - 1) // 2

    @property
    def alike(self) -> float:
        """The smallest correlation by which it hangs together; 1 for identical images."""
        return min((link.similarity for link in self.links), default=1.0)

    @property
    def across(self) -> tuple[str, ...]:
        """In what the images differ: `labels`, `splits`, `patients`."""
        seen: dict[str, set[str | int | None]] = {
            "labels": {sample.label for sample in self.samples},
            "splits": {sample.split for sample in self.samples},
            "patients": {sample.patient for sample in self.samples},
        }
        return tuple(name for name, values in seen.items() if len(values) > 1)


@dataclass(frozen=True)
class Audit:
    """All that was found.

    Attributes:
        samples: all that are listed.
        failures: those that cannot be read, with the reason.
        rejected: those that can be read and that `predict` rejects: they show no frontal chest.
        parts: the images by split and class.
        identical: groups of images that are equal to the pixel.
        near: groups of images that are copies of one another without being equal.
        compared: how many images were large enough to look for such copies among them.
        patients_across_splits: the images of each patient who has some in several splits.
        patients_across_labels: the images of each patient who has some of both labels.
        shortcuts: what may tell the classes apart without a look at the lungs, the strongest first.
        faults: what is wrong, the worst first.
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
        """The splits that there are, None for images that the layout puts into none."""
        return list(dict.fromkeys(part.split for part in self.parts))

    def part(self, split: str | None, label: int) -> Part:
        """Give the images of one class in one split; an empty part where there are none."""
        found = (part for part in self.parts if (part.split, part.label) == (split, label))
        return next(found, Part(split, label, 0, 0, 0, 0))

    def share(self, split: str | None) -> Estimate:
        """Estimate the share of pneumonias in one split."""
        normal, pneumonia = (self.part(split, label).images for label in (0, 1))
        return metrics.wilson(pneumonia, normal + pneumonia)

    def as_dict(self) -> dict[str, Any]:
        """Lay it out as `audit.json`; an undefined figure is null. Patients are named by their images alone."""
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
