"""`dataset`: every layout gives the same images, and a name tells the patient."""

from __future__ import annotations

import gzip
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pneumoscope.data.layouts import Box, Sample, labels, load, patient_of
from pneumoscope.data.splits import decode
from pneumoscope.errors import DatasetError
from tests.builders.dicoms import RAMP, image
from tests.conftest import SIZE, drawn_image

pytestmark = pytest.mark.filterwarnings("error")


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def listed(samples: list[Sample], root: Path) -> list[tuple[str, int, str | None]]:
    return [(sample.path.relative_to(root).as_posix(), sample.label, sample.split) for sample in samples]


@pytest.mark.parametrize(
    ("normal", "pneumonia"), [("NORMAL", "PNEUMONIA"), ("normal", "pneumonia"), ("Normal", "pNEUMONIA"), ("0", "1")]
)
def test_class_folders_are_known_in_any_letter_case(tmp_path: Path, normal: str, pneumonia: str) -> None:
    touch(tmp_path, f"{normal}/b.png", f"{normal}/a.png", f"{pneumonia}/deep/c.png", "readme.txt", ".git/x")
    assert listed(load(tmp_path), tmp_path) == [
        (f"{normal}/a.png", 0, None),
        (f"{normal}/b.png", 0, None),
        (f"{pneumonia}/deep/c.png", 1, None),
    ]
    assert load(str(tmp_path)) == load(tmp_path)


@pytest.mark.parametrize(
    ("train", "val", "test"), [("train", "val", "test"), ("Train", "VAL", "Test"), ("training", "validation", "TEST")]
)
def test_the_kaggle_layout_is_known_in_any_letter_case(tmp_path: Path, train: str, val: str, test: str) -> None:
    names = [f"{split}/{kind}/a.jpeg" for split in (train, val, test) for kind in ("NORMAL", "pneumonia")]
    touch(tmp_path, *names)
    expected = [(name, i % 2, ("train", "val", "test")[i // 2]) for i, name in enumerate(names)]
    assert listed(load(tmp_path), tmp_path) == expected


def test_a_layout_may_lack_a_split(tmp_path: Path) -> None:
    touch(tmp_path, "train/NORMAL/a.png", "train/PNEUMONIA/b.png")
    assert [sample.split for sample in load(tmp_path)] == ["train", "train"]


def test_two_folders_of_one_split_or_class_are_both_listed(tmp_path: Path) -> None:
    touch(tmp_path, "val/NORMAL/a.png", "valid/NORMAL/b.png", "Validation/pneumonia/c.png", "Val/PNEUMONIA/d.png")
    touch(tmp_path, "train/normal/e.png", "train/Normal/f.png")
    if len(list(tmp_path.iterdir())) < 5:
        pytest.skip("this file system takes Val and val for one")
    assert Counter(sample.split for sample in load(tmp_path)) == {"train": 2, "val": 4}
    assert sorted(sample.path.name[0] for sample in load(tmp_path)) == list("abcdef")


def test_a_folder_around_the_data_set_does_not_matter(tmp_path: Path) -> None:
    touch(tmp_path, "archive/chest_xray/train/NORMAL/a.png", "archive/chest_xray/train/PNEUMONIA/b.png")
    touch(tmp_path, "archive/__MACOSX/x", "archive/.cache/y", "archive/licence.txt")
    assert [sample.path.name for sample in load(tmp_path)] == ["a.png", "b.png"]


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "NORMAL/a.png", "PNEUMONIA/.hidden")
    with pytest.raises(DatasetError, match=r"Expected images of class PNEUMONIA in '.*PNEUMONIA', got an empty folder"):
        load(tmp_path)


def test_one_class_alone_is_no_data_set_and_the_other_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "NORMAL/a.png", "NORMAL/b.png", "labels.csv")
    with pytest.raises(DatasetError, match=r"both classes in '.*', got 2 of NORMAL and none of PNEUMONIA"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([], "no folders"),
        (["a.png", "b.png"], "no folders"),
        (["cats/a.png", "dogs/b.png"], "cats, dogs"),
        (["all/a.png"], "no folders"),
        (["train/a.txt"], "no images"),
    ],
)
def test_an_unknown_layout_says_what_it_found_and_what_is_expected(
    tmp_path: Path, names: list[str], found: str
) -> None:
    with pytest.raises(DatasetError) as caught:
        load(touch(tmp_path, *names))
    assert found in str(caught.value)
    for expected in ("DATA/NORMAL/*.jpeg", "DATA/train/NORMAL/*.jpeg", "path,label", "pneumoniamnist_224.npz"):
        assert expected in str(caught.value)


def test_what_does_not_exist_or_is_no_data_set_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"Expected a data set at '.*nowhere', which does not exist"):
        load(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"Got the file '.*image\.png', which is no data set\. Expected one of"):
        load(touch(tmp_path, "image.png") / "image.png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_or_table_that_may_not_be_opened_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    touch(tmp_path, "images.csv")
    (tmp_path / "images.csv").chmod(0)
    for name in ("closed", "images.csv"):
        with pytest.raises(DatasetError, match=f"{name}' cannot be read .*check its permissions"):
            load(tmp_path / name)


def table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "images.CSV"
    path.write_bytes(text.encode(encoding))
    return path


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


def archive(folder: Path, **arrays: Any) -> Path:
    path = folder / "pneumoniamnist.npz"
    np.savez(path, **arrays)
    return path


def test_an_archive_of_medmnist_is_a_data_set(tmp_path: Path) -> None:
    arrays = {split: np.stack([drawn_image(i % 2, seed) for i in range(4)]) for seed, split in enumerate("ab")}
    path = archive(
        tmp_path,
        test_images=arrays["b"],
        test_labels=np.array([[0], [1], [0], [1]], dtype=np.uint8),
        train_images=arrays["a"],
        train_labels=np.array([[0], [1], [0], [1]], dtype=np.uint8),
    )
    samples = load(path)
    assert [sample.split for sample in samples] == ["train"] * 4 + ["test"] * 4
    assert labels(samples).tolist() == [0, 1] * 4
    assert len({sample.patient for sample in samples}) == 8
    assert samples[5].path == Path(f"{path}#test/1")
    decoded = decode(samples, SIZE)
    assert np.abs(decoded.pixels[4:] - arrays["b"] / 255).max() < 0.001


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train_images": np.zeros((2, 8, 8))}, "got one that cannot be read .*train_labels"),
        ({"train_images": np.zeros((2, 8, 8)), "train_labels": np.zeros(3)}, "got one that cannot be read"),
        ({"train_images": np.zeros((2, 8, 8)), "train_labels": np.array([0, 0.5])}, "labels 0 and 1"),
        ({"fold_images": np.zeros((2, 8, 8)), "fold_labels": np.array([0, 1])}, "train, val and test .*fold_images"),
        ({"train_images": np.zeros((2, 8, 8)), "train_labels": np.array([0, 8])}, "labels 0 and 1 .*PneumoniaMNIST"),
        ({"train_images": np.zeros((2, 8, 8)), "train_labels": np.zeros(2)}, "got 2 of NORMAL and none of PNEUMONIA"),
        ({"train_images": np.array([None]), "train_labels": np.zeros(1)}, "got one that cannot be read .*pickle"),
        ({"images": np.zeros(2)}, "Got no images"),
    ],
)
def test_an_archive_of_something_else_is_said_so(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load(archive(tmp_path, **arrays))


def test_a_damaged_archive_is_said_so(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    path = archive(tmp_path, train_images=images, train_labels=np.arange(20) % 2)
    assert len(load(path)) == 20
    whole = path.read_bytes()
    for data in (b"", b"no archive", whole[: len(whole) // 2], whole[:500] + bytes(500) + whole[1000:]):
        path.write_bytes(data)
        with pytest.raises(DatasetError, match="got one that cannot be read"):
            load(path)


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


def test_an_image_that_names_no_patient_is_a_patient_of_its_own(tmp_path: Path) -> None:
    samples = load(touch(tmp_path, "NORMAL/a.png", "PNEUMONIA/a.png", "PNEUMONIA/b.png"))
    assert len({sample.patient for sample in samples}) == 3


def test_dicom_images_of_one_patient_belong_together_and_nothing_tells_whose_they_are(tmp_path: Path) -> None:
    for label, identities in (("NORMAL", ("A", "B")), ("PNEUMONIA", ("A", ""))):
        (tmp_path / label).mkdir()
        for i, identity in enumerate(identities):
            (tmp_path / label / f"IM{i}").write_bytes(image(RAMP, PatientID=identity))
    first, second, third, unknown = (found.patient for found in load(tmp_path))
    assert first == third == f"patient of {tmp_path / 'NORMAL' / 'IM0'}"
    assert len({first, second, unknown}) == 3
    assert unknown == str(tmp_path / "PNEUMONIA" / "IM1")


def test_a_normal_image_has_no_subtype_whatever_its_name_says(tmp_path: Path) -> None:
    samples = load(touch(tmp_path, "NORMAL/person1_virus_6.jpeg", "PNEUMONIA/person1_virus_7.jpeg"))
    assert [(sample.patient, sample.subtype) for sample in samples] == [
        ("person1_virus", None),
        ("person1_virus", "virus"),
    ]


def test_a_class_of_something_else_is_not_left_out_in_silence(tmp_path: Path) -> None:
    touch(tmp_path, "NORMAL/a.png", "PNEUMONIA/b.png", "COVID/c.png")
    with pytest.raises(DatasetError, match="COVID"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["Fold1/NORMAL/x.png"], ["'Fold1'"]),
        (["test/x.png"], ["'test'"]),
        (["train/COVID/images/x.png"], ["'train/COVID'"]),
        (["Inspection/deep/down/x.dcm", "more/x.tif.gz"], ["'Inspection'", "'more'"]),
        (["x.png"], ["the folder itself"]),
        (["train/NORMAL/pneumonia/x.png"], ["'train/NORMAL/pneumonia'"]),
        (["train/NORMAL/test/x.png"], ["'train/NORMAL/test'"]),
        (["train/val/NORMAL/x.png"], ["'train/val'"]),
    ],
)
def test_images_outside_the_known_folders_are_named_and_never_left_out(
    tmp_path: Path, names: list[str], named: list[str]
) -> None:
    touch(tmp_path, "train/NORMAL/a.png", "train/PNEUMONIA/b.png", "notes/readme.txt", "labels.csv", *names)
    with pytest.raises(DatasetError) as caught:
        load(tmp_path, complete=False)
    assert all(f" {name}" in str(caught.value) for name in named)
    assert "'notes'" not in str(caught.value)


def test_an_unnamed_dicom_file_outside_the_known_folders_is_seen_by_its_mark(tmp_path: Path) -> None:
    touch(tmp_path, "NORMAL/a.png", "PNEUMONIA/b.png", "more/IM0", "texts/README")
    (tmp_path / "more/IM0").write_bytes(image(RAMP))
    with pytest.raises(DatasetError, match=r"got images in 'more' as well"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["a.jpe", "a.jfif", "a", "1.2.840.7", "export.img", "a.png.bak"])
def test_an_image_outside_the_known_folders_is_seen_whatever_its_name(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "NORMAL/a.png", "PNEUMONIA/b.png", f"more/deep/{name}", "texts/README")
    Image.new("L", (8, 8)).save(tmp_path / "more/deep" / name, "JPEG")
    with pytest.raises(DatasetError, match=r"got images in 'more' as well"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.heic", b"\0\0\0\x18ftypheic"),
        ("photo", b"\0\0\0\x18ftypmif1"),
        ("photo", b"\0\0\0\x18ftyphevx"),
        ("a.nii", bytes(344) + b"n+1\0"),
        ("volume", bytes(344) + b"n+1\0"),
        ("volume", (540).to_bytes(4, "little") + b"n+2\0\r\n\x1a\n"),
        ("a.nii.gz", gzip.compress(bytes(344) + b"n+1\0")),
        ("volume.gz", gzip.compress(bytes(344) + b"n+1\0")),
        ("image.gz", gzip.compress(image(RAMP))),
        ("a.mha", b"ObjectType = Image\n"),
        ("header", b"NDims = 3\n"),
        ("a.nrrd", b"NRRD0004\n"),
        ("array", b"\x93NUMPY\1\0"),
        ("a.npy", b""),
        ("a.npz", b""),
        ("arrays", b"PK\3\4" + bytes(22) + b"\x0a\0\0\0images.npy"),
        ("IM1", image(RAMP)[132:]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_image_that_cannot_be_read_is_not_left_out_in_silence_either(
    tmp_path: Path, name: str, content: bytes
) -> None:
    touch(tmp_path, "NORMAL/a.png", "PNEUMONIA/b.png", f"more/deep/{name}", "texts/README")
    (tmp_path / "more/deep" / name).write_bytes(content)
    with pytest.raises(DatasetError, match=r"got images in 'more' as well"):
        load(tmp_path)


def test_texts_beside_the_known_folders_are_no_images(tmp_path: Path) -> None:
    touch(tmp_path, "NORMAL/a.png", "PNEUMONIA/b.png", "texts/README", "texts/a.txt", "texts/b.md")
    (tmp_path / "texts/README").write_text("P1 and P2 are the pictures of the first page.")
    (tmp_path / "texts/a.txt").write_text("BMI and age of each patient are in another table.")
    (tmp_path / "texts/b.md").write_text("")
    (tmp_path / "texts/notes.txt.gz").write_bytes(gzip.compress(b"BMI and age of each patient"))
    (tmp_path / "texts/papers.zip").write_bytes(b"PK\3\4" + bytes(22) + b"\x09\0\0\0paper.pdf")
    (tmp_path / "texts/paper.pdf").write_bytes(b"%PDF-1.7")
    assert len(load(tmp_path)) == 2


@pytest.mark.parametrize(
    "masks", ["masks", "Mask", "lung masks", "infection_masks", "ManualMask", "segmentations", "ground-truth", "маски"]
)
def test_masks_in_a_class_are_left_out_with_a_sentence(tmp_path: Path, masks: str) -> None:
    touch(tmp_path, "NORMAL/images/a.png", "PNEUMONIA/images/b.png")
    touch(tmp_path, f"NORMAL/{masks}/a.png", f"NORMAL/{masks}/deep/c.png", f"PNEUMONIA/{masks}/b.png")
    told: list[str] = []
    samples = load(tmp_path, tell=told.append)
    assert [sample.path.parent.name for sample in samples] == ["images", "images"]
    assert told == [f"Left out of '{tmp_path}': masks in 'NORMAL/{masks}' (2), 'PNEUMONIA/{masks}' (1)."]


def test_masks_beside_the_classes_are_left_out_with_a_sentence(tmp_path: Path) -> None:
    touch(tmp_path, "train/NORMAL/a.png", "train/PNEUMONIA/b.png", "train/masks/a.png", "masks/NORMAL/c.png")
    touch(tmp_path, "texts/masks/readme.txt")
    told: list[str] = []
    assert len(load(tmp_path, other="negative", tell=told.append)) == 2
    assert told == [f"Left out of '{tmp_path}': masks in 'masks' (1), 'train/masks' (1)."]


def test_a_class_of_masks_alone_is_empty(tmp_path: Path) -> None:
    touch(tmp_path, "NORMAL/masks/a.png", "PNEUMONIA/images/b.png")
    with pytest.raises(DatasetError, match=r"Expected images of class NORMAL in '.*NORMAL'"):
        load(tmp_path)


def test_a_folder_with_mask_elsewhere_in_its_name_holds_none(tmp_path: Path) -> None:
    touch(tmp_path, "NORMAL/unmasked/a.png", "NORMAL/mask worn/b.png", "PNEUMONIA/damask rose/c.png")
    assert len(load(tmp_path)) == 3


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


def test_a_split_may_lie_within_its_class(tmp_path: Path) -> None:
    touch(tmp_path, "NORMAL/train/a.png", "NORMAL/test/b.png", "PNEUMONIA/train/c.png", "PNEUMONIA/test/d.png")
    assert [(s.path.name, s.label, s.split) for s in load(tmp_path)] == [
        ("a.png", 0, "train"),
        ("c.png", 1, "train"),
        ("b.png", 0, "test"),
        ("d.png", 1, "test"),
    ]


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


def test_other_classes_are_an_error_or_negatives_or_skipped(tmp_path: Path) -> None:
    lines = "path,label\na.png,NORMAL\nb.png,PNEUMONIA\nc.png,Effusion"
    touch(tmp_path, "set/NORMAL/a.png", "set/PNEUMONIA/b.png", "set/Effusion/images/c.png")
    for data in (table(tmp_path, lines), tmp_path / "set"):
        with pytest.raises(DatasetError, match=r"Effusion'.* say which class .* name is, or take other"):
            load(data)
        negative = sorted(load(data, other="negative"), key=lambda sample: sample.path.name)
        assert [(sample.label, sample.other) for sample in negative] == [(0, False), (1, False), (0, True)]
        skipped = load(data, other="skip")
        assert [(sample.path.name, sample.other) for sample in skipped] == [("a.png", False), ("b.png", False)]


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


def test_views_and_ages_are_read_as_people_write_them(tmp_path: Path) -> None:
    text = "path;label;view;age\na.png;0;Posteroanterior;12,5\nb.png;1;antero-posterior;7\nc.png;0;L;8\n"
    found = load(table(tmp_path, text), tell=lambda _: None)
    assert [(sample.view, sample.age) for sample in found] == [("PA", 12.5), ("AP", 7.0)]


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


def test_several_data_sets_are_several_sites(tmp_path: Path) -> None:
    touch(tmp_path, "a/chest/NORMAL/x.png", "b/chest/PNEUMONIA/person1_virus_1.jpeg")
    lines = "path,label,patient,site\nx.png,0,7,\ny.png,1,7,Ward 3\nperson1_virus_2.png,1,,"
    rows = table(tmp_path / "b", lines)
    found = load([tmp_path / "a/chest", tmp_path / "b/chest", rows])
    assert [sample.site for sample in found] == ["a/chest", "b/chest", "b/images", "Ward 3", "b/images"]
    x, named, seven, other, again = (sample.patient for sample in found)
    assert named == again == "person1_virus"
    assert len({x, seven, other}) == 3  # numbers of two hospitals are equal by chance
    assert load([tmp_path / "a/chest", rows])[0].site == "chest"


def test_a_data_set_given_twice_is_said_so(tmp_path: Path) -> None:
    touch(tmp_path, "NORMAL/x.png", "PNEUMONIA/y.png")
    with pytest.raises(DatasetError, match="each data set once, got"):
        load([tmp_path, tmp_path / "NORMAL" / ".."])


def test_a_data_set_is_named_after_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "our.clinic/inner/NORMAL/x.png", "our.clinic/inner/PNEUMONIA/y.png")
    assert {sample.site for sample in load(tmp_path / "our.clinic")} == {"our.clinic"}
    touch(tmp_path, "ward/train/NORMAL/x.png", "ward/train/PNEUMONIA/y.png", "ward/test/NORMAL/z.png")
    assert {sample.site for sample in load(tmp_path / "ward/train")} == {"ward"}
    both = load([tmp_path / "ward/train", tmp_path / "ward/test"])
    assert {sample.site for sample in both} == {"train", "test"}
    monkeypatch.chdir(tmp_path / "our.clinic")
    assert {sample.site for sample in load(".")} == {"our.clinic"}


@pytest.mark.images
def test_the_radiologists_table_of_bethesda_is_a_data_set(data: Path) -> None:
    found = load(data / "nih" / "films.csv", other="negative")
    assert len(found) == 2176
    assert sum(sample.other for sample in found) == 665
    assert sum(any(box.name == "opacity" for box in sample.boxes) for sample in found) == 312
    assert Counter(sample.view for sample in found).keys() == {"AP", "PA"}
    assert all(sample.age is not None for sample in found)
