"""The commands that measure and change models."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pneumoscope.atomic import check_folder
from pneumoscope.cli import console
from pneumoscope.cli.options import (
    SOME_FAILED,
    ClassesOption,
    DataArgument,
    LabelsLikeOption,
    ModelOption,
    OtherOption,
    labelled,
)


class Sheet(StrEnum):
    """The output formats for figures."""

    table = "table"
    json = "json"


class Runtime(StrEnum):
    """The runtimes that a model can be exported for."""

    onnx = "onnx"
    openvino = "openvino"
    litert = "litert"


class Split(StrEnum):
    """The splits that can be evaluated."""

    train = "train"
    val = "val"
    test = "test"
    all = "all"


def evaluate(
    data: DataArgument,
    model: ModelOption = None,
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Where to write metrics.json, predictions.csv, report.html and the curves."),
    ] = Path("evaluation"),
    classes: ClassesOption = None,
    other: OtherOption = None,
    labels_like: LabelsLikeOption = None,
    split: Annotated[
        Split | None, typer.Option(help="Which split to evaluate on; by default test where there is one, else all.")
    ] = None,
    corruptions: Annotated[
        bool,
        typer.Option(
            "--corruptions",
            help="Also measure on images corrupted in 18 ways, and with the thorax, or all but the thorax, hidden.",
        ),
    ] = False,
) -> None:
    """Measure a model on labelled images that it was not trained on.

    Every figure has its 95 % interval.

    \b
    $ pneumoscope evaluate hospital_b/ --model runs/first/model.onnx
    $ pneumoscope evaluate hospital_b/ --corruptions
    """
    from dataclasses import replace

    from pneumoscope.data import layouts
    from pneumoscope.evaluation import evaluate as evaluation
    from pneumoscope.imaging.corruptions import CORRUPTIONS
    from pneumoscope.inference.detector import Detector
    from pneumoscope.reporting import evaluation_page

    check_folder(out)
    listed = layouts.load(data, complete=False, **labelled(classes, other, labels_like))
    images = evaluation.choose(listed, split.value if split else None)
    detector = Detector(model)
    with console.progress() as bars:
        step = console.task(bars, "predicting images", len(images))
        result = evaluation.evaluate(images, detector, step, decoded=corruptions)
        if (decoded := result.decoded) is not None:
            shifts = console.task(bars, "predicting corrupted images", len(CORRUPTIONS))
            table = evaluation.under_corruptions(decoded, detector, shifts)
            looks = evaluation.localise(decoded, detector)
            result = replace(result, corrupted=table, localisation=looks, decoded=None)
    page = evaluation_page.write(result, detector, out)
    console.print_figures(result.performance.figures, f"{len(result.samples)} images {result.measured_on}")
    if result.one_class:
        console.note(result.one_class)
    if split is None and "train" in result.splits and len(result.splits) > 1:
        console.note(
            "There is no split to test on, so all were measured, images to train on too: --split names another."
        )
    for figure in evaluation.HEADLINE if corruptions else ():
        if worst := evaluation.worst_corruption(result.corrupted, figure):
            console.say(f"Worst {figure} on corrupted images: {result.corrupted[worst].figures[figure]} ({worst}).")
    if result.seen:
        console.note(f"{result.seen} of these images were used to train or tune the model: its figures are too good.")
    if result.shift:
        console.note(result.shift)
    if result.failures:
        console.note(f"{len(result.failures)} images could not be read or are not chest radiographs: see the report.")
    console.say(f"The whole report: {page}")
    if result.failures:
        raise typer.Exit(SOME_FAILED)


def calibrate(
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The new model file; an existing file is replaced.")],
    classes: ClassesOption = None,
    other: OtherOption = None,
    labels_like: LabelsLikeOption = None,
    model: ModelOption = None,
    sensitivity: Annotated[
        float | None,
        typer.Option(metavar="P", help="Choose the highest threshold with at least this sensitivity, such as 0.95."),
    ] = None,
    specificity: Annotated[
        float | None,
        typer.Option(metavar="P", help="Choose the lowest threshold with at least this specificity, such as 0.95."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(metavar="P", help="Use this threshold. By default sensitivity and specificity are made equal."),
    ] = None,
    output_format: Annotated[
        Sheet, typer.Option("--format", "-f", help="A table for people; a JSON object for programs.")
    ] = Sheet.table,
) -> None:
    """Fit probabilities and threshold to your own labelled images.

    It needs at least 40 images, and refits the uncertain band, too. Neither the network nor the given model file is
    changed. The figures after the fit are of patients left out of it. Images of a split named test are not used:
    evaluate on them.

    \b
    $ pneumoscope calibrate our_clinic/ --out our_clinic.onnx
    $ pneumoscope calibrate our_clinic.csv --out ours.onnx --sensitivity 0.95
    """
    import json

    from pneumoscope.evaluation import recalibration
    from pneumoscope.metrics.thresholds import OperatingPoint

    try:
        point = OperatingPoint(sensitivity, specificity, threshold)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    check_folder(out.parent)
    samples = recalibration.load(data, **labelled(classes, other, labels_like))
    with console.progress() as bars:
        done = recalibration.recalibrate(samples, out, model, point=point, progress=console.steps(bars))
    if output_format is Sheet.json:
        typer.echo(json.dumps(done.as_dict()))
    else:
        console.print_before_after(done.before.figures, done.after.figures, f"{done.after.n} images of the site")
    for note in done.notes:
        console.note(note)
    fitted = done.card.calibration
    console.say(
        f"Threshold {fitted.threshold:.3f}. {fitted.threshold_reason}\n"
        f"Uncertain from {fitted.uncertain_low:.3f} to {fitted.uncertain_high:.3f}. {fitted.uncertain_reason}\n"
        f"{fitted.probability_reason}"
    )
    if done.failures:
        sample, reason = done.failures[0]
        console.note(f"{len(done.failures)} images were left out, the first is {sample.path}: {reason}")
    console.say(f"The model: {done.model}")
    if done.failures:
        raise typer.Exit(SOME_FAILED)


def export(
    target: Annotated[Runtime, typer.Option("--format", "-f", help="The runtime to write for.")],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The new file: .onnx, .xml (with a .bin beside it) or .tflite.")
    ],
    model: Annotated[
        Path | None, typer.Argument(metavar="MODEL", help="A model file; by default the bundled one.")
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Images or folders to compare on; by default the six bundled ones."),
    ] = None,
) -> None:
    """Write a model for another runtime, checked on real images.

    The file is written only if its runtime gives the same outputs on real images. Give it images of brightness 0 to 1,
    with dense tissue bright, squashed to the square of the input. It returns probability, logit, evidence and
    embedding. A finding needs the model's own threshold, which is not 0.5. Threshold, labels, card and instructions are
    printed, and stored in the file.

    \b
    $ pneumoscope export --format onnx --out model.onnx
    $ pneumoscope export runs/first/model.onnx --format openvino --out model.xml
    $ pneumoscope export model.onnx -f litert --out model.tflite --images ours/
    """
    from pneumoscope.data import sources
    from pneumoscope.export import targets as exports
    from pneumoscope.imaging import radiograph
    from pneumoscope.inference import model_file

    check_folder(out.parent)
    compared = [
        image for path in images or sorted(sources.BUNDLED.glob("*/*.jpeg")) for image in radiograph.files(path)
    ]
    done = exports.export(model or model_file.default(), out, target.value, compared)
    console.say(f"{done.usage}\n\nThe same as the model file on {done.images} images, within {done.difference:.1g}.")
    typer.echo(str(done.path))
    if done.failures:
        image, reason = done.failures[0]
        console.note(f"{len(done.failures)} images were not compared, the first is {image!s}: {reason}")
        raise typer.Exit(SOME_FAILED)
