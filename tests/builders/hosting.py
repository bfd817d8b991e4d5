"""What a test's server holds, and how it misbehaves."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

NOISE = np.random.default_rng(0).bytes(400_000)
"""Like a JPEG, it does not shrink in a zip."""


@dataclass
class Host:
    """What the server on this machine serves, how it misbehaves, and what it was asked."""

    content: bytes = NOISE
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"first"'})
    ranges: bool = True
    status: int = 200
    cuts: list[int] = field(default_factory=list)  # bytes after which each of the next answers breaks off
    asked: list[dict[str, str]] = field(default_factory=list)
    url: str = ""


def zipped(path: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def tree(folder: Path) -> set[str]:
    """Every file and folder below, hidden ones too."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
