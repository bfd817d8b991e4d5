"""An audit for people to read, on the console and as one page that needs nothing beside it, and for programs."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined
from PIL import Image

from pneumoscope.atomic import write_text
from pneumoscope.auditing import duplicates, issues, shortcuts
from pneumoscope.auditing.result import SEVERITIES, Audit, Group
from pneumoscope.data.layouts import LABELS, Sample
from pneumoscope.errors import PneumoscopeError
from pneumoscope.imaging import radiograph
from pneumoscope.metrics import metrics
from pneumoscope.metrics.metrics import Estimate
from pneumoscope.reporting import evidence_map, tables

THUMBNAIL = 220
"""The longest side of a thumbnail, in pixels."""

GROUPS_SHOWN = 12
"""The most groups of copies of each kind that are shown; `audit.json` lists them all."""

IMAGES_SHOWN = 4
"""The most images of a group that are shown."""

ROWS_SHOWN = 100
"""The most rows in the tables of files and patients."""

_COLOURS = {"critical": "bold red", "warning": "yellow", "note": "cyan"}


@dataclass(frozen=True)
class Shown:
    """An image to show; `image` is a `data:` URL, or None if it can no longer be read."""

    name: str
    truth: str
    split: str | None
    image: str | None


def write(audit: Audit, out: str | os.PathLike[str]) -> Path:
    """Write `audit.json` and `audit.html` into a folder, each in one step.

    The page holds everything it shows and asks no other host for anything. It names images from the folder on that they
    all lie in, and patients not at all.

    Args:
        audit: what `audit.audit` gave.
        out: the folder, made where there is none.

    Returns:
        The path of `audit.html`.

    Example:
        >>> write(audited, "audit")
        PosixPath('audit/audit.html')
    """
    html = render(audit)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "audit.json", json.dumps(audit.as_dict(), indent=2, allow_nan=False) + "\n")
    page = out / "audit.html"
    write_text(page, html)
    return page


def show(audit: Audit) -> None:
    """Print the number of images of each class and split, and the faults, the most serious first.

    Example:
        >>> show(audited)  # doctest: +SKIP
    """
    from rich.table import Table
    from rich.text import Text

    table = tables.plain("split", *LABELS, "unreadable", "share of pneumonias (95 % interval)")
    for split in audit.splits:
        parts = [audit.part(split, label) for label in (0, 1)]
        counts = [f"{part.images:,}" for part in parts]
        table.add_row(split or "all", *counts, f"{sum(part.unreadable for part in parts):,}", str(audit.share(split)))
    console = tables.console()
    console.print(table)
    listed = Table.grid(padding=(0, 2))
    for fault in audit.faults:
        advice = Text(f"\n{fault.advice}", "dim")
        listed.add_row("")
        listed.add_row(Text(fault.severity, _COLOURS[fault.severity]), Text(fault.text).append_text(advice))
    console.print(listed)


def summary(audit: Audit) -> str:
    """Return a line with the number of faults of each severity.

    Example:
        >>> summary(audit.audit(layouts.load("chest_xray")))  # doctest: +SKIP
        '131 images: no critical fault, 3 warnings, 1 note.'
    """
    counts = Counter(fault.severity for fault in audit.faults)
    found = ", ".join(
        f"{counts[severity] or 'no'} {word}{'' if counts[severity] < 2 else 's'}"
        for severity, word in zip(SEVERITIES, ("critical fault", "warning", "note"), strict=True)
    )
    return f"{len(audit.samples):,} images: {found}."


def render(audit: Audit) -> str:
    """Return the page that `write` writes, as HTML.

    Example:
        >>> render(audited).splitlines()[0]
        '<!doctype html>'
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": _percent, "number": _number, "place": _place}
    template = environment.from_string(
        files("pneumoscope.reporting").joinpath("templates/audit.html.j2").read_text(encoding="utf-8")
    )
    name = _namer(audit.samples)
    varying = [s for s in audit.shortcuts if s.grade not in ("constant", "one class only")]
    return template.render(
        audit=audit,
        faults=audit.faults,
        labels=LABELS,
        wilson=metrics.wilson,
        name=name,
        kinds=[
            (
                "identical",
                "Identical images",
                "Equal to the pixel once decoded, whatever their names and formats.",
                audit.identical,
                _shown(audit.identical, name),
            ),
            (
                "near",
                "Near-duplicates",
                "Not equal, and yet one image: re-encoded, resized, brightened, cropped, turned a little, padded or "
                f"mirrored. Their detail correlates by {duplicates.LIMIT} or more once one is laid over the other.",
                audit.near,
                _shown(audit.near, name),
            ),
        ],
        varying=varying,
        rest=[s for s in audit.shortcuts if s not in varying],
        features=shortcuts.FEATURES,
        patients=[
            ("Patients with images in several splits", audit.patients_across_splits),
            ("Patients with images of both labels", audit.patients_across_labels),
        ],
        known=sum(map(issues.patient_known, audit.samples)),
        limit=duplicates.LIMIT,
        side=duplicates.SIDE,
        strong=shortcuts.STRONG,
        weak=shortcuts.WEAK,
        rows=ROWS_SHOWN,
        images_shown=IMAGES_SHOWN,
    )


def _namer(samples: Sequence[Sample]) -> Callable[[Sample], str]:
    """Return an image's path relative to the folder that all images share, or its place inside an archive."""
    try:
        root: Path | str = os.path.commonpath([sample.path.parent for sample in samples])
    except ValueError:  # some on another drive, or some absolute and some relative
        root = ""

    def name(sample: Sample) -> str:
        if sample.pixels is not None:
            return str(sample.path).rpartition("#")[2]
        return os.path.relpath(sample.path, root) if root else str(sample.path)

    return name


def _shown(groups: Sequence[Group], name: Callable[[Sample], str]) -> list[tuple[Group, list[Shown]]]:
    """Choose the groups to show: the most serious first, then the least similar, which a reader may doubt."""
    worst = sorted(groups, key=lambda group: ("labels" not in group.across, "splits" not in group.across, group.alike))
    return [
        (group, [Shown(name(f), LABELS[f.label], f.split, _image(f)) for f in group.samples[:IMAGES_SHOWN]])
        for group in worst[:GROUPS_SHOWN]
    ]


def _image(sample: Sample) -> str | None:
    try:
        pixels = radiograph.read(sample.source).pixels
    except PneumoscopeError:
        return None
    image = Image.fromarray(np.uint8(np.round(255 * pixels)))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return evidence_map.data_address(image)


def _percent(e: Estimate) -> str:
    return "none" if np.isnan(e.value) else f"{100 * e.value:.1f} % ({100 * e.low:.1f}–{100 * e.high:.1f})"


def _number(value: float) -> str:
    """Format a number with three digits, or with thousands separators.

    Example:
        >>> _number(1234567.0), _number(0.123456)
        ('1,234,567', '0.123')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _place(value: float, scale: tuple[float, float]) -> str:
    """Return the position of a value on a scale, as a percentage for CSS."""
    low, high = scale
    return f"{100 * min(max((value - low) / ((high - low) or 1.0), 0.0), 1.0):.1f}%"
