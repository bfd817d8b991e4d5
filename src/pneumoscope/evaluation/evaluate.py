"""How good a model is on films whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pneumoscope.data import layouts
from pneumoscope.data.layouts import Film
from pneumoscope.data.splits import Decoded
from pneumoscope.errors import DatasetError
from pneumoscope.evaluation import boxes, groups, localisation
from pneumoscope.evaluation.boxes import Pointing
from pneumoscope.evaluation.groups import Group
from pneumoscope.imaging import corruptions
from pneumoscope.inference.detector import Detector, Finding
from pneumoscope.inference.model_file import Card
from pneumoscope.metrics import metrics
from pneumoscope.metrics.metrics import Estimate, Performance
from pneumoscope.ood import embedding

HEADLINE = ("sensitivity", "specificity")
"""The figures whose worst shift is told."""


@dataclass(frozen=True)
class Gaze:
    """How much a model's verdicts owe to what lies around the thorax.

    Attributes:
        outside: the share of the evidence for `PNEUMONIA` that lies outside the thorax, on average over the films that
            show pneumonia; evidence spread evenly would give `even`.
        even: what a model that looks everywhere alike would have.
        flipped: the share of verdicts that change when all but the thorax is hidden.
        auc_around: the AUC on films whose thorax is hidden; 0.5 where the surroundings tell nothing.
    """

    outside: Estimate
    even: float
    flipped: Estimate
    auc_around: Estimate


@dataclass(frozen=True)
class Evaluation:
    """A model's verdicts on labelled films, and what they are worth.

    Attributes:
        card: the model's.
        films: those that could be read.
        findings: on each of `films`; with evidence only where it was asked for.
        performance: over all of `films`.
        subtypes: sensitivity by subtype of pneumonia, where the film's name says it.
        failures: the findings, with errors, on films that could not be read or are refused as no chest films.
        stressed: the performance under each shift of `corruptions.SHIFTS`; empty where it was not measured.
        gaze: what the verdicts owe to the surroundings of the thorax; None where it was not measured.
        whole: of all samples, those of neither class apart; `performance` counts these as `NORMAL`.
        parts: the same by site, view and age group, as `groups.parts` gives it.
        pointing: whether the evidence lies in radiologists' boxes; None where there are none.
    """

    card: Card
    films: list[Film]
    findings: list[Finding]
    performance: Performance
    subtypes: dict[str, tuple[int, Estimate]]
    failures: list[Finding]
    stressed: dict[str, Performance] = field(default_factory=dict)
    gaze: Gaze | None = None
    whole: Group | None = None
    parts: dict[str, dict[str, Group]] = field(default_factory=dict)
    pointing: Pointing | None = None

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,), 0 for `NORMAL`, 1 for `PNEUMONIA`."""
        return layouts.labels(self.films)

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """(N,), of `PNEUMONIA`."""
        return np.array([finding.probability for finding in self.findings], dtype=np.float64)

    @property
    def seen(self) -> int:
        """How many of the films the model was trained or tuned on."""
        return sum("seen_in_training" in finding.warnings for finding in self.findings)

    @property
    def shift(self) -> str | None:
        """Why the films as a whole look unlike those the model has learnt from; None where they do not."""
        return embedding.site_shift("unlike_training_films" in finding.warnings for finding in self.findings)

    def mistakes(self, n: int = 12) -> list[tuple[Film, Finding]]:
        """Give the films that were judged wrong, the most confident first."""
        wrong = [
            (film, finding)
            for film, finding in zip(self.films, self.findings, strict=True)
            if finding.finding != layouts.LABELS[film.label]
        ]
        return sorted(wrong, key=lambda pair: abs(pair[0].label - (pair[1].probability or 0.0)), reverse=True)[:n]

    def as_dict(self) -> dict[str, Any]:
        """Lay it out as `metrics.json`."""
        subtypes = {name: {"n": n, "sensitivity": vars(e)} for name, (n, e) in self.subtypes.items()}
        uncertain = sum(bool(finding.uncertain) for finding in self.findings)
        return self.performance.as_dict() | {
            "uncertain": vars(metrics.wilson(uncertain, len(self.findings))),
            "subtypes": subtypes,
            **{f"by_{by}": {name: g.as_dict() for name, g in found.items()} for by, found in self.parts.items()},
            "others": self.whole and {"n": self.whole.others, "called_pneumonia": self.whole.others_called.as_dict()},
            "without_others": self.whole and self.whole.as_dict(),
            "pointing": self.pointing and self.pointing.as_dict(),
            "seen_in_training": self.seen,
            "errors": len(self.failures),
            "unlike_training_films": self.shift,
            "stress": {name: performance.as_dict() for name, performance in self.stressed.items()},
            "worst_shift": {name: worst_shift(self.stressed, name) for name in HEADLINE} if self.stressed else None,
            "gaze": self.gaze and asdict(self.gaze),
            "model": {"architecture": self.card.architecture, "data": self.card.data.get("fingerprint")},
        }


def evaluate(
    films: Sequence[Film],
    detector: Detector,
    progress: Callable[[], object] = lambda: None,
    *,
    evidence: bool = False,
) -> Evaluation:
    """Judge labelled films and compare with the truth.

    Args:
        films: what `layouts.load` gave; not the ones the model was trained on.
        detector: the model.
        progress: called after each film.
        evidence: whether to keep each film's evidence map: for a few films, since they stay in memory.

    Returns:
        The evaluation; films that could not be read or are refused are in `failures` and in no figure.

    Raises:
        DatasetError: not one film could be read.

    Example:
        >>> evaluation = evaluate(layouts.load("films/test"), Detector())  # doctest: +SKIP
        >>> print(evaluation.performance.figures["auc"])  # doctest: +SKIP
        0.984 (0.975–0.990)
    """
    read: list[Film] = []
    findings: list[Finding] = []
    failures: list[Finding] = []
    maps: list[NDArray[np.float32]] = []
    boxed = any(map(boxes.opacities, films))
    examined = detector.examine((film.source for film in films), evidence=evidence or boxed)
    for film, finding in zip(films, examined, strict=True):
        if finding.error is None:
            read.append(film)
            if boxed and finding.evidence is not None:
                maps.append(finding.evidence)
            findings.append(finding if evidence else replace(finding, evidence=None))
        else:
            failures.append(finding)
        progress()
    if not read:
        reason = failures[0].error if failures else "there are none"
        raise DatasetError(f"Expected films to evaluate on, got none that can be read: {reason}")
    labels = layouts.labels(read)
    probabilities = np.array([finding.probability for finding in findings], dtype=np.float64)
    threshold = detector.card.calibration.threshold
    patients = np.array([film.patient for film in read])
    performance = metrics.performance(labels, probabilities, threshold, patients)
    subtypes = {}
    for name in sorted({film.subtype for film in read if film.subtype}):
        called = probabilities[[film.subtype == name for film in read]] >= threshold
        subtypes[name] = (len(called), metrics.wilson(int(called.sum()), len(called)))
    return Evaluation(
        detector.card,
        read,
        findings,
        performance,
        subtypes,
        failures,
        whole=groups.group(read, probabilities, threshold),
        parts=groups.parts(read, probabilities, threshold),
        pointing=boxes.pointing(read, maps) if boxed else None,
    )


def under_stress(
    decoded: Decoded, detector: Detector, progress: Callable[[], object] = lambda: None
) -> dict[str, Performance]:
    """Judge the same films again under each shift of `corruptions.SHIFTS`.

    The shifts are applied to the films as the network sees them, squashed to its size.

    Args:
        decoded: what `splits.decode` gave, at the model's `card.input_size`.
        detector: the model.
        progress: called after each shift.

    Returns:
        The performance by the shift's name; `none` is the films as they are.

    Raises:
        DatasetError: there are no films.

    Example:
        >>> detector = Detector()  # doctest: +SKIP
        >>> decoded = splits.decode(layouts.load("films/test"), detector.card.input_size)  # doctest: +SKIP
        >>> table = under_stress(decoded, detector)  # doctest: +SKIP
        >>> min(table, key=lambda name: table[name].figures["specificity"].value)  # doctest: +SKIP
        'black border'
    """
    if not decoded.films:
        raise DatasetError(f"Expected films to evaluate on, got none of {len(decoded.failures)} that can be read.")
    threshold = detector.card.calibration.threshold
    table = {}
    for name in corruptions.SHIFTS:
        probabilities, _ = detector.judge(corruptions.apply(name, film.astype(np.float32)) for film in decoded.pixels)
        table[name] = metrics.performance(decoded.labels, probabilities, threshold, decoded.groups)
        progress()
    return table


def gaze(decoded: Decoded, detector: Detector) -> Gaze | None:
    """Measure whether a model looks at the thorax: `localisation.inside` says where that is.

    The evidence says where the last feature map adds to the logit, and each of its places sees well beyond itself. So
    the films are also judged with the thorax hidden and with everything else hidden (Maguolo and Nanni 2021, "A critic
    evaluation of methods for COVID-19 automatic detection from X-ray images").

    Args:
        decoded: what `splits.decode` gave, at the model's `card.input_size`.
        detector: the model.

    Returns:
        The measures; None without films of both classes.

    Example:
        >>> print(gaze(decoded, detector).outside)  # doctest: +SKIP
        0.142 (0.131–0.153)
    """
    sick = decoded.labels == 1
    if sick.all() or not sick.any():
        return None
    threshold = detector.card.calibration.threshold
    whole, evidence = detector.judge(decoded.pixels)
    alone, around = (
        detector.judge(localisation.hide(film.astype(np.float32), thorax=hidden) for film in decoded.pixels)[0]
        for hidden in (False, True)
    )
    shares, patients = localisation.outside_share(evidence[sick]), decoded.groups[sick]
    flipped = (whole >= threshold) != (alone >= threshold)
    return Gaze(
        metrics.bootstrap(lambda _, share: float(share.mean()), np.ones_like(patients), shares, patients),
        float(localisation.outside_share(np.ones((1, *evidence.shape[1:])))[0]),
        metrics.wilson(int(flipped.sum()), len(flipped)),
        metrics.delong(decoded.labels, around),
    )


def worst_shift(table: Mapping[str, Performance], figure: str) -> str | None:
    """Name the shift under which a figure is lowest; `inverted`, a fault to be told of, does not count.

    Returns:
        A key of the table; None where the figure is undefined, as with films of one class only.

    Example:
        >>> worst_shift(under_stress(decoded, detector), "specificity")  # doctest: +SKIP
        'zoom 1.15'
    """
    values = {name: p.figures[figure].value for name, p in table.items() if name not in corruptions.APART}
    defined = {name: value for name, value in values.items() if not np.isnan(value)}
    return min(defined, key=defined.__getitem__, default=None)


def choose(films: Sequence[Film], split: str | None = None) -> list[Film]:
    """Choose the films to evaluate on: one split, or by default `test` where there is one, else all.

    Raises:
        DatasetError: the data set has no such split.

    Example:
        >>> choose([]) == []
        True
    """
    splits = {film.split for film in films}
    wanted = split or ("test" if "test" in splits else "all")
    chosen = [film for film in films if wanted in ("all", film.split)]
    if films and not chosen:
        found = ", ".join(sorted(name for name in splits if name)) or "none"
        raise DatasetError(f"Expected films of split '{wanted}', got a data set with the splits: {found}.")
    return chosen
