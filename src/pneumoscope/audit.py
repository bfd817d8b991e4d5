"""What is wrong with a data set, before anybody trains on it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pneumoscope import copies, dataset, faults, metrics, radiograph, shortcuts, splits
from pneumoscope.dataset import LABELS, SPLITS, Film
from pneumoscope.errors import PneumoscopeError, UnreadableError
from pneumoscope.metrics import Estimate
from pneumoscope.shortcuts import Shortcut

Progress = Callable[[str, int, int], object]
"""Is called with what is done, the steps done and all of them."""


@dataclass(frozen=True)
class Part:
    """The films of one class in one split.

    Attributes:
        split: `train`, `val`, `test`, or None where the layout names none.
        label: 0 for `NORMAL`, 1 for `PNEUMONIA`.
        films: how many are listed.
        unreadable: how many of them cannot be read.
        patients: how many they show; a film whose patient is not known counts as one.
        most: the films of the patient with most of them.
    """

    split: str | None
    label: int
    films: int
    unreadable: int
    patients: int
    most: int


@dataclass(frozen=True)
class Group:
    """Films that show one picture.

    Attributes:
        films: two or more, in the order of the data set.
        links: the pairs that were found to be copies, by their positions in `films`; none where all are identical.
    """

    films: tuple[Film, ...]
    links: tuple[copies.Pair, ...] = ()

    @property
    def pairs(self) -> int:
        """How many pairs were found; of identical films, all that there are."""
        return len(self.links) or len(self.films) * (len(self.films) - 1) // 2

    @property
    def alike(self) -> float:
        """The smallest correlation by which it hangs together; 1 for identical films."""
        return min((link.similarity for link in self.links), default=1.0)

    @property
    def across(self) -> tuple[str, ...]:
        """In what the films differ: `labels`, `splits`, `patients`."""
        seen: dict[str, set[str | int | None]] = {
            "labels": {film.label for film in self.films},
            "splits": {film.split for film in self.films},
            "patients": {film.patient for film in self.films},
        }
        return tuple(name for name, values in seen.items() if len(values) > 1)


@dataclass(frozen=True)
class Audit:
    """All that was found.

    Attributes:
        films: all that are listed.
        failures: those that cannot be read, with the reason.
        parts: the films by split and class.
        identical: groups of films that are equal to the pixel.
        near: groups of films that are copies of one another without being equal.
        compared: how many films were large enough to look for such copies among them.
        patients_across_splits: the films of each patient who has some in several splits.
        patients_across_labels: the films of each patient who has some of both labels.
        shortcuts: what may tell the classes apart without a look at the lungs, the strongest first.
    """

    films: list[Film]
    failures: list[tuple[Film, PneumoscopeError]]
    parts: list[Part]
    identical: list[Group]
    near: list[Group]
    compared: int
    patients_across_splits: list[list[Film]]
    patients_across_labels: list[list[Film]]
    shortcuts: list[Shortcut]

    @property
    def faults(self) -> list[faults.Fault]:
        """What is wrong, the worst first."""
        return faults.find(self)

    @property
    def splits(self) -> list[str | None]:
        """The splits that there are, None for films that the layout puts into none."""
        return list(dict.fromkeys(part.split for part in self.parts))

    def part(self, split: str | None, label: int) -> Part:
        """Give the films of one class in one split; an empty part where there are none."""
        found = (part for part in self.parts if (part.split, part.label) == (split, label))
        return next(found, Part(split, label, 0, 0, 0, 0))

    def share(self, split: str | None) -> Estimate:
        """Estimate the share of pneumonias in one split."""
        normal, pneumonia = (self.part(split, label).films for label in (0, 1))
        return metrics.wilson(pneumonia, normal + pneumonia)

    def as_dict(self) -> dict[str, Any]:
        """Lay it out as `audit.json`; an undefined figure is null. Patients are named by their films alone."""
        return {
            "films": len(self.films),
            "unreadable": [
                _place(film) | {"error": {"kind": error.kind, "message": str(error)}} for film, error in self.failures
            ],
            "faults": [vars(fault) for fault in self.faults],
            "parts": [
                vars(part)
                | {
                    "label": LABELS[part.label],
                    "unreadable_share": _plain(metrics.wilson(part.unreadable, part.films)),
                }
                for part in self.parts
            ],
            "pneumonia_share": {split or "all": _plain(self.share(split)) for split in self.splits},
            "identical": _groups_as_dict(self.identical),
            "near_duplicates": _groups_as_dict(self.near) | {"compared": self.compared, "limit": copies.LIMIT},
            "patients_across_splits": [list(map(_place, films)) for films in self.patients_across_splits],
            "patients_across_labels": [list(map(_place, films)) for films in self.patients_across_labels],
            "shortcuts": [
                vars(shortcut)
                | {
                    "quantiles": dict(zip(LABELS, shortcut.quantiles, strict=True)),
                    "auc": _plain(shortcut.auc),
                    "strength": _plain(shortcut.strength),
                }
                for shortcut in self.shortcuts
            ],
        }


@dataclass(frozen=True)
class _Seen:
    """What is kept of a film: its place in the list, a name of its pixels, thumbnails and features."""

    position: int
    key: tuple[tuple[int, ...], bytes]
    thumbnails: list[NDArray[np.uint8]]
    features: dict[str, float]


def audit(films: Sequence[Film], progress: Progress = lambda *_: None) -> Audit:
    """Look a data set over: each film is read once, and little of it is kept.

    Args:
        films: what `dataset.load(data, complete=False)` gave.
        progress: called now and then.

    Returns:
        What was found. Whatever is wrong with the data set is told in it and raises nothing.

    Example:
        >>> found = audit(dataset.load("chest_xray", complete=False))  # doctest: +SKIP
        >>> [fault.kind for fault in found.faults]  # doctest: +SKIP
        ['identical_across_splits', 'small_split']
    """
    seen, failures = _read(films, progress)
    labels = dataset.labels(films[one.position] for one in seen)
    unique: dict[object, list[int]] = defaultdict(list)
    for one in seen:
        unique[one.key].append(one.position)
    first = {positions[0]: positions for positions in unique.values()}
    return Audit(
        films=list(films),
        failures=failures,
        parts=_parts(films, [film for film, _ in failures]),
        identical=[Group(tuple(films[i] for i in group)) for group in first.values() if len(group) > 1],
        near=_near(films, [one for one in seen if one.position in first], first, progress),
        compared=sum(bool(one.thumbnails) for one in seen),
        patients_across_splits=_patients(films, lambda film: film.split),
        patients_across_labels=_patients(films, lambda film: film.label),
        shortcuts=shortcuts.find(labels, [one.features for one in seen]),
    )


def _read(films: Sequence[Film], progress: Progress) -> tuple[list[_Seen], list[tuple[Film, PneumoscopeError]]]:
    def one(position: int) -> _Seen | PneumoscopeError:
        film = films[position]
        try:
            read = radiograph.read(film.source)
            key = (read.pixels.shape, splits.picture_key(read.pixels))
            return _Seen(position, key, copies.thumbnails(read.pixels), shortcuts.measure(film, read))
        except PneumoscopeError as error:
            return error
        except OSError as error:  # the file has gone since
            return UnreadableError(f"The file cannot be read ({error.strerror}): check its disk and permissions.")

    seen: list[_Seen] = []
    failures: list[tuple[Film, PneumoscopeError]] = []
    with ThreadPoolExecutor() as pool:
        for position, result in enumerate(pool.map(one, range(len(films)))):
            if isinstance(result, PneumoscopeError):
                failures.append((films[position], result))
            else:
                seen.append(result)
            progress("reading films", position + 1, len(films))
    return seen, failures


def _parts(films: Iterable[Film], unreadable: Iterable[Film]) -> list[Part]:
    def place(film: Film) -> tuple[str | None, int]:
        return film.split, film.label

    failed = Counter(map(place, unreadable))
    patients: dict[tuple[str | None, int], Counter[str]] = defaultdict(Counter)
    for film in films:
        patients[place(film)][film.patient] += 1
    order = sorted(patients, key=lambda at: (SPLITS.index(at[0]) if at[0] else len(SPLITS), at[1]))
    return [Part(*at, patients[at].total(), failed[at], len(patients[at]), max(patients[at].values())) for at in order]


def _near(
    films: Sequence[Film], seen: Sequence[_Seen], identical: dict[int, list[int]], progress: Progress
) -> list[Group]:
    """Group the films that are copies; `seen` holds one of each set of identical ones, and the others join it."""
    owners = np.array([i for i, one in enumerate(seen) for _ in one.thumbnails], dtype=np.int64)
    pictures = [picture for one in seen for picture in one.thumbnails]
    pairs = copies.near(np.array(pictures, dtype=np.uint8), owners, progress)
    if not pairs:
        return []
    component = splits.connected([(pair.first, pair.second) for pair in pairs], len(seen))
    of_component: dict[int, list[copies.Pair]] = defaultdict(list)
    for pair in pairs:
        of_component[component[pair.first]].append(pair)
    groups = []
    for members in of_component.values():
        first = {seen[i].position for pair in members for i in (pair.first, pair.second)}
        everywhere = sorted(i for position in first for i in identical[position])
        at = {position: i for i, position in enumerate(everywhere)}
        linked = tuple(
            copies.Pair(at[seen[p.first].position], at[seen[p.second].position], p.similarity, p.mirrored)
            for p in members
        )
        groups.append(Group(tuple(films[i] for i in everywhere), linked))
    return groups


def _patients(films: Iterable[Film], what: Callable[[Film], object]) -> list[list[Film]]:
    """Give the films of each patient whose films differ in something."""
    theirs: dict[str, list[Film]] = defaultdict(list)
    for film in films:
        theirs[film.patient].append(film)
    return [found for found in theirs.values() if len({what(film) for film in found}) > 1]


def _groups_as_dict(groups: Sequence[Group]) -> dict[str, Any]:
    return {
        "pairs": sum(group.pairs for group in groups),
        "groups": [
            {
                "films": list(map(_place, group.films)),
                "across": list(group.across),
                "links": [vars(link) for link in group.links],
            }
            for group in groups
        ],
    }


def _place(film: Film) -> dict[str, Any]:
    return {"path": str(film.path), "label": LABELS[film.label], "split": film.split}


def _plain(estimate: Estimate) -> dict[str, float | None]:
    return {name: None if np.isnan(value) else round(float(value), 6) for name, value in vars(estimate).items()}
