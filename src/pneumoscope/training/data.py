"""The images of a training: read, and some patients held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pneumoscope.data import disk_array, layouts, splits
from pneumoscope.data.layouts import Sample
from pneumoscope.data.splits import Decoded
from pneumoscope.errors import DatasetError
from pneumoscope.inference import model_file
from pneumoscope.training.loop import Progress
from pneumoscope.training.recipe import Recipe

MIN_VALIDATION = 20
"""A validation split with fewer images of a class says too little to choose an epoch by (Kaggle's has 8)."""


@dataclass(frozen=True)
class Prepared:
    """The images of a training.

    Attributes:
        training: those to train on.
        validation: those of other patients, to validate on.
        fingerprint: of all of them.
        seen: all of them as a model file remembers them.
        notes: what the user should know of the choice.
    """

    training: Decoded
    validation: Decoded
    fingerprint: str
    seen: str
    notes: list[str]


def prepare(
    data: str | Path | Sequence[Sample],
    recipe: Recipe,
    skip_unreadable: bool,
    progress: Progress,
    out: Path,
    cache: str | Path | None,
) -> Prepared:
    """Read the images and hold patients out.

    Args:
        data: what `layouts.load` takes, or images; those of a `test` split are left alone.
        recipe: how large they are decoded, and how many are held out.
        skip_unreadable: leave out images that cannot be read instead of rejecting.
        progress: told of each image.
        out: the run's folder; a file there holds images that are too many for memory.
        cache: a folder for that file, whether they are too many or not.

    Raises:
        DatasetError: the images cannot be trained on.

    Example:
        >>> images = prepare("chest_xray", Recipe(), False, lambda *_: None, Path("run"), None)  # doctest: +SKIP
    """
    samples = layouts.load(data) if isinstance(data, (str, Path)) else list(data)
    tested = {sample.patient for sample in samples if sample.split == "test"}
    samples = [sample for sample in samples if sample.split != "test"]
    folder = None if cache is None else Path(cache)
    if folder is None and disk_array.too_many((len(samples), recipe.size, recipe.size)):
        out.mkdir(parents=True, exist_ok=True)
        folder = out
    decoded = splits.decode(samples, recipe.size, _counted(progress, "reading images", len(samples)), folder)
    if decoded.failures and not skip_unreadable:
        named = "\n".join(f"  {sample.path}: {error}" for sample, error in decoded.failures[:5])
        raise DatasetError(
            f"Expected readable images, got {len(decoded.failures)} of {len(samples)} that are not; repair or remove "
            f"them, or add --skip-unreadable. The first:\n{named}"
        )
    training, validation, notes = partition(decoded, recipe)
    if len(np.unique(training.labels)) < 2:
        raise DatasetError(
            f"Expected images of both classes to train on, got {len(training.samples)} of one class only."
        )
    if shared := tested & {sample.patient for sample in decoded.samples}:
        notes.append(
            f"{len(shared)} patients of the test split are also trained on: what that split says is flattered."
        )
    return Prepared(training, validation, decoded.fingerprint(), model_file.encode_seen(decoded.pixels), notes)


def partition(decoded: Decoded, recipe: Recipe) -> tuple[Decoded, Decoded, list[str]]:
    """Choose who is trained on and who is held out to validate.

    The data set's own validation split is used where it has at least `MIN_VALIDATION` images a class and shares no
    patient with the training images; otherwise patients are held out of all images.

    Returns:
        The training images, the validation images, and what the user should know of the choice.
    """
    own = np.array([sample.split == "val" for sample in decoded.samples])
    if not own.any():
        training, validation = splits.hold_out(decoded, recipe.validation_share, recipe.seed)
        return decoded.take(training), decoded.take(validation), []
    counts = np.bincount(decoded.labels[own], minlength=2)
    shared = np.intersect1d(decoded.groups[own], decoded.groups[~own])
    if counts.min() >= MIN_VALIDATION and not len(shared):
        return decoded.take(np.flatnonzero(~own)), decoded.take(np.flatnonzero(own)), []
    reason = (
        f"shares {len(shared)} patients with the training images"
        if len(shared)
        else f"has only {counts[0]} + {counts[1]} images, fewer than {MIN_VALIDATION} of a class"
    )
    training, validation = splits.hold_out(decoded, recipe.validation_share, recipe.seed)
    note = f"The data set's own validation split {reason}; patients were held out of all images instead."
    return decoded.take(training), decoded.take(validation), [note]


def _counted(progress: Progress, what: str, total: int) -> Callable[[], object]:
    done = iter(range(1, total + 1))
    return lambda: progress(what, next(done), total, {})
