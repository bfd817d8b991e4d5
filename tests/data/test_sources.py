"""`sources`: each public data set has its licence, its citation and its checksum."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pneumoscope.data import sources
from pneumoscope.data.fetching import fetch
from pneumoscope.data.sources import SOURCES, DataSource
from pneumoscope.errors import NotFoundError


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
    assert sources.folder() == tmp_path / "pneumoscope"
    monkeypatch.setenv("PNEUMOSCOPE_CACHE", str(tmp_path / "mine"))
    assert sources.folder() == tmp_path / "mine"
