"""What a DICOM header says: whether the image can be a frontal chest radiograph, and the patient's age group."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pydicom
from pydicom.uid import UID

from pneumoscope.errors import NotAChestRadiographError, UnsupportedError
from pneumoscope.imaging import ages, letters
from pneumoscope.imaging.dicom import terms

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
"""The elements that may hold the image."""

_A_YEAR = {"": 1, "Y": 1, "M": 12, "W": 52, "D": 365}
"""How many of each unit of age make a year."""

_DESCRIPTIONS = (
    "SeriesDescription",
    "ProtocolName",
    "AcquisitionDeviceProcessingDescription",
    "PerformedProcedureStepDescription",
)
"""Elements with free text about this image. The study description is left out: it may be about other images."""


def check(header: pydicom.Dataset) -> None:
    """Reject a data set without an image, or whose header declares something other than a frontal chest radiograph.

    Words of the header are compared but never quoted, because any of them may hold a name. Missing or unknown words are
    no reason to reject.

    Args:
        header: a DICOM data set, with its file meta information if it has any.

    Raises:
        UnsupportedError: there is no image.
        NotAChestRadiographError: the header names another modality, another part of the body, or another view.

    Example:
        >>> header = pydicom.Dataset()
        >>> header.PixelData, header.Modality = b"12", "CT"
        >>> check(header)
        Traceback (most recent call last):
        pneumoscope.errors.NotAChestRadiographError: Expected a frontal chest radiograph, got computed tomography ...
    """
    name, keyword = _sop_class(header)
    if not any(element in header for element in PIXELS):
        raise UnsupportedError(f"Expected a radiograph, got a DICOM file without an image ({name}).")
    if keyword and not terms.RADIOGRAPHY.search(keyword):
        raise _rejection(name, "SOP Class")
    for modality in _words(header, "Modality"):
        if modality in terms.MODALITIES:
            raise _rejection(terms.MODALITIES[modality], "Modality")
    if "YES" in _words(header, "QualityControlImage"):
        raise _rejection("an image for quality control", "Quality Control Image")
    if _match(terms.ANIMAL, _words(header, "PatientSpeciesDescription")):
        raise _rejection("an animal", "Patient Species")
    parts = _words(header, "BodyPartExamined")
    regions = _meanings(header, "AnatomicRegionSequence")
    descriptions = _words(header, *_DESCRIPTIONS)
    places = [(parts, "Body Part Examined"), (regions, "Anatomic Region"), (descriptions, "description of the series")]
    for words, where in places if not _is_chest(parts + regions) else ():
        if _is_chest(words):
            break
        for part, pattern in terms.PARTS.items():
            if _names_nothing_else(pattern, words) if words is descriptions else _match(pattern, words):
                raise _rejection(part, where)
        for part, pattern in terms.PARTS_WITHIN.items():
            if words is not descriptions and _within(pattern, words):
                raise _rejection(part, where)
    _check_view(header, descriptions)


def _check_view(header: pydicom.Dataset, descriptions: list[str]) -> None:
    """Reject a view that is not frontal. The first element that names a view decides."""
    places = (
        (_words(header, "ViewPosition"), "View Position"),
        (_meanings(header, "ViewCodeSequence"), "View Code"),
        (_words(header, "BodyPartExamined"), "Body Part Examined"),
        (descriptions, "description of the series"),
    )
    for words, where in places:
        if _match(terms.FRONTAL, words) or _within(terms.FRONTAL_WITHIN, words):
            return
        if words is descriptions and _match(terms.ASIDE, words):
            continue
        for view, pattern in terms.SIDES.items():
            if _match(pattern, words) or _within(terms.SIDES_WITHIN[view], words):
                raise _rejection(view, where)
    if any(str(item.get("CodeValue")) in terms.LATERAL_CODES for item in header.get("ViewCodeSequence") or ()):
        raise _rejection("a lateral view", "View Code")
    # Rows of a frontal radiograph run from one side of the patient to the other (PS3.3, section C.7.6.1.1.1).
    if re.match(r"[AP]\w* [FH]", plain("\\".join(map(str, header.get("PatientOrientation") or ())))):
        raise _rejection("a lateral view", "Patient Orientation")


def is_radiography(sop_class: str) -> bool:
    """Return whether objects of a SOP class, given by its UID, may hold a radiograph.

    Example:
        >>> is_radiography("1.2.840.10008.5.1.4.1.1.1"), is_radiography("1.2.840.10008.5.1.4.1.1.2")
        (True, False)
    """
    return bool(terms.RADIOGRAPHY.search(UID(sop_class).keyword))


def is_raw(header: pydicom.Dataset) -> bool:
    """Return whether a header declares an image "for processing", not for presentation (PS3.3, section C.8.11.1.1.1).

    Example:
        >>> header = pydicom.Dataset()
        >>> header.PresentationIntentType = "FOR PROCESSING"
        >>> is_raw(header)
        True
    """
    _, keyword = _sop_class(header)
    return "FOR PROCESSING" in _words(header, "PresentationIntentType") or keyword.endswith("ForProcessing")


def is_turned(header: pydicom.Dataset) -> bool:
    """Return whether a frontal image is turned or mirrored: rows not to the patient's left, or columns not to the feet.

    Patient Orientation gives the direction of the rows and of the columns (PS3.3, section C.7.6.1.1.1).

    Example:
        >>> header = pydicom.Dataset()
        >>> header.PatientOrientation = ["R", "F"]
        >>> is_turned(header)
        True
    """
    value = header.get("PatientOrientation") or ()
    towards = ["".join(str(part).upper().split())[:1] for part in ([value] if isinstance(value, str) else value)]
    return {*towards} in ({"L", "F"}, {"R", "F"}, {"L", "H"}, {"R", "H"}) and towards != ["L", "F"]


def age_group(header: pydicom.Dataset) -> str | None:
    """Return the patient's `ages.GROUPS` key, from the age or else the dates of birth and study; None if unknown.

    Example:
        >>> header = pydicom.Dataset()
        >>> header.PatientAge = "045Y"
        >>> age_group(header)
        'adult_patient'
    """
    # 045Y, 018M, 003W or 012D (PS3.5, section 6.2); in practice also 45, 45Y and the like.
    age = re.fullmatch(r"0*(\d{1,3})\s*([YMWD]?)", str(header.get("PatientAge") or "").strip().upper())
    if age and int(age[1]):
        return ages.group(int(age[1]) / _A_YEAR[age[2]])
    born, studied = (str(header.get(name) or "") for name in ("PatientBirthDate", "StudyDate"))
    if re.fullmatch(r"\d{8}", born) and re.fullmatch(r"\d{8}", studied) and born <= studied:
        return ages.group((int(studied) - int(born)) // 10_000)  # YYYYMMDD
    return None


def _rejection(what: str, where: str) -> NotAChestRadiographError:
    return NotAChestRadiographError(
        f"Expected a frontal chest radiograph, got {what} ({where} in the DICOM header): give another file, or correct "
        "the header if it is wrong."
    )


def _sop_class(header: pydicom.Dataset) -> tuple[str, str]:
    """Return name and keyword of the SOP class, only from pydicom's list: a damaged header may hold anything."""
    meta = getattr(header, "file_meta", {})
    for kind in (header.get("SOPClassUID"), meta.get("MediaStorageSOPClassUID")):
        if isinstance(kind, UID) and kind.keyword:
            return kind.name, kind.keyword
    return "unknown SOP class", ""


def _words(header: pydicom.Dataset, *names: str) -> list[str]:
    """Return the values of elements as `plain` text, without empty ones."""
    values = [header.get(name) for name in names]
    texts = [value if isinstance(value, str) else "\\".join(map(str, value or ())) for value in values]
    return [plain(text) for text in texts if text]


def _meanings(header: pydicom.Dataset, name: str) -> list[str]:
    items: Iterable[pydicom.Dataset] = header.get(name) or ()
    return [plain(str(item.get("CodeMeaning") or "")) for item in items]


def plain(text: str) -> str:
    """Return a text in capitals without accents, with a space for everything other than letters and digits.

    Example:
        >>> plain("Thorax, seitl. (Röntgen)"), plain("Боковой")
        ('THORAX SEITL RONTGEN', 'БОКОВОИ')
    """
    return re.sub(r"[\W_]+", " ", letters.bare(text).upper()).strip()


def _is_chest(words: list[str]) -> bool:
    return _match(terms.CHEST, words) or _within(terms.CHEST_WITHIN, words)


def _match(pattern: str, words: list[str]) -> bool:
    return any(re.search(rf"\b(?:LEFT|RIGHT)?(?:{pattern})\b", text) for text in words)


def _within(pattern: str, words: list[str]) -> bool:
    return any(re.search(pattern, text) for text in words)


def _names_nothing_else(pattern: str, words: list[str]) -> bool:
    """Return whether one of the texts names a part of the body, and otherwise only how it was imaged."""
    known = "|".join((terms.NEUTRAL, terms.FRONTAL, *terms.SIDES.values(), *terms.PARTS.values()))
    only = re.compile(rf"(?:(?:LEFT|RIGHT)?(?:{known})(?: |$))+")
    return any(_match(pattern, [text]) and only.fullmatch(text) for text in words)
