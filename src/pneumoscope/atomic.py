"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a draft beside a file; it takes the file's place when the block ends well, and goes when it does not.

    Args:
        path: the file; its folder exists.

    Yields:
        Where to write.

    Example:
        >>> with replacing(Path("report.html")) as draft:  # doctest: +SKIP
        ...     draft.write_text("<html>...")
    """
    draft = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, replacing the file in one step; names of other bytes come out as they were.

    Example:
        >>> write_text(Path("notes.txt"), "seen")  # doctest: +SKIP
    """
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8", errors="surrogateescape")
