"""An image that cannot be read, predicted or answered waits, and the others do not wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("pynetdicom", reason="the DICOM node is not installed")

from pneumoscope.dimse import predictor as module
from pneumoscope.dimse.addresses import Node, Sender
from pneumoscope.dimse.predictor import Predictor
from pneumoscope.dimse.spool import Outgoing, Spool, Waiting
from pneumoscope.dimse.telemetry import Telemetry
from pneumoscope.service.worker import Row
from tests.builders.hospital import QuickWorker, until

SENDER, OTHER = Sender("MODALITY", "10.0.0.7"), Sender("OTHER", "10.0.0.9")


class Echo(QuickWorker):
    """Reports the image itself."""

    def row(self, data: bytes) -> Row:
        return {"error": None, "finding": "NORMAL", "reports": [data]}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.1)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool", 10**9)
    yield spool
    spool.close()


def back(sender: Sender) -> Sequence[Node]:
    return [Node(sender.title, sender.address, 104)]


@contextmanager
def predicting(
    spool: Spool, *images: Waiting, hand_over: Callable[[Iterable[Outgoing]], None], telemetry: Telemetry | None = None
) -> Iterator[Predictor]:
    """Have a predictor work on images until the block ends."""
    predictor = Predictor(Echo(), spool, back, hand_over, telemetry or Telemetry(), seconds=1.0)
    for image in images:
        predictor.put(image)
    predictor.start()
    try:
        yield predictor
    finally:
        predictor.stop()


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


@pytest.mark.parametrize("spoil", [as_folder, as_loop])
def test_a_file_that_cannot_be_read_is_tried_again_and_holds_up_no_other(
    spool: Spool, spoil: Callable[[Path], None]
) -> None:
    bad, *good = (spool.accept(b"image %d" % number, SENDER) for number in range(4))
    spoil(bad.path)
    sent: list[Outgoing] = []
    with predicting(spool, bad, *good, hand_over=sent.extend) as predictor:
        until(lambda: len(sent) == 3 and predictor.waiting == 1, seconds=10.0)
        later = spool.accept(b"image 4", SENDER)
        predictor.put(later)
        until(lambda: len(sent) == 4, seconds=10.0)
        mended = bad.path.with_name("mended")
        mended.write_bytes(b"image 0")
        bad.path.rmdir() if bad.path.is_dir() else bad.path.unlink()
        mended.rename(bad.path)
        until(lambda: len(sent) == 5, seconds=10.0)
        assert predictor.waiting == 0
    assert [one.path.read_bytes() for one in sent] == [b"image %d" % number for number in (1, 2, 3, 4, 0)]


def test_a_file_that_does_not_fit_into_memory_holds_up_no_other(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, *good = (spool.accept(b"image %d" % number, SENDER) for number in range(3))
    real = Path.read_bytes

    def read(path: Path) -> bytes:
        if path == bad.path:
            raise MemoryError
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    sent: list[Outgoing] = []
    with predicting(spool, bad, *good, hand_over=sent.extend):
        until(lambda: len(sent) == 2, seconds=5.0)


def test_a_report_that_cannot_be_written_holds_up_no_other_image(spool: Spool, tmp_path: Path) -> None:
    images = [spool.accept(b"image %d" % number, sender) for number, sender in enumerate((OTHER, SENDER, SENDER))]
    in_the_way = tmp_path / "spool" / "outbox" / "OTHER@10.0.0.9:104"
    in_the_way.write_bytes(b"")
    sent: list[Outgoing] = []
    with predicting(spool, *images, hand_over=sent.extend) as predictor:
        until(lambda: len(sent) == 2 and predictor.waiting == 1, seconds=10.0)
        in_the_way.unlink()
        until(lambda: len(sent) == 3, seconds=10.0)
    assert [one.path.read_bytes() for one in sent] == [b"image 1", b"image 2", b"image 0"]


def test_an_error_in_the_choice_of_a_batch_does_not_end_predicting(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = iter([MemoryError()])
    real = module._size

    def size(image: Waiting) -> int:
        for fault in faults:
            raise fault
        return real(image)

    monkeypatch.setattr(module, "_size", size)
    sent: list[Outgoing] = []
    images = [spool.accept(b"image %d" % number, SENDER) for number in range(3)]
    with predicting(spool, *images, hand_over=sent.extend):
        until(lambda: len(sent) == 3, seconds=10.0)


def test_an_image_that_has_been_deleted_is_forgotten(spool: Spool) -> None:
    image = spool.accept(b"image", SENDER)
    image.path.unlink()
    with predicting(spool, image, hand_over=lambda reports: None) as predictor:
        until(lambda: spool.held == 0, seconds=10.0)
        assert predictor.waiting == 0
        assert predictor._thread.is_alive()


class Forgetful(Telemetry):
    """Cannot count the first image."""

    failed = False

    def predicted(self, outcome: str, seconds: float) -> None:
        if not self.failed:
            self.failed = True
            raise MemoryError
        super().predicted(outcome, seconds)


@pytest.mark.parametrize("telemetry", [Telemetry, Forgetful])
def test_reports_that_cannot_be_handed_over_at_once_are_handed_over_later_and_each_once(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, telemetry: type[Telemetry]
) -> None:
    monkeypatch.setitem(globals(), "back", lambda sender: [Node(name, "10.0.0.8", 104) for name in ("ONE", "TWO")])
    sent: list[Outgoing] = []
    faults = iter([False, True])

    def hand_over(reports: Iterable[Outgoing]) -> None:
        for report in reports:
            if next(faults, False):
                raise RuntimeError("can't start new thread")
            sent.append(report)

    images = [spool.accept(b"image %d" % number, SENDER) for number in range(3)]
    with predicting(spool, *images, hand_over=hand_over, telemetry=telemetry()):
        until(lambda: len(sent) == 6, seconds=10.0)
    assert sorted(one.path for one in sent) == sorted(one.path for one in spool.outbox())
