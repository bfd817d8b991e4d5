"""Audits a data set for faults before anyone trains on it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pneumoscope import parallel
from pneumoscope.auditing import duplicates, issues, shortcuts
from pneumoscope.auditing.result import Audit, Group, Part
from pneumoscope.data import layouts, splits
from pneumoscope.data.layouts import SPLITS, Sample
from pneumoscope.errors import PneumoscopeError, UnreadableError
from pneumoscope.imaging import radiograph
from pneumoscope.imaging.radiograph import Radiograph, Source

Progress = Callable[[str, int, int], object]
"""Called with a description, the steps done and the total."""


@dataclass(frozen=True)
class _Seen:
    """What is kept of an image: its position, a key of its pixels, thumbnails, features, and why it is rejected."""

    position: int
    key: tuple[tuple[int, ...], bytes]
    thumbnails: list[NDArray[np.uint8]]
    features: dict[str, float]
    rejected: PneumoscopeError | None


Reject = Callable[[Source, Radiograph], PneumoscopeError | None]
"""Returns why `predict` would reject an image, or None; called with the source and the image read from it."""


def audit(
    samples: Sequence[Sample],
    progress: Progress = lambda *_: None,
    *,
    reject: Reject = lambda source, read: None,
    at_least: int | None = None,
) -> Audit:
    """Audit a data set. Each image is read once, and little of it is kept in memory.

    Args:
        samples: the output of `layouts.load(data, complete=False)`.
        progress: called now and then.
        reject: the gate of a model, such as `Detector().rejection`, which finds masks, drawings and other images that
            are not chest radiographs. Several threads call it. From `parallel.MANY` images on it is pickled and
            called in processes, so that it must not rely on a state. By default there is no such check.
        at_least: as in `radiograph.read`: large JPEGs are decoded at reduced size, several times as fast. Pass the
            input size of the model of `reject`. An image stored both as JPEG and in another format is then a near
            duplicate.

    Returns:
        The audit. Faults of the data set are reported in it; none of them raises an error.

    Example:
        >>> found = audit(layouts.load("chest_xray", complete=False))
        >>> [fault.kind for fault in found.faults]
        ['small_split']
    """
    seen, failures = _read(samples, progress, reject, at_least)
    labels = layouts.labels(samples[one.position] for one in seen)
    unique: dict[object, list[int]] = defaultdict(list)
    for one in seen:
        unique[one.key].append(one.position)
    first = {positions[0]: positions for positions in unique.values()}
    found = Audit(
        samples=list(samples),
        failures=failures,
        rejected=[(samples[one.position], one.rejected) for one in seen if one.rejected is not None],
        parts=_parts(samples, [sample for sample, _ in failures]),
        identical=[Group(tuple(samples[i] for i in group)) for group in first.values() if len(group) > 1],
        near=_near(samples, [one for one in seen if one.position in first], first, progress),
        compared=sum(bool(one.thumbnails) for one in seen),
        patients_across_splits=_patients(samples, lambda sample: sample.split),
        patients_across_labels=_patients(samples, lambda sample: sample.label),
        shortcuts=shortcuts.find(labels, [one.features for one in seen]),
    )
    return replace(found, faults=issues.find(found))


def _read(
    samples: Sequence[Sample], progress: Progress, reject: Reject, at_least: int | None
) -> tuple[list[_Seen], list[tuple[Sample, PneumoscopeError]]]:
    seen: list[_Seen] = []
    failures: list[tuple[Sample, PneumoscopeError]] = []
    look = partial(_look, reject=reject, at_least=at_least)
    results = parallel.on_all_cores(look, enumerate(samples), processes=len(samples) >= parallel.MANY)
    for position, result in enumerate(results):
        if isinstance(result, PneumoscopeError):
            failures.append((samples[position], result))
        else:
            seen.append(result)
        progress("reading images", position + 1, len(samples))
    return seen, failures


def _look(numbered: tuple[int, Sample], reject: Reject, at_least: int | None) -> _Seen | PneumoscopeError:
    position, sample = numbered
    try:
        source = radiograph.read_bytes(sample.path) if sample.pixels is None else sample.pixels
        read = radiograph.read(source, at_least=at_least)
        key = (read.shape, splits.image_key(read.pixels))
        borders = duplicates.borders(read.pixels)
        small = duplicates.thumbnails(read.pixels, borders)
        return _Seen(position, key, small, shortcuts.measure(sample, read, borders), reject(source, read))
    except PneumoscopeError as error:
        return error
    except OSError as error:  # the file has disappeared since it was read
        return UnreadableError(f"The file cannot be read ({error.strerror}): check its disk and permissions.")


def _parts(samples: Iterable[Sample], unreadable: Iterable[Sample]) -> list[Part]:
    def place(sample: Sample) -> tuple[str | None, int]:
        return sample.split, sample.label

    failed = Counter(map(place, unreadable))
    patients: dict[tuple[str | None, int], Counter[str]] = defaultdict(Counter)
    for sample in samples:
        patients[place(sample)][sample.patient] += 1
    order = sorted(patients, key=lambda at: (SPLITS.index(at[0]) if at[0] else len(SPLITS), at[1]))
    return [Part(*at, patients[at].total(), failed[at], len(patients[at]), max(patients[at].values())) for at in order]


def _near(
    samples: Sequence[Sample], seen: Sequence[_Seen], identical: dict[int, list[int]], progress: Progress
) -> list[Group]:
    """Group the images that are copies; `seen` holds one image of each identical set, and the others join its group."""
    owners = np.array([i for i, one in enumerate(seen) for _ in one.thumbnails], dtype=np.int64)
    thumbnails = [thumbnail for one in seen for thumbnail in one.thumbnails]
    pairs = duplicates.near(np.array(thumbnails, dtype=np.uint8), owners, progress)
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
        groups.append(Group(tuple(samples[i] for i in everywhere), linked))
    return groups


def _patients(samples: Iterable[Sample], what: Callable[[Sample], object]) -> list[list[Sample]]:
    """Return the images of each patient whose images differ in `what`."""
    theirs: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        theirs[sample.patient].append(sample)
    return [found for found in theirs.values() if len({what(sample) for sample in found}) > 1]
