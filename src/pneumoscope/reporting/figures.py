"""Draws the curves of an evaluation: for a page, in its colours, and as files for a publication."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from pneumoscope.atomic import replacing
from pneumoscope.data.layouts import LABELS
from pneumoscope.evaluation.evaluate import Evaluation
from pneumoscope.imaging.radiograph import CURVE_SUFFIXES
from pneumoscope.metrics.metrics import ECE_BINS, Estimate, wilson


@dataclass(frozen=True)
class Palette:
    """The colours of a drawing: of lines and text, of the two classes, and of the background."""

    ink: str
    normal: str
    pneumonia: str
    card: str


PRINT = Palette("#1a1d21", "#0068a8", "#b94f00", "#ffffff")
"""The colours for files."""

_PAGE = Palette("#101112", "#101113", "#101114", "#101115")
_PAGE_COLOURS = {
    _PAGE.ink: "currentColor",
    _PAGE.normal: "var(--normal)",
    _PAGE.pneumonia: "var(--pneumonia)",
    _PAGE.card: "var(--card)",
}
"""Matplotlib draws with placeholders that are replaced by the page's CSS colours, to follow light and dark mode."""


class Drawing(NamedTuple):
    """A figure and its text alternative."""

    figure: Figure
    label: str


DOTS_PER_INCH = 200
"""The resolution of the files, in which a curve is 960 pixels wide."""

_COUNTS = (0, 2, 10, 50, 200, 1000, 5000, 20_000, 100_000)


def _style(palette: Palette) -> dict[Any, Any]:
    return {
        "svg.fonttype": "none",  # text can be selected and searched
        "font.size": 10,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "axes.edgecolor": palette.ink,
        "axes.labelcolor": palette.ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.color": palette.ink,
        "xtick.color": palette.ink,
        "ytick.color": palette.ink,
        "grid.color": palette.ink,
        "grid.alpha": 0.15,
        "axes.grid": True,
        "axes.axisbelow": True,
    }


def elements(evaluation: Evaluation) -> dict[str, str | None]:
    """Draw every curve for a page.

    Returns:
        An `<svg>` element for the name of each of `CURVES`; None if it is undefined, as with images of one class.
    """
    with matplotlib.rc_context(_style(_PAGE)):
        drawn = {name: draw(evaluation, _PAGE) for name, draw in CURVES.items()}
        return {name: drawing and _element(drawing, name) for name, drawing in drawn.items()}


def save(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write every curve that is defined into a folder, as `NAME.curve.png` and `NAME.curve.svg`.

    Returns:
        The files that were written.
    """
    files = []
    with matplotlib.rc_context(_style(PRINT)):
        for name, draw in CURVES.items():
            if (drawing := draw(evaluation, PRINT)) is None:
                continue
            for suffix in CURVE_SUFFIXES:
                target = folder / f"{name}{suffix}"
                with replacing(target) as draft, matplotlib.rc_context({"svg.hashsalt": name}):
                    drawing.figure.savefig(
                        draft,
                        format=suffix.rpartition(".")[2],
                        dpi=DOTS_PER_INCH,
                        facecolor=PRINT.card,
                        metadata={"Date": None} if suffix.endswith(".svg") else None,
                    )
                files.append(target)
    return files


def _roc(evaluation: Evaluation, palette: Palette) -> Drawing | None:
    """Draw the receiver operating characteristic, with the operating point and its Wilson intervals."""
    if not _both_classes(evaluation):
        return None
    figures = evaluation.performance.figures
    sensitivity, specificity, auc = (figures[name] for name in ("sensitivity", "specificity", "auc"))
    false_alarms, found, _ = roc_curve(evaluation.labels, evaluation.probabilities)
    figure = Figure(figsize=(4.8, 4.4), layout="constrained")
    axes = figure.subplots()
    # The curve of a good detector lies in one corner, which the inset magnifies five times.
    panels = [axes, axes.inset_axes((0.36, 0.12, 0.6, 0.6))] if auc.low > 0.9 else [axes]
    for panel in panels:
        panel.plot([0, 1], [0, 1], "--", color=palette.ink, alpha=0.4, linewidth=1)
        panel.plot(false_alarms, found, color=palette.pneumonia, linewidth=1.8, drawstyle="steps-post")
        panel.errorbar(
            1 - specificity.value,
            sensitivity.value,
            xerr=_arms(specificity)[::-1],
            yerr=_arms(sensitivity),
            fmt="o",
            color=palette.ink,
            markersize=5,
            linewidth=1,
        )
    if len(panels) == 2:
        panels[1].set(
            xlim=(0, 0.2), ylim=(0.8, 1.003), xticks=(0, 0.1, 0.2), yticks=(0.8, 0.9, 1.0), facecolor=palette.card
        )
        panels[1].tick_params(labelsize=8)
    _unit(axes, "1 − specificity: normals called pneumonia", "sensitivity: pneumonias found")
    return Drawing(figure, f"ROC curve, area {auc}; operating point at the threshold.")


def _precision_recall(evaluation: Evaluation, palette: Palette) -> Drawing | None:
    """Draw precision over recall, with the operating point and the prevalence, which is the chance level."""
    if not _both_classes(evaluation):
        return None
    performance = evaluation.performance
    precision, recall, _ = precision_recall_curve(evaluation.labels, evaluation.probabilities)
    prevalence = performance.positives / performance.n
    figure = Figure(figsize=(4.8, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.axhline(prevalence, color=palette.ink, alpha=0.4, linewidth=1, linestyle="--")
    axes.annotate(f"prevalence {prevalence:.2f}", (0.02, prevalence), (0, 3), textcoords="offset points", va="bottom")
    axes.plot(recall, precision, color=palette.pneumonia, linewidth=1.8, drawstyle="steps-post")
    point = performance.figures["sensitivity"].value, performance.figures["ppv"].value
    axes.plot(*point, "o", color=palette.ink, markersize=5)
    _unit(axes, "recall: pneumonias found", "precision: of those called pneumonia, truly so")
    area = performance.figures["average_precision"]
    return Drawing(figure, f"Precision-recall curve, average precision {area}, prevalence {prevalence:.2f}.")


def _reliability(evaluation: Evaluation, palette: Palette) -> Drawing:
    """Draw the share of pneumonias over the probability, bin by bin, with Wilson intervals and counts."""
    y, p = evaluation.labels, evaluation.probabilities
    bins = np.minimum((p * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    count = np.bincount(bins, minlength=ECE_BINS)
    figure = Figure(figsize=(4.8, 4.4), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    axes.plot([0, 1], [0, 1], "--", color=palette.ink, alpha=0.4, linewidth=1)
    for i in np.flatnonzero(count):
        share = wilson(int(y[bins == i].sum()), int(count[i]))
        mean = p[bins == i].mean()
        axes.errorbar(mean, share.value, _arms(share), fmt="o", color=palette.pneumonia, markersize=5, linewidth=1.4)
    bars = below.bar((np.arange(ECE_BINS) + 0.5) / ECE_BINS, count, 0.08, color=palette.ink, alpha=0.35)
    below.bar_label(bars, [f"{n:,}" for n in count], fontsize=8, padding=1)
    below.set(xlabel="probability of pneumonia", ylabel="images", yticks=[])
    below.margins(y=0.4)
    _unit(axes, "", "share that shows pneumonia")
    ece = evaluation.performance.figures["ece"]
    return Drawing(figure, f"Reliability diagram, expected calibration error {ece}.")


def _histogram(evaluation: Evaluation, palette: Palette) -> Drawing:
    """Draw the distribution of the probabilities of each class, with the threshold and the uncertain band."""
    fitted = evaluation.card.calibration
    figure = Figure(figsize=(4.8, 4.4), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True, sharey=True)
    for label, axes in enumerate(panels):
        counts, edges = np.histogram(evaluation.probabilities[evaluation.labels == label], bins=25, range=(0, 1))
        axes.stairs(counts, edges, fill=True, color=(palette.normal, palette.pneumonia)[label])
        axes.axvspan(fitted.uncertain_low, fitted.uncertain_high, color=palette.ink, alpha=0.15, linewidth=0)
        axes.axvline(fitted.threshold, color=palette.ink, linewidth=1.2)
        axes.set_title(
            f"truth {LABELS[label]}, {counts.sum():,} images",
            color=(palette.normal, palette.pneumonia)[label],
            fontsize=10,
            loc="left",
        )
        # A square-root scale keeps single images visible beside hundreds, and starts at zero.
        axes.set_yscale("function", functions=(lambda n: np.sqrt(np.maximum(n, 0)), np.square))
        axes.set(xlim=(0, 1), ylabel="images")
    top = panels[0].get_ylim()[1]
    panels[1].set(xlabel="probability of pneumonia", yticks=[t for t in _COUNTS if t <= top and not 0 < t < top / 40])
    return Drawing(figure, "Histograms of the probabilities of normal images and of pneumonias.")


def _corrupted(evaluation: Evaluation, palette: Palette) -> Drawing | None:
    """Draw sensitivity and specificity under each corruption, with their Wilson intervals."""
    if not evaluation.corrupted or not _both_classes(evaluation):
        return None
    names = list(evaluation.corrupted)
    figure = Figure(figsize=(7.2, 0.3 * len(names) + 1), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(names))
    for figure_name, colour, marker, nudge in (
        ("sensitivity", palette.pneumonia, "o", -0.15),
        ("specificity", palette.normal, "s", 0.15),
    ):
        estimates = [evaluation.corrupted[name].figures[figure_name] for name in names]
        arms = np.hstack([_arms(estimate) for estimate in estimates])
        axes.errorbar(
            [estimate.value for estimate in estimates],
            rows + nudge,
            xerr=arms,
            fmt=marker,
            color=colour,
            markersize=4.5,
            linewidth=1.2,
            label=figure_name,
        )
    axes.set(ylim=(len(names) - 0.4, -0.6), yticks=rows, yticklabels=["as they are", *names[1:]])
    axes.set_xlim(right=1.005)
    axes.grid(visible=False, axis="y")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    return Drawing(figure, "Sensitivity and specificity under each corruption; the table below has the numbers.")


def _both_classes(evaluation: Evaluation) -> bool:
    return 0 < evaluation.performance.positives < evaluation.performance.n


def _arms(estimate: Estimate) -> NDArray[np.float64]:
    """Return the lengths of an interval's lower and upper arm (2, 1), which rounding must not make negative."""
    return np.maximum([[estimate.value - estimate.low], [estimate.high - estimate.value]], 0.0)


def _unit(axes: Axes, x: str, y: str) -> None:
    ticks = np.linspace(0, 1, 6)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=ticks, yticks=ticks, xlabel=x, ylabel=y)


CURVES: Mapping[str, Callable[[Evaluation, Palette], Drawing | None]] = {
    "roc": _roc,
    "precision_recall": _precision_recall,
    "reliability": _reliability,
    "histogram": _histogram,
    "corrupted": _corrupted,
}


def _element(drawing: Drawing, name: str) -> str:
    """Return a drawing as a reproducible SVG element that can be placed in a page with others."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):  # the salt makes the ids of each figure unique
        bare = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        drawing.figure.savefig(text, format="svg", metadata=bare)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace("xlink:href", "href")
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"| id="[\w.]+_\d+"|<style.*?</style>', "", svg, flags=re.DOTALL)
    for placeholder, colour in _PAGE_COLOURS.items():
        svg = svg.replace(placeholder, colour)
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(drawing.label)}"', 1)
