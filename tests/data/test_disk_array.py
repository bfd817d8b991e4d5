"""Images too many for memory: read back as they were, in a file that leaves nothing behind."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pneumoscope.data import disk_array, splits
from pneumoscope.data.disk_array import Stored
from pneumoscope.data.layouts import Sample
from pneumoscope.errors import TrainingError
from tests.conftest import SIZE, drawn_image

ROWS = np.random.default_rng(0).random((7, 4, 3)).astype(np.float16)


@pytest.fixture
def filled(tmp_path: Path) -> Stored:
    rows = Stored(tmp_path, ROWS.shape)
    for i, row in enumerate(ROWS):
        rows[i] = row
    return rows


def test_what_was_stored_is_read_as_it_was(filled: Stored) -> None:
    chosen = np.array([5, 0, 0, 3])
    assert np.array_equal(filled[chosen], ROWS[chosen])
    assert np.array_equal(filled[2:6], ROWS[2:6])
    assert np.array_equal(filled[4], ROWS[4])
    assert np.array_equal(np.stack(list(filled)), ROWS)
    assert np.array_equal(np.asarray(filled, dtype=np.float32), ROWS.astype(np.float32))
    assert (len(filled), filled.shape, filled.dtype) == (7, ROWS.shape, ROWS.dtype)


def test_a_part_of_a_part_reads_the_same_file(filled: Stored) -> None:
    part = filled.take(np.array([6, 1, 4])).take(slice(1, 3))
    assert part.shape == (2, 4, 3)
    assert np.array_equal(part[:], ROWS[[1, 4]])
    assert filled.shape == ROWS.shape


def test_the_file_has_no_name_so_a_killed_training_leaves_none(filled: Stored) -> None:
    assert list(filled.folder.iterdir()) == []
    assert len(filled[:]) == 7


def test_a_folder_without_room_is_rejected_before_anything_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(TrainingError, match=r"0\.0 GB[\s\S]*another folder"):
        Stored(tmp_path, (10, 8, 8))


def test_a_folder_that_is_not_there_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="No such file"):
        Stored(tmp_path / "nowhere", (1, 2, 2))


def test_images_in_a_file_are_the_images_in_memory(tmp_path: Path) -> None:
    images = [Sample(Path(f"{i}.png"), i % 2, f"p{i // 3}", pixels=drawn_image(i % 2, i)) for i in range(12)]
    images.insert(4, Sample(tmp_path / "broken.png", 0, "p9"))
    in_memory, in_file = splits.decode(images, SIZE), splits.decode(images, SIZE, folder=tmp_path)
    assert isinstance(in_file.pixels, Stored)
    assert np.array_equal(in_file.pixels, in_memory.pixels)
    assert np.array_equal(in_file.groups, in_memory.groups)
    assert in_file.fingerprint() == in_memory.fingerprint()
    assert [image for image, _ in in_file.failures] == [images[4]]
    chosen = np.array([8, 2])
    assert np.array_equal(in_file.take(chosen).pixels, in_memory.take(chosen).pixels)


def test_images_are_too_many_by_what_memory_there_is() -> None:
    assert not disk_array.too_many((100, 64, 64))
    assert disk_array.too_many((10**9, 1024, 1024))
