"""Finds shortcuts: features such as size, brightness, border or format that predict the label without the lungs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pneumoscope.auditing import duplicates
from pneumoscope.data.layouts import Sample
from pneumoscope.imaging.radiograph import Radiograph
from pneumoscope.metrics import metrics
from pneumoscope.metrics.metrics import UNDEFINED, Estimate

STRONG = 0.7
"""An AUC above this is considered acceptable discrimination for a diagnostic test (Hosmer & Lemeshow 2000, Applied
Logistic Regression, section 5.2.4); nothing but the lungs should reach it."""

WEAK = 0.6

FEW = 10
"""With fewer images in a class, DeLong's interval is too narrow to be meaningful."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

_UNSEEN = "Pneumoscope squashes every image to a square and cannot see it; a method that preserves it would learn it."
_EXPOSURE = (
    "Disease changes it a little, devices and exposures much more: compare images of one device, and train with strong "
    "changes of brightness and contrast (the default recipe does)."
)
_BORDER = "Crop borders off all images, or train with augmentation that adds black borders (the default recipe does)."
_FILE = (
    "The classes were exported differently, or the images of one are sharper: export all images again in the same way, "
    "from the original DICOM files, and train with blur and noise (the default recipe does)."
)

_BYTES = (
    "Networks do not see the size of a file. But for images of the same size and format it measures detail, noise and "
    "compression, which a network does see, and disease a little: export all images in the same way, and train with "
    "blur and noise (the default recipe does)."
)
_TURNED = "The images of one class may be inverted, framed or cropped differently: look at some and correct them."

FEATURES = {
    "size": ("image size (width × height)", "are larger", _UNSEEN),
    "aspect": ("aspect ratio (width / height)", "are wider", _UNSEEN),
    "brightness": ("mean brightness", "are brighter", _EXPOSURE),
    "contrast": ("contrast (standard deviation of brightness)", "have more contrast", _EXPOSURE),
    "corners": ("brightness of the corners", "have brighter corners", _TURNED),
    "black border": ("black border (share of the image)", "have more black border", _BORDER),
    "white border": ("white border (share of the image)", "have more white border", _BORDER),
    "file size": ("file size (bytes)", "have larger files", _BYTES),
    "depth": ("depth (bits per sample)", "have more bits", _FILE),
}
"""Each feature's title, a phrase for images with high values, and what to do if it is a shortcut."""


@dataclass(frozen=True)
class Shortcut:
    """How well one feature alone predicts the class.

    Attributes:
        name: a key of `FEATURES`, or `format NAME`.
        title: what it measures.
        n: the number of images for which it is known.
        quantiles: the `QUANTILES` for each label; None for a class without images.
        auc: how often a pneumonia has a higher value than a normal image; NaN if it is constant or a class is missing.
        strength: `auc`, or 1 - `auc` if that is larger, because a feature may predict in either direction.
        grade: `strong shortcut`, `shortcut`, `none shown`, `too few images to tell`, `constant` or `one class only`.
        direction: in words, such as `pneumonias are larger`.
        advice: what to do about it.
    """

    name: str
    title: str
    n: int
    quantiles: tuple[tuple[float, ...] | None, tuple[float, ...] | None]
    auc: Estimate
    strength: Estimate
    grade: str
    direction: str
    advice: str

    @property
    def critical(self) -> bool:
        """Whether a network could learn it instead of the lungs, which is not the case for the size of the file."""
        return self.grade == "strong shortcut" and self.name != "file size"


def measure(
    sample: Sample, read: Radiograph, frames: tuple[duplicates.Border, duplicates.Border] | None = None
) -> dict[str, float]:
    """Measure every feature of an image.

    Args:
        sample: the sample; inside an archive it has no file size.
        read: its image.
        frames: the output of `duplicates.borders`, if the caller already has it.

    Returns:
        The features of `FEATURES` that it has, and `format NAME`, which is 1.

    Example:
        >>> from pathlib import Path
        >>> from pneumoscope.imaging import radiograph
        >>> image = np.zeros((2, 3), dtype=np.uint8)
        >>> measure(Sample(Path("set.npz#train/0"), 0, "p", pixels=image), radiograph.read(image))["aspect"]
        1.5
    """
    height, width = read.shape
    (black, inside), (white, _) = frames or duplicates.borders(read.pixels)
    features = {
        "size": float(height * width),
        "aspect": width / height,
        "brightness": float(read.pixels.mean(dtype=np.float64)),
        "contrast": float(read.pixels.std(dtype=np.float64)),
        "corners": _corners(read.pixels[inside]),
        "black border": black,
        "white border": white,
        "depth": float(read.bits),
        f"format {read.format}": 1.0,
    }
    if sample.pixels is None:
        features["file size"] = float(sample.path.stat().st_size)
    return features


def _corners(pixels: NDArray[np.float32]) -> float:
    """Average the brightness of the four corners (a twelfth of each side): black, or white on an inverted image."""
    height, width = (max(1, side // 12) for side in pixels.shape)
    corners = [pixels[rows, columns] for rows in _ends(height) for columns in _ends(width)]
    return float(np.mean([corner.mean(dtype=np.float64) for corner in corners]))


def _ends(length: int) -> tuple[slice, slice]:
    return slice(length), slice(-length, None)


def find(labels: NDArray[np.int64], measured: Sequence[Mapping[str, float]]) -> list[Shortcut]:
    """Assess each feature alone as a predictor of the label.

    Args:
        labels: (N,), 0 or 1.
        measured: the output of `measure` for each image.

    Returns:
        The features that at least one image has, the strongest first.

    Example:
        >>> found = find(np.arange(40) // 20, [{"size": 100.0 + i} for i in range(40)])
        >>> found[0].grade, found[0].direction
        ('strong shortcut', 'pneumonias are larger')
    """
    formats = sorted({name for features in measured for name in features if name not in FEATURES})
    if len(formats) == 2:  # the second is redundant
        formats.pop()
    found = []
    for name in [*FEATURES, *formats]:
        absent = np.nan if name in FEATURES else 0.0
        values = np.array([features.get(name, absent) for features in measured], dtype=np.float64)
        known = np.isfinite(values)
        if known.any():
            found.append(assess(name, labels[known], values[known]))
    return sorted(found, key=lambda shortcut: -np.nan_to_num(shortcut.strength.low, nan=-1.0))


def assess(name: str, labels: NDArray[np.int64], values: NDArray[np.float64]) -> Shortcut:
    """Assess one feature; `find` assesses all.

    Example:
        >>> assess("size", np.array([0, 1]), np.array([5.0, 5.0])).grade
        'constant'
    """
    kind = name.removeprefix("format ")
    title, more, advice = FEATURES.get(name, (f"file format {kind}", f"are more often {kind} files", _FILE))
    classes = [values[labels == label] for label in (0, 1)]
    normal, pneumonia = (tuple(np.quantile(x, QUANTILES).tolist()) if len(x) else None for x in classes)
    constant = values.min() == values.max()
    auc = UNDEFINED if constant else metrics.delong(labels, values)
    turned = auc.value < 0.5
    strength = Estimate(1 - auc.value, 1 - auc.high, 1 - auc.low) if turned else auc
    if constant:
        grade, direction = "constant", f"the same in all images: {values[0]:g}"
    elif np.isnan(auc.value):
        grade, direction = "one class only", "undefined"
    else:
        grade = _grade(strength, min(map(len, classes)))
        direction = f"{'normal images' if turned else 'pneumonias'} {more}" if auc.value != 0.5 else "no difference"
    return Shortcut(name, title, len(values), (normal, pneumonia), auc, strength, grade, direction, advice)


def _grade(strength: Estimate, smaller: int) -> str:
    if smaller >= FEW and strength.low > STRONG:
        return "strong shortcut"
    if smaller >= FEW and strength.low > WEAK:
        return "shortcut"
    return "none shown" if smaller >= FEW and strength.high <= STRONG else "too few images to tell"
