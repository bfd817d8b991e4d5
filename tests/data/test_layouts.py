"""`layouts`: the same data set is found in each of the layouts that people keep it in."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pneumoscope.data.layouts import Sample, labels, load
from pneumoscope.data.splits import decode
from pneumoscope.errors import DatasetError
from tests.builders.datasets import table, touch
from tests.builders.dicoms import RAMP, image
from tests.conftest import SIZE, drawn_image

pytestmark = pytest.mark.filterwarnings("error")


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
    with pytest.raises(DatasetError, match=r"Got the file '.*image\.png', which is not a data set\. Expected one of"):
        load(touch(tmp_path, "image.png") / "image.png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_or_table_that_may_not_be_opened_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    touch(tmp_path, "images.csv")
    (tmp_path / "images.csv").chmod(0)
    for name in ("closed", "images.csv"):
        with pytest.raises(DatasetError, match=f"{name}' cannot be read .*check its permissions"):
            load(tmp_path / name)


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


def test_a_split_may_lie_within_its_class(tmp_path: Path) -> None:
    touch(tmp_path, "NORMAL/train/a.png", "NORMAL/test/b.png", "PNEUMONIA/train/c.png", "PNEUMONIA/test/d.png")
    assert [(s.path.name, s.label, s.split) for s in load(tmp_path)] == [
        ("a.png", 0, "train"),
        ("c.png", 1, "train"),
        ("b.png", 0, "test"),
        ("d.png", 1, "test"),
    ]


def test_other_classes_are_an_error_or_negatives_or_skipped(tmp_path: Path) -> None:
    lines = "path,label\na.png,NORMAL\nb.png,PNEUMONIA\nc.png,Effusion"
    touch(tmp_path, "set/NORMAL/a.png", "set/PNEUMONIA/b.png", "set/Effusion/images/c.png")
    for data in (table(tmp_path, lines), tmp_path / "set"):
        with pytest.raises(DatasetError, match=r"Effusion'.* say which class .* name means, or treat other"):
            load(data)
        negative = sorted(load(data, other="negative"), key=lambda sample: sample.path.name)
        assert [(sample.label, sample.other) for sample in negative] == [(0, False), (1, False), (0, True)]
        skipped = load(data, other="skip")
        assert [(sample.path.name, sample.other) for sample in skipped] == [("a.png", False), ("b.png", False)]


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
