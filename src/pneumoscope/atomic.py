"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pneumoscope.errors import UnsupportedError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a draft beside a file; it takes the file's place when the block ends well, and goes when it does not.

    Args:
        path: the file; its folder exists.

    Yields:
        Where to write.

    Example:
        >>> with replacing(Path("report.html")) as draft:
        ...     draft.write_text("<html></html>")
        13
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
        >>> write_text(Path("notes.txt"), "seen")
    """
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8", errors="surrogateescape")


def check_folder(folder: Path) -> None:
    """Check that a folder can be written to, or made, before the work whose results go there; nothing is made.

    Raises:
        UnsupportedError: it is no folder, lies in what is none, or may not be written to.

    Example:
        >>> check_folder(Path())
    """
    there = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        reason = "may not be written to" if there.is_dir() else "is no folder"
        raise UnsupportedError(
            f"Expected a folder to write to at '{folder}', but '{there}' {reason}: name another place."
        )
