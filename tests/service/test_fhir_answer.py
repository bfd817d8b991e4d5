"""FHIR R4 over HTTP: asked for by `Accept`, valid to a library of that release, without identity."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="serving is not installed")
pytest.importorskip("fhirclient", reason="there is no fhirclient to validate with")

from fhirclient.models.bundle import Bundle
from fhirclient.models.diagnosticreport import DiagnosticReport
from fhirclient.models.operationoutcome import OperationOutcome

from pneumoscope.reporting.fhir import CONCLUSIONS
from tests.builders.dicoms import image as dicom_image
from tests.builders.serving import RunningService, image
from tests.conftest import drawn_image

ACCEPT = {"Accept": "application/fhir+json"}


@pytest.mark.parametrize(
    "accept",
    ["application/fhir+json", "application/fhir+json; fhirVersion=4.0", "text/html, application/fhir+json;q=0.9"],
)
def test_an_image_is_answered_by_a_report_with_its_finding(service: RunningService, accept: str) -> None:
    sent = image(1, 7)
    finding = service.predict(sent).json()["findings"][0]
    answer = service.predict(sent, headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/fhir+json"
    report = DiagnosticReport(answer.json())  # raises where it is not valid
    assert report.conclusion.startswith(CONCLUSIONS[finding["finding"]])
    contained = {one.id: one for one in report.contained}
    assert contained["probability"].valueQuantity.value == pytest.approx(finding["probability"], abs=2e-5)


def test_several_images_are_answered_by_a_bundle_in_their_order(service: RunningService) -> None:
    answer = service.predict(image(1), b"no image", image(0), headers=ACCEPT)
    assert answer.status_code == 200
    kinds = [entry.resource.resource_type for entry in Bundle(answer.json()).entry]
    assert kinds == ["DiagnosticReport", "OperationOutcome", "DiagnosticReport"]


def test_an_image_without_a_finding_is_answered_by_an_outcome_and_the_status(service: RunningService) -> None:
    answer = service.predict(b"no image", headers=ACCEPT)
    assert answer.status_code == 415
    assert OperationOutcome(answer.json()).issue[0].details.text == "unsupported"


def test_nothing_of_a_header_is_in_the_answer(service: RunningService) -> None:
    sent = dicom_image(drawn_image(1, 5, 256).astype(np.uint16) * 16)
    assert b"MARKER" in sent
    answer = service.predict(sent, headers=ACCEPT)
    assert answer.json()["resourceType"] == "DiagnosticReport"
    assert "MARKER" not in answer.text
    assert "subject" not in answer.json()


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html"])
def test_whoever_does_not_ask_for_it_gets_findings(service: RunningService, accept: str) -> None:
    assert "findings" in service.predict(image(1), headers={"Accept": accept}).json()
