"""Findings written one by one: however many there are, few are in memory."""

from __future__ import annotations

import csv
import json
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
import pytest

from pneumoscope.inference.finding import Finding
from pneumoscope.reporting import tables, writers


def findings(n: int) -> Iterator[Finding]:
    for i in range(n):
        evidence = np.zeros((14, 14), np.float32)
        yield Finding(f"/images/{i:06d}.png", i / n, "NORMAL", False, 0.5, ("dark",), evidence=evidence)


def memory() -> int:
    """Give the bytes that this process has in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


@pytest.mark.parametrize("style", ["json", "csv"])
def test_a_hundred_thousand_rows_take_no_more_memory_than_a_few(style: str, tmp_path: Path) -> None:
    with writers.writer(style, tmp_path / "rows") as write:
        for i, finding in enumerate(findings(100_000)):
            write(finding)
            if i == 10_000:
                before = memory()
        assert memory() < before + 10_000_000  # kept, the findings would be over 100 MB


def test_a_table_is_held_a_page_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "ROWS", 20)
    held: list[int] = []
    printed = tables.print_findings

    def counted(file: TextIO, rows: Sequence[Finding]) -> None:
        held.append(len(rows))
        printed(file, rows)

    monkeypatch.setattr(tables, "print_findings", counted)
    with writers.writer("table", tmp_path / "table") as write:
        for finding in findings(90):
            write(finding)
    assert held == [20, 20, 20, 20, 10]


def test_each_row_is_written_once_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "ROWS", 4)
    for style in ("json", "csv", "table"):
        with writers.writer(style, tmp_path / style) as write:
            for finding in findings(10):
                write(finding)
    names = [finding.path for finding in findings(10)]
    assert [json.loads(line)["path"] for line in (tmp_path / "json").read_text().splitlines()] == names
    with (tmp_path / "csv").open() as file:
        assert [row["path"] for row in csv.DictReader(file)] == names
    table = (tmp_path / "table").read_text()
    assert [word for word in table.split() if word.endswith(".png")] == [Path(name).name for name in names]
    assert table.count("images in /images") == 3
