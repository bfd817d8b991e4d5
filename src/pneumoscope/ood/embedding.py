"""Out-of-distribution detection: how far an image is from the training images in the network's embedding."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pneumoscope.errors import ModelFileError
from pneumoscope.metrics import metrics
from pneumoscope.ood import sites

COMPONENTS = 32
"""How many principal directions of the training embeddings are kept; with 64, images merely resized look unusual."""

USUAL = 0.99
"""The share of held-out images, with and without corruptions, that lie within the limit."""

ENOUGH = 100
"""The least number of held-out images: with fewer, no limit can guarantee that at most `1 - USUAL` exceed it."""

FEW = 20
"""With fewer images, the share of unusual ones is meaningless."""

SHIFTED = 3 * (1 - USUAL)
"""A site is unlike the training images if the interval of its share of unusual images lies entirely above this."""


@dataclass(frozen=True)
class Gate:
    """The subspace of the training images' embeddings, and how far from it an image may be.

    Attributes:
        mean: (d,), the mean of the training embeddings.
        components: (k, d), their principal directions, orthonormal.
        scale: the mean squared distance of the training images from the subspace.
        limit: the distance that the share `USUAL` of the held-out images does not exceed.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    scale: float
    limit: float

    def distances(self, embeddings: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Measure how far embeddings (N, d) are from the subspace: (N,), 1 for a training image on average.

        The distance is the squared error of reconstruction from the principal components: an image with features that
        the training images do not explain is far away, however confident the finding (Wang et al. 2022, "ViM:
        Out-Of-Distribution with Virtual-logit Matching", section 4, without its logit).

        Example:
            >>> gate = Gate(np.zeros(2, np.float32), np.array([[1, 0]], np.float32), 1.0, 1.0)
            >>> gate.distances(np.array([[5.0, 0.0], [5.0, 2.0]])).tolist()
            [0.0, 4.0]
        """
        centred = np.asarray(embeddings, dtype=np.float64) - self.mean
        within = centred @ self.components.T.astype(np.float64)
        return np.asarray(np.maximum((centred**2).sum(axis=1) - (within**2).sum(axis=1), 0.0) / self.scale)

    def as_dict(self) -> dict[str, Any]:
        """Return the entry for the model file's card, with arrays in half precision and base 64."""
        return {
            "mean": encoded(self.mean),
            "components": encoded(self.components),
            "scale": self.scale,
            "limit": self.limit,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Gate:
        """Create the gate from the output of `as_dict`.

        Raises:
            ModelFileError: the values have another layout.
        """
        try:
            mean = decoded(values["mean"])
            components = decoded(values["components"]).reshape(-1, len(mean))
            return cls(mean, components, float(values["scale"]), float(values["limit"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"Expected a gate in the model file's card, got something else ({error}).") from error


def fit(
    training: NDArray[np.floating[Any]],
    held_out: NDArray[np.floating[Any]],
    *,
    training_sites: NDArray[Any] | None = None,
    held_out_sites: NDArray[Any] | None = None,
) -> Gate:
    """Fit the subspace and the limit.

    Args:
        training: (N, d), embeddings of the training images, N > 1, with and without corruptions such as another scanner
            or exporter causes; otherwise an image that another program has resized would be unusual.
        held_out: (M, d), likewise of patients the network was not trained on; they set the limit, and at least `ENOUGH`
            are advisable.
        training_sites: (N,), the site of each image; sites count equally. None if there is only one.
        held_out_sites: (M,), likewise; the limit holds at each site.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> gate = fit(rng.normal(size=(500, 8)) * [9, 1, 1, 1, 1, 1, 1, 1], rng.normal(size=(500, 8)))
        >>> gate.components.shape
        (7, 8)
    """
    weight = np.ones(len(training)) if training_sites is None else sites.weights(training_sites)
    mean = np.average(np.asarray(training, dtype=np.float64), axis=0, weights=weight)
    _, spread, directions = np.linalg.svd((training - mean) * np.sqrt(weight)[:, None], full_matrices=False)
    kept = min(COMPONENTS, len(directions) - 1)
    # Rounded as in the model file, so that the limit holds for it.
    mean, components = mean.astype(np.float16), directions[:kept].astype(np.float16)
    scale = max(float((spread[kept:] ** 2).sum() / len(training)), 1e-12)
    gate = Gate(mean.astype(np.float32), components.astype(np.float32), scale, np.inf)
    return replace(gate, limit=sites.limit(gate.distances(held_out), held_out_sites, 1.0 - USUAL))


def site_shift(unusual: Iterable[bool]) -> str | None:
    """Warn if a site's images are unlike the training images; no labels are needed.

    Args:
        unusual: for each image, whether it lies beyond the limit.

    Returns:
        The warning if the interval of the share of unusual images lies above `SHIFTED`; None otherwise, and with fewer
        than `FEW` images.

    Example:
        >>> site_shift([False] * 99 + [True])
        >>> site_shift([False] * 50 + [True] * 50)[:64]
        '50 of 100 images (0.500, 0.404–0.596) are unlike the images the '
    """
    flags = list(unusual)
    share = metrics.wilson(sum(flags), len(flags))
    if len(flags) < FEW or share.low <= SHIFTED:
        return None
    figures = str(share).replace(" (", ", ")
    return (
        f"{sum(flags)} of {len(flags)} images ({figures} are unlike the images the model was trained on, against "
        f"{1 - USUAL:.0%} of other patients of the hospitals it was trained on. Its findings and probabilities may be "
        "off here: evaluate it on labelled images of this site, and calibrate it on such images if not yet done."
    )


def encoded(values: NDArray[np.floating[Any]]) -> str:
    """Encode an array for the card: half precision, in base 64."""
    return base64.b64encode(values.astype(np.float16).tobytes()).decode("ascii")


def decoded(text: str) -> NDArray[np.float32]:
    """Decode the output of `encoded`: (n,)."""
    return np.frombuffer(base64.b64decode(text), dtype=np.float16).astype(np.float32)
