"""From labelled films to a model file: the recipe, the epochs, and what a run folder holds."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from pneumoscope import architectures, calibration, curves, dataset, metrics, model_file
from pneumoscope.augmentation import NONE, Augmentation, augmented
from pneumoscope.dataset import Decoded, Film
from pneumoscope.errors import DatasetError, NotFoundError, TrainingError
from pneumoscope.model_file import Card

IMBALANCES = ("class_weight", "oversample", "undersample", "focal", "none")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
MIN_VALIDATION = 50
"""A validation split with fewer films of a class says too little to choose an epoch by (Kaggle's has 8)."""

Progress = Callable[[str, int, int, Mapping[str, float]], object]
"""Called as `progress(what, done, total, figures)`."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what a training gives, apart from the films.

    Attributes:
        architecture: a name in `architectures.REGISTRY`.
        init: `imagenet`, `none`, a `.weights.h5` or a `.keras` file.
        size: the side of the films the network looks at, in pixels.
        pooling: `max` (2 x 2, flatten, as published) or `average`.
        dropout: share of the head's inputs dropped while training.
        validation_share: share of the films held out, by patient, where the data set has no usable split of its own.
        head_epochs: epochs for the head alone on the frozen, pretrained features; none without pretraining.
        epochs: epochs for the whole network.
        batch_size: films a step.
        head_learning_rate: first learning rate of the head's phase.
        learning_rate: first learning rate of the whole network's phase.
        reduce_after: epochs without a better validation loss before the learning rate is reduced.
        reduce_by: the factor by which it is reduced.
        stop_after: epochs without a better validation loss before a phase ends.
        weight_decay: decoupled decay of the kernels a step, times the learning rate (AdamW).
        label_smoothing: share of each label that is moved to even odds.
        imbalance: what balances the classes: `class_weight`, `oversample` or `undersample` each epoch, `focal` loss
            with class weights, or `none`.
        average: momentum of the moving average of the weights, which is what is kept; 0 keeps the last weights.
        precision: of the arithmetic while training; the model file is float32 in any case.
        seed: equal seeds give equal models on one machine.
        augmentation: the changes that training films go through.
    """

    architecture: str = "mobilenet_v2"
    init: str = "imagenet"
    size: int = 160
    pooling: str = "max"
    dropout: float = 0.0
    validation_share: float = 0.2
    head_epochs: int = 10
    epochs: int = 20
    batch_size: int = 32
    head_learning_rate: float = 1e-3
    learning_rate: float = 1e-4
    reduce_after: int = 2
    reduce_by: float = 0.3
    stop_after: int = 5
    weight_decay: float = 1e-4
    label_smoothing: float = 0.05
    imbalance: str = "class_weight"
    average: float = 0.99
    precision: str = "float32"
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        for name, known in (("imbalance", IMBALANCES), ("precision", PRECISIONS), ("pooling", architectures.POOLINGS)):
            if getattr(self, name) not in known:
                raise TrainingError(f"Expected {name} {', '.join(known)}, got '{getattr(self, name)}'.")
        if self.epochs < 1 or self.head_epochs < 0 or self.batch_size < 1:
            raise TrainingError(
                f"Expected at least 1 epoch, 0 head epochs and 1 film a batch, got {self.epochs}, "
                f"{self.head_epochs} and {self.batch_size}."
            )
        for name, low, high in (
            ("dropout", 0.0, 0.99),
            ("validation_share", 0.01, 0.5),
            ("label_smoothing", 0.0, 0.5),
            ("average", 0.0, 0.9999),
            ("reduce_by", 0.01, 1.0),
        ):
            if not low <= getattr(self, name) <= high:
                raise TrainingError(f"Expected {name} in [{low:g}, {high:g}], got {getattr(self, name)}.")

    @classmethod
    def from_toml(cls, path: str | Path) -> Recipe:
        """Read a recipe; what the file leaves out keeps its default.

        Raises:
            NotFoundError: there is no such file.
            TrainingError: it is no TOML, or names something a recipe does not have.

        Example:
            >>> Recipe.from_toml("recipes/default.toml").architecture  # doctest: +SKIP
            'mobilenet_v2'
        """
        try:
            values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise NotFoundError(f"Expected a recipe at '{path}', which does not exist.") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise TrainingError(f"Expected a recipe in TOML in '{path}', got something else: {error}.") from error
        return cls.from_dict(values)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Make a recipe from plain values.

        Example:
            >>> Recipe.from_dict({"epochs": 3, "augmentation": {"blur": 0}}).augmentation.blur
            0
        """
        changes = dict(values.get("augmentation", {}))
        for given, known in ((values, fields(cls)), (changes, fields(Augmentation))):
            if unknown := set(given) - {f.name for f in known}:
                raise TrainingError(
                    f"Expected a recipe with {', '.join(f.name for f in known)}, got {', '.join(sorted(unknown))}."
                )
        try:
            return cls(**{**values, "augmentation": Augmentation(**changes)})
        except TypeError as error:
            raise TrainingError(f"Expected numbers and words in the recipe, got another type: {error}.") from error


@dataclass(frozen=True)
class Run:
    """What a training gave.

    Attributes:
        model: the model file.
        validation: its figures on the held-out patients.
        notes: decisions that the user should know of.
    """

    model: Path
    validation: metrics.Performance
    notes: list[str]


def fit(
    data: str | Path | Sequence[Film],
    out: str | Path,
    recipe: Recipe | None = None,
    *,
    resume: bool = False,
    skip_unreadable: bool = False,
    progress: Progress = lambda *_: None,
) -> Run:
    """Train a network and write everything a run is into a folder.

    The folder receives `model.onnx` (to predict with), `model.keras` (to train on), `recipe.json`, `split.csv` (who
    was trained on and who held out), `history.csv`, `curves.png`, `validation.json`, and while it runs
    `checkpoint.npz`.

    Args:
        data: what `dataset.load` takes, or films. Films of a `test` split are never read.
        out: the run's folder.
        recipe: how to train; by default `Recipe()`.
        resume: go on after the last finished epoch in `out`; the result equals that of a run without a break.
        skip_unreadable: leave out films that cannot be read instead of refusing to train.
        progress: told of every step.

    Returns:
        The run.

    Raises:
        DatasetError: the films cannot be trained on.
        TrainingError: the folder holds another run.

    Example:
        >>> run = fit("chest_xray", "runs/first", Recipe(epochs=5))  # doctest: +SKIP
    """
    recipe, out = recipe or Recipe(), Path(out)
    films = dataset.load(data) if isinstance(data, (str, Path)) else list(data)
    films = [film for film in films if film.split != "test"]
    if (out / "checkpoint.npz").exists() and not resume:
        raise TrainingError(f"Expected an empty folder, got '{out}' with a run in it: add --resume, or name another.")
    decoded = dataset.decode(films, recipe.size, _counted(progress, "reading films", len(films)))
    if decoded.failures and not skip_unreadable:
        named = "\n".join(f"  {film.path}: {error}" for film, error in decoded.failures[:5])
        raise DatasetError(
            f"Expected readable films, got {len(decoded.failures)} of {len(films)} that are not; repair or remove "
            f"them, or add --skip-unreadable. The first:\n{named}"
        )
    training, validation, notes = partition(decoded, recipe)
    out.mkdir(parents=True, exist_ok=True)
    fingerprint = decoded.fingerprint()
    _claim(out, recipe, fingerprint, resume)
    _write_split(out / "split.csv", training, validation)

    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(recipe.precision)
    try:
        network = _train(training, validation, recipe, out, progress)
    finally:
        keras.config.set_dtype_policy("float32")
    if recipe.precision != "float32":
        plain = architectures.build(
            recipe.architecture, recipe.size, pooling=recipe.pooling, dropout=recipe.dropout, init="none"
        )
        plain.set_weights(network.get_weights())
        network = plain

    logits = predict_logits(network, validation.pixels[..., None])
    fitted = calibration.Calibration()
    if np.bincount(validation.labels, minlength=2).min() >= calibration.MIN_PER_CLASS:
        fitted = calibration.fit(validation.labels, logits)
    else:
        notes.append(
            f"Fewer than {calibration.MIN_PER_CLASS} validation films of a class: probabilities are not calibrated and "
            "the threshold is 0.5."
        )
    figures = metrics.performance(
        validation.labels, fitted.probabilities(logits), fitted.threshold, validation.groups
    )
    card = Card(
        architecture=recipe.architecture,
        input_size=recipe.size,
        calibration=fitted,
        bias=architectures.bias(network),
        recipe=asdict(recipe) | {"init": Path(recipe.init).name},
        data={
            "fingerprint": fingerprint,
            "training": _counts(training),
            "validation": _counts(validation),
        },
        metrics=figures.as_dict(),
        seen=model_file.encode_seen(decoded.pixels),
    )
    network.save(out / "model.keras")
    _write_text(out / "validation.json", json.dumps(figures.as_dict(), indent=2))
    model_file.write(network, card, out / "model.onnx", validation.pixels[:32])
    return Run(out / "model.onnx", figures, notes)


def partition(decoded: Decoded, recipe: Recipe) -> tuple[Decoded, Decoded, list[str]]:
    """Choose who is trained on and who is held out to validate.

    The data set's own validation split is used where it has at least `MIN_VALIDATION` films a class and shares no
    patient with the training films; otherwise patients are held out of all films.

    Returns:
        The training films, the validation films, and what the user should know of the choice.
    """
    own = np.array([film.split == "val" for film in decoded.films])
    if not own.any():
        training, validation = dataset.hold_out(decoded, recipe.validation_share, recipe.seed)
        return decoded.take(training), decoded.take(validation), []
    counts = np.bincount(decoded.labels[own], minlength=2)
    shared = np.intersect1d(decoded.groups[own], decoded.groups[~own])
    if counts.min() >= MIN_VALIDATION and not len(shared):
        return decoded.take(np.flatnonzero(~own)), decoded.take(np.flatnonzero(own)), []
    reason = (
        f"shares {len(shared)} patients with the training films"
        if len(shared)
        else f"has only {counts[0]} + {counts[1]} films, fewer than {MIN_VALIDATION} of a class"
    )
    training, validation = dataset.hold_out(decoded, recipe.validation_share, recipe.seed)
    note = f"The data set's own validation split {reason}; patients were held out of all films instead."
    return decoded.take(training), decoded.take(validation), [note]


def predict_logits(
    model: keras.Model, inputs: NDArray[Any], batch_size: int = 64, done: Callable[[int], object] = lambda _: None
) -> NDArray[np.float64]:
    """Run a model over inputs (N, ...) without augmentation: logits (N,)."""
    parts = []
    for start in range(0, len(inputs), batch_size):
        parts.append(model.predict_on_batch(inputs[start : start + batch_size].astype(np.float32))[:, 0])
        done(start)
    return np.concatenate(parts).astype(np.float64)


def _train(
    training: Decoded, validation: Decoded, recipe: Recipe, out: Path, progress: Progress
) -> keras.Model:
    network = architectures.build(
        recipe.architecture, recipe.size, pooling=recipe.pooling, dropout=recipe.dropout, init=recipe.init
    )
    pretrained = recipe.init != "none" and not recipe.init.endswith(".keras")
    run = _Checkpoint(out, network)
    if pretrained and recipe.head_epochs and not run.rows("network"):
        # Nothing before the head changes in this phase, so each film's features are computed once.
        features = network.get_layer("features")
        _Phase(
            name="head",
            model=network.get_layer("head"),
            evaluated=network.get_layer("head"),
            training=(_features_of(features, training, progress), training.labels),
            validation=(_features_of(features, validation, progress), validation.labels),
            recipe=replace(
                recipe, epochs=recipe.head_epochs, learning_rate=recipe.head_learning_rate, augmentation=NONE
            ),
        ).run(run, progress)
    _Phase(
        name="network",
        model=augmented(network, recipe.augmentation),
        evaluated=network,
        training=(training.pixels[..., None], training.labels),
        validation=(validation.pixels[..., None], validation.labels),
        recipe=recipe,
    ).run(run, progress)
    return network


class _Checkpoint:
    """The state of a run, on disk after every epoch: the history, all weights, the optimizer, the best weights."""

    def __init__(self, out: Path, network: keras.Model) -> None:
        self.out = out
        self.network = network
        self.path = out / "checkpoint.npz"
        self.history: list[dict[str, Any]] = []
        self.best: list[NDArray[Any]] = []
        self._state: dict[str, NDArray[Any]] = {}
        if self.path.exists():
            with np.load(self.path, allow_pickle=False) as saved:
                self._state = dict(saved)
            self.history = json.loads(str(self._state["history"]))
            self.best = _unpacked(self._state, "best")

    def rows(self, phase: str) -> list[dict[str, Any]]:
        return [row for row in self.history if row["phase"] == phase]

    def restore(self, phase: str, optimizer: keras.Optimizer) -> None:
        if self.history and self.history[-1]["phase"] == phase:
            _assign(self.network.variables, _unpacked(self._state, "network"))
            _assign(optimizer.variables, _unpacked(self._state, "optimizer"))

    def save(self, optimizer: keras.Optimizer) -> None:
        state = {"history": np.array(json.dumps(self.history))}
        for name, values in (
            ("network", _values(self.network.variables)),
            ("optimizer", _values(optimizer.variables)),
            ("best", self.best),
        ):
            state |= {f"{name}/{i:05d}": value for i, value in enumerate(values)}
        draft = self.path.with_suffix(".tmp.npz")
        np.savez(draft, **state)  # type: ignore[arg-type]
        draft.replace(self.path)
        curves.write(self.history, self.out)


@dataclass
class _Phase:
    """One stretch of training: its films, its model and its epochs."""

    name: str
    model: keras.Model
    evaluated: keras.Model
    training: tuple[NDArray[Any], NDArray[np.int64]]
    validation: tuple[NDArray[Any], NDArray[np.int64]]
    recipe: Recipe

    def run(self, state: _Checkpoint, progress: Progress) -> None:
        """Train until the epochs are over or nothing improves, and leave the best weights in the network."""
        optimizer = self._compile()
        state.restore(self.name, optimizer)
        for epoch in range(len(state.rows(self.name)), self.recipe.epochs):
            rows = state.rows(self.name)
            if should_stop(rows, self.recipe):
                break
            rate = learning_rate(rows, self.recipe)
            optimizer.learning_rate = rate
            seeds = np.random.SeedSequence([self.recipe.seed, epoch, len(self.name)])
            figures = self._epoch(np.random.default_rng(seeds), f"{self.name} {epoch + 1}/{self.recipe.epochs}", progress)
            last = _values(self.model.trainable_variables)
            if self.recipe.average:
                optimizer.finalize_variable_values(self.model.trainable_variables)
            row = {"phase": self.name, "epoch": epoch + 1, "learning_rate": rate} | figures | self._validate()
            state.history.append(row)
            if row["val_loss"] <= min(r["val_loss"] for r in state.rows(self.name)):
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
            metrics=[keras.metrics.BinaryAccuracy("accuracy", threshold=0.0), keras.metrics.AUC(from_logits=True, name="auc")],
            jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
        )
        return optimizer

    def _epoch(self, rng: np.random.Generator, what: str, progress: Progress) -> dict[str, float]:
        _reseed(self.model, rng)
        self.model.reset_metrics()
        inputs, y = self.training
        weights = class_weights(y) if self.recipe.imbalance in ("class_weight", "focal") else np.ones(2)
        order = epoch_order(y, self.recipe.imbalance, rng)
        figures: dict[str, float] = {}
        done = 0
        for chosen in np.array_split(order, -(-len(order) // self.recipe.batch_size)):
            figures = self.model.train_on_batch(
                inputs[chosen].astype(np.float32),
                y[chosen, None].astype(np.float32),
                weights[y[chosen]].astype(np.float32),
                return_dict=True,
            )
            figures = {name: float(value) for name, value in figures.items()}
            done += len(chosen)
            progress(what, done, len(order), figures)
        if not np.isfinite(figures["loss"]):
            raise TrainingError("Expected a finite loss, got none: lower the learning rate.")
        return figures

    def _validate(self) -> dict[str, float]:
        inputs, y = self.validation
        logits = predict_logits(self.evaluated, inputs)
        loss = np.logaddexp(0.0, np.where(y == 1, -logits, logits)) * class_weights(y)[y]
        return {
            "val_loss": float(loss.mean()),
            "val_accuracy": float(((logits > 0) == (y == 1)).mean()),
            "val_auc": metrics.delong(y, logits).value,
        }


def class_weights(y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weigh each class by the inverse of its share: (2,), so that both weigh the same in sum.

    Example:
        >>> class_weights(np.array([0, 1, 1, 1])).round(2).tolist()
        [2.0, 0.67]
    """
    return np.asarray(len(y) / (2.0 * np.bincount(y, minlength=2)))


def epoch_order(y: NDArray[np.int64], imbalance: str, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the order of an epoch: every film once, or the classes evened out by repeating or leaving out films.

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


def _features_of(features: keras.Model, films: Decoded, progress: Progress) -> NDArray[np.float16]:
    maps = np.zeros((len(films.films), *features.output_shape[1:]), dtype=np.float16)
    for start in range(0, len(maps), 64):
        batch = films.pixels[start : start + 64, ..., None].astype(np.float32)
        maps[start : start + 64] = features.predict_on_batch(batch)
        progress("computing features", min(start + 64, len(maps)), len(maps), {})
    return maps


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


def _claim(out: Path, recipe: Recipe, fingerprint: str, resume: bool) -> None:
    """Write down what this run is, or check that the run being resumed is the same."""
    mine = {"recipe": asdict(recipe), "data": fingerprint}
    path = out / "recipe.json"
    if resume and path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found != mine:
            differing = [k for k in mine["recipe"] if found["recipe"].get(k) != mine["recipe"][k]]  # type: ignore[index]
            raise TrainingError(
                f"Expected the recipe and films of the run in '{out}', got other "
                f"{', '.join(differing) or 'films'}: give the same ones, or name another folder."
            )
    _write_text(path, json.dumps(mine, indent=2))


def _write_split(path: Path, training: Decoded, validation: Decoded) -> None:
    lines = ["path,label,patient,split"]
    for part, name in ((training, "train"), (validation, "val")):
        lines += [f'"{f.path}",{dataset.LABELS[f.label]},"{f.patient}",{name}' for f in part.films]
    _write_text(path, "\n".join(lines) + "\n")


def _write_text(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.tmp")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


def _counts(part: Decoded) -> dict[str, int]:
    return {
        "films": len(part.films),
        "pneumonia": int(part.labels.sum()),
        "patients": len(np.unique(part.groups)),
    }


def _counted(progress: Progress, what: str, total: int) -> Callable[[], object]:
    done = iter(range(1, total + 1))
    return lambda: progress(what, next(done), total, {})
