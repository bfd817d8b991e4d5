"""Decides the learning rate of each epoch, when a phase ends, and which epoch's weights are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pneumoscope.training.recipe import Recipe


def learning_rate(rows: Sequence[Mapping[str, Any]], recipe: Recipe) -> float:
    """Return the learning rate after `rows`: it is reduced after every `reduce_after` epochs without a better loss.

    Example:
        >>> recipe = Recipe(learning_rate=1e-3, reduce_after=2, reduce_by=0.1, schedule="plateau")
        >>> learning_rate([{"val_loss": 0.3}] * 3, recipe)
        0.0001
    """
    rate, best, waited = recipe.learning_rate, float("inf"), 0
    for row in rows:
        waited = 0 if row["val_loss"] < best else waited + 1
        best = min(best, row["val_loss"])
        if waited >= recipe.reduce_after:
            rate, waited = rate * recipe.reduce_by, 0
    return rate


def kept(rows: Sequence[Mapping[str, Any]], recipe: Recipe) -> int:
    """Return the epoch, from 1, whose weights are kept: that of the best validation loss, or the last with `cosine`.

    With a cosine schedule, a better epoch before the last is chance, and choosing by patients of the same hospital
    favours a network that has learnt its scanners.

    Example:
        >>> kept([{"val_loss": 0.3}, {"val_loss": 0.2}, {"val_loss": 0.4}], Recipe(schedule="plateau"))
        2
    """
    if recipe.schedule == "cosine":
        return len(rows)
    losses = [row["val_loss"] for row in rows]
    return losses.index(min(losses)) + 1


def reason(rows: Sequence[Mapping[str, Any]], recipe: Recipe) -> str:
    """Return which epoch's weights were kept, and why.

    Args:
        rows: the history, one row per epoch; empty if the recipe has no epochs.
        recipe: how the network was trained; the head's own epochs always keep the best validation loss.

    Example:
        >>> rows = [{"phase": "network", "epoch": e, "val_loss": loss} for e, loss in ((1, 0.3), (2, 0.2), (3, 0.4))]
        >>> reason(rows, Recipe(schedule="plateau"))
        'Kept: epoch 2 of 3, with the lowest validation loss, 0.2000.'
        >>> reason(rows, Recipe())
        'Kept: epoch 3 of 3, the last, when the learning rate has fallen to zero; its validation loss is 0.4000.'
    """
    if not rows:
        return "Kept: the initial weights, because the recipe has no epochs."
    if rows[-1]["phase"] == "head":
        recipe = replace(recipe, schedule="plateau")
    row = rows[kept(rows, recipe) - 1]
    why = (
        "the last, when the learning rate has fallen to zero; its validation loss is"
        if recipe.schedule == "cosine" and row["phase"] == "network"
        else "with the lowest validation loss,"
    )
    last = max(int(other["epoch"]) for other in rows if other["phase"] == row["phase"])
    part = "" if row["phase"] == "network" else f" of the {row['phase']}"
    return f"Kept: epoch {int(row['epoch'])} of {last}{part}, {why} {row['val_loss']:.4f}."


def should_stop(rows: Sequence[Mapping[str, Any]], recipe: Recipe) -> bool:
    """Return whether the last `stop_after` epochs brought no better validation loss.

    Example:
        >>> should_stop([{"val_loss": 0.3}] * 3, Recipe(stop_after=2, schedule="plateau"))
        True
    """
    if recipe.schedule == "cosine":
        return False
    losses = [row["val_loss"] for row in rows]
    return len(losses) > recipe.stop_after and min(losses[-recipe.stop_after :]) >= min(losses[: -recipe.stop_after])
