"""Derives the faults from an audit: how serious each is, and what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from pneumoscope.auditing import duplicates
from pneumoscope.auditing.result import SEVERITIES, Audit, Fault, Group
from pneumoscope.data.layouts import LABELS, Sample
from pneumoscope.metrics import metrics

WIDEST = 0.2
"""A split is too small if a value of 0.9 measured on its smaller class has a wider 95 % interval: below 37 images."""

GATE_ERRS = 0.01
"""The share of chest radiographs that the gate may wrongly reject; a larger share means that the data are at fault."""

LOPSIDED = 10
"""The ratio between the classes above which there is a warning."""


def find(audit: Audit) -> list[Fault]:
    """List the faults in an audit, the most serious first.

    Example:
        >>> find(audited)[0].kind
        'small_split'
    """
    found = [
        *_copies(audit.identical, "identical", "Identical to the pixel"),
        *_copies(audit.near, "near_duplicates", "Copies (re-encoded, resized, cropped, turned or mirrored)"),
        *_patients(audit),
        *_classes(audit),
        *_small_splits(audit),
        *_shortcuts(audit),
        *_unreadable(audit),
        *_rejected(audit),
        *_unknown(audit),
    ]
    return sorted(found, key=lambda fault: SEVERITIES.index(fault.severity))


def patient_known(sample: Sample) -> bool:
    """Return whether the data set identifies the patient; otherwise `layouts.load` made the image its own patient.

    Example:
        >>> from pathlib import Path
        >>> patient_known(Sample(Path("a.png"), 0, "a.png"))
        False
    """
    return sample.patient not in (str(sample.path), str(sample.path).rpartition("#")[2])


def _copies(groups: Sequence[Group], kind: str, words: str) -> Iterator[Fault]:
    across_labels = [group for group in groups if "labels" in group.across]
    across_splits = [group for group in groups if "splits" in group.across]
    others = [group for group in groups if not {"labels", "splits"} & set(group.across)]
    if across_labels:
        yield Fault(
            "critical",
            f"{kind}_across_labels",
            len(across_labels),
            f"{words} and with both labels: {_groups(across_labels)}.",
            "One label in each group is wrong: have the images read again, or leave the whole group out.",
        )
    if across_splits:
        yield Fault(
            "critical",
            f"{kind}_across_splits",
            len(across_splits),
            f"{words} and in several splits: {_groups(across_splits)}.",
            "A model is measured on images that it was trained on: keep each group in one split.",
        )
    if others:
        apart = sum("patients" in group.across for group in others)
        yield Fault(
            "warning",
            kind,
            len(others),
            f"{words}, with one label and in one split: {_groups(others)}"
            + (f", of which {_n(apart, 'group')} under several patients." if apart else "."),
            "Keep one image of each group, or at least keep each group together when you split by patient "
            + ("(pneumoscope train does)." if kind == "identical" else "(give its images one patient in a CSV)."),
        )


def _patients(audit: Audit) -> Iterator[Fault]:
    if audit.patients_across_splits:
        n, images = len(audit.patients_across_splits), sum(map(len, audit.patients_across_splits))
        yield Fault(
            "critical",
            "patient_across_splits",
            n,
            f"{_n(n, 'patient')} with images in several splits, {_n(images, 'image')} in all.",
            "A model recognises them: move all images of a patient into one split.",
        )
    if audit.patients_across_labels:
        n = len(audit.patients_across_labels)
        yield Fault(
            "note",
            "patient_across_labels",
            n,
            f"{_n(n, 'patient')} with images of both labels.",
            "This is correct if a patient fell ill or recovered; otherwise a label is wrong. Look at them.",
        )


def _classes(audit: Audit) -> Iterator[Fault]:
    counts = [sum(part.images for part in audit.parts if part.label == label) for label in (0, 1)]
    for label, name in enumerate(LABELS):
        if not counts[label]:
            yield Fault(
                "critical",
                "class_missing",
                1,
                f"No image is {name}.",
                "Add images of this class: nothing can be learnt or measured without them.",
            )
            return
        without = [split for split in audit.splits if not audit.part(split, label).images]
        if without:
            yield Fault(
                "critical",
                "class_missing_in_split",
                len(without),
                f"No image is {name} in {', '.join(split or 'the images of no split' for split in without)}.",
                "Split again by patient, with the classes in proportion.",
            )
    smaller, larger = sorted((0, 1), key=lambda label: counts[label])
    ratio = counts[larger] / counts[smaller]
    if ratio > 2:
        yield Fault(
            "warning" if ratio > LOPSIDED else "note",
            "imbalance",
            1,
            f"{ratio:.1f} {LABELS[larger]} for each {LABELS[smaller]}: always saying {LABELS[larger]} is right in "
            f"{metrics.wilson(counts[larger], sum(counts))} of the images.",
            "Balance the classes in training (the default recipe does), and compare by balanced accuracy, sensitivity "
            "and specificity.",
        )


def _small_splits(audit: Audit) -> Iterator[Fault]:
    for split in audit.splits:
        normal, pneumonia = (audit.part(split, label).images for label in (0, 1))
        fewest = min(n for n in (normal, pneumonia) if n)
        interval = metrics.wilson(0.9 * fewest, fewest)
        width = interval.high - interval.low
        if split in ("val", "test") and width > WIDEST:
            figure = "sensitivity" if fewest == pneumonia else "specificity"
            yield Fault(
                "critical" if width > 2 * WIDEST else "warning",
                "small_split",
                fewest,
                f"{split} has {normal} {LABELS[0]} and {pneumonia} {LABELS[1]}: if a {figure} of 0.9 is measured on "
                f"it, the true value may be between {interval.low:.2f} and {interval.high:.2f} (95 % interval), and "
                f"each image changes it by {1 / fewest:.3f}.",
                "Do not choose an epoch or a threshold on it, nor report figures from it: hold out a tenth to a fifth "
                "of the patients instead (pneumoscope train does so if val is too small).",
            )


def _shortcuts(audit: Audit) -> Iterator[Fault]:
    for shortcut in audit.shortcuts:
        if shortcut.grade in ("strong shortcut", "shortcut"):
            yield Fault(
                "critical" if shortcut.critical else "warning",
                "shortcut",
                1,
                f"{shortcut.grade.capitalize()}: {shortcut.title} alone predicts the label with AUC "
                f"{shortcut.strength}. {shortcut.direction.capitalize()}.",
                shortcut.advice,
            )


def _unreadable(audit: Audit) -> Iterator[Fault]:
    n = len(audit.failures)
    if n:
        where = ", ".join(
            f"{part.unreadable} of {part.images} {LABELS[part.label]}" + (f" in {part.split}" if part.split else "")
            for part in audit.parts
            if part.unreadable
        )
        yield Fault(
            "warning",
            "unreadable",
            n,
            f"{_n(n, 'image')} cannot be read, a share of {metrics.wilson(n, len(audit.samples))}: {where}.",
            "Copy them again from their source, or skip them in training.",
        )


def _rejected(audit: Audit) -> Iterator[Fault]:
    n = len(audit.rejected)
    if n:
        counts = Counter(sample.label for sample, _ in audit.rejected)
        where = " and ".join(f"{counts[label]} of {LABELS[label]}" for label in sorted(counts))
        yield Fault(
            "critical" if n > GATE_ERRS * len(audit.samples) else "warning",
            "no_chest_radiograph",
            n,
            f"Images that `predict` rejects because they do not look like frontal chest radiographs: {where}.",
            "Look at them: move masks, drawings, lateral views and photographs elsewhere, or leave them out in "
            "training.",
        )


def _unknown(audit: Audit) -> Iterator[Fault]:
    unknown = sum(not patient_known(image) for image in audit.samples)
    if unknown:
        yield Fault(
            "note",
            "patients_unknown",
            unknown,
            f"The patient is unknown for {_n(unknown, 'image')}; each counts as a patient of its own.",
            "Name the patients in a CSV (path,label,patient,split): otherwise images of one patient in two splits "
            "cannot be found.",
        )
    small = len(audit.samples) - len(audit.failures) - audit.compared
    if small:
        yield Fault(
            "note",
            "not_compared",
            small,
            f"{_n(small, 'image')} smaller than {duplicates.SIDE} × {duplicates.SIDE}, or blank: copies among them "
            "that are not identical cannot be distinguished from images that are merely similar.",
            "Audit the images at a larger size.",
        )


def _groups(groups: Sequence[Group]) -> str:
    pairs = sum(group.pairs for group in groups)
    return f"{_n(pairs, 'pair')} of images ({_n(len(groups), 'group')})"


def _n(n: int, word: str) -> str:
    return f"{n:,} {word}{'' if n == 1 else 's'}"
