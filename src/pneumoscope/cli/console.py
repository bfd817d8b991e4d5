"""Messages and progress on standard error, and tables on standard output."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pneumoscope.reporting import tables

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


LINE_SECONDS = 10.0
SHOWN = ("auc", "loss", "val_auc", "val_loss")


def say(text: str) -> None:
    """Print a line on standard error without interpreting markup, because names of images may look like it."""
    _print(text)


def note(text: str) -> None:
    """Print a note for the user on standard error."""
    _print(text, "note:", "yellow")


def error(kind: str, text: str) -> None:
    """Print on standard error why a command failed."""
    _print(f"({kind}): {text}", "error", "bold red")


@contextmanager
def progress() -> Iterator[Progress]:
    """Show progress bars with the remaining time on standard error, if it is a terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),  # the rest of the line
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("{task.fields[figures]}", style="dim"),
    )
    stderr = _stderr()
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal, expand=True) as bars:
        yield bars


def task(bars: Progress, what: str, total: int) -> Callable[[], None]:
    """Add a bar, and return a function to call after each step."""
    bar = bars.add_task(what, total=total, figures="")
    return lambda: bars.advance(bar)


def growing_task(bars: Progress, what: str) -> Callable[[int | None], None]:
    """Add a bar, and return a function to call after each step with the total, or None while that is unknown."""
    bar = bars.add_task(what, total=None, figures="", visible=False)
    return lambda total: bars.update(bar, advance=1, total=total, visible=total != 1)


def counter(bars: Progress, what: str) -> Callable[[int, int], None]:
    """Show how much is done as a bar, or without a terminal as a line every `LINE_SECONDS` and at the end."""
    bar: TaskID | None = None
    told = time.monotonic()

    def count(done: int, total: int) -> None:
        nonlocal bar, told
        if bar is None:
            bar = bars.add_task(what, total=total, figures="")
        bars.update(bar, completed=done, total=total)
        if bars.disable and (done == total or time.monotonic() - told > LINE_SECONDS):
            told = time.monotonic()
            say(f"{what}: {done:,} of {total:,}")

    return count


def steps(bars: Progress) -> Callable[[str, int, int, Mapping[str, float]], None]:
    """Show each named step as a bar, or without a terminal as a line when it is done.

    A line has all figures; a bar has room only for those in `SHOWN`.
    """
    tasks: dict[str, TaskID] = {}

    def step(what: str, done: int, total: int, figures: Mapping[str, float]) -> None:
        texts = {name: f"{name.replace('_', ' ')} {value:.3f}" for name, value in sorted(figures.items())}
        if bars.disable and done == total:
            say(f"{what}: {total:,}  {'  '.join(texts.values())}".rstrip())
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=total, figures="")
        text = "  ".join(texts[name] for name in SHOWN if name in texts)
        bars.update(tasks[what], completed=done, total=total, figures=text)

    return step


def print_figures(figures: Mapping[str, Any], what: str) -> None:
    """Print figures with their intervals as a table on standard output."""
    table = tables.plain("figure", "value (95 % interval)", title=what)
    for name, e in figures.items():
        table.add_row(name.replace("_", " "), str(e))
    tables.console().print(table)


def print_before_after(before: Mapping[str, Any], after: Mapping[str, Any], what: str) -> None:
    """Print two columns of figures with their intervals as a table on standard output."""
    table = tables.plain("figure", "before (95 % interval)", "after", title=what)
    for name in ("auc", "sensitivity", "specificity", "balanced_accuracy", "ece", "brier", "uncertain"):
        table.add_row(name.replace("_", " "), str(before[name]), str(after[name]))
    tables.console().print(table)


def _print(text: str, head: str = "", style: str = "") -> None:
    """Print on standard error, wrapping lines only between words on a terminal, so that paths can be copied."""
    from rich.text import Text

    stderr = _stderr()
    whole = f"{head} {text}".lstrip().encode("utf-8", "backslashreplace").decode("utf-8")
    if stderr.is_terminal:
        fit = textwrap.TextWrapper(stderr.width, break_long_words=False, break_on_hyphens=False).fill
        whole = "\n".join(map(fit, whole.splitlines()))
    line = Text(whole)
    line.stylize(style, 0, len(head))
    stderr.print(line, highlight=False, soft_wrap=True)


def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True)
