"""Data sets that are folders: class folders, with or without split folders above or below them."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from pneumoscope.data import words
from pneumoscope.data.samples import LABELS, LAYOUTS, SPLITS, Sample, patient_of
from pneumoscope.data.words import Classes
from pneumoscope.errors import DatasetError
from pneumoscope.imaging import radiograph

_SUFFIXES = {
    *(".jpg", ".jpeg", ".png", ".tif", ".tiff", ".dcm", ".dicom", ".bmp", ".webp", ".gif", ".avif", ".jp2", ".j2k"),
    *(".jls", ".jxl", ".pbm", ".pgm", ".ppm", ".heic", ".heif", ".nii", ".nrrd", ".mha", ".mhd", ".npy", ".npz"),
}
"""Suffixes of images, whether or not they can be read; other files are recognised by their first bytes."""

_NAMED = 8
"""The most folders that a message names."""


def load(
    root: Path, classes: Classes, *, complete: bool = True, tell: Callable[[str], object] = warnings.warn
) -> list[Sample]:
    """List the samples of a folder, ordered by split.

    Args:
        root: the folder. It holds class folders, or split folders with class folders, or one folder with either.
        classes: what the folder names mean.
        complete: whether an empty class folder is an error.
        tell: called with a message about the mask folders that are left out.

    Raises:
        DatasetError: the layout is unknown, a folder holds images and is neither a known split nor a known class, or a
            class is empty.

    Example:
        >>> load(Path("chest_xray"), Classes())[0].label
        0
    """
    below = _folders(root)
    if not any(words.split(folder.name) or classes.label(folder.name) is not None for folder in below):
        if len(below) == 1 and not _loose(root):  # an archive unpacked into a folder of its own
            return load(below[0], classes, complete=complete, tell=tell)
        found = ", ".join(folder.name for folder in below[:_NAMED]) or "no folders"
        raise DatasetError(f"Got the folder '{root}' with {found} in it, which is no known layout. {LAYOUTS}")
    search = _Search(classes, complete)
    samples = list(search.below(root, None))
    if search.unknown:
        places = _named("the folder itself" if folder == root else _place(folder, root) for folder in search.unknown)
        raise DatasetError(
            f"Expected NORMAL and PNEUMONIA, or train, val and test above them, in '{root}', got images in {places} as "
            "well: move them, say which class each name means, or treat other classes as negatives, or skip them."
        )
    if search.masks:
        places = _named(f"{_place(folder, root)} ({n:,})" for folder, n in sorted(search.masks.items()))
        tell(f"Left out masks in '{root}': {places}.")
    return sorted(samples, key=lambda sample: SPLITS.index(sample.split) if sample.split else -1)


def _place(folder: Path, root: Path) -> str:
    return f"'{folder.relative_to(root).as_posix()}'"


def _named(places: Iterator[str]) -> str:
    names = list(places)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


@dataclass
class _Search:
    """Walks through a folder for samples.

    Attributes:
        classes: what the folder names mean.
        complete: whether an empty class folder is an error.
        unknown: folders that hold images but are neither a split nor a class.
        masks: folders of masks, with the number of images in each.
    """

    classes: Classes
    complete: bool
    unknown: list[Path] = field(default_factory=list)
    masks: Counter[Path] = field(default_factory=Counter)

    def below(self, folder: Path, split: str | None) -> Iterator[Sample]:
        """Yield the samples in the splits and classes below a folder, and note other folders that hold images."""
        if _loose(folder):
            self.unknown.append(folder)
        inner = _folders(folder)
        holds_classes = any(self.classes.label(entry.name) is not None for entry in inner)
        for entry in inner:
            label, named = self.classes.label(entry.name), words.split(entry.name)
            if label is not None:
                yield from self._in_class(entry, label, split)
            elif named and split is None:
                yield from self.below(entry, named)
            elif words.is_masks(entry.name):
                self.masks += Counter({entry: sum(map(_is_image, radiograph.files(entry)))})
            elif any(map(_is_image, radiograph.files(entry))):
                if holds_classes and self.classes.other:
                    if self.classes.other == "negative":
                        for sample in self._in_class(entry, 0, split):
                            yield replace(sample, other=True)
                else:
                    self.unknown.append(entry)

    def _in_class(self, folder: Path, label: int, split: str | None) -> Iterator[Sample]:
        """Yield the samples at any depth below a class folder, which may contain split folders but no other class."""
        kind = words.subtype(folder.name)
        empty = True
        for path in radiograph.files(folder):
            inner = path.relative_to(folder).parts[:-1]
            splits = {found for part in inner if (found := words.split(part))} | ({split} if split else set())
            masks = next((i for i, part in enumerate(inner) if words.is_masks(part)), None)
            strange = next((i for i, part in enumerate(inner) if self.classes.label(part) == 1 - label), None)
            if masks is not None:
                self.masks[folder.joinpath(*inner[: masks + 1])] += 1
                continue
            if strange is not None or len(splits) > 1:
                place = folder.joinpath(*inner[: len(inner) if strange is None else strange + 1])
                if place not in self.unknown:
                    self.unknown.append(place)
                continue
            empty = False
            patient, named = patient_of(path.name)
            subtype = named or kind or next(filter(None, map(words.subtype, inner)), None)
            yield Sample(path, label, patient or str(path), next(iter(splits), None), subtype if label else None)
        if empty and self.complete and not self.unknown:
            raise DatasetError(f"Expected images of class {LABELS[label]} in '{folder}', got an empty folder.")


def _folders(folder: Path) -> list[Path]:
    return [
        path for path in sorted(folder.iterdir()) if path.is_dir() and not radiograph.is_folder_passed_over(path.name)
    ]


def _loose(folder: Path) -> bool:
    return any(_is_image(path) for path in folder.iterdir() if path.is_file())


def _is_image(path: Path) -> bool:
    """Return whether a file is an image, by its suffix or else its first bytes."""
    if radiograph.is_passed_over(path.name):
        return False
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    if suffixes and suffixes[-1] in _SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return radiograph.begins_as_image(file.read(radiograph.HEAD))
    except OSError:
        return False
