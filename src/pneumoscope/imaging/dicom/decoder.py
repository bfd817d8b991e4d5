"""Decodes the image of a DICOM file: checks and completes its description, and renders the first frame."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from pneumoscope.errors import PneumoscopeError, TooLargeError, UnreadableError, UnsupportedError
from pneumoscope.imaging import colour
from pneumoscope.imaging.dicom import display, parser
from pneumoscope.imaging.dicom import frames as dicom_frames
from pneumoscope.imaging.dicom import header as dicom_header
from pneumoscope.imaging.raster import check_size

_PHOTOMETRIC = {
    *("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "ARGB", "CMYK", "HSV", "YBR_FULL", "YBR_FULL_422"),
    *("YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT", "XYB"),
}
"""Photometric interpretations (PS3.3, section C.7.6.3.1.2), some of them retired."""

_LOOKED_INTO = {
    "AnatomicRegionSequence": 100_000,
    "ViewCodeSequence": 100_000,
    "ModalityLUTSequence": 2_000_000,  # a table of 65,536 entries has 131,072 bytes
    "VOILUTSequence": 2_000_000,
}
"""Sequences that are parsed, and the bytes allowed in each: an item of 8 bytes takes a kilobyte of memory."""


def decode(data: bytes, max_pixels: int) -> tuple[NDArray[np.float32], int, tuple[str, ...]]:
    """Decode the first frame of a DICOM file.

    Args:
        data: the bytes of the file.
        max_pixels: the largest number of pixels (rows times columns) to decode.

    Returns:
        float32 (H, W) in [0, 1], bright is dense tissue; the bits stored per sample; notes: any of `first_frame_only`,
        `raw`, `inverse_display` and `turned_by_header`, those of `colour.remarks`, and the patient's `ages.GROUPS` key.

    Raises:
        UnsupportedError: the object has no image, or a compression that cannot be decoded here.
        NotAChestRadiographError: the header names another modality, part of the body, or view.
        TooLargeError: more than `max_pixels` pixels, or a decompression bomb.
        UnreadableError: the file is damaged.

    Example:
        >>> pixels, bits, notes = decode(data, 10**8)
    """
    dataset, frame = opened(data, max_pixels)
    bits = int(dataset.BitsStored)
    try:
        notes = {"first_frame_only": int(dataset.NumberOfFrames) > 1}
        if group := dicom_header.age_group(dataset):
            notes[group] = True
        notes["raw"] = dicom_header.is_raw(dataset)
        notes["inverse_display"] = display.inverse(dataset)
        notes["turned_by_header"] = dicom_header.is_turned(dataset)
        with np.errstate(all="ignore"):  # results of absurd numbers in the header are checked where they matter
            pixels = display.displayed(dataset, frame)
            colours = display.colours(dataset, frame)
            notes |= dict.fromkeys(colour.remarks(colours) if colours is not None else (), True)
    except PneumoscopeError:
        raise
    except MemoryError:
        raise TooLargeError("The image does not fit into memory.") from None
    except Exception as error:  # noqa: BLE001 - pydicom raises every kind of error on corrupt files
        raise _undecodable(dataset, error, "description of the brightness") from None
    return np.ascontiguousarray(pixels, dtype=np.float32), bits, tuple(note for note, holds in notes.items() if holds)


def opened(data: bytes, max_pixels: int) -> tuple[pydicom.Dataset, NDArray[Any]]:
    """Parse a DICOM file and decode its first frame without turning it into brightness.

    Args:
        data: the bytes of the file.
        max_pixels: as with `decode`.

    Returns:
        The data set, with the elements that describe its pixels checked and completed; and the frame as stored:
        integers or floats (H, W), or integers (H, W, 3).

    Raises:
        PneumoscopeError: as with `decode`.

    Example:
        >>> dataset, frame = opened(data, 10**8)
    """
    dataset, damaged = parser.parsed(data, max_pixels), "header"
    try:
        _check_sequences(dataset)
        dicom_header.check(dataset)
        _complete(dataset, max_pixels)
        damaged = "image"
        with np.errstate(all="ignore"):
            return dataset, dicom_frames.first(dataset)
    except PneumoscopeError:
        raise
    except MemoryError:
        raise TooLargeError("The image does not fit into memory.") from None
    except Exception as error:  # noqa: BLE001 - pydicom and the decoders raise every kind of error on corrupt files
        # Not chained: pydicom quotes the header, which may identify a patient.
        raise _undecodable(dataset, error, damaged) from None


def _check_sequences(dataset: pydicom.Dataset) -> None:
    """Reject oversized sequences before pydicom parses them, which it does when they are first accessed."""
    for name, most in _LOOKED_INTO.items():
        if name in dataset and len(dataset.get_item(name).value or b"") > most:
            raise TooLargeError(f"Expected at most {most:,} bytes in a sequence of the header, got more.")


def _complete(dataset: pydicom.Dataset, max_pixels: int) -> None:
    """Check the elements that describe the pixels, and fill in missing ones with their usual values."""
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    check_size(columns, rows, int(dataset.get("SamplesPerPixel") or 1), max_pixels)
    if rows < 1 or columns < 1:
        raise UnreadableError(f"Expected an image, got {columns} x {rows} pixels: the header is damaged.")
    usual = {"SamplesPerPixel": 1, "BitsAllocated": 16, "PixelRepresentation": 0, "PlanarConfiguration": 0}
    for name, value in usual.items():
        if dataset.get(name) is None:
            setattr(dataset, name, value)
    dataset.NumberOfFrames = int(dataset.get("NumberOfFrames") or 1)
    allocated = int(dataset.BitsAllocated)
    stored = int(dataset.get("BitsStored") or allocated)
    most = 32 if "PixelData" in dataset else 64
    if dataset.SamplesPerPixel not in (1, 3, 4) or not 1 <= stored <= allocated <= most:
        raise UnreadableError(
            f"Expected 1 or 3 samples of up to {most} bits per pixel, got {dataset.SamplesPerPixel} of {stored} in "
            f"{allocated}: the header is damaged."
        )
    high = dataset.get("HighBit")
    dataset.BitsStored, dataset.HighBit = stored, stored - 1 if high is None else high
    if not dataset.get("PhotometricInterpretation"):
        dataset.PhotometricInterpretation = "MONOCHROME2" if dataset.SamplesPerPixel == 1 else "RGB"
    dataset.PhotometricInterpretation = str(dataset.PhotometricInterpretation).strip("\0 ").upper()
    if dataset.PhotometricInterpretation not in _PHOTOMETRIC or dataset.PixelRepresentation not in (0, 1):
        raise UnreadableError(
            "Expected a photometric interpretation and pixel representation of the DICOM standard, got another: the "
            "header is damaged."
        )


def _undecodable(dataset: pydicom.Dataset, error: Exception, damaged: str) -> PneumoscopeError:
    """Return an error that names the damaged part, or the transfer syntax if that is the reason.

    The header is never quoted, because it may identify a patient. A damaged length can put the patient's name into the
    transfer syntax, so only a syntax from pydicom's list is named.
    """
    with suppress(Exception):  # a badly damaged header has no transfer syntax
        syntax = dataset.file_meta.TransferSyntaxUID
        if isinstance(error, NotImplementedError) and syntax.is_transfer_syntax and syntax.is_encapsulated:
            return UnsupportedError(f"Expected a DICOM image that can be decoded here, got one in '{syntax.name}'.")
        if syntax and not syntax.is_transfer_syntax:
            return UnsupportedError("Expected a transfer syntax of the DICOM standard, got another: export it again.")
    return UnreadableError(f"The {damaged} in the DICOM file is damaged: export it again.")
