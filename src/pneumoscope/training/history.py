"""Writes the history of a training run as a table and as a plot."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pneumoscope.atomic import replacing

PANELS = (
    ("loss", "Loss (validation: unsmoothed, classes equally weighted)"),
    ("accuracy", "Accuracy at even odds"),
    ("auc", "Area under the ROC curve"),
)


def write(history: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Write `history.csv` and `curves.png` into a folder.

    Args:
        history: one row per epoch, with `phase`, `epoch`, `learning_rate`, and `loss`, `accuracy` and `auc` for
            training, and the same with the prefix `val_` for validation.
        out: the folder.

    Example:
        >>> figures = {"learning_rate": 1e-3, "loss": 0.5, "accuracy": 0.8, "auc": 0.9}
        >>> measured = {f"val_{name}": value for name, value in figures.items()}
        >>> write([{"phase": "network", "epoch": 1} | figures | measured], Path())
    """
    with replacing(out / "history.csv") as draft, draft.open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, fieldnames=list(dict.fromkeys(name for row in history for name in row)))
        rows.writeheader()
        rows.writerows(history)

    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    epochs = range(1, len(history) + 1)
    head = sum(row["phase"] == "head" for row in history)
    for axes, (name, title) in zip(figure.subplots(1, 3), PANELS, strict=True):
        axes.plot(epochs, [row[name] for row in history], "o-", color="#0072B2", label="training")
        axes.plot(epochs, [row[f"val_{name}"] for row in history], "s--", color="#D55E00", label="validation")
        if 0 < head < len(history):
            axes.axvline(head + 0.5, color="0.6", linewidth=1)
            for text, side in (("head ", "right"), (" network", "left")):
                axes.annotate(text, (head + 0.5, 0.02), xycoords=("data", "axes fraction"), ha=side, color="0.4")
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    figure.axes[0].legend(frameon=False)
    with replacing(out / "curves.png") as draft:
        figure.savefig(draft, dpi=120)
