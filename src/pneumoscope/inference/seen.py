"""Signatures of the training images, to recognise them later without storing their pixels."""

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
"""The length of a signature."""

NEAR = 4
"""The most bits in which the signatures of copies of an image may differ.

Among 3,696 radiographs of two hospitals, signatures of different images differ in at least 21 bits; for 95 % of the
copies at another size and quality, at most 4 bits differ."""

SIDE = hog.SIDE
"""The side, in pixels, of the image that a signature is computed from."""

_LOWEST, _HIGHEST, _WHITENING = 12.0, 32.0, 1.5
"""The range of the cosine frequencies used, in half periods per side, and the exponent that whitens their amplitudes.
Lower frequencies dominate every image, and are similar in all chests."""

_KIND = f"{BITS}:"
"""The prefix of encoded signatures."""


def signature(pixels: NDArray[np.floating[Any]]) -> bytes:
    """Compute a perceptual hash, which is nearly the same for resized or compressed copies of an image.

    Each bit is the sign of a random sum of cosine coefficients (Charikar 2002, "Similarity estimation techniques from
    rounding algorithms"). A hash of the pixels would change whenever a processor rounds a last bit differently.

    Args:
        pixels: (S, S) in [0, 1], or the output of `hog.small`.

    Returns:
        `BITS` bits, eight to a byte.

    Example:
        >>> image = np.random.default_rng(0).random((128, 128))
        >>> signature(image) == signature(image + 1e-6)
        True
    """
    waves, counted, sums = _projection()
    return np.packbits(sums @ (waves @ hog.small(pixels) @ waves.T)[counted] > 0.0).tobytes()


@cache
def _projection() -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
    """Return the cosine basis (SIDE, SIDE), the mask of the n coefficients used, and their random weights (BITS, n)."""
    k = np.arange(SIDE)
    waves = np.cos(np.pi / SIDE * (k + 0.5) * k[:, None])
    frequency = np.hypot(k, k[:, None])
    counted = (frequency >= _LOWEST) & (frequency < _HIGHEST)
    n = int(counted.sum())
    # These signs must never change, because every model file depends on them; hence no library's random numbers.
    drawn = np.frombuffer(hashlib.shake_256(b"pneumoscope").digest(-(-n * BITS // 8)), np.uint8)
    signs = 2.0 * np.unpackbits(drawn)[: n * BITS].reshape(BITS, n) - 1.0
    return waves.astype(np.float32), counted, (signs * frequency[counted] ** _WHITENING).astype(np.float32)


def encode(images: Iterable[NDArray[np.floating[Any]]], earlier: str = "") -> str:
    """Encode the signatures of images (S, S), and add those of `earlier`, an earlier encoding.

    Example:
        >>> encode([np.eye(64)]).startswith("128:")
        True
    """
    together = {signature(image) for image in images} | {row.tobytes() for row in decode(earlier)}
    return _KIND + base64.b64encode(b"".join(sorted(together))).decode("ascii")


def decode(text: str) -> NDArray[np.uint64]:
    """Decode the output of `encode`: signatures, (N, `BITS` / 64).

    The hashes in files of version 0.1 depend on the processor and are ignored.
    """
    coded = text.removeprefix(_KIND) if text.startswith(_KIND) else ""
    return np.frombuffer(base64.b64decode(coded), np.uint64).reshape(-1, BITS // 64)


def is_among(signatures: NDArray[np.uint64], image: NDArray[np.floating[Any]]) -> bool:
    """Return whether an image (S, S), or a copy of it, is among those with these signatures (N, `BITS` / 64).

    Example:
        >>> is_among(decode(encode([np.eye(64)])), np.eye(64))
        True
    """
    own = np.frombuffer(signature(image), np.uint64)
    first = np.bitwise_count(signatures[:, 0] ^ own[0]) <= NEAR  # a quick preselection by the first 64 bits
    return bool((_distances(signatures[first], own) <= NEAR).any())


def distances(signatures: NDArray[np.uint64], image: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Count the bits in which the signature of an image (S, S) differs from these (N, `BITS` / 64): (N,)."""
    return _distances(signatures, np.frombuffer(signature(image), np.uint64))


def _distances(signatures: NDArray[np.uint64], own: NDArray[np.uint64]) -> NDArray[np.int64]:
    counts = np.bitwise_count(signatures ^ own).T
    return np.asarray(sum(column.astype(np.int64) for column in counts))  # three times as fast as a sum over rows
