"""Engines that run a model file's graph: OpenVINO by default, OpenVINO in bfloat16, or ONNX Runtime."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pneumoscope import parallel
from pneumoscope.errors import ModelFileError, needs_extra

if TYPE_CHECKING:
    import openvino

Outputs = Mapping[str, NDArray[np.float32]]

Engine = Callable[[NDArray[np.float32]], Outputs]
"""Maps images (N, S, S, 1) in [0, 1] to `logit` (N,), `evidence` (N, h, w) and `embedding` (N, d); thread-safe."""

NAMES = ("openvino", "openvino-bf16", "onnxruntime")

ROUNDING = 1.0
"""A bound on how much bfloat16 changes a logit: at most 0.75 on 15,000 images with and without corruptions."""

MANY = 200
"""The number of images from which on a graph is compiled for each worker, which takes as long as predicting some 20."""

WORKERS = parallel.WORKERS
"""The default number of threads that read images and predict, each on one core."""


def start(
    name: str, path: str | os.PathLike[str], graph: openvino.Model, doubt: tuple[float, float] = (0.0, 0.0)
) -> Engine:
    """Prepare a model for prediction.

    Args:
        name: one of `NAMES`.
        path: the model file.
        graph: its graph, as returned by `model_file.read`.
        doubt: the range of logits in which `openvino-bf16` runs an image again in full precision.

    Raises:
        MissingExtraError: the engine is not installed.
        ModelFileError: the engine is unknown, or this processor does not support it.

    Example:
        >>> from pneumoscope.inference import model_file
        >>> path = model_file.default()
        >>> run = start("openvino", path, model_file.read(path)[0])
        >>> run(np.zeros((1, 224, 224, 1), np.float32))["logit"].shape
        (1,)
    """
    if name not in NAMES:
        raise ModelFileError(f"Expected one of the engines {', '.join(NAMES)}, got '{name}'.")
    if name == "onnxruntime":
        return _onnxruntime(path)
    if name == "openvino":
        return _one_by_one(_openvino(graph, "f32"))
    if not has_bfloat16():
        raise ModelFileError(f"Expected a processor with bfloat16 units for '{name}', got one without: use openvino.")
    full, reduced = _openvino(graph, "f32"), _openvino(graph, "bf16")

    def run(image: NDArray[np.float32]) -> Outputs:
        outputs = reduced(image)
        return full(image) if doubt[0] < outputs["logit"][0] < doubt[1] else outputs

    return _one_by_one(run)


def has_bfloat16() -> bool:
    """Return whether this processor has instructions for bfloat16, such as Intel's AVX512_BF16 or AMX.

    Example:
        >>> has_bfloat16() in (True, False)
        True
    """
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _openvino(graph: openvino.Model, precision: str) -> Engine:
    """Run on the processor, one image at a time, in this precision: `f32` or `bf16`.

    A graph with one stream runs on the calling thread and serves one thread at a time. After `MANY` images another copy
    is compiled whenever a thread would have to wait; before that, compiling would take longer than waiting.
    """
    import openvino

    options = {
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": 1,
        "ENABLE_CPU_PINNING": False,  # the cores also read images
        "INFERENCE_PRECISION_HINT": precision,
    }
    graph, side = graph.clone(), graph.input(0).partial_shape[1].get_length()
    graph.reshape([1, side, side, 1])  # a graph with a variable batch size is a sixth slower
    core, images = openvino.Core(), itertools.count()
    free: SimpleQueue[openvino.InferRequest] = SimpleQueue()

    def compiled() -> openvino.InferRequest:
        return core.compile_model(graph, "CPU", options).create_infer_request()

    def run(image: NDArray[np.float32]) -> Outputs:
        try:
            request = free.get(block=next(images) < MANY)
        except Empty:
            request = compiled()
        try:
            outputs = request.infer(image)
        finally:
            free.put(request)
        return {port.get_any_name(): values for port, values in outputs.items()}

    free.put(compiled())
    # The first call is made here: two threads that make it at the same time may deadlock in OpenVINO's binding.
    run(np.zeros((1, side, side, 1), dtype=np.float32))
    return run


def _onnxruntime(path: str | os.PathLike[str]) -> Engine:
    """Run in full precision, on an NVIDIA GPU if there is one and `onnxruntime-gpu` is installed."""
    with needs_extra("The engine onnxruntime", "onnxruntime"):
        import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # TF32 would reduce the mantissa to 10 bits.
    wanted = {"CUDAExecutionProvider": {"use_tf32": "0"}, "CPUExecutionProvider": {}}
    there = onnxruntime.get_available_providers()
    providers = [(name, settings) for name, settings in wanted.items() if name in there]
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
    except Exception as error:  # ONNX Runtime's errors have no common base class
        raise ModelFileError(f"Expected an ONNX model for ONNX Runtime, got another file at '{path}'.") from error
    names = [output.name for output in session.get_outputs()]

    def run(images: NDArray[np.float32]) -> Outputs:
        return dict(zip(names, session.run(names, {"image": images}), strict=True))

    return run if "CUDAExecutionProvider" in session.get_providers() else _one_by_one(run)


def _one_by_one(run: Engine) -> Engine:
    """Run images one at a time, so that feature maps fit into the cache: in batches of eight each is a third slower."""

    def each(images: NDArray[np.float32]) -> Outputs:
        outputs = [run(images[i : i + 1]) for i in range(len(images))]
        return {name: np.concatenate([output[name] for output in outputs]) for name in outputs[0]}

    return each
