"""A hospital's network: nodes of Pneumoscope, dcmtk's tools and Orthanc, each on a free port of this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest

from pneumoscope.dimse.addresses import Node
from pneumoscope.dimse.limits import Limits
from pneumoscope.dimse.node import Listener, Settings
from pneumoscope.dimse.spool import Spool
from pneumoscope.inference.finding import Finding
from pneumoscope.inference.model_file import Card
from pneumoscope.reporting import structured_report
from pneumoscope.service.worker import Row, Submission, Worker

CARD = Card("cnn", 32)
FOUND = Finding("", 0.75, "PNEUMONIA", False, 0.4)

DCMDUMP = shutil.which("dcmdump")
"""Tells where dcmtk is: its `storescu`, `storescp` and `echoscu` share their names with scripts of pynetdicom."""

dcmtk = pytest.mark.skipif(DCMDUMP is None, reason="dcmtk is not installed: apt-get install dcmtk")
orthanc = pytest.mark.skipif(
    shutil.which("Orthanc") is None, reason="Orthanc is not installed: apt-get install orthanc"
)


def dcmtk_program(name: str) -> str:
    """Give the path of a program of dcmtk.

    Example:
        >>> dcmtk_program("storescu")  # doctest: +SKIP
        '/usr/bin/storescu'
    """
    assert DCMDUMP is not None
    return str(Path(DCMDUMP).with_name(name))


class QuickWorker(Worker):
    """Finds pneumonia on everything, without a model or a process of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.starts = 1
        self.finding = FOUND

    def start(self) -> None:
        self.starts += 1

    def stop(self) -> None: ...

    def predict(self, submissions: Sequence[Submission], seconds: float) -> list[Row]:
        return [self.row(submission.data) for submission in submissions]

    def row(self, data: bytes) -> Row:
        made = structured_report.objects(self.finding, data, CARD)
        return self.finding.as_dict() | {"reports": [structured_report.encode(one) for one in made], "instance": {}}


@contextmanager
def listening(
    folder: Path, *destinations: Node, worker: Worker | None = None, limits: Limits | None = None, **settings: Any
) -> Iterator[Listener]:
    """Have a node listen until the block ends."""
    limits = limits or Limits()
    spool = Spool(folder, limits.spool)
    chosen = Settings(destinations=destinations, **{"port": 0, "first_pause": 0.1, **settings})
    listener = Listener(chosen, spool, worker or QuickWorker(), limits)
    try:
        listener.start()
        yield listener
    finally:
        listener.stop()


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def until(true: Callable[[], object], seconds: float = 150.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.05)


def send(port: int, *files: Path, options: Sequence[str] = (), called: str = "PNEUMOSCOPE") -> Any:
    """Send files as a modality does, with dcmtk."""
    arguments = ["-v", "-aet", "MODALITY", "-aec", called, *options, "127.0.0.1", str(port), *map(str, files)]
    command = [dcmtk_program("storescu"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def write(folder: Path, *images: bytes) -> list[Path]:
    """Write images as files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04d}.dcm" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        path.write_bytes(image)
    return paths


@dataclass
class Archive:
    """dcmtk's `storescp`, which keeps what it gets as files.

    Attributes:
        folder: where they lie.
        options: of the program; without any it takes uncompressed objects alone.
    """

    folder: Path
    options: Sequence[str] = ()
    node: Node = field(default_factory=lambda: Node("ARCHIVE", "127.0.0.1", free_port()))
    _process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Archive:
        self.folder.mkdir(exist_ok=True)
        arguments = ["-aet", self.node.title, "-od", str(self.folder), *self.options, str(self.node.port)]
        command = [dcmtk_program("storescp"), *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: answers(self.node.port))
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def kept(self) -> list[pydicom.Dataset]:
        """Read what it has."""
        return [pydicom.dcmread(path) for path in sorted(self.folder.iterdir())]

    def wait(self, n: int) -> list[pydicom.Dataset]:
        """Wait for a number of objects, all of them whole."""
        until(lambda: len(list(self.folder.iterdir())) >= n)
        time.sleep(0.3)
        return self.kept()


def answers(port: int) -> bool:
    """Say whether something listens."""
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


class Orthanc:
    """A real Orthanc, which routes radiographs to Pneumoscope by the recipe in `deploy/`.

    Args:
        folder: where it keeps everything.
        pneumoscope: the port of the node.
        route: whether it sends on what it gets.
    """

    RECIPE = Path(__file__).parents[2] / "deploy" / "orthanc" / "route.lua"

    def __init__(self, folder: Path, pneumoscope: int, route: bool = True) -> None:
        self.node = Node("ORTHANC", "127.0.0.1", free_port())
        self._http = free_port()
        self._configuration = folder / "orthanc.json"
        self._log = folder / "orthanc.log"
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"),
            "DicomAet": self.node.title,
            "DicomPort": self.node.port,
            "HttpPort": self._http,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomModalities": {"pneumoscope": ["PNEUMOSCOPE", "127.0.0.1", pneumoscope]},
            "LuaScripts": [str(self.RECIPE)] if route else [],
            "StorageAccessOnFind": "Never",
        }
        self._configuration.write_text(json.dumps(settings))

    def __enter__(self) -> Orthanc:
        log = self._log.open("ab")
        self._process = subprocess.Popen(["Orthanc", str(self._configuration)], stdout=log, stderr=log)
        fresh = httpx.Limits(max_keepalive_connections=0)  # it closes those that are idle, when it likes
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self._http}", timeout=30.0, limits=fresh)
        until(lambda: answers(self._http) and answers(self.node.port))
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._process.kill()
        self._process.wait()

    def put(self, image: bytes) -> str:
        """Store an image, and give the name of its study."""
        answer = self.client.post("/instances", content=image)
        answer.raise_for_status()
        return str(answer.json()["ParentStudy"])

    def modalities(self, study: str) -> list[str]:
        """Say what a study holds: `DX`, `OT`, `SR`, ..., one for each instance."""
        series = self.client.get(f"/studies/{study}/series").json()
        return sorted(one["MainDicomTags"].get("Modality", "") for one in series for _ in one["Instances"])

    def instances(self) -> int:
        """Count all that it has."""
        return int(self.client.get("/statistics").json()["CountInstances"])


class Program:
    """`pneumoscope listen` as a program of its own, which can be killed with all that it started.

    Args:
        arguments: of the command.
        log: where it writes what it tells.
    """

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self._command = [sys.executable, "-m", "pneumoscope", "listen", *arguments]
        self._log = log
        self.starts = 0

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self.starts += 1
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, start_new_session=True)
        until(lambda: self.told().count("Listening:") == self.starts or self._process.poll() is not None, 180.0)
        assert self._process.poll() is None, self.told()

    def kill(self) -> None:
        """End it as a power cut would."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        """End it as a service manager does, and give its exit status."""
        self._process.terminate()
        return self._process.wait(timeout=60)

    def told(self) -> str:
        """Read what it told."""
        return self._log.read_text() if self._log.exists() else ""


def in_threads(work: Callable[[int], None], n: int) -> None:
    """Do something in several threads at once; what one of them raises is raised here."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
