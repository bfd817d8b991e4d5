"""Writes the report of an evaluation: a self-contained HTML page, and the figures for programs."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from pneumoscope.atomic import write_text
from pneumoscope.data.layouts import LABELS, Sample
from pneumoscope.evaluation.evaluate import HEADLINE, Evaluation, worst_corruption
from pneumoscope.evaluation.groups import Group
from pneumoscope.imaging import radiograph
from pneumoscope.inference.detector import Detector
from pneumoscope.inference.finding import Finding
from pneumoscope.inference.model_file import Card
from pneumoscope.metrics import metrics
from pneumoscope.metrics.metrics import Estimate
from pneumoscope.reporting import evidence_map, figures, predictions

THUMBNAIL = 360
"""The longest side of a thumbnail, in pixels."""

MEANINGS = {
    "auc": (
        "Area under the ROC curve",
        "How often a pneumonia has a higher probability than a normal image, both drawn at random; chance is 0.5. "
        "It does not depend on the threshold.",
    ),
    "average_precision": (
        "Average precision",
        "Precision averaged over all recalls; chance is the share of pneumonias among these images.",
    ),
    "accuracy": ("Accuracy", "Share of correct findings. It changes with the share of pneumonias."),
    "balanced_accuracy": (
        "Balanced accuracy",
        "Mean of sensitivity and specificity; chance is 0.5, whatever the share of pneumonias.",
    ),
    "sensitivity": ("Sensitivity", "Of the images that show pneumonia, the share that is called so."),
    "specificity": ("Specificity", "Of the normal images, the share that is called normal."),
    "ppv": (
        "Positive predictive value",
        "Of the images called pneumonia, the share that shows it. It holds only where pneumonia is as common as here.",
    ),
    "npv": (
        "Negative predictive value",
        "Of the images called normal, the share that is. It holds only where pneumonia is as common as here.",
    ),
    "f1": ("F1", "Harmonic mean of sensitivity and positive predictive value."),
    "brier": (
        "Brier score",
        "Mean squared distance of the probability from the truth; 0 is best, always saying 0.5 gives 0.25.",
    ),
    "ece": (
        "Expected calibration error",
        "Mean gap between probability and share of pneumonias, over ten bins; 0 is best.",
    ),
}
"""The title of each figure and its meaning in plain words."""


@dataclass(frozen=True)
class Mistake:
    """A misclassified image to show; image and map are `data:` URLs, or None if it can no longer be read."""

    name: str
    truth: str
    finding: Finding
    subtype: str | None
    image: str | None
    evidence: str | None


def write(evaluation: Evaluation, detector: Detector, out: str | os.PathLike[str]) -> Path:
    """Write `metrics.json`, `predictions.csv`, `report.html` and the curves into a folder, each file in one step.

    The page is self-contained and loads nothing from other hosts. Images are identified only by their file names.

    Args:
        evaluation: the output of `evaluate.evaluate`.
        detector: the detector it was made with, which computes the evidence of the worst mistakes.
        out: the folder, which is created if needed.

    Returns:
        The path of `report.html`.

    Example:
        >>> write(evaluation, detector, "evaluation")
        PosixPath('evaluation/report.html')
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "metrics.json", json.dumps(evaluation.as_dict(), indent=2, allow_nan=False) + "\n")
    predictions.write(evaluation, out / "predictions.csv")
    figures.save(evaluation, out)
    page = out / "report.html"
    write_text(page, render(evaluation, detector))
    return page


def render(evaluation: Evaluation, detector: Detector) -> str:
    """Return the page that `write` writes, as HTML.

    Example:
        >>> render(evaluation, detector).splitlines()[0]
        '<!doctype html>'
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": _percent, "estimate": _estimate_percent}
    template = environment.from_string(
        files("pneumoscope.reporting").joinpath("templates/report.html.j2").read_text(encoding="utf-8")
    )
    wrong = evaluation.performance.confusion["fp"] + evaluation.performance.confusion["fn"]
    mistakes, scale = _mistakes(evaluation, detector)
    sure = [(sample, f) for sample, f in zip(evaluation.samples, evaluation.findings, strict=True) if not f.uncertain]
    right = sum(finding.finding == LABELS[sample.label] for sample, finding in sure)
    return template.render(
        evaluation=evaluation,
        performance=evaluation.performance,
        figures=evaluation.performance.figures,
        meanings=MEANINGS,
        drawings={name: svg and Markup(svg) for name, svg in figures.elements(evaluation).items()},  # noqa: S704 - ours
        patients=len({sample.patient for sample in evaluation.samples}),
        uncertain=metrics.wilson(len(evaluation.findings) - len(sure), len(evaluation.findings)),
        sure=len(sure),
        right=metrics.wilson(right, len(sure)),
        wrong=wrong,
        mistakes=mistakes,
        scale=scale,
        overlay=evidence_map,
        worst={name: shift for name in HEADLINE if (shift := worst_corruption(evaluation.corrupted, name))},
        failures=[
            (Path(finding.path).name or "an image in the archive", finding.error) for finding in evaluation.failures
        ],
        card=evaluation.card,
        held_out=_held_out(evaluation.card),
        recipe=_recipe(evaluation.card.recipe),
        parts=_parts(evaluation),
        many_parts=any(len(found) > 1 for found in evaluation.parts.values()),
    )


def _parts(evaluation: Evaluation) -> list[tuple[str, str, Group]]:
    """Return the grouping, name and figures of all images together, and then of each group."""
    whole = [("", "all", evaluation.whole)] if evaluation.whole else []
    named = (
        (by.replace("_", " "), name, part)
        for by, found in evaluation.parts.items()
        if len(found) > 1 or by == "view"
        for name, part in found.items()
    )
    return [*whole, *named]


def _mistakes(evaluation: Evaluation, detector: Detector) -> tuple[list[Mistake], float]:
    """Examine the worst mistakes again; return them with the common scale of their evidence maps."""
    wrong = evaluation.mistakes()
    again = list(detector.examine((sample.source for sample, _ in wrong), evidence=True))
    maps = [finding.evidence for finding in again if finding.evidence is not None]
    # A framed image has more cells than others, so the maps cannot be stacked.
    scale = max(map(evidence_map.scale_of, maps), default=evidence_map.FULL_LOGIT)
    return [_mistake(*pair, seen, scale) for pair, seen in zip(wrong, again, strict=True)], scale


def _mistake(sample: Sample, finding: Finding, again: Finding, scale: float) -> Mistake:
    image = evidence = None
    if again.evidence is not None:
        pixels = radiograph.read(sample.source).pixels
        plain, tinted = (
            evidence_map.draw(pixels, cells, scale=scale, max_side=THUMBNAIL, legend=False)
            for cells in (np.zeros_like(again.evidence), again.evidence)
        )
        image, evidence = evidence_map.data_address(plain), evidence_map.data_address(tinted)
    return Mistake(_name(sample), LABELS[sample.label], finding, sample.subtype, image, evidence)


def _name(sample: Sample) -> str:
    """Return an image's file name, or its place inside an archive."""
    return sample.path.name if sample.pixels is None else str(sample.path).rpartition("#")[2]


def _held_out(card: Card) -> dict[str, Estimate]:
    """Return the figures on held-out patients from the model's card; undefined ones are left out."""
    return {
        name: Estimate(**card.metrics[name])
        for name in ("auc", "sensitivity", "specificity")
        if card.metrics.get(name, {}).get("value") is not None
    }


def _recipe(recipe: dict[str, Any]) -> dict[str, str]:
    """Choose the most important values of a recipe."""
    names = ("init", "pooling", "head_epochs", "epochs", "learning_rate", "imbalance", "label_smoothing", "seed")
    chosen = {name.replace("_", " "): str(recipe[name]) for name in names if name in recipe}
    if changes := [name.replace("_", " ") for name, value in recipe.get("augmentation", {}).items() if value]:
        chosen["augmentation"] = ", ".join(changes)
    return chosen


def _percent(share: float) -> str:
    return "undefined" if np.isnan(share) else f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def _estimate_percent(estimate: Estimate) -> str:
    if np.isnan(estimate.value):
        return "undefined"
    return f"{_percent(estimate.value)} ({100 * estimate.low:.1f}–{100 * estimate.high:.1f})"
