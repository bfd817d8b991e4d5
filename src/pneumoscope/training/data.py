"""Reads the images for a training run, and holds out patients for validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pneumoscope.data import disk_array, layouts, splits
from pneumoscope.data.layouts import Sample
from pneumoscope.data.splits import Decoded
from pneumoscope.errors import DatasetError
from pneumoscope.inference import seen
from pneumoscope.training import sampling, starting
from pneumoscope.training.job import Job
from pneumoscope.training.loop import Progress
from pneumoscope.training.recipe import Recipe

MIN_VALIDATION = 20
"""A validation split with fewer images of a class is too small to choose an epoch (Kaggle's has 8)."""


@dataclass(frozen=True)
class Prepared:
    """The images for a training run.

    Attributes:
        training: the images to train on.
        validation: images of other patients, to validate on.
        fingerprint: the fingerprint of all images.
        seen: the signatures of all images, and of those in the model file that training starts from.
        notes: what the user should know about the division.
    """

    training: Decoded
    validation: Decoded
    fingerprint: str
    seen: str
    notes: list[str]


def prepare(job: Job) -> Prepared:
    """Read the images and hold out patients; images that do not fit into memory are kept in a file.

    Raises:
        DatasetError: the images cannot be trained on.

    Example:
        >>> images = prepare(Job("chest_xray", Path("run")))  # doctest: +SKIP
    """
    recipe = job.recipe
    samples = loaded(job.data)
    tested = {sample.patient for sample in samples if sample.split == "test"}
    samples = [sample for sample in samples if sample.split != "test"]
    folder = job.cache
    if folder is None and disk_array.too_many((len(samples), recipe.size, recipe.size)):
        job.out.mkdir(parents=True, exist_ok=True)
        folder = job.out
    decoded = splits.decode(samples, recipe.size, _counted(job.progress, "reading images", len(samples)), folder)
    if decoded.failures and not job.skip_unreadable:
        named = "\n".join(f"  {sample.path}: {error}" for sample, error in decoded.failures[:5])
        raise DatasetError(
            f"Expected readable images, but {len(decoded.failures)} of {len(samples)} are not: repair, remove or skip "
            f"them. The first:\n{named}"
        )
    training, validation, notes = partition(decoded, recipe)
    notes += sampling.warnings(training.samples)
    if len(np.unique(training.labels)) < 2:
        raise DatasetError(
            f"Expected images of both classes to train on, got {len(training.samples)} of one class only."
        )
    if shared := tested & {sample.patient for sample in decoded.samples}:
        notes.append(
            f"{len(shared)} patients of the test split are also in the training images: figures on that split will be "
            "too good."
        )
    earlier = starting.card_of(recipe.init).seen if starting.is_model_file(recipe.init) else ""
    return Prepared(training, validation, decoded.fingerprint(), seen.encode(decoded.pixels, earlier), notes)


def loaded(data: str | Path | Sequence[str | Path] | Sequence[Sample]) -> list[Sample]:
    """List the images of one or several data sets; images that are given as `Sample` are returned as they are."""
    if isinstance(data, (str, Path)):
        return layouts.load(data)
    items = list(data)
    paths = [item for item in items if isinstance(item, (str, Path))]
    return layouts.load(paths) if paths else [item for item in items if isinstance(item, Sample)]


def without(samples: Sequence[Sample], site: str) -> tuple[list[Sample], list[Sample]]:
    """Divide images into those of all other sites, to train on, and those of one site, to measure on.

    Raises:
        DatasetError: there is no such site, or no other site.

    Example:
        >>> rest, left_out = without([Sample(Path("a"), 0, "a", site="A"), Sample(Path("b"), 1, "b", site="B")], "B")
        >>> [image.site for image in rest], [image.site for image in left_out]
        (['A'], ['B'])
    """
    sites = sorted({sample.site for sample in samples})
    if site not in sites:
        raise DatasetError(f"Expected one of the sites {', '.join(sites)} to leave out, got '{site}'.")
    if len(sites) == 1:
        raise DatasetError(f"Expected another site to train on, got only '{site}': give a second data set.")
    return [sample for sample in samples if sample.site != site], [sample for sample in samples if sample.site == site]


def partition(decoded: Decoded, recipe: Recipe) -> tuple[Decoded, Decoded, list[str]]:
    """Divide each site's patients into those to train on and those to validate on.

    A site's own validation split is used if it has at least `MIN_VALIDATION` images per class and shares no patient
    with the training images; otherwise patients are held out from all its images.

    Returns:
        The training images, the validation images, and what the user should know about the division.
    """
    sites = np.array([sample.site for sample in decoded.samples])
    own = np.array([sample.split == "val" for sample in decoded.samples])
    validation, notes = np.zeros(len(sites), dtype=bool), []
    drawn = np.zeros(len(sites), dtype=bool)  # the images of sites from which patients are held out
    for site in np.unique(sites):
        here = sites == site
        reason = _unusable(decoded, here & own, here & ~own)
        if reason is None:
            validation |= here & own
            continue
        drawn |= here
        if (here & own).any():
            name = f" of site '{site}'" if len(np.unique(sites)) > 1 else ""
            notes.append(
                f"The data set's own validation split{name} {reason}; patients were held out from all images instead."
            )
    if drawn.any():
        places = np.flatnonzero(drawn)
        _, held_out = splits.hold_out(decoded.take(places), recipe.validation_share, recipe.seed)
        validation[places[held_out]] = True
        validation |= np.isin(decoded.groups, decoded.groups[validation])  # groups that span several sites
    return decoded.take(np.flatnonzero(~validation)), decoded.take(np.flatnonzero(validation)), notes


def _unusable(decoded: Decoded, own: NDArray[np.bool_], others: NDArray[np.bool_]) -> str | None:
    """Return why a site's own validation images cannot be used, or None if they can."""
    if not own.any():
        return "is empty"
    counts = np.bincount(decoded.labels[own], minlength=2)
    shared = np.intersect1d(decoded.groups[own], decoded.groups[others])
    if len(shared):
        return f"shares {len(shared)} patients with the training images"
    if counts.min() < MIN_VALIDATION:
        return f"has only {counts[0]} + {counts[1]} images, fewer than {MIN_VALIDATION} of a class"
    return None


def _counted(progress: Progress, what: str, total: int) -> Callable[[], object]:
    done = iter(range(1, total + 1))
    return lambda: progress(what, next(done), total, {})
