"""The service's limits: too large, too many, too slow, or no form at all, and faults that take nobody else along."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import zlib
from collections.abc import Iterator

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

pytest.importorskip("fastapi", reason="serving is not installed")

from pneumoscope.service.security import Limits
from pneumoscope.service.worker import Submission, Worker
from tests.builders.dicoms import RAMP
from tests.builders.dicoms import image as dicom_image
from tests.builders.serving import RunningService, image, in_background, lenient, raw, running_service, until


def upload(body: bytes, length: int | None = None) -> bytes:
    """Write a request of one image as it goes over the wire, with a length that may lie."""
    head = b'--x\r\nContent-Disposition: form-data; name="images"; filename="f"\r\n\r\n'
    body = head + body + b"\r\n--x--\r\n"
    return (
        f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length or len(body)}\r\n"
        "Connection: close\r\nContent-Type: multipart/form-data; boundary=x\r\n\r\n"
    ).encode() + body


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
