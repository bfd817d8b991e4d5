"""The service's answers: what the command line says, for each image, in one piece or in a stream."""

from __future__ import annotations

import base64
import io
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="serving is not installed")

from pneumoscope import Detector
from pneumoscope.inference import model_file
from pneumoscope.service.routers import about
from pneumoscope.service.security import Limits
from pneumoscope.service.worker import Submission, Worker
from tests.builders.dicoms import RAMP
from tests.builders.dicoms import image as dicom_image
from tests.builders.serving import MODEL_SIZE, RunningService, image, lenient, until


def test_an_image_gets_what_the_command_line_says_of_it(service: RunningService) -> None:
    sent = image(1, 7)
    (finding,) = Detector(lenient()).examine([sent])
    answer = service.predict(sent)
    assert answer.status_code == 200
    assert answer.json() == {"findings": [{"index": 0} | finding.as_dict() | {"path": "0"}]}


def test_each_answer_belongs_to_its_image_however_many_ask_at_once(service: RunningService) -> None:
    images = [image(i % 2, 100 + i) for i in range(48)]
    expected = [round(float(p), 6) for p in Detector(lenient()).predict_proba(images)[:, 1]]
    assert len(set(expected)) > 40
    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(service.predict, images))
    got = [answer.json()["findings"][0]["probability"] for answer in answers]
    assert got == pytest.approx(expected, abs=2e-5)


def test_concurrent_requests_share_batches(service: RunningService) -> None:
    batches, images = service.metric("pneumoscope_batch_images_count"), service.metric("pneumoscope_batch_images_sum")
    with ThreadPoolExecutor(16) as clients:
        list(clients.map(service.predict, [image(0, i) for i in range(32)]))
    assert service.metric("pneumoscope_batch_images_sum") - images == 32
    assert service.metric("pneumoscope_batch_images_count") - batches < 24


def test_a_bad_image_is_a_row_with_an_error_and_the_others_are_answered(service: RunningService) -> None:
    answer = service.predict(image(0), b"no image", image(1)[:2000])
    assert answer.status_code == 200
    kinds = [row["error"] and row["error"]["kind"] for row in answer.json()["findings"]]
    assert kinds == [None, "unsupported", "unreadable"]


@pytest.mark.parametrize(("data", "status", "kind"), [(b"no image", 415, "unsupported"), (b"", 422, "unreadable")])
def test_where_no_image_can_be_predicted_the_status_says_why(
    service: RunningService, data: bytes, status: int, kind: str
) -> None:
    answer = service.predict(data)
    assert answer.status_code == status
    assert answer.json()["findings"][0]["error"]["kind"] == kind


@pytest.mark.parametrize("how", ["params", "data"])
def test_evidence_and_preview_come_where_asked_for(service: RunningService, how: str) -> None:
    (row,) = service.predict(image(1), **{how: {"evidence": "true", "preview": "true"}}).json()["findings"]
    assert len(row["evidence"]["cells"]) == len(row["evidence"]["cells"][0]) > 1
    assert row["evidence"]["scale"] > 0
    assert (row["preview"]["width"], row["preview"]["height"]) == (MODEL_SIZE, MODEL_SIZE)
    assert "evidence" not in service.predict(image(1)).json()["findings"][0]


def test_a_stream_gives_a_line_for_each_image(service: RunningService) -> None:
    files = [("images", (f"{i}.png", image(i % 2, i))) for i in range(20)] + [("images", ("notes.txt", b"no image"))]
    with service.client.stream("POST", "/v1/predict/stream", files=files) as answer:
        rows = [json.loads(line) for line in answer.iter_lines()]
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert sorted(row["index"] for row in rows) == list(range(21))
    for row in rows:
        assert row["path"] == files[row["index"]][1][0]
        assert (row["error"] is None) == (row["index"] < 20)


def form(*images: bytes, **fields: str) -> bytes:
    """Write the beginning of a form with images, without its end."""
    head = "--x\r\nContent-Disposition: form-data; name="
    parts = [f'{head}"{name}"\r\n\r\n{value}\r\n'.encode() for name, value in fields.items()]
    parts += [f'{head}"images"; filename="f"\r\n\r\n'.encode() + image + b"\r\n" for image in images]
    return b"".join(parts)


@contextmanager
def streaming(service: RunningService) -> Iterator[tuple[Callable[[bytes], None], Callable[[], dict[str, Any]]]]:
    """Open a stream of findings, and give functions that send more of its form and read the next line."""
    head = "POST /v1/predict/stream HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
    with (
        socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection,
        connection.makefile("rb") as file,
    ):
        connection.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode())

        def send(data: bytes) -> None:
            connection.sendall(b"%x\r\n%b\r\n" % (len(data), data))

        def line() -> dict[str, Any]:
            while not (line := file.readline()).startswith(b"{"):
                assert line
            row: dict[str, Any] = json.loads(line)
            return row

        yield send, line


def test_a_stream_answers_while_later_images_still_arrive(service: RunningService) -> None:
    with streaming(service) as (send, line):
        send(form(image(0)))
        for i in range(3):
            send(form(image(1, i)))  # its boundary is the end of the image before
            assert line()["index"] == i
        send(b"--x--\r\n")
        assert line()["index"] == 3


def test_what_is_asked_for_in_a_stream_counts_for_the_images_after_it(service: RunningService) -> None:
    with streaming(service) as (send, line):
        send(form(image(0)) + form(image(1), evidence="true") + b"--x--\r\n")
        rows = sorted((line(), line()), key=lambda row: row["index"])
    assert ["evidence" in row for row in rows] == [False, True]


def test_a_refusal_amid_a_stream_is_its_last_line(strict: RunningService) -> None:
    with streaming(strict) as (send, line):
        send(form(image(0), image(1)))
        assert line()["index"] == 0
        send(form(*[image(1)] * 4))
        assert [line().get("index"), line().get("index")] == [1, 2]
        assert line()["error"]["kind"] == "too_large"


def test_a_client_that_stops_amid_a_stream_gets_what_was_predicted_and_is_sent_away(strict: RunningService) -> None:
    with streaming(strict) as (send, line):
        send(form(image(0), image(1)))
        assert line()["index"] == 0
        assert line()["error"]["kind"] == "too_slow"


def test_a_client_that_hangs_up_amid_a_stream_leaves_nothing_behind(service: RunningService, huge: bytes) -> None:
    with streaming(service) as (send, line):
        send(form(image(0), huge, image(1)))
        assert line()["index"] == 0
    until(lambda: service.metric("pneumoscope_images_accepted") == 0)
    assert service.predict(image(1)).status_code == 200


def test_the_model_tells_its_card_without_what_programs_alone_read(service: RunningService) -> None:
    model = service.client.get("/v1/model").json()
    assert model["card"]["metrics"]["auc"]["value"] > 0.9
    assert "seen" not in model["card"]
    assert "Not a medical device" in model["notice"]


def test_the_prevalence_asked_for_is_told_with_the_model_and_changes_no_finding(service: RunningService) -> None:
    (usual,) = service.predict(image(1)).json()["findings"]
    worker = Worker(lenient(), prevalence=0.03)
    try:
        worker.start()
        assert about.description(worker.card, Limits())["card"]["calibration"]["prevalence"] == 0.03
        (row,) = worker.predict([Submission(image(1))], seconds=60.0)
    finally:
        worker.stop()
    assert row["finding"] == usual["finding"]
    assert row["probability"] < usual["probability"]
    assert row["threshold"] < usual["threshold"]


def test_what_the_shipped_model_tells_of_itself_is_short() -> None:
    card = model_file.read(model_file.default())[1]
    assert len(json.dumps(about.description(card, Limits()))) < 20_000


def test_it_says_that_it_lives_and_is_ready(service: RunningService) -> None:
    for path in ("/healthz", "/readyz"):
        assert service.client.get(path).json() == {"status": "ok"}
        head = service.client.head(path)
        assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("path", ["/", "/app.js", "/metrics", "/v1/model", "/openapi.json"])
def test_whatever_can_be_got_answers_head(service: RunningService, path: str) -> None:
    assert service.client.head(path).status_code == 200


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ("filename*=UTF-8''na%C3%AFve%20%E8%83%B8.png", "naïve 胸.png"),
        ("filename=\"plain.png\"; filename*=utf-8'de'%C3%A4.png", "ä.png"),
        ("filename*=iso-8859-1''%E4.png", "ä.png"),
        ("filename*=UTF-8''%FF.png", "\ufffd.png"),
    ],
)
def test_a_name_in_extended_notation_is_a_name(service: RunningService, disposition: str, name: str) -> None:
    body = (
        f'--x\r\nContent-Disposition: form-data; name="images"; {disposition}\r\n\r\n'.encode()
        + image(1)
        + b"\r\n--x--"
    )
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    (finding,) = service.client.post("/v1/predict", content=body, headers=kind).json()["findings"]
    assert (finding["path"], finding["error"]) == (name, None)


def test_values_come_with_all_bits_and_without_a_finding(service: RunningService) -> None:
    answer = service.client.post(
        "/v1/values", files={"images": dicom_image(RAMP, RescaleIntercept="-1000", RescaleSlope="1")}
    )
    values = answer.json()
    with Image.open(io.BytesIO(base64.b64decode(values["png"]))) as png:
        np.testing.assert_array_equal(np.asarray(png) * values["slope"] + values["intercept"], RAMP - 1000.0)
    refused = service.client.post("/v1/values", files={"images": b"no image"})
    assert (refused.status_code, refused.json()["error"]["kind"]) == (415, "unsupported")
    assert service.client.post("/v1/values", files=[("a", image()), ("b", image())]).status_code == 422


def test_counters_count(service: RunningService) -> None:
    series = 'pneumoscope_images_total{outcome="unsupported"}'
    service.predict(b"no image")
    before = service.metric(series)
    service.predict(b"no image", b"no image either")
    assert service.metric(series) == before + 2
