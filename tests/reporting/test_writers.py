"""Findings written one by one: however many there are, few are in memory."""

from __future__ import annotations

import csv
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pneumoscope.inference.detector import Finding
from pneumoscope.reporting import writers


def findings(n: int) -> Iterator[Finding]:
    for i in range(n):
        evidence = np.zeros((14, 14), np.float32)
        yield Finding(f"/images/{i:06d}.png", i / n, "NORMAL", False, 0.5, ("dark",), evidence=evidence)


def most_memory(style: str, n: int, output: Path) -> int:
    """Write n findings and give the most bytes that this took."""
    tracemalloc.start()
    try:
        with writers.writer(style, output) as write:
            for finding in findings(n):
                write(finding)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("style", "n"), [("json", 100_000), ("csv", 100_000), ("table", 1_000)])
def test_memory_does_not_grow_with_the_rows(
    style: str, n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "ROWS", 100)
    few = most_memory(style, n // 5, tmp_path / "few")
    assert most_memory(style, n, tmp_path / "many") < few + 200_000


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
