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

from pneumoscope.inference import model_file
from pneumoscope.networks import onnx_graph

Node = tuple[str, str, str]
"""What it does, the tensor it reads and the one it gives."""

IMAGES = np.random.default_rng(7).random((4, 8, 8, 1), dtype=np.float32)


def written(path: Path, nodes: list[Node], *outputs: str) -> Path:
    """Write a graph of convolutions that give two channels each, whose means are far from zero.

    A node is `Relu`, `Add` (to itself), or a convolution: `1x1` or `3x3`, and `padded`, `grouped` or `shared`, whose
    bias is the same for all that are.
    """
    rng = np.random.default_rng(3)
    weights: dict[str, NDArray[np.float32]] = {}
    made = [helper.make_node("Transpose", ["image"], ["image"], perm=[0, 3, 1, 2])]
    for kind, read, result in nodes:
        if kind in ("Relu", "Add"):
            made.append(helper.make_node(kind, [read] * (1 + (kind == "Add")), [result]))
            continue
        side, groups = int(kind[0]), 1 + ("grouped" in kind)
        bias = "bias" if "shared" in kind else f"{result}.bias"
        inputs = 1 if read == "image" else 2 // groups
        weights[f"{result}.kernel"] = rng.normal(5.0, 1.0, (2, inputs, side, side)).astype(np.float32)
        weights[bias] = rng.normal(5.0, 1.0, 2).astype(np.float32)
        pads = [int("padded" in kind)] * 4
        made.append(helper.make_node("Conv", [read, f"{result}.kernel", bias], [result], pads=pads, group=groups))
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["n", 8, 8, 1])
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 2, None, None]) for name in outputs]
    parts = [numpy_helper.from_array(values, name) for name, values in weights.items()]
    whole = helper.make_graph(made, "graph", [image], ends, parts)
    onnx.save(helper.make_model(whole, opset_imports=[helper.make_opsetid("", 15)], ir_version=8), path)
    return path


def given(path: Path, *names: str) -> list[NDArray[np.float32]]:
    model = openvino.Core().read_model(path)
    there = {name for output in model.outputs for name in output.names}
    model.add_outputs([name for name in names if name not in there])
    outputs = model_file.compile_graph(model)(IMAGES)
    return [outputs[name] for name in names]


def test_what_only_pointwise_convolutions_see_is_centred_and_the_outputs_stay(tmp_path: Path) -> None:
    nodes = [("3x3 padded", "image", "a"), ("1x1", "a", "b"), ("1x1", "a", "c"), ("Relu", "b", "d"), ("Relu", "c", "e")]
    path = written(tmp_path / "graph.onnx", nodes, "d", "e")
    before = given(path, "d", "e")
    assert np.abs(given(path, "a")[0].mean(axis=(0, 2, 3))).min() > 1.0
    onnx_graph.centre(path, IMAGES)
    for one, other in zip(before, given(path, "d", "e"), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4)
    np.testing.assert_allclose(given(path, "a")[0].mean(axis=(0, 2, 3)), 0.0, atol=1e-3)


@pytest.mark.parametrize(
    "reader",
    ["3x3", "1x1 padded", "1x1 grouped", "Relu", "Add"],
    ids=["a wide convolution", "zeros beyond the edge", "a convolution of groups", "an activation", "a sum"],
)
def test_what_anything_else_sees_too_is_left_as_it_is(tmp_path: Path, reader: str) -> None:
    path = written(tmp_path / "graph.onnx", [("1x1", "image", "a"), (reader, "a", "b"), ("1x1", "a", "c")], "b", "c")
    before = path.read_bytes()
    onnx_graph.centre(path, IMAGES)
    assert path.read_bytes() == before


def test_an_output_is_left_as_it_is(tmp_path: Path) -> None:
    path = written(tmp_path / "graph.onnx", [("1x1", "image", "a"), ("1x1", "a", "b")], "a", "b")
    before = path.read_bytes()
    onnx_graph.centre(path, IMAGES)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "nodes",
    [
        [("1x1 shared", "image", "a"), ("1x1", "a", "b"), ("Relu", "b", "c"), ("1x1 shared", "c", "d")],
        [("1x1", "image", "a"), ("1x1 shared", "a", "b"), ("Relu", "b", "c"), ("1x1 shared", "c", "d")],
    ],
    ids=["of what is seen", "of what sees it"],
)
def test_a_bias_that_others_use_is_left_as_it_is(tmp_path: Path, nodes: list[Node]) -> None:
    path = written(tmp_path / "graph.onnx", nodes, "d")
    before = path.read_bytes()
    onnx_graph.centre(path, IMAGES)
    assert path.read_bytes() == before
