"""Restores a Keras network from the graph of a model file, so that training can continue from the file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
from numpy.typing import NDArray
from onnx import numpy_helper

from pneumoscope.errors import TrainingError
from pneumoscope.networks.backend import keras, ops

RESTORABLE = ("mobilenet_v2", "mobilenet_v2_short", "mobilenet_v2_middle", "cnn")
"""The architectures whose convolutions have the same order in the graph as in Keras."""

TOLERANCE = 1e-3
"""The largest difference allowed between logits of the graph and the restored network, relative to logits above 1."""

BATCH = 8
"""The batch size for the graph while the outputs of all its convolutions are kept."""

COMPARED = 16
"""The most images on which the logits of graph and network are compared."""


@dataclass(frozen=True)
class Convolution:
    """A convolution of a graph, with the batch normalisation that was folded into it.

    Attributes:
        output: the name of its output tensor, before `scale` and `shift`.
        kernel: (out, in, h, w).
        bias: (out,), added after the kernel.
        scale: (out,), multiplies `output`.
        shift: (out,), added after `scale`.
    """

    output: str
    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    scale: NDArray[np.float32]
    shift: NDArray[np.float32]


def restore(network: keras.Model, path: Path, images: NDArray[np.floating[Any]]) -> None:
    """Load the weights of a graph into a network of the same architecture.

    In the graph, batch normalisation is folded into the convolutions, and the first convolution takes gray images where
    the network takes three equal colours. Each colour gets a third of the kernel. Batch normalisation is restored so
    that it changes nothing: with the mean and variance of the convolution's output on these images, and a scale and
    shift that undo it.

    Args:
        network: the output of `architectures.build`, of an architecture in `RESTORABLE`.
        path: the graph, with the input `image` and the output `logit`.
        images: (N, S, S) in [0, 1], radiographs to train on; a few hundred are enough.

    Raises:
        TrainingError: the graph belongs to another network, or the restored network gives other logits.

    Example:
        >>> restore(network, Path("model.onnx"), images)  # doctest: +SKIP
    """
    graph = onnx.load(path).graph
    convolutions, dense = _weights(graph)
    pairs, heads = _layers(network)
    if len(pairs) != len(convolutions) or len(heads) != len(dense):
        raise _other(f"{len(convolutions)} convolutions and {len(dense)} dense layers", path)
    means, variances, logits = _outputs(path, convolutions, images)
    for (layer, normal), found, mean, variance in zip(pairs, convolutions, means, variances, strict=True):
        _set_kernel(layer, found.kernel * found.scale[:, None, None, None], path)
        bias = found.shift + found.scale * found.bias
        if normal is None:
            layer.bias.assign(bias)
            continue
        mean, variance = found.scale * (mean - found.bias), found.scale**2 * variance
        normal.moving_mean.assign(mean)
        normal.moving_variance.assign(variance)
        normal.gamma.assign(np.sqrt(variance + normal.epsilon))
        normal.beta.assign(bias + mean)
    for layer, (kernel, bias) in zip(heads, dense, strict=True):
        if tuple(layer.kernel.shape) != kernel.shape:
            raise _other(f"a dense layer {kernel.shape}", path)
        layer.kernel.assign(kernel)
        layer.bias.assign(bias)
    got = ops.convert_to_numpy(network(np.asarray(images[: len(logits)], np.float32)[..., None], training=False))[:, 0]
    off = float(np.max(np.abs(got - logits) / np.maximum(1.0, np.abs(logits))))
    if not off <= TOLERANCE:
        raise TrainingError(
            f"Expected the restored network to give the logits of '{path}' within {TOLERANCE}, got a difference of "
            f"{off:.2g}: the file was written by another version. Start from imagenet, or from the run's model.keras."
        )


def _weights(
    graph: onnx.GraphProto,
) -> tuple[list[Convolution], list[tuple[NDArray[np.float32], NDArray[np.float32]]]]:
    """Return the convolutions before the logit, and kernel (in, out) and bias (out,) of the dense layers."""
    known = {part.name: numpy_helper.to_array(part) for part in graph.initializer}
    nodes = _before(graph, "logit")
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in nodes:
        for name in node.input:
            readers[name].append(node)

    def then(tensor: str, kind: str, size: int) -> tuple[str, NDArray[np.float32] | None]:
        """Return output and constant of a tensor's only reader, if it is a `kind` with a constant of this size."""
        for node in readers[tensor] if len(readers[tensor]) == 1 else ():
            values = [known[name] for name in node.input if name in known]
            if node.op_type == kind and len(values) == 1 and values[0].size == size:
                return node.output[0], values[0].reshape(-1)
        return tensor, None

    convolutions, dense = [], []
    for node in nodes:
        kernel = known.get(node.input[1]) if len(node.input) > 1 else None
        if kernel is None:
            continue
        if node.op_type == "Conv" and kernel.ndim == 4:
            size = kernel.shape[0]
            tensor, scale = then(node.output[0], "Mul", size)
            _, shift = then(tensor, "Add", size)
            bias = known.get(node.input[2]) if len(node.input) > 2 else None
            zeros, ones = np.zeros(size, np.float32), np.ones(size, np.float32)
            convolutions.append(
                Convolution(
                    node.output[0],
                    kernel,
                    bias=zeros if bias is None else bias,
                    scale=ones if scale is None else scale,
                    shift=zeros if shift is None else shift,
                )
            )
        elif node.op_type == "MatMul" and kernel.ndim == 2:
            _, bias = then(node.output[0], "Add", kernel.shape[1])
            dense.append((kernel, np.zeros(kernel.shape[1], np.float32) if bias is None else bias))
    return convolutions, dense


def _before(graph: onnx.GraphProto, output: str) -> list[onnx.NodeProto]:
    """Return the nodes that an output depends on, in the order of the graph."""
    needed, found = {output}, []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            found.append(node)
    return found[::-1]


def _layers(network: keras.Model) -> tuple[list[tuple[Any, Any]], list[Any]]:
    """Return the convolutions, each with the batch normalisation after it or None, and the dense layers."""
    pairs: list[tuple[Any, Any]] = []
    dense = []
    for layer in _leaves(network):
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            pairs.append((layer, None))
        elif isinstance(layer, keras.layers.BatchNormalization):
            pairs[-1] = (pairs[-1][0], layer)
        elif isinstance(layer, keras.layers.Dense):
            dense.append(layer)
    return pairs, dense


def _leaves(model: keras.Model) -> Iterator[Any]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        else:
            yield layer


def _set_kernel(layer: Any, kernel: NDArray[np.float32], path: Path) -> None:  # noqa: ANN401 - a layer of Keras
    """Assign the kernel (out, in, h, w) of a graph to a Keras layer."""
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    values = kernel.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
    colours = layer.kernel.shape[2]
    if not depthwise and values.shape[2] == 1 and colours == 3:
        values = np.repeat(values / colours, colours, axis=2)
    if tuple(layer.kernel.shape) != values.shape:
        raise _other(f"a convolution {values.shape}", path)
    layer.kernel.assign(values)


def _outputs(
    path: Path, convolutions: list[Convolution], images: NDArray[np.floating[Any]]
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]], NDArray[np.float32]]:
    """Run the graph; return mean and variance (out,) of each convolution's output, and the first images' logits."""
    names = [convolution.output for convolution in convolutions]
    graph = openvino.Core().read_model(path)
    graph.add_outputs(names)
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    sums = [np.zeros((2, len(convolution.bias))) for convolution in convolutions]
    places = [0] * len(names)
    logits: list[NDArray[np.float32]] = []
    for start in range(0, len(images), BATCH):
        given = compiled(np.asarray(images[start : start + BATCH], dtype=np.float32)[..., None])
        if start < COMPARED:
            logits.append(given["logit"])
        for i, (name, convolution) in enumerate(zip(names, convolutions, strict=True)):
            values = given[name] - convolution.bias[:, None, None]  # nearer 0, for precision
            sums[i] += [values.sum(axis=(0, 2, 3), dtype=np.float64), np.square(values).sum((0, 2, 3), np.float64)]
            places[i] += values.size // values.shape[1]
    means = [total / n for (total, _), n in zip(sums, places, strict=True)]
    variances = [
        np.maximum(squares / n - mean**2, 0.0) for (_, squares), n, mean in zip(sums, places, means, strict=True)
    ]
    moved = [mean + convolution.bias for mean, convolution in zip(means, convolutions, strict=True)]
    return moved, variances, np.concatenate(logits)


def _other(got: str, path: Path) -> TrainingError:
    return TrainingError(f"Expected the layers of the architecture that '{path}' names, got {got}: it is damaged.")
