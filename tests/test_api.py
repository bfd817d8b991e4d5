"""The public functions: what each command does, from Python."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pneumoscope
from pneumoscope import Detector
from pneumoscope.errors import DatasetError

SAMPLES = Path(pneumoscope.__file__).parent / "samples"


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector()


@pytest.fixture(scope="module")
def samples() -> list[Path]:
    return sorted(SAMPLES.glob("*/*.jp*g"))


def test_importing_the_package_loads_no_training_framework_and_no_evaluation() -> None:
    seen = subprocess.run(
        [sys.executable, "-c", "import sys, pneumoscope; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "pneumoscope.api" in seen
    assert not {"keras", "torch", "tensorflow", "sklearn", "pneumoscope.evaluation.evaluate"} & set(seen)


def test_a_detector_has_scikit_learns_verbs(detector: Detector, samples: list[Path]) -> None:
    assert detector.classes_.tolist() == ["NORMAL", "PNEUMONIA"]
    found, proba = detector.predict(samples), detector.predict_proba(samples)
    assert set(found) <= set(detector.classes_)
    assert np.allclose(proba.sum(axis=1), 1.0)
    assert detector.score(samples, found) == 1.0
    other = detector.classes_[int(found[0] == "NORMAL")]
    assert detector.score(samples[:1], [other]) == 0.0


def test_score_wants_a_known_label_for_each_image(detector: Detector, samples: list[Path]) -> None:
    with pytest.raises(ValueError, match=r"Expected 2 labels, .* got 1"):
        detector.score(samples[:2], ["NORMAL"])
    with pytest.raises(ValueError, match="sick"):
        detector.score(samples[:1], ["sick"])


def test_a_detector_says_what_it_is(detector: Detector) -> None:
    told = repr(detector)
    assert detector.card.architecture in told
    assert f"{detector.card.calibration.threshold:.3f}" in told


def test_an_opened_image_is_predicted_as_its_file_is(detector: Detector, samples: list[Path]) -> None:
    opened = [Image.open(path) for path in samples]
    assert np.allclose(detector.predict_proba(opened), detector.predict_proba(samples), atol=0.03)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    return shutil.copytree(SAMPLES, tmp_path / "images", ignore=shutil.ignore_patterns("*.md", "*.py"))


def test_evaluate_gives_figures_with_intervals(labelled: Path, samples: list[Path]) -> None:
    found = pneumoscope.evaluate(labelled)
    assert len(found.samples) + len(found.failures) == len(samples)
    sensitivity = found.performance.figures["sensitivity"]
    assert 0.0 <= sensitivity.low <= sensitivity.value <= sensitivity.high <= 1.0


def test_audit_tells_the_faults_of_a_data_set(labelled: Path) -> None:
    copy = labelled / "PNEUMONIA" / "copy.jpeg"
    copy.write_bytes(next((labelled / "NORMAL").iterdir()).read_bytes())
    assert "identical_across_labels" in {fault.kind for fault in pneumoscope.audit(labelled).faults}


def test_calibrate_wants_more_images_than_six(labelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "own.onnx"
    with pytest.raises(DatasetError, match="Expected at least"):
        pneumoscope.calibrate(labelled, out)
    assert not out.exists()


@pytest.mark.training
def test_train_takes_changes_of_the_recipe(draw_folder: Callable[..., Path], tmp_path: Path) -> None:
    run = pneumoscope.train(draw_folder(20, 20), tmp_path / "run", architecture="cnn", size=32, epochs=1)
    assert Detector(run.model).card.input_size == 32
