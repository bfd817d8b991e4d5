"""What a DICOM header says of an image: whether it can be a frontal chest radiograph, and how old the patient is."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

import pydicom
from pydicom.uid import UID

from pneumoscope.errors import NotAChestRadiographError, UnsupportedError
from pneumoscope.imaging import ages

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
"""Elements of which one holds the image."""

_A_YEAR = {"": 1, "Y": 1, "M": 12, "W": 52, "D": 365}
"""Units of an age in a year."""

_RADIOGRAPHY = re.compile(r"ComputedRadiography|DigitalXRay|SecondaryCapture|XRayRadiofluoroscopic|XRF|Hardcopy")
"""In the keywords of SOP classes that may hold a radiograph."""

_MODALITIES = {
    "AR": "autorefraction",
    "ASMT": "an assessment",
    "BDUS": "ultrasound bone densitometry",
    "BI": "biomagnetic imaging",
    "BMD": "bone densitometry",
    "CD": "colour flow Doppler",
    "CFM": "confocal microscopy",
    "CT": "computed tomography",
    "DD": "duplex Doppler",
    "DG": "diaphanography",
    "DMS": "dermoscopy",
    "DSA": "angiography",
    "ECG": "electrocardiography",
    "EM": "electron microscopy",
    "EPS": "cardiac electrophysiology",
    "ES": "endoscopy",
    "FA": "fluorescein angiography",
    "FS": "fundoscopy",
    "GM": "general microscopy",
    "HD": "haemodynamic waveforms",
    "IO": "intra-oral radiography",
    "IVOCT": "intravascular optical coherence tomography",
    "IVUS": "intravascular ultrasound",
    "KER": "keratometry",
    "KO": "a selection of key objects",
    "LEN": "lensometry",
    "LS": "a laser surface scan",
    "MA": "magnetic resonance angiography",
    "MG": "mammography",
    "MR": "magnetic resonance",
    "MS": "magnetic resonance spectroscopy",
    "NM": "nuclear medicine",
    "OAM": "ophthalmic axial measurements",
    "OCT": "optical coherence tomography",
    "OP": "ophthalmic photography",
    "OPM": "ophthalmic mapping",
    "OPT": "ophthalmic tomography",
    "OPTBSV": "ophthalmic tomography",
    "OPTENF": "ophthalmic tomography",
    "OPV": "an ophthalmic visual field",
    "OSS": "an optical surface scan",
    "PR": "a presentation state",
    "PT": "positron emission tomography",
    "PET": "positron emission tomography",
    "PX": "panoramic radiography",
    "REG": "a registration",
    "RESP": "respiratory waveforms",
    "RTDOSE": "a radiotherapy dose",
    "RTIMAGE": "a radiotherapy image",
    "RTPLAN": "a radiotherapy plan",
    "RTRECORD": "a radiotherapy record",
    "RTSTRUCT": "radiotherapy structures",
    "SEG": "a segmentation",
    "SM": "slide microscopy",
    "SR": "a structured report",
    "ST": "single-photon emission tomography",
    "TG": "thermography",
    "US": "ultrasound",
    "VA": "visual acuity",
    "XA": "angiography",
    "XC": "photography",
}
"""Modalities that make no chest radiographs (PS3.3, section C.7.3.1.1.1, some of them retired, some in mere use).

CR, DX, RG, RF, OT and the like are not here, nor is anything unknown: a missing header is no reason to reject.
"""

_CHEST = (
    r"CHEST|THORAX|THORACIC CAVITY|TORAX|TORACE|TORAKS|BRUSTKORB|LUNGS?|LUNGEN?|POUMONS?|PULMON\w*|POLMON\w*|CXR|THX"
)
_PARTS = {
    "the spine": r"[CTL]S? ?SPINE|\w*SPINE|SPINAL|\w*WIRBEL\w*|[HBL]WS|COLUMNA|COLONNA|COLUNA|RACHIS|VERTEBRA\w*|"
    r"SCOLIOSIS|SACRUM|COCCYX|LUMBAR\w*|LOMBAIRE|CERVICAL\w*",
    "the skull or face": r"SKULL|HEAD\w*|BRAIN|CRANIUM|CRANE|CRANIO|CRANEO|SCHAEDEL|SCHADEL|KOPF|TETE|CABEZA|TESTA|"
    r"FACIAL|ORBITS?|EYES?|NOSE|NASAL\w*|SINUS\w*|JAW|MANDIBLE|MAXILLA|TEETH|TOOTH|DENTAL|TMJ|EARS?|MASTOIDS?|SELLA|ZYGOMA|NNH",
    "the neck": r"NECK|HALS|COU|CUELLO|COLLO|PESCOCO|LARYNX|PHARYNX|THYROID|TRACHEA|CAROTIDS?",
    "the abdomen or pelvis": r"ABD|ABDOM\w*|BAUCH|BECKEN|PELV\w*|BASSIN|BACINO|BACIA|KUB|LIVER|KIDNEYS?|BLADDER|"
    r"PANCREAS|SPLEEN|STOMACH|COLON|BOWEL|RECTUM|GALLBLADDER|UTERUS|PROSTATE|O?ESOPHAGUS|IVP|UROGRAM",
    "an arm or hand": r"HAND(WRIST)?S?|FINGERS?|THUMBS?|WRISTS?|FOREARMS?|ELBOWS?|(?<!C )ARMS?|HUMERUS|RADIUS|ULNA|"
    r"SHOULDERS?|SCAPULA|CLAVICLES?|AC JOINTS?|HAENDE|DAUMEN|HANDGELENK|ELLENBOGEN|UNTERARM|OBERARM|SCHULTER|POIGNET|"
    r"COUDE|EPAULE|MANO|MUNECA|CODO|HOMBRO|PUNHO|COTOVELO|OMBRO|POLSO|GOMITO|SPALLA|UP(PER)? ?EX[TM]\w*|UEXM?",
    "a leg or foot": r"FOOT|FEET|TOES?|ANKLES?|HEELS?|CALCANEU[SM]|LEGS?|TIBIA|FIBULA|TIB ?FIB|KNEES?|PATELLA|FEMUR|"
    r"THIGH|HIPS?|FUSS|ZEHEN?|SPRUNGGELENK|UNTERSCHENKEL|OBERSCHENKEL|KNIE\w*|HUEFTE|PIED|CHEVILLE|GENOU|HANCHE|JAMBE|PIE|"
    r"TOBILLO|RODILLA|CADERA|PIERNA|TORNOZELO|JOELHO|QUADRIL|PIEDE|CAVIGLIA|GINOCCHIO|ANCA|"
    r"LOW(ER)? ?(EX[TM]\w*|LEG|LIMB)|LEXM?",
    "a limb": r"EXTREMIT\w*|LIMBS?|JOINTS?",
    "the ribs or breastbone": r"RIBS?|STERNUM|RIPPEN|COTES|COSTILLAS|COSTELAS|COSTE",
    "the breast": r"BREASTS?|MAMMA\w*|MAMA|SEIN|SENOS?",
    "the whole body": r"(WHOLE|ENTIRE) ?BODY",
    "a phantom": r"PHANTOM|FANTOM\w*|TEST ?PATTERN",
}
"""Parts of the body that are no chest, in the words that headers have for them (PS3.16, annex L, and local ones).

Words that mean something harmless in another language, such as `face`, `main` and `PE`, are not among them.
"""

_ANIMAL = (
    r"CANIS|CANINE|DOGS?|FELIS|FELINE|CATS?|EQUUS|EQUINE|HORSES?|BOS|BOVINE|CATTLE|COWS?|OVIS|OVINE|SHEEP|CAPRA|CAPRINE|"
    r"GOATS?|SUS|PORCINE|PIGS?|SWINE|ORYCTOLAGUS|LEPORINE|RABBITS?|CAVIA|GUINEA PIGS?|MUS|MURINE|MOUSE|MICE|RATTUS|"
    r"RATS?|MUSTELA|FERRETS?|AVES|AVIAN|BIRDS?|REPTIL\w*|MACAC\w*|PRIMATES?|MONKEYS?|ANIMALS?|NON ?HUMAN"
)
"""Species that are met in hospitals for animals and in laboratories, in Latin and in English."""


_FRONTAL = r"AP|PA|A P|P A|FRONTAL\w*|POSTERO ?ANTERIOR|ANTERO ?POSTERIOR|FACE|VIEWS|2 ?V\w*|DECUB\w*|DECUBITUS|[LR]LD"

_SIDES = {
    "a lateral view": r"LL|RL|LLAT|RLAT|LAT|LATL|(CHEST|THORAX)LAT|LATERAL(?!ITY)\w*|SEITLICH\w*|PROFIL|PERFIL|"
    r"LATERO ?LATERAL\w*",
    "an oblique view": r"[LR]LO|[LR][AP]O|OBL|OBLI|OBLIQUE\w*|SCHRAEG|OBLIQUA|OBLICUA",
}
"""Views that are not frontal (PS3.3, sections C.8.1.1 and C.8.11.5). Decubitus views are: only the patient lies."""

_LATERAL_CODES = {
    *("399198007", "399173006", "399067008", "399260004", "399352003", "30730003"),  # SNOMED CT
    *("R-10232", "R-10236", "R-102CD", "R-10224", "R-10228", "G-A145"),  # the same in SNOMED RT
}
"""Right, left, any side; medial to lateral, lateral to medial; sagittal (PS3.16, CID 4010)."""

_DESCRIPTIONS = (
    "SeriesDescription",
    "ProtocolName",
    "AcquisitionDeviceProcessingDescription",
    "PerformedProcedureStepDescription",
)
"""Free text on this one image; the description of a study may name other images of it."""


def check(header: pydicom.Dataset) -> None:
    """Reject what has no image and what its header declares to be no frontal chest radiograph.

    Words of the header are compared, never quoted: any of them may hold a name. What is missing or unknown is no reason
    to reject.

    Args:
        header: a DICOM data set, with its file meta information where it has some.

    Raises:
        UnsupportedError: there is no image.
        NotAChestRadiographError: another modality, another part of the body, or a view that is not frontal.

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
    if keyword and not _RADIOGRAPHY.search(keyword):
        raise _rejection(name, "SOP Class")
    for modality in _words(header, "Modality"):
        if modality in _MODALITIES:
            raise _rejection(_MODALITIES[modality], "Modality")
    if "YES" in _words(header, "QualityControlImage"):
        raise _rejection("an image for quality control", "Quality Control Image")
    if _match(_ANIMAL, _words(header, "PatientSpeciesDescription")):
        raise _rejection("an animal", "Patient Species")
    parts = _words(header, "BodyPartExamined")
    regions = _meanings(header, "AnatomicRegionSequence")
    descriptions = _words(header, *_DESCRIPTIONS)
    places = [(parts, "Body Part Examined"), (regions, "Anatomic Region"), (descriptions, "description of the series")]
    for words, where in places if not _match(_CHEST, parts + regions) else ():
        if _match(_CHEST, words):
            break
        for part, pattern in _PARTS.items():
            if _match(pattern, words):
                raise _rejection(part, where)
    _check_view(header, descriptions)


def _check_view(header: pydicom.Dataset, descriptions: list[str]) -> None:
    """Reject a view that is not frontal: the first of the places that name a view decides."""
    places = (
        (_words(header, "ViewPosition"), "View Position"),
        (_meanings(header, "ViewCodeSequence"), "View Code"),
        (_words(header, "BodyPartExamined"), "Body Part Examined"),
        (descriptions, "description of the series"),
    )
    for words, where in places:
        if _match(_FRONTAL, words):
            return
        for view, pattern in _SIDES.items():
            if _match(pattern, words):
                raise _rejection(view, where)
    if any(str(item.get("CodeValue")) in _LATERAL_CODES for item in header.get("ViewCodeSequence") or ()):
        raise _rejection("a lateral view", "View Code")
    # On a frontal radiograph rows run from one side of the patient to the other (PS3.3, section C.7.6.1.1.1).
    if re.match(r"[AP]\w* [FH]", _plain("\\".join(map(str, header.get("PatientOrientation") or ())))):
        raise _rejection("a lateral view", "Patient Orientation")


def is_radiography(sop_class: str) -> bool:
    """Say whether objects of a SOP class may hold a radiograph, by its UID.

    Example:
        >>> is_radiography("1.2.840.10008.5.1.4.1.1.1"), is_radiography("1.2.840.10008.5.1.4.1.1.2")
        (True, False)
    """
    return bool(_RADIOGRAPHY.search(UID(sop_class).keyword))


def is_raw(header: pydicom.Dataset) -> bool:
    """Say whether a header declares what a detector measured, not yet made for the eye (PS3.3, section C.8.11.1.1.1).

    Example:
        >>> header = pydicom.Dataset()
        >>> header.PresentationIntentType = "FOR PROCESSING"
        >>> is_raw(header)
        True
    """
    _, keyword = _sop_class(header)
    return "FOR PROCESSING" in _words(header, "PresentationIntentType") or keyword.endswith("ForProcessing")


def is_turned(header: pydicom.Dataset) -> bool:
    """Say whether a header has a frontal image turned or mirrored: rows not to the patient's left, or columns not down.

    Rows are said to run towards the patient's left or right, columns towards head or feet (PS3.3, section C.7.6.1.1.1).

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
    """Name the patient's group of `ages.GROUPS`, by the age or else by the dates of birth and study; None without.

    Example:
        >>> header = pydicom.Dataset()
        >>> header.PatientAge = "045Y"
        >>> age_group(header)
        'adult_patient'
    """
    # 045Y, 018M, 003W or 012D (PS3.5, section 6.2); in use also 45, 45Y and the like.
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
    """Give name and keyword of the kind of object, from pydicom's list: a damaged header holds anything there."""
    meta = getattr(header, "file_meta", {})
    for kind in (header.get("SOPClassUID"), meta.get("MediaStorageSOPClassUID")):
        if isinstance(kind, UID) and kind.keyword:
            return kind.name, kind.keyword
    return "an object of no known class", ""


def _words(header: pydicom.Dataset, *names: str) -> list[str]:
    """Give the values of some elements in plain capitals, with a space for everything that is no letter or digit."""
    values = [header.get(name) for name in names]
    texts = [value if isinstance(value, str) else "\\".join(map(str, value or ())) for value in values]
    return [_plain(text) for text in texts if text]


def _meanings(header: pydicom.Dataset, name: str) -> list[str]:
    items: Iterable[pydicom.Dataset] = header.get(name) or ()
    return [_plain(str(item.get("CodeMeaning") or "")) for item in items]


def _plain(text: str) -> str:
    letters = unicodedata.normalize("NFKD", text.casefold()).encode("ascii", "ignore").decode().upper()
    return re.sub(r"[^A-Z0-9]+", " ", letters).strip()


def _match(pattern: str, words: list[str]) -> bool:
    return any(re.search(rf"\b(?:LEFT|RIGHT)?(?:{pattern})\b", text) for text in words)
