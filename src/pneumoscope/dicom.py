"""DICOM files to pixels: modality, window and photometric interpretation, in the order the standard gives them."""

from __future__ import annotations

import io
import logging
import re
import warnings
from contextlib import suppress
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

from pneumoscope.errors import PneumoscopeError, TooLargeError, UnreadableError, UnsupportedError
from pneumoscope.picture import LUMA

_PREAMBLE = 128

ADULT = 18
"""Years."""

# pydicom remarks on every value that strays from the standard, and quotes it: it may be a patient's name. Silenced
# once, because `catch_warnings` around each file is not safe in threads.
warnings.filterwarnings("ignore", module="pydicom")
logging.getLogger("pydicom").setLevel(logging.ERROR)


def looks_like_dicom(data: bytes) -> bool:
    """Say whether bytes begin as a DICOM file does (PS3.10, section 7.1: 128 bytes, then `DICM`).

    Example:
        >>> looks_like_dicom(bytes(128) + b"DICM")
        True
    """
    return data[_PREAMBLE : _PREAMBLE + 4] == b"DICM"


def decode(data: bytes, max_pixels: int) -> tuple[NDArray[np.float32], int, tuple[str, ...]]:
    """Decode the first frame of a DICOM file.

    The stored values pass the modality LUT or rescale, then the first VOI window or LUT, or where there is none a
    window from the 0.5th to the 99.5th percentile; MONOCHROME1 is inverted last (PS3.4, section N.2).

    Args:
        data: the bytes of the file.
        max_pixels: the largest rows times columns to decode.

    Returns:
        float32 (H, W) in [0, 1], bright is dense tissue; the bits stored a sample; notes, of
        `first_frame_only` and `adult_patient`.

    Raises:
        UnsupportedError: the object has no picture, or a compression that cannot be decoded here.
        TooLargeError: more than `max_pixels` pixels.
        UnreadableError: the file is damaged.

    Example:
        >>> pixels, bits, notes = decode(open("film.dcm", "rb").read(), 10**8)  # doctest: +SKIP
    """
    try:
        dataset = pydicom.dcmread(io.BytesIO(data))
        _check(dataset, max_pixels)
        with np.errstate(all="ignore"):  # what absurd numbers in the header give is checked below
            pixels = _displayed(dataset, pixel_array(dataset, index=0))
        bits, frames = int(dataset.BitsStored), int(dataset.get("NumberOfFrames") or 1)
    except PneumoscopeError:
        raise
    except MemoryError:
        raise TooLargeError("The picture does not fit into memory.") from None
    except Exception as error:  # noqa: BLE001 - pydicom and its decoders raise every kind of error on corrupt files
        # Not chained: pydicom quotes the header, which may identify a patient.
        raise _undecodable(data, error) from None
    if not np.isfinite(pixels).all():
        raise UnreadableError("Expected finite pixels, got some that are none after rescaling: export the film again.")
    notes = tuple(
        note for note, holds in (("first_frame_only", frames > 1), ("adult_patient", is_adult(dataset))) if holds
    )
    return np.ascontiguousarray(pixels, dtype=np.float32), bits, notes


def _check(dataset: pydicom.Dataset, max_pixels: int) -> None:
    if "PixelData" not in dataset:
        kind = dataset.get("SOPClassUID")
        # A damaged length makes the patient's name a part of the class: only a class from pydicom's list is told.
        name = kind.name if getattr(kind, "keyword", "") else "an object of no known class"
        raise UnsupportedError(f"Expected a radiograph, got a DICOM file without a picture ({name}).")
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if rows * columns > max_pixels:
        raise TooLargeError(
            f"Expected at most {max_pixels:,} pixels, got {columns} x {rows}: no radiograph is that large."
        )
    if rows < 1 or columns < 1:
        raise UnreadableError(f"Expected a picture, got {columns} x {rows} pixels: the header is damaged.")


def _displayed(dataset: pydicom.Dataset, stored: NDArray[Any]) -> NDArray[Any]:
    """Stored values (H, W) or (H, W, 3) to displayed brightness (H, W) in [0, 1]."""
    photometric = str(dataset.get("PhotometricInterpretation") or "MONOCHROME2")
    depth = int(dataset.BitsStored)
    if photometric == "PALETTE COLOR":
        stored, depth = apply_color_lut(stored, dataset), int(dataset.RedPaletteColorLookupTableDescriptor[2])
    if stored.ndim == 3:
        return np.clip(stored[..., :3] / np.float32(2**depth - 1), 0.0, 1.0) @ LUMA
    little = dataset.original_encoding[1]
    if dataset.get("ModalityLUTSequence"):
        values, _ = _looked_up(stored, dataset.ModalityLUTSequence[0], little)
    else:
        values = apply_modality_lut(stored, dataset)  # the rescale slope and intercept
    if dataset.get("VOILUTSequence"):
        shown, depth = _looked_up(values, dataset.VOILUTSequence[0], little)
        shown = shown / (2**depth - 1)
    elif dataset.get("WindowWidth") is not None and dataset.get("WindowCenter") is not None:
        function = str(dataset.get("VOILUTFunction") or "LINEAR")
        shown = window(values, _first(dataset.WindowCenter), _first(dataset.WindowWidth), function)
    else:
        low, high = np.percentile(values, (0.5, 99.5))
        shown = (values - low) / ((high - low) or 1.0)
    shown = np.clip(shown, 0.0, 1.0)
    return 1.0 - shown if photometric == "MONOCHROME1" else shown


def _looked_up(values: NDArray[Any], table: pydicom.Dataset, little: bool) -> tuple[NDArray[Any], int]:
    """Look values up in a modality or VOI LUT (PS3.3, section C.11.1.1), and give the bits of its entries.

    pydicom's own function counts the entries in as many bits as they have, which garbles 4,096 entries of 8 bits.
    """
    entries, first, depth = (int(number) for number in table.LUTDescriptor)
    entries = entries or 65536
    lut = table.LUTData
    if isinstance(lut, bytes):
        lut = np.frombuffer(lut, f"{'<' if little else '>'}u{len(lut) // entries}")
    return np.asarray(lut)[np.clip(values - float(first), 0, entries - 1).astype(np.int64)], depth


def is_adult(header: pydicom.Dataset) -> bool:
    """Say whether a header makes the patient an adult, by the age or else by the dates of birth and study.

    Example:
        >>> header = pydicom.Dataset()
        >>> header.PatientAge = "045Y"
        >>> is_adult(header)
        True
    """
    # 045Y, 018M, 003W or 012D (PS3.5, section 6.2); in use also 45, 45Y and the like.
    age = re.fullmatch(r"0*(\d{1,3})\s*([YMWD]?)", str(header.get("PatientAge") or "").strip().upper())
    if age and int(age[1]):
        return age[2] in ("", "Y") and int(age[1]) >= ADULT
    born, studied = (str(header.get(name) or "") for name in ("PatientBirthDate", "StudyDate"))
    if re.fullmatch(r"\d{8}", born) and re.fullmatch(r"\d{8}", studied):
        return int(studied) - int(born) >= ADULT * 10_000  # YYYYMMDD
    return False


def window(values: NDArray[Any], center: float, width: float, function: str = "LINEAR") -> NDArray[np.float64]:
    """Apply a VOI window (PS3.3, section C.11.2.1.2 and C.11.2.1.3).

    Args:
        values: modality values, any shape.
        center: window centre, in modality values.
        width: window width; at least 1 for `LINEAR`, above 0 for the others.
        function: `LINEAR`, `LINEAR_EXACT` or `SIGMOID`.

    Returns:
        float64 of the same shape, in [0, 1].

    Raises:
        UnreadableError: the width is not positive or the function not one of the three.

    Example:
        >>> window(np.array([0, 50, 100]), 50.0, 100.0, "LINEAR_EXACT")
        array([0. , 0.5, 1. ])
    """
    values = np.asarray(values, dtype=np.float64)
    if width < 1 if function == "LINEAR" else width <= 0:
        least = "at least 1" if function == "LINEAR" else "above 0"
        raise UnreadableError(f"Expected a window width of {least}, got {width:g}: the header is damaged.")
    if function == "LINEAR":
        if width == 1:
            return (values > center - 0.5).astype(np.float64)
        shown = (values - (center - 0.5)) / (width - 1) + 0.5
    elif function == "LINEAR_EXACT":
        shown = (values - center) / width + 0.5
    elif function == "SIGMOID":
        shown = 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - center) / width, -500, 500)))
    else:
        raise UnreadableError(f"Expected a window function LINEAR, LINEAR_EXACT or SIGMOID, got '{function}'.")
    return np.clip(shown, 0.0, 1.0)


def _first(value: Any) -> float:  # noqa: ANN401 - a DICOM value of one or several numbers
    return float(value[0]) if isinstance(value, (list, tuple, pydicom.multival.MultiValue)) else float(value)


def _undecodable(data: bytes, error: Exception) -> PneumoscopeError:
    """Name the transfer syntax where it is the reason; never quote the header, which may identify a patient.

    A damaged length makes the patient's name a part of the syntax: one that pydicom does not know has no
    `is_compressed`.
    """
    with suppress(Exception):  # a header this damaged has no syntax to name
        syntax = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True, force=True).file_meta.TransferSyntaxUID
        if isinstance(error, (NotImplementedError, RuntimeError)) and syntax.is_compressed:
            return UnsupportedError(f"Expected a DICOM picture that can be decoded here, got one in '{syntax.name}'.")
    return UnreadableError("The DICOM file is damaged: export it again.")
