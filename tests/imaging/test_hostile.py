"""Hostile input: whatever is in a folder, each file has its row, in bounded time and memory, and the others theirs."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from pneumoscope import Detector
from pneumoscope.errors import PneumoscopeError, TooLargeError, UnreadableError
from pneumoscope.imaging import radiograph, tiff
from pneumoscope.imaging.jpeg import MAX_SCANS
from tests.builders.dicoms import RAMP, compressed, image, table
from tests.builders.images import other_formats, png, saved
from tests.conftest import drawn_image

EXAMPLES = int(os.environ.get("PNEUMOSCOPE_FUZZ", "150"))
"""Set it to thousands for a long run; then they are other examples each time."""

CALM = settings(
    derandomize="PNEUMOSCOPE_FUZZ" not in os.environ,
    deadline=None,
    database=None,
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
MOST_SECONDS = 20.0
"""Of processor time for a file of a few kilobytes: generous, for busy machines."""

MOST_MEGABYTES = 700
"""That this process may grow by: the image of the most pixels that are read takes so much."""


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def formats(values: NDArray[np.uint8]) -> dict[str, bytes]:
    """An image (H, W) in every format that images come in."""
    deep, colour = (
        values.astype(np.uint16) * 16,
        Image.fromarray(np.stack([values, values // 2, 255 - values], axis=-1)),
    )
    gray = Image.fromarray(values)
    wide: dict[str, Any] = {"WindowCenter": 2048, "WindowWidth": 4096}

    def dicom(syntax: UID, encode: Callable[..., Any], **options: Any) -> bytes:
        return compressed(deep, bytes(encode(deep, **options)), syntax, **wide)

    return {
        "JPEG": saved(gray, "JPEG"),
        "progressive JPEG": saved(colour, "JPEG", progressive=True),
        "PNG": saved(gray, "PNG"),
        "PNG in colour": saved(colour, "PNG"),
        "PNG of 16 bits": png(deep, 16, interlaced=True),
        "TIFF": saved(gray, "TIFF"),
        "TIFF deflated": saved(deep, "TIFF", compression="tiff_adobe_deflate"),
        "TIFF LZW": saved(colour, "TIFF", compression="tiff_lzw"),
        "TIFF JPEG": saved(colour, "TIFF", compression="jpeg"),
        "TIFF of pages": saved(gray, "TIFF", save_all=True, append_images=[colour, colour]),
        "DICOM": image(deep, RescaleSlope=2, RescaleIntercept=-1000, PixelPaddingValue=0, **wide),
        "DICOM implicit": image(deep, ImplicitVRLittleEndian, VOILUTSequence=table(np.arange(4096), 12)),
        "DICOM big-endian": image(deep, ExplicitVRBigEndian, **wide),
        "DICOM deflated": image(deep, DeflatedExplicitVRLittleEndian, **wide),
        "DICOM RLE": image(deep, RLELossless, **wide),
        "DICOM without preamble": image(deep, ImplicitVRLittleEndian)[132:],
        "DICOM JPEG": compressed(values, bytes(imagecodecs.jpeg8_encode(values, level=95)), JPEGBaseline8Bit),
        "DICOM JPEG extended": dicom(JPEGExtended12Bit, imagecodecs.jpeg8_encode, level=95, bitspersample=12),
        "DICOM JPEG lossless": dicom(JPEGLosslessSV1, imagecodecs.jpeg8_encode, lossless=True, bitspersample=12),
        "DICOM JPEG-LS": dicom(JPEGLSLossless, imagecodecs.jpegls_encode),
        "DICOM JPEG 2000": dicom(
            JPEG2000Lossless, imagecodecs.jpeg2k_encode, codecformat="j2k", reversible=True, level=0
        ),
    } | other_formats(values)


IMAGE = drawn_image(1, seed=3, size=64)
DEEP = IMAGE.astype(np.uint16) * 16
VICTIMS = formats(IMAGE)


def megabytes() -> float:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 2**20)


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Do to a file what bad disks, bad programs and bad people do: headers are the tender part."""
    found = bytearray(data)
    for _ in range(draw(st.integers(1, 5))):
        place = draw(st.floats(0, 1)) ** draw(st.sampled_from([1, 3]))
        start = min(int(place * len(found)), len(found) - 1)
        kind = draw(st.sampled_from(["flip", "extreme", "copy", "drop", "cut", "noise"]))
        if kind == "flip":
            found[start] ^= draw(st.integers(1, 255))
        elif kind == "extreme":
            number = draw(st.sampled_from([0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1]))
            size = draw(st.sampled_from([1, 2, 4]))
            order = draw(st.sampled_from(["little", "big"]))
            found[start : start + size] = (number % 256**size).to_bytes(size, order)
        elif kind == "copy":
            found[start:start] = found[start : start + draw(st.integers(1, 400))]
        elif kind == "drop":
            del found[max(start, 1) : start + draw(st.integers(1, 40))]
        elif kind == "cut" and draw(st.booleans()):
            del found[max(start, 1) :]
        elif kind == "noise":
            found[start : start + 8] = draw(st.binary(min_size=8, max_size=8))
    return bytes(found)


@pytest.mark.parametrize("name", VICTIMS)
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_gives_an_image_or_one_of_our_errors_in_bounded_time_and_memory(name: str) -> None:
    assert radiograph.read(VICTIMS[name]).pixels.shape == (64, 64)
    before = megabytes()

    @given(damaged(VICTIMS[name]))
    @CALM
    def check(data: bytes) -> None:
        start = time.process_time()
        try:
            read = radiograph.read(data)
        except PneumoscopeError:
            pass
        else:
            assert read.pixels.ndim == 2
            assert read.pixels.dtype == np.float32
            assert 0 <= read.pixels.min() <= read.pixels.max() <= 1
        assert time.process_time() - start < MOST_SECONDS

    check()
    assert megabytes() - before < MOST_MEGABYTES


# Bombs


def scans(data: bytes, times: int) -> bytes:
    """Repeat the last scan of a progressive JPEG."""
    start = data.rindex(b"\xff\xda")
    return data[:start] + data[start:-2] * times + data[-2:]


def test_a_jpeg_of_thousands_of_scans_is_too_large_and_one_of_some_is_not() -> None:
    progressive = saved(IMAGE, "JPEG", progressive=True)
    assert radiograph.read(progressive).pixels.shape == (64, 64)
    with pytest.raises(UnreadableError):  # each refines the one before, so that none may come twice
        radiograph.read(scans(progressive, 10))
    with pytest.raises(TooLargeError, match=f"at most {MAX_SCANS} scans in a JPEG"):
        radiograph.read(scans(progressive, 5000))
    with pytest.raises(UnreadableError):  # of a gray one that is not progressive the decoder takes no second scan
        radiograph.read(scans(saved(IMAGE, "JPEG"), 5000))
    lossless = bytes(imagecodecs.jpeg8_encode(DEEP, lossless=True, bitspersample=12))
    with pytest.raises(TooLargeError, match=f"at most {MAX_SCANS} scans in a JPEG"):
        radiograph.read(compressed(DEEP, scans(lossless, 200), JPEGLosslessSV1))


def test_a_tiff_of_a_hundred_thousand_pages_is_not_paged_through() -> None:
    tags = ((256, 64), (257, 64), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 64), (279, 4096))
    page = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    size, first, n = len(page) + 4, 8 + 4096, 100_000
    pages = b"".join(page + struct.pack("<I", first + i * size if i < n else 0) for i in range(1, n + 1))
    start = time.process_time()
    read = radiograph.read(b"II*\0" + struct.pack("<I", first) + IMAGE.tobytes() + pages)
    assert time.process_time() - start < 5
    assert read.notes == ("first_frame_only",)
    assert np.array_equal(read.pixels, IMAGE / np.float32(255))


def test_a_tiff_whose_thousands_of_strips_begin_at_one_place_is_not_read_thousands_of_times() -> None:
    n, width, behind = 4_000, 300, 16_000_000
    pixels = bytes([128]) * width + bytes(behind)
    places = 8 + len(pixels)
    tags = (
        *((256, 1, width), (257, 1, n), (258, 1, 8), (259, 1, 1), (262, 1, 1)),
        *((273, n, places), (277, 1, 1), (278, 1, 1), (279, n, places + 4 * n)),
    )
    lists = struct.pack("<I", 8) * n + struct.pack("<I", width) * n
    page = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, *value) for tag, *value in tags)
    data = b"II*\0" + struct.pack("<I", places + len(lists)) + pixels + lists + page + bytes(4)
    start = time.process_time()
    Image.open(io.BytesIO(data)).load()
    alone = time.process_time() - start
    assert radiograph.read(data).pixels.shape == (n, width)
    assert time.process_time() - start - alone < 10 * alone


def page(bits: int, *more: tuple[int, int, int]) -> bytes:
    """Write a TIFF of 64 x 64 pixels whose one deflated part inflates to 2,000 x 2,000; more tags come first."""
    part = zlib.compress(bytes(2000 * 2000 * bits // 8), 9)
    form = 3 if bits > 8 else 1  # floats, or whole numbers
    usual = ((256, 3, 64), (257, 3, 64), (258, 3, bits), (259, 3, 8), (262, 3, 1), (277, 3, 1), (339, 3, form))
    tiled = 322 in [tag for tag, *_ in more]
    places = ((324, 4, 8), (325, 4, len(part))) if tiled else ((273, 4, 8), (278, 4, 2000), (279, 4, len(part)))
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in (*more, *usual, *places))
    count = struct.pack("<H", len(more) + len(usual) + len(places))
    return b"II*\0" + struct.pack("<I", 8 + len(part)) + part + count + entries + bytes(4)


@pytest.mark.parametrize("kind", [4, 8, 9])
def test_of_a_tiff_that_says_its_size_twice_the_first_counts_whatever_form_it_has(kind: int) -> None:
    with pytest.raises(TooLargeError, match="got 2000 x 2000"):
        radiograph.read(page(64, (256, kind, 2000), (257, kind, 2000)), max_pixels=1_000_000)


@pytest.mark.parametrize("bits", [8, 64])
def test_a_small_tiff_in_a_tile_that_is_too_large_is_too_large(bits: int) -> None:
    data = page(bits, (322, 3, 2000), (323, 3, 2000))
    with pytest.raises(TooLargeError, match="got 2000 x 2000"):
        radiograph.read(data, max_pixels=1_000_000)
    assert radiograph.read(data).shape == (64, 64)


def test_a_tiff_of_many_images_in_one_is_unreadable() -> None:
    with pytest.raises(UnreadableError):
        radiograph.read(page(64, (32997, 4, 900)), max_pixels=1_000_000)


@pytest.mark.parametrize("place", [8, 16 + 8 + 12])
def test_a_bigtiff_that_points_beyond_any_file_is_damaged(place: int) -> None:
    entry = struct.pack("<HHQQ", 256, 16, 2, 0)
    data = bytearray(b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 1) + entry + bytes(8))
    data[place : place + 8] = b"\xff" * 8
    assert tiff.header(bytes(data)) is None
    with pytest.raises(UnreadableError):
        radiograph.read(bytes(data))


def test_what_a_png_inflates_to_beyond_its_image_is_never_kept() -> None:
    bomb = zlib.compress(bytes(200_000_000), 9)
    plain = saved(IMAGE, "PNG")
    before = megabytes()
    for extra in (chunk(b"zTXt", b"a\0\0" + bomb), chunk(b"iCCP", b"a\0\0" + bomb)):
        with pytest.raises(UnreadableError):
            radiograph.read(plain[:33] + extra + plain[33:])
    head, end = plain[:33], plain[-12:]
    read = radiograph.read(head + chunk(b"IDAT", bomb) + end)
    assert read.pixels.shape == (64, 64)
    assert megabytes() - before < 100


def test_a_deflated_dicom_bomb_is_too_large_before_it_is_inflated() -> None:
    data = image(DEEP, DeflatedExplicitVRLittleEndian)
    start = 144 + int.from_bytes(data[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join(packer.compress(bytes(10_000_000)) for _ in range(50)) + packer.flush()
    before = megabytes()
    with pytest.raises(TooLargeError, match="bytes when inflated, got more"):
        radiograph.read(data[:start] + bomb)
    assert megabytes() - before < MOST_MEGABYTES


def test_a_colour_image_is_too_large_where_its_samples_are() -> None:
    wide = np.broadcast_to(np.uint8(0), (8000, 8000, 3))
    file = image(np.zeros((8, 8, 3), np.uint8), PhotometricInterpretation="RGB", Rows=8000, Columns=8000)
    for source in (wide, file):
        with pytest.raises(TooLargeError, match="at most 53,333,333 pixels, got 8000 x 8000"):
            radiograph.read(source)


@pytest.mark.parametrize("kind", ["elements", "items", "items of a known length", "sequences in sequences"])
def test_a_dicom_header_of_millions_of_parts_is_not_read_to_its_end(kind: str) -> None:
    plain = image(DEEP, Modality="DX")
    start = plain.index(b"\x08\0\x60\0CS")
    sequence, item = b"\x08\0\x18\x22SQ\0\0", b"\xfe\xff\0\xe0"
    endless, n = b"\xff" * 4, 1_500_000
    bomb = {
        "elements": b"".join(struct.pack("<HHHH", 9, i % 60000, 0x4853, 0) for i in range(n)),
        "items": sequence + endless + (item + bytes(4)) * n,
        "items of a known length": sequence + struct.pack("<I", 8 * n) + (item + bytes(4)) * n,
        "sequences in sequences": (sequence + endless + item + endless) * n,
    }[kind]
    begun, before = time.process_time(), megabytes()
    with pytest.raises((TooLargeError, UnreadableError)):
        radiograph.read(plain[:start] + bomb + plain[start:])
    assert time.process_time() - begun < MOST_SECONDS
    assert megabytes() - before < MOST_MEGABYTES


@pytest.mark.parametrize(
    ("place", "value", "size"), [(24, 1, 4), (None, 2**16 - 1, 2)], ids=["tiles of a pixel a side", "65,535 layers"]
)
def test_a_jpeg_2000_in_too_many_parts_is_too_large(place: int | None, value: int, size: int) -> None:
    frame = bytearray(imagecodecs.jpeg2k_encode(DEEP, codecformat="j2k", reversible=True, level=0))
    at = frame.index(b"\xff\x52") + 6 if place is None else place
    frame[at : at + size] = value.to_bytes(size, "big")
    if place:
        frame[at + size : at + 2 * size] = value.to_bytes(size, "big")
    with pytest.raises(TooLargeError, match="Expected JPEG 2000 of at most"):
        radiograph.read(compressed(DEEP, bytes(frame), JPEG2000Lossless))


def test_a_jpeg_2000_with_precincts_of_a_pixel_is_too_large() -> None:
    frame = bytes(imagecodecs.jpeg2k_encode(DEEP, codecformat="j2k", reversible=True, level=0))
    at = frame.index(b"\xff\x52")
    length, levels = int.from_bytes(frame[at + 2 : at + 4], "big"), frame[at + 9]
    style = (
        (length + levels + 1).to_bytes(2, "big") + b"\x01" + frame[at + 5 : at + 2 + length] + b"\x11" * (levels + 1)
    )
    with pytest.raises(TooLargeError, match="precincts of at least 16 pixels a side"):
        radiograph.read(compressed(DEEP, frame[: at + 2] + style + frame[at + 2 + length :], JPEG2000Lossless))


def test_run_lengths_never_grow_beyond_their_image() -> None:
    header = struct.pack("<16I", 2, 64, 64 + 2_000_000, *[0] * 13)
    before = megabytes()
    assert radiograph.read(compressed(RAMP, header + b"\x81\0" * 2_000_000, RLELossless)).pixels.shape == RAMP.shape
    assert megabytes() - before < 100


# A folder full of trouble


@pytest.fixture
def trouble(tmp_path: Path) -> tuple[Path, int]:
    """A folder with 3 images under names that break tables, and a file of each kind of trouble; and how many files."""
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    good = saved(drawn_image(0, 5), "PNG")
    for name in (
        b'=1+1",;\t\r\n.png',
        b"\xff\xfe\x1b[31mred\x1b[0m.png",
        "\u202e\u2028tom\x00".rstrip("\0").encode() + b".png",
    ):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(good)
    (folder / "text.png").write_text("Patient has pneumonia.\n")
    (folder / "empty.dcm").touch()
    (folder / "cut.png").write_bytes(good[: len(good) // 2])
    (folder / "bomb.jpg").write_bytes(scans(saved(IMAGE, "JPEG", progressive=True), 5000))
    (folder / "absurd.dcm").write_bytes(image(RAMP, Rows=60000, Columns=60000))
    (folder / "ct.dcm").write_bytes(image(RAMP, Modality="CT"))
    (folder / "report.dcm").write_bytes(image(None, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11"))
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "itself.png").symlink_to(folder / "itself.png")
    (folder / "deep" / "loop").symlink_to(folder)
    (folder / "null.png").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listening:
        place = Path.cwd()
        os.chdir(folder)  # the name of a socket may not be long
        listening.bind("socket.png")
        os.chdir(place)
    return folder, 3 + 12


KINDS = {
    "text.png": "unsupported",
    "empty.dcm": "unreadable",
    "cut.png": "unreadable",
    "bomb.jpg": "too_large",
    "absurd.dcm": "too_large",
    "ct.dcm": "not_a_chest_radiograph",
    "report.dcm": "unsupported",
    "gone.png": "not_found",
    "itself.png": "unreadable",
    "null.png": "unsupported",
    "pipe.png": "unsupported",
    "socket.png": "unsupported",
}


def predict(model: Path, folder: Path, style: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pneumoscope", "predict", folder, "-m", model, "-f", style],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        env=os.environ | {"COLUMNS": "200"},
    )
    assert done.returncode == 3
    assert b"Traceback" not in done.stderr
    return done.stdout.decode("utf-8", "surrogateescape")


@pytest.fixture(scope="module")
def real_image(data: Path) -> dict[str, bytes]:
    path = min((data / "kermany_original" / "val" / "PNEUMONIA").iterdir())
    return formats(np.asarray(Image.open(path).convert("L").resize((640, 480))))


@pytest.mark.images
@pytest.mark.parametrize("name", VICTIMS)
def test_a_real_image_with_a_flipped_bit_is_rejected_or_gets_the_finding_it_would_have(
    name: str, real_image: dict[str, bytes]
) -> None:
    whole = real_image[name]
    rng, detector = np.random.default_rng(0), Detector()
    flipped = []
    for place in rng.integers(len(whole) // 10, len(whole), 12):  # beyond the header
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        flipped.append(bytes(damaged))
    expected, *found = detector.examine([whole, *flipped])
    assert expected.finding == "PNEUMONIA"
    assert {finding.finding for finding in found if finding.error is None} <= {"PNEUMONIA"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_every_trouble_has_its_row_and_every_image_its_finding(tiny_model: Path, trouble: tuple[Path, int]) -> None:
    folder, n = trouble
    lines = predict(tiny_model, folder, "json").split("\n")
    rows = [json.loads(line) for line in lines if line]
    assert len(rows) == n
    assert len({row["path"] for row in rows}) == n
    assert {Path(row["path"]).name: row["error"]["kind"] for row in rows if row["error"]} == KINDS
    assert all(os.path.lexists(row["path"]) for row in rows)
    assert sum(row["finding"] is not None for row in rows) == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_csv_and_tables_stay_whole_whatever_the_names(tiny_model: Path, trouble: tuple[Path, int]) -> None:
    folder, n = trouble
    rows = list(csv.DictReader(io.StringIO(predict(tiny_model, folder, "csv"), newline="")))
    assert len(rows) == n
    assert sorted(row["error_kind"] for row in rows if row["error_kind"]) == sorted(KINDS.values())
    shown = predict(tiny_model, folder, "table")
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert all(kind in shown for kind in KINDS.values())
