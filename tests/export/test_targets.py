"""Exported files: run by their own runtime, equal to their source, complete or not there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from pneumoscope.errors import DatasetError, MissingExtraError, ModelFileError
from pneumoscope.export import targets
from pneumoscope.export.targets import TARGETS, Outputs
from pneumoscope.imaging import radiograph
from pneumoscope.inference import model_file
from pneumoscope.inference.detector import Detector
from tests.builders.commands import run
from tests.conftest import ROOT, SIZE, drawn_image

IMAGES = [drawn_image(i % 2, 90_000 + i) for i in range(5)]
OTHERS = np.asarray([drawn_image(i % 2, 91_000 + i) for i in range(3)], dtype=np.float32)[..., None] / np.float32(255)

every_target = pytest.mark.parametrize("target", TARGETS)


@pytest.fixture(autouse=True)
def _installed(request: pytest.FixtureRequest) -> None:
    """Skip where the target's runtime is not installed."""
    call = getattr(request.node, "callspec", None)
    target = call.params.get("target") if call else None
    for module in TARGETS[target].needs if target else ():
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


def name(target: str, stem: str = "model") -> str:
    return stem + TARGETS[target].suffix


def run_elsewhere(target: str, path: Path, images: NDArray[np.float32]) -> Outputs:
    """Run a file as a program does that knows nothing of Pneumoscope."""
    if target == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, {"image": images}), strict=True))
    if target == "openvino":
        import openvino

        model = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return {output.any_name: values for output, values in model(images).items()}
    from ai_edge_litert.interpreter import Interpreter

    predict = Interpreter(str(path)).get_signature_runner()
    outputs = [predict(image=image[None]) for image in images]
    return {name: np.concatenate([output[name] for output in outputs]) for name in outputs[0]}


def metadata(target: str, path: Path) -> dict[str, str]:
    if target == "onnx":
        return {prop.key: prop.value for prop in onnx.load(path).metadata_props}
    if target == "openvino":
        import openvino

        graph = openvino.Core().read_model(path)
        keys = ("pneumoscope", "threshold", "labels", "usage")
        return {key: graph.get_rt_info(["framework", key]).astype(str) for key in keys}
    from pneumoscope.export import litert

    return litert.read_metadata(path)


@every_target
def test_an_exported_file_gives_what_its_source_gives_on_images_it_was_not_compared_on(
    target: str, tiny_model: Path, tmp_path: Path
) -> None:
    done = targets.export(tiny_model, tmp_path / "deep" / name(target), target, IMAGES)
    assert (done.images, done.failures) == (5, [])
    assert done.difference <= model_file.TOLERANCE
    graph, card = model_file.read(tiny_model)
    expected = model_file.compile_graph(graph)(OTHERS)
    got = run_elsewhere(target, done.path, OTHERS)
    assert set(got) == {"probability", "logit", "evidence", "embedding"}
    for output in ("logit", "evidence", "embedding"):
        assert got[output] == pytest.approx(expected[output], rel=1e-4, abs=1e-4)
    assert got["probability"] == pytest.approx(card.calibration.probabilities(expected["logit"]), abs=1e-5)
    beside = {".onnx": [], ".xml": ["model.bin"], ".tflite": []}[TARGETS[target].suffix]
    assert sorted(entry.name for entry in done.path.parent.iterdir()) == [*beside, done.path.name]


@every_target
def test_an_exported_file_holds_the_card_the_threshold_and_how_it_is_used(
    target: str, tiny_model: Path, tmp_path: Path
) -> None:
    done = targets.export(tiny_model, tmp_path / name(target), target, IMAGES)
    held = metadata(target, done.path)
    _, card = model_file.read(tiny_model)
    assert held["pneumoscope"] == card.to_json()
    assert float(held["threshold"]) == card.calibration.threshold
    assert held["labels"] == "NORMAL,PNEUMONIA"
    assert held["usage"] == done.usage
    assert f"{SIZE}, {SIZE}, 1)" in done.usage
    assert "Not a medical device" in done.usage


def _damaged(model: onnx.ModelProto) -> onnx.ModelProto:
    weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weights.raw_data = bytes(len(weights.raw_data))
    return model


@every_target
def test_a_file_that_came_out_different_is_not_written_and_an_earlier_one_stays(
    target: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = TARGETS[target]
    targets.export(tiny_model, tmp_path / name(target, "earlier"), target, IMAGES)
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    monkeypatch.setitem(TARGETS, target, replace(row, write=lambda model, path: row.write(_damaged(model), path)))
    for stem in ("new", "earlier"):
        with pytest.raises(ModelFileError, match="nothing was written"):
            targets.export(tiny_model, tmp_path / name(target, stem), target, IMAGES)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == before


@every_target
def test_an_earlier_export_is_replaced(target: str, tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / name(target)
    for images in (IMAGES, IMAGES[:1]):
        done = targets.export(tiny_model, path, target, images)
    assert done.images == 1
    assert run_elsewhere(target, path, OTHERS)["probability"].shape == (3,)


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_pneumoscope_reads_what_it_exported(target: str, tiny_model: Path, tmp_path: Path) -> None:
    done = targets.export(tiny_model, tmp_path / name(target), target, IMAGES)
    images = list(OTHERS[..., 0])
    assert Detector(done.path).predict_proba(images) == pytest.approx(Detector(tiny_model).predict_proba(images))


@pytest.mark.parametrize("target", ["onnx"])
def test_an_exported_file_that_is_calibrated_again_gives_no_probability_of_its_old_card(
    target: str, tiny_model: Path, tmp_path: Path
) -> None:
    first = targets.export(tiny_model, tmp_path / "first.onnx", target, IMAGES).path
    _, card = model_file.read(first)
    other = replace(card, calibration=replace(card.calibration, offset=2.0, threshold=0.25))
    model_file.rewrite(first, other, tmp_path / "rewritten.onnx", OTHERS[..., 0])
    assert "probability" not in run_elsewhere(target, tmp_path / "rewritten.onnx", OTHERS)
    assert set(metadata(target, tmp_path / "rewritten.onnx")) == {"pneumoscope"}
    again = targets.export(tmp_path / "rewritten.onnx", tmp_path / "again.onnx", target, IMAGES).path
    got = run_elsewhere(target, again, OTHERS)
    assert got["probability"] == pytest.approx(other.calibration.probabilities(got["logit"]), abs=1e-5)
    assert metadata(target, again)["threshold"] == "0.25"


def _unasked() -> Iterator[Path]:
    yield from map(pytest.fail, ["the images were asked for"])


def test_a_missing_runtime_says_what_to_install_before_images_are_asked_for(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TARGETS, "litert", replace(TARGETS["litert"], needs=("no_such_runtime",)))
    with pytest.raises(MissingExtraError, match=r"no_such_runtime is missing.*'\.\[export\]'"):
        targets.export(tiny_model, tmp_path / "model.tflite", "litert", _unasked())


def test_a_name_that_the_runtime_would_not_know_is_rejected(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"suffix \.xml for OpenVINO"):
        targets.export(tiny_model, tmp_path / "model.onnx", "openvino", _unasked())


def test_the_model_file_itself_is_not_exported_over(tiny_model: Path) -> None:
    with pytest.raises(ModelFileError, match="the model to start from"):
        targets.export(tiny_model, tiny_model, "onnx", _unasked())


def test_what_was_exported_to_openvino_is_no_model_file_to_start_from(tiny_model: Path, tmp_path: Path) -> None:
    done = targets.export(tiny_model, tmp_path / "model.xml", "openvino", IMAGES)
    _, card = model_file.read(done.path)
    with pytest.raises(ModelFileError, match="a model as an ONNX file"):
        targets.export(done.path, tmp_path / "other.xml", "openvino", _unasked())
    with pytest.raises(ModelFileError, match="a model as an ONNX file"):
        model_file.rewrite(done.path, card, tmp_path / "other.onnx", OTHERS[..., 0])


def test_a_file_of_somebody_else_is_not_replaced_by_the_weights(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"firmware")
    with pytest.raises(ModelFileError, match="belongs to something else"):
        targets.export(tiny_model, tmp_path / "model.xml", "openvino", _unasked())
    assert (tmp_path / "model.bin").read_bytes() == b"firmware"


def test_without_an_image_that_can_be_read_nothing_is_written(tiny_model: Path, tmp_path: Path) -> None:
    for images, why in (([], "got none that can be read."), ([b"", b""], "empty file")):
        with pytest.raises(DatasetError, match=why):
            targets.export(tiny_model, tmp_path / "model.xml", "openvino", images)
    assert list(tmp_path.iterdir()) == []


def test_many_images_are_compared_on_an_even_choice(tiny_model: Path, tmp_path: Path) -> None:
    images = [IMAGES[0]] * 40 + [b""] * 40
    done = targets.export(tiny_model, tmp_path / "model.xml", "openvino", images)
    assert (done.images, len(done.failures)) == (targets.IMAGES // 2, targets.IMAGES // 2)


def test_an_operator_that_litert_is_not_taught_is_named(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    pytest.importorskip("onnxruntime")
    from pneumoscope.export import litert

    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ("N", 4, 4, 1))
    out = helper.make_tensor_value_info("logit", TensorProto.FLOAT, ("N", 4, 4, 1))
    graph = helper.make_graph([helper.make_node("Erf", ["image"], ["logit"])], "erf", [image], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    with pytest.raises(ModelFileError, match="got Erf in it"):
        litert.write(model, tmp_path / "model.tflite")


def test_the_command_prints_the_file_and_says_how_it_is_used(
    tiny_model: Path, draw_folder: Callable[..., Path], tmp_path: Path
) -> None:
    images = draw_folder(2, 2)
    done = run("export", tiny_model, "--format", "openvino", "--out", tmp_path / "model.xml", "--images", images)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'model.xml'}\n")
    assert "The finding is PNEUMONIA from" in done.stderr
    assert "on 4 images" in done.stderr
    (images / "broken.png").write_bytes(b"")
    done = run("export", tiny_model, "--format", "openvino", "--out", tmp_path / "model.xml", "--images", images)
    assert done.returncode == 3
    assert "1 images were not compared" in done.stderr


def test_without_images_of_ones_own_the_command_compares_on_those_that_come_along(tmp_path: Path) -> None:
    unconnected: dict[str, Any] = {"HTTPS_PROXY": "http://127.0.0.1:1", "PIP_INDEX_URL": "http://127.0.0.1:1"}
    done = run("export", "--format", "openvino", "--out", tmp_path / "model.xml", **unconnected)
    assert done.returncode == 0, done.stderr
    assert "on 6 images" in done.stderr


@pytest.mark.images
@every_target
def test_the_bundled_model_is_exported_on_real_images(target: str, data: Path, tmp_path: Path) -> None:
    images = radiograph.files(data / "kermany_original" / "val")
    done = targets.export(model_file.default(), tmp_path / name(target), target, images)
    assert (done.images, done.failures) == (16, [])


@pytest.mark.images
@pytest.mark.parametrize("target", ["onnx"])
def test_the_program_in_the_documentation_gives_the_finding_that_predict_gives(
    target: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = (
        (ROOT / "docs" / "how-to" / "export.md")
        .read_text(encoding="utf-8")
        .partition("```python\n")[2]
        .partition("```")[0]
    )
    monkeypatch.chdir(tmp_path)
    for image in sorted(radiograph.files(data / "kermany224" / "val"))[::5]:
        targets.export(model_file.default(), "model.onnx", target, [image])
        Path("image.png").write_bytes(image.read_bytes())
        exec(program, {})
        printed, probability = capsys.readouterr().out.split()
        finding = next(Detector().examine([image]))
        assert printed == finding.finding
        assert float(probability) == pytest.approx(finding.probability, abs=1e-4)


@pytest.mark.training
@pytest.mark.parametrize("target", ["litert"])
@pytest.mark.parametrize(
    ("architecture", "pooling"),
    [
        ("cnn", "max"),
        ("mobilenet_v2", "max"),
        ("mobilenet_v3_small", "max"),
        ("densenet121", "average"),
        pytest.param("resnet50", "average", marks=pytest.mark.long),  # takes 10 GB
    ],
)
def test_litert_runs_the_networks_of_the_registry(architecture: str, pooling: str, target: str, tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    from pneumoscope.export import litert
    from pneumoscope.networks import architectures

    keras.utils.set_random_seed(3)
    batch = np.random.default_rng(0).random((2, 96, 96)).astype(np.float32)
    network = architectures.build(architecture, 96, pooling=pooling)
    model_file.write(network, model_file.Card(architecture, 96), tmp_path / "model.onnx", batch)
    expected = model_file.compile_graph(model_file.read(tmp_path / "model.onnx")[0])(batch[..., None])
    litert.write(onnx.load(tmp_path / "model.onnx"), tmp_path / name(target))
    got = run_elsewhere(target, tmp_path / name(target), batch[..., None])
    for output, values in got.items():  # an untrained network's outputs may be tiny
        assert np.abs(values - expected[output]).max() <= 1e-4 * np.abs(expected[output]).max()
