"""Peers that are broken, slow or hostile: each is dealt with, in bounded memory, and everybody else is served."""

from __future__ import annotations

import resource
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

pytest.importorskip("pynetdicom", reason="the DICOM node is not installed")

from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from pneumoscope.dimse import tls
from pneumoscope.dimse.addresses import Sender
from pneumoscope.dimse.limits import Limits
from pneumoscope.dimse.node import Listener
from pneumoscope.dimse.spool import Spool, Waiting
from pneumoscope.errors import UnsupportedError
from tests.builders.hospital import Archive, dcmtk, listening, send, until, write
from tests.builders.peers import ABORTED, ACCEPTED, NO_MESSAGE, fragment, request, store, unit

LIMITS = Limits(object_bytes=1_000_000, held=2_000_000, associations=4, idle_seconds=2.0, pdu_seconds=3.0)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Listener]:
    with listening(tmp_path / "spool", limits=LIMITS) as listener:
        yield listener
        assert echoed(listener.port)
        until(lambda: listener._receiver.associations == 0)


def echoed(port: int) -> bool:
    """Say whether a peer that behaves is served."""
    entity = AE("MODALITY")
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", port, ae_title="PNEUMOSCOPE")
    if not association.is_established:
        return False
    status = association.send_c_echo().get("Status")
    association.release()
    return bool(status == 0)


def told(port: int, sent: bytes, seconds: float = 20.0) -> bytes:
    """Send bytes, and give what is answered until the connection is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as peer:
        peer.sendall(sent)
        answer = b""
        while piece := peer.recv(65536):
            answer += piece
        return answer


@pytest.mark.parametrize("sent", NO_MESSAGE.values(), ids=list(NO_MESSAGE))
def test_what_is_no_request_ends_its_connection_and_no_other(node: Listener, sent: bytes) -> None:
    began = time.monotonic()
    answer = told(node.port, sent)
    assert time.monotonic() - began < 15.0
    assert not answer or answer[0] == ABORTED


MESSAGES = {
    "no command": fragment(3, b"nothing that is a command"),
    "an empty fragment": unit(4, 6, struct.pack(">LBB", 2, 1, 3)),
    "another context": unit(4, 12, struct.pack(">LBB", 8, 99, 3) + bytes(6)),
    "an endless command": b"".join(fragment(1, bytes(60_000)) for _ in range(4)),
    "a unit of 4 GB": unit(4, 2**32 - 1, bytes(100)),
    "half a unit, then silence": fragment(3, bytes(100))[:40],
}


@pytest.mark.parametrize("sent", MESSAGES.values(), ids=list(MESSAGES))
def test_what_is_no_message_ends_its_association_and_no_other(node: Listener, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", node.port), timeout=20.0) as peer:
        peer.sendall(request())
        assert peer.recv(65536)[0] == ACCEPTED
        assert echoed(node.port)
        peer.sendall(sent)
        answer = b""
        try:
            while piece := peer.recv(65536):
                answer += piece
        except ConnectionResetError:
            return
        assert not answer or answer[0] == ABORTED


def test_one_byte_at_a_time_ends_in_time(node: Listener) -> None:
    with socket.create_connection(("127.0.0.1", node.port), timeout=20.0) as peer:
        began = time.monotonic()
        try:
            for byte in request():
                peer.sendall(bytes([byte]))
                time.sleep(0.1)
        except OSError:
            pass
        assert time.monotonic() - began < 15.0


def test_peers_that_say_nothing_take_nobodys_place(node: Listener) -> None:
    silent = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(12)]
    try:
        assert echoed(node.port)
    finally:
        for peer in silent:
            peer.close()


def test_an_object_without_end_takes_no_memory_and_is_told_why(tmp_path: Path) -> None:
    with (
        listening(tmp_path / "spool", limits=Limits(object_bytes=1_000_000)) as node,
        socket.create_connection(("127.0.0.1", node.port), timeout=30.0) as peer,
    ):
        peer.sendall(request())
        assert peer.recv(65536)[0] == ACCEPTED
        peer.sendall(store())
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        piece = fragment(0, bytes(100_000))
        for _ in range(1500):  # 150 MB, 150 times the limit
            peer.sendall(piece)
        peer.sendall(fragment(2, bytes(10)))
        answer = peer.recv(65536)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000  # kB
    assert answer[0] == 4
    assert b"The object is over 1 MB." in answer


@pytest.mark.parametrize("second", [200_000, 5_000_000], ids=["within the limits", "beyond them"])
def test_a_message_before_the_answer_to_the_last_one_ends_the_association(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: int
) -> None:
    answered = threading.Event()
    real = Spool.accept

    def accept(spool: Spool, data: bytes, sender: Sender) -> Waiting:
        answered.wait(10.0)
        return real(spool, data, sender)

    monkeypatch.setattr(Spool, "accept", accept)
    with (
        listening(tmp_path / "spool", limits=LIMITS) as node,
        socket.create_connection(("127.0.0.1", node.port), timeout=20.0) as peer,
    ):
        node._predictor._stopping.set()  # images stay in the spool
        peer.sendall(request())
        assert peer.recv(65536)[0] == ACCEPTED
        peer.sendall(store() + fragment(2, bytes(1000)))
        with suppress(OSError):  # it may be aborted at any moment
            for data in (bytes(second), bytes(1000)):
                pieces = [data[start : start + 100_000] for start in range(0, len(data), 100_000)]
                peer.sendall(store() + b"".join(fragment(0, piece) for piece in pieces[:-1]) + fragment(2, pieces[-1]))
        received = b""
        with suppress(ConnectionResetError):
            while piece := peer.recv(65536):
                received += piece
        answered.set()
        assert not received or received[0] == ABORTED
        assert len(node._spool.waiting()) <= 1


def test_messages_one_after_another_are_all_answered(node: Listener) -> None:
    with socket.create_connection(("127.0.0.1", node.port), timeout=20.0) as peer:
        peer.sendall(request())
        assert peer.recv(65536)[0] == ACCEPTED
        for _ in range(20):
            peer.sendall(store() + fragment(2, bytes(1000)))
            assert peer.recv(65536)[0] == 4


# --- encrypted


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of an authority for a node and a modality on this machine, and one of nobody known."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost")
    usual = ("-newkey", "rsa:2048", "-nodes", "-subj")
    for name in ("ca", "unknown"):
        openssl("req", "-x509", *usual, f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    for name in ("node", "modality"):
        openssl("req", *usual, f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    return folder


def encrypted(folder: Path, name: str) -> list[str]:
    return ["+tls", str(folder / f"{name}.key"), str(folder / f"{name}.pem"), "+cf", str(folder / "ca.pem")]


@dcmtk
def test_encrypted_peers_with_a_certificate_of_the_authority_are_served_and_others_not(
    tmp_path: Path, certificates: Path
) -> None:
    from tests.dimse.test_listen import image

    incoming, outgoing = tls.contexts(*(certificates / name for name in ("node.pem", "node.key", "ca.pem")))
    paths = write(tmp_path / "sent", image())
    with (
        Archive(tmp_path / "archive", encrypted(certificates, "modality")) as archive,
        listening(tmp_path / "spool", archive.node, limits=LIMITS, incoming=incoming, outgoing=outgoing) as listener,
    ):
        silent = socket.create_connection(("127.0.0.1", listener.port))  # no handshake, and nobody waits for it
        assert send(listener.port, *paths).returncode != 0
        assert send(listener.port, *paths, options=encrypted(certificates, "unknown")).returncode != 0
        assert send(listener.port, *paths, options=encrypted(certificates, "modality")).returncode == 0
        assert len(archive.wait(1)) == 1
        silent.close()


def test_files_that_are_no_certificates_are_told(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no certificate")
    with pytest.raises(UnsupportedError, match="PEM"):
        tls.contexts(tmp_path / "no.pem", tmp_path / "no.pem", tmp_path / "no.pem")
    assert issubclass(ssl.SSLError, OSError)


def handshakes() -> int:
    """Count the threads that open a connection."""
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


def greeting() -> bytes:
    """Write the first message of a TLS handshake."""
    written = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), written, server_hostname="localhost").do_handshake()
    return written.read()


@pytest.fixture
def encrypted_node(tmp_path: Path, certificates: Path) -> Iterator[Listener]:
    incoming, _ = tls.contexts(*(certificates / name for name in ("node.pem", "node.key", "ca.pem")))
    limits = Limits(associations=4, idle_seconds=2.0, pdu_seconds=2.0)
    with listening(tmp_path / "spool", limits=limits, incoming=incoming) as listener:
        yield listener


def test_handshakes_are_limited_with_the_associations(encrypted_node: Listener) -> None:
    limit = 2 * 4 + 16
    server = encrypted_node._receiver._server
    assert server is not None
    with ExitStack() as stack:
        for _ in range(2 * limit):
            stack.enter_context(socket.create_connection(("127.0.0.1", encrypted_node.port)))
        until(lambda: handshakes() >= limit, seconds=10.0)
        time.sleep(0.3)
        assert handshakes() == limit
        until(lambda: server.verify_request(None, None), seconds=10.0)  # they have taken too long


def test_a_handshake_of_single_bytes_ends_in_time(encrypted_node: Listener) -> None:
    with socket.create_connection(("127.0.0.1", encrypted_node.port), timeout=10.0) as peer:
        began = time.monotonic()
        with suppress(OSError):
            for byte in greeting():
                peer.sendall(bytes([byte]))
                time.sleep(0.1)
        assert time.monotonic() - began < 5.0
