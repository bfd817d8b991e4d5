"""`parser`: a DICOM file is known and parsed however it was written, and no bomb is."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from pneumoscope.errors import UnreadableError, UnsupportedError
from pneumoscope.imaging import radiograph
from pneumoscope.imaging.dicom.decoder import decode
from pneumoscope.imaging.dicom.parser import looks_like_dicom
from tests.builders.dicoms import DIGITAL_XRAY, EXACT, LIMIT, RAMP, broken, image, shipped, shown, table
from tests.conftest import CALM

pytestmark = pytest.mark.filterwarnings("error", "ignore:.*:UserWarning:pydicom")


def test_a_dicom_file_is_known_by_its_mark_and_not_by_its_name() -> None:
    assert looks_like_dicom(image(RAMP))
    assert not looks_like_dicom(b"DICM")
    assert not looks_like_dicom(image(RAMP)[4:])


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


def test_an_image_cut_anywhere_is_unreadable() -> None:
    for data in (image(RAMP), image(RAMP, RLELossless), image(RAMP, DeflatedExplicitVRLittleEndian)):
        for cut in range(132, len(data) - 10, len(data) // 60):
            with pytest.raises((UnreadableError, UnsupportedError)):
                decode(data[:cut], LIMIT)
    with pytest.raises(UnreadableError):
        decode(as_radiograph("MR_truncated.dcm"), LIMIT)


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
