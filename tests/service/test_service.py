"""The service as programs meet it: every image answered, its own answer, within limits, and nothing given away."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian

pytest.importorskip("fastapi", reason="serving is not installed")

from pneumoscope import Detector
from pneumoscope.errors import UnsupportedError
from pneumoscope.inference import model_file
from pneumoscope.service.routers import about
from pneumoscope.service.security import Limits, check_address
from pneumoscope.service.worker import Submission, Worker
from tests.builders.dicoms import RAMP
from tests.builders.dicoms import image as dicom_image
from tests.builders.serving import MODEL_SIZE, RunningService, image, lenient, running_service, slow_image

TOKEN = "correct horse battery staple"
QUICK = Limits(body=3_000_000, images=3, queue=4, image_seconds=0.5, idle_seconds=0.5)


@pytest.fixture(scope="module")
def strict() -> Iterator[RunningService]:
    """A service with narrow limits."""
    with running_service(QUICK) as service:
        yield service


@pytest.fixture(scope="module")
def locked() -> Iterator[RunningService]:
    """A service that asks for a token and lets one other site ask."""
    with running_service(token=TOKEN, origins=["https://images.example"]) as service:
        yield service


@pytest.fixture(scope="module")
def huge() -> bytes:
    return slow_image()


def in_background(work: Callable[[], httpx.Response]) -> Callable[[], httpx.Response]:
    """Begin something and give a function that waits for its end."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)
    pool.shutdown(wait=False)
    return future.result


def until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def raw(service: RunningService, request: bytes) -> bytes:
    """Send bytes as they are and read the answer until the service closes."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


def upload(body: bytes, length: int | None = None) -> bytes:
    """Write a request of one image as it goes over the wire, with a length that may lie."""
    head = b'--x\r\nContent-Disposition: form-data; name="images"; filename="f"\r\n\r\n'
    body = head + body + b"\r\n--x--\r\n"
    return (
        f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length or len(body)}\r\n"
        "Connection: close\r\nContent-Type: multipart/form-data; boundary=x\r\n\r\n"
    ).encode() + body


# --- answers


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


# --- limits


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_read(strict: RunningService) -> None:
    answer = raw(strict, upload(b"", length=10_000_000_000))
    assert b" 413 " in answer.split(b"\r\n")[0]


def test_a_body_that_turns_out_too_large_is_refused(strict: RunningService) -> None:
    def endless() -> Iterator[bytes]:
        yield upload(b"").partition(b"\r\n\r\n")[2].partition(b"\r\n--x--")[0]
        for _ in range(40):
            yield bytes(100_000)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = strict.client.post("/v1/predict", content=endless(), headers=headers)
    assert answer.status_code == 413
    assert answer.json()["error"]["kind"] == "too_large"


def test_more_images_than_allowed_are_refused(strict: RunningService) -> None:
    answer = strict.predict(*[image()] * 4)
    assert answer.status_code == 413
    assert "at most 3 images" in answer.json()["error"]["message"]


def test_an_image_that_takes_too_long_is_refused_and_the_others_beside_it_are_answered(
    strict: RunningService, huge: bytes
) -> None:
    answer = strict.predict(image(0), huge, image(1))
    kinds = [row["error"] and row["error"]["kind"] for row in answer.json()["findings"]]
    assert kinds == [None, "too_slow", None]


def test_a_client_that_stops_sending_is_sent_away(strict: RunningService) -> None:
    began = time.monotonic()
    answer = raw(strict, upload(b"", length=1_000_000))
    assert b" 408 " in answer.split(b"\r\n")[0]
    assert time.monotonic() - began < 10


def test_a_client_that_does_not_finish_the_head_of_a_request_is_sent_away(strict: RunningService) -> None:
    with socket.create_connection(("127.0.0.1", strict.port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
        assert connection.recv(100) == b""


def test_a_head_of_any_size_is_not_taken(strict: RunningService) -> None:
    head = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + bytes(50_000_000)
    with (
        socket.create_connection(("127.0.0.1", strict.port), timeout=10) as connection,
        pytest.raises((ConnectionResetError, BrokenPipeError)),
    ):
        connection.sendall(head.replace(b"\0", b"a"))


def test_a_full_queue_says_so_at_once_and_what_was_accepted_is_answered(huge: bytes) -> None:
    with running_service(Limits(queue=2, images=2)) as service:
        first = in_background(lambda: service.predict(huge, image(1)))
        until(lambda: service.metric("pneumoscope_images_accepted") == 2)
        refused = service.predict(image(0))
        assert service.metric("pneumoscope_images_accepted") == 2  # the others are still under way
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) >= 1
        rows = first().json()["findings"]
        assert [row["error"] is None for row in rows] == [False, True]


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", "application/json", 415),
        (b"", "multipart/form-data", 400),
        (b"nothing of the kind", "multipart/form-data; boundary=x", 400),
        (
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
            400,
        ),
        (b"--x\r\nContent-Disposition: form-data\r\n\r\nb\r\n--x--\r\n", "multipart/form-data; boundary=x", 400),
    ],
)
def test_what_is_no_form_with_images_is_refused(
    service: RunningService, content: bytes, kind: str, status: int
) -> None:
    answer = service.client.post("/v1/predict", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"kind", "message"}


# --- faults


def test_a_worker_that_is_killed_is_replaced_and_its_images_are_answered(service: RunningService, huge: bytes) -> None:
    starts = service.worker.starts
    answer = in_background(lambda: service.predict(huge, image(1)))
    until(lambda: service.metric("pneumoscope_images_accepted") == 2)
    assert service.worker.pid
    os.kill(service.worker.pid, signal.SIGKILL)
    rows = answer().json()["findings"]
    assert rows[0]["error"]["kind"] == "not_a_chest_radiograph"
    assert rows[1]["error"] is None
    assert service.worker.starts == starts + 1


def test_a_client_that_hangs_up_takes_no_other_with_it(service: RunningService, huge: bytes) -> None:
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(upload(huge))
        until(lambda: service.metric("pneumoscope_images_accepted") == 1)
    assert service.predict(image(1)).status_code == 200
    until(lambda: service.metric("pneumoscope_images_accepted") == 0)


def test_a_bomb_takes_no_more_memory_than_it_may_and_the_others_are_answered() -> None:
    header = dicom_image(RAMP, DeflatedExplicitVRLittleEndian)
    header = header[: 144 + int.from_bytes(header[140:144], "little")]  # up to the end of the file meta information
    squeezer = zlib.compressobj(1, zlib.DEFLATED, -15)
    element = b"\x09\x00\x01\x10OB\0\0\xfe\xff\xff\xff"  # 4 gigabytes in a private element
    bomb = (
        squeezer.compress(element)
        + b"".join(squeezer.compress(bytes(500_000_000)) for _ in range(4))
        + squeezer.flush()
    )
    worker = Worker(lenient(), memory=1_000_000_000)
    worker.start()
    try:
        rows = worker.predict([Submission(header + bomb), Submission(image(1))], seconds=60)
    finally:
        worker.stop()
    assert rows[0]["error"]["kind"] == "too_large"
    assert rows[1]["error"] is None


# --- who may ask


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "images.example"])
def test_an_address_that_others_reach_demands_a_token(host: str) -> None:
    with pytest.raises(UnsupportedError, match="PNEUMOSCOPE_TOKEN"):
        check_address(host, None)
    check_address(host, TOKEN)


@pytest.mark.parametrize("token", ["", "tab\t", "näme"])
def test_a_token_that_cannot_be_sent_is_refused(token: str) -> None:
    with pytest.raises(UnsupportedError, match="token"):
        check_address("127.0.0.1", token)


@pytest.mark.parametrize(
    "given", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ü"]
)
@pytest.mark.parametrize("path", ["/v1/model", "/metrics", "/v1/predict"])
def test_without_the_token_nothing_is_told(locked: RunningService, path: str, given: str | None) -> None:
    headers = {} if given is None else {"Authorization": given.encode("utf-8")}
    answer = locked.client.get(path, headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_with_the_token_it_answers_and_the_page_is_there_for_all(locked: RunningService) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert locked.client.get("/v1/model", headers=headers).status_code == 200
    assert locked.predict(image(1), headers=headers).status_code == 200
    for path in ("/", "/app.js", "/healthz", "/readyz", "/openapi.json"):
        assert locked.client.get(path).status_code == 200


def test_no_other_site_may_ask_unless_it_is_named(service: RunningService, locked: RunningService) -> None:
    theirs = {"Origin": "https://images.example"}
    assert service.predict(image(), headers=theirs).status_code == 403
    assert service.predict(image(), headers={"Origin": service.url}).status_code == 200
    assert "access-control-allow-origin" not in service.client.get("/v1/model").headers
    answer = locked.predict(image(), headers=theirs | {"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == theirs["Origin"]
    other = {"Origin": "https://others.example", "Authorization": f"Bearer {TOKEN}"}
    assert locked.predict(image(), headers=other).status_code == 403


def test_a_name_that_was_made_to_lead_here_is_refused(service: RunningService) -> None:
    for host in ("images.example", "127.0.0.1.images.example", "[", ""):
        assert service.client.get("/v1/model", headers={"Host": host}).status_code == 421
    for host in ("localhost:99", "127.0.0.1", "[::1]:8000"):
        assert service.client.get("/v1/model", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/v1/model", "/nothing", "/healthz", "/app.js"])
def test_every_answer_has_the_security_headers(service: RunningService, path: str) -> None:
    headers = service.client.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] in ("no-store", "no-cache")
    assert re.fullmatch("[0-9a-f]{32}", headers["X-Request-Id"])
    assert "server" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/../app.py",
        "/%2e%2e/app.py",
        "/..%2fapp.py",
        "/..%5capp.py",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/app.js/../../app.py",
        "/%00",
        "/v1/../../security.py",
        "/" + "a" * 5000,
    ],
)
def test_no_path_leads_out_of_the_page(service: RunningService, path: str) -> None:
    answer = raw(service, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert re.match(rb"HTTP/1.1 4\d\d ", answer)
    assert b"import" not in answer
    assert b"root:" not in answer


# --- what is kept and told


def test_no_image_touches_a_disk(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")  # the service runs in this process
    assert service.predict(image(1) + bytes(5_000_000)).status_code == 200


def test_counters_count(service: RunningService) -> None:
    series = 'pneumoscope_images_total{outcome="unsupported"}'
    service.predict(b"no image")
    before = service.metric(series)
    service.predict(b"no image", b"no image either")
    assert service.metric(series) == before + 2


# --- from the command line


@contextmanager
def started(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `pneumoscope serve`, and give its process and its page's address."""
    arguments = [sys.executable, "-m", "pneumoscope", "serve", "--port", "0", "--model", str(lenient()), *options]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            address = re.search(r"http://\S+", process.stderr.readline())
            assert address
            until(lambda: socket.socket().connect_ex(("127.0.0.1", httpx.URL(address[0]).port)) == 0)
            yield process, address[0]
        finally:
            process.kill()


def test_limits_are_options() -> None:
    options = ["--max-megabytes", "1", "--max-images", "2", "--max-pixels", "20000", "--max-seconds", "7"]
    with started(*options) as (_, address):
        limits = httpx.get(f"{address}v1/model").json()["limits"]
        assert limits == {"bytes": 1_000_000, "images": 2, "pixels": 20_000, "seconds": 7.0}
        too_large = httpx.post(f"{address}v1/predict", files={"images": image(1)})
        assert too_large.json()["findings"][0]["error"]["kind"] == "too_large"
        assert too_large.status_code == 413
        assert httpx.post(f"{address}v1/predict", files=[("images", b"")] * 3).status_code == 413
        assert httpx.post(f"{address}v1/predict", files={"images": bytes(1_100_000)}).status_code == 413


@pytest.fixture
def command() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`pneumoscope serve` as a person starts it, and the page's address as it tells it."""
    with started() as running:
        yield running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_accepted_is_answered_before_it_stops(
    command: tuple[subprocess.Popen[str], str], huge: bytes, number: signal.Signals
) -> None:
    process, address = command
    files = [("images", ("0", huge)), ("images", ("1", image(1)))]
    answer = in_background(lambda: httpx.post(f"{address}v1/predict", files=files, timeout=60))
    until(lambda: "pneumoscope_images_accepted 2.0" in httpx.get(f"{address}metrics").text)
    process.send_signal(number)
    rows = answer().json()["findings"]
    assert rows[1]["error"] is None
    assert process.wait(30) in (0, -number, 130)


def test_no_name_reaches_the_log(command: tuple[subprocess.Popen[str], str]) -> None:
    process, address = command
    httpx.post(f"{address}v1/predict?patient=Jane", files=[("images", ("Jane Doe 1970.png", image()))])
    httpx.post(f"{address}v1/predict", content=b"Jane", headers={"Content-Type": "multipart/form-data; boundary=Jane"})
    httpx.get(f"{address}images/Jane%20Doe", headers={"User-Agent": "Jane", "X-Request-Id": "Jane"})
    httpx.request("JANE", f"{address}v1/predict")
    process.terminate()
    assert process.stderr
    told = process.stderr.read()
    assert "jane" not in told.lower()
    rows = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    assert [(row["method"], row["route"], row["status"]) for row in rows] == [
        ("POST", "/v1/predict", 200),
        ("POST", "/v1/predict", 400),
        ("GET", "other", 404),
        ("OTHER", "/v1/predict", 405),
    ]
    assert sum(rows[0]["images"].values()) == 1


def test_a_port_that_is_taken_is_said_in_one_line(service: RunningService) -> None:
    arguments = [sys.executable, "-m", "pneumoscope", "serve", "--port", str(service.port)]
    run = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert run.stderr.startswith("error (unsupported): Expected an address and port")
    assert "Traceback" not in run.stderr


def test_serving_others_without_a_token_is_refused_on_the_command_line() -> None:
    arguments = [sys.executable, "-m", "pneumoscope", "serve", "--host", "0.0.0.0"]
    environment = {name: value for name, value in os.environ.items() if name != "PNEUMOSCOPE_TOKEN"}
    run = subprocess.run(arguments, capture_output=True, text=True, timeout=60, env=environment)
    assert run.returncode == 1
    assert "--token" in run.stderr


def test_many_slow_clients_do_not_keep_a_quick_one_waiting(service: RunningService) -> None:
    stop = threading.Event()

    def drip() -> None:
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(upload(b"", length=100_000)[:200])
            stop.wait(60)

    slow = [threading.Thread(target=drip) for _ in range(20)]
    for thread in slow:
        thread.start()
    try:
        assert service.predict(image(1)).status_code == 200
        assert all(thread.is_alive() for thread in slow)
    finally:
        stop.set()
    for thread in slow:
        thread.join()
