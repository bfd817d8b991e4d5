"""Labelled films: the layouts they come in and the patients they show."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pneumoscope.errors import DatasetError
from pneumoscope.imaging import radiograph

LABELS = ("NORMAL", "PNEUMONIA")
SPLITS = ("train", "val", "test")

LAYOUTS = """\
Expected one of:
  a folder of class folders   DATA/NORMAL/*.jpeg, DATA/PNEUMONIA/*.jpeg
  the Kaggle layout           DATA/train/NORMAL/*.jpeg, ..., DATA/val/..., DATA/test/...
  a CSV file                  with columns path,label and, if known, patient,split
  a MedMNIST archive          pneumoniamnist_224.npz"""

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
_NO_DICOM = {".jpg", ".jpeg", ".png", ".tif", ".tiff"}
_PICTURES = {*_NO_DICOM, ".dcm"}
_LABEL_NAMES = {"normal": 0, "0": 0, "pneumonia": 1, "1": 1}

# The names of Kermany's second and third edition; the number after the patient's counts that patient's films.
_PATIENT = re.compile(
    r"(?P<pneumonia>person\d+_(?P<word>bacteria|virus))_\d+"
    r"|(?P<normal>(?:NORMAL\d*-)?IM-\d+)-\d+"
    r"|(?P<third>(?P<kind>BACTERIA|VIRUS|NORMAL)-\d+)-\d+"
)


@dataclass(frozen=True)
class Film:
    """One labelled radiograph.

    Attributes:
        path: where it is; for a film inside an archive, the archive and the place in it.
        label: 0 for `NORMAL`, 1 for `PNEUMONIA`.
        patient: whose it is; films of one patient are never split.
        split: `train`, `val` or `test` where the layout says so.
        subtype: `bacteria` or `virus` where the name says so.
        pixels: the picture itself, for a film inside an archive.
    """

    path: Path
    label: int
    patient: str
    split: str | None = None
    subtype: str | None = None
    pixels: NDArray[Any] | None = None

    @property
    def source(self) -> Path | NDArray[Any]:
        """What `radiograph.read` takes."""
        return self.path if self.pixels is None else self.pixels


def load(data: str | Path, *, complete: bool = True) -> list[Film]:
    """List the films of a data set, in a stable order.

    Args:
        data: a folder of class folders, with or without `train/ val/ test/` above, in any letter case; a CSV file
            with the columns `path,label[,patient,split]`, its paths relative to it; or a MedMNIST `.npz`.
        complete: refuse a data set in which a class is missing or its folder empty.

    Returns:
        The films. The files are listed, not opened: `splits.decode` opens them. Only where neither name nor CSV says
        whose film a DICOM file is, its header is read; films of one patient then bear the name of the first.

    Raises:
        DatasetError: the layout is unknown, no film is there, a class is missing or empty, or a label or split is not a
            known one.

    Example:
        >>> films = load("chest_xray")  # doctest: +SKIP
    """
    path = Path(data)
    try:
        if path.is_dir():
            films = _from_folder(path, complete)
        elif not path.exists():
            raise DatasetError(f"Expected a data set at '{path}', which does not exist.")
        elif path.suffix.lower() == ".csv":
            films = _from_csv(path)
        elif path.suffix.lower() == ".npz":
            films = _from_npz(path)
        else:
            raise DatasetError(f"Got the file '{path}', which is no data set. {LAYOUTS}")
    except OSError as error:
        raise DatasetError(f"'{path}' cannot be read ({error.strerror}): check its permissions.") from error
    _check_classes(films, str(path), complete)
    return _with_patients(films)


def labels(films: Iterable[Film]) -> NDArray[np.int64]:
    """Give the labels of films: (N,), 0 for `NORMAL`, 1 for `PNEUMONIA`."""
    return np.array([film.label for film in films], dtype=np.int64)


def patient_of(name: str) -> tuple[str | None, str | None]:
    """Read the patient and the subtype out of a file name of Kermany's collection; None where it says nothing.

    Example:
        >>> patient_of("person12_bacteria_48.jpeg")
        ('person12_bacteria', 'bacteria')
        >>> patient_of("NORMAL2-IM-0587-0001.jpeg")
        ('NORMAL2-IM-0587', None)
        >>> patient_of("film.png")
        (None, None)
    """
    found = _PATIENT.match(name)
    if found is None:
        return None, None
    patient = found["pneumonia"] or found["normal"] or found["third"]
    word = (found["word"] or found["kind"] or "").lower()
    return patient, word if word in ("bacteria", "virus") else None


def _from_folder(root: Path, complete: bool) -> list[Film]:
    folders = [entry for entry in sorted(root.iterdir()) if entry.is_dir()]
    splits = [(_SPLIT_NAMES[folder.name.lower()], folder) for folder in folders if folder.name.lower() in _SPLIT_NAMES]
    if splits:
        splits.sort(key=lambda pair: SPLITS.index(pair[0]))
        return [film for split, folder in splits for film in _from_classes(folder, split, complete)]
    if any(folder.name.lower() in _LABEL_NAMES for folder in folders):
        return _from_classes(root, None, complete)
    inner = [folder for folder in folders if not folder.name.startswith((".", "__"))]
    if len(inner) == 1:  # an archive unpacked into a folder of its own
        return _from_folder(inner[0], complete)
    found = ", ".join(sorted(folder.name for folder in inner)[:8]) or "no folders"
    raise DatasetError(f"Got the folder '{root}' with {found} in it, which is no known layout. {LAYOUTS}")


def _from_classes(folder: Path, split: str | None, complete: bool) -> list[Film]:
    films = []
    for entry in sorted(folder.iterdir()):
        if not entry.is_dir() or entry.name.startswith((".", "__")):
            continue
        label = _LABEL_NAMES.get(entry.name.lower())
        if label is None:
            if not any(path.suffix.lower() in _PICTURES for path in entry.iterdir()):
                continue
            raise DatasetError(
                f"Expected class folders NORMAL and PNEUMONIA in '{folder}', got '{entry.name}' as well."
            )
        found = [_film(path, label, split) for path in radiograph.files(entry)]
        if not found and complete:
            raise DatasetError(f"Expected films of class {LABELS[label]} in '{entry}', got an empty folder.")
        films += found
    return films


def _film(path: Path, label: int, split: str | None, patient: str | None = None) -> Film:
    named, subtype = patient_of(path.name)
    return Film(path, label, patient or named or str(path), split, subtype if label else None)


def _with_patients(films: list[Film]) -> list[Film]:
    """Find whose films are whose by the headers of DICOM files, without keeping what stands there."""
    unknown = [film.patient == str(film.path) and film.path.suffix.lower() not in _NO_DICOM for film in films]
    if not any(unknown):
        return films
    from pneumoscope.imaging.dicom import reader  # takes longer to import than most data sets to list

    first: dict[tuple[str, str], str] = {}
    named = []
    for film, look in zip(films, unknown, strict=True):
        patient = reader.patient(film.path) if look else None
        if patient:
            film = replace(film, patient=first.setdefault(patient, f"patient of {film.path}"))
        named.append(film)
    return named


def _from_csv(path: Path) -> list[Film]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            rows.fieldnames = [column.strip().lower() for column in rows.fieldnames or []]
            if not {"path", "label"} <= set(rows.fieldnames):
                raise DatasetError(
                    f"Expected columns path,label[,patient,split] in '{path}', "
                    f"got {','.join(rows.fieldnames) or 'none'}."
                )
            return [_from_row(row, path, rows.line_num) for row in rows]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"Expected a CSV file in UTF-8 at '{path}', got one that cannot be read ({error}): "
            "save it as 'CSV UTF-8, comma delimited'."
        ) from error


def _from_row(row: dict[str, Any], path: Path, line: int) -> Film:
    name, label, patient, split = ((row.get(key) or "").strip() for key in ("path", "label", "patient", "split"))
    if not name:
        raise DatasetError(f"Expected the path of a film in '{path}', line {line}, got none.")
    if label.lower() not in _LABEL_NAMES:
        raise DatasetError(
            f"Expected NORMAL or PNEUMONIA (or 0 or 1) as label in '{path}', line {line}, got '{label}'."
        )
    if split and split.lower() not in _SPLIT_NAMES:
        raise DatasetError(f"Expected train, val or test as split in '{path}', line {line}, got '{split}'.")
    return _film(path.parent / name, _LABEL_NAMES[label.lower()], _SPLIT_NAMES.get(split.lower()), patient or None)


def _from_npz(path: Path) -> list[Film]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            films = [
                Film(Path(f"{path}#{split}/{i}"), int(label), f"{split}/{i}", split, pixels=picture)
                for split in SPLITS
                if f"{split}_images" in archive
                for i, (picture, label) in enumerate(
                    zip(archive[f"{split}_images"], archive[f"{split}_labels"].ravel(), strict=True)
                )
            ]
    except Exception as error:  # a damaged archive fails in NumPy, zipfile or zlib
        reason = str(error).partition(". ")[0]  # what follows is advice to programmers
        raise DatasetError(
            f"Expected a MedMNIST archive at '{path}', got one that cannot be read ({reason})."
        ) from error
    if any(film.label not in (0, 1) for film in films):
        raise DatasetError(f"Expected labels 0 and 1 in '{path}', got others: is it PneumoniaMNIST?")
    return films


def _check_classes(films: Sequence[Film], where: str, complete: bool) -> None:
    counts = Counter(film.label for film in films)
    if not films:
        raise DatasetError(f"Got no films in '{where}'. {LAYOUTS}")
    for label, name in enumerate(LABELS):
        if complete and not counts[label]:
            raise DatasetError(
                f"Expected films of both classes in '{where}', got {len(films)} of {LABELS[1 - label]} "
                f"and none of {name}."
            )
