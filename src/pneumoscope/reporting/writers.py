"""Findings as people and programs want them: a table, JSON lines, CSV, overlays."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pneumoscope.atomic import replacing
from pneumoscope.data.layouts import LABELS
from pneumoscope.errors import PneumoscopeError, UnsupportedError
from pneumoscope.imaging import radiograph
from pneumoscope.imaging.radiograph import DICOM_SUFFIXES, OVERLAY_SUFFIXES
from pneumoscope.inference.detector import Finding
from pneumoscope.inference.model_file import Card

if TYPE_CHECKING:
    from rich.text import Text

    from pneumoscope.evaluation.evaluate import Evaluation

Write = Callable[..., None]

COLUMNS = ("path", "probability", "finding", "uncertain", "threshold", "warnings", "error_kind", "error_message")
REPORT_COLUMNS = ("report", "report_error_kind", "report_error_message")
LONGEST = 200
"""Bytes of an image's name that the name of its evidence map keeps; with its ending it may have no more than 255."""

ROWS = 1000
"""Of a table that is printed at once: columns are as wide as what stands in them, so that a table is held whole."""

NOT_A_DEVICE = "Not a medical device: for research and teaching."


@dataclass(frozen=True)
class Report:
    """What became of an image's DICOM report.

    Attributes:
        path: where it is; None where there is none.
        error: why it could not be written; None also where none was due, as for an image that is no DICOM file.
    """

    path: Path | None = None
    error: PneumoscopeError | None = None


NO_REPORT = Report()


@contextmanager
def writer(style: str, output: Path | None, *, with_maps: bool = False, with_reports: bool = False) -> Iterator[Write]:
    """Open a writer of findings to standard output, or to a file that appears only when it is complete.

    Args:
        style: `table`, `json` (one object a line) or `csv`.
        output: the file; None for standard output.
        with_maps: whether rows of JSON and CSV name the image's evidence map as `evidence`.
        with_reports: whether they name its DICOM report as `report`, and why there is none as `report_error`.

    Yields:
        A function that takes each finding, where its evidence map is, and what became of its report.

    Example:
        >>> with writer("json", None) as write:
        ...     write(Finding("a.png", 0.25, "NORMAL", False, 0.5))
        {"path": "a.png", "probability": 0.25, "finding": "NORMAL", ... "error": null}
    """
    with _opened(output) as file:
        yield from {"table": _table, "json": _json, "csv": _csv}[style](file, with_maps, with_reports)


def _written(place: Path | None, report: Report, with_maps: bool, with_reports: bool) -> dict[str, Any]:
    made: dict[str, Any] = {"evidence": None if place is None else str(place)} if with_maps else {}
    if with_reports:
        made["report"] = None if report.path is None else str(report.path)
        made["report_error"] = _plain(report.error)
    return made


def _plain(error: PneumoscopeError | None) -> dict[str, str] | None:
    return None if error is None else {"kind": error.kind, "message": str(error)}


def _json(file: TextIO, with_maps: bool, with_reports: bool) -> Iterator[Write]:
    def write(finding: Finding, place: Path | None = None, report: Report = NO_REPORT) -> None:
        row = finding.as_dict() | _written(place, report, with_maps, with_reports)
        print(json.dumps(row), file=file, flush=True)

    yield write


def _csv(file: TextIO, with_maps: bool, with_reports: bool) -> Iterator[Write]:
    rows = csv.writer(file, lineterminator="\n")
    quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)  # Python quotes no carriage return
    columns = [*COLUMNS, *(["evidence"] if with_maps else []), *(REPORT_COLUMNS if with_reports else [])]
    rows.writerow(columns)

    def write(finding: Finding, place: Path | None = None, report: Report = NO_REPORT) -> None:
        row = finding.as_dict() | _written(place, report, with_maps, with_reports)
        row["warnings"] = ";".join(row["warnings"])
        for name in ("error", "report_error"):
            error = row.pop(name, None) or {"kind": "", "message": ""}
            row |= {f"{name}_{key}": value for key, value in error.items()}
        cells = ["" if row[name] is None else row[name] for name in columns]
        (quoted if "\r" in finding.path else rows).writerow(cells)

    yield write


def _table(file: TextIO, with_maps: bool, with_reports: bool) -> Iterator[Write]:
    findings: list[Finding] = []

    def write(finding: Finding, place: Path | None = None, report: Report = NO_REPORT) -> None:
        findings.append(replace(finding, evidence=None))  # a million maps fit no memory
        if len(findings) > ROWS:
            _print_table(file, findings[:ROWS])
            del findings[:ROWS]

    yield write
    _print_table(file, findings)


def print_beside_truth(evaluation: Evaluation) -> None:
    """Print a table of findings with the truth beside each; images that could not be read come last."""
    truths = [LABELS[image.label] for image in evaluation.samples]
    _print_table(sys.stdout, [*evaluation.findings, *evaluation.failures], truths)


def _print_table(file: TextIO, findings: Sequence[Finding], truths: Sequence[str] = ()) -> None:
    """Print findings as a table; the folder that all images share stands in its title."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shared = _shared_folder([finding.path for finding in findings])
    title = Text(f"images in {printable(shared)}") if shared else None
    table = Table("image", *(["truth"] if truths else []), "finding", "probability", "remarks", title=title)
    table.caption = NOT_A_DEVICE
    for i, finding in enumerate(findings):
        name = os.path.relpath(finding.path, shared) if shared else finding.path
        cell, *rest = _cells(finding)
        truth = truths[i] if i < len(truths) else ""
        if truth:
            cell.append(" ✓" if finding.finding == truth else " ✗")
        cells = [Text(printable(name), overflow="fold"), *([Text(truth)] if truths else []), cell, *rest]
        table.add_row(*cells)
    # Where nobody's screen sets the width, names are not folded.
    Console(file=file, width=None if file.isatty() or "COLUMNS" in os.environ else 160).print(table)


class Overlays:
    """Writes images with their evidence maps into a folder, each under a name of its own.

    Args:
        folder: made when the first image is written.
        suffix: one of `radiograph.OVERLAY_SUFFIXES`: SVG, or PNG.
        normals: whether images without pneumonia are drawn, too.
    """

    def __init__(self, folder: Path, suffix: str = OVERLAY_SUFFIXES[0], normals: bool = False) -> None:
        self.folder, self.suffix, self.normals = folder, suffix, normals
        self._taken: set[str] = set()

    def write(self, finding: Finding) -> Path | None:
        """Draw one image, where `evidence_map.is_drawn`; an image without a finding has no overlay."""
        from pneumoscope.reporting import evidence_map

        if finding.evidence is None or not evidence_map.is_drawn(finding, normals=self.normals):
            return None
        stem = Path(finding.path).stem or "image"
        if len(os.fsencode(stem)) > LONGEST:
            stem = os.fsencode(stem)[:LONGEST].decode("utf-8", "ignore")
        name, n = stem, 1
        while name.casefold() in self._taken:  # some file systems ignore case
            n += 1
            name = f"{stem}-{n}"
        self._taken.add(name.casefold())
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / f"{name}{self.suffix}"  # never the name of an image
        with replacing(target) as draft:
            if self.suffix.endswith(".svg"):
                evidence_map.save_layers(finding.path, finding.evidence, draft)
            else:
                evidence_map.save(evidence_map.draw(radiograph.read(finding.path), finding.evidence), draft)
        return target


class Reports:
    """Writes a DICOM report, and the image with its evidence map where there is one, for each image that came as DICOM.

    The files are named by their new SOP Instance UIDs: patient and study stand in them and nowhere else.

    Args:
        folder: made when the first report is written.
        card: of the model.
        normals: whether the evidence maps of images without pneumonia are drawn, too.

    Attributes:
        without: how many images got no report, by the reason.
        failed: how many of them should have had one.

    Raises:
        MissingExtraError: highdicom is not installed.
    """

    def __init__(self, folder: Path, card: Card, normals: bool = False) -> None:
        from pneumoscope.reporting import structured_report

        structured_report.check_installed()
        self.folder, self.card, self.normals = folder, card, normals
        self.without: Counter[str] = Counter()
        self.failed = 0

    def write(self, finding: Finding) -> Report:
        """Write what belongs to one image, and say where it is, or why there is none; the finding stays as it is."""
        if finding.error is not None:
            self.without["not read"] += 1
            return NO_REPORT
        try:
            report = self._write(finding)
        except PneumoscopeError as error:
            report = Report(error=error)
        except OSError as error:
            report = Report(error=UnsupportedError(f"The report cannot be written ({error.strerror})."))
        if report.error is not None:
            self.failed += 1
            self.without["that could not be written"] += 1
        return report

    def _write(self, finding: Finding) -> Report:
        from pneumoscope.reporting import structured_report

        data = radiograph.read_bytes(Path(finding.path))
        if not radiograph.is_dicom(data):
            self.without["no DICOM files"] += 1
            return NO_REPORT
        files = [
            (made.SOPInstanceUID, structured_report.encode(made))
            for made in structured_report.objects(finding, data, self.card, normals=self.normals)
        ]
        self.folder.mkdir(parents=True, exist_ok=True)
        targets = [self.folder / f"{uid}{suffix}" for (uid, _), suffix in zip(files, DICOM_SUFFIXES, strict=False)]
        for (_, file), target in zip(files, targets, strict=True):
            with replacing(target) as draft:
                draft.write_bytes(file)
        return Report(targets[0])


def _shared_folder(paths: Sequence[str]) -> str:
    folders = [str(Path(path).parent) for path in paths]
    try:
        shared = os.path.commonpath(folders) if len(folders) > 1 else ""
    except ValueError:  # some are relative and some are not
        return ""
    return "" if shared == "." else shared


def _cells(finding: Finding) -> tuple[Text, Text, Text]:
    from rich.text import Text

    if finding.error is not None:
        return Text(finding.error.kind, "red"), Text(""), Text(printable(str(finding.error)))
    remarks = ["uncertain"] if finding.uncertain else []
    remarks += [warning.replace("_", " ") for warning in finding.warnings]
    colour = "dark_orange" if finding.finding == "PNEUMONIA" else "cyan"
    return Text(str(finding.finding), colour), Text(f"{finding.probability:.3f}"), Text(", ".join(remarks), "yellow")


def printable(text: str) -> str:
    r"""Write a name so that a terminal can show it: control characters and bytes that are no UTF-8 are escaped.

    Example:
        >>> printable("a\nb")
        'a\\nb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


@contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    if output is None:
        yield sys.stdout
        return
    # A pipe or a device is written to; an ordinary file appears when it is complete.
    special = output.exists() and not output.is_file()
    with nullcontext(output) if special else replacing(output) as draft:
        try:
            file = draft.open("w", encoding="utf-8", errors="surrogateescape", newline="")
        except OSError as error:
            raise UnsupportedError(f"Expected a file that can be written at '{output}': {error.strerror}.") from error
        with file:
            yield file
