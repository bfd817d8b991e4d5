"""The networks: a backbone (`features`), a classifier (`head`), and the evidence of each cell for the decision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pneumoscope.errors import NotFoundError, TrainingError
from pneumoscope.networks import torch_layers
from pneumoscope.networks.backend import keras, ops

POOLINGS = ("max", "average")

BATCH_NORM_MOMENTUM = 0.97

CELL = 4
"""The side of a cell of the feature map in pixels of a mask of boxes."""


@dataclass(frozen=True)
class Architecture:
    """An entry of the registry.

    Attributes:
        application: the name of a network in `keras.applications`, or None for one built here.
        scaling: the input scaling, as `keras.applications` names it: `tf` is [-1, 1], `torch` is ImageNet's mean and
            standard deviation, `caffe` is 0 to 255 in BGR minus ImageNet's mean, `raw` is 0 to 255.
        dropout: the share of the head's inputs dropped in training, unless the recipe says otherwise.
        last: the layer of that network whose output is the head's input; by default the last one.
    """

    application: str | None
    scaling: str
    dropout: float = 0.0
    last: str | None = None


# EfficientNet is left out: in the export to ONNX, the constants of its Normalization layer become inputs of the graph.
REGISTRY = {
    "mobilenet_v2": Architecture("MobileNetV2", "tf"),
    "mobilenet_v2_short": Architecture("MobileNetV2", "tf", last="block_12_add"),  # stride 16, 96 channels
    "mobilenet_v2_middle": Architecture("MobileNetV2", "tf", last="block_13_expand_relu"),  # stride 16, 576 channels
    "cnn": Architecture(None, "tf", dropout=0.5),
    "densenet121": Architecture("DenseNet121", "torch"),
    "mobilenet_v3_small": Architecture("MobileNetV3Small", "raw"),
    "resnet50": Architecture("ResNet50", "caffe"),
    "resnet50_v2": Architecture("ResNet50V2", "tf"),
    "xception": Architecture("Xception", "tf"),
}


def build(
    architecture: str,
    size: int,
    *,
    pooling: str = "max",
    dropout: float = 0.0,
    init: str = "none",
    batch_norm: str = "trained",
    quick: bool = False,
) -> keras.Model:
    """Build a network of two parts: a backbone `features` and a classifier `head`.

    Args:
        architecture: a name in `REGISTRY`.
        size: the side of the input images, in pixels, at least 32.
        pooling: `max` pools 2 x 2 neighbours, flattens, and has a weight for each cell, as published; `average`
            averages all cells. `cnn` ignores it.
        dropout: share of the head's inputs that is dropped in training, in [0, 1).
        init: `imagenet` (Keras's own download), `none` (random), `restored` (random until
            `restoring.restore` is called), a `.weights.h5` file for `features`, or a `.keras` file of a whole network
            of this kind.
        batch_norm: whether pretrained batch normalisation is `trained` with the network or stays `frozen`.
        quick: use layers that train faster; such a network cannot be saved, but its weights can.

    Returns:
        A model that maps images (N, size, size, 1) in [0, 1] to logits (N, 1), positive for `PNEUMONIA`.

    Raises:
        NotFoundError: there is no such architecture or weights file.
        TrainingError: a value is invalid, or the weights do not fit.

    Example:
        >>> build("cnn", 64).output_shape
        (None, 1)
    """
    if architecture not in REGISTRY:
        raise NotFoundError(f"Expected one of {', '.join(REGISTRY)}, got the architecture '{architecture}'.")
    if pooling not in POOLINGS:
        raise TrainingError(f"Expected pooling {' or '.join(POOLINGS)}, got '{pooling}'.")
    if size < 32:
        raise TrainingError(f"Expected images of at least 32 pixels a side, got {size}.")
    network = REGISTRY[architecture]
    features = _features(network, size, init, frozen=batch_norm == "frozen", quick=quick)
    shape = features.output_shape[1:]
    head = _published_head(shape, pooling, dropout) if network.application else _dense_head(shape, dropout)
    images = keras.Input((size, size, 1), name="image")
    model = keras.Model(images, head(features(images)), name=architecture)
    if init.endswith(".keras"):
        _load(lambda: model.load_weights(init), init)
    return model


def with_evidence(model: keras.Model, usual: NDArray[np.floating[Any]] | None = None) -> keras.Model:
    """Add the outputs of a model file to a trained network.

    Args:
        model: the output of `build`, trained.
        usual: (h, w), what each cell of a usual image adds to the logit. It is subtracted, so that a map shows where an
            image differs from it; otherwise it would show cells that contribute on every image (the contributions of
            Lundberg and Lee 2017, "A Unified Approach to Interpreting Model Predictions", for a linear model).

    Returns:
        A model that maps `image` (N, S, S, 1) in [0, 1] to `logit` (N,), `evidence` (N, h, w), what each cell adds to
        the logit, and `embedding` (N, d), the mean of the last feature map.

    Example:
        >>> sorted(with_evidence(build("cnn", 64)).output)
        ['embedding', 'evidence', 'logit']
    """
    images = keras.Input(model.input_shape[1:], name="image")
    maps = _of_gray(model.get_layer("features"))(images)
    head = model.get_layer("head")
    outputs = {
        "logit": keras.layers.Reshape((), name="logit")(head(maps)),
        "evidence": Evidence(head, usual, name="evidence")(maps),
        "embedding": keras.layers.GlobalAveragePooling2D(name="embedding")(maps),
    }
    inference = keras.Model(images, outputs, name=model.name)
    inference(np.zeros((1, *model.input_shape[1:]), dtype=np.float32))  # Keras exports only called models
    return inference


def bias(model: keras.Model, usual: NDArray[np.floating[Any]] | None = None) -> float | None:
    """Return the constant in `logit = bias + evidence.sum()`; None if the head is not linear.

    It is the logit of an image whose evidence is `usual`, or without `usual` of an image without evidence.

    Example:
        >>> bias(build("cnn", 64)) is None
        True
    """
    dense = _dense_layers(model.get_layer("head"))
    if len(dense) > 1:
        return None
    return float(ops.convert_to_numpy(dense[0].bias)[0]) + (0.0 if usual is None else float(usual.sum()))


def with_cells(model: keras.Model) -> keras.Model:
    """Add an output to a network so that its evidence map can be trained on radiologists' boxes.

    Args:
        model: the output of `build`, with a linear head.

    Returns:
        A model that maps images (N, S, S, 1) to `logit` (N, 1) and `cells` (N, h * w): the log odds that each cell lies
        in a box. They are the cell's evidence, scaled and shifted by two trainable numbers, so that training the map on
        boxes also trains the logit.

    Example:
        >>> sorted(with_cells(build("mobilenet_v2_short", 64, pooling="average")).output)
        ['cells', 'logit']
    """
    images = keras.Input(model.input_shape[1:])
    maps = model.get_layer("features")(images)
    head = model.get_layer("head")
    cells = BoxOdds(name="cells", dtype="float32")(Evidence(head, None, dtype="float32")(maps))
    return keras.Model(images, {"logit": _as_logit(head(maps)), "cells": cells})


def with_logit(model: keras.Model) -> keras.Model:
    """Name the output of a network `logit` (N, 1)."""
    inputs = keras.Input(model.input_shape[1:])
    return keras.Model(inputs, {"logit": _as_logit(model(inputs))})


def _as_logit(outputs: Any) -> Any:
    """Name an output `logit`; it stays in full precision, whatever the network is trained in."""
    return keras.layers.Identity(name="logit", dtype="float32")(outputs)


def averages(model: keras.Model) -> bool:
    """Return whether a network's head averages all cells, instead of having a weight for each.

    Example:
        >>> averages(build("mobilenet_v2_short", 64, pooling="average"))
        True
    """
    return any(isinstance(layer, keras.layers.GlobalAveragePooling2D) for layer in model.get_layer("head").layers)


def evidence_side(model: keras.Model) -> int:
    """Return the side of a network's evidence map, in cells.

    Example:
        >>> evidence_side(build("mobilenet_v2_short", 224, pooling="average"))
        14
    """
    maps = keras.KerasTensor((None, *model.get_layer("features").output_shape[1:]))
    return int(Evidence(model.get_layer("head"), None).compute_output_spec(maps).shape[1])


class BoxOdds(keras.layers.Layer):  # type: ignore[misc]
    """Scale and shift evidence maps (N, h, w) to the log odds of lying in a box (N, h * w)."""

    def build(self, shape: tuple[int | None, int, int]) -> None:
        """Create the two weights, initialised so that most cells lie outside boxes."""
        self.places = int(shape[1] * shape[2])
        self.scale = self.add_weight(name="scale", shape=(), initializer=keras.initializers.Constant(4.0))
        self.shift = self.add_weight(name="shift", shape=(), initializer=keras.initializers.Constant(-2.0))

    def call(self, evidence: Any) -> Any:
        """Compute the log odds of each cell as if it were the whole image."""
        return ops.reshape(evidence * self.places, (-1, self.places)) * self.scale + self.shift


class Evidence(keras.layers.Layer):  # type: ignore[misc]
    """What each cell of the feature map adds to the logit.

    This is exact for a linear head: `logit = bias + evidence.sum()`. With one hidden ReLU layer it is gradient times
    activation: exact up to the biases of the active units, which belong to no cell.

    Args:
        head: the head whose weights are used.
        usual: (h, w), the evidence to subtract.
    """

    def __init__(self, head: keras.Model, usual: NDArray[np.floating[Any]] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.head, self.usual = head, usual

    def call(self, maps: Any) -> Any:
        """Map features (N, H, W, C) to evidence (N, h, w)."""
        evidence = self._weighed(maps)
        if self.usual is None:
            return evidence
        return evidence + ops.convert_to_tensor(-self.usual[None], dtype=evidence.dtype)

    def _weighed(self, maps: Any) -> Any:
        kinds = {type(layer): layer for layer in self.head.layers}
        dense = _dense_layers(self.head)
        if keras.layers.GlobalAveragePooling2D in kinds:
            height, width = maps.shape[1:3]
            return ops.matmul(maps, dense[0].kernel)[..., 0] / (height * width)
        if pool := kinds.get(keras.layers.MaxPooling2D):
            maps = pool(maps)
        shape = maps.shape[1:]
        if len(dense) == 1:
            slope = ops.reshape(dense[0].kernel, (1, *shape))
        else:
            hidden, last = dense
            flat = ops.reshape(maps, (-1, shape[0] * shape[1] * shape[2]))
            on = ops.cast(ops.matmul(flat, hidden.kernel) + hidden.bias > 0, maps.dtype)  # (N, units)
            slope = ops.matmul(on * last.kernel[:, 0], ops.transpose(hidden.kernel))
            slope = ops.reshape(slope, (-1, *shape))
        return ops.sum(maps * slope, axis=-1)


def _features(network: Architecture, size: int, init: str, *, frozen: bool, quick: bool) -> keras.Model:
    images = keras.Input((size, size, 1))
    if init not in ("imagenet", "none", "restored") and not init.endswith((".weights.h5", ".keras")):
        raise TrainingError(f"Expected init imagenet, none, a .weights.h5 or a .keras file, got '{init}'.")
    if network.application is None:
        if init not in ("none", "restored") and not init.endswith(".keras"):
            raise TrainingError(f"Expected init none or a .keras file, got '{init}': no weights are published for it.")
        return keras.Model(images, _convolutions(_rescaled(images, network.scaling)), name="features")
    make = getattr(keras.applications, network.application)
    weights = "imagenet" if init == "imagenet" else None
    try:
        base = make(include_top=False, weights=weights, input_shape=(size, size, 3))
    except Exception as error:
        if weights is None:
            raise
        raise NotFoundError(
            f"Keras could not download the ImageNet weights ({error}): connect to the internet, or give a weights "
            "file with --init FILE, or --init none."
        ) from error
    if init.endswith(".weights.h5"):
        _load(lambda: base.load_weights(init), init)
    if network.last:
        base = keras.Model(base.input, base.get_layer(network.last).output, name=f"to_{network.last}")
    base = torch_layers.quick(base) if quick else base
    for layer in base.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # Keras's 0.999 averages over a thousand steps, longer than fine-tuning takes: statistics would stay
            # ImageNet's.
            layer.momentum = BATCH_NORM_MOMENTUM
            # Frozen layers use their moving statistics in training, too. Calling the base with `training=False` would
            # not help, because a model overrides it in training.
            layer.trainable = not (frozen and init != "none")
    return keras.Model(images, base(_rescaled(images, network.scaling)), name="features")


def _of_gray(features: keras.Model) -> keras.Model:
    """Return an equivalent but faster `features` whose first convolution takes the gray image directly, if possible.

    The first convolution sees the same image three times, so one kernel, the sum of its three, is enough. This is exact
    only if all colours are scaled in the same way: then they are also equal in the zero padding.
    """
    scaling, base = features.layers[-2:]
    if not (
        isinstance(base, keras.Model) and isinstance(scaling, keras.layers.Rescaling) and np.ndim(scaling.scale) == 0
    ):
        return features
    gray = keras.models.clone_model(base, input_tensors=keras.Input((*features.input_shape[1:3], 1)))
    for weight, of_colours in zip(gray.weights, base.weights, strict=True):
        alike = weight.shape == of_colours.shape
        weight.assign(of_colours if alike else ops.sum(of_colours, axis=2, keepdims=True))
    images = keras.Input(features.input_shape[1:])
    return keras.Model(images, gray(keras.layers.Rescaling(scaling.scale, scaling.offset)(images)), name=features.name)


def _rescaled(images: Any, scaling: str) -> Any:
    """Turn gray images (N, S, S, 1) in [0, 1] into colour images, scaled as the pretrained network expects."""
    colour = keras.layers.Concatenate(name="gray_to_colour")([images, images, images])
    if scaling == "tf":
        return keras.layers.Rescaling(2.0, -1.0)(colour)
    if scaling == "raw":
        return keras.layers.Rescaling(255.0)(colour)
    mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    if scaling == "caffe":
        mean, deviation = [m / 255 for m in (103.939, 116.779, 123.68)], [1 / 255] * 3
    scale = [1 / d for d in deviation]
    return keras.layers.Rescaling(scale, [-m * s for m, s in zip(mean, scale, strict=True)])(colour)


def _convolutions(x: Any) -> Any:
    for filters in (32, 64, 128, 128, 256):
        x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = keras.layers.MaxPooling2D()(x)
    return x


def _published_head(shape: tuple[int, int, int], pooling: str, dropout: float) -> keras.Model:
    if pooling == "average":
        layers = [keras.layers.GlobalAveragePooling2D(dtype="float32")]
    else:
        layers = [keras.layers.MaxPooling2D(2, padding="same"), keras.layers.Flatten()]
    if dropout:
        layers.append(keras.layers.Dropout(dropout))
    return keras.Sequential([keras.Input(shape), *layers, keras.layers.Dense(1, dtype="float32")], name="head")


def _dense_head(shape: tuple[int, int, int], dropout: float) -> keras.Model:
    layers = [
        keras.layers.Flatten(),
        keras.layers.Dense(128, activation="relu"),
        keras.layers.Dropout(dropout),
        keras.layers.Dense(1, dtype="float32"),
    ]
    return keras.Sequential([keras.Input(shape), *layers], name="head")


def _dense_layers(head: keras.Model) -> list[keras.layers.Dense]:
    return [layer for layer in head.layers if isinstance(layer, keras.layers.Dense)]


def _load(load: Callable[[], object], init: str) -> None:
    if not Path(init).is_file():
        raise NotFoundError(f"Expected a weights file at '{init}', which does not exist.")
    try:
        load()
    except Exception as error:  # Keras raises ValueError, KeyError or OSError
        raise TrainingError(
            f"Expected weights of this architecture and size in '{init}', got others: {error}"
        ) from error
