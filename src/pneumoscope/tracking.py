"""Trainings told to a tracker: recipe, curves, figures and the model, by the tracker's own client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Tracker:
    """Is told of a training, and here keeps none of it."""

    def began(self, recipe: Mapping[str, Any], fingerprint: str) -> None:
        """Take a recipe and the fingerprint of the films."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Take a row of the history."""

    def finished(self, model: Path, figures: Mapping[str, Any]) -> None:
        """Take the model file, what lies beside it, and the figures of the held-out patients with their intervals."""


@contextmanager
def to(kind: str | None, place: str | None, out: Path) -> Iterator[Tracker]:
    """Give a tracker."""
    yield Tracker()
