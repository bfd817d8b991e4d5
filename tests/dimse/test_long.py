"""Sixteen associations, kills of both sides, hostile peers, a destination that refuses: none is lost, none twice."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pynetdicom", reason="the DICOM node is not installed")
pytest.importorskip("highdicom", reason="DICOM reports are not installed")

from pydicom.uid import JPEGBaseline8Bit
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ComprehensiveSRStorage,
    SecondaryCaptureImageStorage,
    Verification,
)

from pneumoscope.dimse.addresses import Node
from tests.builders.dicoms import filed
from tests.builders.hospital import Orthanc, Program, dcmtk, free_port, in_threads, orthanc, send, until, write
from tests.builders.peers import ABORT, ACCEPTED, NO_MESSAGE, fragment, request, store
from tests.builders.serving import lenient
from tests.conftest import drawn_image

pytestmark = [pytest.mark.long, dcmtk, orthanc]

ASSOCIATIONS = 16
REFUSALS = (0xA700, 0xC000, None)
"""Out of resources; cannot understand; hangs up without an answer."""


@dataclass
class Refuser:
    """A destination that refuses every third object, in each of the ways there are, until it is told to take all.

    Attributes:
        willing: set from when on it takes everything.
        told: how often it did what.
        taken: how often it took each instance.
        studies: what it took of each study: modality and SOP Instance UID.
    """

    willing: threading.Event = field(default_factory=threading.Event)
    told: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    studies: dict[str, set[tuple[str, str]]] = field(default_factory=dict)

    @contextmanager
    def listening(self) -> Iterator[Node]:
        """Be there until the block ends."""
        entity = AE("REFUSER")
        entity.add_supported_context(Verification)
        for kind in (ComprehensiveSRStorage, SecondaryCaptureImageStorage):
            entity.add_supported_context(kind)
        entity.add_supported_context(SecondaryCaptureImageStorage, JPEGBaseline8Bit)
        port = free_port()
        server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        assert server
        try:
            yield Node("REFUSER", "127.0.0.1", port)
        finally:
            server.shutdown()

    def _store(self, event: evt.Event) -> int:
        self.told["asked"] += 1
        if not self.willing.is_set() and self.told["asked"] % 3 == 0:
            status = REFUSALS[self.told["asked"] // 3 % len(REFUSALS)]
            self.told["refused"] += 1
            if status is not None:
                return status
            event.assoc.abort()
        stored = event.dataset
        if event.assoc.is_established:
            self.taken[stored.SOPInstanceUID] += 1
            self.studies.setdefault(stored.StudyInstanceUID, set()).add((stored.Modality, stored.SOPInstanceUID))
        return 0x0000


def hostile(port: int, image: bytes, over: threading.Event, told: Counter[str]) -> list[Callable[[], None]]:
    """Give peers of the node that break its rules, each until it is over."""
    rng = random.Random(11)

    def spoil(name: str, work: Callable[[socket.socket], None]) -> Callable[[], None]:
        def peer() -> None:
            while not over.wait(rng.uniform(0.1, 0.6)):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10.0) as connection:
                    work(connection)
                    told[name] += 1

        return peer

    def garbage(peer: socket.socket) -> None:
        """Send what is no request, and wait for the end."""
        peer.sendall(rng.choice([sent for sent in NO_MESSAGE.values() if sent]))
        while peer.recv(65536):
            pass

    def associated(peer: socket.socket) -> None:
        peer.sendall(request())
        if peer.recv(65536)[:1] != bytes([ACCEPTED]):
            raise OSError

    def half(peer: socket.socket) -> None:
        """Associate, say nothing for a while, and hang up without a word."""
        associated(peer)
        over.wait(rng.uniform(0.0, 3.0))

    def broken_off(peer: socket.socket) -> None:
        """Begin to send an image, and abort or hang up in the middle."""
        associated(peer)
        peer.sendall(store() + fragment(0, image[: rng.randrange(10_000, len(image) - 1000)]))
        peer.sendall(rng.choice((ABORT, b"")))

    def slow(peer: socket.socket) -> None:
        """Begin to send an image a byte at a time."""
        associated(peer)
        peer.sendall(store())
        for byte in fragment(0, image)[: rng.randrange(10, 60)]:
            peer.sendall(bytes([byte]))
            over.wait(0.1)

    works = {"garbage": garbage, "half": half, "broken off": broken_off, "slow": slow}
    return [spoil(name, work) for name, work in works.items()]


def test_no_image_is_lost_and_none_is_reported_twice(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    n = int(request.config.getoption("--images"))
    drawn = [drawn_image(seed % 2, seed, 256).astype(np.uint16) * 16 for seed in range(8)]
    paths = write(tmp_path / "sent", *(filed(drawn[number % 8]) for number in range(n)))
    port = free_port()
    archive = Orthanc(tmp_path / "orthanc", port, route=False)
    refuser = Refuser()
    refusing = refuser.listening()
    receivers = [option for node in (archive.node, refusing.__enter__()) for option in ("--send-to", str(node))]
    arguments = ["--port", str(port), *receivers, "--spool", str(tmp_path / "spool")]
    program = Program([*arguments, "--model", str(lenient()), "--max-seconds", "120"], tmp_path / "log")
    over = threading.Event()
    rng = random.Random(7)

    def kill() -> None:
        """Kill the node, or the archive, again and again, ever later, so that a slow machine gets on."""
        for turn in range(1, 10**6):
            if over.wait(rng.uniform(0.5, 1.5) * (turn + 1)):
                return
            if turn % 4:
                program.kill()
                program.start()
            else:
                archive.__exit__()
                time.sleep(rng.uniform(0.0, 3.0))
                archive.__enter__()

    def send_each(number: int) -> None:
        """Send every sixteenth image, each again until it is taken."""
        for path in paths[number::ASSOCIATIONS]:
            until(lambda path=path: send(port, path).returncode == 0, 600.0)  # type: ignore[misc]

    @request.addfinalizer
    def end() -> None:
        """End them all, whatever came of the test."""
        with suppress(ProcessLookupError):
            program.kill()
        archive.__exit__()
        refusing.__exit__(None, None, None)

    archive.__enter__()
    program.start()
    told: Counter[str] = Counter()
    others = [threading.Thread(target=work) for work in (kill, *hostile(port, paths[0].read_bytes(), over, told))]
    for other in others:
        other.start()
    began = time.monotonic()
    try:
        in_threads(send_each, ASSOCIATIONS)
        until(lambda: len(refuser.taken) >= n, 600.0 + n)  # half of what is due: kills hit what is sent on, too
    finally:
        over.set()
        for other in others:
            other.join()
    taken = time.monotonic() - began
    refuser.willing.set()
    assert program.starts > 1
    until(lambda: archive.instances() >= 2 * n, 600.0 + n)
    until(lambda: not list((tmp_path / "spool").rglob("*.dcm")), 600.0 + n)
    studies = archive.client.get("/studies").json()
    assert len(studies) == n
    assert all(archive.modalities(study) == ["OT", "SR"] for study in studies)
    assert len(refuser.studies) == n
    assert all(sorted(modality for modality, _ in made) == ["OT", "SR"] for made in refuser.studies.values())
    assert program.stop() == 0
    again = sum(refuser.taken.values()) - 2 * n
    print(f"{n} images in {taken:.0f} s, {program.starts} starts, hostile peers {dict(told)}, ", end="")
    print(f"the destination refused {refuser.told['refused']} times and got {again} of {2 * n} objects again")
    assert all(told[name] for name in ("garbage", "half", "broken off", "slow"))
    assert refuser.told["refused"]
