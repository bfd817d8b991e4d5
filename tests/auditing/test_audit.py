"""`audit`: planted faults are found, each with its images, and a clean data set gives no alarm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pneumoscope import Detector, parallel
from pneumoscope.auditing.audit import audit
from pneumoscope.data import layouts
from pneumoscope.data.layouts import LABELS, Sample
from pneumoscope.errors import NotAChestRadiographError, PneumoscopeError
from pneumoscope.imaging.radiograph import Radiograph
from pneumoscope.metrics import metrics
from pneumoscope.reporting import audit_page
from tests.builders.audits import chest, files, kinds, sample


def test_a_clean_data_set_gives_no_finding(unspoilt: list[Sample]) -> None:
    found = audit(unspoilt)
    assert found.faults == []
    assert found.compared == 240
    assert not found.identical
    assert not found.near


@pytest.mark.images
def test_an_audit_in_processes_finds_what_one_in_threads_finds(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = layouts.load(data / "kermany_original", complete=False)[::6]
    copy = images[0].path.parent / f"../{images[0].path.parent.name}/{images[0].path.name}"  # under another name
    Image.fromarray(np.uint8(255) * (np.mgrid[:200, :200][0] > 100)).save(tmp_path / "mask.png")
    images += [replace(images[0], path=copy), Sample(data / "none.png", 1, "none")]
    images.append(Sample(tmp_path / "mask.png", 0, "mask"))
    detector = Detector()
    found = []
    for many in (1_000, 1):
        monkeypatch.setattr(parallel, "MANY", many)
        found.append(audit(images, reject=detector.rejection, at_least=detector.card.input_size))
    one, other = (replace(audited, failures=[], rejected=[]) for audited in found)
    assert one == other
    assert len(one.identical) == 1
    for audited in found:
        assert [(sample.path.name, error.kind) for sample, error in audited.failures] == [("none.png", "not_found")]
        assert [sample.path.name for sample, _ in audited.rejected] == ["mask.png"]
    assert str(found[0].rejected[0][1]) == str(found[1].rejected[0][1])


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
