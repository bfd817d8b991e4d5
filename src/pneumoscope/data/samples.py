"""A labelled radiograph and everything known about it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LABELS = ("NORMAL", "PNEUMONIA")
SPLITS = ("train", "val", "test")

LAYOUTS = """\
Expected one of:
  a folder of class folders   DATA/NORMAL/*.jpeg, DATA/PNEUMONIA/*.jpeg
  the Kaggle layout           DATA/train/NORMAL/*.jpeg, ..., DATA/val/..., DATA/test/...
  a CSV file                  with columns path,label and, if known, patient,site,view,age,boxes,split
  a MedMNIST archive          pneumoniamnist_224.npz"""

# File names of Kermany's second and third edition; the number after the patient's counts that patient's images.
_PATIENT = re.compile(
    r"(?P<pneumonia>person\d+_(?P<word>bacteria|virus))_\d+"
    r"|(?P<normal>(?:NORMAL\d*-)?IM-\d+)-\d+"
    r"|(?P<third>(?P<kind>BACTERIA|VIRUS|NORMAL)-\d+)-\d+"
)


@dataclass(frozen=True)
class Box:
    """A box that a radiologist drew around a finding.

    Attributes:
        name: the finding in the words of the data set: `opacity`, `effusion`.
        left: the left edge of the displayed image, in [0, 1] of its width.
        top: the upper edge, in [0, 1] of its height.
        right: the right edge, in [0, 1] of its width.
        bottom: the lower edge, in [0, 1] of its height.
    """

    name: str
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Sample:
    """One labelled radiograph.

    Attributes:
        path: the file; for an image inside an archive, the archive and the place in it.
        label: 0 for `NORMAL`, 1 for `PNEUMONIA`.
        patient: identifies the patient; images of one patient are never divided between splits.
        split: `train`, `val` or `test`, if the layout says so.
        subtype: `bacteria` or `virus`, if the name says so.
        pixels: the image itself, if it is inside an archive.
        site: the hospital or source: what the data set says, or else the data set's own name.
        view: `AP`, `PA` or `lateral`; empty if the data set does not say.
        boxes: what radiologists marked.
        other: whether the data set's label is neither `NORMAL` nor `PNEUMONIA`; `label` is then 0.
        age: the patient's age in years, if the data set says so.
    """

    path: Path
    label: int
    patient: str
    split: str | None = None
    subtype: str | None = None
    pixels: NDArray[Any] | None = None
    site: str = ""
    view: str = ""
    boxes: tuple[Box, ...] = ()
    other: bool = False
    age: float | None = None

    @property
    def source(self) -> Path | NDArray[Any]:
        """The path or pixels, whichever `radiograph.read` should be given."""
        return self.path if self.pixels is None else self.pixels


def labels(samples: Iterable[Sample]) -> NDArray[np.int64]:
    """Return the labels of samples: (N,), 0 for `NORMAL`, 1 for `PNEUMONIA`."""
    return np.array([sample.label for sample in samples], dtype=np.int64)


def patient_of(name: str) -> tuple[str | None, str | None]:
    """Read the patient and the subtype from a file name of Kermany's collection; None for what it does not say.

    Example:
        >>> patient_of("person12_bacteria_48.jpeg")
        ('person12_bacteria', 'bacteria')
        >>> patient_of("NORMAL2-IM-0587-0001.jpeg")
        ('NORMAL2-IM-0587', None)
        >>> patient_of("image.png")
        (None, None)
    """
    found = _PATIENT.match(name)
    if found is None:
        return None, None
    patient = found["pneumonia"] or found["normal"] or found["third"]
    word = (found["word"] or found["kind"] or "").lower()
    return patient, word if word in ("bacteria", "virus") else None
