"""Detects whether a frontal chest radiograph is upright, rotated, mirrored or inverted, or not a chest at all."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pneumoscope.data.disk_array import Rows
from pneumoscope.errors import ModelFileError
from pneumoscope.imaging import corruptions, preprocessing
from pneumoscope.ood import hog, negatives, sites
from pneumoscope.ood.embedding import decoded, encoded

Pixels = NDArray[np.float32]
Images = NDArray[np.floating[Any]]

WAYS: dict[str, tuple[str | None, Callable[[Pixels], Pixels]]] = {
    "upright": (None, lambda image: image),
    "turned by 90°": ("rotated", lambda image: np.rot90(image, 1)),
    "turned by 180°": ("rotated", lambda image: np.rot90(image, 2)),
    "turned by 270°": ("rotated", lambda image: np.rot90(image, 3)),
    "inverted": ("inverted", lambda image: 1.0 - image),
    "mirrored": ("mirrored", lambda image: image[:, ::-1]),
}
"""The orientations of a chest radiograph: the warning for each, and how to make it from an upright image."""

REJECTED = 0.005
"""The share of a site's held-out images, uncorrupted, that may exceed the limit for rejection."""

REJECTED_CHANGED = 0.01
"""The same for those images with several corruptions at once."""

SURE = 0.5
"""The lowest log odds of not being a chest radiograph at which an image is rejected: five to three."""

REMARKED = 0.005
"""The share of held-out images, with and without corruptions, that may get each orientation warning."""

DOUBTED = 0.01
"""The share of a site's held-out images, uncorrupted, that may be called unlike the training images."""

MOST_IMAGES = 1500
"""The most training images used."""

VARIANTS = 3
"""How many corrupted copies of each image are used."""

NEGATIVES = 9
"""Negative examples per training image."""

NEGATIVE_SIDE = 128
"""The largest side of a negative example, in pixels: larger ones take longer to draw."""

NETWORKS, UNITS = 4, 32
"""How many networks are averaged, and the hidden units of each: a single network depends more on its seed."""


@dataclass(frozen=True)
class Orientation:
    """The result for one image.

    Attributes:
        rejected: whether the image is not a frontal chest radiograph.
        warnings: keys of `finding.WARNINGS`.
    """

    rejected: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class OrientationModel:
    """A small network with one hidden layer on the descriptor of `hog.describe`, and the limits for its outputs.

    Attributes:
        hidden: (d + 1, units), the weights of the hidden layer; the last row is the bias.
        last: (units + 1, len(WAYS) + 1), those of the last layer: a column for each orientation, and one for other
            images.
        rejection: the log odds of not being a chest radiograph above which an image is rejected.
        doubt: the log odds above which it is called unlike the training images.
        remarks: for each warning of `WAYS`, the log odds of that orientation against upright above which it is given.
    """

    hidden: NDArray[np.floating[Any]]
    last: NDArray[np.floating[Any]]
    rejection: float = math.inf
    doubt: float = math.inf
    remarks: tuple[tuple[str, float], ...] = ()

    def look(self, image: Images) -> Orientation:
        """Classify an image (H, W).

        Example:
            >>> nothing = OrientationModel(np.zeros((hog.LENGTH + 1, 4)), np.zeros((5, len(WAYS) + 1)))
            >>> nothing.look(np.zeros((8, 8)))
            Orientation(rejected=False, warnings=())
        """
        logits = self.logits(hog.describe(image)[None])[0]
        odds = float(negative_odds(logits))
        if odds > self.rejection:
            return Orientation(rejected=True)
        remarks = ["unlike_training_images"] if odds > self.doubt else []
        way, excess = way_of(logits)
        if way is not None and excess > dict(self.remarks).get(way, math.inf):
            remarks.append(way)
        return Orientation(warnings=tuple(remarks))

    def logits(self, described: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Compute the logits (N, len(WAYS) + 1) for descriptors (N, d)."""
        units = np.maximum(described @ self.hidden[:-1] + self.hidden[-1], 0.0)
        return np.asarray(units @ self.last[:-1] + self.last[-1], dtype=np.float64)

    def as_dict(self) -> dict[str, Any]:
        """Return the entry for the model file's card, with arrays in half precision and base 64."""
        return {
            "units": self.hidden.shape[1],
            "hidden": encoded(self.hidden),
            "last": encoded(self.last),
            "rejection": self.rejection,
            "doubt": self.doubt,
            "remarks": [list(remark) for remark in self.remarks],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> OrientationModel:
        """Create the model from the output of `as_dict`.

        Raises:
            ModelFileError: the values have another layout.
        """
        try:
            units = int(values["units"])
            hidden = decoded(values["hidden"]).reshape(hog.LENGTH + 1, units)
            last = decoded(values["last"]).reshape(units + 1, len(WAYS) + 1)
            remarks = tuple((str(way), float(limit)) for way, limit in values["remarks"])
            return cls(hidden, last, float(values["rejection"]), float(values["doubt"]), remarks)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(
                f"Expected the orientation model in the model file's card, got something else ({error})."
            ) from error


def negative_odds(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log odds of not being a chest radiograph, (...), from logits (..., len(WAYS) + 1).

    Example:
        >>> float(negative_odds(np.array([0.0] * 6 + [np.log(6.0)]))).__round__(6)
        0.0
    """
    return np.asarray(logits[..., -1] - np.logaddexp.reduce(logits[..., :-1], axis=-1))


def way_of(logits: NDArray[np.float64]) -> tuple[str | None, float]:
    """Return the warning for the most likely orientation of one image, and its log odds against upright.

    Example:
        >>> way_of(np.array([0.0, 0.0, 0.0, 0.0, 3.0, 1.0, 9.0]))
        ('inverted', 3.0)
    """
    best = int(np.argmax(logits[:-1]))
    return list(WAYS.values())[best][0], float(logits[best] - logits[0])


def fit(
    training: Rows,
    held_out: Rows,
    seed: int = 0,
    progress: Callable[[int, int], object] = lambda *_: None,
    *,
    training_sites: NDArray[Any] | None = None,
    held_out_sites: NDArray[Any] | None = None,
) -> OrientationModel:
    """Train a model to distinguish chest radiographs from other images, and upright ones from the rest.

    It is trained on the training images with and without corruptions, in each of the `WAYS`, and on `negatives`. The
    limits are set so that at most the shares `REJECTED`, `REJECTED_CHANGED`, `REMARKED` and `DOUBTED` of the held-out
    images exceed them at each site, and no image is rejected below `SURE`.

    Args:
        training: (N, S, S) in [0, 1], all available chest radiographs, including unlabelled ones, because an unusual
            one that is left out may be rejected. Each site counts equally.
        held_out: (M, S, S), of patients who are not in the training images; at least `embedding.ENOUGH` are advisable.
        seed: the seed for everything random.
        progress: called with the number of images done and the total.
        training_sites: (N,), the site of each training image; None if there is only one.
        held_out_sites: (M,), likewise.

    Example:
        >>> model = fit(images.training.pixels, images.validation.pixels)  # doctest: +SKIP
        >>> model.look(np.rot90(image)).warnings  # doctest: +SKIP
        ('rotated',)
    """
    rng = np.random.default_rng(seed)
    places = np.zeros(len(training)) if training_sites is None else training_sites
    chosen = training[sites.chosen(places, MOST_IMAGES, rng)]
    total, done = len(chosen) * (VARIANTS + len(WAYS) + NEGATIVES) + len(held_out) * (VARIANTS + 1), 0

    def described(images: Iterable[Images]) -> NDArray[np.float32]:
        nonlocal done
        rows = []
        for image in images:
            rows.append(hog.describe(image))
            progress(done := done + 1, total)
        return np.stack(rows)

    def either(image: Images) -> Pixels:
        return varied(image, rng) if rng.random() < 0.6 else image.astype(np.float32)

    kinds, size = list(negatives.KINDS), min(training.shape[-1], NEGATIVE_SIDE)
    groups = [described(chosen), described(varied(image, rng) for image in chosen for _ in range(VARIANTS))]
    groups += [described(make(either(image)) for image in chosen) for _, make in list(WAYS.values())[1:]]
    others = (negatives.draw(kinds[i % len(kinds)], rng, size, chosen) for i in range(NEGATIVES * len(chosen)))
    groups.append(described(preprocessing.squash(other, size)[0] for other in others))  # as in prediction
    classes = np.repeat([0, *range(len(WAYS) + 1)], [len(group) for group in groups])
    model = _learnt(np.concatenate(groups), classes, seed)
    changed = described(varied(image, rng) for image in held_out for _ in range(VARIANTS))
    return _limited(model, described(held_out), changed, held_out_sites)


def _learnt(inputs: NDArray[np.float32], classes: NDArray[np.int64], seed: int) -> OrientationModel:
    """Train networks on descriptors (N, d), and return their mean, without limits."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    mean, scale = inputs.mean(axis=0), np.maximum(inputs.std(axis=0), 0.02)
    inputs, learnt = (inputs - mean) / scale, []
    for own_seed in np.random.SeedSequence(seed).generate_state(NETWORKS).tolist():
        network = MLPClassifier((UNITS,), alpha=0.3, batch_size=128, max_iter=12, random_state=own_seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # stopped early on purpose, to avoid overfitting
            network.fit(inputs, classes)
        slopes = network.coefs_[0] / scale[:, None]
        hidden = np.vstack([slopes, network.intercepts_[0] - mean @ slopes])
        learnt.append(OrientationModel(hidden, np.vstack([network.coefs_[1], network.intercepts_[1]])))
    together = _mean(learnt)
    # Rounded as in the model file, so that the limits hold for it.
    hidden, last = (decoded(encoded(w)).reshape(w.shape) for w in (together.hidden, together.last))
    return OrientationModel(hidden, last)


def _mean(networks: Sequence[OrientationModel]) -> OrientationModel:
    """Return the one network whose logits are the mean of these networks' logits."""
    hidden = np.hstack([network.hidden for network in networks])
    offset = np.sum([network.last[-1] for network in networks], axis=0)
    return OrientationModel(hidden, np.vstack([*(network.last[:-1] for network in networks), offset]) / len(networks))


def _limited(
    model: OrientationModel,
    held_out: NDArray[np.float32],
    changed: NDArray[np.float32],
    where: NDArray[Any] | None = None,
) -> OrientationModel:
    """Set the limits on descriptors of held-out images: (M, d) uncorrupted, (M n, d) corrupted, with sites (M,)."""
    logits = model.logits(np.concatenate([held_out, changed]))
    n = len(held_out)
    of_changed = None if where is None else np.repeat(where, len(changed) // n)
    of_both = None if where is None or of_changed is None else np.concatenate([where, of_changed])
    odds, ways = negative_odds(logits), [way_of(row) for row in logits]
    usual, usual_changed = sites.limit(odds[:n], where, REJECTED), sites.limit(odds[n:], of_changed, REJECTED_CHANGED)
    rejection = max(usual, usual_changed, SURE)
    excesses = {
        name: np.array([excess if way == name else 0.0 for way, excess in ways])
        for name in dict.fromkeys(name for name, _ in WAYS.values() if name)
    }
    remarks = tuple((name, max(sites.limit(excess, of_both, REMARKED), 0.0)) for name, excess in excesses.items())
    doubt = min(sites.limit(odds[:n], where, DOUBTED), rejection)
    return replace(model, rejection=rejection, doubt=doubt, remarks=remarks)


def varied(image: Images, rng: np.random.Generator) -> Pixels:
    """Vary an image (S, S) in several ways at once, as other patients, scanners and operators would."""
    changed = image.astype(np.float32)
    if rng.random() < 0.4:
        changed = _warped(changed, rng)
    if rng.random() < 0.4:
        changed = _cropped(changed, rng)
    if rng.random() < 0.5:
        changed = _moved(changed, rng)
    if rng.random() < 0.2:  # histogram equalisation, as applied by some exporters
        shades = np.sort(changed.ravel())[:: max(1, changed.size // 1000)]
        even = np.interp(changed, shades, np.linspace(0.0, 1.0, len(shades)))
        changed = (changed + rng.random() * (even - changed)).astype(np.float32)
    if rng.random() < 0.25:  # a border on one side
        turn = int(rng.integers(4))
        changed = np.rot90(changed, turn).copy()
        changed[: round(rng.uniform(0.02, 0.15) * len(changed))] = rng.integers(2)
        changed = np.rot90(changed, -turn).copy()
    shifts = [name for name in corruptions.CORRUPTIONS if name not in corruptions.APART]
    for name in rng.choice(shifts, rng.integers(4), replace=False):
        changed = corruptions.apply(name, changed)
    return changed


def _moved(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Rotate by up to 12°, scale by 0.7 to 1.35 with a slight change of aspect, and shift by up to an eighth."""
    size = len(image)
    zoom = np.exp(rng.uniform(np.log(0.7), np.log(1.35)) + rng.uniform(-0.15, 0.15, 2))
    turn, shift = np.deg2rad(rng.uniform(-12, 12)), rng.uniform(-0.12, 0.12, 2) * size
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) / zoom
    offset = size / 2 - matrix @ (size / 2 + shift)
    rows = np.column_stack([matrix, offset]).ravel().tolist()
    moved = Image.fromarray(image).transform(
        (size, size), Image.Transform.AFFINE, rows, Image.Resampling.BILINEAR, fillcolor=0
    )
    return np.asarray(moved)


def _cropped(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Crop towards the lungs, as on images of adults: up to a sixth at the sides and top, a quarter at the bottom."""
    size = len(image)
    left, top, right, bottom = (size * rng.uniform(0.0, (0.17, 0.15, 0.17, 0.28))).tolist()
    box = (left, top, size - right, size - bottom)
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box))


def _warped(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Warp an image smoothly, and stretch its upper or lower part, to imitate chests of another build."""
    from scipy.ndimage import map_coordinates

    size = len(image)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    reach = rng.uniform(0.005, 0.025) * size
    bends = [
        np.asarray(Image.fromarray(b).resize((size, size), Image.Resampling.BICUBIC))
        for b in rng.normal(0, reach, (2, 4, 4)).astype(np.float32)
    ]
    rows = (y / size) ** rng.uniform(0.8, 1.25) * size
    return np.asarray(map_coordinates(image, [rows + bends[0], x + bends[1]], order=1, mode="nearest"), np.float32)
