"""Recognises and parses DICOM files, guarding against decompression bombs and tolerating common damage.

`header.py` checks what a header says; `decoder.py` decodes the image.
"""

from __future__ import annotations

import io
import logging
import warnings
import zlib
from pathlib import Path
from typing import Literal

import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset, read_partial
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from pydicom.valuerep import VR

from pneumoscope.errors import PneumoscopeError, TooLargeError, UnreadableError, UnsupportedError

_MARK = b"DICM"
_PREAMBLE = 128

_ELEMENTS = 3
"""Without the `DICM` mark, this many valid data elements in a row identify a DICOM file."""

_PIXEL_DATA = 0x7FE00010
_ENCAPSULATED_HEADER = 12
"""Bytes of tag, VR and undefined length before the items of a compressed image."""

_ITEM = b"\xfe\xff\x00\xe0"

_IMAGE_GROUP = 0x28
"""The highest group up to and including the description of the pixels."""

_VRS = {vr.value.encode() for vr in VR if len(vr.value) == 2}
_LONG_VRS = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}

_INFLATED = 4
"""Inflated bytes allowed per pixel of the largest image; a deflated data set with more is a decompression bomb."""

_MOST_READS = 200_000
"""Reads allowed for one file. Each data element takes two or three, and headers have some hundred elements."""

_MOST_BYTES = 10_000_000
"""Bytes allowed in one element of the header."""

_HEADER_BYTES = 2**20
"""Bytes to read for the patient's identity, which comes near the beginning."""

_META_BYTES = 4096
"""More than the file meta information takes."""

# pydicom warns about every value that violates the standard, and quotes it, which may reveal a patient's name. The
# warnings are silenced once, because `catch_warnings` around each file is not thread-safe.
warnings.filterwarnings("ignore", module="pydicom")
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)


class _Patience(io.BytesIO):
    """A file that limits the number of reads: millions of tiny data elements would take hours to parse."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > _MOST_READS:
            raise TooLargeError("Expected a header of some hundred data elements, got one of tens of thousands.")
        return super().read(size)


def looks_like_dicom(data: bytes) -> bool:
    """Return whether bytes begin like a DICOM file.

    They begin with 128 bytes and `DICM` (PS3.10, section 7.1), or, from old scanners and careless exporters, directly
    with data elements, in ascending order and starting with group 2 or 8.

    Example:
        >>> looks_like_dicom(bytes(128) + b"DICM")
        True
        >>> looks_like_dicom(b"Patient: 8")
        False
    """
    if data[_PREAMBLE : _PREAMBLE + 4] == _MARK:
        return True
    return any(_begins_with_elements(data, order, vrs) for order in ("little", "big") for vrs in (True, False))


def parsed(data: bytes, max_pixels: int) -> pydicom.Dataset:
    """Parse a DICOM file, leaving its pixel data encoded.

    Args:
        data: the bytes of the file.
        max_pixels: the most pixels (rows times columns) of an image, which also limits the size of inflated data.

    Returns:
        The data set, with its file meta information.

    Raises:
        TooLargeError: it is a decompression bomb, would take hours to parse, or does not fit into memory.
        UnreadableError: the file is damaged.

    Example:
        >>> parsed(data, 10**8).Modality
        'DX'
    """
    try:
        return _dataset(data, _INFLATED * max_pixels)
    except PneumoscopeError:
        raise
    except MemoryError:
        raise TooLargeError("The image does not fit into memory.") from None
    except Exception:  # noqa: BLE001 - pydicom raises every kind of error on corrupt files
        # Not chained: pydicom quotes the header, which may identify a patient.
        raise UnreadableError("The header in the DICOM file is damaged: export it again.") from None


def header(data: bytes, max_pixels: int) -> pydicom.Dataset:
    """Read a DICOM file without its pixels.

    Args:
        data: the bytes of the file.
        max_pixels: as with `parsed`.

    Returns:
        The data set without pixels, with its file meta information.

    Raises:
        UnsupportedError: it is not a DICOM file.
        PneumoscopeError: as with `parsed`.

    Example:
        >>> header(data, 10**8).Modality
        'DX'
    """
    if not looks_like_dicom(data):
        raise UnsupportedError("Expected a DICOM file, got another kind of file.")
    dataset = parsed(data, max_pixels)
    for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
        dataset.pop(name, None)
    for tag in dataset.keys():  # noqa: SIM118 - iterating over a data set parses its elements
        value = dataset.get_item(tag).value
        if tag.group < _IMAGE_GROUP and isinstance(value, bytes) and len(value) > _MOST_BYTES:
            raise TooLargeError(f"Expected at most {_MOST_BYTES:,} bytes in an element of the header, got more.")
    return dataset


def patient(path: Path) -> tuple[str, str] | None:
    """Read the patient's identity from a DICOM file, to find images of the same patient.

    Args:
        path: any file.

    Returns:
        Patient ID and Issuer of Patient ID, for comparison only: they must never be shown. None if there is no ID, or
        the file is not DICOM, deflated or damaged.

    Example:
        >>> patient(Path(__file__)) is None
        True
    """
    try:
        with path.open("rb") as file:
            data = file.read(_HEADER_BYTES)
        if not looks_like_dicom(data) or DeflatedExplicitVRLittleEndian.encode() in data[:_META_BYTES]:
            return None  # pydicom would inflate a decompression bomb
        names = ["PatientID", "IssuerOfPatientID"]
        header = pydicom.dcmread(_Patience(data), stop_before_pixels=True, force=True, specific_tags=names)
        identity, issuer = (str(header.get(name) or "").strip() for name in names)
    except Exception:  # noqa: BLE001 - pydicom raises every kind of error on corrupt files
        return None
    return (identity, issuer) if identity else None


def _begins_with_elements(data: bytes, order: Literal["little", "big"], explicit: bool) -> bool:
    """Return whether bytes begin with valid data elements: tag, VR if explicit, and length (PS3.5, section 7.1)."""
    place, last = 0, -1
    for number in range(_ELEMENTS):
        group, element = (int.from_bytes(data[place + i : place + i + 2], order) for i in (0, 2))
        vr, tag = data[place + 4 : place + 6], group << 16 | element
        if explicit and vr in _LONG_VRS:
            size, end = 4, place + 12
        else:
            size, end = (2 if explicit else 4), place + 8
        length = int.from_bytes(data[end - size : end], order)
        known = group in (2, 8) if number == 0 else group <= _IMAGE_GROUP
        if end + length > len(data) or length % 2 or tag <= last or not known or (explicit and vr not in _VRS):
            return False
        place, last = end + length, tag
    return True


def _dataset(data: bytes, most: int) -> pydicom.Dataset:
    """Parse a file. A deflated one is inflated here, because pydicom would inflate a decompression bomb."""
    file = _Patience(data)
    file.seek(_PREAMBLE + len(_MARK) if data[_PREAMBLE : _PREAMBLE + 4] == _MARK else 0)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        return _inflated(meta, data[file.tell() :], most)
    dataset: pydicom.Dataset = pydicom.dcmread(_Patience(data), force=True)
    if not len(dataset):  # pydicom returns nothing if a compressed image lacks its delimiter
        dataset = _without_delimiter(data)
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    packed = "PixelData" in dataset and dataset["PixelData"].is_undefined_length
    if not syntax or (syntax.is_transfer_syntax and syntax.is_encapsulated and not packed):
        implicit, little = dataset.original_encoding
        plain = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = plain
    return dataset


def _without_delimiter(data: bytes) -> pydicom.Dataset:
    """Parse a file whose compressed image is complete but lacks the sequence delimiter after it (PS3.5, A.4)."""
    file = _Patience(data)
    dataset = read_partial(file, lambda tag, vr, length: tag == _PIXEL_DATA, force=True)
    start = at = file.tell() + _ENCAPSULATED_HEADER
    while data.startswith(_ITEM, at):
        fragment = data[at + 8 : at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")]
        at += 8 + len(fragment)
    run_lengths = dataset.file_meta.get("TransferSyntaxUID") == RLELossless  # has no end marker; its length is checked
    if at == start or (b"\xff\xd9" not in fragment and not run_lengths):
        raise UnreadableError("The end of the DICOM file is missing: copy it again from its source.")
    dataset.add_new(_PIXEL_DATA, "OB", data[start:at])
    dataset["PixelData"].is_undefined_length = True
    return dataset


def _inflated(meta: pydicom.Dataset, data: bytes, most: int) -> pydicom.Dataset:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = inflater.decompress(data, most)
    if inflater.unconsumed_tail:
        raise TooLargeError(f"Expected at most {most:,} bytes when inflated, got more: no radiograph is that large.")
    if not inflater.eof:
        raise UnreadableError("The end of the DICOM file is missing: copy it again from its source.")
    dataset = read_dataset(_Patience(plain), False, True)
    dataset.file_meta = FileMetaDataset(meta)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.set_original_encoding(False, True)
    return dataset
