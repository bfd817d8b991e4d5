"""Writes `predictions.csv`: every image of an evaluation, with its labels and its finding."""

from __future__ import annotations

import csv
import io
from itertools import chain
from pathlib import Path

from pneumoscope.atomic import write_text
from pneumoscope.data.samples import LABELS, Sample
from pneumoscope.evaluation.evaluate import Evaluation
from pneumoscope.inference.finding import Finding

COLUMNS = (
    "path",
    "label",
    "other",
    "subtype",
    "site",
    "view",
    "age",
    "split",
    "probability",
    "finding",
    "uncertain",
    "threshold",
    "warnings",
    "error_kind",
    "error_message",
)
"""`label` is the truth. With `path` and `label`, the table can itself be read as a data set."""


def write(evaluation: Evaluation, path: Path) -> None:
    """Write the rows as CSV in UTF-8: first the images with a finding, in the order of the data set, then the others.

    Example:
        >>> write(evaluation, Path("predictions.csv"))
    """
    text = io.StringIO()
    rows = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    rows.writeheader()
    found = zip(evaluation.samples, evaluation.findings, strict=True)
    failed = zip(evaluation.rejected, evaluation.failures, strict=True)
    rows.writerows(_row(sample, finding) for sample, finding in chain(found, failed))
    write_text(path, text.getvalue())


def _row(sample: Sample, finding: Finding) -> dict[str, object]:
    said = finding.as_dict()
    error = said["error"] or {"kind": "", "message": ""}
    return {
        "path": sample.path,
        "label": LABELS[sample.label],
        "other": sample.other,
        "subtype": sample.subtype,
        "site": sample.site,
        "view": sample.view,
        "age": sample.age,
        "split": sample.split,
        "probability": said["probability"],
        "finding": said["finding"],
        "uncertain": said["uncertain"],
        "threshold": said["threshold"],
        "warnings": ";".join(said["warnings"]),
        "error_kind": error["kind"],
        "error_message": error["message"],
    }
