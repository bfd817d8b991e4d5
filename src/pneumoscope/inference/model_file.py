"""Reads and writes model files: an ONNX graph with everything needed for its use in the metadata."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pneumoscope.atomic import replacing
from pneumoscope.data.layouts import LABELS
from pneumoscope.errors import ModelFileError, NotFoundError, PneumoscopeError
from pneumoscope.metrics.calibration import Calibration

if TYPE_CHECKING:
    import keras
    import onnx
    import openvino

METADATA_KEY = "pneumoscope"
FORMAT = 2
TOLERANCE = 1e-4
"""The largest difference allowed between an output of the file and of its source, relative to outputs above 1."""

PROBABILITY = "probability"
"""The additional output of exported files, and the prefix of the names of its nodes."""

INTENDED_USE = (
    "Research and teaching: pneumonia or not on one frontal chest radiograph of a patient like those trained on. "
    "Not a medical device; not for diagnosis, triage or treatment."
)


@dataclass(frozen=True)
class Card:
    """The metadata of a model file.

    Attributes:
        architecture: the name of the network's architecture in the registry.
        input_size: the side of the square image that it takes, in pixels.
        calibration: how its logits become findings.
        bias: the constant in `logit = bias + evidence.sum()`; None if the head is not linear.
        recipe: how it was trained.
        data: what it was trained on: fingerprint, images, patients.
        metrics: its figures on held-out patients, with intervals.
        seen: signatures of the images it was trained or selected on, as written by `seen.encode`.
        gate: the out-of-distribution gate, as returned by `Gate.as_dict`; empty if it has none.
        orientation: the orientation model, as returned by `OrientationModel.as_dict`; empty if it has none.
        licence: the licence of the file.
        intended_use: what it may and may not be used for.
        labels: the classes, in the order of their numbers.
    """

    architecture: str
    input_size: int
    calibration: Calibration = field(default_factory=Calibration)
    bias: float | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    seen: str = ""
    gate: dict[str, Any] = field(default_factory=dict)
    orientation: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    intended_use: str = INTENDED_USE
    labels: tuple[str, ...] = LABELS

    def to_json(self) -> str:
        """Return the card as one line of JSON."""
        return json.dumps({"format": FORMAT} | asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Create a card from the output of `to_json`.

        Raises:
            ModelFileError: the text is not a card, or has another format number.
        """
        try:
            values = json.loads(text)
            found = values.pop("format")
            if found != FORMAT:
                raise ModelFileError(
                    f"Expected a model file of format {FORMAT}, got {found}: use the version that wrote it."
                )
            values["calibration"] = Calibration(**values["calibration"])
            values["labels"] = tuple(values["labels"])
            return cls(**values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelFileError(f"Expected the card of a Pneumoscope model, got something else ({error}).") from error


def default() -> Path:
    """Return the path of the model that comes with Pneumoscope."""
    return Path(str(files("pneumoscope"))) / "models" / "default.onnx"


def read(path: str | os.PathLike[str]) -> tuple[openvino.Model, Card]:
    """Read a model file.

    Returns:
        The graph, from `image` (N, S, S, 1) float32 in [0, 1] to `logit` (N,), `evidence` (N, h, w) and `embedding`
        (N, d); and the card.

    Raises:
        NotFoundError: there is no such file.
        ModelFileError: it is not a model that Pneumoscope wrote, or is damaged.

    Example:
        >>> graph, card = read(default())
    """
    from openvino.frontend import FrontEndManager

    path = Path(path)
    if not path.is_file():
        raise NotFoundError(f"Expected a model file at '{path}', which does not exist.")
    try:  # not `Core.read_model`, which prints the errors of the parsers for all other formats
        reader = FrontEndManager().load_by_framework("ir" if path.suffix == ".xml" else "onnx")
        graph = reader.convert(reader.load(path))
    except MemoryError:
        raise
    except Exception as error:  # OpenVINO has an exception class for each of its checks
        raise ModelFileError(f"Expected an ONNX model in '{path}', got another or a damaged file.") from error
    place = ["framework", METADATA_KEY]
    if not graph.has_rt_info(place):
        raise ModelFileError(f"Expected a model written by Pneumoscope in '{path}', got one without its card.")
    return graph, Card.from_json(graph.get_rt_info(place).astype(str))


def write(
    network: keras.Model,
    card: Card,
    path: str | os.PathLike[str],
    images: NDArray[np.floating[Any]],
    usual: NDArray[np.floating[Any]] | None = None,
) -> None:
    """Write a trained network as a model file, after checking that the file gives the same outputs.

    Args:
        network: maps images (N, S, S, 1) in [0, 1] to logits (N, 1).
        card: the card of the file.
        path: the file to write, which is replaced in one step.
        images: (N, S, S) in [0, 1], on which the file and the network must agree within `TOLERANCE`.
        usual: the evidence (h, w) of a usual image, which `architectures.with_evidence` subtracts.

    Raises:
        ModelFileError: they do not agree; nothing is written.

    Example:
        >>> write(network, Card("cnn", 32), "new.onnx", images)
    """
    import onnx

    from pneumoscope.networks import onnx_graph as graphs
    from pneumoscope.networks.architectures import with_evidence

    batch = np.asarray(images, dtype=np.float32)[..., None]
    expected = with_evidence(network, usual).predict_on_batch(batch) | {"logit": network.predict_on_batch(batch)[:, 0]}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
        draft = Path(folder, path.name)
        graphs.write(network, usual, draft)
        graphs.centre(draft, batch)
        proto = onnx.load(draft)
        onnx.helper.set_model_props(proto, {METADATA_KEY: card.to_json()})
        onnx.save(proto, draft)
        graph, _ = read(draft)
        got = compile_graph(graph)(batch)
        check_equal(expected, {name: got[name] for name in expected})
        draft.replace(path)


def check_equal(expected: Mapping[str, NDArray[Any]], got: Mapping[str, NDArray[Any]]) -> float:
    """Check that the outputs of a file equal those of its source.

    Args:
        expected: the outputs of the source by name, each (N, ...).
        got: the outputs of the file by name.

    Returns:
        The largest difference, relative for values above 1.

    Raises:
        ModelFileError: a difference is above `TOLERANCE`, or an output is missing or of another shape.

    Example:
        >>> check_equal({"logit": np.array([4.0])}, {"logit": np.array([4.0002])}) < TOLERANCE
        True
    """
    largest = 0.0
    for name, values in expected.items():
        found = got[name] if name in got else np.empty(0)
        off = np.inf
        if found.shape == values.shape:
            off = float(np.max(np.abs(found - values) / np.maximum(1.0, np.abs(values))))
        if not off <= TOLERANCE:
            raise ModelFileError(
                f"Expected the written file to equal its source within {TOLERANCE}, got a difference of {off:.2g} in "
                f"'{name}': nothing was written."
            )
        largest = max(largest, off)
    return largest


def rewrite(source: str | os.PathLike[str], card: Card, path: str | os.PathLike[str], images: NDArray[Any]) -> None:
    """Write a copy of a model file with another card, after checking that the copy gives the same logits.

    Args:
        source: the model file, which is not changed.
        card: the card of the new file.
        path: the file to write, which is replaced in one step.
        images: (N, S, S) in [0, 1], on which the logits of both files must agree within `TOLERANCE`.

    Raises:
        NotFoundError: there is no file at `source`.
        ModelFileError: `source` is not a model file, or `path` is the same file, a folder, or a file other than a
            model; nothing is written.

    Example:
        >>> from dataclasses import replace
        >>> graph, card = read("model.onnx")
        >>> images = np.zeros((1, card.input_size, card.input_size))
        >>> rewrite("model.onnx", replace(card, licence="CC BY 4.0"), "licensed.onnx", images)
    """
    import onnx

    path = Path(path)
    graph, _ = read(source)
    check_target(source, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    batch = np.asarray(images, dtype=np.float32)[..., None]
    proto = load(source)
    without_probability(proto.graph)
    onnx.helper.set_model_props(proto, {METADATA_KEY: card.to_json()})
    with replacing(path) as draft:
        onnx.save(proto, draft)
        rewritten, found = read(draft)
        before, after = ({"logit": compile_graph(g)(batch)["logit"]} for g in (graph, rewritten))
        check_equal(before, after)
        if found.to_json() != card.to_json():
            raise ModelFileError(f"Expected the card to be readable from the copy of '{source}': nothing was written.")


def load(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """Load a model file as an editable ONNX model, after `read` has checked it.

    Raises:
        ModelFileError: it is a model in OpenVINO's format.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(path)
    except DecodeError as error:
        raise ModelFileError(
            f"Expected a model as an ONNX file, got '{path}': use the ONNX file that it was exported from."
        ) from error


def without_probability(graph: onnx.GraphProto) -> None:
    """Remove the probability that an exported file computes from its graph, because it depends on the card."""
    for parts in (graph.node, graph.initializer, graph.output):
        for i in reversed(range(len(parts))):
            if parts[i].name.startswith(PROBABILITY):
                del parts[i]


def check_target(source: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Check, before the work starts, that a model file made from another can be written.

    Raises:
        ModelFileError: `path` is the same file, a folder, or a file other than a model.
    """
    source, path = Path(source), Path(path)
    if path.is_dir():
        raise ModelFileError(f"Expected a file to write the model to, got the folder '{path}': name a file in it.")
    if not path.exists():
        return
    if source.exists() and path.samefile(source):
        raise ModelFileError(f"Expected a file other than '{path}', which is the model to start from: name a new one.")
    try:
        read(path)
    except PneumoscopeError as error:
        raise ModelFileError(
            f"Expected a new file or a model file to replace, got '{path}', which is something else: name a new one."
        ) from error


def compile_graph(graph: openvino.Model) -> openvino.CompiledModel:
    """Compile a graph for this machine's processor, in full precision.

    Otherwise processors with bfloat16 would round each layer to 8 bits of mantissa, and the same file would give
    different probabilities on different machines.
    """
    import openvino

    return openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
