"""Draws data sets for audits, and copies of their images."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from pneumoscope.auditing.result import Audit
from pneumoscope.data.layouts import LABELS, Sample

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


def files(folder: Path, made: Callable[[int, int], tuple[Pixels, str, dict[str, Any]]], n: int = 30) -> list[Sample]:
    """Save `n` images a class; `made(i, label)` gives image, suffix and what else Pillow is to know."""
    images = []
    for i in range(2 * n):
        image, suffix, options = made(i, i % 2)
        path = save(image, folder / f"{i}{suffix}", **options)
        images.append(Sample(path, i % 2, f"p{i}"))
    return images


def faulty_folder(root: Path) -> Path:
    """Write a folder in Kaggle's layout with a fault of each kind."""
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
