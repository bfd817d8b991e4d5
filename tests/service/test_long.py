"""The service under load for minutes: detector killed, clients slow or gone, queue full; and every answer is right."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

pytest.importorskip("fastapi", reason="serving is not installed")

from pneumoscope import Detector
from pneumoscope.service.queue import TOGETHER
from pneumoscope.service.security import Limits
from tests.builders.serving import RunningService, image, lenient, running_service

pytestmark = pytest.mark.long

STEADY = 8
SLOW = 4
GROWTH = 300_000_000  # bytes that the process may hold more after the load than before


def resident() -> int:
    """Bytes of memory of this process, in which the service runs."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def form(data: bytes) -> tuple[bytes, bytes]:
    """Write the head and the body of a request with an image."""
    body = b'--x\r\nContent-Disposition: form-data; name="images"; filename="f"\r\n\r\n' + data + b"\r\n--x--\r\n"
    head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    return (head + "Content-Type: multipart/form-data; boundary=x\r\n\r\n").encode(), body


def test_under_load_and_faults_every_image_gets_its_own_answer(request: pytest.FixtureRequest) -> None:
    seconds = 60 * float(request.config.getoption("--minutes"))
    images = [image(seed % 2, 300 + seed) for seed in range(16)]
    expected = [float(p) for p in Detector(lenient()).predict_proba(images)[:, 1]]
    over = threading.Event()
    told: Counter[str] = Counter()
    wrong: list[str] = []

    with running_service(Limits(queue=96, idle_seconds=2.0)) as service:
        assert service.predict(*images).status_code == 200
        before = resident()
        threads = [threading.Thread(target=work) for work in _clients(service, images, expected, over, told, wrong)]
        for thread in threads:
            thread.start()
        over.wait(seconds)
        over.set()
        for thread in threads:
            thread.join(120.0)
            assert not thread.is_alive()
        end = time.monotonic() + 120.0
        while service.metric("pneumoscope_images_accepted"):
            assert time.monotonic() < end
            time.sleep(0.1)
        answer = service.predict(*images).json()["findings"]
        grown = resident() - before
    print(f"{seconds:.0f} s: {dict(told)}, {grown / 1e6:+.0f} MB")
    assert wrong == []
    assert [row["probability"] for row in answer] == pytest.approx(expected, abs=2e-5)
    for happened in ("right", "busy", "killed", "slow", "gone"):
        assert told[happened], happened
    assert grown < GROWTH


def _clients(
    service: RunningService,
    images: list[bytes],
    expected: list[float],
    over: threading.Event,
    told: Counter[str],
    wrong: list[str],
) -> list[Callable[[], None]]:
    """Give what is to run at once, each until it is over."""

    def steady(seed: int) -> None:
        """Ask for one image after the other, and again where there is no room."""
        rng = random.Random(seed)
        with httpx.Client(base_url=service.url, timeout=120.0) as client:
            while not over.is_set():
                number = rng.randrange(len(images))
                answer = client.post("/v1/predict", files={"images": images[number]})
                if answer.status_code == 503:
                    told["busy"] += 1
                    over.wait(0.2)
                    continue
                row = answer.json().get("findings", [{}])[0]
                if answer.status_code == 200 and row["probability"] == pytest.approx(expected[number], abs=2e-5):
                    told["right"] += 1
                else:
                    wrong.append(answer.text[:300])

    def flood() -> None:
        """Ask for many at once, so that the queue is full."""
        with httpx.Client(base_url=service.url, timeout=120.0) as client:
            while not over.wait(0.5):
                answer = client.post("/v1/predict", files=[("images", data) for data in images * 4])
                told["busy" if answer.status_code == 503 else "flooded"] += 1
                if answer.status_code == 503:
                    continue
                got = [row["probability"] for row in answer.json()["findings"]]
                if got != pytest.approx(expected * 4, abs=2e-5):
                    wrong.append(answer.text[:300])

    def kill() -> None:
        """End the detector's process, whatever it is doing, but no image's twice: such an image is given up."""
        rng = random.Random(5)
        answered = 0.0
        while not over.wait(rng.uniform(4.0, 12.0)):
            now = service.metric("pneumoscope_image_seconds_count")
            if service.worker.pid and now > answered + 2 * TOGETHER:
                answered = now
                with suppress(ProcessLookupError):
                    os.kill(service.worker.pid, signal.SIGKILL)
                    told["killed"] += 1

    def slow() -> None:
        """Begin to send an image, and go on so slowly that the service gives up."""
        head, body = form(images[0])
        while not over.is_set():
            with suppress(OSError), socket.create_connection(("127.0.0.1", service.port), timeout=60.0) as connection:
                connection.sendall(head + body[:1000])
                if b"408" in connection.recv(4096):
                    told["slow"] += 1

    def gone() -> None:
        """Send an image, whole or half, and hang up."""
        rng = random.Random(9)
        head, body = form(images[1])
        while not over.wait(0.2):
            with suppress(OSError), socket.create_connection(("127.0.0.1", service.port), timeout=60.0) as connection:
                connection.sendall(head + body[: rng.choice((len(body), len(body) // 2))])
                told["gone"] += 1

    clients = [lambda seed=seed: steady(seed) for seed in range(STEADY)]
    return [*clients, *[slow] * SLOW, flood, flood, kill, gone]
