"""`tables`: a table of paths and labels is read as people and spreadsheets write it, or its mistake is named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pneumoscope.data.layouts import Box, Sample, load
from pneumoscope.errors import DatasetError
from tests.builders.datasets import table, touch

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_table_of_paths_and_labels_is_a_data_set(tmp_path: Path, encoding: str, end: str) -> None:
    lines = [
        " Path , LABEL,note,Patient,split",
        "a.png,normal,,Müller,train",
        "",
        'sub/"b, c".png,PNEUMONIA,x, p2 ,Validation'.replace('sub/"b, c".png', '"sub/b, c.png"'),
        f"{tmp_path}/d.png,0,,,TEST",
        "person7_virus_3.jpeg,1",
    ]
    images = load(table(tmp_path, end.join(lines), encoding))
    assert images == [
        Sample(tmp_path / "a.png", 0, "Müller", "train", site="images"),
        Sample(tmp_path / "sub/b, c.png", 1, "p2", "val", site="images"),
        Sample(tmp_path / "d.png", 0, str(tmp_path / "d.png"), "test", site="images"),
        Sample(tmp_path / "person7_virus_3.jpeg", 1, "person7_virus", None, "virus", site="images"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expected columns path,label.* got none"),
        ("file,label\na.png,0", "Expected columns path,label.* got file,label"),
        ("path|label\na.png|0", "got path|label"),
        ("path,label,view\na.png,1,Waters", "AP, PA or lateral as view .* line 2, got 'Waters'"),
        ("path,label,age\na.png,1,old", "an age in years .* line 2, got 'old'"),
        ("path,label,boxes\na.png,1,opacity 0.1 0.2 0.3", "Expected boxes such as .* line 2, got 'opacity 0.1"),
        ("path,label,boxes\na.png,1,opacity 40 80 90 120", "shares of the image's width and height"),
        ("path,label,boxes\na.png,1,opacity 0.5 0.2 0.4 0.9", "Expected boxes"),
        ("path,label,boxes\na.png,1,0.1 0.2 0.3 0.4", "Expected boxes"),
        ("path,label\na.png,COVID", "NORMAL or PNEUMONIA .* line 2, got 'COVID'"),
        ("path,label\na.png,-1", "NORMAL or PNEUMONIA .* line 2, got '-1'"),
        ("path,label\na.png,-1.0", "NORMAL or PNEUMONIA .* line 2, got '-1.0'"),
        ("path,label\na.png,0\nb.png,1\nc.png", "NORMAL or PNEUMONIA .* line 4, got ''"),
        ("path,label\n\n\na.png,2", "line 4, got '2'"),
        ("path,label\n,1", "Expected the path of an image .* line 2, got none"),
        ("label,path\n1", "Expected the path of an image .* line 2"),
        ("path,label,split\na.png,1,holdout", "train, val or test as split .* line 2, got 'holdout'"),
        ("path,label\n", "Got no images"),
        ("path,label\na.png,0\nb.png,NORMAL", "got 2 of NORMAL and none of PNEUMONIA"),
        ("path,label\n" + "x" * 200_000 + ",1", "that cannot be read .*field larger"),
    ],
)
def test_a_table_with_a_mistake_says_where_and_what_is_expected(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load(table(tmp_path, text))


def test_a_table_in_another_encoding_is_said_so(tmp_path: Path) -> None:
    path = table(tmp_path, "path,label,patient\na.png,0,Müller\nb.png,1,x", "latin-1")
    with pytest.raises(DatasetError, match=r"Expected a CSV file in UTF-8 at '.*', got .* save it as"):
        load(path)


def test_a_label_that_is_missing_is_an_error_whatever_becomes_of_others(tmp_path: Path) -> None:
    path = table(tmp_path, "path,label\na.png,0\nb.png,1\nc.png,")
    with pytest.raises(DatasetError, match="line 4, got ''"):
        load(path, other="skip")


def test_a_table_tells_site_view_age_and_boxes(tmp_path: Path) -> None:
    lines = [
        "path,label,site,view,age,boxes",
        'a.png,1,Bethesda,ap,057Y,"opacity 0.1 0.2 0.3 0.4; pleural effusion 0 0 1 1.0;"',
        "b.png,0,,PA,6M,",
        "c.png,0,Guangzhou,,411,",
        "d.png,1.0,Guangzhou,AP supine,,",
    ]
    a, b, c, d = load(table(tmp_path, "\n".join(lines)))
    assert a.boxes == (Box("opacity", 0.1, 0.2, 0.3, 0.4), Box("pleural effusion", 0.0, 0.0, 1.0, 1.0))
    assert [(s.site, s.view, s.age, len(s.boxes), s.label) for s in (a, b, c, d)] == [
        ("Bethesda", "AP", 57.0, 2, 1),
        ("images", "PA", 0.5, 0, 0),
        ("Guangzhou", "", None, 0, 0),
        ("Guangzhou", "AP", None, 0, 1),
    ]


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_table_as_spreadsheets_write_it_is_read(tmp_path: Path, separator: str, encoding: str) -> None:
    touch(tmp_path, "images/ä, 1.png", "images/b.png")
    lines = ["path,label,patient".replace(",", separator), "images\\ä, 1.png;0;M\u00fcller".replace(";", separator)]
    lines += [f"images\\b.png{separator}1{separator}x"]
    found = load(table(tmp_path, "\r\n".join(lines), encoding))
    assert [(s.path.exists(), s.label, s.patient) for s in found] == [(True, 0, "Müller"), (True, 1, "x")]


def test_a_heading_is_split_by_its_first_separator(tmp_path: Path) -> None:
    for text in ("path\tlabel\tnotes, some, more\na.png\t0\t\nb.png\t1\t,", 'path;"label";x,y,z\na.png;0;\nb.png;1;'):
        assert [sample.label for sample in load(table(tmp_path, text))] == [0, 1]


@pytest.mark.parametrize("above", ["sep=;\r\n", '"sep=;"\r\n', "\r\n\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_heading_is_found_below_what_spreadsheets_write_above_it(tmp_path: Path, above: str, encoding: str) -> None:
    touch(tmp_path, "a.png", "b.png")
    rows = table(tmp_path, f"{above}path;label\r\na.png;0\r\nb.png;1\r\n", encoding)
    assert [found.label for found in load(rows)] == [0, 1]


def test_an_error_names_the_line_as_an_editor_counts_it(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    with pytest.raises(DatasetError, match=r"line 4, got 'sick'"):
        load(table(tmp_path, "\nsep=;\npath;label\na.png;sick\n"))


def test_paths_of_a_table_may_start_above_it_or_where_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "Set-small/images/a.png", "elsewhere/b.png")
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = load(table(tmp_path / "Set-small", "path,label\nSet-small/images/a.png,0\nb.png,1\nmissing.png,1"))
    assert [sample.path.exists() for sample in found] == [True, True, False]
    assert found[2].path == tmp_path / "Set-small" / "missing.png"


@pytest.mark.images
def test_the_radiologists_table_of_bethesda_is_a_data_set(data: Path) -> None:
    found = load(data / "nih" / "films.csv", other="negative")
    assert len(found) == 2176
    assert sum(sample.other for sample in found) == 665
    assert sum(any(box.name == "opacity" for box in sample.boxes) for sample in found) == 312
    assert Counter(sample.view for sample in found).keys() == {"AP", "PA"}
    assert all(sample.age is not None for sample in found)
