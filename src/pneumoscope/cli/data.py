"""The commands about data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pneumoscope.atomic import check_folder
from pneumoscope.cli import console
from pneumoscope.cli.options import (
    SOME_FAILED,
    ClassesOption,
    DataArgument,
    LabelsLikeOption,
    ModelOption,
    OtherOption,
    labelled,
)
from pneumoscope.errors import PneumoscopeError


def audit(
    data: DataArgument,
    classes: ClassesOption = None,
    other: OtherOption = None,
    labels_like: LabelsLikeOption = None,
    model: ModelOption = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write audit.json and audit.html.")] = Path("audit"),
) -> None:
    """Find what is wrong with a data set before you train on it.

    It looks for copies, leaks between splits, shortcuts and masks. The exit status is 0 whatever it finds, or 3 if some
    images could not be read.

    \b
    $ pneumoscope audit chest_xray/
    """
    from pneumoscope.auditing import audit as audits
    from pneumoscope.data import layouts
    from pneumoscope.inference.detector import Detector
    from pneumoscope.reporting import audit_page

    check_folder(out)
    images = layouts.load(data, complete=False, **labelled(classes, other, labels_like))
    detector = Detector(model)
    with console.progress() as bars:
        step = console.steps(bars)
        found = audits.audit(
            images,
            lambda what, done, total: step(what, done, total, {}),
            reject=detector.rejection,
            at_least=detector.card.input_size,
        )
    page = audit_page.write(found, out)
    audit_page.show(found)
    console.say(f"{audit_page.summary(found)} The whole audit, with images: {page}")
    if found.failures:
        raise typer.Exit(SOME_FAILED)


def fetch(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A data set; without a name, they are listed.")
    ] = None,
    dest: Annotated[Path | None, typer.Option(metavar="DIR", help="The folder to put it in.")] = None,
) -> None:
    """Download a public data set, verify it, and resume after a break.

    \b
    $ pneumoscope fetch
    $ pneumoscope fetch samples --dest images
    """
    from pneumoscope.data import sources

    if name is None:
        _print_sources()
        return
    console.say(sources.find(name).credit)
    typer.echo(str(_fetched(name, dest)))


def _fetched(name: str, dest: Path | None) -> Path:
    """Fetch a public data set with a progress bar; if that fails, print the manual steps."""
    from pneumoscope.data import fetching, sources

    source = sources.find(name)
    with console.progress() as bars:
        bar = bars.add_task(f"fetching {name}", total=source.bytes, figures="")
        try:
            return fetching.fetch(
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


def _print_sources() -> None:
    from pneumoscope.data import sources
    from pneumoscope.reporting import tables

    table = tables.plain("name", "what", "images", "size", "licence")
    for source in sources.SOURCES.values():
        size = f"{source.bytes / 1e6:,.0f} MB"
        table.add_row(source.name, source.title, f"{source.images:,}", size, source.licence)
    tables.console().print(table)
    typer.echo(f"\n{len(sources.SOURCES)} data sets: `pneumoscope fetch NAME` fetches one.")
