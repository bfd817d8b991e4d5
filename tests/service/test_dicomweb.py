"""STOW-RS as hospital software speaks it: instances in, reports on them out, and every failure named."""

from __future__ import annotations

import io
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pydicom
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="serving is not installed")
pytest.importorskip("highdicom", reason="DICOM reports are not installed")

import pneumoscope
from pneumoscope import Detector
from pneumoscope.service.dicomweb import wants_reports
from pneumoscope.service.security import Limits, Refusal
from tests.builders.dicoms import REPORT, content, filed
from tests.builders.dicoms import image as unfiled
from tests.builders.serving import MODEL_SIZE, RunningService, image, lenient, running_service
from tests.conftest import drawn_image

STUDIES = "/dicom-web/studies"
RELATED = 'multipart/related; type="application/dicom"'
STUDY = "1.2.840.99999.1"


@pytest.fixture(scope="module")
def strict() -> Iterator[RunningService]:
    with running_service(Limits(body=2_000_000, images=3, idle_seconds=0.5)) as service:
        yield service


def instance(seed: int = 0, **elements: Any) -> bytes:
    return filed(drawn_image(seed % 2, seed, MODEL_SIZE).astype(np.uint16) * 16, **elements)


def related(*files: bytes, kind: str = "application/dicom") -> bytes:
    """Write instances as the parts of a body with the boundary `x`."""
    parts = [b"--x\r\nContent-Type: " + kind.encode() + b"\r\n\r\n" + file + b"\r\n" for file in files]
    return b"".join(parts) + b"--x--\r\n"


def store(
    service: RunningService,
    *files: bytes,
    accept: str = "*/*",
    to: str = STUDIES,
    body: bytes | None = None,
    **options: Any,
) -> httpx.Response:
    headers = {"Content-Type": f"{RELATED}; boundary=x", "Accept": accept}
    return service.client.post(to, content=related(*files) if body is None else body, headers=headers, **options)


def parts(answer: httpx.Response) -> list[tuple[str, bytes]]:
    """Read a multipart answer with a parser that is not ours."""
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + answer.content)
    assert not message.defects
    return [(part.get_content_type(), bytes(part.get_payload(decode=True))) for part in message.iter_parts()]


def reports(answer: httpx.Response) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(io.BytesIO(data)) for kind, data in parts(answer) if kind == "application/dicom"]


def told(answer: httpx.Response) -> pydicom.Dataset:
    """Read the response's data set, alone or as the last part."""
    if answer.headers["content-type"] == "application/dicom+json":
        return pydicom.Dataset.from_json(answer.json())
    kind, data = parts(answer)[-1]
    assert kind == "application/dicom+json"
    return pydicom.Dataset.from_json(json.loads(data))


# --- answers


def test_each_image_gets_a_report_with_the_detectors_finding(service: RunningService) -> None:
    images = [instance(seed) for seed in range(5)]
    expected = Detector(lenient()).predict_proba(images)[:, 1]
    answer = store(service, *images)
    assert answer.status_code == 200
    for data, report, probability in zip(images, reports(answer), expected, strict=True):
        image = pydicom.dcmread(io.BytesIO(data))
        assert report.Modality == "SR"
        assert report.StudyInstanceUID == image.StudyInstanceUID
        assert report.PatientID == image.PatientID == "MARKER-ID"
        (value,) = content(report)["Probability of pneumonia"]
        assert float(value.NumericValue) == pytest.approx(probability, abs=2e-5)
    referenced = [item.ReferencedSOPInstanceUID for item in told(answer).ReferencedSOPSequence]
    assert referenced == [pydicom.dcmread(io.BytesIO(data)).SOPInstanceUID for data in images]


def test_with_evidence_an_image_comes_beside_the_report_on_a_pneumonia_and_else_where_asked_for(
    service: RunningService,
) -> None:
    samples = sorted((Path(pneumoscope.__file__).parent / "samples").rglob("*.jpeg"))
    images = [filed(np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 16) for path in samples]
    made = reports(store(service, *images, params={"evidence": "true"}))
    said = [content(one)["Finding"][0].CodeMeaning if one.Modality == "SR" else "its map" for one in made]
    found = [meaning for meaning in said if meaning != "its map"]
    assert set(found) == {"Normal", "Pneumonia"}
    assert said == [one for meaning in found for one in (meaning, "its map")[: 1 + (meaning == "Pneumonia")]]
    answer = store(service, *images, params={"evidence": "true", "evidence_of_normals": "true"})
    assert [report.Modality for report in reports(answer)] == ["SR", "OT"] * len(images)


def test_a_client_that_prefers_json_gets_the_data_set_alone(service: RunningService) -> None:
    answer = store(service, instance(), accept="application/dicom+json")
    assert answer.headers["content-type"] == "application/dicom+json"
    assert len(told(answer).ReferencedSOPSequence) == 1
    assert "FailedSOPSequence" not in told(answer)


@pytest.mark.parametrize(
    ("accept", "reports"),
    [
        (None, True),
        ("*/*", True),
        (RELATED, True),
        ("multipart/related", True),
        ("application/dicom+json", False),
        ("application/json", False),
        ("application/dicom+json, multipart/related;q=0.5", False),
        (f"application/dicom+json;q=0.5, {RELATED}", True),
        ("application/dicom+json, */*;q=0.1", False),
    ],
)
def test_the_client_says_what_it_takes(accept: str | None, reports: bool) -> None:
    assert wants_reports(accept) is reports


@pytest.mark.parametrize(
    "accept", ["text/html", "application/dicom+xml", RELATED.replace("dicom", "dicom+xml"), ";q=x"]
)
def test_a_client_that_takes_neither_is_told_so(service: RunningService, accept: str) -> None:
    with pytest.raises(Refusal):
        wants_reports(accept)
    assert store(service, instance(), accept=accept).status_code == 406


def test_what_failed_is_named_beside_the_reports_on_the_others(service: RunningService) -> None:
    ct = instance(3, Modality="CT")
    answer = store(service, instance(1), ct, b"no image", instance(2))
    assert answer.status_code == 202
    assert len(reports(answer)) == 2
    (failed,) = told(answer).FailedSOPSequence
    assert failed.ReferencedSOPInstanceUID == pydicom.dcmread(io.BytesIO(ct)).SOPInstanceUID
    assert (failed.FailureReason, failed.ErrorComment) == (0x0110, "not_a_chest_radiograph")
    (other,) = told(answer).OtherFailuresSequence
    assert (other.FailureReason, other.ErrorComment) == (0x0122, "unsupported")


@pytest.mark.parametrize(
    ("data", "reason", "kind"),
    [
        (b"no image", 0x0122, "unsupported"),
        (image(1), 0x0122, "unsupported"),  # a PNG
        (b"", 0xC000, "unreadable"),
        (instance()[:-9000], 0xC000, "unreadable"),
        (unfiled(None, SOPClassUID=REPORT, StudyInstanceUID=STUDY), 0x0122, "unsupported"),
        (instance(SOPClassUID="1.2.840.10008.5.1.4.1.1.2"), 0x0110, "not_a_chest_radiograph"),
        (unfiled(drawn_image(1, 0, MODEL_SIZE).astype(np.uint16)), 0x0122, "unsupported"),  # without a study
    ],
    ids=["text", "png", "empty", "cut", "a report", "ct", "no uids"],
)
def test_where_no_image_can_be_predicted_the_status_and_the_reason_say_so(
    service: RunningService, data: bytes, reason: int, kind: str
) -> None:
    answer = store(service, data)
    assert answer.status_code == 409
    (item,) = next(
        told(answer)[name].value for name in ("FailedSOPSequence", "OtherFailuresSequence") if name in told(answer)
    )
    assert (item.FailureReason, item.ErrorComment) == (reason, kind)


def test_an_instance_of_another_study_than_the_address_names_fails(service: RunningService) -> None:
    answer = store(service, instance(1, StudyInstanceUID=STUDY), instance(2), to=f"{STUDIES}/{STUDY}")
    assert answer.status_code == 202
    assert [report.StudyInstanceUID for report in reports(answer)] == [STUDY]
    assert told(answer).FailedSOPSequence[0].ErrorComment == "other_study"
    assert store(service, instance(2), to=f"{STUDIES}/{STUDY}").status_code == 409


@pytest.mark.images
def test_real_images_are_reported_on(service: RunningService, data: Path) -> None:
    paths = sorted((data / "kermany_original" / "val").glob("*/*"))[::5]
    images = [filed(np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 16) for path in paths]
    made = reports(store(service, *images, params={"evidence": "true", "evidence_of_normals": "true"}))
    assert [one.Modality for one in made] == ["SR", "OT"] * len(images)
    findings = Detector(lenient()).predict(images)
    for report, finding in zip(made[::2], findings, strict=True):
        assert content(report)["Finding"][0].CodeMeaning.upper() == finding


# --- a client as hospitals use it


@pytest.mark.parametrize("accept", [None, "application/dicom+json"])
def test_dicomweb_client_stores_instances(service: RunningService, accept: str | None) -> None:
    api = pytest.importorskip("dicomweb_client.api")
    client = api.DICOMwebClient(f"{service.url}/dicom-web", headers={"Accept": accept} if accept else None)
    images = [pydicom.dcmread(io.BytesIO(instance(seed, StudyInstanceUID=STUDY))) for seed in range(2)]
    answer = client.store_instances(images, study_instance_uid=STUDY)
    if accept:
        assert [item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence] == [
            one.SOPInstanceUID for one in images
        ]


# --- hostile bodies


def hostile() -> dict[str, tuple[bytes, str, int]]:
    good, tiny = related(instance()), b"--x\r\n\r\n\r\n"
    nested = b"--y\r\nContent-Type: application/dicom\r\n\r\n" + instance() + b"\r\n--y--"
    return {
        "no boundary": (good, RELATED, 400),
        "another boundary": (good, f"{RELATED}; boundary=zzz", 400),
        "an endless boundary": (good, f"{RELATED}; boundary={'x' * 4000}", 400),
        "no type": (good, "", 415),
        "a form": (good, "multipart/form-data; boundary=x", 415),
        "another type": (good, 'multipart/related; type="application/dicom+xml"; boundary=x', 415),
        "nested": (related(nested, kind="multipart/related; boundary=y"), f"{RELATED}; boundary=x", 415),
        "parts of json": (related(b"[]", kind="application/dicom+json"), f"{RELATED}; boundary=x", 415),
        "truncated": (good[:-5], f"{RELATED}; boundary=x", 400),
        "cut in a header": (good[:15], f"{RELATED}; boundary=x", 400),
        "a huge header": (b"--x\r\nA: " + b"a" * 100_000 + b"\r\n\r\n", f"{RELATED}; boundary=x", 400),
        "many headers": (b"--x\r\n" + b"A: a\r\n" * 1000 + b"\r\n", f"{RELATED}; boundary=x", 400),
        "many tiny parts": (tiny * 100_000 + b"--x--\r\n", f"{RELATED}; boundary=x", 413),
        "no part": (b"--x--\r\n", f"{RELATED}; boundary=x", 400),
        "nothing": (b"", f"{RELATED}; boundary=x", 400),
        "too large": (related(bytes(3_000_000)), f"{RELATED}; boundary=x", 413),
        "bytes": (bytes(range(256)) * 100, f"{RELATED}; boundary=x", 400),
    }


@pytest.mark.parametrize("name", hostile())
def test_a_hostile_body_is_refused_and_the_next_is_answered(strict: RunningService, name: str) -> None:
    body, kind, status = hostile()[name]
    answer = strict.client.post(STUDIES, content=body, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"kind", "message"}
    assert store(strict, instance()).status_code == 200


def test_a_body_that_never_ends_is_sent_away(strict: RunningService) -> None:
    head = f"POST {STUDIES} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 100000\r\n"
    with socket.create_connection(("127.0.0.1", strict.port), timeout=30) as connection:
        connection.sendall(f"{head}Content-Type: {RELATED}; boundary=x\r\n\r\n".encode() + related(instance())[:5000])
        assert b" 408 " in connection.recv(100)


# --- what is kept and told


def test_no_identity_reaches_the_log() -> None:
    arguments = [sys.executable, "-m", "pneumoscope", "serve", "--port", "0", "--model", str(lenient())]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            address = re.search(r"http://\S+", process.stderr.readline())
            assert address
            headers = {"Content-Type": f"{RELATED}; boundary=x"}
            images = [
                instance(1),
                instance(2, PatientName="MARKER"),
                instance(3, StudyDate="1903"),
                instance(1)[:-5000],
            ]
            with httpx.Client(base_url=address[0], transport=httpx.HTTPTransport(retries=20), timeout=60) as client:
                for to in (STUDIES, f"{STUDIES}/1.2.3.MARKER"):
                    client.post(to, content=related(*images), headers=headers, params={"evidence": "true"})
        finally:
            process.terminate()
        log = process.stderr.read()
    rows = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert [(row["route"], row["status"]) for row in rows] == [(STUDIES, 202), (f"{STUDIES}/{{study}}", 409)]
    assert "marker" not in log.lower()
    assert "1903" not in log
