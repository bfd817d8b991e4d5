"""The detector: one finding for each image, in order, whatever the images are."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pneumoscope import Detector
from pneumoscope.errors import ModelFileError, NotAChestRadiographError, UnreadableError, UnsupportedError
from pneumoscope.imaging import radiograph
from pneumoscope.inference import model_file, runtimes
from pneumoscope.inference.detector import IMAGES_AHEAD
from pneumoscope.inference.finding import WARNINGS
from tests.conftest import ROOT, SIZE, drawn_image


@pytest.fixture(scope="module")
def detector(tiny_model: Path) -> Detector:
    return Detector(tiny_model)


def unseen(n: int) -> list[NDArray[np.uint8]]:
    return [drawn_image(i % 2, seed=50_000 + i) for i in range(n)]


def test_it_tells_drawn_pneumonias_from_drawn_normals(detector: Detector) -> None:
    truth = np.array(["NORMAL", "PNEUMONIA"] * 50)
    assert (detector.predict(unseen(100)) == truth).mean() > 0.9


def test_probabilities_of_both_classes_sum_to_one(detector: Detector) -> None:
    probabilities = detector.predict_proba(unseen(5))
    assert probabilities.shape == (5, 2)
    assert np.allclose(probabilities.sum(axis=1), 1.0)


def test_an_array_of_images_is_predicted_like_the_images(detector: Detector) -> None:
    images = unseen(3)
    assert np.array_equal(detector.predict_proba(np.stack(images)), detector.predict_proba(images))


def test_an_image_gets_the_same_probability_alone_and_in_a_crowd(detector: Detector) -> None:
    images = unseen(25)
    together = detector.predict_proba(images)
    alone = np.concatenate([detector.predict_proba([image]) for image in images])
    assert np.abs(together - alone).max() < 1e-5


def test_every_file_has_a_finding_in_order_and_the_bad_ones_have_an_error(
    detector: Detector, draw_folder: Callable[..., Path]
) -> None:
    folder = draw_folder(20, 20)
    (folder / "NORMAL" / "broken.png").write_bytes((folder / "NORMAL" / "normal000.png").read_bytes()[:100])
    (folder / "notes.txt").write_text("not an image")
    files = list(radiograph.files(folder))
    findings = list(detector.examine(files))
    assert [finding.path for finding in findings] == [str(file) for file in files]
    assert {Path(f.path).name: f.error.kind for f in findings if f.error} == {
        "broken.png": "unreadable",
        "notes.txt": "unsupported",
    }
    for finding in findings:
        assert (finding.finding is None) == (finding.error is not None)


def test_predict_raises_the_error_of_an_image_that_cannot_be_read(detector: Detector) -> None:
    with pytest.raises(UnreadableError, match="empty"):
        detector.predict([drawn_image(0, 1), b""])


def test_images_are_read_only_a_few_batches_ahead(detector: Detector) -> None:
    asked = 0
    lock = threading.Lock()

    def endless() -> Iterator[NDArray[np.uint8]]:
        nonlocal asked
        while True:
            with lock:
                asked += 1
            yield drawn_image(0, asked)

    findings = detector.examine(endless())
    for _ in range(10):
        next(findings)
    assert asked <= 10 + IMAGES_AHEAD * runtimes.WORKERS


@pytest.mark.images
@pytest.mark.parametrize("options", [{"processes": True}, {"together": 5}])
def test_groups_of_images_in_threads_or_processes_get_the_findings_that_each_gets_alone(
    options: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    files = [*sorted(radiograph.files(data / "kermany_original"))[:12], tmp_path / "broken.png", tmp_path / "none.png"]
    shipped = Detector()
    alone = list(shipped.examine(files, evidence=True))
    together = list(shipped.examine(files, evidence=True, **options))
    assert [one.as_dict() for one in together] == [other.as_dict() for other in alone]
    assert [type(one.error) for one in together] == [type(other.error) for other in alone]
    for one, other in zip(together, alone, strict=True):
        assert np.array_equal(np.array(one.evidence), np.array(other.evidence))  # None where there is none


def test_a_pickled_detector_is_the_same_detector(tiny_model: Path) -> None:
    detector = Detector(tiny_model, engine="onnxruntime", prevalence=0.2, workers=3)
    again = pickle.loads(pickle.dumps(detector))
    assert again.card == detector.card
    assert repr(again) == repr(detector)
    assert again.predict_proba(drawn_image(1, 5)).tolist() == detector.predict_proba(drawn_image(1, 5)).tolist()
    assert pickle.loads(pickle.dumps(detector)) is again  # so that a process loads the model once


class Renamed(Detector):
    """A detector of a user's own."""


def test_a_pickled_detector_keeps_its_class(tiny_model: Path) -> None:
    assert type(pickle.loads(pickle.dumps(Renamed(tiny_model)))) is Renamed


def test_a_process_loads_a_replaced_model_again_and_rejects_one_that_the_detector_does_not_have(
    tiny_model: Path, lenient_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    shutil.copy(tiny_model, path)
    sent = pickle.dumps(Detector(path))
    assert pickle.loads(sent).card.orientation
    shutil.copy(lenient_model, path)
    os.utime(path, ns=(1, 1))
    assert not pickle.loads(pickle.dumps(Detector(path))).card.orientation
    os.utime(path, ns=(2, 2))
    sent = pickle.dumps(Detector(path))
    os.utime(path, ns=(3, 3))
    with pytest.raises(ModelFileError, match="has changed"):
        pickle.loads(sent)


def test_an_image_it_was_trained_on_is_named_as_such(detector: Detector) -> None:
    trained, new = detector.examine([drawn_image(0, seed=10_000), drawn_image(0, seed=99_999)])
    assert "seen_in_training" in trained.warnings
    assert "seen_in_training" not in new.warnings


def test_an_image_smaller_than_the_network_looks_at_is_warned_about(detector: Detector) -> None:
    small, large = detector.examine([drawn_image(0, 1, size=SIZE // 2), drawn_image(0, 1, size=2 * SIZE)])
    assert "low_resolution" in small.warnings
    assert "low_resolution" not in large.warnings


@pytest.mark.parametrize("shape", [(SIZE // 10, SIZE // 10), (SIZE, 4 * SIZE + 1), (4 * SIZE + 1, SIZE)])
def test_a_strip_and_a_stamp_are_no_chest_radiographs(detector: Detector, shape: tuple[int, int]) -> None:
    image = np.asarray(Image.fromarray(drawn_image(0, 1, size=SIZE)).resize(shape[::-1]))
    (finding,) = detector.examine([image])
    assert isinstance(finding.error, NotAChestRadiographError)
    assert f"got {shape[1]} x {shape[0]} pixels: give the whole original image" in str(finding.error)


@pytest.mark.parametrize("shape", [(SIZE // 4, SIZE // 4), (SIZE, 4 * SIZE)])
def test_a_small_image_and_a_long_one_are_predicted(detector: Detector, shape: tuple[int, int]) -> None:
    image = np.asarray(Image.fromarray(drawn_image(0, 1, size=SIZE)).resize(shape[::-1]))
    (finding,) = detector.examine([image])
    assert "pixels: give the whole original image" not in str(finding.error)


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_an_image_in_a_wide_even_frame_is_warned_of(detector: Detector, shade: int) -> None:
    image = drawn_image(0, seed=10_000)
    image[[0, -1], ::2] = image[::2, [0, -1]] = 90  # no frame of its own
    framed = np.pad(image, ((SIZE // 4, 0), (SIZE // 4, SIZE // 4)), constant_values=shade)
    bare, whole = detector.examine([image, framed], evidence=True)
    assert "framed" not in bare.warnings
    assert "framed" in whole.warnings
    assert whole.finding == bare.finding
    assert bare.evidence is not None
    assert whole.evidence is not None
    height, width = bare.evidence.shape
    assert whole.evidence.shape == (2 * height, 2 * width)


@pytest.mark.images
def test_a_real_image_made_square_keeps_its_finding_unless_that_was_uncertain(data: Path) -> None:
    images = [radiograph.read(path).pixels for path in sorted((data / "kermany_original" / "val").rglob("*.jpeg"))]
    detector = Detector()
    squares = [
        np.pad(image, [(side // 2, side - side // 2) for side in max(image.shape) - np.array(image.shape)])
        for image in images
    ]
    pairs = list(zip(detector.examine(images), detector.examine(squares), strict=True))
    assert sum("framed" in square.warnings for _, square in pairs) >= 15
    assert all(square.finding == image.finding or image.uncertain for image, square in pairs)


def test_one_image_may_be_an_array_alone(detector: Detector) -> None:
    image = drawn_image(0, seed=10_000)
    assert [finding.finding for finding in detector.examine(image)] == [next(detector.examine([image])).finding]


@pytest.mark.parametrize("source", [None, 7, io.BytesIO(b"image")], ids=lambda it: type(it).__name__)
def test_what_is_no_image_is_one_finding_with_an_error(detector: Detector, source: Any) -> None:
    (alone,) = detector.examine(source)
    first, image = detector.examine([source, drawn_image(0, seed=10_000)])
    assert isinstance(alone.error, UnsupportedError)
    assert isinstance(first.error, UnsupportedError)
    assert image.error is None


def test_warnings_stand_in_the_order_of_the_alphabet(detector: Detector) -> None:
    small = np.rot90(drawn_image(0, seed=10_000, size=SIZE // 2))
    (finding,) = detector.examine([small])
    assert len(finding.warnings) > 1
    assert list(finding.warnings) == sorted(finding.warnings)


def test_every_warning_is_explained(detector: Detector) -> None:
    for finding in detector.examine([drawn_image(0, seed=10_000), drawn_image(0, 1, size=SIZE // 2)]):
        assert set(finding.warnings) <= set(WARNINGS)


def test_the_reference_explains_every_warning_in_the_same_words() -> None:
    text = (ROOT / "docs" / "reference" / "warnings.md").read_text(encoding="utf-8")
    for warning, meaning in WARNINGS.items():
        assert f"| `{warning}` | {meaning} |" in text


def test_evidence_comes_only_when_asked_for(detector: Detector) -> None:
    image = drawn_image(1, 7)
    (without,) = detector.examine([image])
    (with_evidence,) = detector.examine([image], evidence=True)
    assert without.evidence is None
    assert with_evidence.evidence is not None
    assert with_evidence.evidence.ndim == 2
    assert with_evidence == without


def test_a_finding_inside_the_band_is_uncertain(detector: Detector) -> None:
    fitted = detector.card.calibration
    for finding in detector.examine(unseen(64)):
        assert finding.probability is not None
        inside = fitted.uncertain_low <= finding.probability <= fitted.uncertain_high
        assert finding.uncertain == inside
        assert (finding.finding == "PNEUMONIA") == (finding.probability >= fitted.threshold)


@pytest.mark.images
def test_the_default_model_reads_real_images_it_was_not_trained_on(data: Path) -> None:
    folder = data / "kermany_original" / "val"
    findings = list(Detector().examine(radiograph.files(folder)))
    right = [finding.finding == Path(finding.path).parent.name for finding in findings]
    assert len(right) == 16
    assert sum(right) >= 13
    assert not any("seen_in_training" in finding.warnings for finding in findings)


@pytest.mark.images
def test_a_squashed_copy_of_an_image_gets_nearly_the_same_probability_as_the_original(data: Path) -> None:
    originals = sorted((data / "kermany_original" / "val").rglob("*.jpeg"))
    copies = [Path(str(image).replace("kermany_original", "kermany224")) for image in originals]
    detector = Detector()
    gap = np.abs(detector.predict_proba(originals) - detector.predict_proba(copies))[:, 1]
    assert np.median(gap) < 0.03


def test_the_default_model_is_at_most_12_megabytes() -> None:
    assert model_file.default().stat().st_size <= 12_000_000


def test_a_blank_image_gets_no_finding(detector: Detector) -> None:
    blank = [np.full((100, 80), level, dtype=np.uint8) for level in (0, 128, 255)]
    for finding in detector.examine(blank):
        assert finding.finding is None
        assert finding.error is not None
        assert finding.error.kind == "not_a_chest_radiograph"


@pytest.mark.parametrize(
    ("learnt", "age", "warned"),
    [
        ({"oldest_patient_years": 5}, "045Y", {"adult_patient"}),
        ({"oldest_patient_years": 5}, "015Y", {"adolescent_patient"}),
        ({"oldest_patient_years": 5}, "003Y", set()),
        ({"oldest_patient_years": 5}, "003M", set()),
        ({"oldest_patient_years": 90}, "045Y", set()),
        ({"oldest_patient_years": 90, "youngest_patient_years": 1}, "003M", {"infant_patient"}),
        ({"oldest_patient_years": 90, "youngest_patient_years": 18}, "003Y", {"child_patient"}),
        ({"oldest_patient_years": 0}, "045Y", set()),
    ],
    ids=str,
)
def test_patients_of_an_age_that_the_card_does_not_cover_are_warned_of(
    learnt: dict[str, int], age: str, warned: set[str], tiny_model: Path, tmp_path: Path
) -> None:
    from tests.builders.dicoms import image

    card = model_file.read(tiny_model)[1]
    pixels = np.stack([drawn_image(i % 2, i) for i in range(2)]).astype(np.float32) / 255
    theirs = replace(card, data={key: n for key, n in card.data.items() if "patient_years" not in key} | learnt)
    model_file.rewrite(tiny_model, theirs, tmp_path / "model.onnx", pixels)
    (finding,) = Detector(tmp_path / "model.onnx").examine([image(drawn_image(1, 3), PatientAge=age)])
    assert {name for name in finding.warnings if name.endswith("_patient")} == warned


def test_a_few_images_are_shared_by_all_threads(tiny_model: Path, draw_folder: Callable[..., Path]) -> None:
    """Each image lets itself be read only once all threads have one."""
    together = threading.Barrier(runtimes.WORKERS)

    class Sample(os.PathLike[str]):
        def __init__(self, path: Path) -> None:
            self.path = path
            self.met = False

        def __fspath__(self) -> str:
            if not self.met:
                together.wait(timeout=30)
            self.met = True
            return str(self.path)

    images = [Sample(path) for path in radiograph.files(draw_folder(runtimes.WORKERS, 0))]
    findings = list(Detector(tiny_model).examine(images))
    assert [finding.error for finding in findings] == [None] * runtimes.WORKERS


def test_a_mask_is_rejected_whatever_it_shows(tiny_model: Path) -> None:
    y, x = np.mgrid[-1:1:200j, -1:1:200j]
    lungs = ((np.abs(x) - 0.45) / 0.3) ** 2 + (y / 0.7) ** 2 < 1
    thresholded = drawn_image(1, 3, size=200) > 128
    masks = [np.where(mask, 255, 0).astype(np.uint8) for mask in (lungs, ~lungs, thresholded)]
    for finding in Detector(tiny_model).examine(masks):
        assert finding.error is not None
        assert finding.error.kind == "not_a_chest_radiograph"
        assert "mask" in str(finding.error)
