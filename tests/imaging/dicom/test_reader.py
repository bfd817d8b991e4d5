"""`dicom`: stored values become brightness in the order of the standard, and nobody's name leaves the file."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
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
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.datadict import tag_for_keyword
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from pneumoscope.errors import PneumoscopeError, TooLargeError, UnreadableError, UnsupportedError
from pneumoscope.imaging import radiograph
from pneumoscope.imaging.dicom import reader
from pneumoscope.imaging.dicom.grayscale import window
from pneumoscope.imaging.dicom.reader import decode, looks_like_dicom
from tests.builders.dicoms import DIGITAL_XRAY, LIMIT, RAMP, REPORT, image, table
from tests.conftest import CALM, drawn_image

pytestmark = pytest.mark.filterwarnings("error", "ignore:.*:UserWarning:pydicom")

EXACT = 1e-6


def shown(data: bytes) -> NDArray[np.float32]:
    pixels, _, _ = decode(data, LIMIT)
    assert pixels.dtype == np.float32
    return pixels


def outcome(data: bytes) -> NDArray[np.float32] | PneumoscopeError:
    try:
        return decode(data, LIMIT)[0]
    except PneumoscopeError as error:
        return error


def test_a_dicom_file_is_known_by_its_mark_and_not_by_its_name() -> None:
    assert looks_like_dicom(image(RAMP))
    assert not looks_like_dicom(b"DICM")
    assert not looks_like_dicom(image(RAMP)[4:])


def test_it_is_read_like_any_other_image(tmp_path: Path) -> None:
    (tmp_path / "image.jpeg").write_bytes(image(RAMP, WindowCenter=2048, WindowWidth=4096))
    read = radiograph.read(tmp_path / "image.jpeg")
    assert (read.format, read.bits, read.notes) == ("DICOM", 12, ())
    assert np.abs(read.pixels - RAMP / 4095).max() < EXACT


def test_the_linear_window_is_the_standards() -> None:
    """The examples in the note of PS3.3, section C.11.2.1.2.1."""
    assert window(RAMP, 2048, 4096) == pytest.approx(RAMP / 4095)
    assert window(np.array([2047, 2048]), 2048, 1).tolist() == [0, 1]
    assert window(np.array([-51, -50, -49, 0, 48, 49, 50]), 0, 100) == pytest.approx(
        [0, 0, 1 / 99, 0.5 + 0.5 / 99, 98 / 99, 1, 1]
    )
    assert window(np.array([-1, 0]), 0, 1).tolist() == [0, 1]


def test_the_exact_linear_window_and_the_sigmoid_are_the_standards() -> None:
    values = np.linspace(-100, 100, 41)
    exact = np.clip((values - 10) / 80 + 0.5, 0, 1)
    assert window(values, 10, 80, "LINEAR_EXACT") == pytest.approx(exact)
    assert window(values, 10, 80, "SIGMOID") == pytest.approx(1 / (1 + np.exp(-4 * (values - 10) / 80)))
    assert window(np.array([-1e9, 1e9]), 0, 1e-3, "SIGMOID") == pytest.approx([0, 1])


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_the_function_named_in_the_file_is_used(function: str) -> None:
    data = image(RAMP, WindowCenter=1000, WindowWidth=500, VOILUTFunction=function)
    assert shown(data) == pytest.approx(window(RAMP, 1000, 500, function), abs=EXACT)


@pytest.mark.parametrize(("width", "function"), [(0, "LINEAR"), (0.5, "LINEAR"), (-5, "SIGMOID"), (0, "LINEAR_EXACT")])
def test_a_window_needs_a_width(width: float, function: str) -> None:
    with pytest.raises(UnreadableError, match=f"Expected a window width of .*, got {width}"):
        window(RAMP, 0, width, function)


def test_a_window_needs_a_known_function() -> None:
    with pytest.raises(UnreadableError, match="Expected a window function LINEAR, LINEAR_EXACT or SIGMOID"):
        window(RAMP, 0, 1, "CUBIC")


@pytest.mark.parametrize(
    "elements",
    [
        {"WindowCenter": 2048, "WindowWidth": 0},
        {"WindowCenter": 2048, "WindowWidth": -4096},
        {"WindowCenter": 2048, "WindowWidth": 0, "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": 2048, "WindowWidth": 2},
        {"WindowCenter": 0, "WindowWidth": 1},
        {"WindowCenter": 9000, "WindowWidth": 400},
        {"WindowCenter": -500, "WindowWidth": 800},
        {"WindowCenter": 2048, "WindowWidth": 65536},
        {"WindowCenter": 2048},
        {"WindowCenter": "1e400", "WindowWidth": "1e400"},
        {"VOILUTSequence": table(np.zeros(4096), 12)},
        {"VOILUTSequence": table(np.arange(4096), 16)},
        {"VOILUTSequence": Sequence([Dataset()])},
    ],
    ids=str,
)
def test_a_window_that_shows_nothing_of_the_image_is_as_good_as_none(elements: dict[str, Any]) -> None:
    assert np.array_equal(shown(image(RAMP, **elements)), shown(image(RAMP)))


def test_a_window_of_an_unknown_function_is_linear() -> None:
    data = image(RAMP, WindowCenter=1000, WindowWidth=500, VOILUTFunction="CUBIC")
    assert np.array_equal(shown(data), shown(image(RAMP, WindowCenter=1000, WindowWidth=500)))


def test_of_several_windows_the_first_that_shows_something_is_used() -> None:
    several = image(RAMP, WindowCenter=[9000, 1000, 3000], WindowWidth=[10, 500, 100])
    assert np.array_equal(shown(several), shown(image(RAMP, WindowCenter=1000, WindowWidth=500)))


def test_of_several_windows_the_first_is_used() -> None:
    several = image(RAMP, WindowCenter=[1000, 3000], WindowWidth=[500, 100])
    assert np.array_equal(shown(several), shown(image(RAMP, WindowCenter=1000, WindowWidth=500)))


@pytest.mark.parametrize("elements", [{}, {"WindowCenter": None, "WindowWidth": None}, {"VOILUTSequence": Sequence()}])
def test_without_a_window_all_but_the_most_extreme_values_fill_the_range(elements: dict[str, Any]) -> None:
    values = np.full((64, 64), 1000, dtype=np.uint16) + RAMP // 8
    values[0, :10] = 0, 1, 2, 3, 4, 4095, 4094, 4093, 4092, 4091
    pixels = shown(image(values, **elements))
    low, high = np.percentile(values, (0.5, 99.5))
    assert pixels == pytest.approx(np.clip((values - low) / (high - low), 0, 1), abs=EXACT)
    assert (pixels == 0).mean() < 0.02
    assert (pixels == 1).mean() < 0.02


@pytest.mark.parametrize(("bits", "kind"), [(8, np.uint8), (12, np.uint16), (12, np.int16), (16, np.uint16)])
def test_without_a_window_values_that_fill_their_bits_are_shown_as_in_a_png(bits: int, kind: type) -> None:
    most = 2**bits - 1
    brightness = np.linspace(0.1, 0.9, 4096).reshape(64, 64)
    values = np.round(brightness * most - (2 ** (bits - 1) if kind is np.int16 else 0)).astype(kind)
    assert shown(image(values, BitsStored=bits)) == pytest.approx(brightness, abs=1 / most)


@pytest.mark.parametrize("center", [b"204,80", b"2048\\ ", b"MARKER"])
def test_a_window_that_is_no_number_is_as_good_as_none(center: bytes) -> None:
    assert shown(broken(b"204.80", center, WindowCenter="204.80", WindowWidth="1000")).shape == RAMP.shape


def test_raw_detector_data_bring_a_remark() -> None:
    for data in (
        image(RAMP, PresentationIntentType="FOR PROCESSING"),
        image(RAMP, SOPClassUID=f"{DIGITAL_XRAY}.1"),
    ):
        assert decode(data, LIMIT)[2] == ("raw",)
    assert decode(image(RAMP, PresentationIntentType="FOR PRESENTATION"), LIMIT)[2] == ()


def test_a_transfer_syntax_that_is_none_is_said_so() -> None:
    data = broken(b"1.2.840.10008.1.2.1\0", b"1.2.3.4.5.6.7.8.9.1\0")
    with pytest.raises(UnsupportedError, match="Expected a transfer syntax of the DICOM standard"):
        decode(data, LIMIT)


def test_an_image_of_one_level_is_black() -> None:
    assert shown(image(np.full((4, 4), 700, dtype=np.uint16))).tolist() == np.zeros((4, 4)).tolist()


# Before the window, and after


def test_the_window_is_applied_to_rescaled_values() -> None:
    data = image(RAMP, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=500, WindowWidth=800)
    assert shown(data) == pytest.approx(window(RAMP * 2.0 - 1000, 500, 800), abs=EXACT)


def test_stored_values_may_be_negative() -> None:
    values = (RAMP.astype(np.int16) - 2048).astype(np.int16)
    assert shown(image(values, WindowCenter=0, WindowWidth=4096)) == pytest.approx(RAMP / 4095, abs=EXACT)


def test_a_modality_table_comes_before_the_window() -> None:
    squares = (np.arange(4096) ** 2 // 4096).astype(np.uint16)
    data = image(RAMP, ModalityLUTSequence=table(squares, 16), WindowCenter=1000, WindowWidth=500)
    assert shown(data) == pytest.approx(window(squares[RAMP], 1000, 500), abs=EXACT)


@pytest.mark.parametrize(
    "elements",
    [
        {"WindowCenter": 1000, "WindowWidth": 500},
        {"WindowCenter": 1000, "WindowWidth": 500, "VOILUTFunction": "SIGMOID"},
        {"VOILUTSequence": table(np.arange(4096) ** 2 // 4096, 12)},
        {},
    ],
    ids=["window", "sigmoid", "table", "percentiles"],
)
def test_monochrome1_is_inverted_after_the_window(elements: dict[str, Any]) -> None:
    """Inverted before it, an asymmetric window would cut the other end."""
    dark_is_high = shown(image(RAMP, PhotometricInterpretation="MONOCHROME1", **elements))
    assert dark_is_high == pytest.approx(1 - shown(image(RAMP, **elements)), abs=EXACT)
    assert dark_is_high[0, 0] == pytest.approx(1, abs=0.001)
    assert dark_is_high[-1, -1] == pytest.approx(0, abs=0.001)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_a_voi_table_of_4096_entries_is_looked_up_whatever_the_bits_of_its_entries(bits: int) -> None:
    entries = (np.linspace(0, 1, 4096) ** 2 * (2**bits - 1)).astype(np.uint16)
    expected = entries[RAMP] / (2**bits - 1)
    assert shown(image(RAMP, VOILUTSequence=table(entries, bits))) == pytest.approx(expected, abs=EXACT)


def test_a_voi_table_packed_to_a_byte_an_entry_is_looked_up() -> None:
    lut = Dataset()
    lut.LUTDescriptor = [4096, 0, 8]
    lut.add_new("LUTData", "OW", (np.arange(4096) // 16).astype(np.uint8).tobytes())
    assert shown(image(RAMP, VOILUTSequence=Sequence([lut]))) == pytest.approx(RAMP // 16 / 255, abs=EXACT)


def test_a_voi_table_of_numbers_instead_of_bytes_is_looked_up() -> None:
    lut = Dataset()
    lut.LUTDescriptor = [5, 1000, 8]
    lut.add_new("LUTData", "US", [25, 51, 102, 153, 204])
    pixels = shown(image(RAMP, VOILUTSequence=Sequence([lut])))
    assert pixels.ravel()[[0, 1000, 1001, 1002, 1003, 1004, 4095]] == pytest.approx(
        [25 / 255, 25 / 255, 0.2, 0.4, 0.6, 0.8, 0.8]
    )


def test_values_beyond_a_table_take_its_ends() -> None:
    data = image(RAMP, VOILUTSequence=table(np.arange(100, 1000), 12, first=2000))
    assert shown(data) == pytest.approx(np.clip(RAMP.astype(int) - 1900, 100, 999) / 999, abs=EXACT)


def test_a_table_is_applied_to_rescaled_values_and_goes_before_a_window() -> None:
    data = image(
        RAMP,
        RescaleSlope=0.5,
        RescaleIntercept=0,
        WindowCenter=1,
        WindowWidth=2,
        VOILUTSequence=table(np.arange(2048), 11),
    )
    assert shown(data) == pytest.approx(RAMP // 2 / 2047, abs=EXACT)


def test_a_table_of_65536_entries_is_looked_up() -> None:
    values = np.linspace(0, 65535, 4096).astype(np.uint16).reshape(64, 64)
    data = image(values, BitsStored=16, VOILUTSequence=table(np.arange(65536)[::-1], 16))
    assert shown(data) == pytest.approx(1 - values / 65535, abs=EXACT)


@pytest.mark.parametrize(("dtype", "bits"), [("uint8", 8), ("uint16", 10), ("uint16", 12), ("uint16", 16)])
def test_every_depth_is_kept(dtype: str, bits: int) -> None:
    values = np.linspace(0, 2**bits - 1, 4096).astype(dtype).reshape(64, 64)
    data = image(values, BitsStored=bits, WindowCenter=2 ** (bits - 1), WindowWidth=2**bits)
    pixels, stored, _ = decode(data, LIMIT)
    assert stored == bits
    assert pixels == pytest.approx(values / (2**bits - 1), abs=EXACT)


@pytest.mark.parametrize("level", [0, 255, 256, 32767, 65534])
def test_two_neighbouring_16_bit_levels_stay_two(level: int) -> None:
    values = np.linspace(0, 65535, 4096).astype(np.uint16).reshape(64, 64)
    values[0, :2] = level, level + 1
    dark, light = shown(image(values, BitsStored=16, WindowCenter=32768, WindowWidth=65536))[0, :2]
    assert (light - dark) * 65535 == pytest.approx(1, abs=0.01)


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


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        RLELossless,
    ],
    ids=lambda syntax: syntax.name,
)
@pytest.mark.parametrize("tabled", [False, True])
def test_every_transfer_syntax_gives_the_same_image(syntax: UID, tabled: bool) -> None:
    entries = np.arange(4096)[::-1]
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    voi = {"VOILUTSequence": table(entries, 12, order=order)} if tabled else {"WindowCenter": 2048, "WindowWidth": 4096}
    expected = entries[RAMP] / 4095 if tabled else RAMP / 4095
    assert shown(image(RAMP, syntax, **voi)) == pytest.approx(expected, abs=EXACT)


def test_run_lengths_of_colours_are_the_same_image() -> None:
    assert shown(image(COLOUR, RLELossless, PhotometricInterpretation="RGB")) == pytest.approx(LUMA, abs=EXACT)


def shipped(name: str) -> bytes:
    """A file that travels inside pydicom."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    return Path(path).read_bytes()


def as_radiograph(name: str) -> bytes:
    """One of pydicom's files with a header that claims to be of a radiograph."""
    dataset, file = dcmread(io.BytesIO(shipped(name))), io.BytesIO()
    dataset.SOPClassUID, dataset.Modality, dataset.BodyPartExamined = DIGITAL_XRAY, "DX", "CHEST"
    dataset.save_as(file)
    return file.getvalue()


@pytest.mark.parametrize(
    "name",
    ["expb", "implicit", "bigendian", "RLE", "padded", "jp2klossless", "jpeg_ls_lossless"],
    ids=lambda name: f"MR_small_{name}",
)
def test_a_scanners_image_is_the_same_in_every_transfer_syntax(name: str) -> None:
    assert np.array_equal(shown(as_radiograph(f"MR_small_{name}.dcm")), shown(as_radiograph("MR_small.dcm")))


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


@pytest.mark.parametrize("name", sorted(reader._LOOKED_INTO))
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


def test_a_rescaling_to_infinity_is_unreadable() -> None:
    with pytest.raises(UnreadableError, match="Expected finite pixels"):
        decode(image(RAMP, RescaleSlope="1e308", RescaleIntercept="1e308"), LIMIT)


def test_an_image_cut_anywhere_is_unreadable() -> None:
    for data in (image(RAMP), image(RAMP, RLELossless), image(RAMP, DeflatedExplicitVRLittleEndian)):
        for cut in range(132, len(data) - 10, len(data) // 60):
            with pytest.raises((UnreadableError, UnsupportedError)):
                decode(data[:cut], LIMIT)
    with pytest.raises(UnreadableError):
        decode(as_radiograph("MR_truncated.dcm"), LIMIT)


def anonymous(error: PneumoscopeError) -> bool:
    told = "".join(traceback.format_exception(error))
    return not any(mark in told for mark in ("MARKER", "19010203", "1901"))


def broken(old: bytes, new: bytes, **elements: Any) -> bytes:
    data = image(RAMP, **elements)
    assert data.count(old) == 1
    assert len(old) == len(new)
    return data.replace(old, new)


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


def test_no_remark_of_pydicoms_is_shown_for_it_would_quote_the_header(tmp_path: Path) -> None:
    data = broken(b"765432", b"MARKER", NumberOfFrames="765432")
    with pytest.raises(UnreadableError), pytest.warns(UserWarning, match="MARKER"):  # it is really made
        decode(data, LIMIT)
    (tmp_path / "image.dcm").write_bytes(data)
    program = (
        "import sys; from pneumoscope import errors; from pneumoscope.imaging import radiograph\n"
        "try: radiograph.read(sys.argv[1])\n"
        "except errors.UnreadableError as error: print(error)"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "always", "-c", program, str(tmp_path / "image.dcm")], capture_output=True, check=True
    )
    assert ran.stdout
    assert b"MARKER" not in ran.stdout + ran.stderr


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


@pytest.mark.parametrize(
    ("elements", "adult"),
    [
        ({"PatientAge": "045Y"}, True),
        ({"PatientAge": "018Y"}, True),
        ({"PatientAge": "017Y"}, False),
        ({"PatientAge": "030M"}, False),
        ({"PatientAge": "003Y", "PatientBirthDate": "19500101", "StudyDate": "20200101"}, False),
        ({"PatientBirthDate": "19500630", "StudyDate": "19680630"}, True),
        ({"PatientBirthDate": "19500630", "StudyDate": "19680629"}, False),
        ({"PatientBirthDate": "19500630"}, False),
        ({"PatientBirthDate": "about 1950", "StudyDate": "20200101"}, False),
        ({"PatientAge": "old"}, False),
        ({"PatientAge": "45"}, True),
        ({"PatientAge": "45Y"}, True),
        ({"PatientAge": "5"}, False),
        ({"PatientAge": "000Y", "PatientBirthDate": "19500630", "StudyDate": "20200101"}, True),
        ({"PatientBirthDate": None}, False),
    ],
    ids=str,
)
def test_an_adult_is_known_by_the_age_or_else_by_the_dates(elements: dict[str, Any], adult: bool) -> None:
    _, _, notes = decode(image(RAMP, **elements), LIMIT)
    assert ("adult_patient" in notes) is adult


@pytest.mark.parametrize(
    ("elements", "group"),
    [
        ({"PatientAge": "045Y"}, "adult_patient"),
        ({"PatientAge": "017Y"}, "adolescent_patient"),
        ({"PatientAge": "012Y"}, "adolescent_patient"),
        ({"PatientAge": "018M"}, "child_patient"),
        ({"PatientAge": "011M"}, "infant_patient"),
        ({"PatientAge": "051W"}, "infant_patient"),
        ({"PatientAge": "020D"}, "infant_patient"),
        ({"PatientBirthDate": "20200630", "StudyDate": "20210629"}, "infant_patient"),
        ({"PatientBirthDate": "20200630", "StudyDate": "20210630"}, "child_patient"),
        ({"PatientBirthDate": "20200630", "StudyDate": "20190630"}, None),
        ({"PatientAge": "000D"}, None),
    ],
    ids=str,
)
def test_the_age_group_is_known_by_the_age_or_else_by_the_dates(elements: dict[str, Any], group: str | None) -> None:
    _, _, notes = decode(image(RAMP, **elements), LIMIT)
    assert [note for note in notes if note.endswith("_patient")] == [group] * bool(group)


# Files as careless programs leave them


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("with_meta", [True, False])
def test_a_file_without_preamble_is_known_and_read(syntax: UID, with_meta: bool) -> None:
    data = image(RAMP, syntax, WindowCenter=2048, WindowWidth=4096, Modality="CR")
    whole = dcmread(io.BytesIO(data))
    start = 132 if with_meta else 132 + 12 + int(whole.file_meta.FileMetaInformationGroupLength)
    assert looks_like_dicom(data[start:])
    assert shown(data[start:]) == pytest.approx(RAMP / 4095, abs=EXACT)
    assert radiograph.read(data[start:]).format == "DICOM"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x08",
        b"\x08\0\x05\0",
        b"\x08\0" * 500,
        b"\x02\0\0\0UL\x04\0" + bytes(4),
        bytes(500),
        b"\xff" * 500,
        b"Patient: HAND" * 50,
        b"\x89PNG\r\n\x1a\n" + bytes(500),
        b"II*\0\x08\0\0\0" + bytes(500),
        b"PK\x03\x04" + bytes(500),
        b"\x7fELF\x02\x01\x01" + bytes(500),
        b"\x08\0\x05\0CS\x0a\0ISO_IR 100\x08\0\x05\0CS\x02\0AB\x08\0\x10\0CS\x02\0AB",
        b"\x08\0\x05\0ZZ\x02\0AB\x08\0\x08\0ZZ\x02\0AB\x08\0\x10\0ZZ\x02\0AB",
        b"\x08\0\x05\0CS\x02\0AB\x08\0\x08\0CS\x02\0AB\x08\0\x10\0CS\xf0\0AB",
    ],
)
def test_what_does_not_begin_with_data_elements_in_order_is_no_dicom_file(data: bytes) -> None:
    assert not looks_like_dicom(data)


@given(st.binary(max_size=400))
@settings(CALM, max_examples=300)
def test_hardly_any_bytes_are_taken_for_a_dicom_file(data: bytes) -> None:
    assert not looks_like_dicom(data)


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


# Bits, signs and padding


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("stored", "high"), [(12, 11), (10, 9), (12, 15), (8, 11)])
def test_bits_beyond_those_stored_are_no_part_of_the_image(stored: int, high: int, signed: bool) -> None:
    """Old scanners keep overlays there, others whatever was in memory."""
    levels = RAMP.astype(np.int64) % 2**stored
    rubbish = np.random.default_rng(0).integers(0, 2**16, RAMP.shape)
    mask = (2**stored - 1) << (high + 1 - stored)
    packed = ((levels << (high + 1 - stored)) & mask | rubbish & ~mask).astype(np.uint16)
    data = image(
        packed.view(np.int16) if signed else packed,
        BitsStored=stored,
        HighBit=high,
        WindowCenter=0 if signed else 2 ** (stored - 1),
        WindowWidth=2**stored,
    )
    expected = (levels + 2 ** (stored - 1)) % 2**stored if signed else levels
    assert shown(data) == pytest.approx(expected / (2**stored - 1), abs=EXACT)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("windowed", [False, True])
def test_padding_is_black_and_counts_for_nothing(photometric: str, windowed: bool) -> None:
    values = np.clip(RAMP, 1000, 2000).astype(np.int16)
    voi: dict[str, Any] = {"WindowCenter": 1500, "WindowWidth": 1000} if windowed else {}
    bare = shown(image(values, PhotometricInterpretation=photometric, **voi))
    padded = np.concatenate([np.full((64, 64), -2048, dtype=np.int16), values], axis=1)
    pixels = shown(image(padded, PhotometricInterpretation=photometric, PixelPaddingValue=-2048, **voi))
    assert np.all(pixels[:, :64] == 0)
    assert np.array_equal(pixels[:, 64:], bare)


def test_a_range_of_padding_is_black_whichever_end_is_named_first() -> None:
    for value, limit in ((0, 500), (500, 0)):
        data = image(RAMP, PixelPaddingValue=value, PixelPaddingRangeLimit=limit, WindowCenter=2048, WindowWidth=4096)
        expected = np.where(RAMP <= 500, 0, RAMP / 4095)
        assert shown(data) == pytest.approx(expected, abs=EXACT)


def test_padding_that_covers_the_whole_image_is_no_padding() -> None:
    data = image(RAMP, PixelPaddingValue=0, PixelPaddingRangeLimit=4095)
    assert np.array_equal(shown(data), shown(image(RAMP)))


def test_padding_with_the_wrong_sign_is_still_known() -> None:
    values = RAMP.astype(np.int16) - 2048
    for padding in (-2048, 63488):
        dataset = dcmread(io.BytesIO(image(values)))
        dataset.add_new("PixelPaddingValue", "US" if padding > 0 else "SS", padding)
        file = io.BytesIO()
        dataset.save_as(file)
        assert shown(file.getvalue())[0, 0] == 0


def test_a_deep_image_is_displayed_level_by_level() -> None:
    values = (RAMP.astype(np.uint32) << 12) + 7
    data = image(values, BitsStored=24, WindowCenter=2**23, WindowWidth=2**24)
    assert shown(data) == pytest.approx(values / (2**24 - 1), abs=EXACT)


def test_a_table_that_starts_below_zero_may_be_written_without_its_sign() -> None:
    values = RAMP.astype(np.int16) - 2048
    unsigned = table(np.arange(4096), 12)
    unsigned[0].add_new("LUTDescriptor", "US", [4096, 65536 - 2048, 12])
    data = image(values, VOILUTSequence=unsigned)
    assert shown(data) == pytest.approx(RAMP / 4095, abs=EXACT)
