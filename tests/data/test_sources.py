"""`sources`: a public data set comes whole and verified, or not at all."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import socket
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from pneumoscope.data import layouts, sources
from pneumoscope.data.sources import SOURCES, DataSource, fetch, present
from pneumoscope.errors import NotFoundError, SourceError

NOISE = np.random.default_rng(0).bytes(400_000)
"""Like a JPEG, it does not shrink in a zip."""


@dataclass
class Host:
    """What the server on this machine serves, how it misbehaves, and what it was asked."""

    content: bytes = NOISE
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"first"'})
    ranges: bool = True
    status: int = 200
    cuts: list[int] = field(default_factory=list)  # bytes after which each of the next answers breaks off
    asked: list[dict[str, str]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def host() -> Iterator[Host]:
    served = Host()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(dict(self.headers))
            start = self.start_of_range() if served.ranges else 0
            status = 206 if start and served.status == 200 else served.status
            if start >= len(served.content):
                status = 416
            body = served.content[start:] if status in (200, 206) else b""
            self.send_response(status)
            for name, value in served.headers.items():
                self.send_header(name, value)
            if status == 416:
                self.send_header("Content-Range", f"bytes */{len(served.content)}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: served.cuts.pop(0)] if served.cuts else body)

        def start_of_range(self) -> int:
            version = self.headers["If-Range"]
            if version and version not in served.headers.values():
                return 0
            return int(re.sub(r"\D", "", self.headers["Range"] or "0"))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        served.url = f"http://127.0.0.1:{server.server_port}/file"
        yield served
        server.shutdown()


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> Callable[[DataSource], str]:
    def to_the_table(source: DataSource) -> str:
        monkeypatch.setitem(SOURCES, source.name, source)
        return source.name

    return to_the_table


@pytest.fixture
def archive(host: Host, add: Callable[[DataSource], str]) -> str:
    """A data set that is one `.npz`, on the server."""
    md5 = hashlib.md5(NOISE).hexdigest()
    return add(DataSource("tiny", "", "", "", "tiny.npz", {}, url=host.url, checksum=f"md5:{md5}"))


@pytest.fixture
def collection(host: Host, add: Callable[[DataSource], str], tmp_path: Path) -> str:
    """A data set that is a zip of images, without a checksum, on the server."""
    host.content = zipped(tmp_path / "served.zip", COLLECTION).read_bytes()
    counts = {"train/NORMAL": 2, "train/PNEUMONIA": 1}
    return add(DataSource("images", "", "", "", "images.zip", counts, url=host.url))


COLLECTION = {
    "chest_xray/train/NORMAL/IM-0001-0001.jpeg": NOISE[:3000],
    "chest_xray/train/NORMAL/IM-0002-0001.jpeg": NOISE[3000:6000],
    "chest_xray/train/PNEUMONIA/person1_virus_6.jpeg": NOISE[6000:9000],
}


def zipped(path: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def tree(folder: Path) -> set[str]:
    """Every file and folder below, hidden ones too."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize("source", SOURCES.values(), ids=list(SOURCES))
def test_a_row_says_licence_citation_counts_and_manual_steps(source: DataSource, tmp_path: Path) -> None:
    assert source.licence == "CC BY 4.0"
    assert "10.17632/rscbjbr9sj.2" in source.citation
    assert source.citation in source.credit
    assert source.images == sum(source.counts.values()) > 0
    assert source.bytes > 1_000_000
    assert source.url.startswith("https://") != bool(source.package)
    steps = source.steps(tmp_path)
    assert source.name == "samples" or source.page in steps[0]
    assert source.archive in steps[1]
    assert str(tmp_path) in steps[1]
    assert steps[2].startswith(f"Run: pneumoscope fetch {source.name} ")


def test_every_download_but_kermanys_has_a_checksum() -> None:
    assert [source.name for source in SOURCES.values() if source.checksum is None] == ["kermany"]
    lengths = {"md5": 32, "sha256": 64}
    for source in SOURCES.values():
        if source.checksum:
            algorithm, _, digits = source.checksum.partition(":")
            assert re.fullmatch(rf"[0-9a-f]{{{lengths[algorithm]}}}", digits)


def test_the_samples_are_eight_images_of_each_class_with_a_checksum_each() -> None:
    images = SOURCES["samples"].sums
    assert [place.split("/")[0] for place in images] == ["NORMAL"] * 8 + ["PNEUMONIA"] * 8
    assert len(set(images.values())) == 16
    assert all(re.fullmatch(r"[0-9a-f]{64}", sha256) for sha256 in images.values())


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"samples, pneumoniamnist, .*kermany, got 'sample'"):
        fetch("sample", tmp_path)


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PNEUMOSCOPE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert sources.cache_folder() == tmp_path / "pneumoscope"
    monkeypatch.setenv("PNEUMOSCOPE_CACHE", str(tmp_path / "mine"))
    assert sources.cache_folder() == tmp_path / "mine"


def test_a_download_arrives_whole_and_leaves_nothing_else(archive: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    ready = fetch(archive, tmp_path / "data", lambda done, total: seen.append((done, total)))
    assert ready == tmp_path / "data" / "tiny.npz"
    assert ready.read_bytes() == NOISE
    assert tree(tmp_path / "data") == {"tiny.npz"}
    assert seen[-1] == (len(NOISE), len(NOISE))
    assert seen == sorted(seen)


def test_without_a_folder_it_goes_to_the_cache(archive: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PNEUMOSCOPE_CACHE", str(tmp_path))
    assert fetch(archive) == tmp_path / "tiny.npz" == present(archive)


def test_what_is_there_and_whole_is_not_downloaded_again(host: Host, archive: str, tmp_path: Path) -> None:
    assert present(archive, tmp_path) is None
    first = fetch(archive, tmp_path)
    assert present(archive, tmp_path) == first
    assert fetch(archive, tmp_path) == first
    assert len(host.asked) == 1


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


def test_a_fetch_killed_in_the_middle_leaves_no_data_set_and_the_next_one_continues(
    host: Host, archive: str, tmp_path: Path
) -> None:
    host.content = NOISE * 10  # several blocks
    SOURCES[archive] = replace(SOURCES[archive], checksum=f"md5:{hashlib.md5(host.content).hexdigest()}")

    def kill(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(archive, tmp_path, kill)
    assert not (tmp_path / "tiny.npz").exists()
    assert fetch(archive, tmp_path).read_bytes() == host.content
    assert int(re.sub(r"\D", "", host.asked[-1]["Range"])) > 0
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


def test_wrong_bytes_are_deleted_and_the_message_says_so(host: Host, archive: str, tmp_path: Path) -> None:
    host.content = b"<html>Please log in</html>"
    with pytest.raises(SourceError, match=r"Expected tiny.npz with md5:\w+, got md5:\w+\. The bad .* was deleted"):
        fetch(archive, tmp_path)
    assert tree(tmp_path) == set()
    host.content = NOISE
    assert fetch(archive, tmp_path).read_bytes() == NOISE


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


def test_a_folder_that_cannot_be_made_is_an_error_that_says_so(archive: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SourceError, match=r"Expected to write 'tiny' into .*choose another folder"):
        fetch(archive, tmp_path / "file")


def test_a_full_disk_is_an_error_that_says_so(archive: str, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="file sizes can be limited on POSIX only")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(SourceError, match=r"Expected to write 'tiny' into .*Make room there"):
            fetch(archive, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "tiny.npz").exists()


def test_a_damaged_data_set_is_named_and_never_overwritten(host: Host, archive: str, tmp_path: Path) -> None:
    (tmp_path / "tiny.npz").write_bytes(b"half")
    with pytest.raises(SourceError, match=r"got it damaged: delete it and fetch again"):
        fetch(archive, tmp_path)
    assert (tmp_path / "tiny.npz").read_bytes() == b"half"
    assert host.asked == []


def test_of_a_zip_only_the_images_are_kept(host: Host, collection: str, tmp_path: Path) -> None:
    others = {
        "chest_xray/train/NORMAL/.DS_Store": b"",
        "__MACOSX/chest_xray/train/NORMAL/._IM-0001-0001.jpeg": b"",
        "chest_xray/train/OTHER/IM-0003-0001.jpeg": b"",
        "README.txt": b"",
    }
    host.content = zipped(tmp_path / "more.zip", COLLECTION | others).read_bytes()
    ready = fetch(collection, tmp_path / "data")
    assert ready == tmp_path / "data" / "images"
    assert {path.name for path in ready.rglob("*.*")} == {Path(name).name for name in COLLECTION}
    assert [image.split for image in layouts.load(ready)] == ["train"] * 3
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["images"]
    assert fetch(collection, tmp_path / "data") == ready
    assert len(host.asked) == 1


@pytest.mark.parametrize(
    "name",
    [
        "../../escaped.jpeg",
        "/escaped.jpeg",
        "train/NORMAL/../../../escaped.jpeg",
        "train/NORMAL/..\\escaped.jpeg",
    ],
)
def test_no_member_of_a_zip_leaves_the_folder(host: Host, collection: str, tmp_path: Path, name: str) -> None:
    host.content = zipped(tmp_path / "evil.zip", {**COLLECTION, name: NOISE[:100]}).read_bytes()
    fetch(collection, tmp_path / "deep" / "data")
    assert not [place for place in tree(tmp_path) if "escaped" in place]
    assert not Path("/escaped.jpeg").exists()


def test_a_bomb_is_rejected_before_it_is_unpacked(host: Host, collection: str, tmp_path: Path) -> None:
    bomb = {"train/NORMAL/IM-0009-0001.jpeg": bytes(50_000_000)}
    host.content = zipped(tmp_path / "bomb.zip", COLLECTION | bomb).read_bytes()
    with pytest.raises(SourceError, match=r"got 50,009,000 bytes .* was deleted"):
        fetch(collection, tmp_path / "data")
    assert tree(tmp_path / "data") == set()


def test_without_a_checksum_the_images_are_counted(host: Host, collection: str, tmp_path: Path) -> None:
    members = dict(list(COLLECTION.items())[1:])
    host.content = zipped(tmp_path / "short.zip", members).read_bytes()
    with pytest.raises(SourceError, match=r"'train/NORMAL': 2.*got .*'train/NORMAL': 1"):
        fetch(collection, tmp_path / "data")
    assert tree(tmp_path / "data") == set()


@pytest.mark.parametrize("damage", [lambda zip_: zip_[:-200], lambda zip_: zip_[:2000] + b"#" + zip_[2001:]])
def test_a_damaged_zip_is_deleted_and_named(
    host: Host, collection: str, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    host.content = damage(host.content)
    with pytest.raises(SourceError, match=r"Expected a whole zip archive, got images\.zip damaged"):
        fetch(collection, tmp_path / "data")
    assert tree(tmp_path / "data") == set()


def test_an_archive_put_there_by_hand_is_used_without_a_connection_and_kept(
    host: Host, collection: str, tmp_path: Path
) -> None:
    (tmp_path / "images.zip").write_bytes(host.content)
    assert len(layouts.load(fetch(collection, tmp_path))) == 3
    assert host.asked == []
    assert (tmp_path / "images.zip").read_bytes() == host.content


def test_a_damaged_archive_put_there_by_hand_is_named_and_kept(host: Host, collection: str, tmp_path: Path) -> None:
    (tmp_path / "images.zip").write_bytes(host.content[:-200])
    with pytest.raises(SourceError, match=r"damaged .*Delete '.*images\.zip' and get it again"):
        fetch(collection, tmp_path)
    assert tree(tmp_path) == {"images.zip", "served.zip"}


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
    with pytest.raises(SourceError, match="got it damaged: delete it and fetch again"):
        fetch(packaged, tmp_path)


def test_a_wheel_with_other_images_is_rejected(packaged: str, tmp_path: Path) -> None:
    sums = dict.fromkeys(SOURCES[packaged].sums, "0" * 64)
    SOURCES[packaged] = replace(SOURCES[packaged], sums=sums)
    with pytest.raises(SourceError, match="Expected 2 images of 'wheel', got 0 whole"):
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
