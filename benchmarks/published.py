"""Compares two published recipes with this project's, on the same patients and at another hospital.

    python benchmarks/published.py chest_xray/train nih/images.csv --init imagenet

`recipes/published-mobilenet.toml` is MobileNetV2 on 176 images, 136 to train on and 40 to validate on, for 20 epochs
(published: 99.3 % training and 95.0 % validation accuracy). `recipes/published-cnn.toml` is a plain CNN on Kermany's
data (published: 74 % accuracy, calling nearly everyone sick). Each draw uses different patients: for the first, 176
images, one per patient and half of them normal; for the second, 1,500 images with the natural share of pneumonias.
Every network then predicts the same images of a fifth of the patients, who are in no draw, and the NIH's adults whom
radiologists have read as normal or with an opacity.

With 136 images, ImageNet's features limit how good a network can get. So there is a third way to train the first
recipe, `mobilenet-from-images`: it starts from a network trained on chest radiographs of four fifths of the patients
(`recipes/default.toml`, 4 epochs), takes its 176 images from the last fifth, and is measured on the rest of that fifth.

Whatever the publications leave open is assumed, as stated in the files. As published, there is no calibration: the
threshold is 0.5.

It takes a few minutes per draw on two cores, and ten for the network to start from. If it is interrupted, the same
command continues where it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pneumoscope.atomic import write_text
from pneumoscope.data import splits
from pneumoscope.data.layouts import Sample
from pneumoscope.data.splits import Decoded
from pneumoscope.inference import model_file
from pneumoscope.metrics import metrics
from pneumoscope.metrics.calibration import Calibration
from pneumoscope.metrics.metrics import Estimate
from pneumoscope.training.augmentation import Augmentation
from pneumoscope.training.job import Job
from pneumoscope.training.recipe import Recipe
from pneumoscope.training.run import fit

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "scripts"))
from build_default_model import ADULTS, two_sites  # noqa: E402

TRAINED, VALIDATED = 68, 20
"""The number of images of each class in the first recipe."""

LARGER = 1500
"""The number of images in the second recipe."""

RECIPES = ROOT / "recipes"
START, START_EPOCHS = RECIPES / "default.toml", 4
"""The recipe of the network that `mobilenet-from-images` starts from."""

ELSEWHERE = "other hospital"
"""What the names of the scores at the other hospital begin with."""

Scores = dict[str, float]

Drawn = tuple[list[Sample], list[Sample]]
"""The images to train and validate on, and images of other patients to measure on."""


class Side(NamedTuple):
    """A way to train.

    Attributes:
        recipe: gives the recipe, by the weights to start from and the number of the draw.
        drawn: draws the images.
        published: whether what the network gives is taken as it is, at even odds, as the publications do.
    """

    recipe: Callable[[str, int], Recipe]
    drawn: Callable[[Decoded, Decoded, int], Drawn]
    published: bool = False


def main() -> None:
    """Train what is missing, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("children", type=Path, help="Kermany's training split: NORMAL/ and PNEUMONIA/")
    parser.add_argument("adults", type=Path, help="a CSV of NIH images with the columns path,label,readers,...")
    parser.add_argument("--init", default="imagenet", help="imagenet, or a file with MobileNetV2's ImageNet weights")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=list(SIDES), choices=list(SIDES), help="the sides to train")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "published", help="the runs' folder")
    parser.add_argument("--page", type=Path, help="where the page goes; by default beside the runs")
    arguments = parser.parse_args()

    arguments.out.mkdir(parents=True, exist_ok=True)
    samples = [sample for sample in two_sites(arguments.children, arguments.adults) if not sample.other]
    elsewhere = [sample for sample in samples if sample.site == ADULTS]
    decoded = splits.decode(
        [sample for sample in samples if sample.site != ADULTS], 64
    )  # only to find identical images
    drawn_from, held_out = splits.folds(decoded, 5, seed=0)[0]
    pool, others = decoded.take(drawn_from), decoded.take(held_out)
    for draw in range(arguments.draws):
        for name in arguments.only:
            side, run = SIDES[name], arguments.out / f"{name}-{draw}"
            result = run.with_suffix(".json")
            if not result.exists():
                own = side.drawn is drawn_elsewhere
                start = learnt(pool, arguments.init, arguments.out) if own else arguments.init
                images, unseen = side.drawn(pool, others, draw)
                found = scored(side, side.recipe(start, draw), images, unseen, elsewhere, run)
                write_text(result, json.dumps(found))
                print(name, draw, result.read_text(encoding="utf-8"), flush=True)
            write_text(arguments.page or arguments.out / "published-recipes.md", page(known(arguments.out)))


def known(out: Path) -> dict[str, list[Scores]]:
    """Read the scores of all draws that are already trained."""
    found = {
        name: [json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob(f"{name}-*.json"))]
        for name in SIDES
    }
    return {name: draws for name, draws in found.items() if draws}


def learnt(pool: Decoded, init: str, out: Path) -> str:
    """Return the network that `mobilenet-from-images` starts from, training it if it is missing."""
    path = out / "start" / "model.keras"
    if not path.exists():
        fit(Job(pool.samples, path.parent, Recipe.from_toml(START, init=init, epochs=START_EPOCHS), resume=True))
    return str(path)


def drawn_elsewhere(pool: Decoded, others: Decoded, draw: int) -> Drawn:
    """Draw the first recipe's images from patients that the initial network was not trained on."""
    samples = few(others, draw)
    paths = {sample.path for sample in samples}
    taken = {group for sample, group in zip(others.samples, others.groups, strict=True) if sample.path in paths}
    rest = zip(others.samples, others.groups, strict=True)
    return samples, [sample for sample, group in rest if group not in taken]


def drawn_few(pool: Decoded, others: Decoded, draw: int) -> Drawn:
    """Draw the first recipe's images."""
    return few(pool, draw), others.samples[::2]


def drawn_many(pool: Decoded, others: Decoded, draw: int) -> Drawn:
    """Draw the second recipe's images: patients in any order, with all their images, until there are enough."""
    order = np.random.default_rng(draw).permutation(int(pool.groups.max()) + 1)
    turn = np.argsort(order[pool.groups], kind="stable")
    return [replace(pool.samples[i], split=None) for i in turn[:LARGER]], others.samples[::2]


def few(pool: Decoded, draw: int) -> list[Sample]:
    """Draw images, one per patient and equally many of each class, in two splits."""
    order = np.random.default_rng([0, draw]).permutation(len(pool.samples))
    _, first = np.unique(pool.groups[order], return_index=True)
    samples = [pool.samples[i] for i in order[np.sort(first)]]
    chosen = []
    for label in (0, 1):
        ours = [sample for sample in samples if sample.label == label][: TRAINED + VALIDATED]
        chosen += [replace(sample, split="train" if i < TRAINED else "val") for i, sample in enumerate(ours)]
    return chosen


def published_mobilenet(init: str, draw: int) -> Recipe:
    """Return the first recipe as it was published."""
    return Recipe.from_toml(RECIPES / "published-mobilenet.toml", init=init, seed=draw)


def our_mobilenet(init: str, draw: int) -> Recipe:
    """Return this project's recipe for a few images."""
    return Recipe(
        architecture="mobilenet_v2_short",
        init=init,
        size=128,
        head="logistic",
        epochs=0,
        seed=draw,
        augmentation=Augmentation(horizontal_flip=0.5),
    )


def our_mobilenet_from_images(init: str, draw: int) -> Recipe:
    """Return this project's recipe for a few images and a network pretrained on chest radiographs."""
    few = {"epochs": 2, "epoch_images": 8 * 2 * TRAINED, "learning_rate": 1e-5}
    return Recipe.from_toml(START, init=init, head="epochs", head_epochs=0, seed=draw, **few)


def published_cnn(init: str, draw: int) -> Recipe:
    """Return the second recipe as it was published."""
    return Recipe.from_toml(RECIPES / "published-cnn.toml", seed=draw)


def our_cnn(init: str, draw: int) -> Recipe:
    """Return this project's recipe for the plain CNN."""
    return Recipe(architecture="cnn", size=160, epochs=10, seed=draw)


def scored(
    side: Side, recipe: Recipe, samples: list[Sample], unseen: list[Sample], elsewhere: list[Sample], run: Path
) -> Scores:
    """Train, and compute the scores: accuracies at even odds as published, and at the network's own threshold."""
    graph, card = model_file.read(fit(Job(samples, run, recipe, resume=True)).model)
    compiled = model_file.compile_graph(graph)
    fitted = Calibration() if side.published else card.calibration

    def predicted(part: Sequence[Sample]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        decoded = splits.decode(part, recipe.size)
        batches = np.array_split(np.asarray(decoded.pixels, np.float32)[..., None], -(-len(part) // 32))
        return decoded.labels, fitted.probabilities(np.concatenate([compiled(batch)["logit"] for batch in batches]))

    scores = {}
    for split, name in (("train", "training accuracy"), ("val", "validation accuracy")):
        if part := [sample for sample in samples if sample.split == split]:
            y, p = predicted(part)
            scores[name] = float(((p >= 0.5) == y).mean())
            if split == "val":
                scores[f"{name}, own threshold"] = float(((p >= fitted.threshold) == y).mean())
    for name, part in (("unseen", unseen), (ELSEWHERE, elsewhere)):
        y, p = predicted(part)
        called = p >= fitted.threshold
        scores |= {
            f"{name}: accuracy": float(((p >= 0.5) == y).mean()),
            f"{name}: accuracy, own threshold": float((called == y).mean()),
            f"{name}: sensitivity, own threshold": float(called[y == 1].mean()),
            f"{name}: specificity, own threshold": float((~called)[y == 0].mean()),
            f"{name}: AUC": metrics.delong(y, p).value,
        }
    return scores


SIDES = {
    "mobilenet-published": Side(published_mobilenet, drawn_few, published=True),
    "mobilenet-ours": Side(our_mobilenet, drawn_few),
    "mobilenet-from-images": Side(our_mobilenet_from_images, drawn_elsewhere),
    "cnn-published": Side(published_cnn, drawn_many, published=True),
    "cnn-ours": Side(our_cnn, drawn_many),
}


def mean(values: Sequence[float]) -> Estimate:
    """Estimate the mean of shares over draws with Student's t interval (Student 1908, Biometrika 6:1) inside [0, 1].

    Example:
        >>> print(mean([0.9, 0.9, 0.9]))
        0.900 (0.900–0.900)
    """
    from scipy.stats import t

    x = np.asarray(values, dtype=np.float64)
    reach = t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)) if len(x) > 1 else np.nan
    low, high = np.clip([x.mean() - reach, x.mean() + reach], 0.0, 1.0)
    return Estimate(float(x.mean()), float(low), float(high))


def page(scores: dict[str, list[Scores]]) -> str:
    """Format the scores as Markdown."""
    names = list(dict.fromkeys(name for draws in scores.values() for draw in draws for name in draw))
    elsewhere = [name for name in names if name.startswith(ELSEWHERE)]
    return f"""\
# The published recipes, side by side

Written by `python benchmarks/published.py chest_xray/train nih/images.csv`: the mean over draws of patients, with
Student's 95 % interval of that mean inside [0, 1]. `mobilenet` learns from 136 images and is validated on 40, one image
per patient, half of them normal; `cnn` learns from {LARGER:,}. `published` are the recipes as published, `ours` what
this project does with the same images. Where no threshold is named it is 0.5, as published; a network's own threshold
is 0.5 for those trained as published, while this project fits it on the validation images, which flatters the accuracy
on these and not that on others.

## Adults of another hospital

The NIH's adults whom radiologists have read as normal or with an opacity. No network has learnt from that hospital.

{table(scores, elsewhere)}

## Children of the same hospital

"Unseen" are images of other patients: half of those of a fifth whom no draw takes, the same for all; for
`mobilenet-from-images`, which starts from a network that has learnt from the other four fifths, all of that fifth but
the drawn patients.

{table(scores, [name for name in names if name not in elsewhere])}

Published: MobileNetV2 99.3 % training and 95.0 % validation accuracy; plain CNN 74 % accuracy on the official test
split, over-predicting pneumonia. What the publications leave open is assumed, as `recipes/published-*.toml` say.
"""


def table(scores: dict[str, list[Scores]], names: Sequence[str]) -> str:
    """Format some of the scores as a table; a single draw has no interval."""

    def cell(draws: list[Scores], name: str) -> str:
        values = [draw[name] for draw in draws if name in draw]
        return str(mean(values)) if len(values) > 1 else "".join(f"{value:.3f}" for value in values)

    titles = [name.removeprefix(f"{ELSEWHERE}: ") for name in names]
    rows = [
        f"| {side} | {len(draws)} | " + " | ".join(cell(draws, name) for name in names) + " |"
        for side, draws in scores.items()
    ]
    return "\n".join([f"| side | draws | {' | '.join(titles)} |", "|" + "---|" * (len(names) + 2), *rows])


if __name__ == "__main__":
    main()
