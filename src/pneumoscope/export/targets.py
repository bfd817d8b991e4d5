"""A model for programs elsewhere: as ONNX, OpenVINO or LiteRT, once it is shown to say the same there."""

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
"""The most images that an exported file is compared on; of more, these many are taken evenly."""

Outputs = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Target:
    """A row of `TARGETS`: what a model can be exported to.

    Attributes:
        runtime: what runs it.
        suffix: how its file is named.
        write: the model to a file.
        run: the file on images (N, S, S, 1), by its own runtime.
        read_card: the card that the file holds.
        batch: how many images it takes at a time.
        advice: what else who runs it should know.
        needs: the modules that it needs, and that the plain install does not bring.
        extra: the optional part of Pneumoscope that brings them.
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
    """What an export has done.

    Attributes:
        path: the file.
        usage: how a program uses it; the file says so, too.
        images: the number of images it was compared on.
        difference: the largest difference of an output, per unit where a value is larger than 1.
        failures: the images that could not be read, and why.
    """

    path: Path
    usage: str
    images: int
    difference: float
    failures: list[tuple[Source, PneumoscopeError]]


def export(
    source: str | os.PathLike[str], path: str | os.PathLike[str], target: str, images: Iterable[Source]
) -> Exported:
    """Write a model for another runtime, once that runtime is shown to give the same on real images.

    The outputs are the model file's and `probability` (N,), calibrated. The card goes along: in the metadata of an
    ONNX file, under `framework` in the runtime information of an OpenVINO one, in the zip archive behind a LiteRT one.

    Args:
        source: a model file; it stays as it is.
        path: where to; an OpenVINO model is two files, this one and the `.bin` beside it.
        target: a name in `TARGETS`.
        images: what `radiograph.read` takes.

    Returns:
        What was written, and how far it is from the source.

    Raises:
        NotFoundError: there is no model file at `source`.
        MissingExtraError: what the target needs is not installed.
        DatasetError: none of the images can be read.
        ModelFileError: `source` is no model file, `path` cannot be written to, or the outputs differ by more than
            `model_file.TOLERANCE`; nothing is written then.

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
        if row.suffix == ".xml":  # there is never an .xml beside the .bin of another
            path.unlink(missing_ok=True)
            draft.with_suffix(".bin").replace(path.with_suffix(".bin"))
        draft.replace(path)
    return Exported(path, usage, len(batch), difference, failures)


def _check_path(source: str | os.PathLike[str], path: Path, row: Target) -> None:
    if path.suffix != row.suffix:
        raise ModelFileError(f"Expected a name that ends in {row.suffix} for {row.runtime}, got '{path}'.")
    if row.suffix != ".tflite" or path.is_dir():
        model_file.check_target(source, path)
    weights = path.with_suffix(".bin")
    if row.suffix == ".xml" and weights.exists() and not path.exists():
        raise ModelFileError(
            f"Expected no file at '{weights}', where the weights go, got one that belongs to something else: name a "
            "new one."
        )


def _check_installed(row: Target) -> None:
    for module in row.needs:
        if find_spec(module) is None:
            raise MissingExtraError.of(f"Exporting to {row.runtime}", module, row.extra)


def _squashed(images: list[Source], size: int) -> tuple[NDArray[np.float32], list[tuple[Source, PneumoscopeError]]]:
    """Read the images, or `IMAGES` of them: (N, size, size, 1); and which cannot be read."""
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
    """Add the probability to a graph, name its sizes, and say in its metadata how it is used."""
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
            f"output logit {shapes['logit']}: the probability before calibration.",
            f"output evidence {shapes['evidence']}: what each place adds to the logit beyond a usual image.{parts}",
            f"output embedding {shapes['embedding']}: what the gate in the card looks at.",
            f"{row.advice}The file takes any image: unlike Pneumoscope, it rejects none and warns of none.",
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
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow greets with a page about its build
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
"""What a model can be exported to, by name."""
