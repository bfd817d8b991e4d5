"""`label_files`: NIH's and CheXpert's own label files are data sets as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pneumoscope.data.layouts import load
from pneumoscope.errors import DatasetError
from tests.builders.datasets import touch

pytestmark = pytest.mark.filterwarnings("error")

NIH = """\
Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height],
00000001_000.png,Cardiomegaly|Effusion,0,1,058Y,M,PA,2682,2749
00000001_001.png,Pneumonia|Effusion,1,1,58,M,AP,2500,2048
00000002_000.png,No Finding,0,2,413,F,PA,2500,2048
"""
CHEXPERT = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Edema,Pneumonia,Support Devices"
PLACE = "CheXpert-v1.0-small/train"


def nih(folder: Path) -> Path:
    touch(folder, "images_001/images/00000001_000.png", "images_002/images/00000002_000.png")
    (folder / "Data_Entry_2017_v2020.csv").write_text(NIH, encoding="utf-8")
    (folder / "train_val_list.txt").write_text("00000001_000.png\n00000001_001.png\n", encoding="utf-8")
    (folder / "test_list.txt").write_text("00000002_000.png", encoding="utf-8")
    return folder


def chexpert(folder: Path) -> Path:
    touch(folder, "train/patient00001/study1/view1_frontal.jpg")
    lines = [
        f"{PLACE}/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,1.0",
        f"{PLACE}/patient00001/study1/view2_lateral.jpg,Female,68,Lateral,,1.0,,,",
        f"{PLACE}/patient00002/study1/view1_frontal.jpg,Male,0,Frontal,PA,,1.0,1.0,",
        f"{PLACE}/patient00003/study1/view1_frontal.jpg,Male,40,Frontal,AP,,1.0,-1.0,",
    ]
    (folder / "train.csv").write_text("\n".join([CHEXPERT, *lines]), encoding="utf-8")
    valid = f"{PLACE}/patient00009/study1/view1_frontal.jpg,Male,40,Frontal,AP,0.0,1.0,0.0,0.0".replace(
        "train", "valid"
    )
    (folder / "valid.csv").write_text(f"{CHEXPERT}\n{valid}", encoding="utf-8")
    (folder / "train_cheXbert.csv").write_text("another,table", encoding="utf-8")
    return folder


def test_nihs_label_file_is_read_as_it_is(tmp_path: Path) -> None:
    root = nih(tmp_path)
    for data in (root, root / "Data_Entry_2017_v2020.csv"):
        other, sick, well = load(data, like="nih", other="negative")
        assert (other.label, other.other, other.view, other.age, other.patient) == (0, True, "PA", 58.0, "1")
        assert (sick.label, sick.other, sick.view, sick.patient) == (1, False, "AP", "1")
        assert (well.label, well.other, well.age, well.patient) == (0, False, None, "2")
        assert [sample.split for sample in (other, sick, well)] == ["train", "train", "test"]
        assert other.path == root / "images_001/images/00000001_000.png"
        assert not sick.path.exists()


def test_chexperts_label_files_are_read_as_they_are(tmp_path: Path) -> None:
    told: list[str] = []
    well, sick, other = load(chexpert(tmp_path), like="chexpert", other="negative", tell=told.append)
    assert (well.label, well.view, well.split, well.patient, well.age) == (0, "AP", "train", "patient00001", 68.0)
    assert well.path == tmp_path / "train/patient00001/study1/view1_frontal.jpg"
    assert (sick.label, sick.view, sick.other) == (1, "PA", False)
    assert (other.label, other.split, other.other) == (0, "val", True)
    assert len(told) == 2
    assert any("of lateral views in" in text for text in told)
    assert any("whose label is uncertain in" in text and "(1)" in text for text in told)


def test_without_a_listener_what_is_left_out_is_a_warning(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Left out images") as caught:
        load(chexpert(tmp_path) / "train.csv", like="chexpert", other="skip")
    assert len(caught) == 2


def test_other_findings_are_an_error_here_too(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"line 2, got 'Cardiomegaly\|Effusion'"):
        load(nih(tmp_path), like="nih")


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ("nih", "Expected a file named data_entry_2017.* got none: name the file itself"),
        ("chexpert", "Expected columns path,pneumonia,no finding in .* got path,label"),
        ("mimic", "Expected labels like those of nih or chexpert, got 'mimic'"),
    ],
)
def test_a_data_set_without_such_a_file_is_said_so(tmp_path: Path, like: Any, message: str) -> None:
    (tmp_path / "train.csv").write_text("path,label\na.png,1", encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        load(tmp_path, like=like)


def test_lateral_views_of_a_users_own_table_are_left_out_and_told(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "a.csv").write_text("path,label,view\na.png,1,LL\nb.png,0,PA\nc.png,1,", encoding="utf-8")
    assert [sample.path.name for sample in load(tmp_path / "a.csv", tell=told.append)] == ["b.png", "c.png"]
    assert told == [f"Left out images of lateral views in '{tmp_path / 'a.csv'}' (1)."]
