"""`download`: a file comes whole over a connection that breaks, or through pip."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pneumoscope.data import layouts
from pneumoscope.data.fetching import fetch, present
from pneumoscope.data.sources import SOURCES, DataSource
from pneumoscope.errors import SourceError
from tests.builders.hosting import NOISE, Host, tree, zipped


@pytest.mark.parametrize("at", [1, 70_000, len(NOISE) - 1])
def test_a_connection_that_breaks_is_continued_where_it_broke(
    host: Host, archive: str, tmp_path: Path, at: int
) -> None:
    host.cuts = [at]
    assert fetch(archive, tmp_path).read_bytes() == NOISE
    assert [asked.get("Range") for asked in host.asked] == [None, f"bytes={at}-"]
    assert host.asked[1]["If-Range"] == '"first"'


@pytest.mark.parametrize(
    ("headers", "version"),
    [
        ({}, None),
        ({"ETag": 'W/"weak"'}, None),
        (
            {"ETag": 'W/"weak"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"},
            "Mon, 01 Jan 2024 00:00:00 GMT",
        ),
    ],
)
def test_only_a_strong_validator_guards_the_continuation(
    host: Host, archive: str, tmp_path: Path, headers: dict[str, str], version: str | None
) -> None:
    host.headers, host.cuts = headers, [100_000]
    assert fetch(archive, tmp_path).read_bytes() == NOISE
    assert host.asked[1]["Range"] == "bytes=100000-"
    assert host.asked[1].get("If-Range") == version


def test_a_server_that_ignores_ranges_is_asked_from_the_start(host: Host, archive: str, tmp_path: Path) -> None:
    host.ranges, host.cuts = False, [100_000]
    assert fetch(archive, tmp_path).read_bytes() == NOISE
    assert tree(tmp_path) == {"tiny.npz"}


def test_a_server_that_never_gets_further_is_given_up_and_continued_another_day(
    host: Host, archive: str, tmp_path: Path
) -> None:
    host.cuts = [200_000, 0]
    with pytest.raises(SourceError, match=r"^No connection to 127\.0\.0\.1:\d+ \(it breaks after 200,000 bytes\)"):
        fetch(archive, tmp_path)
    assert present(archive, tmp_path) is None
    assert fetch(archive, tmp_path).read_bytes() == NOISE
    assert host.asked[-1]["Range"] == "bytes=200000-"
    assert tree(tmp_path) == {"tiny.npz"}


def test_a_file_that_changed_on_the_server_is_downloaded_from_the_start(
    host: Host, archive: str, tmp_path: Path
) -> None:
    right, host.content = host.content, b"an older edition" * 20_000
    host.cuts = [200_000, 0]
    with pytest.raises(SourceError):
        fetch(archive, tmp_path)
    host.content, host.headers = right, {"ETag": '"second"'}
    assert fetch(archive, tmp_path).read_bytes() == NOISE
    assert host.asked[-1]["If-Range"] == '"first"'


@pytest.mark.parametrize(("extra", "requests"), [(b"", 1), (b"of another file", 2)])
def test_a_part_as_long_as_the_file_is_taken_and_a_longer_one_is_not(
    host: Host, archive: str, tmp_path: Path, extra: bytes, requests: int
) -> None:
    part = tmp_path / ".tiny.partial" / "tiny.npz"
    part.parent.mkdir()
    part.write_bytes(NOISE + extra)
    assert fetch(archive, tmp_path).read_bytes() == NOISE
    assert tree(tmp_path) == {"tiny.npz"}
    assert len(host.asked) == requests


def test_without_a_connection_one_line_says_so(archive: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    SOURCES[archive] = replace(SOURCES[archive], url=f"http://127.0.0.1:{port}/file")
    with pytest.raises(SourceError, match=r"^No connection to 127\.0\.0\.1:\d+ \(.+\): .*the manual steps\.$"):
        fetch(archive, tmp_path)
    assert tree(tmp_path) == set()


def test_a_silent_server_is_given_up_after_the_timeout(
    archive: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pneumoscope.data.download.TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        SOURCES[archive] = replace(SOURCES[archive], url=f"http://127.0.0.1:{silent.getsockname()[1]}/")
        with pytest.raises(SourceError, match=r"No connection .*timed out"):
            fetch(archive, tmp_path)


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_rejection_of_the_server_is_named(host: Host, archive: str, tmp_path: Path, status: int) -> None:
    host.status = status
    with pytest.raises(SourceError, match=f"got 'HTTP Error {status}.*the manual steps"):
        fetch(archive, tmp_path)
    assert tree(tmp_path) == set()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for all packages there are."""
    if not (importlib.util.find_spec("pip") or shutil.which("pip")):
        pytest.skip("no pip beside this Python nor on PATH")
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def packaged(index: Path, add: Callable[[DataSource], str]) -> str:
    """Two images in a wheel, whose code asks for a Python and a package that nobody has."""
    images = {"NORMAL/IM-0001-0001.jpeg": NOISE[:3000], "PNEUMONIA/person1_virus_6.jpeg": NOISE[3000:6000]}
    info = "some_images-1.0.dist-info"
    members = {f"some_images/val/{Path(place).name}": content for place, content in images.items()} | {
        "some_images/model.bin": NOISE[:50_000],
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: some-images\nVersion: 1.0\n"
        b"Requires-Python: >=99\nRequires-Dist: huge\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    wheel = zipped(index / "some_images-1.0-py3-none-any.whl", members)
    sums = {place: hashlib.sha256(content).hexdigest() for place, content in images.items()}
    checksum = f"sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"
    row = DataSource("wheel", "", "", "", wheel.name, {"NORMAL": 1, "PNEUMONIA": 1}, package="some-images==1.0")
    return add(replace(row, checksum=checksum, sums=sums, bytes=wheel.stat().st_size))


def test_pip_brings_the_wheel_and_only_the_images_stay(packaged: str, index: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    ready = fetch(packaged, tmp_path / "data", lambda done, total: seen.append((done, total)))
    size = (index / "some_images-1.0-py3-none-any.whl").stat().st_size
    assert seen[-1] == (size, size)
    assert tree(tmp_path / "data") == {
        "wheel",
        "wheel/NORMAL",
        "wheel/NORMAL/IM-0001-0001.jpeg",
        "wheel/PNEUMONIA",
        "wheel/PNEUMONIA/person1_virus_6.jpeg",
    }
    assert len(layouts.load(ready)) == 2
    shutil.rmtree(index)
    assert fetch(packaged, tmp_path / "data") == ready


def test_an_image_that_was_altered_makes_the_data_set_damaged(packaged: str, tmp_path: Path) -> None:
    ready = fetch(packaged, tmp_path)
    (ready / "NORMAL" / "IM-0001-0001.jpeg").write_bytes(b"another image")
    assert present(packaged, tmp_path) is None
    with pytest.raises(SourceError, match="it is damaged: delete it and fetch again"):
        fetch(packaged, tmp_path)


def test_a_wheel_with_other_images_is_rejected(packaged: str, tmp_path: Path) -> None:
    sums = dict.fromkeys(SOURCES[packaged].sums, "0" * 64)
    SOURCES[packaged] = replace(SOURCES[packaged], sums=sums)
    with pytest.raises(SourceError, match="Expected 2 images of 'wheel', got 0 that are intact"):
        fetch(packaged, tmp_path / "data")
    assert tree(tmp_path / "data") == set()


def test_a_wheel_with_another_checksum_is_rejected(packaged: str, tmp_path: Path) -> None:
    SOURCES[packaged] = replace(SOURCES[packaged], checksum="sha256:" + "0" * 64)
    with pytest.raises(SourceError, match=r"whl with sha256:0+, got sha256:\w+\. The bad download was deleted"):
        fetch(packaged, tmp_path / "data")
    assert tree(tmp_path / "data") == set()


def test_a_wheel_that_pip_does_not_know_is_named_in_one_line(packaged: str, index: Path, tmp_path: Path) -> None:
    shutil.rmtree(index)
    index.mkdir()
    with pytest.raises(SourceError, match=r"^Expected some-images==1\.0 from pip, got 'ERROR: .*'.*steps\.$"):
        fetch(packaged, tmp_path / "data")
    assert tree(tmp_path / "data") == set()


def test_pip_without_a_connection_is_said_in_one_line(
    packaged: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{port}/simple")
    with pytest.raises(SourceError, match=r"^No connection to the package index .*the manual steps\.$"):
        fetch(packaged, tmp_path / "data")


def test_a_fetch_killed_while_pip_runs_leaves_nothing(packaged: str, tmp_path: Path) -> None:
    def kill(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(packaged, tmp_path / "data", kill)
    assert tree(tmp_path / "data") == set()
    assert present(packaged, tmp_path / "data") is None
    assert fetch(packaged, tmp_path / "data") == tmp_path / "data" / "wheel"


def test_a_python_without_pip_takes_the_pip_on_path(
    packaged: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not importlib.util.find_spec("pip") or os.name == "nt":
        pytest.skip("needs a pip beside this Python to stand for the one on PATH, and a shell")
    client = tmp_path / "bin" / "pip"
    client.parent.mkdir()
    client.write_text(f'#!/bin/sh\ntouch "{tmp_path}/called"\nexec "{sys.executable}" -m pip "$@"\n')
    client.chmod(0o755)
    monkeypatch.setattr("pneumoscope.data.download.importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="Expected pip beside this Python or on PATH, got none"):
        fetch(packaged, tmp_path / "data")
    monkeypatch.setenv("PATH", f"{client.parent}{os.pathsep}/usr/bin{os.pathsep}/bin")
    assert fetch(packaged, tmp_path / "data").is_dir()
    assert (tmp_path / "called").exists()


@pytest.mark.skipif(os.environ.get("PNEUMOSCOPE_NETWORK") != "1", reason="downloads 83 MB: PNEUMOSCOPE_NETWORK=1")
def test_the_samples_come_from_their_package(tmp_path: Path) -> None:
    ready = fetch("samples", tmp_path)
    assert [image.label for image in layouts.load(ready)] == [0] * 8 + [1] * 8
    assert {path.name for path in tmp_path.iterdir()} == {"samples"}
