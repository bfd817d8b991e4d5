"""Fixtures: real images where there are some, drawn ones everywhere, and a tiny model that is really trained."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray
from PIL import Image

from pneumoscope.data.layouts import Sample
from pneumoscope.inference import model_file

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

ROOT = Path(__file__).parents[1]
SIZE = 32

CALM = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""The same examples every time, on a busy machine too."""

FIGURES = [
    "auc",
    "average_precision",
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "f1",
    "brier",
    "ece",
]
"""Every figure of the contract, in its order."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--images", type=int, default=64, help="how many images the long tests send")
    parser.addoption("--minutes", type=float, default=1.0, help="how long the long test of the service loads it")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder with Kermany's images: `kermany224/` and `kermany_original/`."""
    folder = Path(os.environ.get("PNEUMOSCOPE_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "kermany224").is_dir():
        pytest.skip(f"no real images in {folder}: set PNEUMOSCOPE_DATA")
    return folder


def drawn_image(label: int, seed: int, size: int = SIZE) -> NDArray[np.uint8]:
    """Draw a chest: two dark lungs in a bright body; a pneumonia has a bright patch in one lung."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    image = np.full((size, size), 0.7)
    for side in (-0.45, 0.45):
        image[((x - side) / 0.3) ** 2 + (y / 0.65) ** 2 < 1] = 0.2
    if label:
        side, height = rng.choice([-0.45, 0.45]), rng.uniform(-0.3, 0.3)
        image[((x - side) / 0.2) ** 2 + ((y - height) / 0.2) ** 2 < 1] = 0.65
    image += rng.normal(0.0, 0.03, image.shape)
    return np.asarray(np.clip(image, 0, 1) * 255, dtype=np.uint8)


@pytest.fixture
def draw_folder(tmp_path: Path) -> Callable[..., Path]:
    """Give a function that draws a folder of class folders."""

    def draw(normal: int = 6, pneumonia: int = 6, name: str = "images", seed: int = 0) -> Path:
        folder = tmp_path / name
        for label, (kind, n) in enumerate((("NORMAL", normal), ("PNEUMONIA", pneumonia))):
            (folder / kind).mkdir(parents=True)
            for i in range(n):
                image = drawn_image(label, 1000 * seed + 2 * i + label)
                Image.fromarray(image).save(folder / kind / f"{kind.lower()}{i:03d}.png")
        return folder

    return draw


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of a small network trained for seconds on drawn images."""
    pytest.importorskip("keras", reason="training is not installed")
    from pneumoscope.ood import orientation
    from pneumoscope.training.augmentation import NONE
    from pneumoscope.training.job import Job
    from pneumoscope.training.recipe import Recipe
    from pneumoscope.training.run import fit

    images = [
        Sample(Path(f"drawn{i}"), i % 2, f"patient{i}", pixels=drawn_image(i % 2, seed=10_000 + i)) for i in range(520)
    ]
    recipe = Recipe(
        architecture="cnn", init="none", size=SIZE, epochs=8, learning_rate=2e-3, average=0.0, augmentation=NONE
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orientation, "MOST_IMAGES", 200)  # enough for drawn images, and seconds less
        return fit(Job(images, tmp_path_factory.mktemp("tiny"), recipe)).model


@pytest.fixture(scope="session")
def lenient_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as one that rejects no drawn image as no chest, whatever its size and site."""
    path = tmp_path_factory.mktemp("lenient") / "model.onnx"
    card = model_file.read(tiny_model)[1]
    model_file.rewrite(tiny_model, replace(card, orientation={}), path, np.zeros((1, card.input_size, card.input_size)))
    return path


def drawn(n: int, seed: int = 80_000) -> list[Sample]:
    """Draw labelled images that `tiny_model` has not seen: every second a pneumonia, half of those with a subtype."""
    return [
        Sample(
            Path(f"set.npz#test/{i}"),
            i % 2,
            f"p{i}",
            subtype="virus" if i % 4 == 1 else None,
            pixels=drawn_image(i % 2, seed + i),
        )
        for i in range(n)
    ]
