"""The images a model was trained on, remembered without their pixels, and found again when they come back."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pneumoscope.ood import hog

BITS = 128
"""Of a signature."""

NEAR = 4
"""Bits in which the signatures of one image may differ.

Of 3,696 radiographs of two hospitals no two different ones differ in fewer than 21; copies of one at another size and
quality differ in 4 at most, 95 of 100."""

SIDE = hog.SIDE
"""Pixels a side that a signature is made from."""

_LOWEST, _HIGHEST, _WHITENING = 12.0, 32.0, 1.5
"""The cosine waves that count, in half periods a side, and the power of their frequency that brings them to one size:
slower ones are much alike from chest to chest, and stronger than all else."""

_KIND = f"{BITS}:"
"""What a text of signatures begins with."""


def signature(pixels: NDArray[np.floating[Any]]) -> bytes:
    """Name an image by what it shows: alike for copies of it, however they were rounded, resized or compressed.

    Each bit is the sign of a random sum of its cosine waves (Charikar 2002, "Similarity estimation techniques from
    rounding algorithms"). A hash of the pixels would be another one wherever a processor rounds a last bit another way.

    Args:
        pixels: (S, S) in [0, 1]; or what `hog.small` gave of it.

    Returns:
        `BITS` bits, eight a byte.

    Example:
        >>> image = np.random.default_rng(0).random((128, 128))
        >>> signature(image) == signature(image + 1e-6)
        True
    """
    waves, counted, sums = _projection()
    return np.packbits(sums @ (waves @ hog.small(pixels) @ waves.T)[counted] > 0.0).tobytes()


@cache
def _projection() -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
    """Give the cosine waves (SIDE, SIDE), which pairs of them count, and the random sums (BITS, n) of those."""
    k = np.arange(SIDE)
    waves = np.cos(np.pi / SIDE * (k + 0.5) * k[:, None])
    frequency = np.hypot(k, k[:, None])
    counted = (frequency >= _LOWEST) & (frequency < _HIGHEST)
    n = int(counted.sum())
    # Signs that no release of any library changes: they hold for every model file there is.
    drawn = np.frombuffer(hashlib.shake_256(b"pneumoscope").digest(-(-n * BITS // 8)), np.uint8)
    signs = 2.0 * np.unpackbits(drawn)[: n * BITS].reshape(BITS, n) - 1.0
    return waves.astype(np.float32), counted, (signs * frequency[counted] ** _WHITENING).astype(np.float32)


def encode(images: Iterable[NDArray[np.floating[Any]]], earlier: str = "") -> str:
    """Write down which images (S, S) a model has seen; `earlier` is what it had seen before.

    Example:
        >>> encode([np.eye(64)]).startswith("128:")
        True
    """
    together = {signature(image) for image in images} | {row.tobytes() for row in decode(earlier)}
    return _KIND + base64.b64encode(b"".join(sorted(together))).decode("ascii")


def decode(text: str) -> NDArray[np.uint64]:
    """Read what `encode` wrote: signatures, (N, `BITS` / 64).

    What files of version 0.1 hold, hashes that other processors do not find again, gives none.
    """
    coded = text.removeprefix(_KIND) if text.startswith(_KIND) else ""
    return np.frombuffer(base64.b64decode(coded), np.uint64).reshape(-1, BITS // 64)


def is_among(signatures: NDArray[np.uint64], image: NDArray[np.floating[Any]]) -> bool:
    """Say whether an image (S, S), or a copy of it, is among those with these signatures (N, `BITS` / 64).

    Example:
        >>> is_among(decode(encode([np.eye(64)])), np.eye(64))
        True
    """
    own = np.frombuffer(signature(image), np.uint64)
    first = np.bitwise_count(signatures[:, 0] ^ own[0]) <= NEAR  # of a few, if any, the others count, too
    return bool((_distances(signatures[first], own) <= NEAR).any())


def distances(signatures: NDArray[np.uint64], image: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Count the bits in which the signature of an image (S, S) differs from these (N, `BITS` / 64): (N,)."""
    return _distances(signatures, np.frombuffer(signature(image), np.uint64))


def _distances(signatures: NDArray[np.uint64], own: NDArray[np.uint64]) -> NDArray[np.int64]:
    counts = np.bitwise_count(signatures ^ own).T
    return np.asarray(sum(column.astype(np.int64) for column in counts))  # measured: a third of a sum over short rows
