"""Labelled films decoded, and splits of them that keep patients whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pneumoscope.data import disk_array, layouts
from pneumoscope.data.disk_array import Rows
from pneumoscope.data.layouts import LABELS, Film
from pneumoscope.errors import DatasetError, PneumoscopeError
from pneumoscope.imaging import preprocessing, radiograph

WAITING = 512
"""Films, at most, that wait to be decoded or to be kept."""


@dataclass(frozen=True)
class Decoded:
    """Films read and squashed to one size, kept in memory or in a file.

    Attributes:
        films: the films that could be read, in order.
        pixels: float16 (N, size, size) in [0, 1]; half precision keeps twice the depth of 8 bits near white.
        groups: (N,), the number of each film's group; a group is split only as a whole.
        parts: the part of each film that its pixels show: all of it, or what lies within an even frame.
        failures: the films that could not be read, with the reason.
    """

    films: list[Film]
    pixels: Rows
    groups: NDArray[np.int64]
    failures: list[tuple[Film, PneumoscopeError]]
    parts: list[preprocessing.Box]

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,), 0 for `NORMAL`, 1 for `PNEUMONIA`."""
        return layouts.labels(self.films)

    def take(self, chosen: NDArray[np.int64]) -> Decoded:
        """Keep the films at these positions, in this order."""
        films = [self.films[i] for i in chosen]
        pixels, parts = disk_array.taken(self.pixels, chosen), [self.parts[i] for i in chosen]
        return Decoded(films, pixels, self.groups[chosen], [], parts)

    def fingerprint(self) -> str:
        """Name this data set by its content: sha256 over each film's pixels and label, whatever the order."""
        rows = sorted(picture_key(p) + bytes([film.label]) for film, p in zip(self.films, self.pixels, strict=True))
        return hashlib.sha256(b"".join(rows)).hexdigest()


def decode(
    films: Sequence[Film], size: int, progress: Callable[[], object] = lambda: None, folder: Path | None = None
) -> Decoded:
    """Read films once and keep them small.

    Films of one patient form a group; so do films that are identical to the pixel, and through them their patients.

    Args:
        films: what `layouts.load` gave.
        size: the side of the square each film is squashed to, in pixels.
        progress: called after each film.
        folder: for a file to keep them in; without one they are kept in memory.

    Returns:
        The films with their pixels and groups; unreadable ones are listed in `failures`.

    Example:
        >>> decoded = decode(layouts.load("chest_xray"), 160)  # doctest: +SKIP
    """

    def one(film: Film) -> tuple[NDArray[np.float16], preprocessing.Box] | PneumoscopeError:
        try:
            squashed, part = preprocessing.squash(radiograph.read(film.source, at_least=size).pixels, size)
            return squashed.astype(np.float16), part
        except PneumoscopeError as error:
            return error

    pixels = disk_array.zeros((len(films), size, size), folder)
    read: list[int] = []
    failures: list[tuple[Film, PneumoscopeError]] = []
    shown: list[preprocessing.Box] = []
    with ThreadPoolExecutor() as pool:
        parts = (films[start : start + WAITING] for start in range(0, len(films), WAITING))
        for i, result in enumerate(result for part in parts for result in pool.map(one, part)):
            if isinstance(result, PneumoscopeError):
                failures.append((films[i], result))
            else:
                pixels[len(read)], part = result
                shown.append(part)
                read.append(i)
            progress()
    kept = [films[i] for i in read]
    whole = disk_array.taken(pixels, slice(len(read)))
    return Decoded(kept, whole, _groups(kept, whole), failures, shown)


def hold_out(decoded: Decoded, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split films into a larger and a held-out part: groups whole, classes in proportion.

    Args:
        decoded: the films.
        fraction: the share to hold out, in (0, 0.5], rounded to one over a whole number.
        seed: equal seeds give equal splits.

    Returns:
        The positions of the larger part and those of the held-out part, each sorted.

    Raises:
        DatasetError: too few groups of one class.

    Example:
        >>> training, validation = hold_out(decoded, 0.2, seed=0)  # doctest: +SKIP
    """
    return folds(decoded, max(2, round(1 / fraction)), seed)[0]


def folds(decoded: Decoded, n: int, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Split films `n` times into training and held-out parts; every film is held out once.

    Groups stay whole; sites, and the classes within them, stay in proportion (scikit-learn's `StratifiedGroupKFold`).

    Raises:
        DatasetError: fewer than `n` groups of one class.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    y = decoded.labels
    for label, name in enumerate(LABELS):
        found = len(np.unique(decoded.groups[y == label]))
        if found < n:
            raise DatasetError(
                f"Expected at least {n} patients of class {name} for this split, got {found}: give more films, "
                "or name the patients in a CSV if one id covers several."
            )
    splitter = StratifiedGroupKFold(n_splits=n, shuffle=True, random_state=seed)
    sites = np.unique([film.site for film in decoded.films], return_inverse=True)[1]
    pairs = splitter.split(np.zeros(len(y)), 2 * sites + y, decoded.groups)
    return [(np.sort(training), np.sort(held_out)) for training, held_out in pairs]


def picture_key(pixels: NDArray[np.floating[Any]]) -> bytes:
    """Name a squashed film by its content: 32 bytes, equal for films that are equal to the pixel.

    Args:
        pixels: (size, size) in [0, 1]; rounded to half precision, as `decode` keeps films.

    Example:
        >>> picture_key(np.zeros((2, 2))) == picture_key(np.zeros((2, 2), dtype=np.float16))
        True
    """
    return hashlib.sha256(np.ascontiguousarray(pixels, dtype=np.float16).tobytes()).digest()


def connected(pairs: Sequence[tuple[int, int]], n: int) -> NDArray[np.int64]:
    """Number the sets of things that hang together by pairs.

    Args:
        pairs: positions of two things each.
        n: how many things there are.

    Returns:
        (N,), the number of each thing's set.

    Example:
        >>> connected([(0, 2), (2, 3)], 4).tolist()
        [0, 1, 0, 0]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    links = coo_array((np.ones(len(rows)), (rows, columns)), shape=(n, n))
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)


def _groups(films: Sequence[Film], pixels: Rows) -> NDArray[np.int64]:
    """Number the connected sets of films that share a patient or every pixel."""
    first: dict[object, int] = {}
    partners = [
        (i, first.setdefault(key, i))
        for i, (film, picture) in enumerate(zip(films, pixels, strict=True))
        for key in (film.patient, picture_key(picture))
    ]
    return connected(partners, len(films)) if partners else np.zeros(0, dtype=np.int64)
