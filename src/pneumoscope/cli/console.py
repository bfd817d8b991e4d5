"""What the command line says on standard error while it works, and the tables it prints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID
    from rich.text import Text


LINE_SECONDS = 10.0


def say(text: str) -> None:
    """Print a line on standard error, as it is: names of images may look like markup."""
    _stderr().print(_plain(text), highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """Print on standard error what the user should know."""
    _stderr().print("[yellow]note:[/]", _plain(text), highlight=False, soft_wrap=True)


def error(kind: str, text: str) -> None:
    """Print on standard error why a command failed."""
    _stderr().print(f"[bold red]error[/] ({kind}):", _plain(text), highlight=False, soft_wrap=True)


@contextmanager
def progress() -> Iterator[Progress]:
    """Show progress bars with the time left on standard error, where that is a terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}", style="dim"),
    )
    stderr = _stderr()
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal) as bars:
        yield bars


def task(bars: Progress, what: str, total: int) -> Callable[[], None]:
    """Add a bar; the answer is called after each step."""
    bar = bars.add_task(what, total=total, figures="")
    return lambda: bars.advance(bar)


def growing_task(bars: Progress, what: str) -> Callable[[int | None], None]:
    """Add a bar; the answer is called after each step, with how many there are or None while that is being counted."""
    bar = bars.add_task(what, total=None, figures="", visible=False)
    return lambda total: bars.update(bar, advance=1, total=total, visible=total != 1)


def counter(bars: Progress, what: str) -> Callable[[int, int], None]:
    """Show how much of a whole is done; where there is no terminal, as a line every `LINE_SECONDS` and at the end."""
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
    """Show each named stretch of a training as a bar; where there is no terminal, a line for each that is done."""
    tasks: dict[str, TaskID] = {}

    def step(what: str, done: int, total: int, figures: Mapping[str, float]) -> None:
        text = "  ".join(f"{name} {value:.3f}" for name, value in sorted(figures.items()))
        if bars.disable and done == total:
            say(f"{what}: {total}  {text}")
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=total, figures="")
        bars.update(tasks[what], completed=done, total=total, figures=text)

    return step


def print_figures(figures: Mapping[str, Any], what: str) -> None:
    """Print figures with their intervals as a table on standard output."""
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "value (95 % interval)", title=what)
    for name, e in figures.items():
        table.add_row(name.replace("_", " "), str(e))
    Console().print(table)


def print_before_after(before: Mapping[str, Any], after: Mapping[str, Any], what: str) -> None:
    """Print two columns of figures with their intervals as a table on standard output."""
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "before (95 % interval)", "after", title=what)
    for name in ("auc", "sensitivity", "specificity", "balanced_accuracy", "ece", "brier", "uncertain"):
        table.add_row(name.replace("_", " "), str(before[name]), str(after[name]))
    Console().print(table)


def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def _plain(text: str) -> Text:
    from rich.text import Text

    return Text(text.encode("utf-8", "backslashreplace").decode("utf-8"))
