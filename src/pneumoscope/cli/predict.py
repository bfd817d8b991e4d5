"""The commands that predict images: predict, score and demo."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated

import typer

from pneumoscope.atomic import check_folder
from pneumoscope.cli import console
from pneumoscope.cli.options import SOME_FAILED, ModelOption, NormalsOption, PrevalenceOption
from pneumoscope.errors import DatasetError, PneumoscopeError, needs_extra


class Format(StrEnum):
    """The output formats for findings."""

    table = "table"
    json = "json"
    csv = "csv"


class Engine(StrEnum):
    """The engines that run a model."""

    openvino = "openvino"
    openvino_bf16 = "openvino-bf16"
    onnxruntime = "onnxruntime"


EngineOption = Annotated[
    Engine,
    typer.Option(
        help="OpenVINO; OpenVINO in bfloat16, which needs a processor with units for it and is faster, with the same "
        "findings and slightly different probabilities; or ONNX Runtime, on an NVIDIA GPU where there is one."
    ),
]


class Image(StrEnum):
    """The file formats of evidence maps."""

    svg = "svg"
    png = "png"


def predict(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH", help="Images or folders of images; - reads a list of paths from standard input."
        ),
    ],
    model: ModelOption = None,
    output_format: Annotated[
        Format, typer.Option("--format", "-f", help="A table for people; JSON lines or CSV for programs.")
    ] = Format.table,
    evidence: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write each image with the finding PNEUMONIA there, with its evidence map; JSON and CSV rows "
            "name the file.",
        ),
    ] = None,
    evidence_of_normals: NormalsOption = False,
    evidence_format: Annotated[
        Image,
        typer.Option(help="SVG opens in any browser and is quick to write; PNG opens anywhere, but is slow to write."),
    ] = Image.svg,
    dicom_out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write a Structured Report there for each DICOM image; with --evidence also the image with its "
            "evidence map, as a Secondary Capture.",
        ),
    ] = None,
    prevalence: PrevalenceOption = None,
    engine: EngineOption = Engine.openvino,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write the findings to this file instead of printing them."
        ),
    ] = None,
) -> None:
    """Say whether each image shows pneumonia, and how sure that is.

    Every file gets a row. If it cannot be read, or is not a chest radiograph, the row has an error and the exit status
    is 3. It is also 3 if an evidence map cannot be written. An image that is turned, inverted or mirrored, or unlike
    the training images, gets a warning.

    DICOM reports hold the patient and study of the image's header, so that an archive files them with the image. No
    other output does, and reports are named by their UIDs. If a report cannot be written, the row still has its
    finding and says why as report_error, and the exit status is 3.

    \b
    $ pneumoscope predict image.dcm
    $ pneumoscope predict images/ --format json > findings.jsonl
    $ pneumoscope predict study/ --dicom-out reports/ --evidence overlays/
    $ find archive -name '*.png' | pneumoscope predict - --format csv
    """
    from pneumoscope import parallel
    from pneumoscope.inference.detector import Detector
    from pneumoscope.ood import embedding
    from pneumoscope.reporting import attachments, tables, writers

    if "" in paths:
        raise typer.BadParameter(
            "Expected an image or a folder, got an empty name: is a variable of the shell not set?"
        )
    for folder in (evidence, dicom_out):
        if folder:
            check_folder(folder)
    images = _Listing(_listed(paths), output)
    if not images.any:
        raise DatasetError(f"Expected images, got none: there are no files in {', '.join(paths)}.")
    detector = Detector(model, engine=engine.value, prevalence=prevalence)
    overlays = (
        attachments.Overlays(evidence, f".evidence.{evidence_format.value}", evidence_of_normals) if evidence else None
    )
    reports = attachments.Reports(dicom_out, detector.card, evidence_of_normals) if dicom_out else None
    failed = 0
    unusual = []
    missing: dict[tuple[str, str], list[str]] = {}  # images without a requested file, by kind and reason
    with (
        writers.writer(
            output_format.value, output, with_maps=overlays is not None, with_reports=reports is not None
        ) as write,
        console.progress() as bars,
    ):
        step = console.growing_task(bars, "predicting images")
        many = images.listed >= parallel.MANY
        for finding in detector.examine(images, evidence=overlays is not None, processes=many):
            report = reports.write(finding) if reports else writers.NO_REPORT
            if report.error is not None:
                missing.setdefault(("report on", str(report.error)), []).append(finding.path)
            place = None
            if overlays:
                try:
                    place = overlays.write(finding)
                except (PneumoscopeError, OSError) as error:  # the image may have been deleted, or its name is too long
                    missing.setdefault(("overlay of", str(error)), []).append(finding.path)
                    failed += 1
            write(finding, place, report)
            failed += finding.error is not None
            if finding.error is None:
                unusual.append("unlike_training_images" in finding.warnings)
            step(images.total)
    for (what, reason), without in missing.items():
        others = f" and {len(without) - 1:,} others" if len(without) > 1 else ""
        console.note(f"There is no {what} {tables.printable(without[0])}{others}: {reason}")
    if reports and reports.without:
        reasons = ", ".join(f"{n} {reason}" for reason, n in reports.without.items())
        console.note(f"Images without a DICOM report: {reports.without.total()} ({reasons}).")
    for empty in images.empty:
        console.note(f"There are no images in {tables.printable(empty)}.")
    if shift := embedding.site_shift(unusual):
        console.note(shift)
    if failed or (reports and reports.failed):
        raise typer.Exit(SOME_FAILED)


def score(
    source: Annotated[
        str,
        typer.Argument(
            metavar="URI",
            help="A folder, a glob in quotes, or a Parquet manifest with a column path; on this machine, s3:// or "
            "gs://.",
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            metavar="URI", help="Where to write the Parquet files: a folder that all nodes see, s3:// or gs://."
        ),
    ],
    model: ModelOption = None,
    engine: EngineOption = Engine.openvino,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="A running Ray cluster: auto, HOST:PORT or ray://HOST:PORT; by default $RAY_ADDRESS. Without "
            "either, this machine does the work alone.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Number of processes; by default one for every core.")
    ] = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="Start a Ray cluster on this machine for the run, to try it.")
    ] = False,
) -> None:
    """Predict many images into Parquet files, here or on a Ray cluster.

    The files hold each image once. If the command is stopped or killed, run it again: it does the rest. Images that are
    done are skipped, and images that have changed are done again. One JSON line on standard output sums up the run;
    the exit status is 3 if images have errors.

    \b
    $ pneumoscope score archive/ --out findings/
    $ pneumoscope score 's3://images/**/*.dcm' --out s3://found/ --address auto
    $ export AWS_ENDPOINT_URL=http://minio:9000
    $ pneumoscope score s3://archive/images.parquet --out findings/
    """
    with needs_extra("Scoring", "score"):
        from pneumoscope.batch import score as many
    with console.progress() as bars:
        summary = many.score(
            source,
            out,
            model=model,
            engine=engine.value,
            address=address,
            workers=workers,
            ray=ray,
            progress=console.counter(bars, "predicting images"),
        )
    typer.echo(json.dumps(asdict(summary)))
    if summary.errors:
        raise typer.Exit(SOME_FAILED)


def demo(
    data: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Labelled images of your own; by default the six bundled ones."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write overlays and report.")] = Path(
        "pneumoscope-demo"
    ),
) -> None:
    """See findings, evidence maps and a report on six radiographs.

    \b
    $ pneumoscope demo
    $ pneumoscope demo --data chest_xray/test
    """
    from pneumoscope.data import layouts, sources
    from pneumoscope.evaluation.evaluate import choose, evaluate
    from pneumoscope.inference.detector import Detector
    from pneumoscope.reporting import attachments, evaluation_page, writers

    check_folder(out)
    images = choose(layouts.load(data or sources.BUNDLED))
    detector = Detector()
    overlays = attachments.Overlays(out / "overlays")
    with console.progress() as bars:
        predicted = console.task(bars, "predicting images", len(images))
        result = evaluate(images, detector, predicted, evidence=True)
        step = console.task(bars, "drawing evidence", len(result.findings))
        for finding in result.findings:
            overlays.write(finding)
            step()
    writers.print_beside_truth(result)
    page = evaluation_page.write(result, detector, out)
    console.say(f"Evidence maps: {out / 'overlays'}\nReport: {page}")
    if result.failures:
        raise typer.Exit(SOME_FAILED)


class _Listing:
    """The images at some paths, listed by a separate thread while the first are already being predicted.

    Args:
        paths: files and folders.
        output: the file for the findings, which must not be one of the images.

    Attributes:
        any: whether there are any images.
        listed: the number of images listed so far.
        empty: the folders without images; complete once all images are listed.
        total: the number of images; None until all are listed.
    """

    def __init__(self, paths: Iterable[str], output: Path | None) -> None:
        self._paths, self._output = paths, output
        self._found: SimpleQueue[Path | Exception | None] = SimpleQueue()
        self.empty: list[str] = []
        self.listed = 0
        self.total: int | None = None
        threading.Thread(target=self._list, name="listing", daemon=True).start()
        self._first = self._found.get()
        self.any = self._first is not None

    def __iter__(self) -> Iterator[Path]:
        found = self._first
        while found is not None:
            if isinstance(found, Exception):
                raise found
            yield found
            found = self._found.get()

    def _list(self) -> None:
        from pneumoscope.imaging import radiograph

        taken = self._output if self._output and self._output.is_file() else None
        try:
            for path in self._paths:
                before = self.listed
                for image in radiograph.files(path):
                    _check_other(image, taken)
                    self._found.put(image)
                    self.listed += 1
                if self.listed == before:
                    self.empty.append(path)
            self.total = self.listed
            self._found.put(None)
        except Exception as error:  # noqa: BLE001 - raised again in `__iter__`
            self._found.put(error)


def _check_other(image: Path, output: Path | None) -> None:
    if output and image.exists() and image.samefile(output):
        raise DatasetError(f"Expected a file for the findings other than '{output}', which is one of the images.")


def _listed(paths: list[str]) -> Iterator[str]:
    for path in paths:
        if path == "-":
            yield from (os.fsdecode(line.rstrip(b"\r\n")) for line in sys.stdin.buffer if line.strip())
        else:
            yield path
