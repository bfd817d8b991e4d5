"""Data sets that are tables with one row for each radiograph."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from pneumoscope.data import words
from pneumoscope.data.label_files import UNCERTAIN, Reader
from pneumoscope.data.samples import Box, Sample, patient_of
from pneumoscope.data.words import Classes
from pneumoscope.errors import DatasetError

COLUMNS = "path,label[,patient,site,view,age,boxes,split]"

OLDEST = 130
"""The oldest credible age in years; higher ages (NIH has one of 411) are typing errors and count as unknown."""

_AGE = re.compile(r"(\d+(?:[.,]\d+)?)\s*([YMWD]?)", re.IGNORECASE)
_YEARS = {"": 1.0, "Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


def load(
    path: Path,
    classes: Classes | None = None,
    *,
    site: str = "",
    own_patients: bool = False,
    reader: Reader | None = None,
    tell: Callable[[str], object] = warnings.warn,
) -> list[Sample]:
    """List the samples of a CSV file with the columns `path,label[,patient,site,view,age,boxes,split]`, in any order.

    Values are separated by commas, semicolons or tabs; the text is UTF-8 or UTF-16. Paths are relative to the folder of
    the table, the folder above it, or the working directory, whichever has the file; backslashes are read as slashes if
    that leads to a file. Several labels are separated by `|`. Other columns are ignored.

    Args:
        path: the table.
        classes: what the words in the column `label` mean.
        site: the site of the images if there is no column `site`.
        own_patients: whether names in the column `patient` are unique only within this table.
        reader: translates the rows of a public collection's label file.
        tell: called with a message about what is left out: lateral views, and images with an uncertain label.

    Raises:
        DatasetError: a column is missing or a value is unknown; the message names the line.

    Example:
        >>> load(Path("images.csv"))[0].patient
        'p1'
    """
    classes = classes or Classes()
    expected, needed = (",".join(reader.columns), reader.columns) if reader else (COLUMNS, ("path", "label"))
    found = []
    left_out: Counter[str] = Counter()
    for line, row in rows(path):
        if not set(needed) <= row.keys():
            raise DatasetError(f"Expected columns {expected} in '{path}', got {','.join(row) or 'none'}.")
        if line == 1:
            continue
        row = reader.row(row) if reader else row
        if reader and row["label"] == UNCERTAIN:
            left_out["whose label is uncertain"] += 1
            continue
        sample = _sample(row, f"in '{path}', line {line}", path, classes, site, own_patients)
        if sample and sample.view == "lateral":
            left_out["of lateral views"] += 1
        elif sample:
            found.append(sample)
    for reason, n in left_out.items():
        tell(f"Left out images {reason} in '{path}' ({n:,}).")
    return found


def rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line number and the columns of each row of a CSV file, names in lower case, values stripped.

    The first is the heading, line 1, with empty values. Empty lines are skipped.

    Raises:
        DatasetError: the file cannot be read as CSV.
    """
    try:
        text = _decoded(path.read_bytes())
        above, separator = _above_heading(text)
        text, skipped = text[len(above) :], len(above.splitlines())
        heading = text.partition("\n")[0]
        first = re.search(r"[,;\t]", re.sub(r'"[^"]*"', "", heading))  # a later column may have commas in its name
        separator = separator or (first[0] if first else ",")
        table = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        columns = [column.strip().lower() for column in next(table, [])]
        yield 1, dict.fromkeys(columns, "")
        for values in table:
            if any(values):
                padded = values + [""] * (len(columns) - len(values))
                yield skipped + table.line_num, {c: v.strip() for c, v in zip(columns, padded, strict=False)}
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"Expected a CSV file in UTF-8 at '{path}', got one that cannot be read ({error}): "
            "save it as 'CSV UTF-8, comma delimited'."
        ) from error


def _decoded(data: bytes) -> str:
    """Decode UTF-8 or UTF-16. Without a byte order mark, UTF-16 is recognised by the zero bytes in the heading."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    zero = data[:2].find(0)
    return data.decode("utf-8-sig" if zero < 0 else "utf-16-be" if zero == 0 else "utf-16-le")


def _above_heading(text: str) -> tuple[str, str]:
    """Return the text above the heading (empty lines, Excel's `sep=;`), and the separator that Excel's line names."""
    above = re.match(r'[\s]*(?:"?sep=(.)"?[ \t]*[\r\n]+)?', text)
    return (above[0], above[1] or "") if above else ("", "")


def _sample(
    row: dict[str, str], where: str, table: Path, classes: Classes, site: str, own_patients: bool
) -> Sample | None:
    if not row["path"]:
        raise DatasetError(f"Expected the path of an image {where}, got none.")
    label = classes.label(row["label"])
    other = label is None
    if other and (classes.other is None or not row["label"]):
        raise DatasetError(
            f"Expected NORMAL or PNEUMONIA (or 0 or 1) as label {where}, got '{row['label']}': say which class "
            "that name means, or treat other labels as negatives, or skip them."
        )
    split = words.split(row.get("split", ""))
    if split is None and row.get("split"):
        raise DatasetError(f"Expected train, val or test as split {where}, got '{row['split']}'.")
    view = words.view(row.get("view", ""))
    if view is None:
        raise DatasetError(f"Expected AP, PA or lateral as view {where}, got '{row['view']}'.")
    age, boxes = _age(row.get("age", ""), where), _boxes(row.get("boxes", ""), where)
    if other and classes.other == "skip":
        return None
    site = row.get("site") or site
    found = place(row["path"], table)
    named, subtype = patient_of(found.name)
    patient = row.get("patient")
    if patient and own_patients:
        patient = f"{site}: {patient}"
    return Sample(
        found,
        label or 0,
        patient or named or str(found),
        split,
        (subtype or words.subtype(row["label"])) if label else None,
        site=site,
        view=view,
        boxes=boxes,
        other=other,
        age=age,
    )


def place(name: str, table: Path) -> Path:
    """Find the file that a table names; if there is none, return where it was expected."""
    names = [name, name.replace("\\", "/")] if "\\" in name else [name]
    folders = (table.parent, table.absolute().parent.parent, Path())
    for candidate in (folder / one for one in names for folder in folders):
        if os.path.exists(candidate):  # noqa: PTH110 - `Path` raises where a name is too long
            return candidate
    return table.parent / names[-1]


def _age(text: str, where: str) -> float | None:
    if not text or words.plain(text) in ("nan", "na", "unknown", "none"):
        return None
    found = _AGE.fullmatch(text)
    if found is None:
        raise DatasetError(f"Expected an age in years {where}, got '{text}'.")
    years = float(found[1].replace(",", ".")) * _YEARS[found[2].upper()]
    return years if years <= OLDEST else None


def _boxes(text: str, where: str) -> tuple[Box, ...]:
    boxes = []
    for part in filter(None, map(str.strip, text.split(";"))):
        *name, left, top, right, bottom = ["", "", "", "", *part.split()]
        try:
            box = Box(" ".join(filter(None, name)), float(left), float(top), float(right), float(bottom))
        except ValueError:
            box = None
        if box is None or not box.name or not (0 <= box.left < box.right <= 1 and 0 <= box.top < box.bottom <= 1):
            raise DatasetError(
                f"Expected boxes such as 'opacity 0.18 0.20 0.44 0.78; ...', left, top, right and bottom as shares of "
                f"the image's width and height, {where}, got '{part}'."
            )
        boxes.append(box)
    return tuple(boxes)
