"""Terminal tables that fit the width: names are folded and remarks wrapped, so that nothing is cut off."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pneumoscope.inference.finding import WARNINGS, Finding

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

WIDE = 160
"""The width in characters if the output is not a terminal, so that names are rarely folded."""

NARROWEST = 10
"""The least width of the column with the image names, however narrow the terminal is."""

UNCERTAIN = "The probability is in the uncertain band: do not rely on the finding."


def plain(*columns: str | Column, title: str | Text | None = None) -> Table:
    """Create a table with a line below its header and none between its columns.

    Example:
        >>> table = plain("figure", "value")
        >>> table.add_row("auc", "0.960")
        >>> console().print(table)  # doctest: +NORMALIZE_WHITESPACE
        figure value
        ─────────────
        auc    0.960
    """
    from rich import box
    from rich.table import Table

    return Table(
        *columns,
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def console(file: TextIO | None = None) -> Console:
    """Return a Rich console for a file or standard output, as wide as the terminal, or `WIDE`."""
    from rich.console import Console

    made = Console(file=file)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = WIDE
    return made


def print_findings(file: TextIO, findings: Sequence[Finding], truths: Sequence[str] = ()) -> None:
    """Print findings as a table, and below it once what each error and each remark in it means.

    Args:
        file: the file to print to.
        findings: the rows. The folder that all their images share becomes the title.
        truths: the true labels of the first findings, which are marked as correct or not.
    """
    from rich.cells import cell_len
    from rich.table import Column
    from rich.text import Text

    if not findings:
        return
    screen = console(file)
    shared = _shared_folder([finding.path for finding in findings if finding.error is None])
    names = [printable(_within(finding.path, shared)) for finding in findings]
    reasons = list(dict.fromkeys((f.error.kind, str(f.error)) for f in findings if f.error is not None))
    remarks = [_remarks(finding) for finding in findings]
    labels = [_label(finding, reasons, truths[i] if i < len(truths) else "") for i, finding in enumerate(findings)]
    others = [["probability"], ["finding", *(label.plain for label in labels)]]
    words = " ".join(["remarks", *remarks]).split()
    taken = [max(map(len, column)) for column in (*others, words)]
    room = screen.width - sum(taken) - 2 * len(taken)
    width = max(NARROWEST, min(room, max(map(cell_len, ["image", *names]))))
    table = plain(
        Column("image", width=width, overflow="fold"),
        Column("finding", no_wrap=True),
        Column("probability", no_wrap=True),
        "remarks",
        title=Text(f"images in {printable(shared)}", overflow="fold") if shared else None,
    )
    for i, finding in enumerate(findings):
        probability = "" if finding.probability is None else f"{finding.probability:.3f}"
        table.add_row(Text(names[i]), labels[i], Text(probability), Text(remarks[i], "yellow"))
    screen.print(table)
    if truths:
        _print_note(screen, "✓ ✗", "Whether the finding is correct.")
    for i, (_, message) in enumerate(reasons, start=1):
        _print_note(screen, f"[{i}]", message)
    if any(finding.uncertain for finding in findings):
        _print_note(screen, "uncertain:", UNCERTAIN)
    for warning in sorted({warning for finding in findings for warning in finding.warnings}):
        _print_note(screen, f"{_word(warning)}:", WARNINGS[warning])


def summary(counts: Counter[str]) -> str:
    """Return a line that summarises the findings.

    Args:
        counts: the number of images with each finding, with an `error` instead, and of those that are `uncertain`.

    Example:
        >>> summary(Counter(PNEUMONIA=7, NORMAL=9, error=2, uncertain=4))
        '18 images: 7 PNEUMONIA, 9 NORMAL, 4 of these uncertain; 2 without a finding.'
    """
    found = [f"{counts[label]:,} {label}" for label in ("PNEUMONIA", "NORMAL")]
    total = counts["PNEUMONIA"] + counts["NORMAL"] + counts["error"]
    text = f"{total:,} image{'s' if total != 1 else ''}: {', '.join(found)}"
    if counts["uncertain"]:
        text += f", {counts['uncertain']:,} of these uncertain"
    if counts["error"]:
        text += f"; {counts['error']:,} without a finding"
    return f"{text}."


def printable(text: str) -> str:
    r"""Escape control characters and bytes that are not UTF-8, so that a terminal can show a name.

    Example:
        >>> printable("a\nb")
        'a\\nb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _print_note(screen: Console, head: str, text: str) -> None:
    from rich.text import Text

    screen.print(Text.assemble((head, "bold"), f" {printable(text)}"), highlight=False)


def _shared_folder(paths: Sequence[str]) -> str:
    folders = [str(Path(path).parent) for path in paths]
    try:
        shared = os.path.commonpath(folders) if len(folders) > 1 else ""
    except ValueError:  # some are relative and some are not
        return ""
    return "" if shared == "." else shared


def _within(path: str, folder: str) -> str:
    return os.path.relpath(path, folder) if folder and Path(path).is_relative_to(folder) else path


def _label(finding: Finding, reasons: Sequence[tuple[str, str]], truth: str) -> Text:
    """Return the finding and whether it is correct, or the error and the number of its note."""
    from rich.text import Text

    if finding.error is not None:
        number = reasons.index((finding.error.kind, str(finding.error))) + 1
        return Text(f"{finding.error.kind} [{number}]", "red")
    label = Text(str(finding.finding), "dark_orange" if finding.finding == "PNEUMONIA" else "cyan")
    return label.append((" ✓" if finding.finding == truth else " ✗") if truth else "")


def _remarks(finding: Finding) -> str:
    return ", ".join([*(["uncertain"] if finding.uncertain else []), *map(_word, finding.warnings)])


def _word(warning: str) -> str:
    return warning.replace("_", " ")
