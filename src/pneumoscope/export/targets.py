"""Exports a model to ONNX, OpenVINO or LiteRT, after checking that it gives the same outputs there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pneumoscope.errors import DatasetError, MissingExtraError, ModelFileError, PneumoscopeError
from pneumoscope.imaging import preprocessing, radiograph
from pneumoscope.imaging.radiograph import Source
from pneumoscope.inference import model_file
from pneumoscope.inference.model_file import METADATA_KEY, PROBABILITY, Card

if TYPE_CHECKING:
    import onnx

IMAGES = 32
"""The most images that an exported file is compared on; more are subsampled evenly."""

Outputs = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Target:
    """A row of `TARGETS`: a format that a model can be exported to.

    Attributes:
        runtime: the name of the runtime for this format.
        suffix: the suffix of the file.
        write: writes a model to a file.
        run: runs a file on images (N, S, S, 1) with its own runtime.
        read_card: reads the card from a file.
        batch: the number of images that the file takes at a time.
        advice: what else a user of the file should know.
        needs: the modules that the export requires and the plain installation lacks.
        extra: the extra of Pneumoscope that installs them.
    """

    runtime: str
    suffix: str
    write: Callable[[onnx.ModelProto, Path], None]
    run: Callable[[Path, NDArray[np.float32]], Outputs]
    read_card: Callable[[Path], Card]
    batch: str = "N"
    advice: str = ""
    needs: tuple[str, ...] = ()
    extra: str = ""


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes:
        path: the file.
        usage: instructions for programs that use it, which are also in the file's metadata.
        images: the number of images it was compared on.
        difference: the largest difference of an output, relative for values above 1.
        failures: the images that could not be read, with the reason.
    """

    path: Path
    usage: str
    images: int
    difference: float
    failures: list[tuple[Source, PneumoscopeError]]


def export(
    source: str | os.PathLike[str], path: str | os.PathLike[str], target: str, images: Iterable[Source]
) -> Exported:
    """Write a model for another runtime, after checking that it gives the same outputs there on real images.

    The outputs are those of the model file and the calibrated `probability` (N,). The card is included: in the metadata
    of an ONNX file, under `framework` in the runtime information of OpenVINO, in a zip archive appended to LiteRT.

    Args:
        source: a model file, which is not changed.
        path: the file to write; an OpenVINO model consists of this file and a `.bin` file beside it.
        target: a name in `TARGETS`.
        images: anything that `radiograph.read` takes.

    Returns:
        The written file, and how far its outputs are from the source's.

    Raises:
        NotFoundError: there is no model file at `source`.
        MissingExtraError: a module that the target needs is not installed.
        DatasetError: none of the images can be read.
        ModelFileError: `source` is not a model file, `path` cannot be written to, or the outputs differ by more than
            `model_file.TOLERANCE`; nothing is written.

    Example:
        >>> export(model_file.default(), "model.xml", "openvino", radiograph.files("images")).path
        PosixPath('model.xml')
    """
    path, row = Path(path), TARGETS[target]
    graph, card = model_file.read(source)
    model = model_file.load(source)
    _check_path(source, path, row)
    _check_installed(row)
    batch, failures = _squashed(list(images), card.input_size)
    outputs = model_file.compile_graph(graph)(batch)
    expected = {output.any_name: outputs[output.any_name] for output in graph.outputs}
    expected[PROBABILITY] = card.calibration.probabilities(expected["logit"])
    usage = _usage(card, row, expected)
    _deploy(model, card, usage, expected)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
        draft = Path(folder, path.name)
        row.write(model, draft)
        difference = model_file.check_equal(expected, row.run(draft, batch))
        if row.read_card(draft).to_json() != card.to_json():
            raise ModelFileError(f"Expected the card of '{source}' in the written file, got another.")
        if row.suffix == ".xml":  # so that an .xml is never beside another model's .bin
            path.unlink(missing_ok=True)
            draft.with_suffix(".bin").replace(path.with_suffix(".bin"))
        draft.replace(path)
    return Exported(path, usage, len(batch), difference, failures)


def _check_path(source: str | os.PathLike[str], path: Path, row: Target) -> None:
    if path.suffix != row.suffix:
        raise ModelFileError(f"Expected a file name with the suffix {row.suffix} for {row.runtime}, got '{path}'.")
    if row.suffix != ".tflite" or path.is_dir():
        model_file.check_target(source, path)
    weights = path.with_suffix(".bin")
    if row.suffix == ".xml" and weights.exists() and not path.exists():
        raise ModelFileError(
            f"Expected no file at '{weights}', where the weights are written, got one that belongs to something else: "
            "choose another name."
        )


def _check_installed(row: Target) -> None:
    for module in row.needs:
        if find_spec(module) is None:
            raise MissingExtraError.of(f"Exporting to {row.runtime}", module, row.extra)


def _squashed(images: list[Source], size: int) -> tuple[NDArray[np.float32], list[tuple[Source, PneumoscopeError]]]:
    """Read at most `IMAGES` of the images: (N, size, size, 1), and those that cannot be read."""
    squashed, failures = [], []
    for place in np.unique(np.linspace(0, len(images) - 1, IMAGES).astype(int)) if images else ():
        try:
            squashed.append(preprocessing.squash(radiograph.read(images[place], at_least=size).pixels, size)[0])
        except PneumoscopeError as error:
            failures.append((images[place], error))
    if not squashed:
        why = f": {failures[0][1]}" if failures else "."
        raise DatasetError(f"Expected images to compare the exported file on, got none that can be read{why}")
    return np.stack(squashed)[..., None], failures


def _deploy(model: onnx.ModelProto, card: Card, usage: str, outputs: Outputs) -> None:
    """Add the probability to a graph, name its dimensions, and add instructions for use to its metadata."""
    from onnx import TensorProto, helper, numpy_helper

    graph, fitted = model.graph, card.calibration
    model_file.without_probability(graph)
    offset, temperature, shifted, scaled = (
        f"{PROBABILITY}/{n}" for n in ("offset", "temperature", "shifted", "scaled")
    )
    for name, value in ((offset, fitted.offset), (temperature, fitted.temperature)):
        graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
    graph.node.extend(
        (
            helper.make_node("Sub", ["logit", offset], [shifted], shifted),
            helper.make_node("Div", [shifted, temperature], [scaled], scaled),
            helper.make_node("Sigmoid", [scaled], [PROBABILITY], PROBABILITY),
        )
    )
    del graph.output[:]
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", *outputs[name].shape[1:]))
        for name in (PROBABILITY, *(name for name in outputs if name != PROBABILITY))
    )
    graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    helper.set_model_props(
        model,
        {
            METADATA_KEY: card.to_json(),
            "labels": ",".join(card.labels),
            "threshold": str(fitted.threshold),
            "usage": usage,
        },
    )


def _usage(card: Card, row: Target, outputs: Outputs) -> str:
    size, fitted = card.input_size, card.calibration
    shapes = {name: str((row.batch, *values.shape[1:])).replace("'", "") for name, values in outputs.items()}
    parts = f" With {card.bias:.6f} they sum to the logit." if card.bias is not None else ""
    return "\n".join(
        (
            f"input image ({row.batch}, {size}, {size}, 1), float32: gray images from 0 to 1 (8-bit samples divided by "
            "255), dense tissue bright (MONOCHROME1 inverted after the window), the whole image squashed to a square. "
            "Average where that shrinks it, as Pillow's resize with BILINEAR does: plain bilinear sampling changes "
            "some findings.",
            f"output probability {shapes[PROBABILITY]}: of PNEUMONIA, calibrated. The finding is PNEUMONIA from "
            f"{fitted.threshold:.6f} on, not from 0.5; it is uncertain from {fitted.uncertain_low:.6f} to "
            f"{fitted.uncertain_high:.6f}.",
            f"output logit {shapes['logit']}: the log odds before calibration.",
            f"output evidence {shapes['evidence']}: what each cell adds to the logit compared with a usual image."
            f"{parts}",
            f"output embedding {shapes['embedding']}: the input of the gate in the card.",
            f"{row.advice}The file takes any image: unlike Pneumoscope, it does not reject images or warn about them.",
            card.intended_use,
        )
    )


def _write_onnx(model: onnx.ModelProto, path: Path) -> None:
    import onnx

    onnx.checker.check_model(model)
    onnx.save(model, path)


def _run_onnx(path: Path, images: NDArray[np.float32]) -> Outputs:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": images}), strict=True))


def _write_openvino(model: onnx.ModelProto, path: Path) -> None:
    import openvino

    graph = openvino.Core().read_model(model.SerializeToString())
    openvino.save_model(graph, path, compress_to_fp16=False)


def _run_openvino(path: Path, images: NDArray[np.float32]) -> Outputs:
    graph, _ = model_file.read(path)
    outputs = model_file.compile_graph(graph)(images)
    return {output.any_name: outputs[output.any_name] for output in graph.outputs}


def _card(path: Path) -> Card:
    return model_file.read(path)[1]


def _litert() -> Any:  # noqa: ANN401 - a module
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no greeting by TensorFlow
    from pneumoscope.export import litert

    return litert


TARGETS = {
    "onnx": Target("ONNX Runtime", ".onnx", _write_onnx, _run_onnx, _card, needs=("onnxruntime",), extra="onnxruntime"),
    "openvino": Target(
        "OpenVINO",
        ".xml",
        _write_openvino,
        _run_openvino,
        _card,
        advice="Compile it with INFERENCE_PRECISION_HINT f32: processors with bfloat16 units otherwise round. ",
    ),
    "litert": Target(
        "LiteRT",
        ".tflite",
        lambda model, path: _litert().write(model, path),
        lambda path, images: _litert().run(path, images),
        lambda path: Card.from_json(_litert().read_metadata(path)[METADATA_KEY]),
        batch="1",
        needs=("onnxruntime", "tensorflow", "ai_edge_litert"),
        extra="export",
    ),
}
"""The formats that a model can be exported to, by name."""
