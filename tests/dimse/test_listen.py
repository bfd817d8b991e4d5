"""Images in by C-STORE, reports out by it, as dcmtk sends and receives them."""

from __future__ import annotations

import io
import json
import logging
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

pytest.importorskip("pynetdicom", reason="the DICOM node is not installed")
pytest.importorskip("highdicom", reason="DICOM reports are not installed")

from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian, JPEGBaseline8Bit, SecondaryCaptureImageStorage
from pynetdicom import AE, evt

from pneumoscope.dimse import node as module
from pneumoscope.dimse import predictor
from pneumoscope.dimse.addresses import Allowed, Node, Sender
from pneumoscope.dimse.limits import Limits
from pneumoscope.dimse.node import Listener
from pneumoscope.dimse.spool import LEAST_BYTES, Spool
from pneumoscope.errors import NotAChestRadiographError, UnsupportedError
from pneumoscope.inference.finding import Finding
from pneumoscope.service.telemetry import JsonLines
from pneumoscope.service.worker import WorkerLostError
from tests.builders.dicoms import content, filed
from tests.builders.hospital import (
    FOUND,
    Archive,
    QuickWorker,
    dcmtk,
    dcmtk_program,
    free_port,
    listening,
    send,
    until,
    write,
)
from tests.conftest import drawn_image
from tests.test_privacy import MARKS, plant

pytestmark = dcmtk


def image(seed: int = 0, **elements: Any) -> bytes:
    return filed(drawn_image(1, seed, 64).astype(np.uint16) * 16, **elements)


def header(data: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)


class WithCapture(QuickWorker):
    """Has an evidence map for every image."""

    def __init__(self) -> None:
        super().__init__()
        evidence = np.linspace(-1.0, 1.0, 36, dtype=np.float32).reshape(6, 6)
        self.finding = Finding("", 0.75, "PNEUMONIA", False, 0.4, evidence=evidence)


# --- what goes in and out


def test_each_image_comes_back_as_a_report_and_a_capture_in_its_own_study(tmp_path: Path) -> None:
    images = [image(seed) for seed in range(3)]
    with (
        Archive(tmp_path / "archive", ["+xa"]) as archive,
        listening(tmp_path / "spool", archive.node, worker=WithCapture()) as node,
    ):
        assert send(node.port, *write(tmp_path / "sent", *images)).returncode == 0
        kept = archive.wait(6)
    assert {one.file_meta.TransferSyntaxUID for one in kept} == {ExplicitVRLittleEndian, JPEGBaseline8Bit}
    for sent in map(header, images):
        report, capture = sorted(
            (one for one in kept if one.StudyInstanceUID == sent.StudyInstanceUID),
            key=lambda one: -len(one.SOPClassUID),
        )
        assert (report.SOPClassUID, capture.SOPClassUID) == (ComprehensiveSRStorage, SecondaryCaptureImageStorage)
        assert report.PatientID == capture.PatientID == sent.PatientID
        (source,) = content(report)["Source of Measurement"]
        assert source.ReferencedSOPInstanceUID == sent.SOPInstanceUID


def test_an_archive_without_jpeg_gets_the_capture_uncompressed_under_the_same_uid(tmp_path: Path) -> None:
    worker = WithCapture()
    data = image()
    made = [pydicom.dcmread(io.BytesIO(report)) for report in worker.row(data)["reports"]]
    with (
        Archive(tmp_path / "archive") as archive,
        listening(tmp_path / "spool", archive.node, worker=worker) as node,
    ):
        send(node.port, *write(tmp_path / "sent", data))
        kept = archive.wait(2)
    assert {one.SOPInstanceUID for one in kept} == {one.SOPInstanceUID for one in made}
    (capture,) = (one for one in kept if "PixelData" in one)
    assert not capture.file_meta.TransferSyntaxUID.is_compressed
    assert np.abs(capture.pixel_array.astype(int) - made[1].pixel_array.astype(int)).mean() < 2.0


def test_without_destinations_reports_go_back_to_the_sender(tmp_path: Path) -> None:
    back = Node("MODALITY", "127.0.0.1", free_port())
    with (
        Archive(tmp_path / "archive", node=back) as archive,
        listening(tmp_path / "spool", reply_port=back.port) as node,
    ):
        send(node.port, *write(tmp_path / "sent", image()))
        (report,) = archive.wait(1)
    assert report.SOPClassUID == ComprehensiveSRStorage


def test_each_of_several_destinations_gets_every_report_though_one_is_down(tmp_path: Path) -> None:
    down = Node("DOWN", "127.0.0.1", free_port())
    with (
        Archive(tmp_path / "one") as one,
        Archive(tmp_path / "two") as two,
        listening(tmp_path / "spool", one.node, down, two.node) as node,
    ):
        send(node.port, *write(tmp_path / "sent", image(0), image(1)))
        assert len(one.wait(2)) == len(two.wait(2)) == 2
    left = Spool(tmp_path / "spool", 10**9)
    assert [report.destination for report in left.outbox()] == [down, down]


def test_what_is_no_chest_radiograph_is_taken_and_gets_no_report(tmp_path: Path) -> None:
    worker = QuickWorker()
    worker.finding = Finding("", error=NotAChestRadiographError("no chest"))
    with (
        Archive(tmp_path / "archive") as archive,
        listening(tmp_path / "spool", archive.node, worker=worker) as node,
    ):
        assert send(node.port, *write(tmp_path / "sent", image())).returncode == 0
        outcome = {"outcome": "not_a_chest_radiograph"}
        until(lambda: node.telemetry.registry.get_sample_value("pneumoscope_listen_images_total", outcome))
        assert archive.kept() == []
    left = Spool(tmp_path / "spool", 10**9)
    assert (left.waiting(), left.outbox(), left.held) == ([], [], 0)


# --- who may, and how much


def echo(port: int, calling: str = "MODALITY", called: str = "PNEUMOSCOPE") -> str:
    import subprocess

    command = [dcmtk_program("echoscu"), "-v", "-aet", calling, "-aec", called, "127.0.0.1", str(port)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stderr


def test_an_echo_is_answered_and_wrong_titles_are_told_why_not(tmp_path: Path) -> None:
    with listening(tmp_path / "spool", allowed=[Allowed("MODALITY"), Allowed("FAR", "127.0.0.2")]) as node:
        assert "Received Echo Response (Success)" in echo(node.port)
        assert "Calling AE Title Not Recognized" in echo(node.port, calling="OTHER")
        assert "Calling AE Title Not Recognized" in echo(node.port, calling="FAR")
        assert "Called AE Title Not Recognized" in echo(node.port, called="OTHER")
        assert "Received Echo Response (Success)" in echo(node.port)


def test_an_association_too_many_is_told_to_come_again(tmp_path: Path) -> None:
    entity = AE("MODALITY")
    entity.add_requested_context("1.2.840.10008.1.1")
    with listening(tmp_path / "spool", limits=Limits(associations=1)) as node:
        first = entity.associate("127.0.0.1", node.port, ae_title="PNEUMOSCOPE")
        assert first.is_established
        assert "Local Limit Exceeded" in echo(node.port)
        first.release()
        until(lambda: "Success" in echo(node.port))


def test_a_full_spool_says_that_it_is_out_of_resources_until_there_is_room(tmp_path: Path) -> None:
    paths = write(tmp_path / "sent", image(0), image(1))
    limits = Limits(spool=LEAST_BYTES)  # for one of them
    with listening(tmp_path / "spool", limits=limits) as node:
        node._predictor._stopping.set()  # nothing leaves the spool
        told = send(node.port, *paths).stderr
        assert "Success" in told
        assert "Refused: OutOfResources" in told
    with (
        Archive(tmp_path / "archive") as archive,
        listening(tmp_path / "spool", archive.node, limits=limits) as node,
    ):
        assert len(archive.wait(1)) == 1
        until(lambda: send(node.port, paths[1]).returncode == 0)
        assert len(archive.wait(2)) == 2


def test_an_object_beyond_the_limit_is_told_so_and_the_next_one_is_taken(tmp_path: Path) -> None:
    large = filed(np.zeros((1000, 1000), np.uint16))
    with listening(tmp_path / "spool", limits=Limits(object_bytes=1_000_000)) as node:
        told = send(node.port, *write(tmp_path / "sent", large, image()), options=["-nh"]).stderr
        assert "CannotUnderstand" in told
        assert "Success" in told
        taken = node.telemetry.registry.get_sample_value
        assert taken("pneumoscope_listen_stored_total", {"outcome": "too_large"}) == 1
        assert taken("pneumoscope_listen_stored_total", {"outcome": "accepted"}) == 1


def test_an_object_of_another_kind_is_not_agreed_upon(tmp_path: Path) -> None:
    ct = image(SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    with listening(tmp_path / "spool") as node:
        assert "No valid Presentation Context ID" in send(node.port, *write(tmp_path / "sent", ct)).stderr


# --- nothing is lost, nothing goes under two names


def test_a_receiver_that_is_down_gets_everything_when_it_is_back_over_a_restart(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    worker = QuickWorker()
    images = [image(seed) for seed in range(3)]
    with listening(tmp_path / "spool", archive.node, worker=worker) as node:
        send(node.port, *write(tmp_path / "sent", *images))
        until(lambda: node._outgoing() == 3)
    with listening(tmp_path / "spool", archive.node, worker=worker) as node, archive:
        kept = archive.wait(3)
        until(lambda: node._outgoing() == 0)
    made = {pydicom.dcmread(io.BytesIO(worker.row(data)["reports"][0])).SOPInstanceUID for data in images}
    assert {one.SOPInstanceUID for one in kept} == made
    assert Spool(tmp_path / "spool", 10**9).held == 0


def test_an_image_that_is_sent_again_has_the_same_report(tmp_path: Path) -> None:
    (path,) = write(tmp_path / "sent", image())
    with Archive(tmp_path / "archive") as archive, listening(tmp_path / "spool", archive.node) as node:
        for _ in range(3):
            send(node.port, path)
        until(lambda: node.telemetry.registry.get_sample_value(*DELIVERED) == 3)
        assert len(archive.kept()) == 1


DELIVERED = ("pneumoscope_listen_reports_total", {"outcome": "delivered"})


@pytest.mark.parametrize("rejection", [0xA700, 0xA900, 0xC000, 0x0122, None])
def test_a_report_that_its_destination_rejects_goes_again_and_the_others_go_on(
    tmp_path: Path, rejection: int | None
) -> None:
    asked: list[str] = []

    def store(event: evt.Event) -> int:
        request: Any = event.request
        asked.append(str(request.AffectedSOPInstanceUID))
        if len(asked) == 1:
            if rejection is None:
                event.assoc.abort()
            return rejection or 0
        return 0xB000 if len(asked) == 2 else 0  # a warning: stored all the same

    entity = AE("ARCHIVE")
    entity.add_supported_context(ComprehensiveSRStorage)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    assert server is not None
    try:
        with listening(tmp_path / "spool", Node("ARCHIVE", "127.0.0.1", server.server_address[1])) as node:
            send(node.port, *write(tmp_path / "sent", image(0), image(1)))
            until(lambda: len(asked) >= 3 and node._outgoing() == 0)
    finally:
        server.shutdown()
    assert len(set(asked)) == 2
    assert asked.count(asked[0]) == 2


def test_an_image_outlives_a_worker_that_ends_and_one_that_ends_every_worker_goes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor, "MOST_LOSSES", 2)
    images = [image(seed) for seed in range(3)]
    poison = header(images[1]).SOPInstanceUID.encode()

    class Mortal(QuickWorker):
        def predict(self, submissions: Any, seconds: float) -> list[dict[str, Any]]:
            if any(poison in one.data for one in submissions):
                raise WorkerLostError
            return super().predict(submissions, seconds)

    worker = Mortal()
    with (
        Archive(tmp_path / "archive") as archive,
        listening(tmp_path / "spool", archive.node, worker=worker) as node,
    ):
        send(node.port, *write(tmp_path / "sent", *images))
        outcome = {"outcome": "unreadable"}
        until(lambda: node.telemetry.registry.get_sample_value("pneumoscope_listen_images_total", outcome) == 1)
        kept = archive.wait(2)
    assert {one.StudyInstanceUID for one in kept} == {header(images[n]).StudyInstanceUID for n in (0, 2)}
    assert worker.starts >= 3


def test_a_model_that_has_gone_costs_no_image(tmp_path: Path) -> None:
    class Without(QuickWorker):
        gone = True

        def predict(self, submissions: Any, seconds: float) -> list[dict[str, Any]]:
            if self.gone:
                return [{"error": {"kind": "model_file"}, "finding": None, "reports": []} for _ in submissions]
            return super().predict(submissions, seconds)

    worker = Without()
    with (
        Archive(tmp_path / "archive") as archive,
        listening(tmp_path / "spool", archive.node, worker=worker) as node,
    ):
        send(node.port, *write(tmp_path / "sent", image()))
        time.sleep(0.5)
        assert archive.kept() == []
        worker.gone = False
        assert len(archive.wait(1)) == 1


# --- what it tells


def test_neither_logs_nor_counters_tell_whose_image_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    listener: Listener
    down = Node("DOWN", "127.0.0.1", free_port())
    with listening(tmp_path / "spool", down) as listener:
        send(listener.port, *write(tmp_path / "sent", plant(image())), options=["-R"])
        send(listener.port, tmp_path / "sent" / "0000.dcm", called="ZYMURGY")
        until(lambda: "destination unavailable" in caplog.text)
        from prometheus_client import generate_latest

        told = generate_latest(listener.telemetry.registry).decode()
    told += "".join(JsonLines().format(record) for record in caplog.records if record.name.startswith("pneumoscope"))
    told += "".join(record.getMessage() for record in caplog.records if not record.name.startswith("pydicom"))
    assert not [mark for mark in MARKS if mark in told.lower()]
    facts = [json.loads(JsonLines().format(record)) for record in caplog.records if record.name == "pneumoscope.dimse"]
    assert any(fact.get("outcome") == FOUND.finding for fact in facts)


@pytest.mark.parametrize("named", [True, False])
def test_the_log_names_a_destination_only_if_send_to_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, named: bool
) -> None:
    caplog.set_level(logging.INFO)
    node = Node("MODALITY", "127.0.0.1", free_port())  # nobody is there
    with listening(tmp_path / "spool", *([node] if named else []), reply_port=node.port) as listener:
        spool = listener._spool
        listener._send(spool.answer(spool.accept(b"image", Sender(node.title, node.host)), [b"report"], [node]))
        until(lambda: "destination unavailable" in caplog.text)
    facts = [record.__dict__["facts"] for record in caplog.records if hasattr(record, "facts")]
    told = {fact["destination"] for fact in facts if "destination" in fact}
    assert told == {str(node) if named else "sender"}


# --- it stops


def test_a_port_that_is_taken_is_told_and_everything_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[str] = []

    class Stopped(QuickWorker):
        def stop(self) -> None:
            stopped.append("worker")

    monkeypatch.setattr(module, "Worker", lambda *_, **__: Stopped())
    monkeypatch.setattr(module, "log_to_stderr", lambda: None)
    monkeypatch.setattr(module, "_counters", lambda *_: lambda: stopped.append("counters"))
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings = module.Settings(port=other.getsockname()[1], metrics=("127.0.0.1", 0))
        with pytest.raises(UnsupportedError, match="address and port to listen on"):
            module.listen(settings, tmp_path / "spool")
        assert stopped == ["counters", "worker"]
        Spool(tmp_path / "spool", 10**9).close()  # it is free again

        def fail(listener: Listener) -> None:
            raise RuntimeError("a stop that fails")

        stopped.clear()
        monkeypatch.setattr(Listener, "stop", fail)
        with pytest.raises(RuntimeError, match="a stop that fails"):
            module.listen(settings, tmp_path / "spool")
        assert stopped == ["counters", "worker"]
