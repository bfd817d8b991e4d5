"""`folders`: images outside the known folders are named, and masks are no samples."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from PIL import Image

from pneumoscope.data.layouts import load
from pneumoscope.errors import DatasetError
from tests.builders.datasets import touch
from tests.builders.dicoms import RAMP, image

pytestmark = pytest.mark.filterwarnings("error")


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
    assert told == [f"Left out masks in '{tmp_path}': 'NORMAL/{masks}' (2), 'PNEUMONIA/{masks}' (1)."]


def test_masks_beside_the_classes_are_left_out_with_a_sentence(tmp_path: Path) -> None:
    touch(tmp_path, "train/NORMAL/a.png", "train/PNEUMONIA/b.png", "train/masks/a.png", "masks/NORMAL/c.png")
    touch(tmp_path, "texts/masks/readme.txt")
    told: list[str] = []
    assert len(load(tmp_path, other="negative", tell=told.append)) == 2
    assert told == [f"Left out masks in '{tmp_path}': 'masks' (1), 'train/masks' (1)."]


def test_a_class_of_masks_alone_is_empty(tmp_path: Path) -> None:
    touch(tmp_path, "NORMAL/masks/a.png", "PNEUMONIA/images/b.png")
    with pytest.raises(DatasetError, match=r"Expected images of class NORMAL in '.*NORMAL'"):
        load(tmp_path)


def test_a_folder_with_mask_elsewhere_in_its_name_holds_none(tmp_path: Path) -> None:
    touch(tmp_path, "NORMAL/unmasked/a.png", "NORMAL/mask worn/b.png", "PNEUMONIA/damask rose/c.png")
    assert len(load(tmp_path)) == 3
