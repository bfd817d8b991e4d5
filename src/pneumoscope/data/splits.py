"""Decodes labelled images, and splits them by patient."""

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
from pneumoscope.data.layouts import LABELS, Sample
from pneumoscope.errors import DatasetError, PneumoscopeError
from pneumoscope.imaging import preprocessing, radiograph

WAITING = 512
"""The most images that wait to be decoded or stored."""


@dataclass(frozen=True)
class Decoded:
    """Images read and squashed to one size, kept in memory or in a file.

    Attributes:
        samples: the images that could be read, in order.
        pixels: float16 (N, size, size) in [0, 1]; half precision keeps twice the depth of 8 bits near white.
        groups: (N,), the number of each image's group; a group is never divided by a split.
        failures: the images that could not be read, with the reason.
        parts: the part of each image that its pixels show: all of it, or the inside of an even frame.
    """

    samples: list[Sample]
    pixels: Rows
    groups: NDArray[np.int64]
    failures: list[tuple[Sample, PneumoscopeError]]
    parts: list[preprocessing.Box]

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,), 0 for `NORMAL`, 1 for `PNEUMONIA`."""
        return layouts.labels(self.samples)

    def take(self, chosen: NDArray[np.int64]) -> Decoded:
        """Keep the images at these positions, in this order."""
        images = [self.samples[i] for i in chosen]
        pixels, parts = disk_array.taken(self.pixels, chosen), [self.parts[i] for i in chosen]
        return Decoded(images, pixels, self.groups[chosen], [], parts)

    def fingerprint(self) -> str:
        """Return a sha256 that identifies the data set by its pixels and labels, whatever their order."""
        rows = sorted(image_key(p) + bytes([sample.label]) for sample, p in zip(self.samples, self.pixels, strict=True))
        return hashlib.sha256(b"".join(rows)).hexdigest()


def decode(
    samples: Sequence[Sample], size: int, progress: Callable[[], object] = lambda: None, folder: Path | None = None
) -> Decoded:
    """Read images and squash them to one size.

    Images of the same patient form a group, and so do images with identical pixels, which joins their patients' groups.

    Args:
        samples: the output of `layouts.load`.
        size: the side of the square each image is squashed to, in pixels.
        progress: called after each image.
        folder: a folder for a file that keeps the pixels; by default they are kept in memory.

    Returns:
        The images with their pixels and groups; unreadable ones are listed in `failures`.

    Example:
        >>> decoded = decode(layouts.load("chest_xray"), 160)
    """

    def one(sample: Sample) -> tuple[NDArray[np.float16], preprocessing.Box] | PneumoscopeError:
        try:
            squashed, part = preprocessing.squash(radiograph.read(sample.source, at_least=size).pixels, size)
            return squashed.astype(np.float16), part
        except PneumoscopeError as error:
            return error

    pixels = disk_array.zeros((len(samples), size, size), folder)
    read: list[int] = []
    failures: list[tuple[Sample, PneumoscopeError]] = []
    shown: list[preprocessing.Box] = []
    with ThreadPoolExecutor() as pool:
        parts = (samples[start : start + WAITING] for start in range(0, len(samples), WAITING))
        for i, result in enumerate(result for part in parts for result in pool.map(one, part)):
            if isinstance(result, PneumoscopeError):
                failures.append((samples[i], result))
            else:
                pixels[len(read)], part = result
                shown.append(part)
                read.append(i)
            progress()
    return grouped([samples[i] for i in read], disk_array.taken(pixels, slice(len(read))), shown, failures)


def grouped(
    samples: list[Sample],
    pixels: Rows,
    parts: list[preprocessing.Box],
    failures: list[tuple[Sample, PneumoscopeError]] | None = None,
) -> Decoded:
    """Build a `Decoded` from images that are already read and squashed as `decode` does it, and find their groups.

    Args:
        samples: the images.
        pixels: float16 (N, size, size) in [0, 1], their pixels.
        parts: the part of each image that its pixels show.
        failures: images that could not be read.

    Example:
        >>> pixels = np.zeros((2, 4, 4), np.float16)
        >>> samples = [Sample(Path(name), 0, "a patient") for name in ("a.png", "b.png")]
        >>> grouped(samples, pixels, [preprocessing.Box(0.0, 0.0, 1.0, 1.0)] * 2).groups
        array([0, 0])
    """
    return Decoded(samples, pixels, _groups(samples, pixels), failures or [], parts)


def hold_out(decoded: Decoded, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split images into a larger and a held-out part, keeping groups together and classes in proportion.

    Args:
        decoded: the images.
        fraction: the share to hold out, in (0, 0.5], rounded to the reciprocal of a whole number.
        seed: equal seeds give equal splits.

    Returns:
        The positions of the larger part and of the held-out part, each sorted.

    Raises:
        DatasetError: there are too few groups of one class.

    Example:
        >>> training, validation = hold_out(decoded, 0.5, seed=0)
        >>> sorted([*training.tolist(), *validation.tolist()])
        [0, 1, 2, 3, 4, 5]
    """
    return folds(decoded, max(2, round(1 / fraction)), seed)[0]


def folds(decoded: Decoded, n: int, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Split images `n` times into training and held-out parts, so that every image is held out once.

    Groups stay together; sites, and the classes within them, stay in proportion (`StratifiedGroupKFold`).

    Raises:
        DatasetError: there are fewer than `n` groups of one class.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    y = decoded.labels
    for label, name in enumerate(LABELS):
        found = len(np.unique(decoded.groups[y == label]))
        if found < n:
            raise DatasetError(
                f"Expected at least {n} patients of class {name} for this split, got {found}: give more images, "
                "or name the patients in a CSV if one id covers several."
            )
    splitter = StratifiedGroupKFold(n_splits=n, shuffle=True, random_state=seed)
    sites = np.unique([sample.site for sample in decoded.samples], return_inverse=True)[1]
    pairs = splitter.split(np.zeros(len(y)), 2 * sites + y, decoded.groups)
    return [(np.sort(training), np.sort(held_out)) for training, held_out in pairs]


def image_key(pixels: NDArray[np.floating[Any]]) -> bytes:
    """Return 32 bytes that identify a squashed image by its content; images with identical pixels have the same key.

    Args:
        pixels: (size, size) in [0, 1]; rounded to half precision, as `decode` keeps images.

    Example:
        >>> image_key(np.zeros((2, 2))) == image_key(np.zeros((2, 2), dtype=np.float16))
        True
    """
    return hashlib.sha256(np.ascontiguousarray(pixels, dtype=np.float16).tobytes()).digest()


def connected(pairs: Sequence[tuple[int, int]], n: int) -> NDArray[np.int64]:
    """Number the connected components of a graph.

    Args:
        pairs: the edges, each a pair of node positions.
        n: the number of nodes.

    Returns:
        (n,), the number of each node's component.

    Example:
        >>> connected([(0, 2), (2, 3)], 4).tolist()
        [0, 1, 0, 0]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    links = coo_array((np.ones(len(rows)), (rows, columns)), shape=(n, n))
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)


def _groups(samples: Sequence[Sample], pixels: Rows) -> NDArray[np.int64]:
    """Number the connected sets of images that share a patient or have identical pixels."""
    first: dict[object, int] = {}
    partners = [
        (i, first.setdefault(key, i))
        for i, (sample, image) in enumerate(zip(samples, pixels, strict=True))
        for key in (sample.patient, image_key(image))
    ]
    return connected(partners, len(samples)) if partners else np.zeros(0, dtype=np.int64)
