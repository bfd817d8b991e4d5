"""The recipe: everything that determines the result of training, apart from the images."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pneumoscope.errors import NotFoundError, TrainingError
from pneumoscope.metrics.thresholds import OperatingPoint
from pneumoscope.networks import architectures
from pneumoscope.training import starting
from pneumoscope.training.augmentation import Augmentation

HEADS = ("epochs", "logistic")
IMBALANCES = ("balanced", "class_weight", "oversample", "undersample", "focal", "none")
SCHEDULES = ("cosine", "plateau")
BATCH_NORMS = ("trained", "frozen")
PRECISIONS = ("auto", "float32", "mixed_bfloat16")
BOUNDS = (
    ("size", 32, 2048),
    ("dropout", 0.0, 0.99),
    ("validation_share", 0.01, 0.5),
    ("head_epochs", 0, 10_000),
    ("epochs", 0, 10_000),
    ("batch_size", 1, 10_000),
    ("head_learning_rate", 1e-9, 1.0),
    ("learning_rate", 1e-9, 1.0),
    ("reduce_after", 1, 10_000),
    ("reduce_by", 0.01, 1.0),
    ("stop_after", 1, 10_000),
    ("weight_decay", 0.0, 1.0),
    ("label_smoothing", 0.0, 0.5),
    ("epoch_images", 0, 10_000_000),
    ("box_weight", 0.0, 100.0),
    ("other_share", 0.0, 1.0),
    ("other_target", 0.0, 0.5),
    ("average", 0.0, 0.9999),
    ("sensitivity", 0.0, 1.0),
    ("specificity", 0.0, 1.0),
    ("youngest", 0, 150),
    ("oldest", 0, 150),
    ("seed", 0, 2**32 - 1),
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained.

    Attributes:
        architecture: a name in `architectures.REGISTRY`.
        init: what to start from: `imagenet`, `none` (random weights), a `.weights.h5` or `.keras` file, `default` (the
            bundled model) or an `.onnx` model file; `auto` is `imagenet` if Keras has weights for the architecture,
            otherwise `none`.
        size: the side of the network's input, in pixels.
        pooling: `max` (2 x 2, flatten, as published) or `average`.
        dropout: share of the head's inputs dropped in training, in [0, 1); -1 for the architecture's default.
        validation_share: share of the images held out, by patient, if the data set has no usable split of its own.
        head: how the head is trained on the frozen, pretrained features: in `epochs`, or fitted in one step by
            `logistic` regression, which does better with a few hundred images.
        head_epochs: epochs for the head alone on the frozen, pretrained features; none without pretraining.
        epochs: epochs for the whole network; 0 trains only the head.
        batch_size: images per step.
        head_learning_rate: initial learning rate of the head's phase.
        learning_rate: initial learning rate of the whole network's phase; 0 means 1e-4 for a pretrained network and
            1e-3 for random weights.
        reduce_after: epochs without a better validation loss before the learning rate is reduced.
        reduce_by: the factor by which it is reduced.
        stop_after: epochs without a better validation loss before a phase ends.
        weight_decay: decoupled weight decay of the kernels per step, times the learning rate (AdamW).
        label_smoothing: share of each label that is moved to even odds.
        imbalance: how the classes are balanced: `balanced` draws them evenly within each site, and the views within
            each class (`sampling.strata`). `class_weight`, `oversample` and `undersample` in each epoch, `focal` loss
            with class weights, and `none` ignore sites.
        epoch_images: images drawn in an epoch with `balanced`; 0 draws as many as there are.
        schedule: `cosine` warms the learning rate up for a quarter of all steps, lets it fall to 0, and keeps the last
            weights; `plateau` reduces it when the validation loss stops falling, and keeps the best epoch's weights.
        batch_norm: whether pretrained batch normalisation is `trained` with the network or stays `frozen`.
        box_weight: weight of the loss of the evidence map against radiologists' boxes, if the images have any; 0
            ignores them.
        other_share: share of a site's negatives that are images of other findings, if it has any; 0 excludes them from
            training.
        other_target: the target for images of other findings, from 0 (`NORMAL`) to 0.5 (even odds).
        average: momentum of the moving average of the weights, which is what is kept; 0 keeps the last weights.
        sensitivity: choose the threshold for at least this sensitivity on the held-out patients; 0 for no requirement.
            Without this and `specificity`, sensitivity and specificity are made equal.
        specificity: likewise for the specificity.
        precision: the precision of the arithmetic in training: `float32`, `mixed_bfloat16`, which keeps weights in
            float32 and feature maps in bfloat16, or `auto`, the latter where it is faster (`building.precision`). The
            model file is always float32.
        seed: equal seeds give equal models on the same machine.
        population: a description of the patients for the model file.
        youngest: the age of the youngest patients, in years.
        oldest: the age of the oldest patients, in years; 0 if unknown.
        licence: the licence of the model file.
        augmentation: the augmentation of training images.
    """

    architecture: str = "mobilenet_v2"
    init: str = "auto"
    size: int = 192
    pooling: str = "max"
    dropout: float = -1.0
    validation_share: float = 0.2
    head: str = "epochs"
    head_epochs: int = 10
    epochs: int = 20
    batch_size: int = 32
    head_learning_rate: float = 1e-3
    learning_rate: float = 0.0
    reduce_after: int = 2
    reduce_by: float = 0.3
    stop_after: int = 5
    weight_decay: float = 1e-4
    label_smoothing: float = 0.05
    imbalance: str = "balanced"
    epoch_images: int = 0
    schedule: str = "cosine"
    batch_norm: str = "trained"
    box_weight: float = 1.0
    other_share: float = 0.5
    other_target: float = 0.0
    average: float = 0.99
    sensitivity: float = 0.0
    specificity: float = 0.0
    precision: str = "auto"
    seed: int = 0
    population: str = ""
    youngest: int = 0
    oldest: int = 0
    licence: str = ""
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        """Fill in the defaults that depend on the architecture, and check every value."""
        if self.architecture not in architectures.REGISTRY:
            names = ", ".join(architectures.REGISTRY)
            raise NotFoundError(f"Expected one of {names}, got the architecture '{self.architecture}'.")
        starting.check_name(self.init)
        pretrained = architectures.REGISTRY[self.architecture].application is not None
        if self.init == "auto":
            object.__setattr__(self, "init", "imagenet" if pretrained else "none")
        if self.dropout == -1.0:
            object.__setattr__(self, "dropout", architectures.REGISTRY[self.architecture].dropout)
        if self.learning_rate == 0.0:
            object.__setattr__(self, "learning_rate", 1e-3 if self.init == "none" else 1e-4)
        for name, known in (
            ("head", HEADS),
            ("imbalance", IMBALANCES),
            ("schedule", SCHEDULES),
            ("batch_norm", BATCH_NORMS),
            ("precision", PRECISIONS),
            ("pooling", architectures.POOLINGS),
        ):
            if getattr(self, name) not in known:
                raise TrainingError(f"Expected {name} {', '.join(known)}, got '{getattr(self, name)}'.")
        for name, low, high in BOUNDS:
            value = getattr(self, name)
            whole = isinstance(getattr(type(self), name), int)
            if not isinstance(value, int if whole else (int, float)) or not low <= value <= high:
                raise TrainingError(
                    f"Expected {name} a {'whole ' if whole else ''}number in [{low:g}, {high:g}], got {value!r}."
                )
        if self.epochs == 0 and self.init == "none":
            raise TrainingError("Expected epochs for a network that starts from random weights, got 0.")
        if self.sensitivity and self.specificity:
            raise TrainingError("Expected a sensitivity or a specificity to choose the threshold for, got both.")

    @property
    def operating_point(self) -> OperatingPoint:
        """How the threshold is chosen."""
        return OperatingPoint(self.sensitivity or None, self.specificity or None)

    @classmethod
    def from_toml(cls, path: str | Path, **changes: Any) -> Recipe:  # noqa: ANN401 - any attribute of a recipe
        """Read a recipe from a file; missing values keep their defaults, and `changes` override the file.

        Raises:
            NotFoundError: there is no such file.
            TrainingError: the file is not TOML, or has values that a recipe does not have.

        Example:
            >>> Recipe.from_toml("recipes/default.toml").size
            224
        """
        try:
            values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise NotFoundError(f"Expected a recipe at '{path}', which does not exist.") from None
        except OSError as error:
            raise TrainingError(f"Expected a recipe in '{path}', which cannot be read: {error.strerror}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise TrainingError(f"Expected a recipe in TOML in '{path}', got something else: {error}.") from error
        return cls.from_dict(values | changes)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Create a recipe from plain values; a model file in `init` determines architecture, size and pooling.

        Raises:
            NotFoundError: there is no such model file to start from.
            ModelFileError: it is not a model file.
            TrainingError: the values are not a valid recipe, or contradict that file.

        Example:
            >>> Recipe.from_dict({"epochs": 3, "augmentation": {"blur": 0}}).augmentation.blur
            0
        """
        changes = values.get("augmentation", {})
        if not isinstance(changes, Mapping):
            raise TrainingError(f"Expected augmentation as a table of strengths, got {changes!r}.")
        for given, known in ((values, fields(cls)), (changes, fields(Augmentation))):
            if unknown := set(given) - {f.name for f in known}:
                raise TrainingError(
                    f"Expected a recipe with {', '.join(f.name for f in known)}, got {', '.join(sorted(unknown))}."
                )
        values = starting.completed(values)
        try:
            return cls(**{**values, "augmentation": Augmentation(**changes)})
        except TypeError as error:
            raise TrainingError(f"Expected numbers and words in the recipe, got another type: {error}.") from error
