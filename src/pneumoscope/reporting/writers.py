"""Writes findings as a table, JSON lines or CSV."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pneumoscope.atomic import replacing
from pneumoscope.data.layouts import LABELS
from pneumoscope.errors import PneumoscopeError, UnsupportedError
from pneumoscope.inference.finding import Finding
from pneumoscope.reporting import tables

if TYPE_CHECKING:
    from pneumoscope.evaluation.evaluate import Evaluation

Write = Callable[..., None]

COLUMNS = ("path", "probability", "finding", "uncertain", "threshold", "warnings", "error_kind", "error_message")
REPORT_COLUMNS = ("report", "report_error_kind", "report_error_message")
ROWS = 1000
"""The rows of a table that is printed at once; they are collected first, because their content sets the widths."""

NOT_A_DEVICE = "Not a medical device: for research and teaching."


@dataclass(frozen=True)
class Report:
    """The DICOM report of an image, or why there is none.

    Attributes:
        path: the file; None if there is none.
        error: why it could not be written; also None if none was due, as for an image that is not a DICOM file.
    """

    path: Path | None = None
    error: PneumoscopeError | None = None


NO_REPORT = Report()


@contextmanager
def writer(style: str, output: Path | None, *, with_maps: bool = False, with_reports: bool = False) -> Iterator[Write]:
    """Open a writer of findings to standard output, or to a file that appears only when it is complete.

    Args:
        style: `table`, `json` (one object per line) or `csv`.
        output: the file; None for standard output.
        with_maps: whether rows of JSON and CSV have the path of the image's evidence map as `evidence`.
        with_reports: whether they have the path of its DICOM report as `report`, or why it failed as `report_error`.

    Yields:
        A function that takes each finding, the path of its evidence map, and its report.

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
    quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)  # Python does not quote carriage returns
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
    counts: Counter[str] = Counter()

    def write(finding: Finding, place: Path | None = None, report: Report = NO_REPORT) -> None:
        findings.append(replace(finding, evidence=None))  # the maps of a million images do not fit into memory
        counts.update(_counted(finding))
        if len(findings) > ROWS:
            tables.print_findings(file, findings[:ROWS])
            del findings[:ROWS]

    yield write
    tables.print_findings(file, findings)
    _close(file, counts)


def _counted(finding: Finding) -> list[str]:
    return [finding.finding or "error", *(["uncertain"] if finding.uncertain else [])]


def _close(file: TextIO, counts: Counter[str]) -> None:
    print(f"\n{NOT_A_DEVICE}\n{tables.summary(counts)}", file=file)


def print_beside_truth(evaluation: Evaluation) -> None:
    """Print a table of findings, each marked as correct or not; images that could not be read come last."""
    findings = [*evaluation.findings, *evaluation.failures]
    tables.print_findings(sys.stdout, findings, [LABELS[image.label] for image in evaluation.samples])
    _close(sys.stdout, Counter(word for finding in findings for word in _counted(finding)))


@contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    if output is None:
        yield sys.stdout
        return
    # A pipe or a device is written to directly; an ordinary file is replaced once it is complete.
    special = output.exists() and not output.is_file()
    with nullcontext(output) if special else replacing(output) as draft:
        try:
            file = draft.open("w", encoding="utf-8", errors="surrogateescape", newline="")
        except OSError as error:
            raise UnsupportedError(f"Expected a writable file at '{output}', got: {error.strerror}.") from error
        with file:
            yield file
