"""What a training is asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pneumoscope.data.layouts import Sample
from pneumoscope.training.loop import Progress
from pneumoscope.training.recipe import Recipe


@dataclass(frozen=True)
class Job:
    """What is trained on, how, and where the run goes.

    Attributes:
        data: what `layouts.load` takes, or images. Images of a `test` split are never read.
        out: the run's folder.
        recipe: how to train.
        resume: go on after the last finished epoch in `out`; the result equals that of a run without a break.
        skip_unreadable: leave out images that cannot be read instead of rejecting to train.
        cache: a folder for a file that holds the decoded images instead of memory, 2 bytes a pixel; the result is the
            same. Without one, images too many for memory are kept so in `out`.
        progress: told of every step.

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
