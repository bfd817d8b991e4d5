"""Sixteen associations at once, images without pause, kills of both sides in between: none lost, none twice."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pynetdicom", reason="the DICOM node is not installed")
pytest.importorskip("highdicom", reason="DICOM reports are not installed")

from tests.builders.dicoms import filed
from tests.builders.hospital import Orthanc, Program, dcmtk, free_port, in_threads, orthanc, send, until, write
from tests.builders.serving import lenient
from tests.conftest import drawn_image

pytestmark = [pytest.mark.long, dcmtk, orthanc]

ASSOCIATIONS = 16


def test_no_image_is_lost_and_none_is_reported_twice(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    n = int(request.config.getoption("--images"))
    drawn = [drawn_image(seed % 2, seed, 256).astype(np.uint16) * 16 for seed in range(8)]
    paths = write(tmp_path / "sent", *(filed(drawn[number % 8]) for number in range(n)))
    port = free_port()
    archive = Orthanc(tmp_path / "orthanc", port, route=False)
    arguments = ["--port", str(port), "--send-to", str(archive.node), "--spool", str(tmp_path / "spool")]
    program = Program([*arguments, "--model", str(lenient()), "--max-seconds", "120"], tmp_path / "log")
    sent = threading.Event()
    rng = random.Random(7)

    def kill() -> None:
        """Kill the node, or the archive, again and again."""
        for turn in range(1, 10**6):
            if sent.wait(rng.uniform(2.0, 6.0)):
                return
            if turn % 4:
                program.kill()
                program.start()
            else:
                archive.__exit__()
                time.sleep(rng.uniform(0.0, 3.0))
                archive.__enter__()

    def store(number: int) -> None:
        """Send every sixteenth image, each again until it is taken."""
        for path in paths[number::ASSOCIATIONS]:
            until(lambda path=path: send(port, path).returncode == 0, 600.0)  # type: ignore[misc]

    archive.__enter__()
    program.start()
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        in_threads(store, ASSOCIATIONS)
    finally:
        sent.set()
        killer.join()
    assert program.starts > 1
    until(lambda: archive.instances() >= 2 * n, 600.0 + n)
    until(lambda: not list((tmp_path / "spool").rglob("*.dcm")), 120.0)
    studies = archive.client.get("/studies").json()
    assert len(studies) == n
    assert all(archive.modalities(study) == ["OT", "SR"] for study in studies)
    assert program.stop() == 0
    archive.__exit__()
