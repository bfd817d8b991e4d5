"""Labelled radiographs: the layouts they come in and the patients they show."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pneumoscope.data import label_files, tables, words
from pneumoscope.data.label_files import Like, Reader
from pneumoscope.data.samples import LABELS, SPLITS, Box, Sample, labels, patient_of
from pneumoscope.data.words import Classes, Other
from pneumoscope.errors import DatasetError
from pneumoscope.imaging import radiograph

__all__ = ["LABELS", "LAYOUTS", "SPLITS", "Box", "Sample", "labels", "load", "patient_of"]

LAYOUTS = """\
Expected one of:
  a folder of class folders   DATA/NORMAL/*.jpeg, DATA/PNEUMONIA/*.jpeg
  the Kaggle layout           DATA/train/NORMAL/*.jpeg, ..., DATA/val/..., DATA/test/...
  a CSV file                  with columns path,label and, if known, patient,site,view,age,boxes,split
  a MedMNIST archive          pneumoniamnist_224.npz"""

_NO_DICOM = {".jpg", ".jpeg", ".png", ".tif", ".tiff"}
_IMAGES = {*_NO_DICOM, ".dcm", ".dicom", ".bmp", ".webp", ".gif", ".avif", ".jp2", ".j2k", ".jxl", ".pgm"}
_NAMED = 8
"""Folders, at most, that an error names."""


def load(
    data: str | Path | Sequence[str | Path],
    *,
    complete: bool = True,
    classes: Mapping[str, str] | None = None,
    other: Other | None = None,
    like: Like | None = None,
    tell: Callable[[str], object] = warnings.warn,
) -> list[Sample]:
    """List the samples of a data set, or of several, in a stable order.

    Args:
        data: a folder of class folders, with or without `train/ val/ test/` above, in any letter case; a CSV file
            with the columns of `tables.load`; or a MedMNIST `.npz`. Several are several sites, each named after its
            folder or file where it has no column `site`.
        complete: reject a data set in which a class is missing or its folder empty.
        classes: `normal` or `pneumonia` by the data set's own word for it, such as
            `{"Healthy": "normal", "Lung_Opacity": "pneumonia"}`; they take the place of the usual words for the class.
        other: what becomes of images of neither class: `negative` lists them with the label 0 and marks them as
            `other`, `skip` leaves them out. Without it they are an error.
        like: the data set is a label file of this public collection, `nih` or `chexpert`, or a folder with them.
        tell: is told what of a table is left out, which is no error: lateral views, labels that are left open.

    Returns:
        The samples. The files are listed, not opened: `splits.decode` opens them. Only where neither name nor CSV says
        whose image a DICOM file is, its header is read; samples of one patient then bear the name of the first.

    Raises:
        DatasetError: the layout is unknown, no image is there, a folder holds images and is neither a known split nor a
            known class, a class is missing or empty, or a value in a table is not a known one.

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
    """Name each data set after its folder or file, with as many of the folders above as tell them apart.

    Of `clinic/train` and `clinic/test.csv` the name is `clinic`, unless both are there.
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
        found = _from_folder(path, classes, complete)
    elif path.suffix.lower() == ".npz":
        found = _from_npz(path)
    else:
        raise DatasetError(f"Got the file '{path}', which is no data set. {LAYOUTS}")
    return [replace(sample, site=site) for sample in found]


def _from_folder(root: Path, classes: Classes, complete: bool) -> list[Sample]:
    folders = _folders(root)
    if not any(words.split(folder.name) or classes.label(folder.name) is not None for folder in folders):
        if len(folders) == 1 and not _loose(root):  # an archive unpacked into a folder of its own
            return _from_folder(folders[0], classes, complete)
        found = ", ".join(folder.name for folder in folders[:_NAMED]) or "no folders"
        raise DatasetError(f"Got the folder '{root}' with {found} in it, which is no known layout. {LAYOUTS}")
    unknown: list[Path] = []
    samples = list(_below(root, None, classes, complete, unknown))
    if unknown:
        names = ["the folder itself" if folder == root else f"'{folder.relative_to(root)}'" for folder in unknown]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        raise DatasetError(
            f"Expected NORMAL and PNEUMONIA, or train, val and test above them, in '{root}', got images in "
            f"{', '.join(names[:_NAMED])}{more} as well: move them away, say which class each name is, or take other "
            "classes as negatives, or skip them."
        )
    return sorted(samples, key=lambda sample: SPLITS.index(sample.split) if sample.split else -1)


def _below(folder: Path, split: str | None, classes: Classes, complete: bool, unknown: list[Path]) -> Iterator[Sample]:
    """Give the samples in the splits and classes below a folder, and name what is neither and holds images."""
    if _loose(folder):
        unknown.append(folder)
    inner = _folders(folder)
    holds_classes = any(classes.label(entry.name) is not None for entry in inner)
    for entry in inner:
        label, named = classes.label(entry.name), words.split(entry.name)
        if label is not None:
            yield from _in_class(entry, label, split, classes, complete, unknown)
        elif named and split is None:
            yield from _below(entry, named, classes, complete, unknown)
        elif _holds_images(entry):
            if holds_classes and classes.other:
                if classes.other == "negative":
                    for sample in _in_class(entry, 0, split, classes, complete, unknown):
                        yield replace(sample, other=True)
            else:
                unknown.append(entry)


def _in_class(
    folder: Path, label: int, split: str | None, classes: Classes, complete: bool, unknown: list[Path]
) -> Iterator[Sample]:
    """Give the samples at any depth below a class folder; a split may have its folder there, another class none."""
    kind = words.subtype(folder.name)
    empty = True
    for path in radiograph.files(folder):
        inner = path.relative_to(folder).parts[:-1]
        splits = {found for part in inner if (found := words.split(part))} | ({split} if split else set())
        strange = next((i for i, part in enumerate(inner) if classes.label(part) == 1 - label), None)
        if strange is not None or len(splits) > 1:
            place = folder.joinpath(*inner[: len(inner) if strange is None else strange + 1])
            if place not in unknown:
                unknown.append(place)
            continue
        empty = False
        patient, named = patient_of(path.name)
        subtype = named or kind or next(filter(None, map(words.subtype, inner)), None)
        yield Sample(path, label, patient or str(path), next(iter(splits), None), subtype if label else None)
    if empty and complete and not unknown:
        raise DatasetError(f"Expected images of class {LABELS[label]} in '{folder}', got an empty folder.")


def _folders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith((".", "__"))]


def _loose(folder: Path) -> bool:
    return any(_is_image(path) for path in folder.iterdir() if path.is_file())


def _holds_images(folder: Path) -> bool:
    return any(_is_image(path) for path in radiograph.files(folder))


def _is_image(path: Path) -> bool:
    """Say whether a file is an image by its name, or else by how it begins."""
    if radiograph.is_passed_over(path.name):
        return False
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    if suffixes and suffixes[-1] in _IMAGES:
        return True
    try:
        with path.open("rb") as file:
            return radiograph.begins_as_image(file.read(radiograph.HEAD))
    except OSError:
        return False


def _with_patients(samples: list[Sample]) -> list[Sample]:
    """Find whose images are whose by the headers of DICOM files, without keeping what stands there."""
    unknown = [
        sample.pixels is None and sample.patient == str(sample.path) and sample.path.suffix.lower() not in _NO_DICOM
        for sample in samples
    ]
    if not any(unknown):
        return samples
    from pneumoscope.imaging.dicom import reader  # takes longer to import than most data sets to list

    first: dict[tuple[str, str], str] = {}
    named = []
    for sample, look in zip(samples, unknown, strict=True):
        patient = reader.patient(sample.path) if look else None
        if patient:
            sample = replace(sample, patient=first.setdefault(patient, f"patient of {sample.path}"))
        named.append(sample)
    return named


def _from_npz(path: Path) -> list[Sample]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            samples = [
                Sample(Path(f"{path}#{split}/{i}"), int(label), f"{path}#{split}/{i}", split, pixels=image)
                for split in SPLITS
                if f"{split}_images" in archive
                for i, (image, label) in enumerate(
                    zip(archive[f"{split}_images"], archive[f"{split}_labels"].ravel(), strict=True)
                )
            ]
    except Exception as error:  # a damaged archive fails in NumPy, zipfile or zlib
        reason = str(error).partition(". ")[0]  # what follows is advice to programmers
        raise DatasetError(
            f"Expected a MedMNIST archive at '{path}', got one that cannot be read ({reason})."
        ) from error
    if any(sample.label not in (0, 1) for sample in samples):
        raise DatasetError(f"Expected labels 0 and 1 in '{path}', got others: is it PneumoniaMNIST?")
    return samples


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
