"""`grayscale`: stored values become brightness in the order of the standard, by rescaling, tables and windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

from pneumoscope.errors import UnreadableError
from pneumoscope.imaging.dicom.decoder import decode
from pneumoscope.imaging.dicom.grayscale import window
from tests.builders.dicoms import EXACT, LIMIT, RAMP, broken, image, shown, table

pytestmark = pytest.mark.filterwarnings("error", "ignore:.*:UserWarning:pydicom")


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


@pytest.mark.parametrize("center", [b"204,80", b"2048\\ ", b"MARKER"])
def test_a_window_that_is_no_number_is_as_good_as_none(center: bytes) -> None:
    assert shown(broken(b"204.80", center, WindowCenter="204.80", WindowWidth="1000")).shape == RAMP.shape


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


def test_a_rescaling_to_infinity_is_unreadable() -> None:
    with pytest.raises(UnreadableError, match="Expected finite pixels"):
        decode(image(RAMP, RescaleSlope="1e308", RescaleIntercept="1e308"), LIMIT)


def test_a_table_that_starts_below_zero_may_be_written_without_its_sign() -> None:
    values = RAMP.astype(np.int16) - 2048
    unsigned = table(np.arange(4096), 12)
    unsigned[0].add_new("LUTDescriptor", "US", [4096, 65536 - 2048, 12])
    data = image(values, VOILUTSequence=unsigned)
    assert shown(data) == pytest.approx(RAMP / 4095, abs=EXACT)
