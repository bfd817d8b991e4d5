"""Measures how many images of other kinds a model rejects, and how many chest radiographs it accepts.

    python benchmarks/gate.py --images chest_xray/val --images more/images --adults nih/images.csv

The other images are those shipped with pydicom and, if installed, scikit-image, charts drawn with Matplotlib, and every
kind of `pneumoscope.ood.negatives`. The model was trained on such negatives, but not on these draws, nor on the images
and charts. Chest radiographs are measured unchanged, with each of `pneumoscope.imaging.corruptions`, rotated, inverted
and mirrored; give some that the model was not trained on. A second table says how many radiographs of adults are
accepted, by view, and collimated, with burnt-in text and slightly rotated. The tables are in Markdown, with 95 %
intervals in brackets.
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pneumoscope import Detector
from pneumoscope.data import layouts
from pneumoscope.errors import NotAChestRadiographError, PneumoscopeError
from pneumoscope.imaging import corruptions, radiograph
from pneumoscope.metrics import metrics
from pneumoscope.ood import negatives, orientation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Images = list[NDArray[Any]]

ADULT = 18
"""The age in years from which on a patient is an adult."""

DRAWN = 100
"""The number of images of each drawn kind."""

SMALLEST = 60
"""The smallest side in pixels; pydicom ships many smaller images that are only colour bars and stamps."""

STYLES = ("default", "dark_background", "ggplot", "grayscale", "bmh", "seaborn-v0_8", "Solarize_Light2")
DOCUMENTS = ("page", "text")
DRAWINGS = ("chessboard_GRAY", "clock_motion", "color", "horse", "logo", "phantom")
"""The images of scikit-image that are not photographs."""


def main() -> None:
    """Predict all images and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="by default the bundled one")
    parser.add_argument(
        "--images", type=Path, action="append", default=[], help="frontal chest radiographs, a file or folder"
    )
    parser.add_argument("--adults", type=Path, help="radiographs of adults, a CSV with a column view")
    parser.add_argument("--others", type=Path, action="append", default=[], help="other images, a folder a row")
    parser.add_argument("--most", type=int, default=200, help="images that are shown, at most")
    arguments = parser.parse_args()

    detector = Detector(arguments.model)
    images = list(readable(file for folder in arguments.images for file in radiograph.files(folder)))
    images = images[:: max(1, len(images) // arguments.most)][: arguments.most]
    others = {folder.name: list(readable(radiograph.files(folder))) for folder in arguments.others}
    print("| images | n | rejected | rejected or unlike | other warnings |\n|---|---|---|---|---|")
    for name, shown_now in (of_packages() | plotted() | others | drawn(images) | shown(images)).items():
        print(row(name, shown_now, detector), flush=True)
    if arguments.adults:
        print("\n| adults | n | accepted | accepted and not unlike | other warnings |\n|---|---|---|---|---|")
        for name, shown_now in of_adults(arguments.adults).items():
            print(row(name, shown_now, detector, accepted=True), flush=True)


def row(name: str, images: Images, detector: Detector, *, accepted: bool = False) -> str:
    """Predict images of one kind, and return a row with the number rejected, or accepted."""
    findings = list(detector.examine(images))
    rejected = np.array([isinstance(finding.error, NotAChestRadiographError) for finding in findings], dtype=bool)
    unlike = np.array(["unlike_training_images" in finding.warnings for finding in findings], dtype=bool)
    ways = Counter(w for finding in findings for w in finding.warnings if w in ("rotated", "inverted", "mirrored"))
    counted = (flags != accepted for flags in (rejected, rejected | unlike))
    shares = (metrics.wilson(int(flags.sum()), len(flags)) for flags in counted)
    told = ", ".join(f"{way} {n}" for way, n in ways.items())
    return f"| {name} | {len(findings)} | {' | '.join(map(str, shares))} | {told} |"


def readable(files: Iterable[Path]) -> Iterator[NDArray[np.float32]]:
    """Read the images that can be read."""
    for file in files:
        try:
            yield radiograph.read(file).pixels
        except PneumoscopeError as error:
            print(f"{file}: {error}")


def of_packages() -> dict[str, Images]:
    """Collect the images shipped with pydicom and scikit-image, without duplicates."""
    kinds: dict[str, Images] = {}
    kinds |= {f"pydicom: {modality}": images for modality, images in sorted(of_pydicom().items())}
    if spec := find_spec("skimage"):
        for file in sorted(Path(str(spec.origin)).with_name("data").iterdir()):
            if file.suffix in (".png", ".jpg"):
                kind = "document" if file.stem in DOCUMENTS else "drawing" if file.stem in DRAWINGS else "photograph"
                kinds.setdefault(f"scikit-image: {kind}", []).extend(readable([file]))
    return kinds


def of_pydicom() -> dict[str, Images]:
    """Collect pydicom's images by modality, rendered as in an export, without their headers."""
    import pydicom
    from pydicom.data import get_testdata_files

    kinds: dict[str, Images] = {}
    seen = set()
    for file in get_testdata_files():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                header = pydicom.dcmread(file, force=True)
                pixels = header.pixel_array
        except Exception:  # noqa: BLE001 - a damaged test file, a folder, or a missing decoder
            continue
        while pixels.ndim > 3 or (pixels.ndim == 3 and pixels.shape[-1] != 3):
            pixels = pixels[0]
        low, high = np.percentile(pixels, (0.5, 99.5))
        image = np.clip((pixels - low) / max(high - low, 1), 0, 1).astype(np.float32)
        key = np.round(20 * image).astype(np.uint8).tobytes()
        if min(image.shape[:2]) >= SMALLEST and key not in seen:
            seen.add(key)
            modality = str(header.get("Modality", "OT"))
            kinds.setdefault(modality if modality in ("CT", "MR", "US", "NM") else "other", []).append(image)
    return kinds


def plotted() -> dict[str, Images]:
    """Draw charts with Matplotlib, in several styles."""
    from matplotlib import style
    from matplotlib.figure import Figure

    images = []
    for i in range(DRAWN):
        with style.context(STYLES[i % len(STYLES)]):
            rng, file = np.random.default_rng(i), BytesIO()
            figure = Figure(figsize=tuple(rng.uniform(3, 8, 2)), dpi=60)
            plot(figure.add_subplot(), i, rng)
            figure.savefig(file, format="png")
            images.append(radiograph.read(file.getvalue()).pixels)
    return {"Matplotlib: diagram": images}


def plot(axes: Axes, kind: int, rng: np.random.Generator) -> None:
    """Plot random numbers, in one of ten ways."""
    walks, field = rng.normal(size=(4, 100)).cumsum(axis=1), rng.normal(size=(40, 40)).cumsum(axis=0).cumsum(axis=1)
    ways: tuple[Callable[[], object], ...] = (
        lambda: axes.plot(walks.T, linewidth=rng.uniform(0.5, 4)),
        lambda: axes.bar(range(8), rng.random(8)),
        lambda: axes.barh(range(8), rng.random(8)),
        lambda: axes.hist(rng.normal(size=1000), int(rng.integers(8, 60))),
        lambda: axes.scatter(walks[0], walks[1], c=walks[2]),
        lambda: axes.imshow(field, cmap=("gray", "bone", "viridis")[kind % 3]),
        lambda: axes.contourf(field, 10),
        lambda: axes.pie(rng.random(5)),
        lambda: axes.boxplot(list(walks)),
        lambda: axes.fill_between(range(100), walks[0], walks[1]),
    )
    ways[kind % len(ways)]()
    axes.set_title("A diagram" if rng.random() < 0.5 else "")


def drawn(images: Images) -> dict[str, Images]:
    """Draw negatives of every kind; some kinds are made from these images."""
    size = 256
    squashed = np.stack([radiograph.resize(image, size) for image in images]) if images else np.zeros((0, size, size))
    kinds = [kind for kind in negatives.KINDS if images or kind not in negatives.OF_IMAGES]
    return {
        f"drawn: {kind}": [
            negatives.draw(kind, np.random.default_rng([i, len(kind)]), size, squashed) for i in range(DRAWN)
        ]
        for kind in kinds
    }


def shown(images: Images) -> dict[str, Images]:
    """Return chest radiographs unchanged, with corruptions, and in wrong orientations."""
    if not images:
        return {}
    shifts = [name for name in corruptions.CORRUPTIONS if name not in corruptions.APART]
    rng = np.random.default_rng(0)
    squashed = [radiograph.resize(image, 256) for image in images]
    kinds = {"chest radiographs": images}
    kinds["under one corruption"] = [
        corruptions.apply(shifts[i % len(shifts)], image) for i, image in enumerate(images)
    ]
    kinds["changed in several ways at once"] = [orientation.varied(image, rng) for image in squashed]
    return kinds | {
        way: [make(image) for image in images] for way, (remark, make) in orientation.WAYS.items() if remark
    }


def of_adults(table: Path) -> dict[str, Images]:
    """Read radiographs of adults by view, and add versions that are collimated, have text, or are slightly rotated."""
    by_view: dict[str, Images] = {}
    for sample in layouts.load(table, complete=False, other="negative"):
        if sample.age is None or sample.age >= ADULT:
            by_view.setdefault(f"as they are, {sample.view or 'view unknown'}", []).extend(readable([sample.path]))
    rng = np.random.default_rng(0)
    whole = [image for images in by_view.values() for image in images]
    turned = [Image.fromarray(image).rotate(rng.uniform(-10, 10), Image.Resampling.BILINEAR) for image in whole]
    return by_view | {
        "collimated": [collimated(image, rng) for image in whole],
        "with burnt-in text": [corruptions.apply("letters", image) for image in whole],
        "turned by up to 10°": [np.asarray(image) for image in turned],
    }


def collimated(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Blacken up to an eighth of a radiograph at each edge."""
    height, width = image.shape
    top, left, bottom, right = rng.uniform(0.0, 0.125, 4)
    shown = np.zeros_like(image)
    inner = (
        slice(round(top * height), round((1 - bottom) * height)),
        slice(round(left * width), round((1 - right) * width)),
    )
    shown[inner] = image[inner]
    return shown


if __name__ == "__main__":
    main()
