"""One labelled radiograph, and what is known of it."""

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

# The names of Kermany's second and third edition; the number after the patient's counts that patient's images.
_PATIENT = re.compile(
    r"(?P<pneumonia>person\d+_(?P<word>bacteria|virus))_\d+"
    r"|(?P<normal>(?:NORMAL\d*-)?IM-\d+)-\d+"
    r"|(?P<third>(?P<kind>BACTERIA|VIRUS|NORMAL)-\d+)-\d+"
)


@dataclass(frozen=True)
class Box:
    """Where a radiologist saw something.

    Attributes:
        name: what was seen, as the data set says it: `opacity`, `effusion`.
        left: of the image's width, in [0, 1], as are the others; top and bottom of its height.
        top: the upper edge.
        right: the right edge, as the image is shown.
        bottom: the lower edge.
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
        path: where it is; for an image inside an archive, the archive and the place in it.
        label: 0 for `NORMAL`, 1 for `PNEUMONIA`.
        patient: whose it is; images of one patient are never split.
        split: `train`, `val` or `test` where the layout says so.
        subtype: `bacteria` or `virus` where the name says so.
        pixels: the image itself, where it is inside an archive.
        site: the hospital or source: what the data set says, else the data set's own name.
        view: `AP`, `PA` or `lateral`; empty where the data set does not say.
        boxes: where radiologists saw something.
        other: whether the data set names it something else than `NORMAL` and `PNEUMONIA`; its `label` is then 0.
        age: of the patient, in years, where the data set says so.
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
        """What `radiograph.read` takes."""
        return self.path if self.pixels is None else self.pixels


def labels(samples: Iterable[Sample]) -> NDArray[np.int64]:
    """Give the labels of samples: (N,), 0 for `NORMAL`, 1 for `PNEUMONIA`."""
    return np.array([sample.label for sample in samples], dtype=np.int64)


def patient_of(name: str) -> tuple[str | None, str | None]:
    """Read the patient and the subtype out of a file name of Kermany's collection; None where it says nothing.

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
