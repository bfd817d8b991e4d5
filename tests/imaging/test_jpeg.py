"""`jpeg`: a whole image is read whatever follows it; one that is cut is not, whatever follows it."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFile

from pneumoscope.errors import UnreadableError
from pneumoscope.imaging.jpeg import MOST_LEFT_OVER, alone
from pneumoscope.imaging.radiograph import read
from tests.builders.images import COLOUR, IMAGE, saved
from tests.conftest import drawn_image

CHEST = Image.fromarray(drawn_image(1, seed=3, size=96))


def written(progressive: bool = False, mode: str = "L") -> bytes:
    file = io.BytesIO()
    CHEST.convert(mode).save(file, "JPEG", quality=90, progressive=progressive)
    return file.getvalue()


THUMBNAIL = written()
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
    whole = written(progressive, mode)
    assert alone(whole + after) == whole
    assert np.array_equal(read(whole + after).pixels, read(whole).pixels)


@pytest.mark.parametrize("after", [b"", *AFTER.values()], ids=["nothing", *AFTER])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_an_image_that_is_cut_is_unreadable_whatever_follows_it(after: bytes, progressive: bool, kept: float) -> None:
    whole = written(progressive)
    with pytest.raises(UnreadableError):
        read(whole[: int(kept * len(whole))] + after)


def test_a_thumbnail_within_the_metadata_is_no_end() -> None:
    whole = written()
    inside = b"\xff\xe1" + (len(THUMBNAIL) + 2).to_bytes(2, "big") + THUMBNAIL
    data = whole[:2] + inside + whole[2:]
    assert alone(data) == data
    assert np.array_equal(read(data).pixels, read(whole).pixels)
    with pytest.raises(UnreadableError):
        read(data[: -len(whole) // 2])


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_is_read_in_gray_in_colour_and_in_print_colours(mode: str, progressive: bool) -> None:
    original = Image.fromarray(IMAGE).convert(mode)
    image = read(saved(original, "JPEG", quality=95, subsampling=0, progressive=progressive))
    assert (image.format, image.bits, image.notes) == ("JPEG", 8, ())
    assert image.pixels.dtype == np.float32
    assert np.abs(image.pixels - IMAGE / 255).max() < 0.03


def test_of_a_camera_s_several_images_the_first_is_read() -> None:
    one, two = Image.fromarray(IMAGE), Image.fromarray(255 - IMAGE)
    image = read(saved(one, "MPO", save_all=True, append_images=[two], quality=95))
    assert image.format == "JPEG"
    assert np.abs(image.pixels - IMAGE / 255).max() < 0.03


@pytest.mark.parametrize("kind", ["JPEG", "progressive JPEG", "colour JPEG"])
def test_a_jpeg_without_its_end_is_never_a_half_gray_image(kind: str) -> None:
    image = Image.fromarray(COLOUR if "colour" in kind else IMAGE)
    data = saved(image, "JPEG", progressive="progressive" in kind)
    for cut in range(3, len(data)):
        with pytest.raises(UnreadableError):
            read(data[:cut])


@pytest.mark.parametrize("size", [None, 16])
@pytest.mark.parametrize("damage", ["cut", "zeroed", "shifted"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_with_damage_that_decoders_pass_over_is_rejected(mode: str, damage: str, size: int | None) -> None:
    whole = saved(Image.fromarray(drawn_image(1, 3, 64)).convert(mode), "JPEG")
    half = len(whole) // 2 + 100
    rest = {"cut": b"", "zeroed": bytes(len(whole) - half - 2), "shifted": whole[half + 200 : -2]}[damage]
    assert read(whole, at_least=size).pixels.size
    with pytest.raises(UnreadableError, match="cannot be decoded"):
        read(whole[:half] + rest + whole[-2:], at_least=size)


@pytest.mark.parametrize("image", [IMAGE, COLOUR], ids=["gray", "colour"])
def test_a_jpeg_with_a_few_bytes_too_many_at_its_end_is_read_and_one_with_more_is_damaged(
    image: NDArray[np.uint8],
) -> None:
    whole = saved(Image.fromarray(image), "JPEG")
    found = read(whole[:-2] + bytes(MOST_LEFT_OVER) + whole[-2:])
    assert np.array_equal(found.pixels, read(whole).pixels)
    with pytest.raises(UnreadableError, match="cannot be decoded"):
        read(whole[:-2] + bytes(MOST_LEFT_OVER + 12) + whole[-2:])


def zeroed(jpeg: bytes) -> bytes:
    """A JPEG whose lower half is lost."""
    half = len(jpeg) // 2
    return jpeg[:half] + bytes(len(jpeg) - half - 2) + jpeg[-2:]


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_harmless_fault_of_a_jpeg_does_not_hide_damage(mode: str) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (128, 128), dtype=np.uint8)).convert(mode)
    whole = saved(image, "JPEG", quality=90, restart_marker_rows=1)
    assert whole[6:13] == b"JFIF\0\1\1"
    unknown = whole[:11] + b"\2" + whole[12:]  # a revision that libjpeg remarks on
    assert np.array_equal(read(unknown).pixels, read(whole).pixels)
    restart = whole.index(b"\xff\xd0", whole.index(b"\xff\xda"))
    stray = whole[:restart] + b"\1\2\3" + whole[restart:]
    for damaged in (zeroed(whole), zeroed(unknown), zeroed(stray)):
        with pytest.raises(UnreadableError, match="cannot be decoded"):
            read(damaged)


@pytest.mark.parametrize("shape", [(300, 200), (64, 500)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_lossless_jpeg_is_never_reduced(shape: tuple[int, int], channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 255, (*shape, channels), dtype=np.uint8).squeeze()
    data = bytes(imagecodecs.jpeg8_encode(values, lossless=True))
    assert read(data, at_least=16).pixels.shape == shape
    assert np.array_equal(read(data, at_least=16).pixels, read(data).pixels)


@pytest.mark.parametrize("sampling", ["422", "420", "444", "411", "440"])
def test_colours_of_any_sampling_are_read(sampling: str) -> None:
    data = bytes(imagecodecs.jpeg8_encode(COLOUR, level=95, subsampling=sampling))
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) / 255
    assert read(data).pixels == pytest.approx(pixels @ [0.299, 0.587, 0.114], abs=1e-6)


def test_a_jpeg_without_its_end_is_rejected_even_where_pillow_was_told_to_take_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = saved(Image.fromarray(IMAGE), "JPEG")
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(UnreadableError, match="The end of the image is missing: copy it again"):
        read(data[: len(data) // 2])
