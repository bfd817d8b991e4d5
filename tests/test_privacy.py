"""No name, id or date of a patient reaches an error, a log or a stream: it is planted everywhere and looked for."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.datadict import DicomDictionary, keyword_for_tag
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, RLELossless

from pneumoscope.errors import PneumoscopeError
from pneumoscope.imaging import radiograph
from tests.builders.dicoms import RAMP, compressed, image

PLANTED = {
    **dict.fromkeys(("PN",), "Zymurgy^Quintessa"),
    **dict.fromkeys(("LO", "SH", "ST", "LT", "UT", "UC", "CS"), "ZYMURGY 7318841"),
    **dict.fromkeys(("DA",), "19370218"),
    **dict.fromkeys(("DT",), "19370218101112"),
    **dict.fromkeys(("AE",), "ZYMURGY"),
    **dict.fromkeys(("UR",), "http://zymurgy/7318841"),
}
"""A value for every representation that could identify somebody."""

MARKS = ("zymurgy", "quintessa", "7318841", "19370218", "1937")

KEPT = {"PhotometricInterpretation", "SpecificCharacterSet", "TransferSyntaxUID"}
"""Without these an image could not be read."""


def plant(data: bytes) -> bytes:
    """Write identity into every element of the dictionary that may hold some, and into a sequence."""
    dataset = dcmread(io.BytesIO(data))
    for tag, (vr, _, _, retired, keyword) in DicomDictionary.items():
        if vr in PLANTED and keyword not in KEPT and not retired and 8 <= tag >> 16 <= 0x40 and keyword_for_tag(tag):
            setattr(dataset, keyword, PLANTED[vr])
    item = Dataset()
    item.PatientName, item.PatientID = PLANTED["PN"], PLANTED["LO"]
    dataset.OtherPatientIDsSequence = Sequence([item])
    dataset.ViewCodeSequence = dataset.AnatomicRegionSequence = Sequence([item])
    file = io.BytesIO()
    dataset.save_as(file)
    return file.getvalue()


def files() -> dict[str, bytes]:
    """Good images, and one for each way to fail."""
    good = plant(image(RAMP, WindowCenter=2048, WindowWidth=4096))
    lossless = bytes(imagecodecs.jpeg8_encode(RAMP, lossless=True, bitspersample=12))
    jpeg_2000 = bytes(imagecodecs.jpeg2k_encode(RAMP, codecformat="j2k", reversible=True, level=0))
    broken = jpeg_2000[:60] + b"\xff" * 100 + jpeg_2000[160:]
    start = good.index(b"Zymurgy")
    made = {
        "good": good,
        "implicit": plant(image(RAMP, ImplicitVRLittleEndian)),
        "rle": plant(image(RAMP, RLELossless)),
        "lossless": plant(compressed(RAMP, lossless, JPEGLosslessSV1)),
        "broken jpeg": plant(compressed(RAMP, lossless[:300] + bytes(400) + lossless[700:], JPEGLosslessSV1)),
        "broken jpeg 2000": plant(compressed(RAMP, broken, JPEG2000Lossless)),
        "no image": plant(image(None, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")),
        "cut": good[:-100],
        "cut in the name": good[: start + 5],
        "shifted length": good[: start - 2] + b"\x40\0" + good[start:],
        "another representation": good[: start - 4] + b"DS" + good[start - 2 :],
        "a sequence": good[: start - 4] + b"SQ" + good[start - 2 :],
        "absurd": plant(image(RAMP, Rows=60000, Columns=60000)),
        "no numbers": plant(image(RAMP)).replace(b"US\x02\0\x40\0", b"DS\x02\0zy"),
        "headless": good[132:],
    }
    for name in ("Modality", "BodyPartExamined", "ViewPosition", "NumberOfFrames", "RescaleSlope", "WindowCenter"):
        dataset = dcmread(io.BytesIO(good))
        vr = dataset[name].VR if name in dataset else "LO"
        dataset.add_new(name, "LO" if vr == "IS" else vr if vr == "CS" else "LO", "HAND LATERAL CT ZYMURGY 7318841")
        file = io.BytesIO()
        dataset.save_as(file)
        made[name] = file.getvalue()
    return made


def test_no_error_tells_whose_image_it_is(caplog: pytest.LogCaptureFixture, recwarn: Any) -> None:
    failed = 0
    for name, data in files().items():
        try:
            image = radiograph.read(data)
        except PneumoscopeError as error:
            failed += 1
            told = "".join(traceback.format_exception(error)).lower()
        else:
            told = f"{image.format} {image.notes}".lower()
        told += caplog.text.lower()
        assert not [mark for mark in MARKS if mark in told], name
    assert failed >= 10


def test_nothing_on_any_stream_tells_whose_image_it_is(tmp_path: Path) -> None:
    """Codecs in C write to standard error behind Python's back; a process of its own shows it."""
    for number, data in enumerate(files().values()):
        (tmp_path / f"{number}.dcm").write_bytes(data)
    program = """
import json, logging, pathlib, sys, warnings
logging.basicConfig(level=logging.DEBUG)
from pneumoscope import errors
from pneumoscope.imaging import radiograph
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    try:
        print(json.dumps({"path": path.name, "bits": radiograph.read(path).bits}))
    except errors.PneumoscopeError as error:
        print(json.dumps({"path": path.name, "error": str(error)}))
"""
    ran = subprocess.run(
        [sys.executable, "-W", "always", "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert len([json.loads(line) for line in ran.stdout.splitlines()]) == len(files())
    assert ran.stderr == ""
    assert not [mark for mark in MARKS if mark in ran.stdout.lower()]


def test_the_plant_is_really_in_the_files() -> None:
    dataset = dcmread(io.BytesIO(files()["good"]))
    assert sum("zymurgy" in str(element.value).lower() for element in dataset) > 200
    assert dataset.PatientBirthDate == "19370218"
    assert np.array_equal(dataset.pixel_array, RAMP)
    assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
