"""The epochs of a training: what one does, what the next one learns from it, and how a broken run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pneumoscope.atomic import replacing
from pneumoscope.data import layouts
from pneumoscope.data.disk_array import Rows
from pneumoscope.data.layouts import Sample
from pneumoscope.errors import TrainingError
from pneumoscope.metrics import metrics
from pneumoscope.networks import architectures
from pneumoscope.networks.backend import keras
from pneumoscope.training import augmentation, averaging, distributed, history, sampling
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


@dataclass(frozen=True)
class Examples:
    """What a phase trains or validates on.

    Attributes:
        inputs: images (N, S, S) or their features (N, h, w, d).
        images: whose they are.
        boxes: float16 (N, g, g), the share of each place that boxes cover; None where no image has any.
        boxed: (N,), whether `boxes` says all there is to say of an image: it has boxes, or shows no finding.
    """

    inputs: Rows
    samples: Sequence[Sample]
    boxes: NDArray[np.float16] | None = None
    boxed: NDArray[np.bool_] | None = None

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,), 0 for `NORMAL`, 1 for `PNEUMONIA`."""
        return layouts.labels(self.samples)


@dataclass
class Phase:
    """One stretch of training: its images, its model and its epochs.

    Attributes:
        name: of the phase.
        model: what is trained: from inputs to `logit` (N, 1), and where boxes are learnt from to `cells` (N, h * w).
        evaluated: what is validated and kept: it shares the weights of `model` and gives the logit alone.
        training: what to train on.
        validation: what to validate on.
        recipe: how to train.
    """

    name: str
    model: keras.Model
    evaluated: keras.Model
    training: Examples
    validation: Examples
    recipe: Recipe

    def __post_init__(self) -> None:
        """Group the training images, once."""
        self._groups = sampling.strata(self.training.samples, self.recipe.other_share)
        self._validated = _by_site(self.validation.samples)

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return -(-(self.recipe.epoch_images or len(self.training.samples)) // self.recipe.batch_size)

    def run(self, state: Checkpoint, progress: Progress) -> None:
        """Train until the epochs are over or nothing improves, and leave the weights that are kept in the network."""
        optimizer = self._compile()
        state.restore(self.name, optimizer)
        r = self.recipe
        for epoch in range(len(state.rows(self.name)), r.epochs):
            rows = state.rows(self.name)
            if should_stop(rows, r):
                break
            if r.schedule == "plateau":
                optimizer.learning_rate = learning_rate(rows, r)
            seeds = np.random.SeedSequence([r.seed, epoch, len(self.name)])
            last, figures = self._epoch(np.random.default_rng(seeds), f"{self.name} {epoch + 1}/{r.epochs}", progress)
            rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
            validated = self._validate()
            row = {"phase": self.name, "epoch": epoch + 1, "learning_rate": rate} | figures | validated
            state.history.append(row)
            if kept(state.history, r) == len(state.history):
                state.best = _values(state.network.variables)
            _assign(self.model.trainable_variables, last)
            state.save(optimizer)
            images = len(self.training.samples)
            progress(f"{self.name} {epoch + 1}/{r.epochs}", images, images, validated)
        _assign(state.network.variables, state.best)

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
        # XLA makes TensorFlow's depthwise convolutions several times slower on a CPU; other backends choose well.
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
        """Train one epoch: give the last weights and the figures, and leave the averaged weights in the model."""
        _reseed(self.model, rng)
        r, y = self.recipe, self.training.labels
        weights = class_weights(y) if r.imbalance in ("class_weight", "focal") else np.ones(2)
        if r.imbalance == "balanced":
            order = sampling.draw(self._groups, self.steps * r.batch_size, rng)
        else:
            order = epoch_order(y, r.imbalance, rng)
        parts = np.array_split(order, -(-len(order) // r.batch_size))
        batches = Batches(self.training, weights, parts, r, int(rng.integers(2**31)), "cells" in self.model.output)
        figures: dict[str, float] = {}
        last: list[NDArray[Any]] = []

        def report(batch: int, logs: Mapping[str, float]) -> None:
            figures.update({name.removeprefix("logit_"): float(value) for name, value in logs.items()})
            if "cells" in self.model.output:  # Keras's `loss` is the sum
                figures["loss"] = figures["logit_loss"] if "logit_loss" in figures else figures["loss"]
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
        """Measure the network at each site; the loss that decides is the mean over the sites."""
        logits, y = predict_logits(self.evaluated, self.validation.inputs), self.validation.labels
        figures = {name: _figures(y[chosen], logits[chosen]) for name, chosen in self._validated.items()}
        whole = _figures(y, logits)
        whole["loss"] = float(np.mean([of["loss"] for of in figures.values()]))
        rows = {f"val_{name}": value for name, value in whole.items()}
        if len(figures) > 1:
            rows |= {f"val_{name}_{site}": v for site, of in figures.items() for name, v in of.items()}
        return rows


def _by_site(samples: Sequence[Sample]) -> dict[str, NDArray[np.int64]]:
    """Give the positions of each site's images, of sites that have both classes; of all where none has."""
    sites, labels = np.array([sample.site for sample in samples]), layouts.labels(samples)
    found = {str(site): np.flatnonzero(sites == site) for site in np.unique(sites)}
    both = {site: chosen for site, chosen in found.items() if len(np.unique(labels[chosen])) == 2}
    return both or {"": np.arange(len(samples))}


def _figures(y: NDArray[np.int64], logits: NDArray[np.float64]) -> dict[str, float]:
    """Measure logits (N,): loss with the classes weighed alike, accuracy at even odds, and AUC."""
    loss = np.logaddexp(0.0, np.where(y == 1, -logits, logits)) * class_weights(y)[y]
    return {
        "loss": float(loss.mean()),
        "accuracy": float(((logits > 0) == (y == 1)).mean()),
        "auc": metrics.delong(y, logits).value,
    }


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """The batches of an epoch, in a given order, their images augmented; of each, this host's part.

    Where devices cannot share a batch evenly, its first image is repeated with weight 0, so that loss and gradients
    stay those of the batch. Only the accuracy and the AUC of the training images, which decide nothing, count it again.

    Args:
        examples: what is trained on.
        weights: (2,), by label.
        order: the positions of each batch's images.
        recipe: how they are augmented.
        seed: of the augmentation; each place of the epoch draws from its own.
        cells: whether boxes are learnt from.
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
        # The loss is divided by what is there.
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
        """Give a batch as the network is to see it: images, cells (n, h * w) that boxes cover, hidden thoraces."""
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
        """Count the images up to and with a batch."""
        return sum(map(len, self.order[: i + 1]))


def _cells(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average boxes (n, g, g) over each cell: (n, h * w), where `architectures.CELL` places are a cell's side."""
    n, g = boxes.shape[:2]
    side = architectures.CELL
    cells = boxes.reshape(n, g // side, side, g // side, side).mean(axis=(2, 4))
    return np.asarray(cells.reshape(n, -1), dtype=np.float32)


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
        >>> recipe = Recipe(learning_rate=1e-3, reduce_after=2, reduce_by=0.1, schedule="plateau")
        >>> learning_rate([{"val_loss": 0.3}] * 3, recipe)
        0.0001
    """
    rate, best, waited = recipe.learning_rate, float("inf"), 0
    for row in rows:
        waited = 0 if row["val_loss"] < best else waited + 1
        best = min(best, row["val_loss"])
        if waited >= recipe.reduce_after:
            rate, waited = rate * recipe.reduce_by, 0
    return rate


def kept(rows: Sequence[Mapping[str, Any]], recipe: Recipe) -> int:
    """Give the epoch, from 1, whose weights are kept: of the best validation loss, or the last of a cosine schedule.

    A cosine schedule ends where its learning rate does; what was better before was chance, and choosing by patients of
    the same hospital prefers what reads its scanners.

    Example:
        >>> kept([{"val_loss": 0.3}, {"val_loss": 0.2}, {"val_loss": 0.4}], Recipe(schedule="plateau"))
        2
    """
    if recipe.schedule == "cosine":
        return len(rows)
    losses = [row["val_loss"] for row in rows]
    return losses.index(min(losses)) + 1


def reason(rows: Sequence[Mapping[str, Any]], recipe: Recipe) -> str:
    """Say which epoch's weights were kept, and why.

    Args:
        rows: the history, an epoch a row; none where the recipe asks for no epoch.
        recipe: how the network was trained; the head's own epochs always keep the best validation loss.

    Example:
        >>> rows = [{"phase": "network", "epoch": e, "val_loss": loss} for e, loss in ((1, 0.3), (2, 0.2), (3, 0.4))]
        >>> reason(rows, Recipe(schedule="plateau"))
        'Kept: epoch 2 of 3, with the lowest validation loss, 0.2000.'
        >>> reason(rows, Recipe())
        'Kept: epoch 3 of 3, the last, where the learning rate has fallen to nothing; its validation loss is 0.4000.'
    """
    if not rows:
        return "Kept: the weights as they are without any epoch, as the recipe asks for none."
    if rows[-1]["phase"] == "head":
        recipe = replace(recipe, schedule="plateau")
    row = rows[kept(rows, recipe) - 1]
    why = (
        "the last, where the learning rate has fallen to nothing; its validation loss is"
        if recipe.schedule == "cosine" and row["phase"] == "network"
        else "with the lowest validation loss,"
    )
    last = max(int(other["epoch"]) for other in rows if other["phase"] == row["phase"])
    part = "" if row["phase"] == "network" else f" of the {row['phase']}"
    return f"Kept: epoch {int(row['epoch'])} of {last}{part}, {why} {row['val_loss']:.4f}."


def should_stop(rows: Sequence[Mapping[str, Any]], recipe: Recipe) -> bool:
    """Say whether the last `stop_after` epochs brought no better validation loss.

    Example:
        >>> should_stop([{"val_loss": 0.3}] * 3, Recipe(stop_after=2, schedule="plateau"))
        True
    """
    if recipe.schedule == "cosine":
        return False
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
