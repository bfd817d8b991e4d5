"""Tables on a terminal: everything fits, nothing is cut, and no sentence is said twice."""

from __future__ import annotations

import io

import pytest

from pneumoscope.errors import NotFoundError, UnreadableError, UnsupportedError
from pneumoscope.inference.finding import WARNINGS, Finding
from pneumoscope.reporting import tables

LOST = "Expected a file, got a name that does not exist."


@pytest.fixture(autouse=True)
def no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the width to the tables, whatever whoever runs the tests has set."""
    monkeypatch.delenv("COLUMNS", raising=False)


def printed(findings: list[Finding], truths: list[str] | None = None) -> str:
    file = io.StringIO()
    tables.print_findings(file, findings, truths or [])
    return file.getvalue()


def found(path: str, probability: float = 0.25, warnings: tuple[str, ...] = (), uncertain: bool = False) -> Finding:
    finding = "PNEUMONIA" if probability >= 0.5 else "NORMAL"
    return Finding(path, probability, finding, uncertain, 0.5, warnings)


@pytest.mark.parametrize("columns", [72, 80, 120])
@pytest.mark.parametrize("truths", [[], ["PNEUMONIA", "NORMAL", "NORMAL"]], ids=["findings", "beside the truth"])
def test_nothing_is_cut_and_no_word_broken(columns: int, truths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    rows = [
        found("a/person1946_bacteria_4874.jpeg", 0.75, ("photograph_of_screen", "unlike_training_images"), True),
        found("a/b.png", warnings=tuple(WARNINGS)),
        found("a/" + "long" * 40 + ".png"),
        Finding("a/c.txt", error=UnsupportedError("Expected a JPEG, PNG, TIFF or DICOM file, got something else.")),
        Finding("nowhere.png", error=NotFoundError(LOST)),
    ]
    text = printed(rows, truths)
    assert max(map(len, text.splitlines())) <= columns
    assert "…" not in text
    words = text.split()
    for word in ("PNEUMONIA", "NORMAL", "unsupported", "not_found", "0.750", "photograph", "unlike", "images"):
        assert word in words


def test_a_name_stands_on_one_line_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names = ["person1946_bacteria_4874.jpeg", "nowhere.png"]
    text = printed(
        [found(names[0], warnings=("unlike_training_images",)), Finding(names[1], error=NotFoundError(LOST))]
    )
    assert all(name in text.split() for name in names)


def test_an_error_is_said_once_below_however_many_images_have_it() -> None:
    lost = [Finding(f"{i}.png", error=NotFoundError(LOST)) for i in range(8)]
    text = printed([*lost, Finding("9.png", error=UnreadableError("Expected a whole JPEG, got half of one."))])
    assert text.count("not_found [1]") == 8
    assert text.count(f"[1] {LOST}") == 1
    assert text.count("unreadable [2]") == text.count("[2] Expected a whole JPEG") == 1


def test_a_remark_is_explained_once_below() -> None:
    text = printed([found(f"{i}.png", warnings=("dark", "unlike_training_images"), uncertain=True) for i in range(8)])
    assert text.count(f"dark: {WARNINGS['dark']}") == 1
    assert text.count(f"unlike training images: {WARNINGS['unlike_training_images']}") == 1
    assert text.count(f"uncertain: {tables.UNCERTAIN}") == 1


def test_the_folder_is_that_of_the_images_whatever_else_was_named() -> None:
    text = printed([found("x/y/a.png"), found("x/z/b.png"), Finding("nowhere.png", error=NotFoundError(LOST))])
    assert "images in x" in text
    assert "y/a.png" in text.split()
    assert "nowhere.png" in text.split()


def test_no_rows_are_no_table() -> None:
    assert printed([]) == ""


def test_a_finding_is_marked_as_the_truth_or_not() -> None:
    text = printed([found("a.png", 0.75), found("b.png", 0.75)], ["PNEUMONIA", "NORMAL"])
    assert text.index("PNEUMONIA ✓") < text.index("PNEUMONIA ✗")
