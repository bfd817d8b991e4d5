"""`serve`: its options, its log, whom it disconnects, and how it stops."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

pytest.importorskip("fastapi", reason="serving is not installed")

import uvicorn
from starlette.types import Receive, Scope, Send

from pneumoscope.service.security import Limits
from pneumoscope.service.server import config
from tests.builders.serving import RunningService, image, in_background, lenient, until


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


def test_a_client_that_does_not_read_its_answer_is_disconnected() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": bytes(20_000_000)})

    server = uvicorn.Server(config(app, Limits(idle_seconds=0.5)))
    with socket.create_server(("127.0.0.1", 0)) as bound:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        until(lambda: server.started)
        with socket.create_connection(bound.getsockname()) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            until(lambda: len(server.server_state.connections) == 1)
            until(lambda: not server.server_state.connections)
        reading = httpx.get(f"http://127.0.0.1:{bound.getsockname()[1]}/")
        assert len(reading.content) == 20_000_000
        server.should_exit = True
        thread.join()


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
