"""Writes DICOM files for tests."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, RLELossless, generate_uid

from pneumoscope.imaging.dicom.decoder import decode

LIMIT = 10**6
EXACT = 1e-6
DIGITAL_XRAY = "1.2.840.10008.5.1.4.1.1.1.1"
REPORT = "1.2.840.10008.5.1.4.1.1.88.11"

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)
"""Every 12-bit value once."""


def image(values: NDArray[Any] | None, syntax: UID = ExplicitVRLittleEndian, **elements: Any) -> bytes:
    """Write a DICOM file: 12 bits of 16 and MONOCHROME2 where the elements do not say otherwise."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == RLELossless else syntax
    dataset.SOPClassUID, dataset.SOPInstanceUID = DIGITAL_XRAY, "1.2.3"
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "MARKER^NAME", "MARKER-ID", "19010203"
    dataset.PhotometricInterpretation = "MONOCHROME2"
    if values is not None:
        dataset.Rows, dataset.Columns = values.shape[:2]
        dataset.SamplesPerPixel = 1 if values.ndim == 2 else values.shape[2]
        if values.ndim == 3:
            dataset.PlanarConfiguration = 0
        dataset.BitsAllocated = 8 * values.dtype.itemsize
        dataset.BitsStored = min(12, dataset.BitsAllocated)
        dataset.PixelRepresentation = int(values.dtype.kind == "i")
        dataset.PixelData = values.astype(
            values.dtype.newbyteorder(">" if syntax == ExplicitVRBigEndian else "<")
        ).tobytes()
        dataset["PixelData"].VR = "OB" if values.dtype.itemsize == 1 else "OW"
    for name, value in elements.items():
        setattr(dataset, name, value)
    if values is not None:
        dataset.HighBit = elements.get("HighBit", dataset.BitsStored - 1)
    if syntax == RLELossless:
        dataset.compress(RLELossless)
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def filed(values: NDArray[Any], **elements: Any) -> bytes:
    """Write a DICOM image as an archive has it: of a study, a series and a patient."""
    usual = {
        "StudyInstanceUID": generate_uid(prefix=None),
        "SeriesInstanceUID": generate_uid(prefix=None),
        "SOPInstanceUID": generate_uid(prefix=None),
        "PatientSex": "F",
        "AccessionNumber": "MARKER-ACC",
        "StudyID": "MARKER-STUDY",
        "StudyDate": "19030201",
        "StudyTime": "101112",
        "ReferringPhysicianName": "MARKER^REFERRER",
        "Modality": "DX",
        "Manufacturer": "A maker",
        "PatientOrientation": ["L", "F"],
    }
    return image(values, **(usual | elements))


def table(entries: NDArray[Any], bits: int, first: int = 0, order: str = "<") -> Sequence:
    lut = Dataset()
    lut.LUTDescriptor = [len(entries) % 65536, first, bits]
    lut.add_new("LUTData", "OW", entries.astype(f"{order}u2").tobytes())
    return Sequence([lut])


def compressed(values: NDArray[Any], frame: bytes, syntax: UID, **elements: Any) -> bytes:
    """Write a DICOM file whose image is a frame that was compressed before."""
    return image(values, syntax, PixelData=encapsulate([frame]), **elements)


VALUES = {
    "NUM": "MeasuredValueSequence",
    "CODE": "ConceptCodeSequence",
    "TEXT": "TextValue",
    "IMAGE": "ReferencedSOPSequence",
}
"""Where a content item of each type has its value."""


def content(report: Dataset) -> dict[str, list[Any]]:
    """Give what a report says, by the meanings of the names of its items."""
    said: dict[str, list[Any]] = {}

    def collect(items: Any) -> None:
        for item in items:
            if item.ValueType in VALUES:
                value = item[VALUES[item.ValueType]].value
                said.setdefault(item.ConceptNameCodeSequence[0].CodeMeaning, []).append(
                    value if item.ValueType == "TEXT" else value[0]
                )
            collect(item.get("ContentSequence", ()))

    collect(report.ContentSequence)
    return said


def shown(data: bytes) -> NDArray[np.float32]:
    """Give the brightness of a file's image."""
    pixels, _, _ = decode(data, LIMIT)
    assert pixels.dtype == np.float32
    return pixels


def shipped(name: str) -> bytes:
    """A file that travels inside pydicom."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    return Path(path).read_bytes()


def broken(old: bytes, new: bytes, **elements: Any) -> bytes:
    """Write a ramp, and exchange some bytes that are there once for others of that length."""
    data = image(RAMP, **elements)
    assert data.count(old) == 1
    assert len(old) == len(new)
    return data.replace(old, new)
