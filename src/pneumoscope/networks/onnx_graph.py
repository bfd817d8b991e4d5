"""Writes a trained network as an ONNX graph.

`python -m pneumoscope.networks.onnx_graph NETWORK USUAL GRAPH` does so in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from pneumoscope.errors import ModelFileError
from pneumoscope.networks.architectures import with_evidence
from pneumoscope.networks.backend import keras


def write(network: keras.Model, usual: NDArray[np.floating[Any]] | None, path: Path) -> None:
    """Write the output of `architectures.with_evidence` for a network as an ONNX graph.

    Keras writes graphs that OpenVINO can read only with the TensorFlow backend; with another backend, a second process
    uses TensorFlow.

    Args:
        network: the trained output of `architectures.build`.
        usual: the evidence (h, w) of a usual image.
        path: the file to write; files with the same stem in its folder are overwritten.

    Raises:
        ModelFileError: the second process failed.

    Example:
        >>> write(network, None, Path("graph.onnx"))
    """
    if keras.backend.backend() == "tensorflow":
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "In the future `np.object`", FutureWarning)  # in Keras's export
            with_evidence(network, usual).export(path, format="onnx", verbose=False)
        return
    saved, places = path.with_suffix(".keras"), path.with_suffix(".npy")
    network.save(saved)
    np.save(places, np.empty(0) if usual is None else usual)
    command = [sys.executable, "-m", "pneumoscope.networks.onnx_graph", *map(str, (saved, places, path))]
    there = os.environ | {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": ""}  # JAX occupies all GPU memory
    done = subprocess.run(command, env=there, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    if done.returncode:
        raise ModelFileError(
            "Expected TensorFlow to write the trained network as an ONNX graph, got: "
            f"{(done.stderr.strip().splitlines() or ['nothing'])[-1]} "
            "Check that pip install '.[train]' was run, and add --resume: the training itself is kept."
        )


def centre(path: Path, images: NDArray[np.float32]) -> None:
    """Rewrite a graph so that it loses less precision in bfloat16, without changing what it computes.

    If the output of a convolution goes only to 1 x 1 convolutions, without an activation in between, the means of its
    channels can be subtracted and added to the biases of the following convolutions ("Absorbing high biases" in Nagel
    et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction"). In the first bottleneck of
    MobileNetV2 a channel's mean is 57 times its standard deviation, and bfloat16 has only 8 bits for both.

    Args:
        path: the graph, with the input `image`; rewritten in place.
        images: (N, S, S, 1) in [0, 1], on which the means are measured.

    Example:
        >>> centre(Path("graph.onnx"), images)  # doctest: +SKIP
    """
    model = onnx.load(path)
    weights = {part.name: part for part in model.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            readers[name].append(node)
    for output in model.graph.output:
        readers[output.name].append(onnx.NodeProto())  # stands for the caller

    def has_bias(node: onnx.NodeProto) -> bool:
        known = len(node.input) == 3 and set(node.input[1:]) <= weights.keys()
        return node.op_type == "Conv" and known and len(readers[node.input[2]]) == 1

    def is_pointwise(node: onnx.NodeProto) -> bool:
        options = {option.name: helper.get_attribute_value(option) for option in node.attribute}
        alone = not any(options.get("pads", ())) and options.get("group", 1) == 1
        return has_bias(node) and alone and list(weights[node.input[1]].dims[2:]) == [1, 1]

    blind = [n for n in model.graph.node if has_bias(n) and all(map(is_pointwise, readers[n.output[0]]))]
    graph = openvino.Core().read_model(path)
    graph.add_outputs([node.output[0] for node in blind])
    given = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(images)
    for node in blind:
        mean = given[node.output[0]].mean(axis=(0, 2, 3))
        _add(weights[node.input[2]], -mean)
        for reader in readers[node.output[0]]:
            kernel = numpy_helper.to_array(weights[reader.input[1]])
            _add(weights[reader.input[2]], kernel[:, :, 0, 0] @ mean)
    onnx.save(model, path)


def _add(weight: onnx.TensorProto, values: NDArray[np.float32]) -> None:
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) + values, weight.name))


def _main(saved: str, places: str, path: str) -> None:
    usual = np.load(places, allow_pickle=False)
    write(keras.saving.load_model(saved), usual if usual.size else None, Path(path))


if __name__ == "__main__":
    _main(*sys.argv[1:])
