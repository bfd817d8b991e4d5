"""The inputs of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pneumoscope.data.layouts import Sample
from pneumoscope.training.loop import Progress
from pneumoscope.training.recipe import Recipe


@dataclass(frozen=True)
class Job:
    """What to train on, how, and where to write the run.

    Attributes:
        data: anything that `layouts.load` takes, or a list of samples. Images of a `test` split are never read.
        out: the run's folder.
        recipe: how to train.
        resume: continue after the last finished epoch in `out`; the result equals that of an uninterrupted run.
        skip_unreadable: leave out images that cannot be read instead of raising an error.
        cache: a folder for a file that holds the decoded images instead of memory, 2 bytes per pixel; the result is the
            same. By default, images that do not fit into memory are kept in such a file in `out`.
        progress: called for every step.

    Example:
        >>> Job("chest_xray", Path("runs/first"), Recipe(epochs=5)).resume
        False
    """

    data: str | Path | Sequence[str | Path] | Sequence[Sample]
    out: Path
    recipe: Recipe = field(default_factory=Recipe)
    resume: bool = field(default=False, kw_only=True)
    skip_unreadable: bool = field(default=False, kw_only=True)
    cache: Path | None = field(default=None, kw_only=True)
    progress: Progress = field(default=lambda *_: None, kw_only=True)
