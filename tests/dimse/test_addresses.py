"""Who is who: titles, hosts, ports, and who may associate."""

from __future__ import annotations

import pytest

pytest.importorskip("pynetdicom", reason="the DICOM node is not installed")

from pneumoscope.dimse.addresses import Allowed, Node, Sender, admits, check_hosts, check_title
from pneumoscope.errors import UnsupportedError


@pytest.mark.parametrize("text", ["ARCHIVE@pacs.example:104", "A B@10.0.0.8:11112", "A@B@host:1", "X@[::1]:104"])
def test_a_destination_reads_as_it_is_written(text: str) -> None:
    assert str(Node.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "host:104", "A@host", "A@:104", "A@host:0", "A@host:65536", "A@host:x", "@h:1", "TITLE-OF-17-CHARS@h:1"],
)
def test_what_is_no_destination_is_told(text: str) -> None:
    with pytest.raises(UnsupportedError, match="Expected"):
        Node.parse(text)


@pytest.mark.parametrize("title", ["", " ", "A\\B", "Ä", "A\n", 17 * "A"])
def test_what_is_no_title_is_told(title: str) -> None:
    with pytest.raises(UnsupportedError, match="AE title"):
        check_title(title)


def test_senders_are_admitted_by_title_and_by_address_where_one_is_given() -> None:
    known = Sender("MODALITY", "127.0.0.1")
    assert admits([], known)
    assert admits([Allowed.parse("*")], known)
    assert admits([Allowed.parse("OTHER"), Allowed.parse("MODALITY")], known)
    assert admits([Allowed.parse("MODALITY@127.0.0.1")], known)
    assert not admits([Allowed.parse("OTHER")], known)
    assert not admits([Allowed.parse("MODALITY@127.0.0.2")], known)
    assert not admits([Allowed.parse("*@127.0.0.2")], known)


def test_a_host_that_cannot_be_found_is_told_at_the_start() -> None:
    with pytest.raises(UnsupportedError, match="can be resolved"):
        check_hosts([Allowed("MODALITY", "no.such.host.invalid")])
