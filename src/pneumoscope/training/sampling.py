"""Which images each batch holds: so drawn that neither site nor view tells the class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pneumoscope.data.layouts import Film


@dataclass(frozen=True)
class Stratum:
    """Images that are drawn alike: of one site, one class and, where it is known, one view.

    Attributes:
        name: what they share.
        members: their positions.
        share: of the images of a batch, in (0, 1].
    """

    name: str
    members: NDArray[np.int64]
    share: float


def strata(films: Sequence[Film]) -> list[Stratum]:
    """Divide images into strata whose shares balance the classes within each site, and the views within each class.

    A site's share of a batch goes with the square root of its number of images: evenly, a small site's images would be
    learnt by heart; by number, it would not be heard. Each class has half of its site's share. Where a site has images
    of other findings, they are half of its negatives. Where both classes of a site have images of known view, each
    view that both have has the same share in either; images whose view only one class has share what is left to
    nobody: they are drawn beside the others as a view of their own.

    Args:
        films: the training images; both classes should be there at each site, or the site tells the class.

    Example:
        >>> from pathlib import Path
        >>> films = [Film(Path(str(i)), int(i > 2), str(i)) for i in range(4)]
        >>> [(stratum.members.tolist(), stratum.share) for stratum in strata(films)]
        [([0, 1, 2], 0.5), ([3], 0.5)]
    """
    sites = np.array([film.site for film in films])
    labels = np.array([film.label for film in films])
    others = np.array([film.other for film in films])
    views = np.array([film.view for film in films])
    names, counts = np.unique(sites, return_counts=True)
    weights = np.sqrt(counts) / np.sqrt(counts).sum()
    found = []
    for site, weight in zip(names, weights, strict=True):
        kinds = {
            "NORMAL": (sites == site) & (labels == 0) & ~others,
            "other": (sites == site) & (labels == 0) & others,
            "PNEUMONIA": (sites == site) & (labels == 1),
        }
        classes = 1 + bool(kinds["PNEUMONIA"].any() and not kinds["PNEUMONIA"].sum() == (sites == site).sum())
        negatives = 1 + bool(kinds["NORMAL"].any() and kinds["other"].any())
        for kind, chosen in kinds.items():
            if not chosen.any():
                continue
            share = weight / classes / (1 if kind == "PNEUMONIA" else negatives)
            shown = np.unique(views[chosen])
            for view in shown:
                members = np.flatnonzero(chosen & (views == view))
                found.append(Stratum(" ".join(filter(None, (site, kind, view))), members, share / len(shown)))
    return found


def draw(groups: Sequence[Stratum], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the order of an epoch: any stretch of it holds the strata in their shares, to within one image of each.

    Within a stratum every image comes once before any comes again.

    Args:
        groups: the strata; their shares add up to 1.
        n: images to draw.
        rng: what is drawn from.

    Returns:
        (n,), positions.

    Example:
        >>> groups = [Stratum("a", np.array([0, 1, 2]), 0.5), Stratum("b", np.array([3]), 0.5)]
        >>> order = draw(groups, 8, np.random.default_rng(0))
        >>> sorted(order.tolist())[3:], (order[:4] == 3).sum()
        ([2, 3, 3, 3, 3], 2)
    """
    places, chosen = [], []
    for group in groups:
        count = int(np.ceil(n * group.share)) + 1
        rounds = [rng.permutation(group.members) for _ in range(-(-count // len(group.members)))]
        places.append((np.arange(count) + rng.random()) / group.share)
        chosen.append(np.concatenate(rounds)[:count])
    order = np.argsort(np.concatenate(places), kind="stable")[:n]
    return np.asarray(np.concatenate(chosen)[order], dtype=np.int64)
