"""`train`: from the command line to a model that predicts, and what it remarks on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumoscope.cli import train
from pneumoscope.data.samples import Sample
from tests.builders.commands import on_a_terminal, predict, run
from tests.conftest import SIZE


def test_the_bars_of_a_training_fit_a_terminal_and_lines_elsewhere_have_all_figures(tmp_path: Path) -> None:
    training = tmp_path / "training.py"
    training.write_text(
        "from pneumoscope.cli import console\n"
        "with console.progress() as bars:\n"
        "    step = console.steps(bars)\n"
        "    step('computing features', 5216, 5216, {})\n"
        "    figures = {f'val_{name}{site}': 0.5 for name in ('auc', 'loss') for site in ('', '_a_site', '_another')}\n"
        "    step('network 10/20', 5216, 5216, figures)\n"
    )
    shown = on_a_terminal(training)
    assert "…" not in shown
    assert re.search(r"network 10/20 +━+ 5216/5216 .*val auc 0.500  val loss 0.500 *$", shown, re.MULTILINE)
    lines = subprocess.run([sys.executable, training], capture_output=True, text=True).stderr.splitlines()
    assert lines[0] == "computing features: 5,216"
    assert "val auc another 0.500" in lines[1]


def test_train_evaluate_and_predict_work_one_after_the_other(draw_folder: Callable[..., Path], tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'architecture = "cnn"\ninit = "none"\nsize = {SIZE}\nlearning_rate = 2e-3\naverage = 0.0\n')
    images = draw_folder(60, 60)
    trained = run("train", images, "--out", tmp_path / "run", "--recipe", recipe, "--epochs", "6", "--seed", "4")
    assert trained.returncode == 0, trained.stderr
    assert "auc" in trained.stdout
    again = run("train", images, "--out", tmp_path / "run", "--recipe", recipe, "--epochs", "6", "--seed", "4")
    assert again.returncode == 1
    assert "resume it" in again.stderr
    model = tmp_path / "run" / "model.onnx"
    assert predict(model, images / "NORMAL", "-f", "json").returncode == 0


def test_training_without_its_extra_says_how_to_get_it(draw_folder: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "keras.py").write_text("raise ModuleNotFoundError('No module named keras', name='keras')")
    done = run("train", draw_folder(2, 2), "--out", tmp_path / "run", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "pip install '.[train]'" in done.stderr


def test_a_wished_specificity_overrules_a_recipes_sensitivity(draw_folder: Callable[..., Path], tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('architecture = "cnn"\nsize = 32\nepochs = 1\nsensitivity = 0.95\n')
    done = run("train", draw_folder(60, 60), "--out", tmp_path / "run", "--recipe", recipe, "--specificity", "0.9")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["recipe"]["specificity"] == 0.9


def test_train_notes_masks_among_its_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lungs = np.zeros((200, 200), dtype=np.uint8)
    lungs[40:160, 20:90] = lungs[40:160, 110:180] = 255
    Image.fromarray(lungs).save(tmp_path / "mask.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    images = [Sample(tmp_path / name, 0, name) for name in ("broken.png", "mask.png")]
    assert train._without_rejected(images, skip=False) == images
    told = " ".join(capsys.readouterr().err.split())
    assert "1 of 2 images do not look like frontal chest radiographs" in told
    assert "mask.png" in told
    assert "They are trained on anyway" in told
    assert train._without_rejected(images, skip=True) == images[:1]  # what cannot be read is another matter
    assert "They are left out" in " ".join(capsys.readouterr().err.split())
