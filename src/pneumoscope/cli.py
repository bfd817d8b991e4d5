"""The command line: what a person types, and the exit status a program reads."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import pneumoscope
from pneumoscope import console
from pneumoscope.atomic import check_folder
from pneumoscope.errors import DatasetError, MissingExtraError, PneumoscopeError

SOME_FAILED = 3
"""Exit status where some files failed and the others are answered."""

app = typer.Typer(
    name="pneumoscope",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Not a medical device. Exit status: 0 done; 1 failed; 2 wrong usage; 3 some files failed, the others are "
    "answered.",
)


class Format(StrEnum):
    """How findings are printed."""

    table = "table"
    json = "json"
    csv = "csv"


class Engine(StrEnum):
    """What runs the model."""

    openvino = "openvino"
    onnxruntime = "onnxruntime"


class Picture(StrEnum):
    """How evidence maps are written."""

    svg = "svg"
    png = "png"


class Sheet(StrEnum):
    """How figures are printed."""

    table = "table"
    json = "json"


class Runtime(StrEnum):
    """What a model is exported for."""

    onnx = "onnx"
    openvino = "openvino"
    litert = "litert"


class Split(StrEnum):
    """Which films of a data set are evaluated."""

    train = "train"
    val = "val"
    test = "test"
    all = "all"


ModelOption = Annotated[
    Path | None,
    typer.Option("--model", "-m", metavar="FILE", help="A model file; by default the one that comes along."),
]
DataArgument = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="A folder with [b]NORMAL/[/b] and [b]PNEUMONIA/[/b], with or without [b]train/ val/ test/[/b] above; a "
        "CSV file with path,label\\[,patient,split]; or a MedMNIST .npz.",
    ),
]


def main() -> None:
    """Run the command line; every failure is one line on standard error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # names of films may hold any bytes
    try:
        app()
    except PneumoscopeError as error:
        console.error(error.kind, str(error))
        sys.exit(1)
    except BrokenPipeError:  # the reader of standard output has gone, as in `pneumoscope predict ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        console.error("failed", str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)] = False,
) -> None:
    """Find pneumonia on chest radiographs: predict, evaluate, train.

    \b
    [dim]see it at work on 16 public films[/]
    $ pneumoscope demo
    [dim]judge a folder, and see where the model looks[/]
    $ pneumoscope predict films/ --evidence overlays/
    [dim]train a model of your own[/]
    $ pneumoscope train chest_xray/ --out runs/first
    """
    if version:
        typer.echo(f"pneumoscope {pneumoscope.__version__}")
        raise typer.Exit


@app.command()
def predict(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Films or folders of films; [b]-[/b] reads a list from standard input."),
    ],
    model: ModelOption = None,
    output_format: Annotated[
        Format, typer.Option("--format", "-f", help="A table for people; JSON lines or CSV for programs.")
    ] = Format.table,
    evidence: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write each film with its evidence map there.")
    ] = None,
    evidence_format: Annotated[
        Picture, typer.Option(help="SVG opens in any browser and is quick to write; PNG opens anywhere, and is not.")
    ] = Picture.svg,
    engine: Annotated[
        Engine, typer.Option(help="OpenVINO; or ONNX Runtime, on an NVIDIA card where there is one.")
    ] = Engine.openvino,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the findings there instead of printing them."),
    ] = None,
) -> None:
    """Say of each film whether it shows pneumonia, and how sure that is.

    Every file gets a row. One that cannot be read, or shows no chest film, has an error in its row; the exit status
    is then 3. A film that is turned, inverted or mirrored, or unlike those learnt from, has a warning.

    \b
    $ pneumoscope predict film.dcm
    $ pneumoscope predict films/ --format json > findings.jsonl
    $ find archive -name '*.png' | pneumoscope predict - --format csv
    """
    from pneumoscope import findings, gate, radiograph
    from pneumoscope.detector import Detector

    if evidence:
        check_folder(evidence)
    films = [file for path in _listed(paths) for file in radiograph.files(path)]
    if not films:
        raise DatasetError(f"Expected films, got none: there are no files in {', '.join(paths)}.")
    if output and output.is_file() and any(film.exists() and film.samefile(output) for film in films):
        raise DatasetError(f"Expected another file for the findings than '{output}', which is one of the films.")
    detector = Detector(model, engine=engine.value)
    overlays = findings.Overlays(evidence, f".evidence.{evidence_format.value}") if evidence else None
    failed = 0
    unusual = []
    with findings.writer(output_format.value, output) as write, console.progress() as bars:
        step = console.task(bars, "judging films", len(films)) if len(films) > 1 else lambda: None
        for finding in detector.examine(films, evidence=overlays is not None):
            if overlays:
                try:
                    overlays.write(finding)
                except (PneumoscopeError, OSError) as error:  # the film has gone meanwhile, or its name is too long
                    console.note(f"There is no overlay of {findings.printable(finding.path)}: {error}")
            write(finding)
            failed += finding.error is not None
            if finding.error is None:
                unusual.append("unlike_training_films" in finding.warnings)
            step()
    if shift := gate.site_shift(unusual):
        console.note(shift)
    if failed:
        raise typer.Exit(SOME_FAILED)


@app.command()
def evaluate(
    data: DataArgument,
    model: ModelOption = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where metrics.json and report.html go.")] = Path(
        "evaluation"
    ),
    split: Annotated[
        Split | None, typer.Option(help="Which split to evaluate on; by default test where there is one, else all.")
    ] = None,
    stress: Annotated[
        bool,
        typer.Option("--stress", help="Also under 18 shifts that a scanner or exporter makes, and with lungs hidden."),
    ] = False,
) -> None:
    """Measure a model on labelled films that it was not trained on: every figure with its 95 % interval.

    \b
    $ pneumoscope evaluate hospital_b/ --model runs/first/model.onnx
    $ pneumoscope evaluate hospital_b/ --stress
    """
    from dataclasses import replace

    from pneumoscope import dataset, evaluation, report, splits
    from pneumoscope.detector import Detector
    from pneumoscope.stress import SHIFTS

    check_folder(out)
    films = evaluation.choose(dataset.load(data), split.value if split else None)
    detector = Detector(model)
    with console.progress() as bars:
        result = evaluation.evaluate(films, detector, console.task(bars, "judging films", len(films)))
        if stress:
            decoded = splits.decode(result.films, detector.card.input_size)
            shifts = console.task(bars, "judging shifted films", len(SHIFTS))
            table = evaluation.under_stress(decoded, detector, shifts)
            result = replace(result, stressed=table, gaze=evaluation.gaze(decoded, detector))
    page = report.write(result, detector, out)
    console.print_figures(result.performance.figures, f"{len(result.films)} films")
    for figure in evaluation.HEADLINE if stress else ():
        if worst := evaluation.worst_shift(result.stressed, figure):
            console.say(f"Worst {figure} under stress: {result.stressed[worst].figures[figure]} ({worst}).")
    if result.seen:
        console.note(f"{result.seen} of these films were used to train or tune the model: the figures flatter it.")
    if result.shift:
        console.note(result.shift)
    console.say(f"The whole report: {page}")
    if result.failures:
        console.note(f"{len(result.failures)} films could not be read or show no chest; the report lists them.")
        raise typer.Exit(SOME_FAILED)


@app.command()
def audit(
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where audit.json and audit.html go.")] = Path("audit"),
) -> None:
    """Find what is wrong with a data set before anybody trains on it: copies, leaks between splits, shortcuts.

    What is found is no failure: the exit status is 0, and 3 where some films could not be read.

    \b
    $ pneumoscope audit chest_xray/
    """
    from pneumoscope import audit as audits
    from pneumoscope import audit_page, dataset

    check_folder(out)
    films = dataset.load(data, complete=False)
    with console.progress() as bars:
        step = console.steps(bars)
        found = audits.audit(films, lambda what, done, total: step(what, done, total, {}))
    page = audit_page.write(found, out)
    audit_page.show(found)
    console.say(f"The whole audit, with pictures: {page}")
    if found.failures:
        raise typer.Exit(SOME_FAILED)


@app.command()
def calibrate(
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The new model file.")],
    model: ModelOption = None,
    sensitivity: Annotated[
        float | None, typer.Option(help="Take the highest threshold with at least this sensitivity, such as 0.95.")
    ] = None,
    specificity: Annotated[
        float | None, typer.Option(help="Take the lowest threshold with at least this specificity, such as 0.95.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Take this threshold. By default sensitivity and specificity are made equal.")
    ] = None,
    output_format: Annotated[
        Sheet, typer.Option("--format", "-f", help="A table for people; a JSON object for programs.")
    ] = Sheet.table,
) -> None:
    """Refit probabilities, threshold and uncertain band on labelled films of your own, from 40 on.

    The network stays as it is, and so does the model file given. The figures after are of patients left out of the fit.
    Films of a split named test are not used: evaluate on them.

    \b
    $ pneumoscope calibrate our_clinic/ --out our_clinic.onnx
    $ pneumoscope calibrate our_clinic.csv --model runs/first/model.onnx --out ours.onnx --sensitivity 0.95
    """
    import json

    from pneumoscope import adaptation
    from pneumoscope.operating_point import OperatingPoint

    try:
        point = OperatingPoint(sensitivity, specificity, threshold)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    check_folder(out.parent)
    films = adaptation.load(data)
    with console.progress() as bars:
        done = adaptation.recalibrate(films, out, model, point=point, progress=console.steps(bars))
    if output_format is Sheet.json:
        typer.echo(json.dumps(done.as_dict()))
    else:
        console.print_before_after(done.before.figures, done.after.figures, f"{done.after.n} films of the site")
    for note in done.notes:
        console.note(note)
    fitted = done.card.calibration
    console.say(
        f"Threshold {fitted.threshold:.3f}. {fitted.threshold_reason}\n"
        f"Uncertain from {fitted.uncertain_low:.3f} to {fitted.uncertain_high:.3f}. {fitted.uncertain_reason}\n"
        f"{fitted.probability_reason}\n"
        f"The model: {done.model}"
    )
    if done.failures:
        film, reason = done.failures[0]
        console.note(f"{len(done.failures)} films were left out, the first is {film.path}: {reason}")
        raise typer.Exit(SOME_FAILED)


@app.command()
def train(
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The run's folder: model, curves, checkpoint, split.")],
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A recipe in TOML; the options below overrule it.")
    ] = None,
    architecture: Annotated[str | None, typer.Option(help="mobilenet_v2, cnn, or another of the registry.")] = None,
    init: Annotated[
        str | None, typer.Option(metavar="imagenet|none|FILE", help="Where the weights start from.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs for the whole network, at most.")] = None,
    sensitivity: Annotated[
        float | None, typer.Option(help="Choose the threshold for at least this sensitivity, such as 0.95.")
    ] = None,
    specificity: Annotated[
        float | None, typer.Option(help="Choose it for this specificity. By default both are made equal, under stress.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Equal seeds give equal models on one machine.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after the last finished epoch in the folder.")
    ] = False,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out films that cannot be read, instead of refusing.")
    ] = False,
) -> None:
    """Train a model on labelled films, and measure it on patients held out from them.

    \b
    $ pneumoscope train chest_xray/ --out runs/first
    $ pneumoscope train chest_xray/ --out runs/first --resume
    $ pneumoscope train films.csv --out runs/cnn --architecture cnn
    """
    check_folder(out)
    training = _training()
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
    chosen = training.Recipe.from_toml(recipe, **given) if recipe else training.Recipe.from_dict(given)
    with console.progress() as bars:
        run = training.fit(
            data, out, chosen, resume=resume, skip_unreadable=skip_unreadable, progress=console.steps(bars)
        )
    for note in run.notes:
        console.note(note)
    console.print_figures(run.validation.figures, f"{run.validation.n} films of held-out patients")
    console.say(
        "These patients chose the epoch and the threshold, so the figures flatter the model: evaluate it on others, "
        "best of another hospital."
    )
    console.say(f"The model: {run.model}")


@app.command()
def export(
    target: Annotated[Runtime, typer.Option("--format", "-f", help="What it is for.")],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Where to: a name in .onnx, .xml (a .bin comes beside it) or .tflite.")
    ],
    model: Annotated[
        Path | None, typer.Argument(metavar="MODEL", help="A model file; by default the one that comes along.")
    ] = None,
    films: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Films or folders to compare on; by default 16 public films are fetched."),
    ] = None,
) -> None:
    """Write a model for programs elsewhere, once their runtime is shown to give the same on real films.

    A program gives it films of brightness 0 to 1, dense tissue bright, squashed to the square of the input, and gets
    [b]probability[/b], [b]logit[/b], [b]evidence[/b] and [b]embedding[/b]. A verdict needs the model's own threshold,
    which is not 0.5. Threshold, labels, card and these instructions are in the file; they are printed, too.

    \b
    $ pneumoscope export --format onnx --out model.onnx
    $ pneumoscope export runs/first/model.onnx --format openvino --out model.xml
    $ pneumoscope export runs/first/model.onnx --format litert --out model.tflite --films our_clinic/
    """
    from pneumoscope import export as exports
    from pneumoscope import model_file, radiograph

    check_folder(out.parent)

    def compared() -> Iterator[Path]:  # so that nothing is fetched before all else is in order
        for path in films or [_fetched("samples", None)]:
            yield from radiograph.files(path)

    done = exports.export(model or model_file.default(), out, target.value, compared())
    console.say(f"{done.usage}\n\nThe same as the model file on {done.films} films, within {done.difference:.1g}.")
    typer.echo(str(done.path))
    if done.failures:
        film, reason = done.failures[0]
        console.note(f"{len(done.failures)} films were not compared, the first is {film!s}: {reason}")
        raise typer.Exit(SOME_FAILED)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to serve on; any but this machine's own demands a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 for any that is free.")] = 8000,
    token: Annotated[
        str | None, typer.Option(envvar="PNEUMOSCOPE_TOKEN", help="What a client must show to be answered.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Another site whose pages may ask; may be repeated.")
    ] = None,
    model: ModelOption = None,
) -> None:
    """Open the light box: a page to look at films in, and an HTTP service for programs.

    Nothing that is sent is kept after the answer. Ctrl-C stops; what was accepted is answered first.

    \b
    $ pneumoscope serve
    $ curl -F films=@film.png http://127.0.0.1:8000/v1/predict
    $ PNEUMOSCOPE_TOKEN=secret pneumoscope serve --host 0.0.0.0
    """
    try:
        from pneumoscope.service import server
    except ImportError as error:
        raise MissingExtraError(
            f"Serving needs what is not installed ({error.name} is missing): pip install '.[serve]' in the clone."
        ) from error
    server.serve(
        host,
        port,
        model=model,
        token=token,
        origins=allow_origin or (),
        tell=lambda address: console.say(f"The light box: {address}\nCtrl-C stops it. Requests are logged below."),
    )


@app.command()
def fetch(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A data set; without a name they are listed.")
    ] = None,
    dest: Annotated[Path | None, typer.Option(metavar="DIR", help="The folder to put it in.")] = None,
) -> None:
    """Fetch a public data set: it is verified, resumed after a break, and never left half.

    \b
    $ pneumoscope fetch
    $ pneumoscope fetch samples --dest films
    """
    from pneumoscope import sources

    if name is None:
        _print_sources()
        return
    console.say(sources.find(name).credit)
    typer.echo(str(_fetched(name, dest)))


@app.command()
def demo(
    data: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Labelled films of your own; by default 16 public ones are fetched."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where overlays and report go.")] = Path("pneumoscope-demo"),
) -> None:
    """See Pneumoscope at work: truth beside verdict, evidence maps and a report on 16 public films.

    \b
    $ pneumoscope demo
    $ pneumoscope demo --data chest_xray/test
    """
    from pneumoscope import dataset, evaluation, findings, report
    from pneumoscope.detector import Detector

    check_folder(out)
    films = evaluation.choose(dataset.load(data or _fetched("samples", None)))
    detector = Detector()
    overlays = findings.Overlays(out / "overlays")
    with console.progress() as bars:
        judged = console.task(bars, "judging films", len(films))
        result = evaluation.evaluate(films, detector, judged, evidence=True)
        step = console.task(bars, "drawing evidence", len(result.findings))
        for finding in result.findings:
            overlays.write(finding)
            step()
    findings.print_beside_truth(result)
    page = report.write(result, detector, out)
    console.say(f"Overlays: {out / 'overlays'}\nReport:   {page}")
    if result.failures:
        raise typer.Exit(SOME_FAILED)


def _training() -> Any:  # noqa: ANN401 - a module
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow greets with a page about its build
    try:
        from pneumoscope import training
    except ImportError as error:
        raise MissingExtraError(
            f"Training needs what is not installed ({error.name} is missing): pip install '.[train]' in the clone."
        ) from error
    return training


def _fetched(name: str, dest: Path | None) -> Path:
    from pneumoscope import sources

    source = sources.find(name)
    with console.progress() as bars:
        bar = bars.add_task(f"fetching {name}", total=source.bytes, figures="")
        try:
            return sources.fetch(
                name,
                dest,
                progress=lambda done, total: bars.update(bar, completed=done, total=total or source.bytes),
            )
        except PneumoscopeError:
            bars.stop()
            console.say(
                "By hand:\n" + "\n".join(f"  {i}. {step}" for i, step in enumerate(source.steps(dest), start=1))
            )
            raise


def _listed(paths: list[str]) -> Iterator[str]:
    for path in paths:
        if path == "-":
            yield from (os.fsdecode(line.rstrip(b"\r\n")) for line in sys.stdin.buffer if line.strip())
        else:
            yield path


def _print_sources() -> None:
    from rich.console import Console
    from rich.table import Table

    from pneumoscope import sources

    table = Table("name", "what", "films", "size", "licence")
    for source in sources.SOURCES.values():
        table.add_row(source.name, source.title, str(source.films), f"{source.bytes / 1e6:,.0f} MB", source.licence)
    Console().print(table)
