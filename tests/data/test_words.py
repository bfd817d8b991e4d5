"""`words`: classes, splits and views have many names, and a user's own take their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pneumoscope.data.layouts import load, patient_of
from pneumoscope.errors import DatasetError
from tests.builders.datasets import table, touch

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize(
    ("name", "patient", "subtype"),
    [
        ("person1_bacteria_1.jpeg", "person1_bacteria", "bacteria"),
        ("person1_bacteria_2.jpeg", "person1_bacteria", "bacteria"),
        ("person1_virus_6.jpeg", "person1_virus", "virus"),
        ("person1946_bacteria_4874.jpeg", "person1946_bacteria", "bacteria"),
        ("IM-0115-0001.jpeg", "IM-0115", None),
        ("IM-0656-0001-0002.jpeg", "IM-0656", None),
        ("NORMAL2-IM-0587-0001.jpeg", "NORMAL2-IM-0587", None),
        ("NORMAL2-IM-1440-0001.jpeg", "NORMAL2-IM-1440", None),
        ("BACTERIA-1008087-0001.jpeg", "BACTERIA-1008087", "bacteria"),
        ("VIRUS-1005021-0002.jpeg", "VIRUS-1005021", "virus"),
        ("NORMAL-1003233-0001.jpeg", "NORMAL-1003233", None),
        ("person1.jpeg", None, None),
        ("image.png", None, None),
        ("", None, None),
    ],
)
def test_kermanys_names_tell_patient_and_subtype(name: str, patient: str | None, subtype: str | None) -> None:
    assert patient_of(name) == (patient, subtype)


@pytest.mark.parametrize(
    ("split", "word"),
    [
        *[
            ("train", word)
            for word in ("Training", "trainset", "treino", "eğitim", "обучение", "训练集", "学習", "train_data")
        ],
        *[("val", word) for word in ("dev", "validación", "doğrulama", "валидация", "验证", "検証", "walidacja")],
        *[("test", word) for word in ("Testing", "TEST_SET", "eval", "testowy", "тест", "测试集", "テスト")],
    ],
)
def test_splits_have_many_names(tmp_path: Path, split: str, word: str) -> None:
    touch(tmp_path, f"{word}/NORMAL/a.png", f"{word}/PNEUMONIA/b.png")
    assert {found.split for found in load(tmp_path)} == {split}


@pytest.mark.parametrize(
    ("normal", "pneumonia", "subtype"),
    [
        ("No_Finding", "Lungenentzündung", None),
        ("healthy", "Viral Pneumonia", "virus"),
        ("normale", "polmonite", None),
        ("正常", "肺炎", None),
        ("Sağlıklı", "Zatürre", None),
        ("zdrowi", "zapalenie płuc", None),
        ("terveet", "keuhkokuume", None),
        ("нормальные", "вирусная пневмония", "virus"),
        ("健常", "細菌性肺炎", "bacteria"),
        ("sin neumonía", "neumonía bacteriana", "bacteria"),
        ("gezond", "virale Pneumonie", "virus"),
        ("0_normal", "1_pneumonia", None),
        ("NORMAL", "BACTERIA", "bacteria"),
        ("not pneumonia", "VIRUS", "virus"),
        ("NORMAL", "pneumonia-bacterial", "bacteria"),
    ],
)
def test_classes_have_many_names(tmp_path: Path, normal: str, pneumonia: str, subtype: str | None) -> None:
    touch(tmp_path, f"{normal}/images/a.png", f"{pneumonia}/images/b.png")
    found = sorted(load(tmp_path), key=lambda sample: sample.label)
    assert [(sample.label, sample.subtype) for sample in found] == [(0, None), (1, subtype)]


def test_a_users_own_words_take_the_place_of_the_usual_ones(tmp_path: Path) -> None:
    touch(tmp_path, "Fine/a.png", "Lung_Opacity/images/b.png")
    own = {"fine": "normal", "lung opacity": "pneumonia"}
    assert [sample.label for sample in load(tmp_path, classes=own)] == [0, 1]
    touch(tmp_path, "Viral Pneumonia/c.png")
    with pytest.raises(DatasetError, match="'Viral Pneumonia'"):
        load(tmp_path, classes=own)
    numbers = table(tmp_path, "path,label\na.png,0\nb.png,1\nc.png,2")
    with pytest.raises(DatasetError, match="line 3, got '1'"):
        load(numbers, classes={"0": "normal", "2": "pneumonia"})


@pytest.mark.parametrize(
    ("classes", "other", "message"),
    [
        ({"a": "sick"}, None, "Expected normal or pneumonia as the class of 'a', got 'sick'"),
        ({"a": "normal", "A": "pneumonia"}, None, "each name in one class, got 'a' in both"),
        (None, "positive", "Expected negative or skip .*, got 'positive'"),
    ],
)
def test_a_choice_that_there_is_not_is_said_so(
    tmp_path: Path, classes: dict[str, str] | None, other: Any, message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        load(touch(tmp_path, "NORMAL/a.png", "PNEUMONIA/b.png"), classes=classes, other=other)


def test_views_and_ages_are_read_as_people_write_them(tmp_path: Path) -> None:
    text = "path;label;view;age\na.png;0;Posteroanterior;12,5\nb.png;1;antero-posterior;7\nc.png;0;L;8\n"
    found = load(table(tmp_path, text), tell=lambda _: None)
    assert [(sample.view, sample.age) for sample in found] == [("PA", 12.5), ("AP", 7.0)]
