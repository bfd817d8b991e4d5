"""`adaptation`: a site's own images set probabilities, threshold and band right, and the figures given are honest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumoscope import Detector
from pneumoscope.data import layouts
from pneumoscope.data.layouts import Sample
from pneumoscope.errors import DatasetError, ModelFileError, NotFoundError
from pneumoscope.evaluation import recalibration
from pneumoscope.evaluation.evaluate import evaluate
from pneumoscope.evaluation.recalibration import Recalibration
from pneumoscope.imaging import corruptions, radiograph
from pneumoscope.inference import model_file
from pneumoscope.metrics import metrics
from pneumoscope.metrics.thresholds import OperatingPoint
from tests.conftest import drawn, drawn_image


def site(n: int, seed: int = 80_000) -> list[Sample]:
    """Images of another hospital: brighter, flatter and noisier, two of each patient."""
    rng = np.random.default_rng(seed)
    images = []
    for i, image in enumerate(drawn(n, seed)):
        pixels = 0.5 * np.asarray(image.pixels, dtype=np.float64) + 120 + rng.normal(0, 25, (32, 32))
        stored = np.asarray(np.clip(pixels, 0, 255), dtype=np.uint8)
        images.append(replace(image, pixels=stored, patient=f"Mrs Jones {i % 2}-{i // 4}"))
    return images


def take(samples: list[Sample], normals: int, pneumonias: int) -> list[Sample]:
    by_class = [[sample for sample in samples if sample.label == label] for label in (0, 1)]
    return by_class[0][:normals] + by_class[1][:pneumonias]


def mislabelled(samples: list[Sample]) -> list[Sample]:
    """Give images labels drawn by lot."""
    lots = np.random.default_rng(3).permutation(len(samples)) % 2
    return [replace(image, label=int(lot)) for image, lot in zip(samples, lots, strict=True)]


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Draw fewer samples for the intervals: no test here looks at their third digit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "RESAMPLES", 100)
        yield


@pytest.fixture(scope="module")
def done(lenient_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Recalibration:
    return recalibration.recalibrate(site(100), tmp_path_factory.mktemp("site") / "site.onnx", lenient_model)


def test_a_model_that_calls_all_normals_of_a_site_sick_is_set_right(done: Recalibration) -> None:
    before, after = done.before.figures, done.after.figures
    assert before["specificity"].value < 0.1
    assert after["specificity"].value > 0.8
    assert after["sensitivity"].value > 0.8
    assert after["ece"].value < 0.5 * before["ece"].value
    assert after["brier"].value < before["brier"].value
    assert after["auc"] == before["auc"]


def test_every_figure_has_its_interval(done: Recalibration) -> None:
    for performance in (done.before, done.after):
        assert performance.n == sum(performance.confusion.values()) == 100
        defined = {name: e for name, e in performance.figures.items() if e.value == e.value}
        assert set(performance.figures) - set(defined) <= {"npv"}  # before, no image is called normal
        for name, e in defined.items():
            assert 0 <= e.low <= e.value <= e.high <= 1, name
        assert performance.figures["uncertain"].low < performance.figures["uncertain"].high


def test_the_figures_before_are_those_of_an_evaluation(done: Recalibration, lenient_model: Path) -> None:
    evaluated = evaluate(site(100), Detector(lenient_model)).performance
    assert done.before.confusion == evaluated.confusion
    for name in ("auc", "brier", "ece"):
        assert done.before.figures[name].value == pytest.approx(evaluated.figures[name].value, abs=1e-3), name


def test_on_fresh_images_of_the_site_the_new_file_is_as_good_as_it_says(done: Recalibration) -> None:
    fresh = evaluate(site(200, seed=90_000), Detector(done.model)).performance.figures
    for name in ("sensitivity", "specificity", "balanced_accuracy"):
        assert done.after.figures[name].low - 0.05 < fresh[name].value < done.after.figures[name].high + 0.05, name
    assert fresh["ece"].value < 0.1


def test_the_new_file_gives_the_same_logits_and_the_old_one_is_left_alone(
    done: Recalibration, lenient_model: Path
) -> None:
    batch = np.asarray([image.pixels for image in site(20)], dtype=np.float32)[..., None] / np.float32(255)
    (old, old_card), (new, card) = model_file.read(lenient_model), model_file.read(done.model)
    for name in ("logit", "evidence", "embedding"):
        assert np.array_equal(model_file.compile_graph(old)(batch)[name], model_file.compile_graph(new)(batch)[name])
    assert card == done.card
    assert card.calibration != old_card.calibration
    assert "calibration" not in old_card.data
    assert [path.name for path in done.model.parent.iterdir()] == ["site.onnx"]


def test_the_new_file_says_on_what_it_was_calibrated_and_names_nobody(done: Recalibration, lenient_model: Path) -> None:
    _, old = model_file.read(lenient_model)
    on = done.card.data["calibration"]
    assert {name: on[name] for name in ("images", "pneumonia", "patients", "share")} == {
        "images": 100,
        "pneumonia": 50,
        "patients": 50,
        "share": 0.5,
    }
    assert len(on["fingerprint"]) == 64
    assert on["before"] == done.before.as_dict()
    assert on["after"] == done.card.metrics == done.after.as_dict()
    assert {name: done.card.data[name] for name in old.data} == old.data
    assert done.card.intended_use == old.intended_use
    assert "Jones" not in done.card.to_json()
    assert "set.npz" not in done.card.to_json()
    assert "100 images of 50 patients" in done.card.calibration.threshold_reason
    assert "50% of the images" in done.card.calibration.probability_reason


def test_the_new_file_knows_the_images_it_was_calibrated_on(done: Recalibration) -> None:
    detector = Detector(done.model)
    assert evaluate(site(100), detector).seen == 100
    assert evaluate(drawn(10, seed=10_000), detector).seen == 10  # those trained on, as before
    assert evaluate(site(10, seed=95_000), detector).seen == 0


def test_images_the_model_was_trained_on_are_counted_in_a_note(lenient_model: Path, tmp_path: Path) -> None:
    done = recalibration.recalibrate([*drawn(12, seed=10_000), *site(88)], tmp_path / "new.onnx", lenient_model)
    assert any(note.startswith("12 of these 100 images were used to train") for note in done.notes)


def test_the_figures_after_are_not_those_of_the_images_fitted_on_and_no_better_than_chance_is_said(
    lenient_model: Path, tmp_path: Path
) -> None:
    images = mislabelled(site(60))
    done = recalibration.recalibrate(images, tmp_path / "new.onnx", lenient_model)
    fitted_on = evaluate(images, Detector(done.model)).performance.figures
    assert done.after.figures["brier"].value > fitted_on["brier"].value
    assert any("unable to distinguish pneumonias from normals" in note for note in done.notes)


def test_where_nothing_got_better_the_user_is_told_to_keep_the_model(done: Recalibration) -> None:
    worse = recalibration._notes([], before=done.after, after=done.before)
    assert any("keep the original model" in note for note in worse)
    assert recalibration._notes([], before=done.before, after=done.after) == []


def test_a_sensitivity_asked_for_is_reached(lenient_model: Path, tmp_path: Path) -> None:
    images = site(60)
    point = OperatingPoint(sensitivity=1.0)
    done = recalibration.recalibrate(images, tmp_path / "new.onnx", lenient_model, point=point)
    assert evaluate(images, Detector(done.model)).performance.figures["sensitivity"].value == 1.0
    assert "sensitivity of at least 1 on 60 images" in done.card.calibration.threshold_reason
    assert done.after.threshold == done.card.calibration.threshold


@pytest.mark.parametrize(
    ("normals", "pneumonias", "message"),
    [
        (20, 19, "Expected at least 40 images to calibrate on, got 39"),
        (9, 60, "Expected at least 10 images of class NORMAL to calibrate on, got 9 of 69"),
        (60, 9, "Expected at least 10 images of class PNEUMONIA to calibrate on, got 9 of 69"),
        (50, 0, "Expected at least 10 images of class PNEUMONIA to calibrate on, got 0 of 50"),
        (0, 0, "Expected at least 40 images to calibrate on, got 0"),
    ],
)
def test_too_few_images_are_rejected_and_nothing_is_written(
    lenient_model: Path, tmp_path: Path, normals: int, pneumonias: int, message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        recalibration.recalibrate(take(site(140), normals, pneumonias), tmp_path / "new.onnx", lenient_model)
    assert list(tmp_path.iterdir()) == []


def test_swapped_labels_are_rejected(lenient_model: Path, tmp_path: Path) -> None:
    swapped = [replace(sample, label=1 - sample.label) for sample in site(80)]
    with pytest.raises(DatasetError, match="are the labels swapped, or the images inverted"):
        recalibration.recalibrate(swapped, tmp_path / "new.onnx", lenient_model)
    assert list(tmp_path.iterdir()) == []


def test_images_of_few_patients_are_rejected(lenient_model: Path, tmp_path: Path) -> None:
    samples = [replace(sample, patient=f"{sample.label} {i % 4}") for i, sample in enumerate(take(site(80), 40, 40))]
    with pytest.raises(DatasetError, match="at least 5 patients of class NORMAL"):
        recalibration.recalibrate(samples, tmp_path / "new.onnx", lenient_model)


def test_the_fewest_images_allowed_are_enough(lenient_model: Path, tmp_path: Path) -> None:
    images = [replace(image, patient=f"{i}") for i, image in enumerate(take(site(80), 10, 30))]
    fitted = recalibration.recalibrate(images, tmp_path / "new.onnx", lenient_model).card.calibration
    assert "at most 10% of the normals" in fitted.uncertain_reason
    assert 0 < fitted.uncertain_low <= fitted.uncertain_high < 1


def test_images_that_cannot_be_read_or_show_nothing_are_left_out_and_listed(
    lenient_model: Path, tmp_path: Path
) -> None:
    broken = Sample(tmp_path / "broken.png", 1, "px")
    broken.path.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    blank = Sample(Path("blank"), 0, "py", pixels=np.full((32, 32), 90, dtype=np.uint8))
    done = recalibration.recalibrate([broken, *site(60), blank], tmp_path / "new.onnx", lenient_model)
    assert done.after.n == 60
    assert [(image, error.kind) for image, error in done.failures] == [
        (broken, "unreadable"),
        (blank, "not_a_chest_radiograph"),
    ]
    with pytest.raises(DatasetError, match=r"got 38 \(2 more could not be read or are not chest radiographs\)"):
        recalibration.recalibrate([broken, *site(38), blank], tmp_path / "other.onnx", lenient_model)


def test_what_predict_rejects_is_not_calibrated_on(lenient_model: Path, tmp_path: Path) -> None:
    strip = Sample(Path("strip"), 1, "ps", pixels=np.tile(drawn_image(1, 3), (1, 8))[:32])
    (finding,) = Detector(lenient_model).examine([strip.source])
    assert finding.error is not None  # squashed to a square it would pass
    done = recalibration.recalibrate([*site(60), strip], tmp_path / "new.onnx", lenient_model)
    assert [(image, str(error)) for image, error in done.failures] == [(strip, str(finding.error))]


def test_images_of_a_test_split_are_not_used_and_patients_who_have_some_are_told_of(
    done: Recalibration, lenient_model: Path, tmp_path: Path
) -> None:
    images = site(102)
    apart = [replace(image, split="test") for image in images[100:]]
    shared = [replace(image, split="test") for image in images[:20]]
    for held_out, told in ((apart, False), (shared, True)):
        again = recalibration.recalibrate([*site(100), *held_out], tmp_path / "new.onnx", lenient_model)
        assert again.card.data == done.card.data
        assert any("also have images in the test split" in note for note in again.notes) is told


def test_the_model_to_start_from_is_never_replaced(lenient_model: Path, tmp_path: Path) -> None:
    before = lenient_model.read_bytes()
    (tmp_path / "link.onnx").symlink_to(lenient_model)
    for out in (lenient_model, tmp_path / "link.onnx"):
        with pytest.raises(ModelFileError, match="is the model to start from"):
            recalibration.recalibrate(site(60), out, lenient_model)
    assert lenient_model.read_bytes() == before


def test_no_folder_and_no_other_file_is_replaced(lenient_model: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    Image.fromarray(drawn_image(0, 1)).save(image)
    before = image.read_bytes()
    with pytest.raises(ModelFileError, match="something else"):
        recalibration.recalibrate(site(60), image, lenient_model)
    assert image.read_bytes() == before
    with pytest.raises(ModelFileError, match="got the folder"):
        recalibration.recalibrate(site(60), tmp_path, lenient_model)


def test_a_model_file_of_another_site_may_be_replaced(done: Recalibration, lenient_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "new.onnx"
    out.write_bytes(done.model.read_bytes())
    again = recalibration.recalibrate(site(60), out, lenient_model)
    assert model_file.read(out)[1] == again.card != done.card


def test_a_model_that_is_none_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ModelFileError, match="another or a damaged file"):
        recalibration.recalibrate(site(60), tmp_path / "new.onnx", tmp_path / "model.onnx")
    with pytest.raises(NotFoundError, match=r"missing\.onnx"):
        recalibration.recalibrate(site(60), tmp_path / "new.onnx", tmp_path / "missing.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_images_without_labels_are_rejected(tmp_path: Path, draw_folder: Callable[..., Path]) -> None:
    folder = draw_folder(2, 2)
    for i, image in enumerate(sorted(folder.rglob("*.png"))):
        (tmp_path / "archive" / f"study {i}").mkdir(parents=True)
        image.replace(tmp_path / "archive" / f"study {i}" / "image.png")
    with pytest.raises(DatasetError, match="Expected labelled images"):
        recalibration.load(tmp_path / "archive")
    for other in (folder, tmp_path / "nothing"):  # class folders without images; nothing at all
        with pytest.raises(DatasetError, match=r"Expected images|does not exist"):
            recalibration.load(other)


def test_images_of_a_test_split_are_left_to_evaluate_on(tmp_path: Path, draw_folder: Callable[..., Path]) -> None:
    draw_folder(2, 1, name="kaggle/test", seed=1)
    with pytest.raises(DatasetError, match="test split only"):
        recalibration.load(tmp_path / "kaggle")
    draw_folder(3, 4, name="kaggle/train")
    assert [sample.split for sample in recalibration.load(tmp_path / "kaggle")].count("test") == 3
    assert len(recalibration.load(tmp_path / "kaggle" / "test")) == 3


def test_it_can_be_laid_out_as_json(done: Recalibration) -> None:
    laid_out = json.loads(json.dumps(done.as_dict()))
    assert list(laid_out) == ["model", "calibration", "before", "after", "notes", "errors"]
    assert laid_out["after"]["uncertain"]["value"] == pytest.approx(done.after.figures["uncertain"].value, abs=1e-6)
    assert laid_out["calibration"]["threshold"] == done.card.calibration.threshold


@pytest.mark.images
def test_the_default_model_is_set_right_on_real_images_that_are_much_enlarged_and_noisy(
    data: Path, tmp_path: Path
) -> None:
    for kind in layouts.LABELS:
        (tmp_path / "clinic" / kind).mkdir(parents=True)
        paths = [*(data / "kermany224" / "val" / kind).iterdir(), *(data / "kermany224" / "train" / kind).iterdir()]
        for path in sorted(paths)[:60]:
            sample = radiograph.read(path).pixels
            for shift in ("zoom 1.15", "zoom 1.15", "noise"):
                sample = corruptions.apply(shift, sample)
            drawn = Image.fromarray(np.asarray(np.round(sample * 255), dtype=np.uint8))
            drawn.save(tmp_path / "clinic" / kind / f"{path.stem}.png")
    samples = recalibration.load(tmp_path / "clinic")
    rejections = Detector().rejections(sample.source for sample in samples)
    samples = [sample for sample, why in zip(samples, rejections, strict=True) if why is None]
    assert len(samples) > 100
    done = recalibration.recalibrate(samples, tmp_path / "clinic.onnx")
    before, after = done.before.figures, done.after.figures
    assert before["specificity"].value < 0.75
    assert after["specificity"].value > 0.8
    for name in ("ece", "brier"):
        assert after[name].value < before[name].value, name
    assert after["balanced_accuracy"].value > before["balanced_accuracy"].value

    old, new = Detector(), Detector(done.model)
    findings = list(new.examine(sample.source for sample in samples))
    assert {finding.threshold for finding in findings} == {done.card.calibration.threshold}
    probabilities = np.array([finding.probability for finding in findings])
    came = old.card.calibration.logits(old.predict_proba([sample.source for sample in samples])[:, 1])
    assert done.card.calibration.probabilities(came) == pytest.approx(probabilities, abs=1e-6)
    called = metrics.performance(layouts.labels(samples), probabilities, done.card.calibration.threshold).figures
    assert called["balanced_accuracy"].value >= after["balanced_accuracy"].low
