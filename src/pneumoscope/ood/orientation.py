"""What a picture shows: a frontal chest film as it should hang, one that is turned or inverted, or no chest at all."""

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
Films = NDArray[np.floating[Any]]

WAYS: dict[str, tuple[str | None, Callable[[Pixels], Pixels]]] = {
    "upright": (None, lambda film: film),
    "turned by 90°": ("rotated", lambda film: np.rot90(film, 1)),
    "turned by 180°": ("rotated", lambda film: np.rot90(film, 2)),
    "turned by 270°": ("rotated", lambda film: np.rot90(film, 3)),
    "inverted": ("inverted", lambda film: 1.0 - film),
    "mirrored": ("mirrored", lambda film: film[:, ::-1]),
}
"""How a chest film may come: the warning it then brings, and how it is made from an upright one."""


REFUSED = 0.005
"""The share of held-out patients' images of a site, as they are, that may lie beyond the limit of rejection."""

REFUSED_CHANGED = 0.01
"""The same, of these images changed, each in several ways at once."""

SURE = 0.5
"""The least log odds of being no chest film from which a picture is refused: five to three."""

REMARKED = 0.005
"""The same, of both, for each way in which an image may be wrong."""

DOUBTED = 0.01
"""The same, of the images as they are, for being unlike those learnt from."""

MOST_FILMS = 1500
"""Training films that are learnt from, at most."""

VARIANTS = 3
"""How often each film is also shown changed."""

STRANGERS = 9
"""Other pictures for each film, of `STRANGER_SIDE` pixels a side at most: drawing larger ones takes longer."""

STRANGER_SIDE = 128

NETWORKS, UNITS = 4, 32
"""Networks whose mean is taken, and units of the hidden layer of each: one alone hangs more on chance."""


@dataclass(frozen=True)
class View:
    """What a picture seems to show.

    Attributes:
        refused: it is no frontal chest film.
        warnings: keys of `detector.WARNINGS`.
    """

    refused: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Views:
    """A small network on `hog.describe` with one hidden layer, and the limits of what it says.

    Attributes:
        hidden: (d + 1, units), the weights of the hidden layer; the last row is added.
        last: (units + 1, len(WAYS) + 1), of the last layer: a column for each way, and one for other pictures.
        refusal: the log odds of being no chest film from which a picture is refused.
        doubt: the log odds from which it is called unlike the training films.
        remarks: for each warning of `WAYS`, the log odds of that way against upright from which it is given.
    """

    hidden: NDArray[np.floating[Any]]
    last: NDArray[np.floating[Any]]
    refusal: float = math.inf
    doubt: float = math.inf
    remarks: tuple[tuple[str, float], ...] = ()

    def look(self, film: Films) -> View:
        """Say what a film (H, W) seems to show.

        Example:
            >>> nothing = Views(np.zeros((hog.LENGTH + 1, 4)), np.zeros((5, len(WAYS) + 1)))
            >>> nothing.look(np.zeros((8, 8)))
            View(refused=False, warnings=())
        """
        logits = self.logits(hog.describe(film)[None])[0]
        odds = float(stranger_odds(logits))
        if odds > self.refusal:
            return View(refused=True)
        remarks = ["unlike_training_films"] if odds > self.doubt else []
        way, excess = way_of(logits)
        if way is not None and excess > dict(self.remarks).get(way, math.inf):
            remarks.append(way)
        return View(warnings=tuple(remarks))

    def logits(self, described: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Weigh what films were described by (N, d): (N, len(WAYS) + 1)."""
        units = np.maximum(described @ self.hidden[:-1] + self.hidden[-1], 0.0)
        return np.asarray(units @ self.last[:-1] + self.last[-1], dtype=np.float64)

    def as_dict(self) -> dict[str, Any]:
        """Lay it out for the model file's card; arrays in half precision and base 64."""
        return {
            "units": self.hidden.shape[1],
            "hidden": encoded(self.hidden),
            "last": encoded(self.last),
            "refusal": self.refusal,
            "doubt": self.doubt,
            "remarks": [list(remark) for remark in self.remarks],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Views:
        """Read what `as_dict` gave.

        Raises:
            ModelFileError: it is no such thing.
        """
        try:
            units = int(values["units"])
            hidden = decoded(values["hidden"]).reshape(hog.LENGTH + 1, units)
            last = decoded(values["last"]).reshape(units + 1, len(WAYS) + 1)
            remarks = tuple((str(way), float(limit)) for way, limit in values["remarks"])
            return cls(hidden, last, float(values["refusal"]), float(values["doubt"]), remarks)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"Expected views in the model file's card, got something else ({error}).") from error


def stranger_odds(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the log odds of being no chest film, (...), from logits (..., len(WAYS) + 1).

    Example:
        >>> float(stranger_odds(np.array([0.0] * 6 + [np.log(6.0)]))).__round__(6)
        0.0
    """
    return np.asarray(logits[..., -1] - np.logaddexp.reduce(logits[..., :-1], axis=-1))


def way_of(logits: NDArray[np.float64]) -> tuple[str | None, float]:
    """Name the warning of the likeliest way of one film, and its log odds against upright.

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
) -> Views:
    """Learn to tell chest films from other pictures, and upright ones from others.

    Learnt from the training films, as they are and changed, in each of `WAYS`, and from `strangers`. The limits are
    those that all but `REFUSED`, `REFUSED_CHANGED`, `REMARKED` or `DOUBTED` of the held-out films keep, at each
    site; and no picture is refused without `SURE`.

    Args:
        training: (N, S, S) in [0, 1], of every chest film at hand, also those of no label: what is not among them looks
            like no chest. Each site counts alike.
        held_out: (M, S, S), of patients not among the training films; should be at least `ENOUGH`.
        seed: of all that is random.
        progress: told how many of how many pictures are done.
        training_sites: (N,), the site of each training image; None where there is one.
        held_out_sites: (M,), likewise.

    Example:
        >>> views = fit(films.training.pixels, films.validation.pixels)  # doctest: +SKIP
        >>> views.look(np.rot90(film)).warnings  # doctest: +SKIP
        ('rotated',)
    """
    rng = np.random.default_rng(seed)
    places = np.zeros(len(training)) if training_sites is None else training_sites
    chosen = training[sites.chosen(places, MOST_FILMS, rng)]
    total, done = len(chosen) * (VARIANTS + len(WAYS) + STRANGERS) + len(held_out) * (VARIANTS + 1), 0

    def described(pictures: Iterable[Films]) -> NDArray[np.float32]:
        nonlocal done
        rows = []
        for picture in pictures:
            rows.append(hog.describe(picture))
            progress(done := done + 1, total)
        return np.stack(rows)

    def either(film: Films) -> Pixels:
        return varied(film, rng) if rng.random() < 0.6 else film.astype(np.float32)

    kinds, size = list(negatives.KINDS), min(training.shape[-1], STRANGER_SIDE)
    groups = [described(chosen), described(varied(film, rng) for film in chosen for _ in range(VARIANTS))]
    groups += [described(make(either(film)) for film in chosen) for _, make in list(WAYS.values())[1:]]
    others = (negatives.draw(kinds[i % len(kinds)], rng, size, chosen) for i in range(STRANGERS * len(chosen)))
    groups.append(described(preprocessing.squash(other, size)[0] for other in others))  # as they will be seen
    classes = np.repeat([0, *range(len(WAYS) + 1)], [len(group) for group in groups])
    views = _learnt(np.concatenate(groups), classes, seed)
    changed = described(varied(film, rng) for film in held_out for _ in range(VARIANTS))
    return _limited(views, described(held_out), changed, held_out_sites)


def _learnt(inputs: NDArray[np.float32], classes: NDArray[np.int64], seed: int) -> Views:
    """Train networks on described pictures (N, d), and give their mean; it refuses nothing and remarks on nothing."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    mean, scale = inputs.mean(axis=0), np.maximum(inputs.std(axis=0), 0.02)
    inputs, learnt = (inputs - mean) / scale, []
    for own_seed in np.random.SeedSequence(seed).generate_state(NETWORKS).tolist():
        network = MLPClassifier((UNITS,), alpha=0.3, batch_size=128, max_iter=12, random_state=own_seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # stopped on purpose: longer, it learns by heart
            network.fit(inputs, classes)
        slopes = network.coefs_[0] / scale[:, None]
        hidden = np.vstack([slopes, network.intercepts_[0] - mean @ slopes])
        learnt.append(Views(hidden, np.vstack([network.coefs_[1], network.intercepts_[1]])))
    together = _mean(learnt)
    # As they will be read back, so that the limits hold for what the file says.
    hidden, last = (decoded(encoded(w)).reshape(w.shape) for w in (together.hidden, together.last))
    return Views(hidden, last)


def _mean(networks: Sequence[Views]) -> Views:
    """Give the one network whose logits are the mean of these networks' logits."""
    hidden = np.hstack([network.hidden for network in networks])
    offset = np.sum([network.last[-1] for network in networks], axis=0)
    return Views(hidden, np.vstack([*(network.last[:-1] for network in networks), offset]) / len(networks))


def _limited(
    views: Views, held_out: NDArray[np.float32], changed: NDArray[np.float32], where: NDArray[Any] | None = None
) -> Views:
    """Set the limits by described images of held-out patients, (M, d) as they are, (M n, d) changed, of sites (M,)."""
    logits = views.logits(np.concatenate([held_out, changed]))
    n = len(held_out)
    of_changed = None if where is None else np.repeat(where, len(changed) // n)
    of_both = None if where is None or of_changed is None else np.concatenate([where, of_changed])
    odds, ways = stranger_odds(logits), [way_of(row) for row in logits]
    usual, usual_changed = sites.limit(odds[:n], where, REFUSED), sites.limit(odds[n:], of_changed, REFUSED_CHANGED)
    refusal = max(usual, usual_changed, SURE)
    excesses = {
        name: np.array([excess if way == name else 0.0 for way, excess in ways])
        for name in dict.fromkeys(name for name, _ in WAYS.values() if name)
    }
    remarks = tuple((name, max(sites.limit(excess, of_both, REMARKED), 0.0)) for name, excess in excesses.items())
    doubt = min(sites.limit(odds[:n], where, DOUBTED), refusal)
    return replace(views, refusal=refusal, doubt=doubt, remarks=remarks)


def varied(film: Films, rng: np.random.Generator) -> Pixels:
    """Change a film (S, S) as other patients, scanners and technicians might, by several changes at once."""
    picture = film.astype(np.float32)
    if rng.random() < 0.4:
        picture = _warped(picture, rng)
    if rng.random() < 0.4:
        picture = _cropped(picture, rng)
    if rng.random() < 0.5:
        picture = _moved(picture, rng)
    if rng.random() < 0.2:  # equalised, as some exporters do
        shades = np.sort(picture.ravel())[:: max(1, picture.size // 1000)]
        even = np.interp(picture, shades, np.linspace(0.0, 1.0, len(shades)))
        picture = (picture + rng.random() * (even - picture)).astype(np.float32)
    if rng.random() < 0.25:  # a border on one side
        turn = int(rng.integers(4))
        picture = np.rot90(picture, turn).copy()
        picture[: round(rng.uniform(0.02, 0.15) * len(picture))] = rng.integers(2)
        picture = np.rot90(picture, -turn).copy()
    shifts = [name for name in corruptions.SHIFTS if name not in corruptions.APART]
    for name in rng.choice(shifts, rng.integers(4), replace=False):
        picture = corruptions.apply(name, picture)
    return picture


def _moved(film: Pixels, rng: np.random.Generator) -> Pixels:
    """Turn by up to 12°, scale from 0.7 to 1.35, width and height a little apart, and shift by up to an eighth."""
    size = len(film)
    zoom = np.exp(rng.uniform(np.log(0.7), np.log(1.35)) + rng.uniform(-0.15, 0.15, 2))
    turn, shift = np.deg2rad(rng.uniform(-12, 12)), rng.uniform(-0.12, 0.12, 2) * size
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) / zoom
    offset = size / 2 - matrix @ (size / 2 + shift)
    rows = np.column_stack([matrix, offset]).ravel().tolist()
    moved = Image.fromarray(film).transform(
        (size, size), Image.Transform.AFFINE, rows, Image.Resampling.BILINEAR, fillcolor=0
    )
    return np.asarray(moved)


def _cropped(film: Pixels, rng: np.random.Generator) -> Pixels:
    """Cut off what lies around the lungs, as on films of adults: a sixth at each side and above, a quarter below."""
    size = len(film)
    left, top, right, bottom = (size * rng.uniform(0.0, (0.17, 0.15, 0.17, 0.28))).tolist()
    box = (left, top, size - right, size - bottom)
    return np.asarray(Image.fromarray(film).resize((size, size), Image.Resampling.BILINEAR, box))


def _warped(film: Pixels, rng: np.random.Generator) -> Pixels:
    """Bend a film smoothly, and stretch its upper or its lower part: lungs of another build."""
    from scipy.ndimage import map_coordinates

    size = len(film)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    reach = rng.uniform(0.005, 0.025) * size
    bends = [
        np.asarray(Image.fromarray(b).resize((size, size), Image.Resampling.BICUBIC))
        for b in rng.normal(0, reach, (2, 4, 4)).astype(np.float32)
    ]
    rows = (y / size) ** rng.uniform(0.8, 1.25) * size
    return np.asarray(map_coordinates(film, [rows + bends[0], x + bends[1]], order=1, mode="nearest"), np.float32)
