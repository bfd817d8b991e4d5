"""Reports go to their destination, whatever one of them or the destination itself is like."""

from __future__ import annotations

import io
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
import pytest

pytest.importorskip("pynetdicom", reason="the DICOM node is not installed")

from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt

from pneumoscope.dimse import courier as module
from pneumoscope.dimse.addresses import Node, Sender
from pneumoscope.dimse.courier import Courier
from pneumoscope.dimse.spool import Outgoing, Spool
from pneumoscope.dimse.telemetry import Telemetry
from tests.builders.hospital import until
from tests.builders.peers import ACCEPTED, fragment, unit


def report(**elements: Any) -> bytes:
    """Write the least that can be sent."""
    made = pydicom.Dataset()
    made.SOPClassUID, made.SOPInstanceUID = ComprehensiveSRStorage, generate_uid()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = io.BytesIO()
    made.save_as(file, enforce_file_format=True)
    return file.getvalue()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool", 10**9)
    yield spool
    spool.close()


@contextmanager
def listening(store: Callable[[evt.Event], int]) -> Iterator[Node]:
    """Be a destination until the block ends."""
    entity = AE("ARCHIVE")
    entity.add_supported_context(ComprehensiveSRStorage)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    assert server is not None
    yield Node("ARCHIVE", "127.0.0.1", server.server_address[1])
    server.shutdown()


@pytest.fixture
def archive() -> Iterator[tuple[Node, list[str]]]:
    """A destination that takes everything, and what it took."""
    taken: list[str] = []

    def store(event: evt.Event) -> int:
        request: Any = event.request
        taken.append(str(request.AffectedSOPInstanceUID))
        return 0

    with listening(store) as node:
        yield node, taken


def outgoing(spool: Spool, node: Node, *reports: bytes) -> list[Outgoing]:
    """Put reports for a node into the outbox."""
    return spool.answer(spool.accept(b"image", Sender("MODALITY", "10.0.0.7")), reports, [node])


@contextmanager
def sending(spool: Spool, *reports: Outgoing) -> Iterator[tuple[Courier, Callable[[str], float]]]:
    """Have a courier send reports until the block ends; it comes with a function that counts outcomes."""
    telemetry = Telemetry()
    courier = Courier("PNEUMOSCOPE", reports[0].destination, spool, telemetry, first_pause=0.05)
    for one in reports:
        courier.put(one)

    def count(outcome: str) -> float:
        return telemetry.registry.get_sample_value("pneumoscope_listen_reports_total", {"outcome": outcome}) or 0.0

    try:
        yield courier, count
    finally:
        courier.stop()


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_nothing_that_is_dicom(path: Path) -> None:
    path.write_bytes(b"")


def as_half_of_it(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def without_class(path: Path) -> None:
    made = pydicom.dcmread(path)
    del made.SOPClassUID
    made.save_as(path, enforce_file_format=False)


@pytest.mark.parametrize("spoil", [as_folder, as_nothing_that_is_dicom, as_half_of_it, without_class])
def test_a_damaged_report_waits_alone_and_goes_once_it_is_whole(
    spool: Spool, archive: tuple[Node, list[str]], spoil: Callable[[Path], None]
) -> None:
    node, taken = archive
    bad, *good = outgoing(spool, node, report(), report(), report())
    whole = bad.path.read_bytes()
    spoil(bad.path)
    with sending(spool, bad, *good) as (courier, count):
        until(lambda: count("delivered") == 2 and courier.waiting == 1, seconds=10.0)
        assert count("unreadable") >= 1
        if bad.path.is_dir():
            bad.path.rmdir()
        bad.path.with_name("whole").write_bytes(whole)
        bad.path.with_name("whole").rename(bad.path)
        until(lambda: courier.waiting == 0, seconds=10.0)
        assert courier._pauses == {}
    assert len(taken) == 3
    assert spool.outbox() == []


def test_a_delivered_report_that_cannot_be_removed_holds_up_no_other(
    spool: Spool, archive: tuple[Node, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    node, taken = archive
    first, second = outgoing(spool, node, report(), report())
    real = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path == first.path:
            raise OSError(5, "Input/output error")
        real(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    with sending(spool, first, second) as (courier, count):
        until(lambda: courier.waiting == 0, seconds=10.0)
        assert count("delivered") == 2
    assert len(taken) == 2
    assert spool.outbox() == [first]


# --- destinations that are broken or hostile


def test_a_destination_that_takes_some_reports_does_not_wait_longer_each_time(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    statuses = itertools.cycle([0x0000, 0xA700])
    with listening(lambda event: next(statuses)) as node:
        reports = outgoing(spool, node, *(report() for _ in range(6)))
        with sending(spool, *reports) as (courier, count):
            until(lambda: not courier.waiting)
            assert count("delivered") == 6
    pauses = [record.facts["again_in"] for record in caplog.records if record.message == "destination unavailable"]  # type: ignore[attr-defined]
    assert pauses == [0.05] * len(pauses)
    assert len(pauses) >= 5


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.3)


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[tuple[Node, list[socket.socket]]]:
    """Have a peer that answers each request of an association as a function does, and then says no more."""
    connections: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
                connections.append(connection)
                connection.recv(65536)
                answer(connection)
            except OSError:
                if server.fileno() < 0:
                    return

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield Node("ARCHIVE", "127.0.0.1", server.getsockname()[1]), connections
        server.shutdown(socket.SHUT_RDWR)
    for connection in connections:
        connection.close()


@pytest.mark.usefixtures("impatient")
def test_a_destination_that_falls_silent_within_its_answer_is_left_and_tried_again(spool: Spool) -> None:
    with (
        answering(lambda connection: connection.sendall(unit(ACCEPTED, 200)[:3])) as (node, connections),
        sending(spool, *outgoing(spool, node, report())) as (_, count),
    ):
        until(lambda: len(connections) >= 2 and count("unreachable"), seconds=10.0)


@pytest.mark.usefixtures("impatient")
def test_an_answer_of_4_gb_is_not_received(spool: Spool) -> None:
    sent = [0]

    def flood(connection: socket.socket) -> None:
        connection.sendall(unit(ACCEPTED, 2**32 - 1))
        for _ in range(100):
            sent[0] += connection.send(bytes(1_000_000))

    with answering(flood) as (node, connections), sending(spool, *outgoing(spool, node, report())) as (_, count):
        until(lambda: len(connections) >= 2 and count("unreachable"), seconds=10.0)
    assert sent[0] < 50_000_000


@contextmanager
def storing(*handlers: evt.EventHandlerType) -> Iterator[Node]:
    """Have a destination that does as the handlers say until the block ends."""
    entity = AE("ARCHIVE")
    entity.add_supported_context(ComprehensiveSRStorage)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=list(handlers))
    assert server is not None
    try:
        yield Node("ARCHIVE", "127.0.0.1", server.server_address[1])
    finally:
        server.shutdown()


@pytest.mark.usefixtures("impatient")
def test_an_answer_without_end_is_not_received(spool: Spool) -> None:
    sent = [0]

    def flood(event: evt.Event) -> int:
        association: Any = event.assoc
        for _ in range(1000):
            association.dul.socket.socket.sendall(fragment(1, bytes(60_000)))
            sent[0] += 60_000
        return 0

    with (
        storing((evt.EVT_C_STORE, flood)) as node,
        sending(spool, *outgoing(spool, node, report())) as (_, count),
    ):
        until(lambda: count("no_answer") >= 2, seconds=10.0)
    assert sent[0] < 50_000_000


@pytest.mark.usefixtures("impatient")
def test_a_destination_that_stops_reading_is_left_and_tried_again(spool: Spool) -> None:
    done = threading.Event()

    def stall(event: evt.Event) -> None:
        if event.data[0] == 4:  # the first part of the report
            done.wait(20.0)

    large = report(TextValue="x" * 20_000_000)
    try:
        with (
            storing((evt.EVT_DATA_RECV, stall)) as node,
            sending(spool, *outgoing(spool, node, large)) as (_, count),
        ):
            until(lambda: count("no_answer") >= 2, seconds=10.0)
    finally:
        done.set()
