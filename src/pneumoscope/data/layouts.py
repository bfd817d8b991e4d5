"""Loads labelled radiographs from every supported layout, and finds their patients."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pneumoscope.data import folders, label_files, tables, words
from pneumoscope.data.label_files import Like, Reader
from pneumoscope.data.samples import LABELS, LAYOUTS, SPLITS, Box, Sample, labels, patient_of
from pneumoscope.data.words import Classes, Other
from pneumoscope.errors import DatasetError

__all__ = ["LABELS", "LAYOUTS", "SPLITS", "Box", "Sample", "labels", "load", "patient_of"]

_NO_DICOM = {".jpg", ".jpeg", ".png", ".tif", ".tiff"}


def load(
    data: str | Path | Sequence[str | Path],
    *,
    complete: bool = True,
    classes: Mapping[str, str] | None = None,
    other: Other | None = None,
    like: Like | None = None,
    tell: Callable[[str], object] = warnings.warn,
) -> list[Sample]:
    """List the samples of one or several data sets in a stable order.

    Args:
        data: a folder of class folders, with or without `train/ val/ test/` above, in any letter case; a CSV file
            with the columns of `tables.load`; or a MedMNIST `.npz`. Each of several data sets is a site, named after
            its folder or file unless it has a column `site`.
        complete: whether to reject a data set in which a class is missing or its folder empty.
        classes: `normal` or `pneumonia` for each of the data set's own words, such as
            `{"Healthy": "normal", "Lung_Opacity": "pneumonia"}`; they replace the usual words for that class.
        other: what to do with images of neither class: `negative` lists them with the label 0 and marks them as
            `other`, `skip` leaves them out. By default they are an error.
        like: the public collection, `nih` or `chexpert`, whose label file or folder of label files `data` is.
        tell: called with a message about whatever is left out: mask folders, and the lateral views and uncertain
            labels of a table.

    Returns:
        The samples. Files are listed, not opened; `splits.decode` opens them. A DICOM header is read only if neither
        the file name nor a CSV identifies the patient; the samples of a patient are then named after the first.

    Raises:
        DatasetError: the layout is unknown, there are no images, a folder holds images but is neither a known split nor
            a known class, a class is missing or empty, or a value in a table is unknown.

    Example:
        >>> samples = load("chest_xray")
        >>> {sample.site for sample in load(["our_clinic", "chest_xray"])} == {"our_clinic", "chest_xray"}
        True
    """
    places = [Path(data)] if isinstance(data, (str, Path)) else [Path(one) for one in data]
    chosen = Classes.of(classes, other)
    samples = []
    for path, site in zip(places, _sites(places), strict=True):
        try:
            samples += _load(path, site, chosen, complete, len(places) > 1, like, tell)
        except OSError as error:
            raise DatasetError(f"'{path}' cannot be read ({error.strerror}): check its permissions.") from error
    _check_classes(samples, ", ".join(map(str, places)), complete)
    return _with_patients(samples)


def _sites(places: Sequence[Path]) -> list[str]:
    """Name each data set after its folder or file, with as many parent folders as are needed to make the names unique.

    `clinic/train` and `clinic/test.csv` are each named `clinic`, unless both are given.
    """
    whole = [place.resolve() for place in places]
    if len(set(whole)) < len(whole):
        twice = next(place for place, path in zip(places, whole, strict=True) if whole.count(path) > 1)
        raise DatasetError(f"Expected each data set once, got '{twice}' twice.")
    parts = [(*path.parent.parts, path.stem if path.is_file() else path.name) for path in whole]
    if len(set(parts)) < len(parts):  # a folder and a table beside it
        parts = [path.parts for path in whole]
    without_splits = [_without_splits(part) for part in parts]
    if len(set(without_splits)) == len(parts):
        parts = without_splits
    depth = 1
    while len({part[-depth:] for part in parts}) < len(parts):
        depth += 1
    return ["/".join(part[-depth:]) for part in parts]


def _without_splits(parts: tuple[str, ...]) -> tuple[str, ...]:
    while len(parts) > 2 and words.split(parts[-1]):
        parts = parts[:-1]
    return parts


def _load(
    path: Path,
    site: str,
    classes: Classes,
    complete: bool,
    one_of_several: bool,
    like: Like | None,
    tell: Callable[[str], object],
) -> list[Sample]:
    if not path.exists():
        raise DatasetError(f"Expected a data set at '{path}', which does not exist.")
    if like or (path.is_file() and path.suffix.lower() in (".csv", ".tsv")):
        readers: dict[Path, Reader | None] = {path: None}
        if like:
            readers = {table: Reader(table, split, like) for table, split in label_files.find(path, like)}
        return [
            sample
            for table, reader in readers.items()
            for sample in tables.load(table, classes, site=site, own_patients=one_of_several, reader=reader, tell=tell)
        ]
    if path.is_dir():
        found = folders.load(path, classes, complete=complete, tell=tell)
    elif path.suffix.lower() == ".npz":
        found = _from_npz(path)
    else:
        raise DatasetError(f"Got the file '{path}', which is not a data set. {LAYOUTS}")
    return [replace(sample, site=site) for sample in found]


def _with_patients(samples: list[Sample]) -> list[Sample]:
    """Identify patients by their DICOM headers, without keeping the identity itself."""
    unknown = [
        sample.pixels is None and sample.patient == str(sample.path) and sample.path.suffix.lower() not in _NO_DICOM
        for sample in samples
    ]
    if not any(unknown):
        return samples
    from pneumoscope.imaging.dicom import parser  # takes longer to import than most data sets to list

    first: dict[tuple[str, str], str] = {}
    named = []
    for sample, look in zip(samples, unknown, strict=True):
        patient = parser.patient(sample.path) if look else None
        if patient:
            sample = replace(sample, patient=first.setdefault(patient, f"patient of {sample.path}"))
        named.append(sample)
    return named


def _from_npz(path: Path) -> list[Sample]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            images = {name for name in archive.files if name.endswith("_images")}
            others = sorted(images - {f"{split}_images" for split in SPLITS})
            samples = [
                Sample(Path(f"{path}#{split}/{i}"), label, f"{path}#{split}/{i}", split, pixels=image)
                for split in SPLITS
                if f"{split}_images" in archive
                for i, (image, label) in enumerate(
                    zip(archive[f"{split}_images"], archive[f"{split}_labels"].ravel(), strict=True)
                )
            ]
    except Exception as error:  # a damaged archive fails in NumPy, zipfile or zlib
        reason = str(error).partition(". ")[0]  # the rest is advice for programmers
        raise DatasetError(
            f"Expected a MedMNIST archive at '{path}', got one that cannot be read ({reason})."
        ) from error
    if others:
        raise DatasetError(f"Expected images of train, val and test in '{path}', got {', '.join(others)} as well.")
    if any(sample.label not in (0, 1) for sample in samples):
        raise DatasetError(f"Expected labels 0 and 1 in '{path}', got others: is it PneumoniaMNIST?")
    return [replace(sample, label=int(sample.label)) for sample in samples]


def _check_classes(samples: Iterable[Sample], where: str, complete: bool) -> None:
    counts = Counter(sample.label for sample in samples)
    if not counts:
        raise DatasetError(f"Got no images in '{where}'. {LAYOUTS}")
    for label, name in enumerate(LABELS):
        if complete and not counts[label]:
            raise DatasetError(
                f"Expected images of both classes in '{where}', got {counts.total()} of {LABELS[1 - label]} "
                f"and none of {name}."
            )
