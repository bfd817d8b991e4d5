"""Evaluation: every labelled image counted once, and the mistakes named."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pneumoscope import Detector, parallel
from pneumoscope.data import layouts, splits
from pneumoscope.data.layouts import Sample
from pneumoscope.data.splits import Decoded
from pneumoscope.errors import DatasetError, PneumoscopeError
from pneumoscope.evaluation import evaluate
from pneumoscope.imaging import corruptions, radiograph
from tests.conftest import SIZE, drawn, drawn_image

AUC_WITHOUT_THORAX = {"adults": 0.60, "children": 0.87}
"""Below which the bundled model's AUC is when the thorax is hidden; 0.5 would be right. Children's is to come down:
lower it with each model that does better."""


@pytest.fixture(scope="module")
def detector(tiny_model: Path) -> Detector:
    return Detector(tiny_model)


def decoded(samples: list[Sample], size: int = SIZE) -> Decoded:
    return splits.decode(samples, size)


def test_the_confusion_counts_every_image_once(detector: Detector) -> None:
    result = evaluate.evaluate(drawn(60), detector)
    assert sum(result.performance.confusion.values()) == result.performance.n == 60
    assert result.performance.positives == 30
    called = np.array([finding.finding == "PNEUMONIA" for finding in result.findings])
    assert result.performance.confusion["tp"] == int((called & (result.labels == 1)).sum())
    assert result.performance.confusion["fp"] == int((called & (result.labels == 0)).sum())


def test_mistakes_are_the_images_predicted_wrong_the_most_confident_first(detector: Detector) -> None:
    samples = [
        replace(sample, label=1 - sample.label) for sample in drawn(20)
    ]  # turning the truth makes nearly all wrong
    mistakes = evaluate.evaluate(samples, detector).mistakes(8)
    distances = [abs(sample.label - (finding.probability or 0.0)) for sample, finding in mistakes]
    assert len(mistakes) == 8
    assert distances == sorted(distances, reverse=True)
    assert all(finding.finding != layouts.LABELS[sample.label] for sample, finding in mistakes)


def test_results_are_given_for_each_known_subtype(detector: Detector) -> None:
    result = evaluate.evaluate(drawn(40), detector)
    n, sensitivity = result.subtypes["virus"]
    assert n == 10
    assert 0.0 <= sensitivity.low <= sensitivity.value <= sensitivity.high <= 1.0
    assert result.as_dict()["subtypes"]["virus"]["n"] == 10


def test_evidence_is_kept_only_where_asked_for(detector: Detector) -> None:
    assert all(finding.evidence is None for finding in evaluate.evaluate(drawn(4), detector).findings)
    kept = evaluate.evaluate(drawn(4), detector, evidence=True).findings
    assert all(finding.evidence is not None for finding in kept)


def test_images_that_cannot_be_read_are_listed_and_in_no_figure(detector: Detector, tmp_path: Path) -> None:
    broken = Sample(tmp_path / "broken.png", 1, "px")
    broken.path.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    result = evaluate.evaluate([*drawn(10), broken], detector)
    assert result.performance.n == 10
    assert [finding.path for finding in result.failures] == [str(broken.path)]
    assert result.as_dict()["errors"] == 1


def test_a_set_without_a_readable_image_is_an_error(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="none that can be read"):
        evaluate.evaluate([Sample(tmp_path / "missing.png", 1, "p")], detector)


def test_images_the_model_was_trained_on_are_counted(detector: Detector) -> None:
    assert evaluate.evaluate(drawn(10, seed=10_000), detector).seen == 10
    assert evaluate.evaluate(drawn(10), detector).seen == 0


def test_the_test_split_is_chosen_where_there_is_one(draw_folder: Callable[..., Path], tmp_path: Path) -> None:
    draw_folder(3, 3, name="kaggle/train")
    draw_folder(2, 1, name="kaggle/test", seed=1)
    images = layouts.load(tmp_path / "kaggle")
    assert len(evaluate.choose(images)) == 3
    assert len(evaluate.choose(images, "train")) == 6
    assert len(evaluate.choose(images, "all")) == 9
    assert len(evaluate.choose(layouts.load(tmp_path / "kaggle" / "train"))) == 6
    with pytest.raises(DatasetError, match="test, train"):
        evaluate.choose(images, "val")


def test_each_site_is_measured_on_its_own_test_split(draw_folder: Callable[..., Path], tmp_path: Path) -> None:
    draw_folder(3, 3, name="a/train")
    draw_folder(2, 1, name="a/test", seed=1)
    draw_folder(2, 2, name="b", seed=2)
    samples = layouts.load([tmp_path / "a", tmp_path / "b"])
    chosen = evaluate.choose(samples)
    assert [(sample.site, sample.split) for sample in chosen] == [("a", "test")] * 3 + [("b", None)] * 4


def test_an_evaluation_says_which_splits_it_measured(detector: Detector) -> None:
    images = [replace(image, split="train" if i % 3 else "val") for i, image in enumerate(drawn(9))]
    result = evaluate.evaluate(images, detector)
    assert result.as_dict()["splits"] == {"train": 6, "val": 3}
    assert result.measured_on == "of the splits train (6), val (3)"


def test_normals_alone_have_a_specificity_and_what_cannot_be_measured_is_named(detector: Detector) -> None:
    result = evaluate.evaluate([sample for sample in drawn(20) if sample.label == 0], detector)
    figures = result.as_dict()
    assert figures["specificity"]["value"] is not None
    assert (figures["sensitivity"]["value"], figures["auc"]["value"], figures["ppv"]["value"]) == (None, None, None)
    assert result.one_class is not None
    assert all(name in result.one_class for name in ("All images are NORMAL", "auc", "sensitivity", "npv"))
    assert "specificity" not in result.one_class
    assert evaluate.evaluate(drawn(8), detector).one_class is None


def test_an_evaluation_in_processes_equals_one_in_threads(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for many in (1_000, 1):
        monkeypatch.setattr(parallel, "MANY", many)
        found.append(evaluate.evaluate(drawn(40), detector))
    threads, processes = found
    assert processes.performance == threads.performance
    assert [one.as_dict() for one in processes.findings] == [other.as_dict() for other in threads.findings]


def test_one_path_reads_images_for_training_and_for_use(detector: Detector, tmp_path: Path) -> None:
    path = tmp_path / "image.jpeg"  # much larger than the network looks at, so that it is reduced while it is decoded
    Image.fromarray(drawn_image(1, 5, size=700)).save(path)
    image = Sample(path, 1, "p")
    trained_on = splits.decode([image], detector.card.input_size).pixels[0]
    looked = detector._looked(path)
    assert not isinstance(looked, PneumoscopeError)
    pixels = looked[0]
    assert np.abs(pixels - trained_on.astype(np.float32)).max() < 5e-4  # half precision in the training's memory


def test_stress_predicts_the_same_images_under_every_shift(detector: Detector) -> None:
    table = evaluate.under_corruptions(decoded(drawn(12)), detector)
    assert list(table) == list(corruptions.CORRUPTIONS)
    assert {performance.n for performance in table.values()} == {12}
    plain = evaluate.evaluate(drawn(12), detector).performance
    assert table["none"].confusion == plain.confusion


def test_the_worst_corruption_is_named_and_inverted_images_do_not_count(detector: Detector) -> None:
    table = evaluate.under_corruptions(decoded(drawn(40)), detector)
    worst = evaluate.worst_corruption(table, "specificity")
    lowest = min(table[name].figures["specificity"].value for name in table if name not in ("none", "inverted"))
    assert worst is not None
    assert table[worst].figures["specificity"].value == lowest
    assert worst != "inverted"


@pytest.mark.parametrize("label", [0, 1])
def test_images_of_one_class_have_no_localisation_and_a_worst_corruption_only_where_one_is_defined(
    label: int, detector: Detector
) -> None:
    samples = decoded([sample for sample in drawn(20) if sample.label == label])
    assert evaluate.localise(samples, detector) is None
    table = evaluate.under_corruptions(samples, detector)
    assert (evaluate.worst_corruption(table, "sensitivity") is None) is (label == 0)
    assert (evaluate.worst_corruption(table, "specificity") is None) is (label == 1)


def test_an_image_that_a_shift_makes_even_is_predicted_all_the_same(detector: Detector) -> None:
    faint = [
        replace(image, pixels=(image.pixels * 0.03).astype(np.uint8)) for image in drawn(4) if image.pixels is not None
    ]
    images = decoded([*drawn(20), *faint])
    assert evaluate.under_corruptions(images, detector)["contrast 0.6"].n == 24
    assert evaluate.localise(images, detector) is not None


def test_nothing_readable_is_said_under_corruptions_too(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="none of 1"):
        evaluate.under_corruptions(decoded([Sample(tmp_path / "gone.png", 1, "px")]), detector)


def test_images_read_once_serve_corruptions_and_localisation(
    detector: Detector, draw_folder: Callable[..., Path], tmp_path: Path
) -> None:
    images = decoded(layouts.load(draw_folder()))
    shutil.rmtree(tmp_path / "images")
    assert evaluate.under_corruptions(images, detector)["none"].n == 12
    assert evaluate.localise(images, detector) is not None


def test_images_are_decoded_once_for_findings_corruptions_and_localisation(
    detector: Detector, draw_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = layouts.load(draw_folder())
    expected = decoded(images)
    reads = []
    read = radiograph.read

    def counted(*source: Any, **options: Any) -> radiograph.Radiograph:
        reads.append(source)
        return read(*source, **options)

    monkeypatch.setattr(radiograph, "read", counted)
    kept = evaluate.evaluate(images, detector, decoded=True).decoded
    assert len(reads) == len(images)
    assert kept is not None
    assert np.array_equal(np.asarray(kept.pixels), np.asarray(expected.pixels))
    assert (kept.samples, kept.parts) == (expected.samples, expected.parts)
    assert np.array_equal(kept.groups, expected.groups)


def test_a_model_that_looks_at_lungs_loses_little_without_the_corners_and_all_without_the_lungs(
    detector: Detector,
) -> None:
    localisation = evaluate.localise(decoded(drawn(60)), detector)
    assert localisation is not None
    assert (
        0.0 <= localisation.outside.low <= localisation.outside.value <= localisation.outside.high <= localisation.even
    )
    assert localisation.flipped.value < 0.3
    assert localisation.auc_around.value < 0.8


@pytest.mark.images
def test_a_set_unlike_the_training_images_says_so(data: Path) -> None:
    detector = Detector()
    samples = layouts.load(data / "kermany_original" / "train")
    assert evaluate.evaluate(samples, detector).shift is None
    inverted = [replace(sample, pixels=1.0 - radiograph.read(sample.source).pixels) for sample in samples]
    shifted = evaluate.evaluate(inverted, detector)
    assert shifted.shift is not None
    assert shifted.as_dict()["unlike_training_images"] == shifted.shift


@pytest.mark.images
@pytest.mark.parametrize("group", AUC_WITHOUT_THORAX)
def test_the_bundled_model_looks_at_the_thorax(group: str, data: Path) -> None:
    detector = Detector()
    if group == "children":
        samples = layouts.load(data / "kermany_original" / "train")
    else:
        table = data / "nih" / "films.csv"
        if not table.is_file():
            pytest.skip(f"no radiographs of adults in {table.parent}")
        with table.open(newline="") as file:
            drawn_at_random = {row["path"] for row in csv.DictReader(file) if row["drawn"] == "random"}
        samples = [
            sample
            for sample in layouts.load(table, other="negative")
            if str(sample.path.relative_to(table.parent)) in drawn_at_random
            and not sample.other
            and (sample.age or 0) >= 16
        ]
    localisation = evaluate.localise(decoded(samples, detector.card.input_size), detector)
    assert localisation is not None
    assert localisation.outside.high < localisation.even
    assert localisation.flipped.value < 0.05
    assert localisation.auc_around.value < AUC_WITHOUT_THORAX[group]
