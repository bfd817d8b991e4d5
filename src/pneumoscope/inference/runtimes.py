"""What runs a model file's graph on this machine: OpenVINO by default, with fewer bits or ONNX Runtime by choice."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pneumoscope.errors import ModelFileError, needs_extra

if TYPE_CHECKING:
    import openvino

Outputs = Mapping[str, NDArray[np.float32]]

Engine = Callable[[NDArray[np.float32]], Outputs]
"""From images (N, S, S, 1) in [0, 1] to `logit` (N,), `evidence` (N, h, w) and `embedding` (N, d); safe in threads."""

NAMES = ("openvino", "openvino-bf16", "onnxruntime")

ROUNDING = 1.0
"""More than bfloat16 moves a logit: 0.75 at most, measured on 15,000 images as they are and corrupted."""

MOST_WORKERS = 8
"""An image of the largest size takes a gigabyte while it is decoded, and so many may be decoded at once."""

MANY = 200
"""Images from which on it pays to compile a graph for each worker: that takes as long as predicting some 20."""

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""Those that this process may use."""

WORKERS = min(MOST_WORKERS, CORES)
"""Threads that read images and predict, each of which an engine serves on one core."""


def start(
    name: str, path: str | os.PathLike[str], graph: openvino.Model, doubt: tuple[float, float] = (0.0, 0.0)
) -> Engine:
    """Make a model ready to run.

    Args:
        name: one of `NAMES`.
        path: the model file.
        graph: the graph in it, as `model_file.read` gives it.
        doubt: the logits between which `openvino-bf16` runs an image again, in full precision.

    Raises:
        MissingExtraError: the engine is not installed.
        ModelFileError: there is no such engine, or not on this processor.

    Example:
        >>> from pneumoscope.inference import model_file
        >>> path = model_file.default()
        >>> run = start("openvino", path, model_file.read(path)[0])
        >>> run(np.zeros((1, 224, 224, 1), np.float32))["logit"].shape
        (1,)
    """
    if name not in NAMES:
        raise ModelFileError(f"Expected an engine of {', '.join(NAMES)}, got '{name}'.")
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
    """Say whether OpenVINO finds units for bfloat16 in this processor, such as Intel's AVX512_BF16 or AMX.

    Example:
        >>> has_bfloat16() in (True, False)
        True
    """
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _openvino(graph: openvino.Model, precision: str) -> Engine:
    """Run on processors, one image at a time; in full precision, `f32`, as `model_file.compile_graph` does.

    A graph of one stream runs on the thread that calls it, and for one thread at a time. Once there are `MANY` images
    another is compiled wherever a thread would have to wait; until then that would take longer than waiting.
    """
    import openvino

    options = {
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": 1,
        "ENABLE_CPU_PINNING": False,  # the cores are shared with reading
        "INFERENCE_PRECISION_HINT": precision,
    }
    graph, side = graph.clone(), graph.input(0).partial_shape[1].get_length()
    graph.reshape([1, side, side, 1])  # measured: a graph for any number of images takes a sixth longer for each
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
    # Two threads that call OpenVINO's binding for the first time at once may wait for each other for ever.
    run(np.zeros((1, side, side, 1), dtype=np.float32))
    return run


def _onnxruntime(path: str | os.PathLike[str]) -> Engine:
    """Run in full precision, on an NVIDIA card where there is one and `onnxruntime-gpu` is installed."""
    with needs_extra("The engine onnxruntime", "onnxruntime"):
        import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # NVIDIA's TF32 would keep 10 bits of each factor.
    wanted = {"CUDAExecutionProvider": {"use_tf32": "0"}, "CPUExecutionProvider": {}}
    there = onnxruntime.get_available_providers()
    providers = [(name, settings) for name, settings in wanted.items() if name in there]
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
    except Exception as error:  # its errors have no base of their own
        raise ModelFileError(f"Expected a model in ONNX for ONNX Runtime, got another in '{path}'.") from error
    names = [output.name for output in session.get_outputs()]

    def run(images: NDArray[np.float32]) -> Outputs:
        return dict(zip(names, session.run(names, {"image": images}), strict=True))

    return run if "CUDAExecutionProvider" in session.get_providers() else _one_by_one(run)


def _one_by_one(run: Engine) -> Engine:
    """Give a processor one image at a time: its feature maps fit into the cache, and eight take a third longer each."""

    def each(images: NDArray[np.float32]) -> Outputs:
        outputs = [run(images[i : i + 1]) for i in range(len(images))]
        return {name: np.concatenate([output[name] for output in outputs]) for name in outputs[0]}

    return each
