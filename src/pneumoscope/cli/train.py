"""The command that trains models."""

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
    ClassesOption,
    DataArgument,
    LabelsLikeOption,
    OtherOption,
    labelled,
)
from pneumoscope.errors import NotAChestRadiographError, needs_extra

if TYPE_CHECKING:
    from rich.progress import Progress

    from pneumoscope.data.samples import Sample


class Track(StrEnum):
    """The tools that a training run can be logged to."""

    mlflow = "mlflow"
    tensorboard = "tensorboard"


def train(
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The run's folder: model, curves, checkpoint, split.")],
    classes: ClassesOption = None,
    other: OtherOption = None,
    labels_like: LabelsLikeOption = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A recipe in TOML; the options below override it.")
    ] = None,
    architecture: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="mobilenet_v2, which is the default, cnn, or another of the registry."),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="START",
            help="Where the weights start from: imagenet, none, default (the bundled model), or a model file in "
            ".onnx. By default imagenet if the architecture has such weights, else none.",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Most epochs for the whole network; 20 by default.")
    ] = None,
    sensitivity: Annotated[
        float | None,
        typer.Option(metavar="P", help="Choose the threshold for at least this sensitivity, such as 0.95."),
    ] = None,
    specificity: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="Choose it for at least this specificity. By default both are made equal, on corrupted images, too.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Equal seeds give equal models on one machine; 0 by default.")
    ] = None,
    leave_out: Annotated[
        str | None,
        typer.Option(metavar="SITE", help="Train on the other sites and measure at this one, as a new hospital would."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue after the last finished epoch in the folder, with its recipe.")
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
        typer.Option(metavar="DIR", help="Keep decoded images in a file in this folder instead of memory."),
    ] = None,
    devices: Annotated[
        str | None,
        typer.Option(metavar="N|auto", help="Number of devices to train on at each host, with JAX; by default one."),
    ] = None,
    hosts: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT,...", help="Train on these hosts together: run the command on each, with its --host."
        ),
    ] = None,
    host: Annotated[int, typer.Option(min=0, metavar="N", help="Which of --hosts this is; host 0 writes the run.")] = 0,
    track: Annotated[
        Track | None, typer.Option(help="Log recipe, curves, figures and model there; nothing is logged by default.")
    ] = None,
    track_to: Annotated[
        str | None,
        typer.Option(metavar="URI|DIR", help="MLflow's server or database; the folder of TensorBoard's event files."),
    ] = None,
) -> None:
    """Train a model on labelled images, and measure it on others.

    A share of the patients, or the data set's own validation split, is held out. The figures printed are for these
    patients.

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
        raise typer.BadParameter("Expected --track as well, got only --track-to.", param_hint="--track-to")
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
    if specificity is not None or sensitivity is not None:  # either one overrides both of a recipe
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

    def job(bars: Progress) -> Any:  # noqa: ANN401 - what is imported only now
        given = {"resume": resume, "skip_unreadable": skip_unreadable, "cache": cache}
        return training.Job(images, out, chosen, **given, progress=console.steps(bars))

    if hosts and host:
        with console.progress() as bars:
            training.assist(job(bars))
        console.say("This host has done its part; host 0 writes the model.")
        return
    from pneumoscope.training import tracking

    with tracking.tracked(track and track.value, track_to, out) as tracker, console.progress() as bars:
        run = training.fit(job(bars), tracker)
    for note in run.notes:
        console.note(note)
    if tracker.lost:
        console.note(f"Tracking failed and does not have all of this run: {tracker.lost}")
    console.print_figures(run.validation.figures, f"{run.validation.n} images of held-out patients")
    console.say(run.kept)
    console.say(
        "The threshold was chosen on these patients, who come from the hospitals trained on, so the figures are too "
        "good: evaluate the model on other patients, preferably of another hospital."
    )
    if left:
        _measured_at(leave_out or "", left, run.model, out)
    console.say(f"The model: {run.model}")


def _measured_at(site: str, images: list[Any], model: Path, out: Path) -> None:
    """Measure a model on the site that was left out, and write and print the figures."""
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


def _without_rejected(samples: Sequence[Sample], *, skip: bool) -> list[Sample]:
    """Report how many images `predict` would reject, and leave them out on request; the test split is not examined.

    Masks and the like spoil a model. But chest radiographs unlike those that the bundled model was trained on have to
    be learnt, and only the user can tell which they are.
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
        else "They are trained on anyway: move masks and the like elsewhere, or add --skip-rejected"
    )
    console.note(
        f"{len(rejected):,} of {len(looked_at):,} images do not look like frontal chest radiographs, the first is "
        f"{next(iter(rejected.values()))}. {becomes}; `pneumoscope audit` lists them."
    )
    return [sample for sample in samples if not (skip and id(sample) in rejected)]


def _training(number: str | None, hosts: str | None, host: int) -> Any:  # noqa: ANN401 - a module
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no greeting by TensorFlow
    if number not in (None, "auto") and not (number.isdecimal() and int(number)):
        raise typer.BadParameter(f"Expected a number of devices, or auto, got '{number}'.", param_hint="--devices")
    if host and not hosts:
        raise typer.BadParameter(
            "Expected --hosts with the addresses of all hosts, got only --host.", param_hint="--host"
        )
    with needs_extra("Training", "train"):
        if number or hosts:
            from pneumoscope.training import distributed

            wanted = int(number) if number not in (None, "auto") else None
            distributed.use(wanted, hosts.split(",") if hosts else (), host)
        from pneumoscope.training import run as training
    return training
