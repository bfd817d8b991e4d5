"""The batches of an epoch: the order of the images, their augmentation and their weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pneumoscope.data import layouts
from pneumoscope.data.disk_array import Rows
from pneumoscope.data.layouts import Sample
from pneumoscope.networks import architectures
from pneumoscope.networks.backend import keras
from pneumoscope.training import augmentation, distributed
from pneumoscope.training.recipe import Recipe


@dataclass(frozen=True)
class Examples:
    """The examples that a phase trains or validates on.

    Attributes:
        inputs: images (N, S, S) or their features (N, h, w, d).
        samples: the N samples.
        boxes: float16 (N, g, g), the share of each cell that boxes cover; None if no image has any.
        boxed: (N,), whether `boxes` is complete for an image: it has boxes, or shows no finding.
    """

    inputs: Rows
    samples: Sequence[Sample]
    boxes: NDArray[np.float16] | None = None
    boxed: NDArray[np.bool_] | None = None

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,), 0 for `NORMAL`, 1 for `PNEUMONIA`."""
        return layouts.labels(self.samples)


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """This host's part of the batches of an epoch, in a given order and augmented.

    If the devices cannot share a batch evenly, its first image is repeated with weight 0, so that loss and gradients
    stay those of the batch. Only the training accuracy and AUC, which decide nothing, count it again.

    Args:
        examples: the examples to train on.
        weights: (2,), the weight of each label.
        order: the positions of each batch's images.
        recipe: how they are augmented.
        seed: the seed of the augmentation; each position in the epoch has its own random numbers.
        cells: whether to train on boxes.
    """

    def __init__(
        self,
        examples: Examples,
        weights: NDArray[np.float64],
        order: Sequence[NDArray[np.int64]],
        recipe: Recipe,
        seed: int,
        cells: bool,
    ) -> None:
        super().__init__(workers=2, max_queue_size=8)
        self.examples, self.weights, self.order = examples, weights, order
        self.recipe, self.seed, self.cells = recipe, seed, cells
        self.y = examples.labels
        self.targets = np.where([sample.other for sample in examples.samples], recipe.other_target, self.y)
        self.share = distributed.share()

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(
        self, i: int
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
        share, batch = self.share, self.order[i]
        padded = share.padded(batch)
        places = share.own(np.arange(len(padded)))
        chosen = padded[places]
        real = places < len(batch)
        images, boxes, hidden = self._augmented(i, places, padded)
        # Keras divides the loss by the padded size of the batch.
        weights = self.weights[self.y[chosen]] * real * (len(padded) / len(batch))
        targets = {"logit": np.where(hidden, 0.5, self.targets[chosen])[:, None].astype(np.float32)}
        weighed = {"logit": weights.astype(np.float32)}
        if self.cells and boxes is not None and self.examples.boxed is not None:
            known = self.examples.boxed[padded]
            targets["cells"] = boxes
            told = known[places] & real & ~hidden
            weighed["cells"] = (told * (len(padded) / max(1, int(known.sum())))).astype(np.float32)
        return as_batch(images), targets, weighed

    def _augmented(
        self, i: int, places: NDArray[np.int64], batch: NDArray[np.int64]
    ) -> tuple[NDArray[Any], NDArray[np.float32] | None, NDArray[np.bool_]]:
        """Return an augmented batch: images, cells (n, h * w) that boxes cover, and whether each thorax is hidden."""
        inputs, boxes, strength = self.examples.inputs, self.examples.boxes, self.recipe.augmentation
        if len(inputs.shape) > 3 or strength == augmentation.NONE:
            cells = None if boxes is None else _cells(boxes[batch[places]].astype(np.float32))
            return inputs[batch[places]], cells, np.zeros(len(places), dtype=bool)
        made = []
        for place in places:
            rng = np.random.default_rng([self.seed, i, int(place)])
            image, other = (inputs[batch[[at]]][0] for at in (place, rng.integers(len(self.order[i]))))
            covered = np.zeros((1, 1), np.float32) if boxes is None else boxes[batch[place]].astype(np.float32)
            made.append(augmentation.augment(image, covered, other, strength, rng))
        images, covers, hidden = (np.stack(parts) for parts in zip(*made, strict=True))
        return images, None if boxes is None else _cells(covers), hidden

    def images_until(self, i: int) -> int:
        """Count the images up to and including a batch."""
        return sum(map(len, self.order[: i + 1]))


def _cells(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average boxes (n, g, g) over each cell of `architectures.CELL` x `architectures.CELL`: (n, h * w)."""
    n, g = boxes.shape[:2]
    side = architectures.CELL
    cells = boxes.reshape(n, g // side, side, g // side, side).mean(axis=(2, 4))
    return np.asarray(cells.reshape(n, -1), dtype=np.float32)


def class_weights(y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weight each class by the inverse of its share, so that both have the same total weight: (2,).

    Example:
        >>> class_weights(np.array([0, 1, 1, 1])).round(2).tolist()
        [2.0, 0.67]
    """
    return np.asarray(len(y) / (2.0 * np.bincount(y, minlength=2)))


def epoch_order(y: NDArray[np.int64], imbalance: str, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the order of an epoch: every image once, or the classes balanced by repeating or leaving out images.

    Example:
        >>> sorted(epoch_order(np.array([0, 1, 1]), "oversample", np.random.default_rng(0)).tolist())
        [0, 0, 1, 2]
    """
    members = [np.flatnonzero(y == label) for label in (0, 1)]
    if imbalance in ("oversample", "undersample"):
        sizes = [len(m) for m in members]
        n = max(sizes) if imbalance == "oversample" else min(sizes)
        members = [np.concatenate([np.tile(m, n // len(m)), rng.choice(m, n % len(m), replace=False)]) for m in members]
    return rng.permutation(np.concatenate(members))


def as_batch(inputs: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Add the channel axis that networks expect to images (N, S, S); features (N, h, w, d) already have one."""
    return (inputs[..., None] if inputs.ndim == 3 else inputs).astype(np.float32)
