"""`display`: an image is shown as its header says, whatever its header forgets or gets wrong."""

from __future__ import annotations

import io
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.sequence import Sequence
from pydicom.uid import UID, JPEG2000Lossless, JPEGLSLossless

from pneumoscope import Detector
from pneumoscope.errors import UnreadableError
from pneumoscope.imaging.dicom.decoder import decode
from tests.builders.dicoms import EXACT, LIMIT, RAMP, compressed, image, shown, table
from tests.conftest import drawn_image

pytestmark = pytest.mark.filterwarnings("error", "ignore:.*:UserWarning:pydicom")

CHEST = drawn_image(1, seed=3, size=128)
CHEST[:2, :8] = 255
UNIT = CHEST / np.float32(255)
DEEP = np.round(UNIT * 4095).astype(np.uint16)


# As pydicom shows it


@pytest.mark.parametrize(
    "elements",
    [
        {"WindowCenter": 2000, "WindowWidth": 3000},
        {"WindowCenter": 2000, "WindowWidth": 3000, "VOILUTFunction": "LINEAR_EXACT"},
        {"WindowCenter": 2000, "WindowWidth": 3000, "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": [2000, 100], "WindowWidth": [3000, 50]},
        {"WindowCenter": 500, "WindowWidth": 2500, "RescaleSlope": 0.5, "RescaleIntercept": -24},
        {"WindowCenter": 2500, "WindowWidth": 6000, "RescaleSlope": 2, "RescaleIntercept": -1024},
        {"ModalityLUTSequence": table(np.arange(4096) ** 2 // 256, 16), "WindowCenter": 30_000, "WindowWidth": 60_000},
        {"VOILUTSequence": table(np.arange(4096)[::-1], 12)},
        {"VOILUTSequence": table(np.arange(4096) ** 2 // 4096, 12)},
    ],
    ids=str,
)
def test_gray_is_what_pydicom_makes_of_it(elements: dict[str, Any]) -> None:
    data = image(DEEP, **elements)
    dataset = dcmread(io.BytesIO(data))
    theirs = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset).astype(np.float64)
    if "VOILUTSequence" in elements:
        theirs /= 2.0 ** dataset.VOILUTSequence[0].LUTDescriptor[2] - 1
    elif "ModalityLUTSequence" in elements:
        theirs /= 65_535
    else:  # spread over what the stored bits become when rescaled
        slope, intercept = float(elements.get("RescaleSlope", 1)), float(elements.get("RescaleIntercept", 0))
        least, most = sorted((intercept, 4095 * slope + intercept))
        theirs = (theirs - least) / (most - least)
    assert shown(data) == pytest.approx(theirs, abs=0.002)


# Tables


@pytest.mark.parametrize(("declared", "real"), [(16, 14), (16, 12), (16, 10), (12, 10), (16, 8)])
def test_a_voi_table_that_fills_fewer_bits_than_it_declares_is_as_bright(declared: int, real: int) -> None:
    entries = np.round(np.arange(4096) / 4095 * (2**real - 1))
    assert shown(image(DEEP, VOILUTSequence=table(entries, declared))) == pytest.approx(UNIT, abs=0.003)


def test_a_voi_table_that_ends_before_its_declared_entries_is_looked_up() -> None:
    short = table(np.arange(4096), 12)
    short[0].LUTDescriptor = [0, 0, 12]  # 65,536 of them
    assert shown(image(DEEP, VOILUTSequence=short)) == pytest.approx(UNIT, abs=0.001)


# Windows


@pytest.mark.parametrize("slope", [1 / 4095, 0.01, 0.1])
@pytest.mark.parametrize("width", [4096, 3900, 500])
def test_a_window_is_the_same_in_whatever_units_the_slope_makes(slope: float, width: int) -> None:
    scaled = image(
        DEEP,
        RescaleSlope=f"{slope:.10g}",
        RescaleIntercept=0,
        WindowCenter=f"{2000 * slope:.10g}",
        WindowWidth=f"{width * slope:.10g}",
    )
    plain = image(DEEP, WindowCenter=2000, WindowWidth=width)
    assert shown(scaled) == pytest.approx(shown(plain), abs=0.001)


@pytest.mark.parametrize(("stored", "used"), [(16, 12), (16, 10), (14, 12), (16, 14), (12, 10)])
@pytest.mark.parametrize("signed", [False, True])
def test_without_a_window_the_bits_in_use_are_shown(stored: int, used: int, signed: bool) -> None:
    values = np.round(UNIT * (2**used - 1)).astype(np.int16 if signed else np.uint16)
    assert shown(image(values, BitsStored=stored)) == pytest.approx(UNIT, abs=0.003)


def test_without_a_window_a_hot_pixel_changes_nothing_else() -> None:
    values = DEEP.copy()
    values[64, 64] = 65_535
    assert np.delete(shown(image(values, BitsStored=16)), 64, axis=0) == pytest.approx(
        np.delete(UNIT, 64, axis=0), abs=0.003
    )


# Stored values


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless], ids=["JPEG 2000", "JPEG-LS"])
def test_bits_above_those_stored_are_cut_off_in_compressed_frames_too(syntax: UID) -> None:
    overlaid = DEEP.copy()
    overlaid[40:60, 40:60] |= 0x3000
    encode = imagecodecs.jpeg2k_encode if syntax == JPEG2000Lossless else imagecodecs.jpegls_encode
    options: dict[str, Any] = (
        {"codecformat": "j2k", "reversible": True, "level": 0} if syntax == JPEG2000Lossless else {}
    )
    assert shown(compressed(overlaid, bytes(encode(overlaid, **options)), syntax)) == pytest.approx(UNIT, abs=0.001)


@pytest.mark.parametrize(("name", "kind"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")])
@pytest.mark.parametrize("most", [1.0, 4095.0, 0.01])
def test_float_pixel_data_are_shown(name: str, kind: str, most: float) -> None:
    dataset = dcmread(io.BytesIO(image(DEEP)))
    del dataset.PixelData
    dataset.BitsAllocated = 8 * int(kind[-1])
    del dataset.BitsStored, dataset.HighBit
    setattr(dataset, name, (UNIT * most).astype(kind).tobytes())
    file = io.BytesIO()
    dataset.save_as(file)
    assert shown(file.getvalue()) == pytest.approx(UNIT, abs=0.003)


@pytest.mark.parametrize("photometric", [b"monochrome1 ", b"MONOCHROME1\0", b"Monochrome1 "])
def test_a_photometric_interpretation_may_be_padded_or_in_small_letters(photometric: bytes) -> None:
    data = image(DEEP, PhotometricInterpretation="MONOCHROME1")
    assert shown(data.replace(b"MONOCHROME1 ", photometric)) == pytest.approx(1 - UNIT, abs=0.001)


@pytest.mark.parametrize("slope", [b"0,5 ", b"one ", b"0\\0 ", b"0   ", b"0.00"])
def test_a_slope_that_is_no_number_or_zero_is_named(slope: bytes) -> None:
    data = image(DEEP, RescaleSlope="1.25", RescaleIntercept="0")
    with pytest.raises(UnreadableError, match="Rescale Slope"):
        decode(data.replace(b"1.25", slope), LIMIT)


@pytest.mark.parametrize(("declared", "real"), [(16, 16), (16, 8), (8, 8)])
@pytest.mark.parametrize("entries", [256, 255, 0])
def test_a_palette_is_as_bright_whatever_bits_it_declares(declared: int, real: int, entries: int) -> None:
    levels = np.round(np.arange(entries or 65_536) % 256 / 255 * (2**real - 1)).astype("<u2")
    palette: dict[str, Any] = {}
    for colour in ("Red", "Green", "Blue"):
        palette[f"{colour}PaletteColorLookupTableDescriptor"] = [entries, 0, declared]
        palette[f"{colour}PaletteColorLookupTableData"] = levels.tobytes()
    data = image(CHEST, PhotometricInterpretation="PALETTE COLOR", **palette)
    assert shown(data) == pytest.approx(UNIT, abs=0.006)


@pytest.mark.parametrize("used", [10, 12, 16])
def test_colour_that_uses_fewer_bits_than_are_stored_is_as_bright(used: int) -> None:
    values = np.round(np.stack([UNIT] * 3, axis=-1) * (2**used - 1)).astype(np.uint16)
    assert shown(image(values, PhotometricInterpretation="RGB", BitsStored=16)) == pytest.approx(UNIT, abs=0.003)


# Inverse display


def test_an_inverse_display_is_inverted_once_and_noted() -> None:
    pixels, _, notes = decode(image(DEEP, PresentationLUTShape="INVERSE"), LIMIT)
    assert pixels == pytest.approx(1 - UNIT, abs=0.001)
    assert notes == ("inverse_display",)
    pixels, _, notes = decode(
        image(DEEP, PresentationLUTShape="INVERSE", PhotometricInterpretation="MONOCHROME1"), LIMIT
    )
    assert pixels == pytest.approx(1 - UNIT, abs=0.001)
    assert notes == ()
    assert decode(image(DEEP, PresentationLUTShape="IDENTITY"), LIMIT)[2] == ()


@pytest.mark.images
@pytest.mark.parametrize("stored_inverted", [True, False])
def test_an_inverse_display_is_settled_by_what_looks_like_a_chest(
    stored_inverted: bool, sample: NDArray[np.uint8]
) -> None:
    stored = 255 - sample if stored_inverted else sample
    found, twin = Detector().examine([image(stored, PresentationLUTShape="INVERSE", BitsStored=8), sample])
    assert found.probability == pytest.approx(twin.probability, abs=0.01)
    assert "inverse_display" in found.warnings
    assert "inverted" not in found.warnings


@pytest.fixture(scope="module")
def sample(data: Any) -> NDArray[np.uint8]:
    from PIL import Image

    path = min((data / "kermany_original" / "val" / "NORMAL").iterdir())
    return np.asarray(Image.open(path).convert("L").resize((640, 480)))


# Orientation


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [(["L", "F"], False), (["R", "F"], True), (["R", "H"], True), (["F", "L"], True), (["LP", "FA"], False),
     (["X", "Y"], False), ("L", False), (None, False)],
)  # fmt: skip
def test_an_orientation_that_is_not_upright_is_named(orientation: Any, turned: bool) -> None:
    elements = {} if orientation is None else {"PatientOrientation": orientation}
    assert ("turned_by_header" in decode(image(DEEP, **elements), LIMIT)[2]) is turned


# Without a window, and with the widest


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


def test_an_image_of_one_level_is_black() -> None:
    assert shown(image(np.full((4, 4), 700, dtype=np.uint16))).tolist() == np.zeros((4, 4)).tolist()


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
