"""`dicom_header`: what is declared to be no frontal chest radiograph is rejected; what is not declared is not."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from pneumoscope.errors import NotAChestRadiographError, UnsupportedError
from pneumoscope.imaging.dicom.decoder import decode
from pneumoscope.imaging.dicom.header import check
from tests.builders.dicoms import DIGITAL_XRAY, LIMIT, RAMP, image

pytestmark = pytest.mark.filterwarnings("error", "ignore:.*:UserWarning:pydicom")

CT, ULTRASOUND, PDF = (f"1.2.840.10008.5.1.4.1.1.{kind}" for kind in ("2", "6.1", "104.1"))
COMPUTED_RADIOGRAPHY, SECONDARY_CAPTURE = (f"1.2.840.10008.5.1.4.1.1.{kind}" for kind in ("1", "7"))


def rejection(**elements: Any) -> str | None:
    """Why an image with such a header is rejected, or None."""
    header = Dataset()
    header.PixelData = bytes(2)
    for name, value in elements.items():
        setattr(header, name, value)
    try:
        check(header)
    except NotAChestRadiographError as error:
        return str(error)
    return None


def coded(value: str, meaning: str) -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return Sequence([item])


@pytest.mark.parametrize(
    "modality", ["CT", "MR", "US", "NM", "PT", "MG", "XA", "IO", "PX", "ES", "XC", "SM", "OP", "SEG", "RTIMAGE", "us "]
)
def test_another_modality_is_rejected(modality: str) -> None:
    assert "Modality in the DICOM header" in (rejection(Modality=modality) or "")


@pytest.mark.parametrize("modality", ["CR", "DX", "DR", "RG", "RF", "OT", "SC", "XR", "", None, "RADIOLOGY"])
def test_a_modality_that_may_be_radiography_or_is_unknown_is_not_rejected(modality: str | None) -> None:
    assert rejection(Modality=modality) is None


@pytest.mark.parametrize(
    "species", ["Canis lupus familiaris", "CAT", "Feline", "Rattus", "non-human primate", "DOG-HOUND"]
)
def test_an_animal_is_rejected(species: str) -> None:
    assert "an animal (Patient Species in the DICOM header)" in (rejection(PatientSpeciesDescription=species) or "")


@pytest.mark.parametrize(
    "species", ["Homo sapiens sapiens", "HUMAN", "Mensch", "PERSON", "Человек", "ヒト", "unknown", "-", " ", "", None]
)
def test_a_human_or_a_species_that_is_not_told_is_not_rejected(species: str | None) -> None:
    assert rejection(PatientSpeciesDescription=species) is None


def test_an_image_for_quality_control_is_rejected() -> None:
    assert "quality control" in (rejection(QualityControlImage="YES") or "")
    assert rejection(QualityControlImage="NO") is None


@pytest.mark.parametrize("kind", [CT, ULTRASOUND, "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.77.1.4"])
def test_an_object_of_another_class_is_rejected_even_where_the_modality_is_missing(kind: str) -> None:
    assert UID(kind).name in (rejection(SOPClassUID=kind) or "")


@pytest.mark.parametrize("kind", [COMPUTED_RADIOGRAPHY, SECONDARY_CAPTURE, "1.2.840.10008.5.1.4.1.1.1.1.1", "1.2.3"])
def test_an_object_of_radiography_a_capture_or_an_unknown_class_is_not_rejected(kind: str) -> None:
    assert rejection(SOPClassUID=kind) is None


@pytest.mark.parametrize(
    "part",
    [
        *("HAND", "SKULL", "ABDOMEN", "KNEE", "CSPINE", "TSPINE", "T-SPINE", "THORACIC SPINE", "LSPINE", "PELVIS"),
        *("EXTREMITY", "UP_EXM", "LOWER LEG", "Foot", "left hip", "BREAST", "HEAD", "NECK", "SHOULDER", "JAW", "RIB"),
        *(
            "Hand re.",
            "Schädel",
            "BWS",
            "Brustwirbelsäule",
            "Fuß",
            "Kniegelenk",
            "RODILLA",
            "épaule",
            "bassin",
            "pelve",
        ),
        *(
            "膝",
            "腹部",
            "頭部",
            "手",
            "骨盤",
            "腰椎",
            "颈椎",
            "胸椎",
            "胸腰椎",
            "膝关节",
            "右肩",
            "Череп",
            "czaszka",
            "kafa",
            "ayak",
            "boyun",
        ),
        *("käsi", "jalka", "schedel", "zatoki", "ręka", "pies AP", "kręgosłup lędźwiowy", "buik overzicht"),
        *("LEFTHAND", "HANDWRIST", "TIBFIB", "ENTIRE BODY", "SCOLIOSIS", "WHOLEBODY", "PHANTOM", "ABDOMEN\\PELVIS"),
    ],
)
def test_another_part_of_the_body_is_rejected(part: str) -> None:
    assert "Body Part Examined in the DICOM header" in (rejection(Modality="DX", BodyPartExamined=part) or "")


@pytest.mark.parametrize(
    "part",
    [
        *("CHEST", "THORAX", "TORAX", "TÓRAX", "Thorax ap", "PORT CHEST", "CHEST 1 VIEW", "CHEST_TO_PELVIS", "LUNG"),
        *(
            "CHEST ABDOMEN",
            "CHESTABDPELVIS",
            "Unknown",
            "UNKNOWN",
            "",
            None,
            "胸部",
            "胸腹部",
            "手术后",
            "ГРУДНАЯ КЛЕТКА",
            "HEART",
            "BODY",
            "XX",
        ),
    ],
)
def test_a_chest_or_a_part_that_is_unknown_is_not_rejected(part: str | None) -> None:
    assert rejection(Modality="DX", BodyPartExamined=part) is None


@pytest.mark.parametrize("part", ["CHEST LAT", "CHESTLAT", "LATERAL CHEST", "CHEST_LATERAL", "THORAX SEITLICH"])
def test_a_view_that_stands_with_the_part_of_the_body_counts(part: str) -> None:
    assert "a lateral view (Body Part Examined" in (rejection(BodyPartExamined=part) or "")
    assert rejection(BodyPartExamined=part, ViewPosition="PA") is None


def test_laterality_is_no_lateral_view() -> None:
    assert rejection(SeriesDescription="CHEST LATERALITY UNPAIRED") is None


def test_a_coded_region_counts_as_a_part_of_the_body() -> None:
    assert "Anatomic Region in the DICOM header" in (rejection(AnatomicRegionSequence=coded("85562004", "Hand")) or "")
    assert rejection(AnatomicRegionSequence=coded("51185008", "Chest")) is None


def test_the_description_of_the_series_decides_where_no_part_is_named() -> None:
    assert rejection(SeriesDescription="Hand left 2 views")
    assert rejection(ProtocolName="Becken a.p.")
    assert rejection(AcquisitionDeviceProcessingDescription="ABDOMEN,SUPINE")
    assert rejection(SeriesDescription="Hand left", BodyPartExamined="CHEST") is None
    assert rejection(SeriesDescription="Chest and abdomen") is None
    assert rejection(SeriesDescription="Portable", ProtocolName="AP C-arm, face, exclude PE") is None
    assert rejection(StudyDescription="Polytrauma: hand, chest, pelvis") is None  # of several images


@pytest.mark.parametrize(
    "position", ["LL", "RL", "LATERAL", "LAT", "Left lateral", "RLO", "LLO", "LAO", "OBLIQUE", "seitlich"]
)
def test_a_view_that_is_not_frontal_is_rejected(position: str) -> None:
    assert "View Position in the DICOM header" in (rejection(Modality="CR", ViewPosition=position) or "")


@pytest.mark.parametrize(
    "position", ["AP", "PA", "LLD", "RLD", "Left lateral decubitus", "", None, "SUPINE", "UNKNOWN"]
)
def test_a_frontal_or_unknown_view_is_not_rejected(position: str | None) -> None:
    assert rejection(Modality="CR", ViewPosition=position) is None


@pytest.mark.parametrize(
    ("value", "meaning"),
    [("399173006", "left lateral"), ("399198007", ""), ("R-10232", "Rechts"), ("260427002", "Lateral Oblique")],
)
def test_a_coded_view_that_is_not_frontal_is_rejected(value: str, meaning: str) -> None:
    assert "View Code" in (rejection(ViewCodeSequence=coded(value, meaning)) or "")


def test_a_coded_frontal_or_decubitus_view_is_not_rejected() -> None:
    assert rejection(ViewCodeSequence=coded("399348003", "antero-posterior")) is None
    assert rejection(ViewCodeSequence=coded("102536004", "left lateral decubitus")) is None


def test_the_description_decides_on_the_view_only_where_it_names_one_and_nothing_else_does() -> None:
    assert rejection(SeriesDescription="Thorax seitlich")
    assert rejection(ProtocolName="CHEST LAT")
    for frontal in ("Chest PA and lateral", "CXR 2 VIEWS LATERAL", "Lat decubitus", "Bilateral infiltrates", "Latex"):
        assert rejection(SeriesDescription=frontal) is None
    assert rejection(SeriesDescription="Chest lateral", ViewPosition="PA") is None


def test_rows_that_run_from_front_to_back_are_a_lateral_view() -> None:
    assert "Patient Orientation" in (rejection(PatientOrientation=["A", "F"]) or "")
    assert "Patient Orientation" in (rejection(PatientOrientation=["P", "F"]) or "")
    assert rejection(PatientOrientation=["L", "F"]) is None
    assert rejection(PatientOrientation=["A", "F"], ViewPosition="PA") is None
    assert rejection(PatientOrientation=None) is None


def test_an_object_without_an_image_is_unsupported_and_named() -> None:
    with pytest.raises(UnsupportedError, match=r"a DICOM file without an image \(Encapsulated PDF Storage\)"):
        decode(image(None, SOPClassUID=PDF, Modality="OT"), LIMIT)
    with pytest.raises(UnsupportedError, match=r"unknown SOP class"):
        decode(image(None, SOPClassUID="1.2.3.19010203"), LIMIT)


def test_a_header_that_says_nothing_is_no_rejection() -> None:
    pixels, _, _ = decode(image(RAMP, SOPClassUID="1.2.3", PhotometricInterpretation=None), LIMIT)
    assert pixels.shape == RAMP.shape


def test_a_rejection_never_quotes_the_header() -> None:
    for elements in (
        {"BodyPartExamined": "HAND OF MARKER"},
        {"SeriesDescription": "Knee, 19010203"},
        {"ViewPosition": "LATERAL MARKER"},
        {"ViewCodeSequence": coded("MARKER", "left lateral MARKER")},
    ):
        assert "MARKER" not in (rejection(**elements) or "MARKER")


@pytest.mark.parametrize(
    "description",
    [
        *(
            "AP arms up",
            "PICC left arm",
            "NG tube stomach",
            "after shoulder op",
            "arms raised",
            "C-arm",
            "post hip surgery",
        ),
        *("Port left shoulder", "tube check abdomen", "rib pain left", "head elevated 30 degrees", "knee to chest"),
        *("portable, line in neck", "AP foot of bed up", "left arm line placement"),
    ],
)
def test_a_description_that_tells_of_something_else_too_does_not_decide(description: str) -> None:
    assert rejection(SeriesDescription=description) is None
    assert rejection(ProtocolName=description) is None


@pytest.mark.parametrize(
    "description",
    ["Hand PA", "L ARM", "Knee standing 2 views", "Becken a.p.", "ABDOMEN,SUPINE", "C-SPINE LAT", "Foot 3V", "HIP",
     "Shoulder Y view", "Kolano prawe", "Schulter li.", "XR Elbow AP/LAT", "Thoracic spine 2 ebenen"],
)  # fmt: skip
def test_a_description_that_names_nothing_but_another_part_decides(description: str) -> None:
    assert "description of the series" in (rejection(SeriesDescription=description) or "")


@pytest.mark.parametrize(
    "description",
    [
        *("Thorax seitl.", "Thorax seitlich", "Lunge Seitenaufnahme", "Thx seitliche Projektion"),  # German
        *("Thorax lateraal", "X-thorax zijdelings", "Thorax dwars", "Thorax zij", "Dwarsopname"),  # Dutch
        *(
            "RTG klatki piersiowej bok",
            "klatka piersiowa boczne",
            "Klp bocznie",
            "Klatka bocz.",
            "Klp bokiem",
        ),  # Polish
        *("Keuhkot sivu", "Thorax sivukuva", "Keuhkojen röntgen, sivusuunta", "Sivulta", "Sivusuunnasta"),  # Finnish
        *("Akciğer yan", "Akciğer grafisi, lateral", "PAAG yan"),  # Turkish
        *("ОГК боковая", "Грудная клетка, боковая проекция", "Рентген лёгких сбоку"),  # Russian
        *("胸部侧位", "胸部側位片", "左侧位", "胸部(侧)", "胸侧"),  # Chinese
        *("胸部側面", "胸部 側面像", "胸部 側", "胸部側方向", "胸部R→L", "胸部 L-R"),  # Japanese
        "흉부 측면",  # Korean
        *("Tórax lateral", "Tórax perfil", "RX tórax lat."),  # Spanish
        *("Thorax profil", "Poumons de profil", "Thorax latérale"),  # French
        *("Torace laterale", "RX torace latero-laterale", "Torace LL", "Torace L-L", "Laterali"),  # Italian
        *("Tórax perfil", "Tórax em perfil", "Tórax perfis"),  # Portuguese
        *("Chest lateral", "CXR LAT"),
    ],
)
def test_a_lateral_view_is_known_in_many_languages(description: str) -> None:
    assert "a lateral view" in (rejection(SeriesDescription=description) or "")
    assert "a lateral view" in (rejection(ViewPosition=description) or "")
    assert rejection(SeriesDescription=description, ViewPosition="PA") is None


@pytest.mark.parametrize(
    "description",
    [
        *(
            "Thorax p.a. und seitlich",
            "胸部 正面 側面",
            "胸部正位",
            "ОГК прямая",
            "ОГК прямая и боковая",
            "Klatka PA + bok",
        ),
        *("Thorax liegend", "Akciğer PA", "Keuhkot PA", "lateral chest drain", "left lateral rib pain", "Seitenlage"),
        *(
            "lateralization",
            "pneumonia lateral segment",
            "lateral base opacity",
            "胸部正侧位",
            "左侧胸腔积液",
            "胸部側弯",
        ),
        *("X-thorax bij dwarslaesie", "Thorax, sivulöydös"),
        *("Erguss lateral links", "fratture costali laterali", "dolor lateral izquierdo", "épanchement latéral"),
    ],
)
def test_a_frontal_view_or_something_else_is_no_lateral_view_in_any_language(description: str) -> None:
    assert rejection(SeriesDescription=description) is None


@pytest.mark.parametrize("words", ["胸部側面", "Thorax seitl.", "ОГК боковая"])
def test_words_are_read_from_a_file_in_its_own_letters(words: str) -> None:
    data = image(RAMP, SpecificCharacterSet="ISO_IR 192", SeriesDescription=words)
    with pytest.raises(NotAChestRadiographError, match="a lateral view"):
        decode(data, LIMIT)


def test_raw_detector_data_bring_a_remark() -> None:
    for data in (
        image(RAMP, PresentationIntentType="FOR PROCESSING"),
        image(RAMP, SOPClassUID=f"{DIGITAL_XRAY}.1"),
    ):
        assert decode(data, LIMIT)[2] == ("raw",)
    assert decode(image(RAMP, PresentationIntentType="FOR PRESENTATION"), LIMIT)[2] == ()


@pytest.mark.parametrize(
    ("elements", "adult"),
    [
        ({"PatientAge": "045Y"}, True),
        ({"PatientAge": "018Y"}, True),
        ({"PatientAge": "017Y"}, False),
        ({"PatientAge": "030M"}, False),
        ({"PatientAge": "003Y", "PatientBirthDate": "19500101", "StudyDate": "20200101"}, False),
        ({"PatientBirthDate": "19500630", "StudyDate": "19680630"}, True),
        ({"PatientBirthDate": "19500630", "StudyDate": "19680629"}, False),
        ({"PatientBirthDate": "19500630"}, False),
        ({"PatientBirthDate": "about 1950", "StudyDate": "20200101"}, False),
        ({"PatientAge": "old"}, False),
        ({"PatientAge": "45"}, True),
        ({"PatientAge": "45Y"}, True),
        ({"PatientAge": "5"}, False),
        ({"PatientAge": "000Y", "PatientBirthDate": "19500630", "StudyDate": "20200101"}, True),
        ({"PatientBirthDate": None}, False),
    ],
    ids=str,
)
def test_an_adult_is_known_by_the_age_or_else_by_the_dates(elements: dict[str, Any], adult: bool) -> None:
    _, _, notes = decode(image(RAMP, **elements), LIMIT)
    assert ("adult_patient" in notes) is adult


@pytest.mark.parametrize(
    ("elements", "group"),
    [
        ({"PatientAge": "045Y"}, "adult_patient"),
        ({"PatientAge": "017Y"}, "adolescent_patient"),
        ({"PatientAge": "012Y"}, "adolescent_patient"),
        ({"PatientAge": "018M"}, "child_patient"),
        ({"PatientAge": "011M"}, "infant_patient"),
        ({"PatientAge": "051W"}, "infant_patient"),
        ({"PatientAge": "020D"}, "infant_patient"),
        ({"PatientBirthDate": "20200630", "StudyDate": "20210629"}, "infant_patient"),
        ({"PatientBirthDate": "20200630", "StudyDate": "20210630"}, "child_patient"),
        ({"PatientBirthDate": "20200630", "StudyDate": "20190630"}, None),
        ({"PatientAge": "000D"}, None),
    ],
    ids=str,
)
def test_the_age_group_is_known_by_the_age_or_else_by_the_dates(elements: dict[str, Any], group: str | None) -> None:
    _, _, notes = decode(image(RAMP, **elements), LIMIT)
    assert [note for note in notes if note.endswith("_patient")] == [group] * bool(group)
