"""The training loop, and running a network on many images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pneumoscope.data import layouts
from pneumoscope.data.disk_array import Rows
from pneumoscope.data.layouts import Sample
from pneumoscope.errors import TrainingError
from pneumoscope.metrics import metrics
from pneumoscope.networks.backend import keras
from pneumoscope.training import averaging, batches, checkpoint, distributed, sampling, schedule
from pneumoscope.training.batches import Batches, Examples
from pneumoscope.training.checkpoint import Checkpoint
from pneumoscope.training.recipe import Recipe

Progress = Callable[[str, int, int, Mapping[str, float]], object]
"""Called as `progress(what, done, total, figures)`."""

BATCH = 64
"""Images per device in a batch when a network is run without training it."""


@dataclass
class Phase:
    """One phase of training: its images, its model and its epochs.

    Attributes:
        name: the name of the phase.
        model: the model to train, with the outputs `logit` (N, 1) and, when training on boxes, `cells` (N, h * w).
        evaluated: the model to validate, which shares the weights of `model` and outputs only the logit.
        training: the examples to train on.
        validation: the examples to validate on.
        recipe: how to train.
    """

    name: str
    model: keras.Model
    evaluated: keras.Model
    training: Examples
    validation: Examples
    recipe: Recipe

    def __post_init__(self) -> None:
        """Group the training images into strata and the validation images by site."""
        self._groups = sampling.strata(self.training.samples, self.recipe.other_share)
        self._validated = _by_site(self.validation.samples)

    @property
    def steps(self) -> int:
        """The number of batches in an epoch."""
        return -(-(self.recipe.epoch_images or len(self.training.samples)) // self.recipe.batch_size)

    def run(self, state: Checkpoint, progress: Progress) -> None:
        """Train until the last epoch or until nothing improves, and leave the best weights in the network."""
        optimizer = self._compile()
        state.restore(self.name, optimizer)
        r = self.recipe
        for epoch in range(len(state.rows(self.name)), r.epochs):
            rows = state.rows(self.name)
            if schedule.should_stop(rows, r):
                break
            if r.schedule == "plateau":
                optimizer.learning_rate = schedule.learning_rate(rows, r)
            seeds = np.random.SeedSequence([r.seed, epoch, len(self.name)])
            last, figures = self._epoch(np.random.default_rng(seeds), f"{self.name} {epoch + 1}/{r.epochs}", progress)
            rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
            validated = self._validate()
            row = {"phase": self.name, "epoch": epoch + 1, "learning_rate": rate} | figures | validated
            state.history.append(row)
            if schedule.kept(state.history, r) == len(state.history):
                state.best = checkpoint.values(state.network.variables)
            checkpoint.assign(self.model.trainable_variables, last)
            state.save(optimizer)
            images = len(self.training.samples)
            progress(f"{self.name} {epoch + 1}/{r.epochs}", images, images, validated)
        checkpoint.assign(state.network.variables, state.best)

    def _compile(self) -> keras.Optimizer:
        r = self.recipe
        entropy = keras.losses.BinaryFocalCrossentropy if r.imbalance == "focal" else keras.losses.BinaryCrossentropy
        losses: dict[str, keras.Loss] = {"logit": entropy(from_logits=True, label_smoothing=r.label_smoothing)}
        weights = {"logit": 1.0}
        if "cells" in self.model.output:
            losses["cells"], weights["cells"] = keras.losses.BinaryCrossentropy(from_logits=True), r.box_weight
        rate: Any = r.learning_rate
        if r.schedule == "cosine":
            steps = self.steps * r.epochs
            warming = round(0.25 * steps)
            rate = keras.optimizers.schedules.CosineDecay(
                r.learning_rate / 25, steps - warming, alpha=0.0, warmup_target=r.learning_rate, warmup_steps=warming
            )
        optimizer = averaging.AdamW(
            rate,
            weight_decay=r.weight_decay,
            use_ema=r.average > 0,
            ema_momentum=r.average or 0.99,
            global_clipnorm=5.0,
        )
        optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
        optimizer.build(self.model.trainable_variables)
        # With XLA, TensorFlow's depthwise convolutions are several times slower on a CPU.
        self.model.compile(
            optimizer,
            losses,
            loss_weights=weights,
            metrics={
                "logit": [
                    keras.metrics.BinaryAccuracy("accuracy", threshold=0.0),
                    keras.metrics.AUC(from_logits=True, name="auc"),
                ]
            },
            jit_compile="auto" if keras.backend.backend() == "jax" else False,
        )
        return optimizer

    def _epoch(
        self, rng: np.random.Generator, what: str, progress: Progress
    ) -> tuple[list[NDArray[Any]], dict[str, float]]:
        """Train one epoch; return the last weights and the figures, and leave the averaged weights in the model."""
        _reseed(self.model, rng)
        r, y = self.recipe, self.training.labels
        weights = batches.class_weights(y) if r.imbalance in ("class_weight", "focal") else np.ones(2)
        if r.imbalance == "balanced":
            order = sampling.draw(self._groups, self.steps * r.batch_size, rng)
        else:
            order = batches.epoch_order(y, r.imbalance, rng)
        parts = np.array_split(order, -(-len(order) // r.batch_size))
        shown = Batches(self.training, weights, parts, r, int(rng.integers(2**31)), "cells" in self.model.output)
        figures: dict[str, float] = {}
        last: list[NDArray[Any]] = []

        def report(batch: int, logs: Mapping[str, float]) -> None:
            figures.update({name.removeprefix("logit_"): float(value) for name, value in logs.items()})
            if "cells" in self.model.output:  # Keras's `loss` is the sum of both losses
                figures["loss"] = figures["logit_loss"] if "logit_loss" in figures else figures["loss"]
            progress(what, shown.images_until(batch), len(order), figures)

        def remember(*_: object) -> None:  # before Keras replaces them with the averaged weights
            last.extend(checkpoint.values(self.model.trainable_variables))

        callback = keras.callbacks.LambdaCallback(on_train_batch_end=report, on_epoch_end=remember)
        self.model.fit(shown, epochs=1, shuffle=False, verbose=0, callbacks=[callback])
        averaged = self.model.trainable_variables
        # Copied, because with JAX they are the optimizer's own arrays, which it donates in the next step.
        checkpoint.assign(averaged, checkpoint.values(averaged))
        if not np.isfinite(figures["loss"]):
            raise TrainingError("Expected a finite loss, got one that is not: lower the learning rate.")
        return last, figures

    def _validate(self) -> dict[str, float]:
        """Measure the network at each site; the validation loss is the mean over the sites."""
        logits, y = predict_logits(self.evaluated, self.validation.inputs), self.validation.labels
        figures = {name: _figures(y[chosen], logits[chosen]) for name, chosen in self._validated.items()}
        whole = _figures(y, logits)
        whole["loss"] = float(np.mean([of["loss"] for of in figures.values()]))
        rows = {f"val_{name}": value for name, value in whole.items()}
        if len(figures) > 1:
            rows |= {f"val_{name}_{site}": v for site, of in figures.items() for name, v in of.items()}
        return rows


def _by_site(samples: Sequence[Sample]) -> dict[str, NDArray[np.int64]]:
    """Return the positions of the images of each site with both classes; all positions if there is no such site."""
    sites, labels = np.array([sample.site for sample in samples]), layouts.labels(samples)
    found = {str(site): np.flatnonzero(sites == site) for site in np.unique(sites)}
    both = {site: chosen for site, chosen in found.items() if len(np.unique(labels[chosen])) == 2}
    return both or {"": np.arange(len(samples))}


def _figures(y: NDArray[np.int64], logits: NDArray[np.float64]) -> dict[str, float]:
    """Measure logits (N,): class-balanced loss, accuracy at even odds, and AUC."""
    loss = np.logaddexp(0.0, np.where(y == 1, -logits, logits)) * batches.class_weights(y)[y]
    return {
        "loss": float(loss.mean()),
        "accuracy": float(((logits > 0) == (y == 1)).mean()),
        "auc": metrics.delong(y, logits).value,
    }


def outputs(
    model: keras.Model, inputs: Rows, what: str = "", progress: Progress = lambda *_: None
) -> Iterator[NDArray[np.float32]]:
    """Yield a model's outputs for images (N, S, S) or their features, a batch at a time, without augmentation.

    Each device of every host runs its part; each host gets all outputs. `progress` is called after each batch with
    `what`.

    Example:
        >>> np.concatenate(list(outputs(network, images))).shape
        (4, 1)
    """
    share, predict = distributed.share(), distributed.predictor(model)
    for start in range(0, len(inputs), BATCH * share.devices):
        batch = np.arange(start, min(start + BATCH * share.devices, len(inputs)))
        yield predict(batches.as_batch(inputs[share.own(share.padded(batch))]))[: len(batch)]
        progress(what, int(batch[-1]) + 1, len(inputs), {})


def predict_logits(model: keras.Model, inputs: Rows) -> NDArray[np.float64]:
    """Return a model's logits (N,) for images (N, S, S) or their features, without augmentation.

    Example:
        >>> predict_logits(network, images).shape
        (4,)
    """
    return np.concatenate([batch[:, 0] for batch in outputs(model, inputs)]).astype(np.float64)


def _reseed(model: keras.Model, rng: np.random.Generator) -> None:
    """Seed every random layer for this epoch, so that a resumed run equals an uninterrupted one."""
    for variable in model.variables:
        if variable.name == "seed_generator_state":
            variable.assign(rng.integers(0, 2**31, size=2).astype(np.uint32))
