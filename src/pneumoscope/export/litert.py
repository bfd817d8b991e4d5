"""Converts an ONNX graph to LiteRT: rebuilds its operators in TensorFlow, and runs TensorFlow's converter."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pneumoscope.errors import ModelFileError

if TYPE_CHECKING:
    import onnx

Attributes = Mapping[str, Any]


def write(model: onnx.ModelProto, path: Path) -> None:
    """Write a model's graph and metadata as a LiteRT file that takes one image at a time.

    Phone accelerators need fixed shapes, hence one image. The metadata are appended to the graph as a zip archive, the
    way TensorFlow Lite packs a model's associated files: runtimes ignore it, and `unzip` can read it.

    Args:
        model: a model with one input `image` (N, S, S, 1).
        path: the file to write.

    Raises:
        ModelFileError: an operator of the graph has no counterpart here.

    Example:
        >>> write(onnx.load("model.onnx"), Path("model.tflite"))  # doctest: +SKIP
    """
    module = tf.Module()
    module.predict = _traced(_simplified(model).graph)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.predict.get_concrete_function()], module)
    path.write_bytes(converter.convert())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for prop in model.metadata_props:
            archive.writestr(prop.key, prop.value)


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata that `write` appended to the graph.

    Example:
        >>> read_metadata(Path("model.tflite"))["threshold"]  # doctest: +SKIP
        '0.20631850783604805'
    """
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode("utf-8") for name in archive.namelist()}


def run(path: Path, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Run a LiteRT file on images (N, S, S, 1), one at a time.

    Example:
        >>> run(Path("model.tflite"), images)["probability"].shape == images.shape[:1]  # doctest: +SKIP
        True
    """
    from ai_edge_litert.interpreter import Interpreter

    predict = Interpreter(str(path)).get_signature_runner()
    outputs = [predict(image=image[None]) for image in images]
    return {name: np.concatenate([output[name] for output in outputs]) for name in outputs[0]}


def _simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fix the batch size at one, and let ONNX Runtime fold constants and fuse operators."""
    import onnx
    import onnxruntime

    one = onnx.ModelProto()
    one.CopyFrom(model)
    for value in (*one.graph.input, *one.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder, "simple.onnx"))
        onnxruntime.InferenceSession(one.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def _traced(graph: onnx.GraphProto) -> Any:
    from onnx import helper, numpy_helper

    if unknown := sorted({node.op_type for node in graph.node} - OPERATORS.keys()):
        raise ModelFileError(
            f"Expected a graph of operators that can be written for LiteRT, got {', '.join(unknown)} in it: export it "
            "to ONNX or OpenVINO."
        )
    size = graph.input[0].type.tensor_type.shape.dim[1].dim_value
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}

    def predict(image: Any) -> dict[str, Any]:
        values = constants | {"image": image}
        for node in graph.node:
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            values[node.output[0]] = OPERATORS[node.op_type](attributes, *(values[name] for name in node.input))
        return {output.name: values[output.name] for output in graph.output}

    return tf.function(
        predict, input_signature=[tf.TensorSpec((1, size, size, 1), tf.float32, "image")], autograph=False
    )


# LiteRT supports only (N, H, W, C), ONNX uses (N, C, H, W). The converter removes the transpositions between layers.
def _channels_last(x: Any) -> Any:
    return tf.transpose(x, (0, 2, 3, 1))


def _channels_first(x: Any) -> Any:
    return tf.transpose(x, (0, 3, 1, 2))


def _padded(x: Any, attributes: Attributes, kernel: Sequence[int], fill: float) -> tuple[Any, str]:
    """Pad (N, H, W, C) as the attributes say, and return it with the padding that is left to the layer."""
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    pads = [(top, bottom), (left, right)]
    totals = [
        max((-(-side // stride) - 1) * stride + length - side, 0)
        for side, stride, length in zip(x.shape[1:3], attributes["strides"], kernel, strict=True)
    ]
    if not any(attributes.get("pads", ())):
        return x, "VALID"
    if pads == [(total // 2, total - total // 2) for total in totals]:
        return x, "SAME"
    return tf.pad(x, [(0, 0), *pads, (0, 0)], constant_values=fill), "VALID"


def _conv(attributes: Attributes, x: Any, kernel: NDArray[np.float32], bias: Any = 0.0) -> Any:
    """Convolve with a kernel (out, in / groups, h, w): all channels together, or each one separately."""
    strides, dilations = attributes["strides"], attributes.get("dilations", (1, 1))
    x, padding = _padded(_channels_last(x), attributes, kernel.shape[2:], 0.0)
    if attributes.get("group", 1) == 1:
        y = tf.nn.conv2d(x, kernel.transpose(2, 3, 1, 0), strides, padding, dilations=dilations)
    else:
        y = tf.nn.depthwise_conv2d(x, kernel.transpose(2, 3, 0, 1), (1, *strides, 1), padding, dilations=dilations)
    return _channels_first(y + bias)


def _pool(pool: Callable[..., Any], fill: float) -> Callable[..., Any]:
    def pooled(attributes: Attributes, x: Any) -> Any:
        kernel = attributes["kernel_shape"]
        x, padding = _padded(_channels_last(x), attributes, kernel, fill)
        return _channels_first(pool(x, kernel, attributes["strides"], padding))

    return pooled


def _clip(attributes: Attributes, x: Any, low: Any, high: Any) -> Any:
    return tf.nn.relu6(x) if (low, high) == (0.0, 6.0) else tf.clip_by_value(x, low, high)


def _gemm(attributes: Attributes, x: Any, weights: Any, bias: Any) -> Any:
    return tf.matmul(x, weights, transpose_b=bool(attributes.get("transB", 0))) + bias


def _slice(attributes: Attributes, x: Any, starts: Any, ends: Any, axes: Any) -> Any:
    cuts = {int(axis): slice(int(a), int(b)) for a, b, axis in zip(starts, ends, axes, strict=True)}
    return x[tuple(cuts.get(axis, slice(None)) for axis in range(len(x.shape)))]


def _reduce(reduce: Callable[..., Any]) -> Callable[..., Any]:
    def reduced(attributes: Attributes, x: Any, axes: Any = None) -> Any:
        return reduce(x, attributes["axes"] if axes is None else axes, keepdims=bool(attributes.get("keepdims", 1)))

    return reduced


OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": lambda _, x, y: tf.add(x, y),
    "AveragePool": _pool(tf.nn.avg_pool2d, 0.0),
    "Cast": lambda _, x: tf.cast(x, tf.float32),
    "Clip": _clip,
    "Concat": lambda attributes, *parts: tf.concat(parts, attributes["axis"]),
    "Conv": _conv,
    "Div": lambda _, x, y: tf.divide(x, y),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda _, x: tf.reduce_mean(x, (2, 3), keepdims=True),
    "Greater": lambda _, x, y: tf.greater(x, y),
    "MatMul": lambda _, x, y: tf.matmul(x, y),
    "MaxPool": _pool(tf.nn.max_pool2d, -np.inf),
    "Mul": lambda _, x, y: tf.multiply(x, y),
    "ReduceMean": _reduce(tf.reduce_mean),
    "ReduceSum": _reduce(tf.reduce_sum),
    "Relu": lambda _, x: tf.nn.relu(x),
    "Reshape": lambda _, x, shape: tf.reshape(x, shape),
    "Sigmoid": lambda _, x: tf.sigmoid(x),
    "Slice": _slice,
    "Squeeze": lambda _, x, axes: tf.squeeze(x, axes.tolist()),
    "Sub": lambda _, x, y: tf.subtract(x, y),
    "Transpose": lambda attributes, x: tf.transpose(x, attributes["perm"]),
}
"""ONNX operators, with the attributes as first argument, in TensorFlow. The check on images would reveal errors."""
