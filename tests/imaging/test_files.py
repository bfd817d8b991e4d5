"""What is read from a disk: the files below a folder, and what is no file that can be read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pneumoscope.errors import NotFoundError, TooLargeError, UnreadableError, UnsupportedError
from pneumoscope.imaging import radiograph
from pneumoscope.imaging.radiograph import MAX_BYTES, read
from tests.builders.images import EXACT, IMAGE, png

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize("name", ["image", "image.txt", "image.jpg", "image\n.png", "-", "日本.png", "image\udcff.png"])
def test_the_name_of_a_file_does_not_matter(tmp_path: Path, name: str) -> None:
    try:
        (tmp_path / name).write_bytes(png(IMAGE, 8))
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system rejects the name")
    assert np.abs(read(tmp_path / name).pixels - IMAGE / 255).max() < EXACT


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    for path in (tmp_path / "image.png", tmp_path / "no" / "image.png", "image\0.png"):
        with pytest.raises(NotFoundError, match="Expected "):
            read(path)


def test_an_empty_file_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "image.png").touch()
    for source in (tmp_path / "image.png", b""):
        with pytest.raises(UnreadableError, match="empty file: copy it again"):
            read(source)


def test_a_folder_is_unsupported(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="Expected a file, got a folder"):
        read(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_unsupported_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "image.png")
    with pytest.raises(UnsupportedError, match="got a pipe"):
        read(tmp_path / "image.png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_file_that_may_not_be_read_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(png(IMAGE, 8))
    (tmp_path / "image.png").chmod(0)
    with pytest.raises(UnreadableError, match=r"Permission denied.*check its permissions"):
        read(tmp_path / "image.png")


def test_a_link_to_itself_is_unreadable_and_permissions_are_not_blamed(tmp_path: Path) -> None:
    (tmp_path / "image.png").symlink_to(tmp_path / "image.png")
    with pytest.raises(UnreadableError, match="check its links"):
        read(tmp_path / "image.png")


def test_an_enormous_file_is_too_large_and_never_read(tmp_path: Path) -> None:
    with (tmp_path / "image.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # takes no room
    with pytest.raises(TooLargeError, match=r"at most 1,000,000,000 bytes, got 1,000,000,001"):
        read(tmp_path / "image.png")


def test_files_below_a_folder_are_listed_in_order_without_the_hidden_ones(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/10.png", "a.dcm", "Thumbs.db", ".hidden", ".git/x", "__MACOSX/y", "notes.txt", "c/d/e"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in radiograph.files(tmp_path)]
    assert found == ["a.dcm", "notes.txt", "b/10.png", "b/2.png", "c/d/e"]
    assert list(radiograph.files(str(tmp_path))) == list(radiograph.files(tmp_path))


def test_what_is_no_folder_is_listed_as_it_is(tmp_path: Path) -> None:
    assert list(radiograph.files(tmp_path / "missing.png")) == [tmp_path / "missing.png"]
    assert list(radiograph.files(tmp_path)) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_opened_is_listed_so_that_reading_it_tells(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    assert list(radiograph.files(tmp_path)) == [tmp_path / "closed"]
    with pytest.raises(UnsupportedError, match="check its permissions"):
        read(tmp_path / "closed")


def test_images_behind_links_are_listed_and_a_loop_ends(tmp_path: Path) -> None:
    (tmp_path / "images" / "deep").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "linked.png").touch()
    (tmp_path / "images" / "own.png").touch()
    (tmp_path / "images" / "link").symlink_to(tmp_path / "other")
    (tmp_path / "images" / "deep" / "loop").symlink_to(tmp_path / "images")
    assert sorted(path.name for path in radiograph.files(tmp_path / "images")) == ["linked.png", "own.png"]
