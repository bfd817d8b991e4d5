"""The one file a model is: an ONNX graph with everything that using it needs in its metadata."""

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
"""Largest difference between a logit of the file and of the network it was written from, per unit of logit."""

PROBABILITY = "probability"
"""The output that exported files have beside those of a model file; how the name of each part of it begins."""

INTENDED_USE = (
    "Research and teaching: pneumonia or not on one frontal chest radiograph of a patient like those trained on. "
    "Not a medical device; not for diagnosis, triage or treatment."
)


@dataclass(frozen=True)
class Card:
    """What a model file says of itself.

    Attributes:
        architecture: its name in the registry.
        input_size: the side of the square image it takes, in pixels.
        calibration: how its logits become findings.
        bias: the constant in `logit = bias + evidence.sum()`; None where the head is not linear.
        recipe: how it was trained.
        data: what it was trained on: fingerprint, images, patients.
        metrics: what it reached on held-out patients, with intervals.
        seen: the images it was trained or chosen on, as `seen.encode` writes them down.
        gate: what images like those learnt from look like, as `Gate.as_dict` lays it out; empty where it is not known.
        orientation: how to tell a chest radiograph from other images, and an upright one from others, as
            `OrientationModel.as_dict` lays it out; empty where it is not known.
        licence: of the file.
        intended_use: what it is for, and what not.
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
        """Write the card as one line of JSON."""
        return json.dumps({"format": FORMAT} | asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Read what `to_json` wrote.

        Raises:
            ModelFileError: it is no such thing, or of a newer format.
        """
        try:
            values = json.loads(text)
            found = values.pop("format")
            if found != FORMAT:
                raise ModelFileError(
                    f"Expected a model file of format {FORMAT}, got {found}: use the Pneumoscope that wrote it."
                )
            values["calibration"] = Calibration(**values["calibration"])
            values["labels"] = tuple(values["labels"])
            return cls(**values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelFileError(f"Expected the card of a Pneumoscope model, got something else ({error}).") from error


def default() -> Path:
    """Give the path of the model that comes with Pneumoscope."""
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
    try:  # not `Core.read_model`, which would let the parsers of all other formats speak
        reader = FrontEndManager().load_by_framework("ir" if path.suffix == ".xml" else "onnx")
        graph = reader.convert(reader.load(path))
    except MemoryError:
        raise
    except Exception as error:  # a class of OpenVINO's for each of its checks
        raise ModelFileError(f"Expected an ONNX model in '{path}', got a file that is none or is damaged.") from error
    place = ["framework", METADATA_KEY]
    if not graph.has_rt_info(place):
        raise ModelFileError(f"Expected a model that Pneumoscope wrote in '{path}', got one without its card.")
    return graph, Card.from_json(graph.get_rt_info(place).astype(str))


def write(
    network: keras.Model,
    card: Card,
    path: str | os.PathLike[str],
    images: NDArray[np.floating[Any]],
    usual: NDArray[np.floating[Any]] | None = None,
) -> None:
    """Write a trained network as a model file, once it is shown to say the same as the network.

    Args:
        network: from images (N, S, S, 1) in [0, 1] to logits (N, 1).
        card: what the file is to say of itself.
        path: where to; replaced in one step.
        images: (N, S, S) in [0, 1], on which the file and the network must agree within `TOLERANCE`.
        usual: the evidence (h, w) of a usual image, taken off as `architectures.with_evidence` does.

    Raises:
        ModelFileError: they do not; nothing is written then.

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
    """Check that a file gives what it was written from gives.

    Args:
        expected: the outputs by name, each (N, ...).
        got: the file's.

    Returns:
        The largest difference, per unit where a value is larger than 1.

    Raises:
        ModelFileError: it is above `TOLERANCE`, or the outputs are others.

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
    """Write a model file again with another card, once the new file is shown to give the same logits.

    Args:
        source: the model file; it stays as it is.
        card: what the new file is to say of itself.
        path: where to; replaced in one step.
        images: (N, S, S) in [0, 1], on which the logits of both files must agree within `TOLERANCE`.

    Raises:
        NotFoundError: there is no file at `source`.
        ModelFileError: `source` is no model file, or `path` is the same file, a folder, or a file that is no model;
            nothing is written then.

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
            raise ModelFileError(f"Expected the model of '{source}' again, got another: nothing was written.")


def load(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """Load a model file that was read before as something that can be changed.

    Raises:
        ModelFileError: it is the OpenVINO file of a model.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(path)
    except DecodeError as error:
        raise ModelFileError(
            f"Expected a model as an ONNX file, got '{path}': start from what it came from."
        ) from error


def without_probability(graph: onnx.GraphProto) -> None:
    """Take the probability that an exported file computes out of its graph: it holds for one card alone."""
    for parts in (graph.node, graph.initializer, graph.output):
        for i in reversed(range(len(parts))):
            if parts[i].name.startswith(PROBABILITY):
                del parts[i]


def check_target(source: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Check that a model file made from another may be written, before the work is done.

    Raises:
        ModelFileError: `path` is the same file, a folder, or a file that is no model.
    """
    source, path = Path(source), Path(path)
    if path.is_dir():
        raise ModelFileError(f"Expected a file to write the model to, got the folder '{path}': name a file in it.")
    if not path.exists():
        return
    if source.exists() and path.samefile(source):
        raise ModelFileError(f"Expected another file than '{path}', which is the model to start from: name a new one.")
    try:
        read(path)
    except PneumoscopeError as error:
        raise ModelFileError(
            f"Expected a new file or a model file to replace, got '{path}', which is something else: name a new one."
        ) from error


def compile_graph(graph: openvino.Model) -> openvino.CompiledModel:
    """Make a graph ready to run on this machine's processor, in full precision.

    Full precision, because processors with bfloat16 units otherwise round each layer to 8 bits of mantissa, and one
    file would give different probabilities on different machines.
    """
    import openvino

    return openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
