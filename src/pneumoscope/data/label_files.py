"""Reads the label files of public collections, with their own file names and columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pneumoscope.errors import DatasetError
from pneumoscope.imaging import radiograph

Like = Literal["nih", "chexpert"]
"""The collection that label files come from."""

Row = Mapping[str, str]

UNCERTAIN = "uncertain"
"""The label of an image whose report leaves open whether it shows pneumonia."""


@dataclass(frozen=True)
class LabelFile:
    """How a collection writes its labels.

    Attributes:
        names: patterns of its file names, in lower case, each with the split that the file holds.
        columns: the columns that it must have, in lower case.
        row: translates one of its rows to the columns of `tables.load`.
        lists: files in the same folder that list the images of a split, each with that split.
        by_name: whether it names images without their folder.
    """

    names: Mapping[str, str]
    columns: tuple[str, ...]
    row: Callable[[Row], dict[str, str]]
    lists: Mapping[str, str] = field(default_factory=dict)
    by_name: bool = False


def _nih(row: Row) -> dict[str, str]:
    return {
        "path": row["image index"],
        "label": row["finding labels"],
        "patient": row["patient id"],
        "view": row.get("view position", ""),
        "age": row.get("patient age", ""),
    }


def _chexpert(row: Row) -> dict[str, str]:
    root, _, below = row["path"].replace("\\", "/").partition("/")
    path = below if root.lower().startswith("chexpert") else row["path"]  # the folder may have been renamed
    side = row.get("frontal/lateral", "")
    return {
        "path": path,
        "label": _chexpert_label(row),
        "patient": next((part for part in path.split("/") if part.startswith("patient")), ""),
        "view": side if side.lower() == "lateral" else row.get("ap/pa", ""),
        "age": row.get("age", ""),
    }


def _chexpert_label(row: Row) -> str:
    if row["pneumonia"] in ("-1", "-1.0"):
        return UNCERTAIN
    shown = [name for name, value in row.items() if value in ("1", "1.0") and name not in ("age", "support devices")]
    return "|".join(shown) or "no label"


LABEL_FILES: Mapping[str, LabelFile] = {
    "nih": LabelFile(
        {"data_entry_2017*.csv": ""},
        ("image index", "finding labels", "patient id"),
        _nih,
        {"train_val_list.txt": "train", "test_list.txt": "test"},
        by_name=True,
    ),
    "chexpert": LabelFile(
        {"train.csv": "train", "valid.csv": "val", "test.csv": "test"}, ("path", "pneumonia", "no finding"), _chexpert
    ),
}
"""`nih`: Wang et al., "ChestX-ray8", CVPR 2017. `chexpert`: Irvin et al., "CheXpert", AAAI 2019."""


def find(data: Path, like: Like) -> list[tuple[Path, str]]:
    """Find the label files of a collection: the given file, or those in the given folder.

    Returns:
        Each file with the split that its name implies, or an empty string.

    Raises:
        DatasetError: there are none, or the collection is unknown.

    Example:
        >>> find(Path("CheXpert-v1.0-small"), "chexpert")  # doctest: +SKIP
        [(PosixPath('CheXpert-v1.0-small/train.csv'), 'train'), (PosixPath('CheXpert-v1.0-small/valid.csv'), 'val')]
    """
    if like not in LABEL_FILES:
        raise DatasetError(f"Expected labels like those of {' or '.join(LABEL_FILES)}, got '{like}'.")
    names = LABEL_FILES[like].names
    candidates = sorted(data.iterdir()) if data.is_dir() else [data]
    newest = {
        name: (path, split)
        for path in candidates
        for name, split in names.items()
        if path.is_file() and Path(path.name.lower()).match(name)
    }
    if not newest and data.is_dir():
        raise DatasetError(f"Expected a file named {' or '.join(names)} in '{data}', got none: name the file itself.")
    return list(newest.values()) or [(data, "")]


class Reader:
    """Translates the rows of a label file to the columns of `tables.load`.

    Args:
        table: the label file.
        split: the split that its name implies, or an empty string.
        like: the collection it comes from.
    """

    def __init__(self, table: Path, split: str, like: Like) -> None:
        self._file = LABEL_FILES[like]
        self._table, self._split = table, split
        self.columns = self._file.columns
        self._splits = {
            name.strip(): of
            for file, of in self._file.lists.items()
            if (table.parent / file).is_file()
            for name in (table.parent / file).read_text(encoding="utf-8").splitlines()
        }
        self._places = (
            {path.name: str(path.absolute()) for path in radiograph.files(table.parent)} if self._file.by_name else {}
        )

    def row(self, row: Row) -> dict[str, str]:
        """Translate one row."""
        found = self._file.row(row)
        split = self._splits.get(found["path"], self._split)
        return found | {"split": split, "path": self._places.get(found["path"], found["path"])}
