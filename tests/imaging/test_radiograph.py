"""`radiograph`: the one way to read an image gives its pixels, or one of our errors, whatever a file holds."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pneumoscope.errors import PneumoscopeError, TooLargeError, UnreadableError, UnsupportedError
from pneumoscope.imaging.brightness import LUMA
from pneumoscope.imaging.radiograph import MAX_PIXELS, Radiograph, read
from tests.builders.images import COLOUR, EXACT, IMAGE, brightness, noise, outcome, png, saved, tiff
from tests.conftest import CALM, drawn_image

pytestmark = pytest.mark.filterwarnings("error")


def test_colour_is_weighed_to_brightness() -> None:
    for channel, weight in enumerate(LUMA):
        one = np.zeros((8, 8, 3), dtype=np.uint8)
        one[..., channel] = 255
        assert np.allclose(read(one).pixels, weight, atol=EXACT)
        assert np.allclose(read(saved(Image.fromarray(one), "PNG")).pixels, weight, atol=EXACT)


@pytest.mark.parametrize("level", [0, 1, 254, 255, 256, 32767, 65533, 65534])
def test_two_neighbouring_16_bit_levels_stay_two(level: int) -> None:
    values = np.full((4, 4), 65535, dtype=np.uint16)
    values[0, :2] = level, level + 1
    rgb, rgba = np.stack([values] * 3, axis=-1), np.stack([values] * 3 + [np.full_like(values, 65535)], axis=-1)
    for source in (
        values,
        png(values, 16),
        tiff(values, 1),
        tiff(values, 0),
        saved(Image.fromarray(values), "TIFF", compression="tiff_lzw"),
        rgb,
        png(rgb, 16),
        png(rgba[..., 2:], 16),
        png(rgba, 16),
        tiff(rgb, 2),
        tiff(rgb, 2, deflated=True),
    ):
        dark, light = read(source).pixels[0, :2]
        assert abs(light - dark) * 65535 == pytest.approx(1, abs=0.02)


def test_a_12_bit_image_in_a_16_bit_file_fills_the_range() -> None:
    image = read(png(noise(6, 9, bits=12), 16))
    assert image.bits == 12
    assert image.pixels.max() == 1.0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_an_image_is_turned_upright_as_pillow_turns_it(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(drawn_image(1, seed=3)[:, :20]), kind, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))) / 255
    assert expected.shape == ((20, 32) if orientation > 4 else (32, 20))
    image = read(data)
    assert image.pixels.shape == expected.shape
    assert np.abs(image.pixels - expected).max() < EXACT


@pytest.mark.parametrize("orientation", range(1, 9))
def test_16_bit_colour_is_turned_upright_once(orientation: int) -> None:
    values = noise(6, 9, 3)
    upright = {
        1: values,
        2: values[:, ::-1],
        3: values[::-1, ::-1],
        4: values[::-1],
        5: values.swapaxes(0, 1),
        6: np.rot90(values, -1),
        7: np.rot90(values, 2).swapaxes(0, 1),
        8: np.rot90(values),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    for data in (
        png(values, 16, (b"eXIf", exif.tobytes()[6:])),
        tiff(values, 2, tags={274: orientation}),
        tiff(values, 2, tags={274: orientation}, deflated=True),
    ):
        image = read(data)
        assert image.pixels.shape == upright.shape[:2]
        assert np.abs(image.pixels - brightness(upright, 16)).max() < EXACT


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3), (9, 7, 4)], ids=["L", "RGB", "RGBA"])
def test_the_same_pixels_come_through_a_path_bytes_and_an_array(
    tmp_path: Path, shape: tuple[int, ...], depth: int
) -> None:
    values = noise(*shape, bits=depth)
    data = png(values, depth)
    (tmp_path / "image.png").write_bytes(data)
    array = read(values if depth == 16 else values.astype(np.uint8)).pixels
    for source in (tmp_path / "image.png", str(tmp_path / "image.png"), data):
        assert np.array_equal(read(source).pixels, array)


@pytest.mark.parametrize("data", [b"Patient has pneumonia.", b"\0" * 1000, b"\x89PN"])
def test_what_is_no_image_is_unsupported_whatever_its_name(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "image.png").write_bytes(data)
    with pytest.raises(UnsupportedError, match="Expected a JPEG, PNG, TIFF or DICOM file, got something else"):
        read(tmp_path / "image.png")


def test_a_document_is_unsupported_and_told_how_to_export_the_image(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(b"%PDF-1.7")
    with pytest.raises(UnsupportedError, match="got a PDF document: export the image"):
        read(tmp_path / "image.png")


@pytest.mark.parametrize("data", [b"GIF89a", b"BM"])
def test_the_first_bytes_of_an_image_alone_are_unreadable(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "image.png").write_bytes(data)
    with pytest.raises(UnreadableError, match="copy it again"):
        read(tmp_path / "image.png")


def header(kind: str, side: int) -> bytes:
    """An image that claims to be enormous and holds next to nothing."""
    data = {"PNG": png(IMAGE, 8), "JPEG": saved(Image.fromarray(IMAGE), "JPEG"), "TIFF": tiff(IMAGE, 1)}[kind]
    if kind == "PNG":
        head = b"IHDR" + struct.pack(">II", side, side) + data[24:29]
        return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]
    small, large = (struct.pack({"JPEG": ">HH", "TIFF": "<I"}[kind], *[n] * (1 + (kind == "JPEG"))) for n in (48, side))
    start = data.index(b"\xff\xc0") if kind == "JPEG" else data.rindex(struct.pack("<HH", 256, 4))
    return data[:start] + data[start:].replace(small, large)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize("side", [9_000, 60_000])
def test_an_enormous_image_is_too_large_before_it_is_decoded(kind: str, side: int) -> None:
    start = time.perf_counter()
    with pytest.raises(TooLargeError, match=f"at most {MAX_PIXELS:,} pixels, got {side} x {side}"):
        read(header(kind, side))
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("values", [np.uint16(4095), np.int32(70_000), np.float32(300.0)])
def test_an_image_of_many_pixels_is_scaled_throughout(values: np.generic) -> None:
    image = (np.linspace(0, 1, 300 * 301).reshape(300, 301) * float(values)).astype(values.dtype)
    assert read(image).pixels == pytest.approx(image / values, abs=2e-4)


@pytest.mark.parametrize(
    "data",
    [
        png(IMAGE, 8),
        png(noise(9, 9, 3), 16),
        tiff(IMAGE, 1),
        tiff(noise(9, 9, 3), 2, deflated=True),
        saved(Image.fromarray(IMAGE), "TIFF", compression="tiff_lzw"),
    ],
    ids=["PNG", "PNG 16", "TIFF", "TIFF deflated", "TIFF LZW"],
)
def test_an_image_cut_anywhere_is_unreadable_or_whole(data: bytes) -> None:
    whole = read(data).pixels
    rejected = 0
    for cut in range(8, len(data), 7):
        found = outcome(data[:cut])
        if isinstance(found, Radiograph):
            assert np.array_equal(found.pixels, whole)
        else:
            assert isinstance(found, UnreadableError)
            rejected += 1
    assert rejected > 0.9 * (len(data) - 8) / 7


VICTIMS = (
    saved(Image.fromarray(COLOUR), "JPEG"),
    saved(
        Image.fromarray(IMAGE), "JPEG", progressive=True, exif=bytes.fromhex("45786966000049492a0008000000010012010300")
    ),
    png(IMAGE, 8),
    png(noise(9, 9, 2), 16, interlaced=True),
    png(noise(9, 9, 3), 16, (b"tRNS", bytes(6))),
    saved(Image.fromarray(COLOUR).quantize(64), "PNG", transparency=bytes(range(64))),
    saved(Image.fromarray(IMAGE), "PNG", save_all=True, append_images=[Image.fromarray(255 - IMAGE)]),
    tiff(IMAGE, 1),
    tiff(noise(9, 9, 3), 2, order=">"),
    tiff(noise(9, 9, 4), 2, deflated=True, tags={338: 2, 274: 6}),
    tiff(noise(9, 9) / np.float32(65535), 0, deflated=True, order=">"),
    saved(
        Image.fromarray(IMAGE), "TIFF", compression="tiff_lzw", save_all=True, append_images=[Image.fromarray(IMAGE)]
    ),
    saved(Image.fromarray(COLOUR), "TIFF", compression="jpeg"),
)


@given(
    st.sampled_from(VICTIMS),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=6),
    st.floats(0, 1),
)
@settings(CALM, max_examples=600)
@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
def test_a_damaged_image_gives_an_image_or_one_of_our_errors(
    data: bytes, flips: list[tuple[float, int]], keep: float
) -> None:
    damaged = bytearray(data)
    for place, flip in flips:
        damaged[int(place**2 * len(data))] ^= flip  # headers are the tender part
    found = outcome(bytes(damaged[: int((0.5 + keep) * len(data))]))
    if isinstance(found, PneumoscopeError):
        assert "\n" not in str(found)
    else:
        assert found.pixels.ndim == 2
        assert found.pixels.dtype == np.float32
        assert found.pixels.min() >= 0
        assert found.pixels.max() <= 1


def test_reading_in_threads_leaves_the_filters_of_warnings_alone() -> None:
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, [png(IMAGE, 8), saved(Image.fromarray(IMAGE), "JPEG")] * 100))
    assert list(warnings.filters) == before


def test_pillow_s_own_limit_lies_above_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert Image.MAX_IMAGE_PIXELS > MAX_PIXELS
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # as if another library had set it
    for data in (png(IMAGE, 8), saved(Image.fromarray(IMAGE), "JPEG")):
        assert read(data).pixels.shape == IMAGE.shape


def test_pillow_s_remarks_on_metadata_are_not_shown(tmp_path: Path) -> None:
    data = tiff(IMAGE, 1, tags={274: 1})
    entry = data.rindex(struct.pack("<HHI", 274, 3, 1))
    (tmp_path / "image.tif").write_bytes(data[:entry] + struct.pack("<HHII", 274, 3, 9, 2**31) + data[entry + 12 :])
    with pytest.warns(UserWarning, match="."):  # the remark is really made; only this test's filter shows it
        read(tmp_path / "image.tif")
    program = "import sys; from pneumoscope.imaging import radiograph; radiograph.read(sys.argv[1])"
    ran = subprocess.run([sys.executable, "-c", program, str(tmp_path / "image.tif")], capture_output=True, check=True)
    assert ran.stderr == b""


@pytest.mark.images
def test_every_real_image_is_read_as_pillow_reads_it(data: Path) -> None:
    images = sorted((data / "kermany_original" / "val").rglob("*.jpeg"))
    assert len(images) == 16
    for path in images:
        image = read(path)
        expected = np.asarray(Image.open(path).convert("L")) / 255
        assert (image.format, image.bits, image.notes) == ("JPEG", 8, ())
        assert np.abs(image.pixels - expected).max() < 0.003
