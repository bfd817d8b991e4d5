"""`decoder`: an image is decoded whatever its description forgets, or rejected, and nobody's name leaves the file."""

from __future__ import annotations

import io
import struct
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from pneumoscope.errors import PneumoscopeError, TooLargeError, UnreadableError, UnsupportedError
from pneumoscope.imaging import radiograph
from pneumoscope.imaging.dicom import decoder
from pneumoscope.imaging.dicom.decoder import decode
from tests.builders.dicoms import EXACT, LIMIT, RAMP, REPORT, broken, image, shipped, shown, table
from tests.conftest import CALM, drawn_image

pytestmark = pytest.mark.filterwarnings("error", "ignore:.*:UserWarning:pydicom")


def outcome(data: bytes) -> NDArray[np.float32] | PneumoscopeError:
    try:
        return decode(data, LIMIT)[0]
    except PneumoscopeError as error:
        return error


def test_it_is_read_like_any_other_image(tmp_path: Path) -> None:
    (tmp_path / "image.jpeg").write_bytes(image(RAMP, WindowCenter=2048, WindowWidth=4096))
    read = radiograph.read(tmp_path / "image.jpeg")
    assert (read.format, read.bits, read.notes) == ("DICOM", 12, ())
    assert np.abs(read.pixels - RAMP / 4095).max() < EXACT


def test_a_transfer_syntax_that_is_none_is_said_so() -> None:
    data = broken(b"1.2.840.10008.1.2.1\0", b"1.2.3.4.5.6.7.8.9.1\0")
    with pytest.raises(UnsupportedError, match="Expected a transfer syntax of the DICOM standard"):
        decode(data, LIMIT)


COLOUR = np.stack([drawn_image(1, seed=3), drawn_image(0, seed=4), 255 - drawn_image(1, seed=5)], axis=-1)


LUMA = COLOUR @ [0.299, 0.587, 0.114] / 255


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_colour_is_weighed_to_brightness_at_its_depth(bits: int) -> None:
    values = COLOUR if bits == 8 else (COLOUR / 255 * (2**bits - 1)).astype(np.uint16)
    pixels, stored, _ = decode(image(values, PhotometricInterpretation="RGB", BitsStored=bits), LIMIT)
    assert stored == bits
    assert pixels == pytest.approx(LUMA, abs=2 / 2**bits)


def test_colour_kept_plane_by_plane_is_the_same() -> None:
    planes = np.moveaxis(COLOUR, 2, 0).tobytes()
    data = image(COLOUR, PhotometricInterpretation="RGB", PlanarConfiguration=1, PixelData=planes)
    assert shown(data) == pytest.approx(LUMA, abs=EXACT)


def test_colour_kept_as_luminance_and_chrominance_is_the_same() -> None:
    values = np.asarray(Image.fromarray(COLOUR).convert("YCbCr"))
    assert shown(image(values, PhotometricInterpretation="YBR_FULL")) == pytest.approx(LUMA, abs=0.01)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_is_looked_up(bits: int) -> None:
    levels = np.arange(256, dtype=np.uint16) * (257 if bits == 16 else 1)
    elements: dict[str, Any] = {}
    for colour in ("Red", "Green", "Blue"):
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        elements[f"{colour}PaletteColorLookupTableData"] = levels[::-1].astype("<u2").tobytes()
    values = drawn_image(1, seed=3)
    data = image(values, PhotometricInterpretation="PALETTE COLOR", **elements)
    assert shown(data) == pytest.approx(1 - values / 255, abs=EXACT)


def test_of_several_frames_the_first_is_read_and_a_note_says_so() -> None:
    frames = np.stack([RAMP, RAMP[::-1]])
    data = image(RAMP, NumberOfFrames=2, PixelData=frames.tobytes(), WindowCenter=2048, WindowWidth=4096)
    pixels, _, notes = decode(data, LIMIT)
    assert notes == ("first_frame_only",)
    assert pixels == pytest.approx(RAMP / 4095, abs=EXACT)


def test_run_lengths_of_colours_are_the_same_image() -> None:
    assert shown(image(COLOUR, RLELossless, PhotometricInterpretation="RGB")) == pytest.approx(LUMA, abs=EXACT)


def test_another_programs_colours_are_the_same_however_they_are_stored() -> None:
    plain = shown(shipped("SC_rgb_rle.dcm"))
    assert shown(shipped("SC_rgb_rle_16bit.dcm")) == pytest.approx(plain, abs=0.005)
    assert shown(shipped("SC_rgb_rle_32bit.dcm")) == pytest.approx(plain, abs=0.005)
    assert shown(shipped("SC_rgb_dcmtk_+eb+cr.dcm")) == pytest.approx(plain, abs=0.05)
    for name in ("dcmtk_+eb+cy+np", "jpeg_dcmtk", "jpeg_gdcm", "jls_lossy_line", "gdcm_KY"):
        assert shown(shipped(f"SC_rgb_{name}.dcm")) == pytest.approx(plain, abs=0.05)
    assert shown(shipped("SC_ybr_full_422_uncompressed.dcm")) == pytest.approx(plain, abs=0.05)


def test_an_object_without_an_image_is_unsupported_and_says_what_it_is() -> None:
    with pytest.raises(UnsupportedError, match=r"Expected a radiograph, got .* without an image .*Basic Text SR"):
        decode(image(None, SOPClassUID=REPORT), LIMIT)
    with pytest.raises(UnsupportedError, match="without an image"):
        decode(shipped("rtplan.dcm"), LIMIT)


@pytest.mark.parametrize(("rows", "columns"), [(65535, 65535), (1001, 1000), (1, 65535)])
def test_absurd_rows_are_too_large_or_damaged_before_they_are_decoded(rows: int, columns: int) -> None:
    with pytest.raises(TooLargeError if rows > 1 else UnreadableError):
        decode(image(RAMP, Rows=rows, Columns=columns), LIMIT)


@pytest.mark.parametrize(
    ("part", "data"),
    [
        ("header", image(RAMP)[:136] + b"X" + image(RAMP)[137:]),  # no such value representation
        ("image", image(RAMP)[:-100]),
        ("header", image(RAMP, NumberOfFrames="1\\2")),
        ("description of the brightness", image(RAMP, PhotometricInterpretation="PALETTE COLOR")),
    ],
)
def test_an_error_says_which_part_of_a_file_is_damaged(part: str, data: bytes) -> None:
    with pytest.raises(UnreadableError, match=f"The {part} in the DICOM file is damaged: export it again"):
        decode(data, LIMIT)


@pytest.mark.parametrize("elements", [{"PhotometricInterpretation": "NONSENSE"}, {"PixelRepresentation": 7}])
def test_colours_or_signs_from_nobodys_list_are_a_damaged_header(elements: dict[str, Any]) -> None:
    with pytest.raises(UnreadableError, match="the header is damaged"):
        decode(image(RAMP, **elements), LIMIT)


@pytest.mark.parametrize("name", sorted(decoder._LOOKED_INTO))
def test_a_sequence_of_a_million_items_is_too_large_before_it_is_parsed(name: str) -> None:
    tag, items = tag_for_keyword(name) or 0, b"\xfe\xff\0\xe0\0\0\0\0" * 10**6
    sequence = struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, b"SQ", 0, len(items)) + items
    plain = image(RAMP)
    place = plain.index(b"\xe0\x7f\x10\0OW")
    start = time.process_time()
    with pytest.raises(TooLargeError, match="bytes in a sequence of the header"):
        decode(plain[:place] + sequence + plain[place:], LIMIT)
    assert time.process_time() - start < 5


def test_an_image_without_rows_is_damaged() -> None:
    with pytest.raises(UnreadableError, match="Expected an image, got 64 x 0 pixels: the header is damaged"):
        decode(image(RAMP, Rows=0), LIMIT)


def test_an_image_without_data_is_unreadable() -> None:
    with pytest.raises(UnreadableError):
        decode(image(RAMP, PixelData=b""), LIMIT)


def anonymous(error: PneumoscopeError) -> bool:
    told = "".join(traceback.format_exception(error))
    return not any(mark in told for mark in ("MARKER", "19010203", "1901"))


@pytest.mark.parametrize(
    "data",
    [
        image(None, SOPClassUID=REPORT),
        image(RAMP)[:-100],
        image(RAMP, Rows=60000, Columns=60000),
        broken(b"765432", b"MARKER", NumberOfFrames="765432"),
        broken(b"PN\x0c\0", b"SQ\x0c\0"),
        image(None, SOPClassUID=REPORT).replace(
            b"UI\x1e\x001.2.840.10008.5.1.4.1.1.88.11\0\x08\0", b"UI\x46\x001.2.840.10008.5.1.4.1.1.88.11\0\x08\0"
        ),
    ],
    ids=["report", "cut", "absurd", "frames", "sequence", "class"],
)
def test_an_error_never_tells_whose_image_it_is(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(PneumoscopeError) as caught:
        decode(data, LIMIT)
    assert anonymous(caught.value)
    assert "MARKER" not in caplog.text


VICTIMS = (
    image(RAMP[:8], RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=[500, 600], WindowWidth=[800, 900]),
    image(RAMP[:8], ImplicitVRLittleEndian, VOILUTSequence=table(np.arange(64), 12)),
    image(RAMP[:8], ExplicitVRBigEndian, ModalityLUTSequence=table(np.arange(64), 16)),
    image(RAMP[:8], RLELossless),
    image(RAMP[:8], DeflatedExplicitVRLittleEndian),
    image(COLOUR[:8], PhotometricInterpretation="YBR_FULL", NumberOfFrames=1),
)


@given(
    st.sampled_from(VICTIMS),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=6),
    st.floats(0, 1),
)
@settings(CALM, max_examples=400)
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_a_damaged_image_gives_pixels_or_one_of_our_errors_and_no_name(
    data: bytes, flips: list[tuple[float, int]], keep: float
) -> None:
    damaged = bytearray(data)
    for place, flip in flips:
        damaged[132 + int(place * (len(data) - 132))] ^= flip
    found = outcome(bytes(damaged[: int((0.5 + keep) * len(data))]))
    if isinstance(found, PneumoscopeError):
        assert anonymous(found)
    else:
        assert found.ndim == 2
        assert found.dtype == np.float32
        assert found.min() >= 0
        assert found.max() <= 1


def test_what_headers_forget_is_filled_in_with_what_is_usual() -> None:
    """The image is of 16 bits; everything that says so but rows and columns is missing."""
    dataset = dcmread(io.BytesIO(image(RAMP, BitsStored=16)))
    for name in (
        *("SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit"),
        "PixelRepresentation",
    ):
        delattr(dataset, name)
    file = io.BytesIO()
    dataset.save_as(file)
    assert np.array_equal(shown(file.getvalue()), shown(image(RAMP, BitsStored=16)))


@pytest.mark.parametrize("stored", [0, 17, 255])
def test_more_bits_than_there_is_room_for_are_a_damaged_header(stored: int) -> None:
    data = image(RAMP, BitsStored=stored or 16)
    if not stored:
        assert shown(data).shape == RAMP.shape
        return
    with pytest.raises(UnreadableError, match=f"of {stored} in 16: the header is damaged"):
        decode(data, LIMIT)


@pytest.mark.parametrize("frames", [0, -1, 2**31 - 1])
def test_absurd_numbers_of_frames_cost_nothing(frames: int) -> None:
    found = outcome(image(RAMP, NumberOfFrames=frames, WindowCenter=2048, WindowWidth=4096))
    assert isinstance(found, UnreadableError) or found == pytest.approx(RAMP / 4095, abs=EXACT)
