"""`fetching`: a public data set comes whole and verified, or not at all."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pneumoscope.data import layouts
from pneumoscope.data.fetching import fetch, present
from pneumoscope.data.sources import SOURCES, DataSource
from pneumoscope.errors import SourceError
from tests.builders.hosting import NOISE, Host, tree, zipped


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


def test_wrong_bytes_are_deleted_and_the_message_says_so(host: Host, archive: str, tmp_path: Path) -> None:
    host.content = b"<html>Please log in</html>"
    with pytest.raises(SourceError, match=r"Expected tiny.npz with md5:\w+, got md5:\w+\. The bad .* was deleted"):
        fetch(archive, tmp_path)
    assert tree(tmp_path) == set()
    host.content = NOISE
    assert fetch(archive, tmp_path).read_bytes() == NOISE


def test_a_folder_that_cannot_be_made_is_an_error_that_says_so(archive: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SourceError, match=r"Expected to write 'tiny' into .*choose another folder"):
        fetch(archive, tmp_path / "file")


def test_a_full_disk_is_an_error_that_says_so(archive: str, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="file sizes can be limited on POSIX only")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(SourceError, match=r"Expected to write 'tiny' into .*Free some space"):
            fetch(archive, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "tiny.npz").exists()


def test_a_damaged_data_set_is_named_and_never_overwritten(host: Host, archive: str, tmp_path: Path) -> None:
    (tmp_path / "tiny.npz").write_bytes(b"half")
    with pytest.raises(SourceError, match=r"it is damaged: delete it and fetch again"):
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
    with pytest.raises(SourceError, match=r"Expected a complete zip archive, but images\.zip is damaged"):
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
    with pytest.raises(SourceError, match=r"damaged .*Delete '.*images\.zip' and download it again"):
        fetch(collection, tmp_path)
    assert tree(tmp_path) == {"images.zip", "served.zip"}
