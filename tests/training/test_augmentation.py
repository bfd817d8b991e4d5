"""Augmentation: each change can be switched, stays in range, and is absent from use."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from numpy.typing import NDArray

keras = pytest.importorskip("keras", reason="training is not installed")

from pneumoscope.errors import TrainingError
from pneumoscope.networks import architectures
from pneumoscope.training import augmentation
from pneumoscope.training.augmentation import NONE, Augmentation
from tests.conftest import drawn_image

STRONG = {field.name: 0.3 for field in fields(Augmentation) if field.name != "share"} | {
    "rotation": 20.0,
    "horizontal_flip": 1.0,
    "blur": 1.0,
}


def images() -> NDArray[np.float32]:
    return np.asarray([drawn_image(i % 2, i, 64) for i in range(8)], dtype=np.float32)[..., None] / np.float32(255)


@pytest.mark.parametrize("name", STRONG)
def test_each_change_alone_changes_images_within_their_range(name: str) -> None:
    keras.utils.set_random_seed(0)
    (layer,) = augmentation.layers(replace(NONE, **{name: STRONG[name]}))
    changed = np.asarray(layer(images(), training=True))
    assert layer.name == name
    assert changed.shape == images().shape
    assert changed.min() >= 0.0
    assert changed.max() <= 1.0
    assert np.abs(changed - images()).mean() > 1e-3


def test_strength_zero_has_no_layer() -> None:
    assert augmentation.layers(NONE) == []
    network = architectures.build("cnn", 64)
    assert augmentation.augmented(network, NONE) is network


def test_each_image_draws_its_own_strength() -> None:
    keras.utils.set_random_seed(0)
    same = np.repeat(images()[:1], 8, axis=0)
    for layer in augmentation.layers(replace(NONE, gamma=0.5, shading=0.3, noise=0.2, brightness=0.3, contrast=0.5)):
        changed = np.asarray(layer(same, training=True))
        assert np.ptp(changed.std(axis=(1, 2, 3)) + changed.mean(axis=(1, 2, 3))) > 1e-3, layer.name


def test_the_network_that_is_kept_does_not_augment() -> None:
    network = architectures.build("cnn", 64)
    training = augmentation.augmented(network, Augmentation(**STRONG))
    plain = network.predict_on_batch(images())
    training(images(), training=True)
    assert np.array_equal(network.predict_on_batch(images()), plain)
    assert np.allclose(training.predict_on_batch(images()), plain, atol=1e-6)


@pytest.mark.parametrize("change", [{"rotation": -1.0}, {"blur": 1.5}, {"noise": float("nan")}])
def test_a_strength_that_cannot_be_is_rejected(change: dict[str, float]) -> None:
    with pytest.raises(TrainingError, match="Expected augmentation"):
        Augmentation(**change)


def test_a_share_of_the_images_is_left_as_it_comes() -> None:
    keras.utils.set_random_seed(0)
    identity = keras.Sequential([keras.Input((64, 64, 1)), keras.layers.Identity()])
    model = augmentation.augmented(identity, replace(NONE, share=0.5, brightness=0.3, width_shift=0.3))
    many = np.repeat(images(), 25, axis=0)
    untouched = (np.asarray(model(many, training=True)) == many).all(axis=(1, 2, 3)).mean()
    assert 0.15 < untouched < 0.35  # half escape changes of place, half of those changes of brightness too
