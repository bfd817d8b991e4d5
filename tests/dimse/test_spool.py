"""What was accepted outlives every kill, and is sent once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pynetdicom", reason="the DICOM node is not installed")

from pneumoscope.dimse import spool as module
from pneumoscope.dimse.addresses import Node, Sender
from pneumoscope.dimse.spool import LEAST_BYTES, Spool, SpoolFullError
from pneumoscope.errors import StorageError

SENDER = Sender("A/B @C", "::1")
ARCHIVE, VIEWER = Node("ARCHIVE", "10.0.0.8", 104), Node("A/B @C", "::1", 11112)


class Killed(BaseException):
    """As a kill: nothing after it is done."""


def reopened(spool: Spool, folder: Path) -> Spool:
    spool.close()
    return Spool(folder, spool.capacity)


def test_an_image_waits_with_its_sender_until_it_is_answered_then_its_reports_wait(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 10**6)
    accepted = [spool.accept(b"image%d" % number, SENDER) for number in range(3)]
    spool = reopened(spool, tmp_path / "spool")
    waiting = spool.waiting()
    assert waiting == accepted
    assert [(image.path.read_bytes(), image.sender) for image in waiting] == [
        (b"image%d" % number, SENDER) for number in range(3)
    ]
    spool.answer(waiting[0], [b"report", b"image"], [ARCHIVE, VIEWER])
    spool = reopened(spool, tmp_path / "spool")
    assert spool.waiting() == accepted[1:]
    left = spool.outbox()
    for node in (ARCHIVE, VIEWER):
        assert [one.path.read_bytes() for one in left if one.destination == node] == [b"report", b"image"]
    for report in left:
        spool.delivered(report)
    assert reopened(spool, tmp_path / "spool").outbox() == []


def test_a_kill_before_an_image_counts_as_answered_leaves_it_waiting_and_nothing_to_send(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "spool"
    spool = Spool(folder, 10**6)
    image = spool.accept(b"image", SENDER)
    real = module._write
    for kill_at in range(5):
        calls = iter(range(10))

        def write(path: Path, data: bytes, kill_at: int = kill_at, calls: Any = calls) -> None:
            if next(calls) == kill_at:
                path.with_name(f".{path.name}").write_bytes(data[:2])
                raise Killed
            real(path, data)

        def remove(self: Spool, path: Path, kill_at: int = kill_at) -> None:
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(module, "_write", write)
            patch.setattr(Spool, "_remove", remove)
            with pytest.raises(Killed):
                spool.answer(image, [b"report", b"image"], [ARCHIVE, VIEWER])
        spool = reopened(spool, folder)
        assert spool.waiting() == [image]
        assert spool.outbox() == []
        assert spool.held == LEAST_BYTES


def test_a_kill_while_an_image_is_taken_in_leaves_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "spool"
    spool = Spool(folder, 10**6)

    def cut(path: Path, data: bytes) -> None:
        path.with_name(f".{path.name}").write_bytes(data[:2])
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write", cut)
        with pytest.raises(Killed):
            spool.accept(b"image", SENDER)
    spool = reopened(spool, folder)
    assert spool.waiting() == []
    assert spool.held == 0
    assert not list((folder / "images").iterdir())


def test_a_full_spool_takes_no_image_and_still_takes_reports(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 1_000_000)
    image = spool.accept(bytes(600_000), SENDER)
    with pytest.raises(SpoolFullError):
        spool.accept(bytes(500_000), SENDER)
    spool.accept(bytes(400_000), SENDER)
    (report,) = spool.answer(image, [bytes(1_300_000)], [ARCHIVE])
    assert spool.held == 1_700_000
    spool.delivered(report)
    assert spool.held == 400_000
    spool.accept(bytes(600_000), SENDER)


def test_tiny_images_are_bounded_in_number(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 3 * LEAST_BYTES)
    images = [spool.accept(b"image", SENDER) for _ in range(3)]
    with pytest.raises(SpoolFullError):
        spool.accept(b"image", SENDER)
    spool = reopened(spool, tmp_path / "spool")
    with pytest.raises(SpoolFullError):
        spool.accept(b"image", SENDER)
    for image in images:
        spool.answer(image, [], [])
    assert spool.held == 0


def test_a_full_disk_is_a_full_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path / "spool", 10**6)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(SpoolFullError):
            spool.accept(b"image", SENDER)
    assert spool.held == 0
    assert reopened(spool, tmp_path / "spool").waiting() == []


def test_two_nodes_cannot_share_a_spool_and_others_cannot_read_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 10**6)
    with pytest.raises(StorageError, match="another process uses"):
        Spool(tmp_path / "spool", 10**6)
    spool.close()
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0
    Spool(tmp_path / "spool", 10**6).close()


def test_a_spool_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Expected a folder"):
        Spool(tmp_path / "file" / "spool", 10**6)


def test_reports_are_handed_out_once_the_removal_of_their_image_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "spool", 10**6)
    image = spool.accept(b"image", SENDER)
    synced: list[tuple[str, bool]] = []
    monkeypatch.setattr(module, "_sync", lambda folder: synced.append((folder.name, image.path.exists())))
    spool.answer(image, [b"report"], [ARCHIVE])
    assert synced[-2:] == [("outbox", True), ("images", False)]


def test_reports_are_handed_out_even_if_the_removal_of_their_image_cannot_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "spool", 10**6)
    image = spool.accept(b"image", SENDER)
    real = module._sync

    def sync(folder: Path) -> None:
        if folder.name == "images":
            raise OSError(5, "Input/output error")
        real(folder)

    monkeypatch.setattr(module, "_sync", sync)
    assert len(spool.answer(image, [b"report"], [ARCHIVE])) == 1
    assert spool.waiting() == []


# --- what is held


def test_a_report_that_is_written_again_after_a_full_disk_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "spool", 10**6)
    image = spool.accept(b"image", SENDER)
    real = module._write

    def full(path: Path, data: bytes) -> None:
        if path.name.endswith("-1.dcm"):
            raise OSError(28, "No space left on device")
        real(path, data)

    reports = [bytes(100_000), bytes(100_000)]
    with monkeypatch.context() as patch:
        patch.setattr(module, "_write", full)
        for _ in range(3):
            with pytest.raises(OSError, match="No space"):
                spool.answer(image, reports, [ARCHIVE])
    made = spool.answer(image, reports, [ARCHIVE])
    assert spool.held == 200_000
    for report in made:
        spool.delivered(report)
    assert spool.held == 0


def test_what_somebody_deletes_is_no_longer_held(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 10**6)
    first, second = spool.accept(bytes(100_000), SENDER), spool.accept(bytes(100_000), SENDER)
    (report,) = spool.answer(first, [bytes(100_000)], [ARCHIVE])
    report.path.unlink()
    spool.delivered(report)
    second.path.unlink()
    spool.gone(second)
    assert spool.held == 0


def test_an_image_whose_sender_cannot_be_written_down_holds_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 10**6)
    with pytest.raises(UnicodeEncodeError):
        spool.accept(b"image", Sender("\udcff", "10.0.0.7"))
    assert spool.held == 0


def test_any_error_in_taking_an_image_releases_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path / "spool", 10**6)

    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(module, "_sync", fail)
        with pytest.raises(MemoryError):
            spool.accept(b"image", SENDER)
    assert spool.held == 0
    assert spool.waiting() == []


# --- what others have put there


def looping(path: Path) -> None:
    path.symlink_to(path)


def foreign(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"not ours")


KEY = "00000000000000000001-000000"


@pytest.mark.parametrize(
    ("name", "make"),
    [
        (f"images/{KEY} A@10.0.0.7.dcm", looping),
        (f"images/{KEY} A@10.0.0.7.dcm", Path.mkdir),
        ("images/x.dcm", foreign),
        (f"images/{KEY} @10.0.0.7.dcm", foreign),
        ("images/.snapshot", Path.mkdir),
        ("images/.nfs0001", foreign),
        ("outbox/README", foreign),
        (f"outbox/old/{KEY}-0.dcm", foreign),
        ("outbox/A@b:1", looping),
        ("outbox/ARCHIVE@10.0.0.8:104/x.dcm", foreign),
        (f"outbox/ARCHIVE@10.0.0.8:104/{KEY}-0.dcm", looping),
        ("outbox/ARCHIVE@10.0.0.8:104/.x", Path.mkdir),
    ],
)
def test_what_is_not_the_spools_own_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, make: Callable[[Path], None]
) -> None:
    folder = tmp_path / "spool"
    spool = Spool(folder, 10**6)
    (report,) = spool.answer(spool.accept(b"image", SENDER), [b"report"], [ARCHIVE])
    image = spool.accept(b"image", SENDER)
    held = spool.held
    make(folder / name)
    spool = reopened(spool, folder)
    assert spool.waiting() == [image]
    assert spool.outbox() == [report]
    assert spool.held == held
    assert os.path.lexists(folder / name)
    (record,) = caplog.records
    assert (record.getMessage(), record.__dict__["facts"]) == ("not the spool's own", {"files": 1})
