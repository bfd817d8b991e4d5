"""The engines: each gives every output, to several threads at once; images reduced while decoded keep their finding."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import openvino
import pytest
from numpy.typing import NDArray

from pneumoscope import Detector
from pneumoscope.errors import MissingExtraError, ModelFileError
from pneumoscope.imaging import corruptions, radiograph
from pneumoscope.inference import model_file, runtimes
from pneumoscope.metrics import metrics
from tests.conftest import drawn_image

Outputs = Mapping[str, NDArray[np.float32]]


def batch(n: int, seed: int = 0) -> NDArray[np.float32]:
    images = np.stack([drawn_image(i % 2, seed + i) for i in range(n)])
    return images[..., None].astype(np.float32) / np.float32(255)


BFLOAT16 = pytest.mark.skipif(not runtimes.has_bfloat16(), reason="this processor has no bfloat16 units")


@pytest.fixture(params=[pytest.param(name, marks=BFLOAT16 if "bf16" in name else ()) for name in runtimes.NAMES])
def run(request: pytest.FixtureRequest, tiny_model: Path) -> runtimes.Engine:
    return runtimes.start(request.param, tiny_model, model_file.read(tiny_model)[0])


def test_an_engine_gives_every_output_of_the_graph(run: runtimes.Engine) -> None:
    outputs = run(batch(3))
    assert outputs["logit"].shape == (3,)
    assert outputs["evidence"].shape[0] == outputs["embedding"].shape[0] == 3


def test_an_engine_serves_several_threads_at_once(run: runtimes.Engine) -> None:
    batches = [batch(i % 4 + 1, seed=10 * i) for i in range(24)]
    alone = [run(images)["logit"].copy() for images in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda images: run(images)["logit"].copy(), batches))
    for one, other in zip(alone, together, strict=True):
        assert np.allclose(one, other, atol=1e-3)


@pytest.mark.parametrize(("many", "most"), [(1000, 1), (0, 4)])
def test_a_few_images_share_a_graph_and_many_have_at_most_one_a_thread(
    monkeypatch: pytest.MonkeyPatch, many: int, most: int
) -> None:
    compiled = Counter[str]()
    compile_model = openvino.Core.compile_model

    def counted(*given: Any) -> openvino.CompiledModel:
        compiled["graphs"] += 1
        return compile_model(*given)

    images, path = np.random.default_rng(0).random((12, 224, 224, 1), np.float32), model_file.default()
    run = runtimes.start("openvino", path, model_file.read(path)[0])
    alone = run(images)["logit"]
    monkeypatch.setattr(openvino.Core, "compile_model", counted)
    monkeypatch.setattr(runtimes, "MANY", many)
    run = runtimes.start("openvino", path, model_file.read(path)[0])
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: run(image[None])["logit"][0], images))
    assert together == alone.tolist()
    assert compiled["graphs"] <= most


def test_once_there_are_many_images_no_thread_waits_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "MANY", 0)
    path, threads = model_file.default(), 3
    run = runtimes.start("openvino", path, model_file.read(path)[0])
    all_there, infer = Barrier(threads, timeout=60), openvino.InferRequest.infer

    def met(*given: Any) -> Any:
        all_there.wait()
        return infer(*given)

    monkeypatch.setattr(openvino.InferRequest, "infer", met)
    with ThreadPoolExecutor(threads) as pool:
        outputs = list(pool.map(run, [np.zeros((1, 224, 224, 1), np.float32)] * threads))
    assert len({float(output["logit"][0]) for output in outputs}) == 1


def test_an_engine_goes_on_after_an_image_of_another_size() -> None:
    path, image = model_file.default(), np.zeros((1, 224, 224, 1), np.float32)
    run = runtimes.start("openvino", path, model_file.read(path)[0])
    with pytest.raises(RuntimeError):
        run(image[:, :-1])
    assert run(image)["logit"].shape == (1,)


def test_threads_whose_first_images_come_at_once_do_not_wait_for_each_other() -> None:
    """OpenVINO's binding deadlocks there in about a third of all processes, unless it was used before."""
    program = """
import faulthandler, sys, threading
import numpy as np
from pneumoscope.inference import model_file, runtimes
faulthandler.dump_traceback_later(30, exit=True)
path = model_file.default()
graph, card = model_file.read(path)
run = runtimes.start("openvino", path, graph)
image = np.zeros((1, card.input_size, card.input_size, 1), np.float32)
sys.setswitchinterval(1e-6)
begin = threading.Barrier(8)
threads = [threading.Thread(target=lambda: (begin.wait(), run(image))) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
    for _ in range(4):
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, ran.stderr


def test_outputs_are_not_overwritten_by_the_next_batch(run: runtimes.Engine) -> None:
    first = run(batch(2))
    kept = first["logit"].copy()
    run(batch(2, seed=500))
    assert np.array_equal(first["logit"], kept)


def test_an_engine_that_is_not_there_is_named(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as where it is not installed
    with pytest.raises(MissingExtraError, match=r"The engine onnxruntime needs .*\[onnxruntime\]"):
        Detector(tiny_model, engine="onnxruntime")


def test_onnx_runtime_rejects_what_is_no_onnx_model(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "model.xml").write_text("<net/>")
    with pytest.raises(ModelFileError, match="an ONNX model"):
        runtimes.start("onnxruntime", tmp_path / "model.xml", model_file.read(tiny_model)[0])


def test_an_unknown_engine_is_rejected(tiny_model: Path) -> None:
    with pytest.raises(ModelFileError, match="openvino, openvino-bf16, onnxruntime"):
        Detector(tiny_model, engine="abacus")


def test_fewer_bits_are_rejected_where_the_processor_has_no_units_for_them(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "has_bfloat16", lambda: False)
    with pytest.raises(ModelFileError, match="got one without: use openvino"):
        Detector(tiny_model, engine="openvino-bf16")


@BFLOAT16
@pytest.mark.images
def test_fewer_bits_change_no_finding_and_not_the_order_of_images(data: Path) -> None:
    """The bundled model, on every eighth image of the training split as it is and under one corruption each."""
    paths = sorted((data / "kermany224" / "train").rglob("*.jpeg"))[::8]
    full, reduced = (Detector(engine=engine) for engine in ("openvino", "openvino-bf16"))
    size, fitted = full.card.input_size, full.card.calibration
    images = [radiograph.resize(radiograph.read(path).pixels, size) for path in paths]
    shifts = [name for name in corruptions.CORRUPTIONS if name not in corruptions.APART]
    images += [corruptions.apply(shifts[i % len(shifts)], image) for i, image in enumerate(images)]
    labels = np.array([path.parent.name == "PNEUMONIA" for path in paths] * 2)
    one, other = (detector.predict_pixels(images)[0] for detector in (full, reduced))
    assert 0.0 < np.abs(one - other).max() < 0.1
    assert np.array_equal(one >= fitted.threshold, other >= fitted.threshold)
    assert [fitted.is_uncertain(float(p)) for p in one] == [fitted.is_uncertain(float(p)) for p in other]
    aucs = [metrics.delong(labels, probabilities).value for probabilities in (one, other)]
    assert abs(aucs[0] - aucs[1]) < 0.001


@BFLOAT16
def test_an_image_in_doubt_is_predicted_in_full_precision(tiny_model: Path) -> None:
    graph, images = model_file.read(tiny_model)[0], batch(12)
    full, reduced = (runtimes.start(name, tiny_model, graph)(images)["logit"] for name in ("openvino", "openvino-bf16"))
    middle = float(np.median(reduced))
    both = runtimes.start("openvino-bf16", tiny_model, graph, (middle, np.inf))(images)["logit"]
    assert not np.array_equal(full, reduced)
    assert np.array_equal(both, np.where(reduced > middle, full, reduced))


@pytest.mark.images
def test_an_image_reduced_while_it_is_decoded_gets_the_finding_of_the_whole_one(data: Path) -> None:
    paths = sorted((data / "kermany_original").rglob("*.jpeg"))
    detector = Detector()
    whole = [radiograph.resize(radiograph.read(path).pixels, detector.card.input_size) for path in paths]
    from_whole, _ = detector.predict_pixels(whole)
    reduced = detector.predict_proba(paths)[:, 1]
    assert np.median(np.abs(from_whole - reduced)) < 0.01
    assert not flipped_while_sure(from_whole, reduced)


def flipped_while_sure(one: NDArray[np.float64], other: NDArray[np.float64]) -> int:
    """Count the images that change their finding though the first was outside the uncertain band."""
    fitted = Detector().card.calibration
    sure = np.array([not fitted.is_uncertain(float(p)) for p in one])
    return int((sure & ((one >= fitted.threshold) != (other >= fitted.threshold))).sum())
