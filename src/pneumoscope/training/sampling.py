"""Balanced sampling: draws batches in which neither the site nor the view predicts the class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pneumoscope.data.layouts import LABELS, Sample


@dataclass(frozen=True)
class Stratum:
    """Images that are drawn together: of one site, one class and, if known, one view.

    Attributes:
        name: the site, class and view.
        members: the positions of the images.
        share: their share of a batch, in (0, 1].
    """

    name: str
    members: NDArray[np.int64]
    share: float


def strata(samples: Sequence[Sample], other_share: float = 0.5) -> list[Stratum]:
    """Divide images into strata whose shares balance the classes within each site, and the views within each class.

    A site's share of a batch is proportional to the square root of its number of images: with equal shares the network
    would memorise a small site's images, with proportional shares it would ignore them. Each class has half of its
    site's share, and within a class all views have the same share. Images of a view that a site has for one class only
    are left out, because there the view would predict the class.

    Args:
        samples: the training images.
        other_share: the share of a site's negatives that show other findings, if it has any; in [0, 1].

    Returns:
        The strata; their shares add up to 1.

    Example:
        >>> from pathlib import Path
        >>> images = [Sample(Path(str(i)), int(i > 2), str(i)) for i in range(4)]
        >>> [(stratum.members.tolist(), stratum.share) for stratum in strata(images)]
        [([0, 1, 2], 0.5), ([3], 0.5)]
    """
    sites = np.array([sample.site for sample in samples])
    kinds = np.array([_kind(sample) for sample in samples])
    views = np.array([sample.view for sample in samples])
    names, counts = np.unique(sites, return_counts=True)
    found = []
    for site, weight in zip(names, (np.sqrt(counts) / np.sqrt(counts).sum()).tolist(), strict=True):
        here = sites == site
        shown = _balanced_views(kinds[here], views[here])
        shares = _shares(set(kinds[here].tolist()), other_share)
        for kind, share in shares.items():
            chosen = here & (kinds == kind) & np.isin(views, shown)
            own = np.unique(views[chosen])
            for view in own:
                members = np.flatnonzero(chosen & (views == view))
                found.append(Stratum(" ".join(filter(None, (site, kind, view))), members, weight * share / len(own)))
    return found


def warnings(samples: Sequence[Sample]) -> list[str]:
    """Return warnings about what balancing cannot fix: sites with one class, and views with one class.

    Example:
        >>> from pathlib import Path
        >>> images = [Sample(Path("a"), 0, "a", site="A"), Sample(Path("b"), 1, "b", site="B")]
        >>> len(warnings(images))
        2
    """
    told = []
    for site in sorted({sample.site for sample in samples}):
        here = [sample for sample in samples if sample.site == site]
        labels = {sample.label for sample in here}
        if len(labels) == 1 and len(here) < len(samples):
            told.append(
                f"Site '{site}' has images of {LABELS[labels.pop()]} only: the site predicts the class, and the "
                "network may learn the site instead. Add images of the other class from there, or leave the site out."
            )
            continue
        kinds, views = np.array([_kind(sample) for sample in here]), np.array([sample.view for sample in here])
        left = ~np.isin(views, _balanced_views(kinds, views))
        if left.any():
            told.append(
                f"{int(left.sum())} training images of site '{site}' are left out: it has their view for one class "
                "only, so the view would predict the class."
            )
    return told


def _kind(sample: Sample) -> str:
    return "other" if sample.other else LABELS[sample.label]


def _shares(kinds: set[str], other_share: float) -> dict[str, float]:
    """Return each kind's share of its site: half for each class, with the negatives divided by `other_share`."""
    if not 0.0 < other_share < 1.0 and len(kinds & {"NORMAL", "other"}) == 2:
        kinds = kinds - {"other" if other_share == 0.0 else "NORMAL"}
    negatives = {"NORMAL": 1.0 - other_share, "other": other_share}
    whole = sum(negatives[kind] for kind in negatives if kind in kinds)
    shares = {kind: share / whole for kind, share in negatives.items() if kind in kinds and whole}
    positives = {"PNEUMONIA": 1.0} if "PNEUMONIA" in kinds else {}
    classes = [part for part in (shares, positives) if part]
    return {kind: share / len(classes) for part in classes for kind, share in part.items()}


def _balanced_views(kinds: NDArray[np.str_], views: NDArray[np.str_]) -> NDArray[np.str_]:
    """Return the views that a site has for both classes; all its views if there are none."""
    positive, negative = (np.unique(views[chosen]) for chosen in (kinds == "PNEUMONIA", kinds != "PNEUMONIA"))
    shared = np.intersect1d(positive, negative)
    return shared if len(shared) else np.unique(views)


def draw(groups: Sequence[Stratum], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the order of an epoch, in which every part holds the strata in their shares, to within one image each.

    Within a stratum, every image is drawn once before any is drawn again.

    Args:
        groups: the strata; their shares add up to 1.
        n: the number of images to draw.
        rng: the source of randomness.

    Returns:
        (n,), the positions of the images.

    Example:
        >>> groups = [Stratum("a", np.array([0, 1, 2]), 0.5), Stratum("b", np.array([3]), 0.5)]
        >>> order = draw(groups, 8, np.random.default_rng(0))
        >>> sorted(order.tolist())[3:], int((order[:4] == 3).sum())
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
