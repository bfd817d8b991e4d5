"""The audit: planted faults are found, each with its images, and a clean data set gives no alarm."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

from pneumoscope import Detector
from pneumoscope.auditing import duplicates, shortcuts
from pneumoscope.auditing.audit import audit
from pneumoscope.auditing.result import Audit
from pneumoscope.cli.main import app
from pneumoscope.data import layouts
from pneumoscope.data.layouts import LABELS, Sample
from pneumoscope.errors import NotAChestRadiographError, PneumoscopeError
from pneumoscope.imaging.radiograph import Radiograph
from pneumoscope.metrics import metrics
from pneumoscope.reporting import audit_page
from tests.cli.test_main import run
from tests.reporting.test_evaluation_page import Page

Pixels = NDArray[np.uint8]

NUMBERS = itertools.count()


def chest(seed: int, size: int = 96) -> Pixels:
    """Draw a chest of its own: two lungs in a body, with ribs and shadows that no other seed has."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    image = 0.65 + 0.12 * np.sin((14 + rng.uniform(-3, 3)) * (y + rng.uniform(0, 1)) + 3 * x**2)
    for side in (-0.45, 0.45):
        image[((x - side - rng.uniform(-0.1, 0.1)) / 0.3) ** 2 + (y / rng.uniform(0.5, 0.8)) ** 2 < 1] -= 0.35
    for share in (0.03, 0.06):
        shadows = gaussian_filter(rng.normal(size=image.shape), share * size)
        image += 0.12 * shadows / shadows.std()
    return np.asarray(np.clip(image, 0.06, 0.94) * 255, dtype=np.uint8)


def sample(image: Pixels, label: int = 0, split: str | None = None, patient: str | None = None) -> Sample:
    number = next(NUMBERS)
    return Sample(Path(f"set.npz#image/{number}"), label, patient or f"patient{number}", split, pixels=image)


def clean(n: int = 40) -> list[Sample]:
    """Draw `n` images of each class in each split, each of a patient of its own."""
    return [
        sample(chest(i), i % 2, split)
        for i, split in enumerate(split for split in ("train", "val", "test") for _ in range(2 * n))
    ]


def kinds(found: Audit) -> dict[str, str]:
    return {fault.kind: fault.severity for fault in found.faults}


def save(image: Pixels, path: Path, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)
    return path


def jpeg(image: Pixels, quality: int) -> Pixels:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=quality)
    return np.asarray(Image.open(data))


def resized(image: Pixels, share: float) -> Pixels:
    return np.asarray(Image.fromarray(image).resize([round(share * side) for side in image.shape[::-1]]))


def turned(image: Pixels, degrees: float) -> Pixels:
    return np.asarray(Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR))


def cropped(image: Pixels, share: float) -> Pixels:
    rows, columns = (round(share * side) for side in image.shape)
    return image[rows : image.shape[0] - rows, columns : image.shape[1] - columns]


def gamma(image: Pixels, exponent: float) -> Pixels:
    return np.asarray(255 * (image / 255) ** exponent, dtype=np.uint8)


COPIES: dict[str, Callable[[Pixels], Pixels]] = {
    "JPEG quality 40": lambda image: jpeg(image, 40),
    "resized to 70 %": lambda image: resized(image, 0.7),
    "cropped by 3 % at each side": lambda image: cropped(image, 0.03),
    "cropped at one corner": lambda image: image[image.shape[0] // 30 :, image.shape[1] // 30 :],
    "brightened": lambda image: np.asarray(np.minimum(image * 1.2, 255), dtype=np.uint8),
    "gamma 0.7": lambda image: gamma(image, 0.7),
    "gamma 1.4": lambda image: gamma(image, 1.4),
    "turned by 2 degrees": lambda image: turned(image, 2),
    "mirrored": lambda image: image[:, ::-1],
    "mirrored, cropped and re-encoded": lambda image: jpeg(cropped(image, 0.03)[:, ::-1], 60),
    "padded to a square": lambda image: np.pad(image, ((20, 20), (0, 0))),
    "in a white frame": lambda image: np.pad(image, 12, constant_values=255),
}


@pytest.fixture(scope="module")
def unspoilt() -> list[Sample]:
    return clean()


def test_a_clean_data_set_gives_no_finding(unspoilt: list[Sample]) -> None:
    found = audit(unspoilt)
    assert found.faults == []
    assert found.compared == 240
    assert not found.identical
    assert not found.near


def test_images_that_cannot_be_read_are_counted_by_class_and_split(unspoilt: list[Sample], tmp_path: Path) -> None:
    broken = [Sample(tmp_path / f"{i}.png", i % 2, f"broken{i}", "test") for i in range(3)]
    broken[0].path.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    broken[1].path.write_bytes(b"")
    found = audit([*unspoilt, *broken])
    assert kinds(found) == {"unreadable": "warning"}
    assert [(sample.path, error.kind) for sample, error in found.failures] == [
        (broken[0].path, "unreadable"),
        (broken[1].path, "unreadable"),
        (broken[2].path, "not_found"),
    ]
    assert [found.part("test", label).unreadable for label in (0, 1)] == [2, 1]
    assert found.part("train", 0).unreadable == 0
    assert "2 of 42 NORMAL in test, 1 of 41 PNEUMONIA in test" in found.faults[0].text
    assert str(metrics.wilson(3, 243)) in found.faults[0].text


def test_images_are_identical_whatever_their_names_and_formats(tmp_path: Path) -> None:
    paths = [save(chest(0), tmp_path / name) for name in ("a.png", "b.tiff", "folder/c.png")]
    images = [Sample(path, 0, "one patient") for path in paths]
    found = audit([*images, sample(chest(1)), sample(chest(2), 1)])
    assert [group.samples for group in found.identical] == [tuple(images)]
    assert found.identical[0].pairs == 3
    assert kinds(found)["identical"] == "warning"
    assert found.near == []


@pytest.mark.parametrize(
    ("change", "kind", "severity", "across"),
    [
        ({}, "identical", "warning", ()),
        ({"patient": "another"}, "identical", "warning", ("patients",)),
        ({"label": 1}, "identical_across_labels", "critical", ("labels",)),
        ({"split": "test", "patient": "another"}, "identical_across_splits", "critical", ("splits", "patients")),
    ],
)
def test_identical_images_are_the_worse_the_more_they_differ(
    unspoilt: list[Sample], change: dict[str, Any], kind: str, severity: str, across: tuple[str, ...]
) -> None:
    found = audit([*unspoilt, replace(unspoilt[0], path=Path("again"), **change)])
    assert kinds(found) | {"patient_across_labels": "note"} == {kind: severity, "patient_across_labels": "note"}
    assert [group.across for group in found.identical] == [across]


def test_an_image_in_16_bits_is_identical_to_the_same_in_8(tmp_path: Path) -> None:
    image = chest(0)
    save(image, tmp_path / "8.png")
    Image.fromarray(image.astype(np.uint16) * 257).save(tmp_path / "16.png")
    images = [Sample(tmp_path / name, 0, name) for name in ("8.png", "16.png")]
    assert [group.samples for group in audit(images).identical] == [tuple(images)]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_every_set_of_identical_images_is_one_group(shown: list[int]) -> None:
    found = audit([sample(np.full((6, 4 + i), 40 * i, dtype=np.uint8), label=i % 2) for i in shown])
    expected = sorted(n for n in (shown.count(i) for i in range(6)) if n > 1)
    assert sorted(len(group.samples) for group in found.identical) == expected
    assert sum(group.pairs for group in found.identical) == sum(n * (n - 1) // 2 for n in expected)


def test_images_of_another_shape_are_not_identical_though_their_bytes_are() -> None:
    assert audit([sample(np.zeros((2, 6), dtype=np.uint8)), sample(np.zeros((3, 4), dtype=np.uint8))]).identical == []


@pytest.mark.parametrize("copy", COPIES)
def test_copies_are_found_and_other_images_are_not(copy: str) -> None:
    samples = [sample(chest(i, 200), i % 2) for i in range(12)]
    planted = [sample(COPIES[copy](np.asarray(original.pixels)), original.label) for original in samples[:6]]
    found = audit([*samples, *planted])
    assert found.identical == []
    expected = [(original.path, copied.path) for original, copied in zip(samples, planted, strict=False)]
    assert sorted(tuple(sample.path for sample in group.samples) for group in found.near) == sorted(expected)
    assert all(link.mirrored == ("mirrored" in copy) for group in found.near for link in group.links)
    assert all(duplicates.LIMIT <= group.alike <= 1 for group in found.near)


def test_near_duplicates_across_splits_and_labels_are_critical(unspoilt: list[Sample]) -> None:
    original = unspoilt[0]
    again = sample(jpeg(np.asarray(original.pixels), 40), label=1, split="test")
    found = audit([*unspoilt, again])
    assert kinds(found) == {
        "near_duplicates_across_labels": "critical",
        "near_duplicates_across_splits": "critical",
    }
    assert found.near[0].samples == (original, again)
    assert found.near[0].across == ("labels", "splits", "patients")


def test_copies_of_copies_are_one_group_and_identical_images_join_it() -> None:
    original = chest(0, 200)
    images = [sample(image) for image in (original, jpeg(original, 50), cropped(original, 0.03), original, chest(1))]
    found = audit(images)
    assert [group.samples for group in found.near] == [tuple(images[:4])]
    assert [group.samples for group in found.identical] == [(images[0], images[3])]


def test_blank_and_tiny_images_are_no_copies_of_each_other() -> None:
    images = [sample(np.full((100 + i, 100), 9, dtype=np.uint8)) for i in range(3)]
    images += [sample(chest(i, 28), label=1) for i in range(3)]
    found = audit(images)
    assert found.near == []
    assert found.compared == 0
    assert kinds(found)["not_compared"] == "note"


def test_a_patient_in_two_splits_is_named_by_images(unspoilt: list[Sample]) -> None:
    images = [replace(image, patient="p") if i in (0, 100) else image for i, image in enumerate(unspoilt)]
    found = audit(images)
    assert kinds(found) == {"patient_across_splits": "critical"}
    assert found.patients_across_splits == [[images[0], images[100]]]


def test_a_patient_with_both_labels_is_noted(unspoilt: list[Sample]) -> None:
    images = [replace(image, patient="p") if i < 2 else image for i, image in enumerate(unspoilt)]
    found = audit(images)
    assert kinds(found) == {"patient_across_labels": "note"}
    assert found.part("train", 0).patients == 40


def test_patients_are_counted_by_class_and_split(unspoilt: list[Sample]) -> None:
    samples = [
        replace(sample, patient=f"p{i % 8}") if sample.split == "train" else sample for i, sample in enumerate(unspoilt)
    ]
    part = audit(samples).part("train", 1)
    assert (part.images, part.patients, part.most) == (40, 4, 10)


def test_a_split_of_8_and_8_is_said_to_mean_nothing(unspoilt: list[Sample]) -> None:
    val = [sample for sample in unspoilt if sample.split == "val"]
    found = audit([sample for sample in unspoilt if sample.split != "val"] + val[:16])
    assert kinds(found) == {"small_split": "critical"}
    assert "val has 8 NORMAL and 8 PNEUMONIA" in found.faults[0].text
    assert "between 0.56 and 0.98" in found.faults[0].text
    assert found.faults[0].count == 8


@pytest.mark.parametrize(("n", "severity"), [(36, "warning"), (37, None)])
def test_a_split_is_small_below_37_images_of_a_class(unspoilt: list[Sample], n: int, severity: str | None) -> None:
    test = [sample for sample in unspoilt if sample.split == "test"]
    found = audit([sample for sample in unspoilt if sample.split != "test"] + test[: 2 * n])
    assert kinds(found).get("small_split") == severity


def test_a_missing_class_is_critical(unspoilt: list[Sample]) -> None:
    found = audit([sample for sample in unspoilt if sample.label])
    assert kinds(found) == {"class_missing": "critical"}
    assert found.faults[0].text == "No image is NORMAL."
    assert {shortcut.grade for shortcut in found.shortcuts} == {"one class only", "constant"}


def test_a_class_that_a_split_lacks_is_critical(unspoilt: list[Sample]) -> None:
    found = audit([sample for sample in unspoilt if sample.split != "test" or sample.label])
    assert kinds(found) == {"class_missing_in_split": "critical"}
    assert found.faults[0].text == "No image is NORMAL in test."


@pytest.mark.parametrize(("normal", "severity"), [(60, None), (20, "note"), (8, "warning")])
def test_an_imbalance_comes_with_what_always_saying_one_class_reaches(normal: int, severity: str | None) -> None:
    images = [sample(chest(i), int(i >= normal)) for i in range(normal + 100)]
    found = audit(images)
    assert kinds(found).get("imbalance") == severity
    if severity:
        assert str(metrics.wilson(100, normal + 100)) in "".join(fault.text for fault in found.faults)


def files(folder: Path, made: Callable[[int, int], tuple[Pixels, str, dict[str, Any]]], n: int = 30) -> list[Sample]:
    """Save `n` images a class; `made(i, label)` gives image, suffix and what else Pillow is to know."""
    images = []
    for i in range(2 * n):
        image, suffix, options = made(i, i % 2)
        path = save(image, folder / f"{i}{suffix}", **options)
        images.append(Sample(path, i % 2, f"p{i}"))
    return images


def framed(image: Pixels, width: int, tone: int) -> Pixels:
    return np.pad(image, width, constant_values=tone)


def leveled(image: Pixels, mean: float, deviation: float) -> Pixels:
    values = (image - image.mean()) / image.std()
    return np.asarray(np.clip(values * deviation + mean, 20, 235), dtype=np.uint8)


PLANTED: dict[str, tuple[Callable[[int, int], tuple[Pixels, str, dict[str, Any]]], str]] = {
    "size": (lambda i, y: (chest(i, 64 + i % 7 + 12 * y), ".png", {}), "pneumonias are larger"),
    "aspect": (
        lambda i, y: (chest(i, 120)[: 110 - 40 * (1 - y), : 110 - 40 * y], ".png", {}),
        "normal images are wider",
    ),
    "brightness": (lambda i, y: (leveled(chest(i), 110 + i % 5 + 30 * y, 25), ".png", {}), "pneumonias are brighter"),
    "contrast": (
        lambda i, y: (leveled(chest(i), 128, 32 - i % 3 - 15 * y), ".png", {}),
        "normal images have more contrast",
    ),
    "corners": (lambda i, y: (255 - chest(i) if y else chest(i), ".png", {}), "normal images have brighter corners"),
    "black border": (
        lambda i, y: (framed(chest(i), 2 + i % 3 + 9 * y, 0), ".png", {}),
        "pneumonias have more black border",
    ),
    "white border": (
        lambda i, y: (framed(chest(i), 12 + i % 3 - 9 * y, 255), ".png", {}),
        "normal images have more white border",
    ),
    "file size": (lambda i, y: (chest(i), ".jpg", {"quality": 30 + 60 * y}), "pneumonias have larger files"),
    "depth": (
        lambda i, y: ((chest(i).astype(np.uint16) * 257 if y else chest(i)), ".tiff", {}),  # type: ignore[dict-item,return-value]
        "pneumonias have more bits",
    ),
    "format JPEG": (lambda i, y: (chest(i), ".jpg" if y else ".png", {}), "pneumonias are more often JPEG files"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_shortcut_is_found_with_its_direction(name: str, tmp_path: Path) -> None:
    made, direction = PLANTED[name]
    found = audit(files(tmp_path, made))
    shortcut = next(shortcut for shortcut in found.shortcuts if shortcut.name == name)
    assert shortcut.grade == "strong shortcut"
    assert shortcut.direction == direction
    assert shortcut.strength.low > 0.7
    assert any(fault.kind == "shortcut" and shortcut.title in fault.text for fault in found.faults)


def test_the_grade_follows_the_lower_end_of_the_interval() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    grades = [shortcuts.assess("size", labels, rng.normal(size=400) + gap * labels).grade for gap in (0, 0.7, 2)]
    assert grades == ["none shown", "shortcut", "strong shortcut"]


def test_few_images_prove_no_shortcut() -> None:
    labels = np.arange(12) % 2
    assert shortcuts.assess("size", labels, labels.astype(float)).grade == "too few images to tell"


def test_what_all_images_have_alike_is_said() -> None:
    shortcut = shortcuts.assess("size", np.arange(40) % 2, np.full(40, 50176.0))
    assert (shortcut.grade, shortcut.direction) == ("constant", "the same in all images: 50176")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 10), min_size=24, max_size=60), st.integers(0, 1000))
def test_an_area_below_a_half_predicts_as_well_as_one_above(values: Sequence[float], seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.arange(len(values)) % 2)
    once, other = (shortcuts.assess("size", y, np.array(values)) for y in (labels, 1 - labels))
    assert once.grade == other.grade
    if once.grade != "constant":
        assert once.strength.value >= 0.5
        assert vars(once.strength) == pytest.approx(vars(other.strength))
        assert once.strength.low <= once.strength.value <= once.strength.high


def test_an_unknown_patient_is_noted_and_a_named_one_not(tmp_path: Path) -> None:
    images = files(tmp_path, lambda i, y: (chest(i), ".png", {}))
    assert "patients_unknown" not in kinds(audit(images))
    found = audit([replace(images[0], patient=str(images[0].path)), *images[1:]])
    assert next(fault.count for fault in found.faults if fault.kind == "patients_unknown") == 1


def test_faults_come_the_worst_first(unspoilt: list[Sample]) -> None:
    train = [sample for sample in unspoilt if sample.split == "train"]
    found = audit([*train, replace(train[0], label=1, split="val"), Sample(Path("gone.png"), 0, "gone", "train")])
    severities = [fault.severity for fault in found.faults]
    assert severities == sorted(severities, key=["critical", "warning", "note"].index)
    assert {"critical", "warning", "note"} == set(severities)


def test_a_data_set_of_unreadable_images_is_described_all_the_same() -> None:
    found = audit([Sample(Path(f"gone{i}.png"), i % 2, f"p{i}") for i in range(4)])
    assert len(found.failures) == 4
    assert kinds(found) == {"unreadable": "warning"}
    assert "No fault" not in audit_page.render(found)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in Kaggle's layout with a fault of each kind."""
    root = tmp_path_factory.mktemp("data") / "chest_xray"
    for i in range(80):
        label = i % 2
        image = chest(i, 80 if label else 110)
        split = "val" if i >= 70 else "train"
        name = f"person{i}_virus_1.png" if label else f"IM-{i:04d}-0001.png"
        save(image, root / split / LABELS[label] / name)
    save(chest(1, 80), root / "val" / "PNEUMONIA" / "person1_virus_2.tiff")
    save(chest(0, 110), root / "train" / "PNEUMONIA" / "<b>bold & co.png")
    save(jpeg(chest(2, 110), 40), root / "train" / "NORMAL" / "copy.jpg", quality=40)
    (root / "train" / "NORMAL" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    return root


@pytest.fixture(scope="module")
def found(faulty: Path) -> Audit:
    return audit(layouts.load(faulty, complete=False))


@pytest.fixture(scope="module")
def page(found: Audit) -> Page:
    return Page(audit_page.render(found))


def test_the_folder_holds_the_page_and_everything_for_programs(found: Audit, tmp_path: Path) -> None:
    written = audit_page.write(found, tmp_path / "new" / "folder")
    assert written == tmp_path / "new" / "folder" / "audit.html"
    assert sorted(path.name for path in written.parent.iterdir()) == ["audit.html", "audit.json"]
    told = json.loads((written.parent / "audit.json").read_text(encoding="utf-8"))
    assert told["images"] == 84
    assert {fault["kind"] for fault in told["faults"]} == set(kinds(found))
    assert [entry["error"]["kind"] for entry in told["unreadable"]] == ["unreadable"]
    assert told["identical"]["pairs"] == 2
    assert [group["across"] for group in told["near_duplicates"]["groups"]] == [["patients"]]
    assert len(told["patients_across_splits"]) == 1
    assert {"value", "low", "high"} == set(told["shortcuts"][0]["auc"])


def test_every_fault_stands_on_the_page_with_its_advice(page: Page, found: Audit) -> None:
    assert len(found.faults) >= 8
    text = " ".join(page.text.split())
    for fault in found.faults:
        assert f"{fault.severity.capitalize()}: {fault.text}" in text
        assert fault.advice in text


def test_copies_stand_side_by_side_under_their_names(page: Page, found: Audit) -> None:
    assert len(page.images) == sum(len(group.samples) for group in found.identical + found.near) == 6
    assert all(image.startswith("data:image/jpeg;base64,") for image in page.images)
    for name in ("train/NORMAL/copy.jpg", "train/PNEUMONIA/<b>bold & co.png", "val/PNEUMONIA/person1_virus_2.tiff"):
        assert name in page.text


def test_the_page_asks_nobody_for_anything(page: Page) -> None:
    addresses = [
        value or "" for _, attributes in page.elements for name, value in attributes.items() if name in ("src", "href")
    ]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not page.all("script")
    assert all("style" in mark for mark in page.all("b"))  # none comes from the name of an image


def test_people_who_do_not_see_the_page_can_read_it(page: Page) -> None:
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1
    assert all(image["alt"] for image in page.all("img"))
    assert all(header["scope"] in ("row", "col") for header in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))


def test_the_same_audit_gives_the_same_page(found: Audit, faulty: Path) -> None:
    again = audit(layouts.load(faulty, complete=False))
    assert audit_page.render(again) == audit_page.render(found)
    assert again.as_dict() == found.as_dict()


def test_an_image_that_has_gone_since_is_still_named(tmp_path: Path) -> None:
    images = [Sample(save(chest(0), tmp_path / f"{name}.png"), 0, name) for name in "ab"]
    found = audit(images)
    images[1].path.unlink()
    page = Page(audit_page.render(found))
    assert len(page.images) == 1
    assert "can no longer be read" in page.text


def test_patients_that_a_csv_names_are_not_told(tmp_path: Path) -> None:
    rows = ["path,label,patient,split"]
    for i in range(6):
        save(chest(i % 5), tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{i % 2},Jane Doe {i % 3},{'train' if i < 4 else 'test'}")
    (tmp_path / "images.csv").write_text("\n".join(rows))
    done = CliRunner().invoke(app, ["audit", str(tmp_path / "images.csv"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "out" / "audit.json").read_text())["patients_across_splits"]
    for told in (done.output, *((tmp_path / "out" / name).read_text() for name in ("audit.html", "audit.json"))):
        assert "Jane Doe" not in told


def test_the_command_prints_each_fault_and_exits_3_where_images_are_unreadable(faulty: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["audit", str(faulty), "--out", str(tmp_path)], env={"COLUMNS": "400"})
    assert done.exit_code == 3, done.output
    for said in ("critical", "warning", "note", "val has 5 NORMAL and 6 PNEUMONIA", "1 image cannot be read"):
        assert said in done.output
    assert done.output.index("critical") < done.output.index("warning  ") < done.output.index("note  ")
    assert {path.name for path in tmp_path.iterdir()} == {"audit.html", "audit.json"}


def test_findings_are_no_failure(draw_folder: Callable[..., Path], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["audit", str(draw_folder(12, 3)), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0
    assert "imbalance" in {f["kind"] for f in json.loads((tmp_path / "out" / "audit.json").read_text())["faults"]}


@pytest.mark.parametrize("missing", ["folder", "files", "label"])
def test_a_data_set_that_training_rejects_is_described(
    draw_folder: Callable[..., Path], tmp_path: Path, missing: str
) -> None:
    folder = draw_folder(3, 3)
    for path in (folder / "PNEUMONIA").iterdir():
        path.unlink()
    if missing == "folder":
        (folder / "PNEUMONIA").rmdir()
    elif missing == "label":
        (folder / "images.csv").write_text("path,label\n" + "\n".join(f"NORMAL/normal00{i}.png,0" for i in range(3)))
        folder = folder / "images.csv"
    done = CliRunner().invoke(app, ["audit", str(folder), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "No image is PNEUMONIA" in done.output


def test_an_archive_is_audited(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {}
    for k, split in enumerate(layouts.SPLITS):
        arrays[f"{split}_images"] = np.stack([chest(50 * k + i, 28) for i in range(10)])
        arrays[f"{split}_labels"] = np.arange(10)[:, None] % 2
    arrays["test_images"][0] = arrays["train_images"][0]
    np.savez(tmp_path / "set.npz", **arrays)
    done = CliRunner().invoke(app, ["audit", str(tmp_path / "set.npz"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert {"identical_across_splits", "small_split", "patients_unknown", "not_compared"} <= {
        fault["kind"] for fault in told["faults"]
    }
    assert "train/0" in (tmp_path / "out" / "audit.html").read_text()


@pytest.mark.parametrize("data", ["nowhere", "empty", "cats"])
def test_what_is_no_data_set_is_an_error_and_nothing_is_written(tmp_path: Path, data: str) -> None:
    (tmp_path / "empty").mkdir()
    save(chest(0), tmp_path / "cats" / "tabby" / "a.png")
    done = run("audit", tmp_path / data, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert data in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_said_in_one_line(draw_folder: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("audit", draw_folder(1, 1), "--out", tmp_path / "file")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


@pytest.mark.images
def test_on_kermanys_training_split_the_28_identical_pairs_are_found_and_no_near_one(data: Path) -> None:
    found = audit(layouts.load(data / "kermany224" / "train"))
    assert sum(group.pairs for group in found.identical) == 28
    assert sorted(len(group.samples) for group in found.identical) == [2] * 22 + [3] * 2
    assert found.near == []
    assert {s.name for s in found.shortcuts if s.grade == "constant"} >= {"size", "aspect", "depth"}


@pytest.mark.images
def test_on_kermanys_originals_size_and_aspect_are_strong_shortcuts(data: Path) -> None:
    found = audit(layouts.load(data / "kermany_original"))
    grades = {shortcut.name: shortcut for shortcut in found.shortcuts}
    assert grades["size"].grade == grades["aspect"].grade == "strong shortcut"
    assert grades["size"].strength.value == pytest.approx(0.9, abs=0.03)
    assert grades["size"].direction == "normal images are larger"
    assert kinds(found)["small_split"] == "critical"


@pytest.mark.images
@pytest.mark.parametrize("copy", sorted(set(COPIES) - {"in a white frame"}))
def test_copies_of_real_images_are_found(data: Path, copy: str) -> None:
    paths = sorted((data / "kermany224" / "train" / "NORMAL").iterdir())[:300]
    images = [np.asarray(Image.open(path).convert("L")) for path in paths]
    thumbnails = [duplicates.thumbnails(np.float32(1 / 255) * image) for image in images]
    thumbnails += [duplicates.thumbnails(np.float32(1 / 255) * COPIES[copy](image)) for image in images[::10]]
    owners = np.array([i for i, own in enumerate(thumbnails) for _ in own])
    pairs = duplicates.near(np.array([image for own in thumbnails for image in own]), owners)
    right = {(pair.first, pair.second) for pair in pairs} & {(10 * i, 300 + i) for i in range(30)}
    assert len(right) >= 29
    assert len(pairs) == len(right)


def test_what_a_detector_rejects_is_listed_and_a_fault(unspoilt: list[Sample], tmp_path: Path) -> None:
    gone = Sample(tmp_path / "gone.png", 0, "gone")
    images = [*unspoilt, gone]
    error = NotAChestRadiographError("Expected a frontal chest radiograph, got a mask.")

    def reject(source: Any, read: Radiograph) -> PneumoscopeError | None:
        assert read.shape == source.shape
        return error if any(source is image.pixels for image in unspoilt[3:6]) else None

    found = audit(images, reject=reject)
    assert [(image, str(why)) for image, why in found.rejected] == [(image, str(error)) for image in unspoilt[3:6]]
    assert kinds(found)["no_chest_radiograph"] == "critical"
    assert [row["error"]["kind"] for row in found.as_dict()["rejected"]] == ["not_a_chest_radiograph"] * 3
    assert "got a mask" in audit_page.render(found)


@pytest.mark.images
def test_large_jpegs_are_read_reduced_and_measured_whole(data: Path, tmp_path: Path) -> None:
    paths = sorted((data / "kermany_original" / "train" / "NORMAL").iterdir())[:3]
    again = tmp_path / "again.jpeg"
    again.write_bytes(paths[0].read_bytes())
    images = [Sample(path, 0, path.name) for path in [*paths, again]]
    detector = Detector()
    read: list[Radiograph] = []

    def reject(source: Any, image: Radiograph) -> PneumoscopeError | None:
        read.append(image)
        return detector.rejection(source, image)

    found = audit(images, reject=reject, at_least=detector.card.input_size)
    assert all(min(image.pixels.shape) < min(image.shape) / 2 for image in read)
    assert [group.samples for group in found.identical] == [(images[0], images[3])]
    assert found.rejected == []
    sizes = next(shortcut for shortcut in found.shortcuts if shortcut.name == "size").quantiles[0]
    assert sizes is not None
    assert sizes[-1] > 1_000_000


@pytest.mark.images
def test_masks_among_real_images_are_found_by_the_shipped_model(data: Path, tmp_path: Path) -> None:
    for label, name in enumerate(LABELS):
        for path in sorted((data / "kermany_original" / "train" / name).iterdir())[:4]:
            read = np.asarray(Image.open(path).convert("L").resize((256, 256)))
            for kind, image in (("images", read), ("shapes", np.where(read > 128, 255, 0).astype(np.uint8))):
                (tmp_path / name / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(tmp_path / name / kind / f"{label}{path.stem}.png")
    found = audit(layouts.load(tmp_path, complete=False), reject=Detector().rejection)
    rejected = [sample.path.parent.name for sample, _ in found.rejected]
    assert rejected.count("shapes") >= 6
    assert rejected.count("images") == 0
