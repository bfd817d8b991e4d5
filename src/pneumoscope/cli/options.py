"""What several commands have in common: options, arguments, the data set that is fetched, an exit status."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pneumoscope.cli import console
from pneumoscope.errors import PneumoscopeError

SOME_FAILED = 3
"""Exit status where some files failed and the others are answered."""


ModelOption = Annotated[
    Path | None,
    typer.Option("--model", "-m", metavar="FILE", help="A model file; by default the one that comes along."),
]
DataArgument = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="A folder with [b]NORMAL/[/b] and [b]PNEUMONIA/[/b], with or without [b]train/ val/ test/[/b] above; a "
        "CSV file with path,label\\[,patient,site,view,age,boxes,split]; or a MedMNIST .npz.",
    ),
]


def fetched(name: str, dest: Path | None) -> Path:
    """Fetch a public data set with a progress bar; where that fails, say how it is done by hand."""
    from pneumoscope.data import sources

    source = sources.find(name)
    with console.progress() as bars:
        bar = bars.add_task(f"fetching {name}", total=source.bytes, figures="")
        try:
            return sources.fetch(
                name,
                dest,
                progress=lambda done, total: bars.update(bar, completed=done, total=total or source.bytes),
            )
        except PneumoscopeError:
            bars.stop()
            console.say(
                "By hand:\n" + "\n".join(f"  {i}. {step}" for i, step in enumerate(source.steps(dest), start=1))
            )
            raise
