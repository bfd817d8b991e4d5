"""`jpeg`: a whole image is read whatever follows it; one that is cut is not, whatever follows it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pneumoscope.errors import UnreadableError
from pneumoscope.imaging.jpeg import alone
from pneumoscope.imaging.radiograph import read
from tests.conftest import drawn_image

IMAGE = Image.fromarray(drawn_image(1, seed=3, size=96))


def saved(progressive: bool = False, mode: str = "L") -> bytes:
    file = io.BytesIO()
    IMAGE.convert(mode).save(file, "JPEG", quality=90, progressive=progressive)
    return file.getvalue()


THUMBNAIL = saved()
AFTER = {
    "a cut thumbnail": THUMBNAIL[: len(THUMBNAIL) // 2],
    "a thumbnail": THUMBNAIL,
    "two thumbnails": THUMBNAIL * 2,
    "a motion image": b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 20,
    "zeros": bytes(1000),
    "markers": b"\xff\xda\xff\xd8\xff\xda",
    "a text": b"copied from the old archive",
}


@pytest.mark.parametrize("after", AFTER.values(), ids=AFTER)
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_what_follows_the_end_of_an_image_is_no_part_of_it(after: bytes, progressive: bool, mode: str) -> None:
    whole = saved(progressive, mode)
    assert alone(whole + after) == whole
    assert np.array_equal(read(whole + after).pixels, read(whole).pixels)


@pytest.mark.parametrize("after", [b"", *AFTER.values()], ids=["nothing", *AFTER])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_an_image_that_is_cut_is_unreadable_whatever_follows_it(after: bytes, progressive: bool, kept: float) -> None:
    whole = saved(progressive)
    with pytest.raises(UnreadableError):
        read(whole[: int(kept * len(whole))] + after)


def test_a_thumbnail_within_the_metadata_is_no_end() -> None:
    whole = saved()
    inside = b"\xff\xe1" + (len(THUMBNAIL) + 2).to_bytes(2, "big") + THUMBNAIL
    data = whole[:2] + inside + whole[2:]
    assert alone(data) == data
    assert np.array_equal(read(data).pixels, read(whole).pixels)
    with pytest.raises(UnreadableError):
        read(data[: -len(whole) // 2])
