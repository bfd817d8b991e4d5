"""`fetch`: the data sets that there are."""

from __future__ import annotations

from tests.builders.commands import run


def test_fetch_lists_the_sources_with_their_licences() -> None:
    done = run("fetch")
    assert done.returncode == 0
    for name in ("samples", "pneumoniamnist", "kermany"):
        assert name in done.stdout
    assert "CC BY 4.0" in done.stdout


def test_fetch_of_an_unknown_name_lists_the_known_ones() -> None:
    done = run("fetch", "nothing")
    assert done.returncode == 1
    assert "samples" in done.stderr
