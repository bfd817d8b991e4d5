"""The networks: their parts, their scalings, and evidence that is what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="training is not installed")

from pneumoscope.errors import NotFoundError, TrainingError
from pneumoscope.inference import model_file
from pneumoscope.inference.model_file import Card
from pneumoscope.networks import architectures


def images(n: int, size: int = 64) -> np.ndarray[tuple[int, int, int, int], np.dtype[np.float32]]:
    return np.random.default_rng(n).random((n, size, size, 1)).astype(np.float32)


def test_every_network_of_the_registry_is_one_of_keras() -> None:
    for name, network in architectures.REGISTRY.items():
        assert network.application is None or hasattr(keras.applications, network.application), name
        assert network.scaling in ("tf", "torch", "caffe", "raw"), name


@pytest.mark.training
@pytest.mark.parametrize("name", architectures.REGISTRY)
def test_every_network_of_the_registry_becomes_a_model_file(name: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(3)
    network = architectures.build(name, 96, pooling="average")
    path = tmp_path / "model.onnx"
    model_file.write(network, Card(name, 96, bias=architectures.bias(network)), path, images(2, 96)[..., 0])
    assert model_file.read(path)[1].architecture == name


@pytest.mark.parametrize("name", [name for name in architectures.REGISTRY if name.startswith("mobilenet")])
def test_a_model_file_sees_gray_once_and_gives_what_three_equal_colours_gave(name: str) -> None:
    network = architectures.build(name, 96, pooling="average")
    inference = architectures.with_evidence(network)
    channels = [w.shape[2] for w in inference.get_layer("features").weights if w.shape[:2] == (3, 3)]
    assert channels[0] == 1
    batch = images(3, 96)
    assert np.allclose(inference.predict_on_batch(batch)["logit"], network.predict_on_batch(batch)[:, 0], atol=1e-4)


def test_colours_scaled_each_on_its_own_stay_three() -> None:
    network = architectures.build("densenet121", 64, pooling="average")
    assert "gray_to_colour" in {
        layer.name for layer in architectures.with_evidence(network).get_layer("features").layers
    }


@pytest.mark.parametrize(
    ("module", "scaling"), [("mobilenet_v2", "tf"), ("densenet", "torch"), ("resnet", "caffe"), ("mobilenet_v3", "raw")]
)
def test_images_are_scaled_as_keras_scales_images_for_that_network(module: str, scaling: str) -> None:
    image = images(1, 8)
    inputs = keras.Input((8, 8, 1))
    ours = keras.Model(inputs, architectures._rescaled(inputs, scaling)).predict_on_batch(image)
    colour = np.repeat(image, 3, axis=-1) * 255
    theirs = getattr(keras.applications, module).preprocess_input(colour.copy())
    assert np.abs(ours - np.asarray(theirs)).max() < 1e-3


def test_mobilenet_v2_is_built_as_published() -> None:
    network = architectures.build("mobilenet_v2", 96)
    kinds = [type(layer).__name__ for layer in network.get_layer("head").layers]
    assert kinds == ["MaxPooling2D", "Flatten", "Dense"]
    assert "Rescaling" in {type(layer).__name__ for layer in network.get_layer("features").layers}
    assert network.output_shape == (None, 1)


def test_the_plain_cnn_is_built_as_published() -> None:
    network = architectures.build("cnn", 96)
    kinds = [type(layer).__name__ for part in ("features", "head") for layer in network.get_layer(part).layers]
    assert kinds.count("Conv2D") == kinds.count("MaxPooling2D") == 5
    assert kinds[-3:] == ["Dense", "Dropout", "Dense"]


@pytest.mark.parametrize("pooling", architectures.POOLINGS)
def test_evidence_of_a_linear_head_sums_to_the_logit(pooling: str) -> None:
    keras.utils.set_random_seed(1)
    network = architectures.build("mobilenet_v2", 96, pooling=pooling)
    outputs = architectures.with_evidence(network).predict_on_batch(images(4, 96))
    bias = architectures.bias(network)
    assert bias is not None
    assert np.abs(bias + outputs["evidence"].sum(axis=(1, 2)) - outputs["logit"]).max() < 1e-4


@pytest.mark.parametrize("pooling", architectures.POOLINGS)
def test_evidence_says_where_an_image_differs_from_usual_ones(pooling: str) -> None:
    keras.utils.set_random_seed(1)
    network = architectures.build("mobilenet_v2", 96, pooling=pooling)
    usual = architectures.with_evidence(network).predict_on_batch(images(4, 96))["evidence"].mean(axis=0)
    outputs = architectures.with_evidence(network, usual).predict_on_batch(images(4, 96))
    bias = architectures.bias(network, usual)
    assert bias is not None
    assert np.abs(bias + outputs["evidence"].sum(axis=(1, 2)) - outputs["logit"]).max() < 1e-4
    assert np.abs(outputs["evidence"].mean(axis=0)).max() < 1e-5


def test_evidence_of_the_cnn_is_gradient_times_activation() -> None:
    keras.utils.set_random_seed(1)
    network = architectures.build("cnn", 64)
    batch = images(3)
    maps = network.get_layer("features").predict_on_batch(batch)
    head = network.get_layer("head")
    logits, step = head.predict_on_batch(maps)[:, 0], 1e-3
    by_scaling = (
        head.predict_on_batch(maps * (1 + step))[:, 0] - logits
    ) / step  # the sum of gradient times activation
    evidence = architectures.with_evidence(network).predict_on_batch(batch)["evidence"]
    assert architectures.bias(network) is None
    assert np.abs(evidence.sum(axis=(1, 2)) - by_scaling).max() < 0.05 * np.abs(by_scaling).max() + 1e-3


def test_the_head_of_a_registered_network_follows_a_line_not_a_module() -> None:
    network = architectures.build("mobilenet_v3_small", 64, pooling="average")
    assert network.predict_on_batch(images(2)).shape == (2, 1)


def test_an_unknown_architecture_lists_the_known_ones() -> None:
    with pytest.raises(NotFoundError, match="mobilenet_v2"):
        architectures.build("resnet9000", 64)


def test_weights_that_do_not_exist_or_fit_are_said_so(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"none\.weights\.h5"):
        architectures.build("mobilenet_v2", 64, init=str(tmp_path / "none.weights.h5"))
    path = tmp_path / "bad.weights.h5"
    path.write_bytes(b"no weights")
    with pytest.raises(TrainingError, match=r"bad\.weights\.h5"):
        architectures.build("mobilenet_v2", 64, init=str(path))
    with pytest.raises(TrainingError, match="imagenet, none"):
        architectures.build("mobilenet_v2", 64, init="weights.zip")


@pytest.mark.images
def test_the_imagenet_weights_load(data: Path) -> None:
    path = data.parent / "weights" / "mobilenet_v2_imagenet_notop.weights.h5"
    if not path.exists():
        pytest.skip(f"no ImageNet weights at {path}")
    random, pretrained = (
        architectures.build("mobilenet_v2", 96, init=init).get_layer("features").predict_on_batch(images(2, 96))
        for init in ("none", str(path))
    )
    assert not np.allclose(random, pretrained)


def test_a_network_of_frozen_normalisation_is_the_same_in_training_and_in_use(
    tmp_path: Path,
) -> None:
    base = architectures.build("mobilenet_v2", 64).get_layer("features").layers[-1]
    base.save_weights(tmp_path / "base.weights.h5")
    weights = str(tmp_path / "base.weights.h5")
    pretrained = architectures.build("mobilenet_v2", 64, init=weights, batch_norm="frozen")
    batch = images(4)
    assert np.allclose(pretrained(batch, training=True), pretrained(batch, training=False), atol=1e-5)
    random = architectures.build("mobilenet_v2", 64)
    assert not np.allclose(random(batch, training=True), random(batch, training=False), atol=1e-3)
