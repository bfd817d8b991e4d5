"""The graph of a trained network: centred where rounding would cost most, and still the same function."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
import pytest
from numpy.typing import NDArray

pytest.importorskip("keras", reason="training is not installed")

import onnx
from onnx import helper, numpy_helper

from pneumoscope import graph

Nodes = list[tuple[str, str, str]]
"""Of each node its kind, the tensor it reads and the one it gives."""

FILMS = np.random.default_rng(7).random((4, 8, 8, 1), dtype=np.float32)
WIDE, POINT = "3x3", "1x1"


def written(path: Path, nodes: Nodes, outputs: tuple[str, ...]) -> Path:
    """Write a graph of convolutions with two channels each, whose means are far from zero."""
    rng = np.random.default_rng(3)
    weights: list[NDArray[np.float32]] = []
    made = [helper.make_node("Transpose", ["image"], ["film"], perm=[0, 3, 1, 2])]
    for kind, read, given in nodes:
        if kind == "Relu":
            made.append(helper.make_node(kind, [read], [given]))
            continue
        side = int(kind[0])
        named = {f"{given}.kernel": (2, 1 if read == "film" else 2, side, side), f"{given}.bias": (2,)}
        for name, shape in named.items():
            weights.append(numpy_helper.from_array(rng.normal(5.0, 1.0, shape).astype(np.float32), name))
        made.append(helper.make_node("Conv", [read, *named], [given], pads=[side // 2] * 4))
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["n", 8, 8, 1])
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 2, 8, 8]) for name in outputs]
    model = helper.make_model(
        helper.make_graph(made, "graph", [image], ends, weights),
        opset_imports=[helper.make_opsetid("", 15)],
        ir_version=8,
    )
    onnx.save(model, path)
    return path


def given(path: Path, *names: str) -> list[NDArray[np.float32]]:
    model = openvino.Core().read_model(path)
    model.add_outputs([name for name in names if name not in {n for o in model.outputs for n in o.names}])
    outputs = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(FILMS)
    return [outputs[name] for name in names]


BOTTLENECK: Nodes = [(WIDE, "film", "a"), (POINT, "a", "b"), (POINT, "a", "c"), ("Relu", "b", "d"), ("Relu", "c", "e")]


def test_what_only_pointwise_convolutions_see_is_centred_and_the_outputs_stay(tmp_path: Path) -> None:
    path = written(tmp_path / "graph.onnx", BOTTLENECK, ("d", "e"))
    before = given(path, "d", "e")
    assert np.abs(given(path, "a")[0].mean(axis=(0, 2, 3))).min() > 1.0
    graph.centre(path, FILMS)
    for one, other in zip(before, given(path, "d", "e"), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4)
    np.testing.assert_allclose(given(path, "a")[0].mean(axis=(0, 2, 3)), 0.0, atol=1e-3)


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ([(POINT, "film", "a"), (WIDE, "a", "b")], ("b",)),  # which sees zeros beyond the edge
        ([(POINT, "film", "a"), ("Relu", "a", "b"), (POINT, "b", "c")], ("c",)),
        (BOTTLENECK, ("a", "d", "e")),
    ],
    ids=["a wide convolution", "an activation", "an output"],
)
def test_what_anything_else_sees_is_left_as_it_is(tmp_path: Path, nodes: Nodes, outputs: tuple[str, ...]) -> None:
    path = written(tmp_path / "graph.onnx", nodes, outputs)
    before = given(path, "a")[0]
    graph.centre(path, FILMS)
    assert np.array_equal(given(path, "a")[0], before)
