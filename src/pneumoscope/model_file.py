"""The one file a model is: an ONNX graph with everything that using it needs in its metadata."""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pneumoscope.calibration import Calibration
from pneumoscope.dataset import LABELS
from pneumoscope.errors import ModelFileError, NotFoundError
from pneumoscope.splits import picture_key

if TYPE_CHECKING:
    import keras
    import openvino

METADATA_KEY = "pneumoscope"
FORMAT = 1
TOLERANCE = 1e-4
"""Largest difference between a logit of the file and of the network it was written from, per unit of logit."""

SEEN_BYTES = 5
"""Enough that a new film is mistaken for one of 10,000 seen ones once in a hundred million."""

INTENDED_USE = (
    "Research and teaching: pneumonia or not on one frontal chest radiograph of a patient like those trained on. "
    "Not a medical device; not for diagnosis, triage or treatment."
)


@dataclass(frozen=True)
class Card:
    """What a model file says of itself.

    Attributes:
        architecture: its name in the registry.
        input_size: the side of the square film it takes, in pixels.
        calibration: how its logits become verdicts.
        bias: the constant in `logit = bias + evidence.sum()`; None where the head is not linear.
        recipe: how it was trained.
        data: what it was trained on: fingerprint, films, patients.
        metrics: what it reached on held-out patients, with intervals.
        seen: the films it was trained or chosen on, `SEEN_BYTES` of each film's `picture_key`, in base 64.
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


def encode_seen(pictures: Iterable[NDArray[np.floating[Any]]]) -> str:
    """Write down which films a model has seen, without their pixels."""
    return base64.b64encode(b"".join(sorted(picture_key(p)[:SEEN_BYTES] for p in pictures))).decode("ascii")


def decode_seen(text: str) -> frozenset[bytes]:
    """Read what `encode_seen` wrote: the first `SEEN_BYTES` of each film's `picture_key`."""
    data = base64.b64decode(text)
    return frozenset(data[i : i + SEEN_BYTES] for i in range(0, len(data), SEEN_BYTES))


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
        >>> graph, card = read(default())  # doctest: +SKIP
    """
    import openvino

    path = Path(path)
    if not path.is_file():
        raise NotFoundError(f"Expected a model file at '{path}', which does not exist.")
    try:
        graph = openvino.Core().read_model(path)
    except RuntimeError as error:
        raise ModelFileError(f"Expected an ONNX model in '{path}', got a file that is none or is damaged.") from error
    place = ["framework", METADATA_KEY]
    if not graph.has_rt_info(place):
        raise ModelFileError(f"Expected a model that Pneumoscope wrote in '{path}', got one without its card.")
    return graph, Card.from_json(graph.get_rt_info(place).astype(str))


def write(network: keras.Model, card: Card, path: str | os.PathLike[str], films: NDArray[np.floating[Any]]) -> None:
    """Write a trained network as a model file, once it is shown to say the same as the network.

    Args:
        network: from films (N, S, S, 1) in [0, 1] to logits (N, 1).
        card: what the file is to say of itself.
        path: where to; replaced in one step.
        films: (N, S, S) in [0, 1], on which the file and the network must agree within `TOLERANCE`.

    Raises:
        ModelFileError: they do not; nothing is written then.

    Example:
        >>> write(network, Card("cnn", 160), "model.onnx", films)  # doctest: +SKIP
    """
    import onnx

    from pneumoscope.architectures import with_evidence

    batch = np.asarray(films, dtype=np.float32)[..., None]
    model = with_evidence(network)
    expected = model.predict_on_batch(batch)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
        draft = Path(folder, path.name)
        model.export(draft, format="onnx", verbose=False)
        proto = onnx.load(draft)
        onnx.helper.set_model_props(proto, {METADATA_KEY: card.to_json()})
        onnx.save(proto, draft)
        graph, _ = read(draft)
        got = compile_graph(graph)(batch)
        for name, values in expected.items():
            off = float(np.max(np.abs(got[name] - values) / np.maximum(1.0, np.abs(values))))
            if not off <= TOLERANCE:
                raise ModelFileError(
                    f"Expected the exported graph to equal the network within {TOLERANCE}, got a difference of "
                    f"{off:.2g} in '{name}': nothing was written."
                )
        draft.replace(path)


def compile_graph(graph: openvino.Model) -> openvino.CompiledModel:
    """Make a graph ready to run on this machine's processor, in full precision.

    Full precision, because processors with bfloat16 units otherwise round each layer to 8 bits of mantissa, and one
    file would give different probabilities on different machines.
    """
    import openvino

    return openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
