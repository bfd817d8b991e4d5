"""The films of a training: read, and some patients held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pneumoscope.data import disk_array, layouts, splits
from pneumoscope.data.layouts import Film
from pneumoscope.data.splits import Decoded
from pneumoscope.errors import DatasetError
from pneumoscope.inference import model_file
from pneumoscope.training import sampling
from pneumoscope.training.loop import Progress
from pneumoscope.training.recipe import Recipe

MIN_VALIDATION = 20
"""A validation split with fewer films of a class says too little to choose an epoch by (Kaggle's has 8)."""


@dataclass(frozen=True)
class Prepared:
    """The films of a training.

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
    data: str | Path | Sequence[str | Path] | Sequence[Film],
    recipe: Recipe,
    skip_unreadable: bool,
    progress: Progress,
    out: Path,
    cache: str | Path | None,
) -> Prepared:
    """Read the films and hold patients out.

    Args:
        data: what `layouts.load` takes, or films; those of a `test` split are left alone.
        recipe: how large they are decoded, and how many are held out.
        skip_unreadable: leave out films that cannot be read instead of refusing.
        progress: told of each film.
        out: the run's folder; a file there holds films that are too many for memory.
        cache: a folder for that file, whether they are too many or not.

    Raises:
        DatasetError: the films cannot be trained on.

    Example:
        >>> films = prepare("chest_xray", Recipe(), False, lambda *_: None, Path("run"), None)  # doctest: +SKIP
    """
    films = loaded(data)
    tested = {film.patient for film in films if film.split == "test"}
    films = [film for film in films if film.split != "test"]
    folder = None if cache is None else Path(cache)
    if folder is None and disk_array.too_many((len(films), recipe.size, recipe.size)):
        out.mkdir(parents=True, exist_ok=True)
        folder = out
    decoded = splits.decode(films, recipe.size, _counted(progress, "reading films", len(films)), folder)
    if decoded.failures and not skip_unreadable:
        named = "\n".join(f"  {film.path}: {error}" for film, error in decoded.failures[:5])
        raise DatasetError(
            f"Expected readable films, got {len(decoded.failures)} of {len(films)} that are not; repair or remove "
            f"them, or add --skip-unreadable. The first:\n{named}"
        )
    training, validation, notes = partition(decoded, recipe)
    notes += sampling.warnings(training.films)
    if len(np.unique(training.labels)) < 2:
        raise DatasetError(f"Expected films of both classes to train on, got {len(training.films)} of one class only.")
    if shared := tested & {film.patient for film in decoded.films}:
        notes.append(
            f"{len(shared)} patients of the test split are also trained on: what that split says is flattered."
        )
    return Prepared(training, validation, decoded.fingerprint(), model_file.encode_seen(decoded.pixels), notes)


def loaded(data: str | Path | Sequence[str | Path] | Sequence[Film]) -> list[Film]:
    """List the images of a data set, of several, or those given."""
    if isinstance(data, (str, Path)):
        return layouts.load(data)
    items = list(data)
    paths = [item for item in items if isinstance(item, (str, Path))]
    return layouts.load(paths) if paths else [item for item in items if isinstance(item, Film)]


def without(films: Sequence[Film], site: str) -> tuple[list[Film], list[Film]]:
    """Divide images into those of the other sites, to train on, and those of one site, to measure at.

    Raises:
        DatasetError: there is no such site, or no other.

    Example:
        >>> rest, left_out = without([Film(Path("a"), 0, "a", site="A"), Film(Path("b"), 1, "b", site="B")], "B")
        >>> [film.site for film in rest], [film.site for film in left_out]
        (['A'], ['B'])
    """
    sites = sorted({film.site for film in films})
    if site not in sites:
        raise DatasetError(f"Expected one of the sites {', '.join(sites)} to leave out, got '{site}'.")
    if len(sites) == 1:
        raise DatasetError(f"Expected another site to train on, got '{site}' alone: name a second data set.")
    return [film for film in films if film.site != site], [film for film in films if film.site == site]


def partition(decoded: Decoded, recipe: Recipe) -> tuple[Decoded, Decoded, list[str]]:
    """Choose, at each site, who is trained on and who is held out to validate.

    A site's own validation split is used where it has at least `MIN_VALIDATION` films a class and shares no patient
    with the training films; otherwise patients are held out of all its films.

    Returns:
        The training films, the validation films, and what the user should know of the choice.
    """
    sites = np.array([film.site for film in decoded.films])
    own = np.array([film.split == "val" for film in decoded.films])
    validation, notes = np.zeros(len(sites), dtype=bool), []
    drawn = np.zeros(len(sites), dtype=bool)  # the images of sites out of which patients are held
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
                f"The data set's own validation split{name} {reason}; patients were held out of all films instead."
            )
    if drawn.any():
        places = np.flatnonzero(drawn)
        _, held_out = splits.hold_out(decoded.take(places), recipe.validation_share, recipe.seed)
        validation[places[held_out]] = True
        validation |= np.isin(decoded.groups, decoded.groups[validation])  # groups that reach over several sites
    return decoded.take(np.flatnonzero(~validation)), decoded.take(np.flatnonzero(validation)), notes


def _unusable(decoded: Decoded, own: NDArray[np.bool_], others: NDArray[np.bool_]) -> str | None:
    """Say why a site's own validation images will not do; None where they will."""
    if not own.any():
        return "is empty"
    counts = np.bincount(decoded.labels[own], minlength=2)
    shared = np.intersect1d(decoded.groups[own], decoded.groups[others])
    if len(shared):
        return f"shares {len(shared)} patients with the training films"
    if counts.min() < MIN_VALIDATION:
        return f"has only {counts[0]} + {counts[1]} films, fewer than {MIN_VALIDATION} of a class"
    return None


def _counted(progress: Progress, what: str, total: int) -> Callable[[], object]:
    done = iter(range(1, total + 1))
    return lambda: progress(what, next(done), total, {})
