"""Arrays that do not fit into memory, kept in an unnamed temporary file and read on demand."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pneumoscope.errors import TrainingError

SHARE = 0.4
"""The share of the memory that images may take before they are kept in a file."""


class Rows(Protocol):
    """N arrays of the same shape, in memory or `Stored`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N, followed by the shape of each array."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of each array."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...

    def __getitem__(self, chosen: Any, /) -> Any: ...  # noqa: ANN401 - whatever `Stored` or NumPy accepts

    def __array__(self) -> NDArray[Any]: ...


class _Nameless:
    """An unnamed file, which is closed when nothing refers to it."""

    def __init__(self, folder: Path) -> None:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            self.descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self.descriptor)


class Stored:
    """Arrays of half precision in a file that disappears with the process.

    Args:
        folder: the folder for the file, on a file system with enough space.
        shape: N, followed by the shape of each array.

    Attributes:
        shape, folder: as above.
        dtype: float16.

    Raises:
        TrainingError: there is not enough space, or no such folder.

    Example:
        >>> stored = Stored(Path("/tmp"), (3, 2, 2))
        >>> stored[1] = np.ones((2, 2))
        >>> stored[np.array([1, 0])].sum(axis=(1, 2)).tolist()
        [4.0, 0.0]
    """

    dtype = np.dtype(np.float16)

    def __init__(self, folder: Path, shape: tuple[int, ...]) -> None:
        self.shape, self.folder = shape, folder
        self._size = math.prod(shape[1:]) * self.dtype.itemsize
        self._places = np.arange(shape[0])
        needed = shape[0] * self._size
        try:
            free = shutil.disk_usage(folder).free
            self._file = _Nameless(folder)
        except OSError as error:
            raise TrainingError(
                f"Expected a folder for decoded images at '{folder}', got: {error.strerror}. Choose another folder."
            ) from error
        if free < needed:
            raise TrainingError(
                f"Expected {needed / 1e9:.1f} GB for decoded images in '{folder}', got {free / 1e9:.1f} GB: choose "
                "another folder."
            )
        os.truncate(self._file.descriptor, needed)

    def __len__(self) -> int:
        return len(self._places)

    def __setitem__(self, i: int, values: NDArray[Any]) -> None:
        os.pwrite(self._file.descriptor, values.astype(self.dtype).tobytes(), int(self._places[i]) * self._size)

    def __getitem__(self, chosen: int | slice | NDArray[np.int64]) -> NDArray[np.float16]:
        """Read one array, or those at a slice or at positions: (n, ...)."""
        places = self._places[chosen]
        read = [os.pread(self._file.descriptor, self._size, int(place) * self._size) for place in np.atleast_1d(places)]
        return np.frombuffer(b"".join(read), self.dtype).reshape(*np.shape(places), *self.shape[1:])

    def __iter__(self) -> Iterator[NDArray[np.float16]]:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:  # noqa: ANN401 - NumPy's protocol
        return self[:].astype(dtype or self.dtype)

    def take(self, chosen: slice | NDArray[np.int64]) -> Stored:
        """Select the arrays at these positions, in this order, without reading them."""
        some = copy(self)
        some._places = self._places[chosen]
        some.shape = (len(some._places), *self.shape[1:])
        return some


def zeros(shape: tuple[int, ...], folder: Path | None) -> NDArray[np.float16] | Stored:
    """Allocate arrays in memory, or in a file in `folder`."""
    return np.zeros(shape, dtype=np.float16) if folder is None else Stored(folder, shape)


def like(rows: Rows, shape: tuple[int, ...]) -> NDArray[np.float16] | Stored:
    """Allocate arrays where `rows` are: in memory, or in another file in the same folder."""
    return zeros(shape, rows.folder if isinstance(rows, Stored) else None)


def taken(rows: Rows, chosen: slice | NDArray[np.int64]) -> Rows:
    """Select the arrays at these positions, in this order; those in a file stay there."""
    kept: Rows = rows.take(chosen) if isinstance(rows, Stored) else rows[chosen]
    return kept


def too_many(shape: tuple[int, ...]) -> bool:
    """Return whether arrays of half precision would take more than `SHARE` of the memory available to this process."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    group = Path("/sys/fs/cgroup/memory.max")  # a container's own limit, where it has one
    if group.is_file() and (text := group.read_text(encoding="ascii").strip()).isdecimal():
        limits.append(int(text))
    return math.prod(shape) * 2 > SHARE * min(limits)
