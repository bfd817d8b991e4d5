"""What is wrong with a data set, before anybody trains on it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pneumoscope.auditing import duplicates, issues, shortcuts
from pneumoscope.auditing.result import Audit, Group, Part
from pneumoscope.data import layouts, splits
from pneumoscope.data.layouts import SPLITS, Film
from pneumoscope.errors import PneumoscopeError, UnreadableError
from pneumoscope.imaging import radiograph
from pneumoscope.imaging.radiograph import Source

Progress = Callable[[str, int, int], object]
"""Is called with what is done, the steps done and all of them."""


@dataclass(frozen=True)
class _Seen:
    """What is kept of a film: its place in the list, a name of its pixels, thumbnails and features."""

    position: int
    key: tuple[tuple[int, ...], bytes]
    thumbnails: list[NDArray[np.uint8]]
    features: dict[str, float]


Reject = Callable[[Iterable[Source]], Iterable[PneumoscopeError | None]]
"""Says of each image why `predict` would reject it, or None."""


def audit(
    films: Sequence[Film],
    progress: Progress = lambda *_: None,
    *,
    reject: Reject = lambda sources: (None for _ in sources),
) -> Audit:
    """Look a data set over: each film is read once, and little of it is kept.

    Args:
        films: what `layouts.load(data, complete=False)` gave.
        progress: called now and then.
        reject: the gate of a model, such as `Detector().rejections`; it finds masks, drawings and other images that are
            no chest radiographs, and reads each film once more. Without it they are not looked for.

    Returns:
        What was found. Whatever is wrong with the data set is told in it and raises nothing.

    Example:
        >>> found = audit(layouts.load("chest_xray", complete=False))  # doctest: +SKIP
        >>> [fault.kind for fault in found.faults]  # doctest: +SKIP
        ['identical_across_splits', 'small_split']
    """
    seen, failures = _read(films, progress)
    labels = layouts.labels(films[one.position] for one in seen)
    unique: dict[object, list[int]] = defaultdict(list)
    for one in seen:
        unique[one.key].append(one.position)
    first = {positions[0]: positions for positions in unique.values()}
    readable = [films[one.position] for one in seen]
    rejected = []
    for done, (film, error) in enumerate(zip(readable, reject(f.source for f in readable), strict=True), start=1):
        if error is not None:
            rejected.append((film, error))
        progress("looking for chests", done, len(readable))
    found = Audit(
        films=list(films),
        failures=failures,
        rejected=rejected,
        parts=_parts(films, [film for film, _ in failures]),
        identical=[Group(tuple(films[i] for i in group)) for group in first.values() if len(group) > 1],
        near=_near(films, [one for one in seen if one.position in first], first, progress),
        compared=sum(bool(one.thumbnails) for one in seen),
        patients_across_splits=_patients(films, lambda film: film.split),
        patients_across_labels=_patients(films, lambda film: film.label),
        shortcuts=shortcuts.find(labels, [one.features for one in seen]),
    )
    return replace(found, faults=issues.find(found))


def _read(films: Sequence[Film], progress: Progress) -> tuple[list[_Seen], list[tuple[Film, PneumoscopeError]]]:
    def one(position: int) -> _Seen | PneumoscopeError:
        film = films[position]
        try:
            read = radiograph.read(film.source)
            key = (read.pixels.shape, splits.picture_key(read.pixels))
            return _Seen(position, key, duplicates.thumbnails(read.pixels), shortcuts.measure(film, read))
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
    pairs = duplicates.near(np.array(pictures, dtype=np.uint8), owners, progress)
    if not pairs:
        return []
    component = splits.connected([(pair.first, pair.second) for pair in pairs], len(seen))
    of_component: dict[int, list[duplicates.Pair]] = defaultdict(list)
    for pair in pairs:
        of_component[component[pair.first]].append(pair)
    groups = []
    for members in of_component.values():
        first = {seen[i].position for pair in members for i in (pair.first, pair.second)}
        everywhere = sorted(i for position in first for i in identical[position])
        at = {position: i for i, position in enumerate(everywhere)}
        linked = tuple(
            duplicates.Pair(at[seen[p.first].position], at[seen[p.second].position], p.similarity, p.mirrored)
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
