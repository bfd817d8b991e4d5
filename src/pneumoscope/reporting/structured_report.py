"""Findings as DICOM objects in the image's study: a Structured Report and a Secondary Capture."""

from __future__ import annotations

import hashlib
import io
import logging
import re
import uuid
import warnings
from functools import partial

import numpy as np
import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGBaseline8Bit

from pneumoscope.errors import PneumoscopeError, UnreadableError, UnsupportedError, needs_extra
from pneumoscope.imaging import radiograph
from pneumoscope.imaging.dicom import parser
from pneumoscope.inference.finding import Finding
from pneumoscope.inference.model_file import Card
from pneumoscope.reporting import evidence_map, measurement_report
from pneumoscope.reporting.measurement_report import NAME, NOTICE
from pneumoscope.reporting.outlines import outlines
from pneumoscope.version import __version__

CAPTURE_SIDE = 2048
"""The longest side of the Secondary Capture, in pixels: enough to fill a screen."""

_NAMES = uuid.UUID("8d6f9a52-3c5b-4c1e-9d0b-7a1f2e64c3b8")
"""The namespace of UIDs (RFC 9562, section 5.5)."""

_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_UID = re.compile(r"(?=.{1,64}$)\d+(\.\d+)+")
"""Numbers separated by dots. PS3.5 forbids leading zeros, but devices write them and archives accept them."""

_AGE = re.compile(r"\d{3}[DWMY]")
_TEXTS = {"PN", "LO", "SH", "LT", "ST", "UC", "UT"}
"""Value representations that use the character set of the header."""

_UNFILED = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID")
_UNDATED = ("StudyDate", "StudyTime")

# Like pydicom, highdicom quotes invalid values in warnings and logs, which may reveal a patient's name.
warnings.filterwarnings("ignore", module="highdicom")
logging.getLogger("highdicom").setLevel(logging.CRITICAL + 1)


def objects(finding: Finding, data: bytes, card: Card, *, normals: bool = False) -> list[pydicom.Dataset]:
    """Create the objects for an image: a Structured Report, and a Secondary Capture if there is evidence to draw.

    Args:
        finding: the finding; there are no objects if it is an error.
        data: the bytes of the image's DICOM file.
        card: the card of the model.
        normals: whether to draw the evidence map of an image without pneumonia too.

    Returns:
        The report, and the Secondary Capture if there is one.

    Raises:
        UnsupportedError: the image is not a DICOM file, or its header lacks the UIDs that a report refers to.
        UnreadableError: its header cannot be copied.
        MissingExtraError: highdicom is not installed.

    Example:
        >>> (finding,) = detector.examine([data])
        >>> report, *_ = objects(finding, data, detector.card)
    """
    if finding.error is not None:
        return []
    header = parser.header(data, radiograph.MAX_PIXELS)
    made = [structured_report(finding, header, card)]
    if finding.evidence is not None and evidence_map.is_drawn(finding, normals=normals):
        drawn = evidence_map.draw(radiograph.read(data), finding.evidence, max_side=CAPTURE_SIDE)
        made.append(secondary_capture(np.asarray(drawn), header, card))
    return made


def structured_report(finding: Finding, header: pydicom.Dataset, card: Card) -> pydicom.Dataset:
    """Create a Comprehensive SR of template 1500, Measurement Report (PS3.16), for a finding.

    One measurement group (template 1501) holds the finding as a SNOMED CT code, the probability and the operating
    threshold as numbers without unit, whether the probability is uncertain, and each warning. If the finding is
    PNEUMONIA and comes with evidence, one group (template 1410) for each region outlines what the model counted.
    Patient and study are copied from the image's header, so that the report is filed with the image.

    Args:
        finding: the finding for the image.
        header: the header of the image, as returned by `parser.header`.
        card: the card of the model.

    Returns:
        The report, with file meta information.

    Raises:
        UnsupportedError: the header lacks the UIDs that a report refers to.
        UnreadableError: the header cannot be copied.
        MissingExtraError: highdicom is not installed.

    Example:
        >>> report = structured_report(finding, parser.header(data, 10**8), detector.card)
        >>> report.save_as(f"{report.SOPInstanceUID}.dcm")
    """
    check_installed()
    check(header)
    from highdicom import sr

    model = fingerprint(card)
    name = partial(uid, header, model)
    lines = outlines(finding.evidence) if finding.evidence is not None and evidence_map.is_drawn(finding) else []
    report = sr.ComprehensiveSR(
        [_reference(header)],
        measurement_report.content(finding, header, card, model, lines, name)[0],
        series_instance_uid=name("series of the report"),
        series_number=1,
        sop_instance_uid=name("report with outlines" if lines else "report"),
        instance_number=1,
        manufacturer=NAME,
        manufacturer_model_name=card.architecture,
        software_versions=__version__,
        series_description=f"{NAME} report",
        coding_schemes=[measurement_report.scheme()],
        is_complete=True,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    return _filed(report, header)


def secondary_capture(image: np.ndarray, header: pydicom.Dataset, card: Card) -> pydicom.Dataset:
    """Create a Secondary Capture in the image's study from an image drawn by `evidence_map.draw`.

    Args:
        image: uint8 (H, W, 3).
        header: the header of the image, as returned by `parser.header`.
        card: the card of the model whose evidence is shown.

    Returns:
        The image, compressed as JPEG (baseline), with file meta information.

    Raises:
        UnsupportedError: the header lacks the UIDs that a report refers to.
        UnreadableError: the header cannot be copied.
        MissingExtraError: highdicom is not installed.

    Example:
        >>> capture = secondary_capture(drawn, header, detector.card)
    """
    check_installed()
    check(header)
    from highdicom import CoordinateSystemNames, PhotometricInterpretationValues, sc

    name = partial(uid, header, fingerprint(card))
    capture = sc.SCImage(
        image,
        PhotometricInterpretationValues.YBR_FULL_422,
        bits_allocated=8,
        coordinate_system=CoordinateSystemNames.PATIENT,
        patient_orientation=("L", "F"),  # replaced below by that of the image, or emptied
        study_instance_uid=header.StudyInstanceUID,
        series_instance_uid=name("series of the evidence map"),
        series_number=2,
        sop_instance_uid=name("evidence map"),
        instance_number=1,
        manufacturer=NAME,
        software_versions=__version__,
        series_description=f"{NAME} evidence map",
        transfer_syntax_uid=JPEGBaseline8Bit,
    )
    capture.add_new("PatientOrientation", "CS", None)
    capture.BodyPartExamined = "CHEST"
    capture.DerivationDescription = f"Image with evidence map: orange speaks for pneumonia, blue against it. {NOTICE}"
    capture.SourceImageSequence = [_source_image(header)]
    capture.LossyImageCompression = "01"
    capture.LossyImageCompressionRatio = f"{image.nbytes / len(capture.PixelData):.2f}"
    capture.LossyImageCompressionMethod = "ISO_10918_1"
    return _filed(capture, header, "PatientOrientation", "BurnedInAnnotation")


def encode(made: pydicom.Dataset) -> bytes:
    """Encode an object as the bytes of a DICOM file (PS3.10).

    Example:
        >>> encode(report)[128:132]
        b'DICM'
    """
    file = io.BytesIO()
    try:
        made.save_as(file, enforce_file_format=True)
    except Exception:  # noqa: BLE001 - damaged headers bring every kind of error
        raise _uncopied() from None
    return file.getvalue()


def check_installed() -> None:
    """Check that highdicom is installed.

    Raises:
        MissingExtraError: it is not.

    Example:
        >>> check_installed()
    """
    with needs_extra("A DICOM report", "dicom"):
        import highdicom  # noqa: F401


def check(header: pydicom.Dataset) -> None:
    """Check that a header has the UIDs that a report refers to: of study, series and instance, and a known SOP class.

    Raises:
        UnsupportedError: a UID is missing or invalid.

    Example:
        >>> check(pydicom.Dataset())
        Traceback (most recent call last):
        pneumoscope.errors.UnsupportedError: Expected a DICOM header with valid StudyInstanceUID, ...
    """
    lacking = [name for name in _UIDS if not _UID.fullmatch(str(header.get(name) or ""))]
    if lacking or not UID(header.SOPClassUID).keyword:
        raise UnsupportedError(
            f"Expected a DICOM header with valid {', '.join(_UIDS[:3])} and a known SOPClassUID, got one without "
            f"{', '.join(lacking) or 'a known SOPClassUID'}: export the image again, or do without a report."
        )


def instance(data: bytes) -> dict[str, str]:
    """Return the UIDs that refer to an image, by name; missing and damaged ones are left out.

    Example:
        >>> instance(b"no image")
        {}
    """
    try:
        header = parser.header(data, radiograph.MAX_PIXELS)
        given = {name: UID(str(header.get(name) or "")) for name in _UIDS}
    except Exception:  # noqa: BLE001 - damaged headers bring every kind of error
        return {}
    return {name: str(uid) for name, uid in given.items() if _UID.fullmatch(uid)}


def uid(header: pydicom.Dataset, model: str, what: str) -> str:
    """Return the UID of an object for an image, which depends only on the image, the model and `what`.

    An object that is created or sent again is thus never taken for a different one.

    Args:
        header: the header of the image, with the UIDs that `check` requires.
        model: the model's `fingerprint`.
        what: distinguishes the objects for one image.

    Example:
        >>> uid(header, fingerprint(detector.card), "report")
        '2.25...'
    """
    image = " ".join(str(header[name].value) for name in _UIDS[:3])
    return f"2.25.{uuid.uuid5(_NAMES, f'{image} {model} {what}').int}"


def fingerprint(card: Card) -> str:
    """Return the SHA-256 of a card, which identifies a model by its training images, recipe and calibration.

    Example:
        >>> fingerprint(Card("cnn", 160))[:8]
        '...'
    """
    return hashlib.sha256(card.to_json().encode()).hexdigest()


def _reference(header: pydicom.Dataset) -> pydicom.Dataset:
    """Return a data set with only what a report needs to refer to the image, which highdicom accepts."""
    image = pydicom.Dataset()
    for name in _UIDS:
        setattr(image, name, header[name].value)
    for name in (*_UNFILED, *_UNDATED):
        setattr(image, name, None)
    return image


def _source_image(header: pydicom.Dataset) -> pydicom.Dataset:
    from highdicom.sr import CodedConcept
    from pydicom.sr.codedict import codes

    image = pydicom.Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    purpose = CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)
    image.PurposeOfReferenceCodeSequence = [purpose]
    return image


def _filed(made: pydicom.Dataset, header: pydicom.Dataset, *names: str) -> pydicom.Dataset:
    """Copy patient, study and some other elements from the header into an object, even if their values are invalid.

    Text is copied as bytes, because decoding and encoding would lose what its character set does not have. Only an
    invalid age is left out, because archives would reject the report.
    """
    raw, before = (
        {tag: dataset.get_item(tag) for tag in dataset.keys()}  # noqa: SIM118 - iterating would parse the elements
        for dataset in (header, made)
    )
    header = pydicom.Dataset(dict(raw))  # a copy, because accessing an element parses it, and it is no longer raw
    try:
        made.copy_patient_and_study_information(header)
        for name in ("SpecificCharacterSet", *names):
            if name in header:
                made[name] = header[name]
        if not _AGE.fullmatch(str(made.get("PatientAge") or "000Y")):
            del made.PatientAge
        for tag in made.keys():  # noqa: SIM118 - as above
            element: object = raw.get(tag)
            copied = made.get_item(tag) is not before.get(tag)
            if copied and isinstance(element, RawDataElement) and element.value and dictionary_VR(tag) in _TEXTS:
                value = element.value + b" " * (len(element.value) % 2)
                made[tag] = element._replace(VR=dictionary_VR(tag), value=value, length=len(value))
        correct_ambiguous_vr(made, True)
        made.set_original_encoding(False, True, made._character_set)  # otherwise pydicom encodes the text again
    except Exception:  # noqa: BLE001 - damaged headers bring every kind of error
        raise _uncopied() from None  # not chained: pydicom quotes the header, which may identify a patient
    return made


def _uncopied() -> PneumoscopeError:
    return UnreadableError(
        "Expected a DICOM header that can be copied into a report, got a damaged one: export the image again, or do "
        "without a report."
    )
