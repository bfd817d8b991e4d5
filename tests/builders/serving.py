"""A service on a free port, for tests that speak to it as a client does."""

from __future__ import annotations

import atexit
import io
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from PIL import Image

from pneumoscope.inference import model_file
from pneumoscope.service.app import create_app
from pneumoscope.service.security import Limits
from pneumoscope.service.server import config
from pneumoscope.service.worker import Worker
from tests.conftest import drawn_image

MODEL_SIZE = 224
HUGE = 75_000_000
"""Pixels of an image that is within the limit and takes a second or more."""

TOKEN = "correct horse battery staple"
QUICK = Limits(body=3_000_000, images=3, queue=4, image_seconds=0.5, idle_seconds=0.5)


@dataclass(frozen=True)
class RunningService:
    """A running service.

    Attributes:
        url: where it is.
        port: of `url`.
        worker: what it predicts with.
        client: asks it.
    """

    url: str
    port: int
    worker: Worker
    client: httpx.Client

    def predict(self, *images: bytes, **options: Any) -> httpx.Response:
        """Send images in one request, under the names 0, 1, ..."""
        files = [("images", (str(i), image)) for i, image in enumerate(images)]
        return self.client.post("/v1/predict", files=files, **options)

    def metric(self, name: str) -> float:
        """Read a counter."""
        text = self.client.get("/metrics").text
        return float(next(line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(f"{name} ")))


@cache
def lenient() -> Path:
    """Write the bundled model as one that predicts drawn images, too, instead of rejecting them."""
    path = Path(tempfile.mkdtemp()) / "lenient.onnx"
    card = model_file.read(model_file.default())[1]
    model_file.rewrite(model_file.default(), replace(card, orientation={}), path, np.zeros((1, MODEL_SIZE, MODEL_SIZE)))
    atexit.register(shutil.rmtree, path.parent)
    return path


@contextmanager
def running_service(
    limits: Limits | None = None, token: str | None = None, origins: Sequence[str] = (), root_path: str = ""
) -> Iterator[RunningService]:
    """Serve the bundled model, made lenient, in a thread until the block ends, then stop as a signal would."""
    worker = Worker(lenient(), max_pixels=(limits or Limits()).pixels)
    worker.start()
    app = create_app(worker, limits=limits, token=token, origins=origins, root_path=root_path)
    server = uvicorn.Server(config(app, limits))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield from _served(server, bound, worker)


def _served(server: uvicorn.Server, bound: socket.socket, worker: Worker) -> Iterator[RunningService]:
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        port = bound.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=60.0) as client:
            yield RunningService(url, port, worker, client)
    finally:
        server.should_exit = True
        thread.join()


def image(label: int = 0, seed: int = 0) -> bytes:
    """Draw an image as a PNG file."""
    return png(drawn_image(label, seed, MODEL_SIZE))


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    """Write pixels as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def slow_image() -> bytes:
    """Draw an image of `HUGE` pixels, all black: small to send, slow to read, and rejected as blank in the end."""
    return png(np.zeros((HUGE // 10_000, 10_000), dtype=np.uint8))


def in_background(work: Callable[[], httpx.Response]) -> Callable[[], httpx.Response]:
    """Begin something and give a function that waits for its end."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)
    pool.shutdown(wait=False)
    return future.result


def until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until something holds, and fail where it does not in time."""
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
