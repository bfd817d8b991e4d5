"""Layers on PyTorch's kernels: they give and learn what Keras's own do."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pneumoscope.networks import architectures, backend, torch_layers
from pneumoscope.networks.backend import keras

pytestmark = pytest.mark.skipif(backend.name() != "torch", reason="Keras runs on another backend")


def network(stride: int, padding: str) -> keras.Model:
    images = keras.Input((9, 10, 3))
    x = keras.layers.Conv2D(8, 3, strides=stride, padding=padding, activation="relu")(images)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.DepthwiseConv2D(3, padding=padding, use_bias=False)(x)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    return keras.Model(images, keras.layers.Conv2D(4, 1)(x))


@pytest.fixture
def mixed_precision() -> Iterator[None]:
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


def stepped(model: keras.Model, images: Any) -> list[np.ndarray[Any, Any]]:
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.train_on_batch(images, keras.ops.zeros_like(model(images)))
    weights: list[np.ndarray[Any, Any]] = model.get_weights()
    return weights


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_quick_network_gives_what_it_was_made_from_gives(stride: int, padding: str) -> None:
    images = np.random.default_rng(0).random((5, 9, 10, 3), dtype=np.float32)
    model = network(stride, padding)
    quick = torch_layers.quick(model)
    assert {type(layer) for layer in quick.layers} > set(torch_layers.QUICK.values())
    assert np.allclose(quick.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-5)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_step_of_training_changes_weights_and_statistics_alike(padding: str) -> None:
    images = np.random.default_rng(1).random((5, 9, 10, 3), dtype=np.float32)
    model = network(1, padding)
    quick = torch_layers.quick(model)
    before = copy.deepcopy(model.get_weights())
    changed, quickly = stepped(model, images), stepped(quick, images)
    for one, other, old in zip(changed, quickly, before, strict=True):
        # PyTorch's moving variance divides by n - 1, Keras's by n.
        assert np.allclose(one, other, rtol=0.02, atol=1e-4)
        assert not np.array_equal(one, old)


def test_frozen_normalisation_keeps_its_statistics() -> None:
    images = np.random.default_rng(2).random((5, 9, 10, 3), dtype=np.float32)
    quick = torch_layers.quick(network(1, "same"))
    for layer in quick.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    before = [layer.moving_mean.numpy() for layer in quick.layers if hasattr(layer, "moving_mean")]
    stepped(quick, images)
    after = [layer.moving_mean.numpy() for layer in quick.layers if hasattr(layer, "moving_mean")]
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


def test_mobilenet_v2_is_quick_throughout() -> None:
    built = architectures.build("mobilenet_v2_middle", 64, pooling="average", quick=True)
    base = built.get_layer("features").layers[-1]
    assert not any(type(layer) in torch_layers.QUICK for layer in base.layers)


def strided(bias: bool) -> keras.Model:
    images = keras.Input((9, 8, 3))
    x = keras.layers.Conv2D(8, 3, padding="same")(images)
    x = keras.layers.DepthwiseConv2D(3, strides=2, use_bias=bias)(x)
    return keras.Model(images, keras.layers.Activation("linear", dtype="float32")(x))


@pytest.mark.parametrize("bias", [True, False])
def test_a_step_in_mixed_precision_differs_only_by_rounding(bias: bool, mixed_precision: None) -> None:
    images = np.random.default_rng(3).random((5, 9, 8, 3), dtype=np.float32)
    model = torch_layers.quick(strided(bias))
    keras.config.set_dtype_policy("float32")
    exact = torch_layers.quick(strided(bias))
    exact.set_weights(model.get_weights())
    before = copy.deepcopy(model.get_weights())
    for one, other, old in zip(stepped(model, images), stepped(exact, images), before, strict=True):
        change = other - old
        assert np.abs(change).max() > 0
        assert np.abs(one - other).max() < 0.02 * np.abs(change).max()


def test_weights_of_normalisation_are_not_rounded(mixed_precision: None) -> None:
    images = np.random.default_rng(4).random((5, 9, 10, 3), dtype=np.float32)
    quick = torch_layers.quick(network(1, "same"))
    normal = next(layer for layer in quick.layers if isinstance(layer, keras.layers.BatchNormalization))
    outputs = []
    for gamma in (1.0, 1.003):  # alike in bfloat16
        normal.set_weights([np.full(8, gamma, np.float32), *normal.get_weights()[1:]])
        outputs.append(quick.predict(images, verbose=0))
    assert not np.array_equal(*outputs)


def test_mobilenet_v2_in_mixed_precision_gives_logits_in_float32_near_the_exact_ones(mixed_precision: None) -> None:
    images = np.random.default_rng(5).random((2, 64, 64, 1), dtype=np.float32)
    reduced = architectures.with_cells(architectures.build("mobilenet_v2_middle", 64, pooling="average", quick=True))
    keras.config.set_dtype_policy("float32")
    exact = architectures.with_cells(architectures.build("mobilenet_v2_middle", 64, pooling="average"))
    exact.set_weights(reduced.get_weights())
    for name, values in exact.predict(images, verbose=0).items():
        rounded = reduced.predict(images, verbose=0)[name]
        assert rounded.dtype == np.float32
        assert np.abs(rounded - values).max() < 0.05 * max(1.0, np.abs(values).max())
