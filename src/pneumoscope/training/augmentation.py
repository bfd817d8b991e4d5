"""Augmentation of training images, so that the network learns lungs and not scanners.

Images are augmented one at a time as NumPy arrays, before the network sees a batch. Every backend thus trains on the
same images, and a single warp makes all geometric changes to an image and its boxes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pneumoscope.errors import TrainingError
from pneumoscope.evaluation import localisation
from pneumoscope.imaging import corruptions

Pixels = NDArray[np.float32]

TONES = 8
"""The number of linear segments of a random tone curve."""

MOST = {"rotation": 180.0, "gamma": 2.0, "sharpen": 4.0}
"""The largest strength of each change that may be above 1."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How strongly each change is applied; 0 disables it. The strength is drawn for each image.

    Attributes:
        share: share of images to which geometric changes (up to the flip) are applied, and likewise, drawn separately,
            changes of brightness (from contrast on).
        rotation: largest angle, in degrees.
        width_shift: largest shift, as a share of the width.
        height_shift: largest shift, as a share of the height.
        zoom: largest change of scale, as a share.
        aspect: largest change of the aspect ratio, as a share.
        shear: largest shear, as a share of the side.
        horizontal_flip: share of the geometrically changed images that are mirrored.
        contrast: largest change of contrast about the image's mean, as a share.
        brightness: largest change of brightness, in [0, 1] of the full range.
        gamma: largest exponent minus one: 0.5 draws from 1/1.5 to 1.5.
        tone: share of images that are mapped through a random increasing tone curve, as exporters and displays differ.
        shading: largest amplitude of a smooth gradient across the image, like that of an uneven plate or grid.
        blur: share of images that are blurred or sharpened.
        sharpen: the largest amplification of fine detail; 0 only blurs.
        noise: largest standard deviation of added noise, in [0, 1] of the full range.
        compression: share of images that are compressed as JPEG, with a quality between 20 and 95: data sets are often
            compressed twice, a hospital's images once or never, and the loss of fine grain resembles a hazy lung.
        surround: share of images whose surroundings, outside an ellipse around the thorax, are replaced by those of
            another image of the batch, whatever its class and site, so that they predict neither.
        hidden: share of images whose thorax is painted over; their target is even odds, so that nothing around the
            lungs decides.
    """

    share: float = 1.0
    rotation: float = 10.0
    width_shift: float = 0.07
    height_shift: float = 0.07
    zoom: float = 0.15
    aspect: float = 0.08
    shear: float = 0.0
    horizontal_flip: float = 0.5
    contrast: float = 0.4
    brightness: float = 0.15
    gamma: float = 0.6
    tone: float = 0.0
    shading: float = 0.15
    blur: float = 0.5
    sharpen: float = 1.5
    noise: float = 0.03
    compression: float = 0.0
    surround: float = 0.0
    hidden: float = 0.0

    def __post_init__(self) -> None:
        """Check the range of every strength."""
        for field in fields(self):
            strength, most = getattr(self, field.name), MOST.get(field.name, 1.0)
            if not isinstance(strength, (int, float)) or not 0.0 <= strength <= most:
                raise TrainingError(f"Expected augmentation.{field.name} in [0, {most:g}], got {strength!r}.")


NONE = Augmentation(**{field.name: 0.0 for field in fields(Augmentation)})


class Augmented(NamedTuple):
    """An augmented image.

    Attributes:
        pixels: float32 (S, S) in [0, 1].
        boxes: float32 (g, g), the share of each cell that boxes cover, warped like the image.
        hidden: whether the thorax is painted over.
    """

    pixels: Pixels
    boxes: Pixels
    hidden: bool


def augment(image: Pixels, boxes: Pixels, other: Pixels, a: Augmentation, rng: np.random.Generator) -> Augmented:
    """Vary an image as different patients, operators and scanners would.

    Areas beyond the edge of the image are filled with black, as beyond the edge of a plate.

    Args:
        image: (S, S) in [0, 1].
        boxes: (g, g) in [0, 1], the share of each cell that boxes cover.
        other: (S, S) in [0, 1], an image whose surroundings may be used.
        a: the strengths.
        rng: the source of randomness; equal states give equal images.

    Example:
        >>> black = np.zeros((8, 8), np.float32)
        >>> image, boxes, hidden = augment(black + 0.5, black, black, NONE, np.random.default_rng(0))
        >>> bool((image == 0.5).all()), hidden
        (True, False)
    """
    image = np.asarray(image, dtype=np.float32)
    if rng.random() < a.share:
        image, boxes = _moved(image, boxes, a, rng)
    if rng.random() < a.surround:
        image, boxes = _surrounded(image, boxes, np.asarray(other, dtype=np.float32), rng)
    if rng.random() < a.share:
        image = _shown(image, a, rng)
    hidden = bool(rng.random() < a.hidden)
    return Augmented(localisation.hide(image, thorax=True) if hidden else image, boxes, hidden)


def _moved(image: Pixels, boxes: Pixels, a: Augmentation, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """Rotate, scale, shear, shift and mirror in one warp about the middle."""

    def within(strength: float) -> float:
        return float(rng.uniform(-strength, strength))

    angle, scale, aspect = np.deg2rad(within(a.rotation)), np.exp(within(a.zoom)), np.exp(within(a.aspect))
    shear, shift = within(a.shear), np.array([within(a.width_shift), within(a.height_shift)])
    mirror = -1.0 if rng.random() < a.horizontal_flip else 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[mirror * scale * aspect, shear], [0.0, scale / aspect]])  # from new to old coordinates
    if np.array_equal(matrix, np.eye(2)) and not shift.any():
        return image, boxes
    return _warp(image, matrix, shift), _warp(boxes, matrix, shift)


def _warp(plane: Pixels, matrix: NDArray[np.float64], shift: NDArray[np.float64]) -> Pixels:
    size, middle = len(plane), len(plane) / 2
    rows = np.column_stack([matrix, middle + shift * size - matrix @ (middle, middle)]).ravel().tolist()
    warped = Image.fromarray(plane).transform(
        (size, size), Image.Transform.AFFINE, rows, Image.Resampling.BILINEAR, fillcolor=0
    )
    return np.asarray(warped)


def _surrounded(image: Pixels, boxes: Pixels, other: Pixels, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    reach = float(rng.uniform(0.40, 0.52))
    within = localisation.inside(len(image), len(image), reach)
    return np.where(within, image, other), boxes * localisation.inside(len(boxes), len(boxes), reach)


def _shown(image: Pixels, a: Augmentation, rng: np.random.Generator) -> Pixels:
    """Vary brightness and sharpness like different tubes, plates and exporters."""
    f32 = np.float32
    if a.gamma:
        image = np.maximum(image, f32(1e-5)) ** f32(np.exp(rng.uniform(-1, 1) * np.log1p(a.gamma)))
    if rng.random() < a.tone:
        levels = np.concatenate([[0.0], np.cumsum(rng.dirichlet(np.full(TONES, 3.0)))])
        strength, knots = rng.random(), np.linspace(0.0, 1.0, TONES + 1)
        image = image + f32(strength) * (np.interp(image, knots, levels).astype(f32) - image)
    if a.contrast or a.brightness:
        mean = image.mean()
        contrast = f32(np.exp(rng.uniform(-1, 1) * np.log1p(a.contrast)))
        image = (image - mean) * contrast + (mean + f32(rng.uniform(-a.brightness, a.brightness)))
    if a.shading:
        image = image + f32(a.shading) * _field(len(image), rng.uniform(-1, 1, 4))
    if rng.random() < a.blur:
        image = corruptions.sharpened(image, rng.uniform(-1.0, a.sharpen))
    if a.noise and rng.random() < 0.5:
        image = image + f32(rng.uniform(0.0, a.noise)) * rng.standard_normal(image.shape, dtype=f32)
    image = np.clip(image, 0.0, 1.0)
    return corruptions.compressed(image, int(rng.integers(20, 96))) if rng.random() < a.compression else image


def _field(size: int, slopes: NDArray[np.float64]) -> Pixels:
    """Return a smooth field (size, size): linear slopes across and down, a product term and a quadratic term."""
    x = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    across, down, twist, bend = slopes.astype(np.float32)
    return np.asarray(x * across + x[:, None] * (down + twist * x) + bend * (x**2 - np.float32(1 / 3)))
