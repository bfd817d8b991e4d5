"""Writes data sets of class folders, tables and archives."""

from __future__ import annotations

from pathlib import Path


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "images.CSV"
    path.write_bytes(text.encode(encoding))
    return path
