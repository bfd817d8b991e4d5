"""Measures the service under load: whether every image gets its own answer, the throughput, and the memory.

    python benchmarks/serve.py IMAGES [--clients 32] [--seconds 60]

It measures three throughputs on the same images in one run: of the detector alone (as in `pneumoscope predict`), of the
service, and of a naive endpoint as in tutorials: FastAPI that reads an image with Pillow and calls a Keras MobileNetV2,
one image at a time. Before that it measures the latency of a single image, for the detector and for a single client of
the service. The clients share the cores of the machine, so they are kept cheap: requests are prepared in advance and
written directly to the socket, because a client library would take as much time as the service itself. The exit status
is 1 if an answer was lost, wrong or swapped.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email import parser
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np

from pneumoscope import Detector
from pneumoscope.imaging import radiograph

ALONE_SECONDS = 20.0
TOLERANCE = 2e-5
"""The tolerance for probabilities, which depend on the batch size in the sixth decimal place."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    paths = list(radiograph.files(options.images))
    images = [path.read_bytes() for path in paths]
    size = np.median([len(image) for image in images]) / 1e3
    print(f"{len(images)} images of {size:.0f} kB (median), {os.cpu_count()} cores")

    alone, latency, expected = detector_alone(paths)
    print(f"detector alone    {alone:7.1f} images/s   one image p50 {1e3 * latency:.1f} ms")
    with command([sys.executable, "-m", "pneumoscope", "serve", "--port", "0"]) as (url, process):
        single = asyncio.run(load(f"{url}v1/predict", images, 1, ALONE_SECONDS, None))
        service = asyncio.run(load(f"{url}v1/predict", images, options.clients, options.seconds, process.pid))
    wrong = check(single["answers"] + service["answers"], expected)
    errors = single["errors"] + service["errors"]
    print_row("one client", single)
    print(
        f"                  one image p50 {1e3 * single['p50']:.1f} ms, {single['p50'] / latency:.2f} of the detector's"
    )
    print_row("service", service)
    print(f"                  {len(service['answers'])} answers, {service['errors']} errors, {wrong} not their image's")
    first, last = service["memory"][len(service["memory"]) // 4], service["memory"][-1]
    print(f"                  memory {first:.0f} MB after a quarter, {last:.0f} MB at the end")
    with naive() as url:
        tutorial = asyncio.run(load(f"{url}predict", images, options.clients, options.seconds / 2, None))
    print_row("naive endpoint", tutorial)
    print(f"service / detector alone {service['rate'] / alone:.2f}")
    print(f"service / naive endpoint {service['rate'] / tutorial['rate']:.1f}")
    if options.json:
        figures = {name: service[name] for name in ("rate", "p50", "p99", "errors", "memory")}
        figures |= {"alone": alone, "naive": tutorial["rate"], "wrong": wrong}
        figures |= {"latency": single["p50"], "latency_alone": latency}
        options.json.write_text(json.dumps(figures) + "\n")
    if wrong or errors:
        sys.exit(1)


def detector_alone(paths: Sequence[Path]) -> tuple[float, float, list[float | None]]:
    """Return the images per second, the median seconds for a single image, and the probability of each image."""
    detector = Detector()
    expected = [finding.probability for finding in detector.examine(paths)]
    began, n = time.perf_counter(), 0
    while time.perf_counter() - began < ALONE_SECONDS:
        n += sum(1 for _ in detector.examine(paths))
    rate = n / (time.perf_counter() - began)
    taken = []
    for path in paths:
        began = time.perf_counter()
        list(detector.examine(path))
        taken.append(time.perf_counter() - began)
    return rate, float(np.median(taken)), expected


def check(answers: Sequence[tuple[int, float | None]], expected: Sequence[float | None]) -> int:
    """Count the answers that are not the image's own."""
    return sum(
        got != expected[i] if got is None or expected[i] is None else abs(got - (expected[i] or 0.0)) > TOLERANCE
        for i, got in answers
    )


async def load(url: str, images: Sequence[bytes], clients: int, seconds: float, pid: int | None) -> dict[str, Any]:
    """Let clients send requests as fast as they are answered, retrying after the given time if the queue is full."""
    answers: list[tuple[int, float | None]] = []
    waited: list[float] = []
    memory: list[float] = []
    errors = 0
    requests = [as_sent(url, image) for image in images]
    host, port = httpx.URL(url).host, httpx.URL(url).port
    end = time.perf_counter() + seconds

    async def client(seed: int) -> None:
        nonlocal errors
        draw = random.Random(seed)
        reader, writer = await asyncio.open_connection(host, port)
        while time.perf_counter() < end:
            i = draw.randrange(len(images))
            began = time.perf_counter()
            try:
                while (answer := await asked(reader, writer, requests[i])).status == 503:
                    await asyncio.sleep(float(answer.headers["Retry-After"]))
                answers.append((i, json.loads(answer.body)["findings"][0]["probability"]))
            except (OSError, EOFError, KeyError, ValueError):
                errors += 1
                writer.close()
                reader, writer = await asyncio.open_connection(host, port)
            waited.append(time.perf_counter() - began)
        writer.close()

    async def watch() -> None:
        while pid and time.perf_counter() < end:
            memory.append(megabytes(pid))
            await asyncio.sleep(1.0)

    began = time.perf_counter()
    await asyncio.gather(watch(), *(client(seed) for seed in range(clients)))
    p50, p99 = np.percentile(waited, (50, 99))
    rate = len(answers) / (time.perf_counter() - began)
    return {"answers": answers, "errors": errors, "rate": rate, "p50": p50, "p99": p99, "memory": memory}


class Answer(NamedTuple):
    """An HTTP response."""

    status: int
    headers: Message
    body: bytes


def as_sent(url: str, image: bytes) -> bytes:
    """Return the bytes of the request for an image."""
    headers = {"Content-Type": "multipart/form-data; boundary=image"}
    request = httpx.Request("POST", url, headers=headers, files={"images": image})
    body = request.read()
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    return f"POST {request.url.path} HTTP/1.1\r\n{head}\r\n".encode() + body


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Answer:
    """Send a request over an open connection and read the response."""
    writer.write(request)
    await writer.drain()
    status, _, head = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
    headers = parser.BytesParser().parsebytes(head)
    return Answer(int(status.split()[1]), headers, await reader.readexactly(int(headers["Content-Length"])))


def print_row(name: str, figures: dict[str, Any]) -> None:
    """Print a throughput and its latencies."""
    print(f"{name:17} {figures['rate']:7.1f} images/s   p50 {figures['p50']:.2f} s   p99 {figures['p99']:.2f} s")


def megabytes(pid: int) -> float:
    """Return the memory of a process and its children, in MB."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = 0
    for one in (str(pid), *children):
        found = re.search(r"VmRSS:\s*(\d+)", Path(f"/proc/{one}/status").read_text())
        total += int(found[1]) if found else 0
    return total / 1000


@contextmanager
def command(arguments: Sequence[str]) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run the service until the block ends."""
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            address = re.search(r"http://\S+", process.stderr.readline())
            assert address
            subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)  # its log
            wait_for(address[0])
            yield address[0], process
        finally:
            process.terminate()


@contextmanager
def naive() -> Iterator[str]:
    """Run the naive endpoint until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(target=serve_naively, args=(port,))
    process.start()
    try:
        url = f"http://127.0.0.1:{port}/"
        wait_for(url)
        yield url
    finally:
        process.terminate()
        process.join()


def wait_for(url: str) -> None:
    """Wait until a URL responds."""
    for _ in range(600):
        try:
            httpx.get(url)
            return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise TimeoutError(url)


def serve_naively(port: int) -> None:
    """Serve a Keras model as in tutorials, with one `predict` per image."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import io

    import keras
    import uvicorn
    from fastapi import FastAPI, UploadFile
    from PIL import Image

    side = Detector().card.input_size
    base = keras.applications.MobileNetV2((side, side, 3), include_top=False, weights=None, pooling="avg")
    model = keras.Sequential([base, keras.layers.Dense(1, activation="sigmoid")])
    app = FastAPI()

    @app.post("/predict")
    async def predict(images: UploadFile) -> dict[str, Any]:
        image = Image.open(io.BytesIO(await images.read())).convert("RGB").resize((side, side))
        batch = np.asarray(image, dtype=np.float32)[None] / 255.0
        return {"findings": [{"probability": float(model.predict(batch, verbose=0)[0, 0])}]}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
