"""The benchmarks' samples and tables: who is compared with whom, and how the figures are laid out."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("keras", reason="training is not installed")

import onnx

from pneumoscope.data import layouts, splits
from pneumoscope.data.splits import Decoded
from pneumoscope.errors import TrainingError
from pneumoscope.inference import model_file
from pneumoscope.training.recipe import Recipe
from tests.conftest import ROOT, drawn_image


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def published() -> ModuleType:
    return script("published")


@pytest.fixture(scope="module")
def generalisation() -> ModuleType:
    return script("generalisation")


@pytest.fixture(scope="module")
def predict() -> ModuleType:
    return script("predict")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Decoded:
    """Images under Kermany's names: 120 patients of each class with two images each."""
    folder = tmp_path_factory.mktemp("pool")
    names = [(0, f"{('IM', 'NORMAL2-IM')[i % 2]}-{i:04d}-000{k}.png") for i in range(120) for k in (1, 2)]
    names += [(1, f"person{i}_virus_{k}.png") for i in range(120) for k in (1, 2)]
    for seed, (label, name) in enumerate(names):
        path = folder / layouts.LABELS[label] / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(drawn_image(label, seed, 32)).save(path)
    return splits.decode(layouts.load(folder), 32)


def test_the_first_recipe_draws_one_image_a_patient_and_half_of_them_normal(
    published: ModuleType, pool: Decoded
) -> None:
    samples, _ = published.drawn_few(pool, pool, draw=0)
    assert len({sample.patient for sample in samples}) == len(samples) == 176
    for split, n in (("train", 136), ("val", 40)):
        labels = [sample.label for sample in samples if sample.split == split]
        assert (len(labels), sum(labels)) == (n, n // 2)


def test_each_draw_takes_other_images_and_the_same_draw_the_same(published: ModuleType, pool: Decoded) -> None:
    for draw in (published.drawn_few, published.drawn_many):
        assert draw(pool, pool, 0) == draw(pool, pool, 0)
        assert draw(pool, pool, 0) != draw(pool, pool, 1)


def test_those_who_start_from_images_are_predicted_on_patients_they_have_not_drawn(
    published: ModuleType, pool: Decoded
) -> None:
    samples, unseen = published.drawn_elsewhere(pool, pool, draw=0)
    assert len(samples) == 176
    assert len(unseen) == 2 * (240 - 176)
    assert not {sample.patient for sample in samples} & {sample.patient for sample in unseen}


def test_the_mean_over_draws_has_students_interval(published: ModuleType) -> None:
    estimate = published.mean([0.90, 0.92, 0.94])
    assert estimate.value == pytest.approx(0.92)
    assert estimate.high - estimate.value == pytest.approx(4.303 * 0.02 / np.sqrt(3), rel=1e-3)  # t(2), 97.5 %


def test_a_share_has_no_interval_beyond_none_and_all(published: ModuleType) -> None:
    assert published.mean([0.99, 1.0]).high == 1.0
    assert published.mean([0.0, 0.01]).low == 0.0


@pytest.mark.parametrize(("name", "epochs"), [("mobilenet-published", 20), ("cnn-published", 10)])
def test_the_published_recipes_are_the_files_and_nothing_else(published: ModuleType, name: str, epochs: int) -> None:
    recipe = published.SIDES[name].recipe("none", 3)
    assert (recipe.epochs, recipe.seed, recipe.imbalance, recipe.average) == (epochs, 3, "none", 0.0)
    changes = {name for name, strength in vars(recipe.augmentation).items() if strength and name != "sharpen"}
    moved = {"zoom"} if name == "mobilenet-published" else {"width_shift", "height_shift"}
    assert changes == {"share", "rotation", "horizontal_flip"} | moved


def test_the_page_has_a_row_for_each_side(published: ModuleType) -> None:
    some = {"unseen: AUC": 0.9, "other hospital: AUC": 0.8}
    page = published.page({name: [some, some] for name in published.SIDES})
    for side in published.SIDES:
        assert f"| {side} | 2 | 0.900 (0.900–0.900) |" in page
        assert f"| {side} | 2 | 0.800 (0.800–0.800) |" in page


def test_a_single_draw_has_no_interval(published: ModuleType) -> None:
    assert "| cnn-ours | 1 | 0.900 |" in published.page({"cnn-ours": [{"unseen: AUC": 0.9}]})


def test_no_patient_is_learnt_from_and_measured_on(generalisation: ModuleType, pool: Decoded) -> None:
    samples = [replace(sample, site="AB"[i // 2 % 2]) for i, sample in enumerate(pool.samples)]
    parts = generalisation.parts(samples, Recipe())
    assert list(parts) == ["learnt-at-B", "learnt-at-A", "fold-1", "fold-2", "fold-3", "fold-4"]
    for learnt, held_out in parts.values():
        assert not {sample.patient for sample in learnt} & {sample.patient for sample in held_out}
        assert len(learnt) + len(held_out) == len(samples)
    assert {sample.site for sample in parts["learnt-at-B"][0]} == {"B"}
    assert {sample.site for sample in parts["learnt-at-B"][1]} == {"A"}


def test_the_page_shows_the_other_hospital_beside_what_in_house_validation_said(generalisation: ModuleType) -> None:
    def figure(value: float) -> dict[str, float]:
        return {"value": value, "low": value, "high": value}

    names = ("auc", "sensitivity", "specificity", "ece", "normals_above", "pneumonias_below", "rejected")
    whole = {"n": 10, "positives": 5, "acquisition_probe": figure(0.2), **{name: figure(0.7) for name in names}}
    found = {"in_house": {"auc": figure(0.99)}, "sites": {"B": {"all": whole, "AP": {"auc": figure(0.6)}}}}
    (row,) = (line for line in generalisation.page({"learnt-at-A": {"mine": found}}).splitlines() if "| mine |" in line)
    assert row.startswith("| learnt-at-A | mine | B, 10 (5) | 0.700 (0.700–0.700) |")
    assert "AP 0.600 (0.600–0.600)" in row
    assert row.endswith("| 0.200 (0.200–0.200) | 0.990 (0.990–0.990) |")


def test_a_lost_or_swapped_answer_of_the_service_is_counted() -> None:
    serve = script("serve")
    expected = [0.1, 0.2, None]
    assert serve.check([(0, 0.1), (1, 0.20001), (2, None)], expected) == 0
    assert serve.check([(0, 0.2), (1, 0.1), (2, 0.1), (1, None)], expected) == 4


def test_keras_predicts_with_the_network_of_the_model_file(predict: ModuleType) -> None:
    network = predict.keras_network(model_file.default())  # which compares both
    assert network.get_layer("features").layers[-1].get_layer("block_13_expand_relu")


def test_a_network_that_keras_would_predict_otherwise_with_is_rejected(predict: ModuleType, tmp_path: Path) -> None:
    graph = model_file.load(model_file.default())
    last = next(node for node in graph.graph.node if node.op_type == "MatMul")
    offset = next(node for node in graph.graph.node if last.output[0] in node.input)
    offset.op_type = "Sub"
    onnx.save(graph, tmp_path / "model.onnx")
    with pytest.raises(TrainingError, match="give the logits"):
        predict.keras_network(tmp_path / "model.onnx")
