"""Starting from a model file: its function is taken over, and files that will not do are told of at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

keras = pytest.importorskip("keras", reason="training is not installed")

from pneumoscope import Detector
from pneumoscope.data import layouts, splits
from pneumoscope.errors import ModelFileError, NotFoundError, PneumoscopeError, TrainingError
from pneumoscope.inference import model_file, seen
from pneumoscope.inference.model_file import Card
from pneumoscope.networks import architectures, restoring
from pneumoscope.training import loop, starting
from pneumoscope.training.augmentation import NONE
from pneumoscope.training.job import Job
from pneumoscope.training.recipe import Recipe
from pneumoscope.training.run import fit
from tests.conftest import SIZE, drawn_image


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.float32]:
    return np.stack([drawn_image(i % 2, i, 64) for i in range(24)]).astype(np.float32) / np.float32(255)


def uneven(network: Any) -> Any:
    """Give every batch normalisation statistics and scales of its own, as training does."""
    rng = np.random.default_rng(0)
    for weight in network.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "bias", "moving_mean"):
            weight.assign(rng.normal(0.0, 0.3, weight.shape))
    return network


@pytest.mark.parametrize("pooling", architectures.POOLINGS)
@pytest.mark.parametrize("name", restoring.RESTORABLE)
def test_a_network_restored_from_its_file_gives_the_same_logits(
    name: str, pooling: str, pixels: NDArray[np.float32], tmp_path: Path
) -> None:
    keras.utils.set_random_seed(2)
    trained = uneven(architectures.build(name, 64, pooling=pooling))
    path = tmp_path / "model.onnx"
    model_file.write(trained, Card(name, 64), path, pixels[:4])
    restored = architectures.build(name, 64, pooling=pooling, init="restored", quick=True)
    restoring.restore(restored, path, pixels)
    expected, got = (loop.predict_logits(network, pixels) for network in (trained, restored))
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)


def test_normalisation_put_back_has_the_statistics_of_the_images(pixels: NDArray[np.float32], tmp_path: Path) -> None:
    keras.utils.set_random_seed(2)
    trained = uneven(architectures.build("mobilenet_v2_short", 64, pooling="average"))
    model_file.write(trained, Card("mobilenet_v2_short", 64), tmp_path / "model.onnx", pixels[:4])
    restored = architectures.build("mobilenet_v2_short", 64, pooling="average", init="restored")
    restoring.restore(restored, tmp_path / "model.onnx", pixels)
    base = restored.get_layer("features").layers[-1]
    for name in ("bn_Conv1", "block_3_depthwise_BN", "block_12_project_BN"):
        layer = base.get_layer(name)
        before = keras.Model(base.input, layer.input)
        colours = np.repeat(pixels[..., None], 3, axis=-1) * 2 - 1
        maps = np.asarray(before.predict_on_batch(colours))
        np.testing.assert_allclose(np.asarray(layer.moving_mean), maps.mean(axis=(0, 1, 2)), atol=1e-3)
        np.testing.assert_allclose(np.asarray(layer.moving_variance), maps.var(axis=(0, 1, 2)), rtol=1e-2, atol=1e-4)


def test_a_training_of_no_epochs_from_a_file_gives_its_evidence_again(
    tiny_model: Path, draw_folder: Callable[..., Path], tmp_path: Path
) -> None:
    recipe = Recipe.from_dict({"init": str(tiny_model), "epochs": 0})
    assert (recipe.architecture, recipe.size) == ("cnn", SIZE)
    run = fit(Job(draw_folder(30, 30), tmp_path / "run", recipe))
    batch = np.stack([drawn_image(i % 2, 900 + i) for i in range(8)])[..., None].astype(np.float32) / 255
    first, second = (model_file.compile_graph(model_file.read(path)[0])(batch) for path in (tiny_model, run.model))
    np.testing.assert_allclose(first["logit"], second["logit"], rtol=1e-3, atol=1e-3)
    assert "the recipe has no epochs" in run.kept
    assert Detector(run.model).card.recipe["init"] == tiny_model.name


def test_what_the_file_had_seen_is_remembered(
    tiny_model: Path, draw_folder: Callable[..., Path], tmp_path: Path
) -> None:
    run = fit(Job(draw_folder(30, 30), tmp_path / "run", Recipe.from_dict({"init": str(tiny_model), "epochs": 0})))
    before, after = (seen.decode(model_file.read(path)[1].seen) for path in (tiny_model, run.model))
    assert {row.tobytes() for row in before} < {row.tobytes() for row in after}


def test_the_ages_that_the_file_covers_are_covered_still_and_those_of_the_images_too(
    tiny_model: Path, draw_folder: Callable[..., Path], tmp_path: Path
) -> None:
    card = model_file.read(tiny_model)[1]
    ages = {"youngest_patient_years": 1, "oldest_patient_years": 5}
    start = tmp_path / "children.onnx"
    blank = np.zeros((1, SIZE, SIZE))
    model_file.rewrite(tiny_model, replace(card, data=card.data | ages), start, blank)
    images = [replace(sample, age=40.0) for sample in layouts.load(draw_folder(30, 30))]
    run = fit(Job(images, tmp_path / "run", Recipe.from_dict({"init": str(start), "epochs": 0})))
    data = model_file.read(run.model)[1].data
    assert (data["youngest_patient_years"], data["oldest_patient_years"]) == (1, 40)


@pytest.mark.images
@pytest.mark.training
def test_the_bundled_model_is_trained_further_and_starts_where_it_was(data: Path, tmp_path: Path) -> None:
    images = [sample for sample in layouts.load(data / "kermany224" / "train") if sample.label == 0][:40]
    images += [sample for sample in layouts.load(data / "kermany224" / "train") if sample.label == 1][:40]
    recipe = Recipe.from_dict({"init": "default", "epochs": 0, "augmentation": vars(NONE)})
    run = fit(Job(images, tmp_path / "none", recipe))
    pixels = splits.decode(images[:16], recipe.size).pixels
    batch: NDArray[Any] = np.asarray(pixels, np.float32)[..., None]
    files = (model_file.default(), run.model)
    bundled, again = (model_file.compile_graph(model_file.read(path)[0])(batch)["logit"] for path in files)
    np.testing.assert_allclose(bundled, again, rtol=1e-3, atol=1e-3)
    further = fit(Job(images, tmp_path / "one", replace(recipe, epochs=1, learning_rate=1e-5)))
    assert further.validation.figures["auc"].value > 0.9


@pytest.mark.parametrize("name", ["gone.keras", "gone.weights.h5"])
def test_a_file_that_is_not_there_is_told_of_before_images_are_read(name: str, tmp_path: Path) -> None:
    recipe = Recipe(architecture="mobilenet_v2", init=str(tmp_path / name))
    with pytest.raises(NotFoundError, match="file to start from"):
        fit(Job(tmp_path / "no images", tmp_path / "run", recipe))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("init", ["none.onnx", "text.onnx", "other.onnx"])
def test_a_file_that_cannot_be_started_from_is_told_of_and_nothing_is_written(
    init: str, draw_folder: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / init
    expected: dict[str, tuple[type[PneumoscopeError], str]] = {
        "none.onnx": (NotFoundError, "does not exist"),
        "text.onnx": (ModelFileError, "another or a damaged file"),
        "other.onnx": (TrainingError, "mobilenet_v2_middle, cnn to start from, got xception"),
    }
    if init == "text.onnx":
        path.write_text("no model")
    if init == "other.onnx":
        draft = tmp_path / "cnn.onnx"
        pixels = np.zeros((1, SIZE, SIZE), np.float32)
        model_file.write(architectures.build("cnn", SIZE), Card("xception", SIZE), draft, pixels)
        draft.rename(path)
    kind, words = expected[init]
    with pytest.raises(kind, match=words):
        Recipe.from_dict({"init": str(path)})
    whole = Recipe(architecture="cnn", size=SIZE, init=str(path))
    with pytest.raises(kind, match=words):
        fit(Job(draw_folder(6, 6), tmp_path / "run", whole))
    assert not (tmp_path / "run").exists()


def test_a_recipe_of_another_form_than_the_file_is_rejected(tiny_model: Path) -> None:
    with pytest.raises(TrainingError, match=f"Expected size {SIZE}, as in the model file"):
        Recipe.from_dict({"init": str(tiny_model), "size": 64})
    with pytest.raises(TrainingError, match="Expected architecture cnn"):
        starting.check(str(tiny_model), {"architecture": "mobilenet_v2"})


def test_a_file_of_another_network_than_its_card_says_is_rejected(pixels: NDArray[np.float32], tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model_file.write(architectures.build("cnn", 64), Card("mobilenet_v2", 64), path, pixels[:1])
    with pytest.raises(TrainingError, match="5 convolutions and 2 dense layers: it is damaged"):
        restoring.restore(architectures.build("mobilenet_v2", 64), path, pixels)
