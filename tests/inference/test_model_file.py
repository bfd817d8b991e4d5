"""The model file: one file, complete, verified as it is written, rejected when it is not ours."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pneumoscope.errors import ModelFileError, NotFoundError
from pneumoscope.inference import model_file
from pneumoscope.inference.model_file import Card
from pneumoscope.metrics import calibration
from tests.conftest import ROOT, SIZE, drawn_image


def images(n: int) -> NDArray[np.float32]:
    return np.asarray([drawn_image(i % 2, 70_000 + i) for i in range(n)], dtype=np.float32) / np.float32(255)


def test_a_card_survives_writing_and_reading() -> None:
    card = Card("cnn", 64, calibration.Calibration(temperature=1.7), bias=0.25, metrics={"auc": {"value": None}})
    assert Card.from_json(card.to_json()) == card


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"format": 2}', '{"format": 2, "architecture": 3}'])
def test_a_card_that_is_none_is_rejected(text: str) -> None:
    with pytest.raises(ModelFileError, match="Expected"):
        Card.from_json(text)


def test_a_card_of_a_newer_format_says_which_program_to_use() -> None:
    newer = json.dumps(json.loads(Card("cnn", 64).to_json()) | {"format": 99})
    with pytest.raises(ModelFileError, match=f"format {model_file.FORMAT}, got 99"):
        Card.from_json(newer)


def test_the_file_says_how_it_was_made(tiny_model: Path) -> None:
    _, card = model_file.read(tiny_model)
    assert card.architecture == "cnn"
    assert card.input_size == SIZE
    assert card.data["training"]["images"] + card.data["validation"]["images"] == 520
    assert card.recipe["epochs"] == 8
    assert card.metrics["auc"]["low"] <= card.metrics["auc"]["value"] <= card.metrics["auc"]["high"]
    assert "Not a medical device" in card.intended_use


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"none\.onnx"):
        model_file.read(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    "content", [b"this is no model" * 100, b"\xff\xd8\xff\xe0", b"\x08\x07 cut", b""], ids=range(4)
)
def test_a_file_that_is_no_model_is_rejected(content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"Expected an ONNX model .* or a damaged file|without its card"):
        model_file.read(path)
    assert not capfd.readouterr().err


def test_a_truncated_model_is_rejected(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(tiny_model.read_bytes()[:-5000])
    with pytest.raises(ModelFileError):
        model_file.read(path)


def test_an_onnx_model_of_somebody_else_is_rejected(tiny_model: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    proto = onnx.load(tiny_model)
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "other.onnx")
    with pytest.raises(ModelFileError, match="without its card"):
        model_file.read(tmp_path / "other.onnx")


@pytest.mark.parametrize(
    ("architecture", "pooling"), [("mobilenet_v2", "max"), ("mobilenet_v2", "average"), ("cnn", "max")]
)
def test_the_file_says_the_same_as_the_network_and_its_evidence_sums_to_the_logit(
    architecture: str, pooling: str, tmp_path: Path
) -> None:
    keras = pytest.importorskip("keras")
    from pneumoscope.networks import architectures

    keras.utils.set_random_seed(3)
    network = architectures.build(architecture, 64, pooling=pooling)
    batch = np.random.default_rng(0).random((5, 64, 64)).astype(np.float32)
    path = tmp_path / "deep" / "model.onnx"
    bias = architectures.bias(network)
    model_file.write(network, Card(architecture, 64, bias=bias), path, batch)
    graph, _ = model_file.read(path)
    got = model_file.compile_graph(graph)(batch[..., None])
    logits = network.predict_on_batch(batch[..., None])[:, 0]
    assert got["logit"].shape == (5,)
    assert np.abs(got["logit"] - logits).max() < 1e-4
    if bias is not None:
        assert np.abs(bias + got["evidence"].sum(axis=(1, 2)) - got["logit"]).max() < 1e-4
    assert [entry.name for entry in path.parent.iterdir()] == ["model.onnx"]


@pytest.mark.images
def test_the_evidence_of_the_default_model_sums_to_its_logit_on_real_images(data: Path) -> None:
    from pneumoscope.imaging import radiograph

    graph, card = model_file.read(model_file.default())
    paths = sorted((data / "kermany_original" / "val").rglob("*.jpeg"))
    batch = np.stack([radiograph.resize(radiograph.read(path).pixels, card.input_size) for path in paths])
    got = model_file.compile_graph(graph)(batch[..., None])
    assert card.bias is not None
    assert np.abs(card.bias + got["evidence"].sum(axis=(1, 2)) - got["logit"]).max() < 1e-4


def test_a_card_without_what_was_added_later_is_read() -> None:
    values = json.loads(Card("cnn", 64, calibration.Calibration(temperature=2.0)).to_json())
    del values["calibration"]["offset"], values["calibration"]["probability_reason"]
    old = Card.from_json(json.dumps(values)).calibration
    assert old.offset == 0.0
    assert old.probabilities([2.0]) == pytest.approx([1 / (1 + np.exp(-1))])


def test_a_model_is_written_again_with_another_card(tiny_model: Path, tmp_path: Path) -> None:
    _, card = model_file.read(tiny_model)
    path = tmp_path / "deep" / "licensed.onnx"
    model_file.rewrite(tiny_model, replace(card, licence="CC0"), path, images(3))
    graph, found = model_file.read(path)
    assert found == replace(card, licence="CC0")
    got, expected = (model_file.compile_graph(g)(images(3)[..., None]) for g in (graph, model_file.read(tiny_model)[0]))
    assert np.array_equal(got["logit"], expected["logit"])
    assert [entry.name for entry in path.parent.iterdir()] == ["licensed.onnx"]


def test_a_file_that_came_out_damaged_takes_nothing_s_place(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = pytest.importorskip("onnx")
    save = onnx.save

    def damaging(proto: Any, path: Path) -> None:
        weights = max(proto.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        weights.raw_data = bytes(len(weights.raw_data))
        save(proto, path)

    monkeypatch.setattr(onnx, "save", damaging)
    _, card = model_file.read(tiny_model)
    with pytest.raises(ModelFileError, match="nothing was written"):
        model_file.rewrite(tiny_model, card, tmp_path / "new.onnx", images(3))
    assert list(tmp_path.iterdir()) == []


def test_the_bundled_model_says_whom_it_was_trained_on_and_what_its_images_look_like() -> None:
    _, card = model_file.read(model_file.default())
    assert (card.data["youngest_patient_years"], card.data["oldest_patient_years"]) == (1, 95)
    assert set(card.gate) == {"mean", "components", "scale", "limit"}
    assert set(card.metrics["sites"]) == {"Bethesda", "Guangzhou"}
    assert model_file.default().stat().st_size < 12e6


def test_the_card_in_the_documentation_is_of_the_bundled_model() -> None:
    _, card = model_file.read(model_file.default())
    document = (ROOT / "docs" / "model-card.md").read_text(encoding="utf-8")
    assert f"| threshold | {card.calibration.threshold:.3f}. " in document
    assert f"{card.data['training']['images']:,} images" in document
