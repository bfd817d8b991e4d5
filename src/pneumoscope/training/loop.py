"""The epochs of a training: what one does, what the next one learns from it, and how a broken run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from pneumoscope.atomic import replacing
from pneumoscope.data.disk_array import Rows
from pneumoscope.errors import TrainingError
from pneumoscope.metrics import metrics
from pneumoscope.training import distributed, history
from pneumoscope.training.recipe import Recipe

Progress = Callable[[str, int, int, Mapping[str, float]], object]
"""Called as `progress(what, done, total, figures)`."""

BATCH = 64
"""Images that go through a network at once on each device where it is not trained."""


class Checkpoint:
    """The state of a run, on disk after every epoch: the history, all weights, the optimizer, the best weights.

    Args:
        out: the run's folder; a `checkpoint.npz` in it is taken up.
        network: whose weights they are.
        told: given each row of the history, those taken up too.

    Attributes:
        history: an epoch a row.
    """

    def __init__(
        self, out: Path, network: keras.Model, told: Callable[[Mapping[str, Any]], object] = lambda _: None
    ) -> None:
        self.out = out
        self.network = network
        self.told = told
        self.path = out / "checkpoint.npz"
        self.history: list[dict[str, Any]] = []
        self.best: list[NDArray[Any]] = []
        self._state: dict[str, NDArray[Any]] = {}
        if self.path.exists():
            with np.load(self.path, allow_pickle=False) as saved:
                self._state = dict(saved)
            self.history = json.loads(str(self._state["history"]))
            self.best = _unpacked(self._state, "best")
            if distributed.share().host == 0:
                history.write(self.history, out)  # a kill may have come between the checkpoint and them
            for row in self.history:
                told(row)

    def rows(self, phase: str) -> list[dict[str, Any]]:
        """Give the history of one phase."""
        return [row for row in self.history if row["phase"] == phase]

    def restore(self, phase: str, optimizer: keras.Optimizer) -> None:
        """Put weights and optimizer back where the last epoch left them, if that was in this phase."""
        if self.history and self.history[-1]["phase"] == phase:
            _assign(self.network.variables, _unpacked(self._state, "network"))
            _assign(optimizer.variables, _unpacked(self._state, "optimizer"))

    def save(self, optimizer: keras.Optimizer) -> None:
        """Write the state to disk in one step, and the curves beside it; of several hosts, the first does."""
        if distributed.share().host:
            return
        state = {"history": np.array(json.dumps(self.history))}
        for name, values in (
            ("network", _values(self.network.variables)),
            ("optimizer", _values(optimizer.variables)),
            ("best", self.best),
        ):
            state |= {f"{name}/{i:05d}": value for i, value in enumerate(values)}
        with replacing(self.path) as draft:
            np.savez(draft, **state)  # type: ignore[arg-type]
        history.write(self.history, self.out)
        self.told(self.history[-1])


@dataclass
class Phase:
    """One stretch of training: its images, its model and its epochs.

    Attributes:
        name: of the phase.
        model: what is trained; it may augment.
        evaluated: what is validated and kept: it shares the weights of `model` and does not augment.
        training: images (N, S, S) or their features (N, h, w, d), and labels (N,).
        validation: likewise.
        recipe: how to train.
    """

    name: str
    model: keras.Model
    evaluated: keras.Model
    training: tuple[Rows, NDArray[np.int64]]
    validation: tuple[Rows, NDArray[np.int64]]
    recipe: Recipe

    def run(self, state: Checkpoint, progress: Progress) -> None:
        """Train until the epochs are over or nothing improves, and leave the best weights in the network."""
        optimizer = self._compile()
        state.restore(self.name, optimizer)
        r = self.recipe
        for epoch in range(len(state.rows(self.name)), r.epochs):
            rows = state.rows(self.name)
            if should_stop(rows, r):
                break
            rate = learning_rate(rows, r)
            optimizer.learning_rate = rate
            seeds = np.random.SeedSequence([r.seed, epoch, len(self.name)])
            last, figures = self._epoch(np.random.default_rng(seeds), f"{self.name} {epoch + 1}/{r.epochs}", progress)
            row = {"phase": self.name, "epoch": epoch + 1, "learning_rate": rate} | figures | self._validate()
            state.history.append(row)
            if row["val_loss"] <= min(r["val_loss"] for r in state.history):
                state.best = _values(state.network.variables)
            _assign(self.model.trainable_variables, last)
            state.save(optimizer)
        _assign(state.network.variables, state.best)

    def _compile(self) -> keras.Optimizer:
        r = self.recipe
        loss = (
            keras.losses.BinaryFocalCrossentropy(from_logits=True, label_smoothing=r.label_smoothing)
            if r.imbalance == "focal"
            else keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=r.label_smoothing)
        )
        optimizer = keras.optimizers.AdamW(
            r.learning_rate, weight_decay=r.weight_decay, use_ema=r.average > 0, ema_momentum=r.average or 0.99
        )
        optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
        optimizer.build(self.model.trainable_variables)
        # XLA makes TensorFlow's depthwise convolutions several times slower on a CPU; other backends choose well.
        self.model.compile(
            optimizer,
            loss,
            metrics=[
                keras.metrics.BinaryAccuracy("accuracy", threshold=0.0),
                keras.metrics.AUC(from_logits=True, name="auc"),
            ],
            jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
        )
        return optimizer

    def _epoch(
        self, rng: np.random.Generator, what: str, progress: Progress
    ) -> tuple[list[NDArray[Any]], dict[str, float]]:
        """Train one epoch: give the last weights and the figures, and leave the averaged weights in the model."""
        _reseed(self.model, rng)
        inputs, y = self.training
        weights = class_weights(y) if self.recipe.imbalance in ("class_weight", "focal") else np.ones(2)
        order = epoch_order(y, self.recipe.imbalance, rng)
        batches = Batches(inputs, y, weights, np.array_split(order, -(-len(order) // self.recipe.batch_size)))
        figures: dict[str, float] = {}
        last: list[NDArray[Any]] = []

        def report(batch: int, logs: Mapping[str, float]) -> None:
            figures.update({name: float(value) for name, value in logs.items()})
            progress(what, batches.images_until(batch), len(order), figures)

        def remember(*_: object) -> None:  # before Keras puts the averaged weights in their place
            last.extend(_values(self.model.trainable_variables))

        callback = keras.callbacks.LambdaCallback(on_train_batch_end=report, on_epoch_end=remember)
        self.model.fit(batches, epochs=1, shuffle=False, verbose=0, callbacks=[callback])
        averaged = self.model.trainable_variables
        _assign(averaged, _values(averaged))  # copies: under JAX they are the optimizer's own arrays, soon given away
        if not np.isfinite(figures["loss"]):
            raise TrainingError("Expected a finite loss, got none: lower the learning rate.")
        return last, figures

    def _validate(self) -> dict[str, float]:
        inputs, y = self.validation
        logits = predict_logits(self.evaluated, inputs)
        loss = np.logaddexp(0.0, np.where(y == 1, -logits, logits)) * class_weights(y)[y]
        return {
            "val_loss": float(loss.mean()),
            "val_accuracy": float(((logits > 0) == (y == 1)).mean()),
            "val_auc": metrics.delong(y, logits).value,
        }


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """The batches of an epoch, in a given order; of each, this host's part.

    Where devices cannot share a batch evenly, its first image is repeated with weight 0, so that loss and gradients
    stay those of the batch. Only the accuracy and the AUC of the training images, which decide nothing, count it again.

    Args:
        inputs: images (N, S, S) or their features (N, h, w, d).
        y: (N,), labels.
        weights: (2,), by label.
        order: the positions of each batch's images.
    """

    def __init__(
        self,
        inputs: Rows,
        y: NDArray[np.int64],
        weights: NDArray[np.float64],
        order: Sequence[NDArray[np.int64]],
    ) -> None:
        super().__init__()
        self.inputs, self.y, self.weights, self.order = inputs, y, weights, order
        self.share = distributed.share()

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, i: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        share, batch = self.share, self.order[i]
        padded = share.padded(batch)
        chosen = share.own(padded)
        labels = self.y[chosen]
        real = share.own(np.arange(len(padded)) < len(batch))
        weights = self.weights[labels] * real * (len(padded) / len(batch))  # the loss is divided by what is there
        return as_batch(self.inputs[chosen]), labels[:, None].astype(np.float32), weights.astype(np.float32)

    def images_until(self, i: int) -> int:
        """Count the images up to and with a batch."""
        return sum(map(len, self.order[: i + 1]))


def class_weights(y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weigh each class by the inverse of its share: (2,), so that both weigh the same in sum.

    Example:
        >>> class_weights(np.array([0, 1, 1, 1])).round(2).tolist()
        [2.0, 0.67]
    """
    return np.asarray(len(y) / (2.0 * np.bincount(y, minlength=2)))


def epoch_order(y: NDArray[np.int64], imbalance: str, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the order of an epoch: every image once, or the classes evened out by repeating or leaving out images.

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


def learning_rate(rows: Sequence[Mapping[str, Any]], recipe: Recipe) -> float:
    """Give the rate for the epoch after `rows`: reduced each time `reduce_after` epochs brought no better loss.

    Example:
        >>> learning_rate([{"val_loss": 0.3}] * 3, Recipe(learning_rate=1e-3, reduce_after=2, reduce_by=0.1))
        0.0001
    """
    rate, best, waited = recipe.learning_rate, float("inf"), 0
    for row in rows:
        waited = 0 if row["val_loss"] < best else waited + 1
        best = min(best, row["val_loss"])
        if waited >= recipe.reduce_after:
            rate, waited = rate * recipe.reduce_by, 0
    return rate


def should_stop(rows: Sequence[Mapping[str, Any]], recipe: Recipe) -> bool:
    """Say whether the last `stop_after` epochs brought no better validation loss.

    Example:
        >>> should_stop([{"val_loss": 0.3}] * 3, Recipe(stop_after=2))
        True
    """
    losses = [row["val_loss"] for row in rows]
    return len(losses) > recipe.stop_after and min(losses[-recipe.stop_after :]) >= min(losses[: -recipe.stop_after])


def as_batch(inputs: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Give images (N, S, S) their one channel, as networks take them; features (N, h, w, d) have theirs."""
    return (inputs[..., None] if inputs.ndim == 3 else inputs).astype(np.float32)


def outputs(
    model: keras.Model, inputs: Rows, what: str = "", progress: Progress = lambda *_: None
) -> Iterator[NDArray[np.float32]]:
    """Run a model without augmentation over images (N, S, S) or their features: its outputs, a batch at a time.

    Each device, of all hosts, runs its part; each host is given all outputs. `progress` is told of each
    batch, and of `what`.

    Example:
        >>> logits = np.concatenate(list(outputs(network, images)))  # doctest: +SKIP
    """
    share, predict = distributed.share(), distributed.predictor(model)
    for start in range(0, len(inputs), BATCH * share.devices):
        batch = np.arange(start, min(start + BATCH * share.devices, len(inputs)))
        yield predict(as_batch(inputs[share.own(share.padded(batch))]))[: len(batch)]
        progress(what, int(batch[-1]) + 1, len(inputs), {})


def predict_logits(model: keras.Model, inputs: Rows) -> NDArray[np.float64]:
    """Run a model over images (N, S, S), or their features, without augmentation: logits (N,).

    Example:
        >>> predict_logits(network, images)  # doctest: +SKIP
        array([-2.1,  3.4])
    """
    return np.concatenate([batch[:, 0] for batch in outputs(model, inputs)]).astype(np.float64)


def _reseed(model: keras.Model, rng: np.random.Generator) -> None:
    """Set every random layer from the epoch's own seed, so that a resumed run draws what an unbroken one does."""
    for variable in model.variables:
        if variable.name == "seed_generator_state":
            variable.assign(rng.integers(0, 2**31, size=2).astype(np.uint32))


def _values(variables: Sequence[Any]) -> list[NDArray[Any]]:
    return [keras.ops.convert_to_numpy(variable).copy() for variable in variables]


def _assign(variables: Sequence[Any], values: Sequence[NDArray[Any]]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _unpacked(state: Mapping[str, NDArray[Any]], name: str) -> list[NDArray[Any]]:
    return [state[key] for key in sorted(state) if key.startswith(f"{name}/")]
