"""The commands that make, measure and change models."""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from pneumoscope.errors import MissingExtraError, NotAChestRadiographError

if TYPE_CHECKING:
    from pneumoscope.data.samples import Sample


class Sheet(StrEnum):
    """How figures are printed."""

    table = "table"
    json = "json"


class Runtime(StrEnum):
    """What a model is exported for."""

    onnx = "onnx"
    openvino = "openvino"
    litert = "litert"


class Track(StrEnum):
    """What a training is logged by."""

    mlflow = "mlflow"
    tensorboard = "tensorboard"


class Split(StrEnum):
    """Which images of a data set are evaluated."""

    train = "train"
    val = "val"
    test = "test"
    all = "all"


def train(
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The run's folder: model, curves, checkpoint, split.")],
    classes: ClassesOption = None,
    other: OtherOption = None,
    labels_like: LabelsLikeOption = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A recipe in TOML; the options below overrule it.")
    ] = None,
    architecture: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="mobilenet_v2, which is the default, cnn, or another of the registry."),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="START",
            help="Where the weights start from: imagenet, none, default (the model that comes along), or a model "
            "file in .onnx. By default imagenet where the architecture has such weights, else none.",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Epochs for the whole network, at most; 20 by default.")
    ] = None,
    sensitivity: Annotated[
        float | None,
        typer.Option(metavar="P", help="Choose the threshold for at least this sensitivity, such as 0.95."),
    ] = None,
    specificity: Annotated[
        float | None,
        typer.Option(
            metavar="P", help="Choose it for this specificity. By default both are made equal, on corrupted images."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Equal seeds give equal models on one machine; 0 by default.")
    ] = None,
    leave_out: Annotated[
        str | None,
        typer.Option(metavar="SITE", help="Train on the other sites and measure here: what a new hospital sees."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after the last finished epoch in the folder, by its recipe.")
    ] = False,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out images that cannot be read, instead of stopping.")
    ] = False,
    skip_rejected: Annotated[
        bool,
        typer.Option("--skip-rejected", help="Leave out images that `predict` rejects, such as masks and laterals."),
    ] = False,
    cache: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep decoded images in a file here, not in memory; too many always are."),
    ] = None,
    devices: Annotated[
        str | None,
        typer.Option(metavar="N|auto", help="Train on so many devices of each host, with JAX; by default on one."),
    ] = None,
    hosts: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT,...", help="Train on these hosts together: run this on each, with its --host."),
    ] = None,
    host: Annotated[int, typer.Option(min=0, metavar="N", help="Which of --hosts this is; 0 writes the run.")] = 0,
    track: Annotated[
        Track | None, typer.Option(help="Log recipe, curves, figures and model there; nothing is logged by default.")
    ] = None,
    track_to: Annotated[
        str | None,
        typer.Option(metavar="URI|DIR", help="MLflow's server or database; the folder of TensorBoard's event files."),
    ] = None,
) -> None:
    """Train a model on labelled images, and measure it on others.

    A share of the patients, or a split of the data set's own, is held out; the figures printed are theirs.

    \b
    $ pneumoscope train chest_xray/ --out runs/first
    $ pneumoscope train chest_xray/ --out runs/first --resume
    $ pneumoscope train our_clinic/ --out runs/ours --init default --epochs 4
    $ pneumoscope train ours/ nih.csv --other negative --out runs/both
    $ pneumoscope train ours/ nih.csv --other skip --out runs/new --leave-out ours
    $ pneumoscope train images.csv --out runs/cnn --architecture cnn
    $ pneumoscope train images.csv --out runs/gpus --devices auto
    """
    if track_to is not None and track is None:
        raise typer.BadParameter("Expected --track with what keeps it, got --track-to alone.", param_hint="--track-to")
    check_folder(out)
    from pneumoscope.data import layouts

    training = _training(devices, hosts, host)
    options = {
        "architecture": architecture,
        "init": init,
        "epochs": epochs,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "seed": seed,
    }
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if specificity is not None or sensitivity is not None:  # one overrules the other of a recipe
        given = {"sensitivity": 0.0, "specificity": 0.0} | given
    if resume and not recipe and not given and (out / "recipe.json").is_file():
        chosen = training.recipe_of(out)
    else:
        chosen = training.Recipe.from_toml(recipe, **given) if recipe else training.Recipe.from_dict(given)
    images = layouts.load(data, **labelled(classes, other, labels_like))
    left: list[layouts.Sample] = []
    if leave_out is not None:
        from pneumoscope.training import data as preparation

        images, left = preparation.without(images, leave_out)
    if skip_rejected or not (resume or (hosts and host)):
        images = _without_rejected(images, skip=skip_rejected)
    common: dict[str, Any] = {"resume": resume, "skip_unreadable": skip_unreadable, "cache": cache}
    if hosts and host:
        with console.progress() as bars:
            training.assist(images, out, chosen, **common, progress=console.steps(bars))
        console.say("This host has done its part; host 0 writes the model.")
        return
    from pneumoscope.training import tracking

    with tracking.tracked(track and track.value, track_to, out) as tracker, console.progress() as bars:
        run = training.fit(images, out, chosen, **common, tracker=tracker, progress=console.steps(bars))
    for note in run.notes:
        console.note(note)
    if tracker.lost:
        console.note(f"The tracker was lost on the way and does not have all of this run: {tracker.lost}")
    console.print_figures(run.validation.figures, f"{run.validation.n} images of held-out patients")
    console.say(run.kept)
    console.say(
        "These patients chose the threshold and are of the hospitals trained on, so the figures flatter the model: "
        "evaluate it on others, best of another hospital."
    )
    if left:
        _measured_at(leave_out or "", left, run.model, out)
    console.say(f"The model: {run.model}")


def _measured_at(site: str, images: list[Any], model: Path, out: Path) -> None:
    """Measure a model at the site that was left out, and write and print the figures."""
    from dataclasses import asdict
    from json import dumps

    from pneumoscope.atomic import write_text
    from pneumoscope.evaluation import evaluate as evaluation
    from pneumoscope.inference.detector import Detector
    from pneumoscope.metrics import calibration

    detector = Detector(model)
    with console.progress() as bars:
        result = evaluation.evaluate(images, detector, console.task(bars, f"predicting at {site}", len(images)))
    beyond = calibration.beyond_band(result.labels, result.probabilities, detector.card.calibration)
    figures = result.performance.as_dict() | {name: asdict(estimate) for name, estimate in beyond.items()}
    write_text(out / "left_out.json", dumps({"site": site} | figures, indent=2))
    console.print_figures(result.performance.figures, f"{len(result.samples)} images of '{site}', which was left out")
    console.say(
        f"Beyond the uncertain band on the wrong side there: {beyond['normals_above']} of the normals, "
        f"{beyond['pneumonias_below']} of the pneumonias."
    )


def evaluate(
    data: DataArgument,
    model: ModelOption = None,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where metrics.json, predictions.csv, report.html and the curves go.")
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
            help="Also on images corrupted in 18 ways, as scanners and exporters do, and with the lungs hidden.",
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
        console.note(f"{result.seen} of these images were used to train or tune the model: the figures flatter it.")
    if result.shift:
        console.note(result.shift)
    if result.failures:
        console.note(f"{len(result.failures)} images could not be read or show no chest; the report lists them.")
    console.say(f"The whole report: {page}")
    if result.failures:
        raise typer.Exit(SOME_FAILED)


def calibrate(
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The new model file; one that is there is replaced.")],
    classes: ClassesOption = None,
    other: OtherOption = None,
    labels_like: LabelsLikeOption = None,
    model: ModelOption = None,
    sensitivity: Annotated[
        float | None,
        typer.Option(metavar="P", help="Take the highest threshold with at least this sensitivity, such as 0.95."),
    ] = None,
    specificity: Annotated[
        float | None,
        typer.Option(metavar="P", help="Take the lowest threshold with at least this specificity, such as 0.95."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(metavar="P", help="Take this threshold. By default sensitivity and specificity are made equal."),
    ] = None,
    output_format: Annotated[
        Sheet, typer.Option("--format", "-f", help="A table for people; a JSON object for programs.")
    ] = Sheet.table,
) -> None:
    """Fit probabilities and threshold to your own labelled images.

    It takes 40 images or more, and refits the uncertain band, too. The network stays as it is, and so does the model
    file given. The figures after are of patients left out of the fit. Images of a split named test are not used:
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
    target: Annotated[Runtime, typer.Option("--format", "-f", help="What it is for.")],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Where to: a name in .onnx, .xml (a .bin comes beside it) or .tflite.")
    ],
    model: Annotated[
        Path | None, typer.Argument(metavar="MODEL", help="A model file; by default the one that comes along.")
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Images or folders to compare on; by default the six that come along."),
    ] = None,
) -> None:
    """Write a model for another runtime, checked on real images.

    The file is written once its runtime is shown to give the same on real images. A program gives it images of
    brightness 0 to 1, dense tissue bright, squashed to the square of the input, and gets probability, logit, evidence
    and embedding. A finding needs the model's own threshold, which is not 0.5. Threshold, labels, card and these
    instructions are in the file; they are printed, too.

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


def _without_rejected(samples: Sequence[Sample], *, skip: bool) -> list[Sample]:
    """Say how many images `predict` would reject, and leave them out on request; the test split is not looked at.

    They spoil a model if they are masks and the like. If they are chest radiographs unlike those that the bundled model
    knows, the new one has to learn from them: only the user can tell.
    """
    from pneumoscope.inference.detector import Detector

    looked_at = [sample for sample in samples if sample.split != "test"]
    rejected: dict[int, Path] = {}
    with console.progress() as bars:
        step = console.task(bars, "looking for chests", len(looked_at))
        for sample, error in zip(looked_at, Detector().rejections(s.source for s in looked_at), strict=True):
            if isinstance(error, NotAChestRadiographError):
                rejected[id(sample)] = sample.path
            step()
    if not rejected:
        return list(samples)
    becomes = (
        "They are left out"
        if skip
        else "They are trained on all the same: move masks and the like away, or add --skip-rejected"
    )
    console.note(
        f"{len(rejected):,} of {len(looked_at):,} images do not look like frontal chest radiographs, the first is "
        f"{next(iter(rejected.values()))}. {becomes}; `pneumoscope audit` lists them."
    )
    return [sample for sample in samples if not (skip and id(sample) in rejected)]


def _training(number: str | None, hosts: str | None, host: int) -> Any:  # noqa: ANN401 - a module
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow greets with a page about its build
    if number not in (None, "auto") and not (number.isdecimal() and int(number)):
        raise typer.BadParameter(f"Expected a number of devices, or auto, got '{number}'.", param_hint="--devices")
    if host and not hosts:
        raise typer.BadParameter("Expected --hosts with the addresses of all, got --host alone.", param_hint="--host")
    try:
        if number or hosts:
            from pneumoscope.training import distributed

            wanted = int(number) if number not in (None, "auto") else None
            distributed.use(wanted, hosts.split(",") if hosts else (), host)
        from pneumoscope.training import run as training
    except ImportError as error:
        raise MissingExtraError.of("Training", error.name, "train") from error
    return training
