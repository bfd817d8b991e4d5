"""Findings as FHIR R4 resources, without the patient's identity, which the receiver knows."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pneumoscope.inference.finding import WARNINGS
from pneumoscope.inference.model_file import Card
from pneumoscope.reporting.writers import NOT_A_DEVICE
from pneumoscope.version import __version__

MEDIA_TYPE = "application/fhir+json"

CONCLUSIONS = {"NORMAL": "No pneumonia seen", "PNEUMONIA": "Pneumonia suspected"}

_LOINC, _SNOMED, _UCUM = "http://loinc.org", "http://snomed.info/sct", "http://unitsofmeasure.org"
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
_PNEUMONIA = (_SNOMED, "233604007", "Pneumonia")
_STATES = {"NORMAL": (_SNOMED, "2667000", "Absent"), "PNEUMONIA": (_SNOMED, "52101004", "Present")}
_ISSUES = {"too_large": "too-long", "too_slow": "timeout", "unsupported": "not-supported", "unreadable": "structure"}

Resource = dict[str, Any]


def resource(rows: Sequence[Mapping[str, Any]], card: Card) -> Resource:
    """Return the FHIR resource of one finding, or a `Bundle` of several in their order.

    Args:
        rows: findings, as returned by `Finding.as_dict`.
        card: the card of the model.

    Returns:
        A `DiagnosticReport`, an `OperationOutcome` if there is no finding, or a `Bundle` of type `collection`.

    Example:
        >>> resource([{"error": {"kind": "unreadable", "message": "Damaged."}}], card)["resourceType"]
        'OperationOutcome'
    """
    made = [outcome(row["error"]) if row["error"] else report(row, card) for row in rows]
    if len(made) == 1:
        return made[0]
    entries = [{"fullUrl": f"urn:uuid:{uuid.uuid4()}", "resource": one} for one in made]
    return {"resourceType": "Bundle", "type": "collection", "timestamp": _now(), "entry": entries}


def report(row: Mapping[str, Any], card: Card) -> Resource:
    """Return a finding as a preliminary `DiagnosticReport`.

    It contains an `Observation` that pneumonia is present or absent, another with the calibrated probability and the
    operating threshold as reference, and the software as a `Device`.

    Example:
        >>> row = {"probability": 0.25, "finding": "NORMAL", "uncertain": False, "threshold": 0.5, "warnings": []}
        >>> report(row, card)["conclusion"]
        'No pneumonia seen. Not a medical device: for research and teaching.'
    """
    conclusion = CONCLUSIONS[row["finding"]] + (", uncertain" if row["uncertain"] else "")
    made: Resource = {
        "resourceType": "DiagnosticReport",
        "contained": [_device(card), _presence(row), _probability(row, card)],
        "status": "preliminary",  # no person has verified it
        "category": [_concept((f"{_TERMINOLOGY}/v2-0074", "RAD", "Radiology"))],
        "code": _concept((_LOINC, "30745-4", "Radiology Study observation"), text="Chest radiograph, one frontal view"),
        "issued": _now(),
        "result": [{"reference": "#presence"}, {"reference": "#probability"}],
        "conclusion": f"{conclusion}. {NOT_A_DEVICE}",
    }
    if row["finding"] == "PNEUMONIA":
        made["conclusionCode"] = [_concept(_PNEUMONIA, text=conclusion)]
    return made


def outcome(error: Mapping[str, str]) -> Resource:
    """Return an error as an `OperationOutcome`.

    Example:
        >>> outcome({"kind": "unreadable", "message": "Damaged."})["issue"][0]["code"]
        'structure'
    """
    issue = {
        "severity": "error",
        "code": _ISSUES.get(error["kind"], "processing"),
        "details": {"text": error["kind"]},
        "diagnostics": error["message"],
    }
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def _device(card: Card) -> Resource:
    return {
        "resourceType": "Device",
        "id": "software",
        "deviceName": [{"name": "Pneumoscope", "type": "manufacturer-name"}],
        "modelNumber": card.architecture,
        "version": [{"value": __version__}],
    }


def _presence(row: Mapping[str, Any]) -> Resource:
    made = _observation("presence", _concept(_PNEUMONIA)) | {"valueCodeableConcept": _concept(_STATES[row["finding"]])}
    if row["uncertain"]:
        made["interpretation"] = [_concept((f"{_TERMINOLOGY}/v3-ObservationInterpretation", "IND", "Indeterminate"))]
    if row["warnings"]:
        made["note"] = [{"text": f"{key}: {WARNINGS.get(key, key)}"} for key in row["warnings"]]
    return made


def _probability(row: Mapping[str, Any], card: Card) -> Resource:
    share = {"unit": "1", "system": _UCUM, "code": "1"}
    return _observation("probability", {"text": "Probability of pneumonia, calibrated"}) | {
        "valueQuantity": {"value": row["probability"]} | share,
        "referenceRange": [{"high": {"value": row["threshold"]} | share, "text": "Below the operating threshold"}],
        "note": [{"text": card.calibration.assumed}],
    }


def _observation(identity: str, code: Resource) -> Resource:
    return {
        "resourceType": "Observation",
        "id": identity,
        "status": "preliminary",
        "category": [_concept((f"{_TERMINOLOGY}/observation-category", "imaging", "Imaging"))],
        "code": code,
        "device": {"reference": "#software"},
    }


def _concept(coding: tuple[str, str, str], text: str | None = None) -> Resource:
    system, code, display = coding
    return {"coding": [{"system": system, "code": code, "display": display}]} | ({"text": text} if text else {})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
