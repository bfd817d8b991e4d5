"""Files that are written completely or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pneumoscope.errors import UnsupportedError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file through a temporary one beside it, which replaces it if the block succeeds and is deleted otherwise.

    Args:
        path: the file to write; its folder must exist.

    Yields:
        The path of the temporary file.

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
    """Write text as UTF-8, replacing the file in one step; bytes of file names that are not UTF-8 are kept as they are.

    Example:
        >>> write_text(Path("notes.txt"), "seen")
    """
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8", errors="surrogateescape")


def check_folder(folder: Path) -> None:
    """Check, before the work starts, that results can be written to a folder or that it can be created.

    Nothing is created.

    Raises:
        UnsupportedError: the path or one of its parents is not a folder, or there is no permission to write.

    Example:
        >>> check_folder(Path())
    """
    there = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        reason = "is not writable" if there.is_dir() else "is not a folder"
        raise UnsupportedError(
            f"Expected a writable folder at '{folder}', but '{there}' {reason}: choose another folder."
        )
