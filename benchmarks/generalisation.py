"""How well a recipe's models do on patients, and on a naming series, that they were not trained on.

    python benchmarks/generalisation.py chest_xray/train --recipe recipes/default.toml --init imagenet

Seven trainings: five patient-grouped folds, and two imitations of a new site. Kermany's normals carry the names of two
series, `IM-` and `NORMAL2-IM-`; a model that learns from the normals of one and from half of the patients with
pneumonia meets the normals of the other and the other half. In each, the patients that choose the epoch, the
temperature and the threshold are a fifth of the training patients, so that those measured on have chosen nothing. Every
model is measured on its held-out images as they are, and on some 500 of them under each shift of
`pneumoscope.imaging.corruptions`.

Takes a quarter of an hour a training on two cores; broken off, the same command goes on where it was. The page is
written anew after each.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pneumoscope import Detector
from pneumoscope.atomic import write_text
from pneumoscope.data import layouts, splits
from pneumoscope.data.splits import Decoded
from pneumoscope.evaluation.evaluate import evaluate, under_corruptions
from pneumoscope.imaging import corruptions
from pneumoscope.training.recipe import Recipe
from pneumoscope.training.run import fit

ROOT = Path(__file__).parents[1]
FOLDS = 5
SERIES = ("IM-", "NORMAL2-IM-")
CORRUPTED = 500
"""Held-out images that go through every shift, at most: evenly spaced, so of both classes."""

FIGURES = ("auc", "sensitivity", "specificity", "balanced_accuracy", "ece")

Table = Mapping[str, Mapping[str, Any]]
"""What `Performance.as_dict` gives, by shift."""


def main() -> None:
    """Train and measure what is not there yet, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="Kermany's training split: NORMAL/ and PNEUMONIA/")
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes" / "default.toml")
    parser.add_argument("--init", default="imagenet", help="imagenet, or a file with MobileNetV2's ImageNet weights")
    parser.add_argument("--out", type=Path, help="the runs' folder; by default one of the recipe's name under runs/")
    parser.add_argument("--epochs", type=int, help="for the whole network; by default the recipe's")
    parser.add_argument("--only", nargs="*", help="the splits to run, by the names of their folders")
    parser.add_argument("--page", type=Path, help="where the page goes; by default beside the runs")
    arguments = parser.parse_args()

    changes = {"epochs": arguments.epochs} if arguments.epochs else {}
    recipe = Recipe.from_toml(arguments.recipe, init=arguments.init, **changes)
    out = arguments.out or ROOT / "runs" / "generalisation" / arguments.recipe.stem
    decoded = splits.decode(layouts.load(arguments.data), recipe.size)
    tables: dict[str, Table] = {}
    for name, (learnt, held_out) in held_out_parts(decoded, recipe.seed).items():
        result = out / name / "corruptions.json"
        if not result.exists() and (not arguments.only or name in arguments.only):
            measure(decoded.take(learnt), decoded.take(held_out), recipe, result)
        if result.exists():
            check(result.parent, recipe)
            tables[name] = json.loads(result.read_text(encoding="utf-8"))
            write_text(arguments.page or out / "generalisation.md", page(tables, recipe, arguments.recipe))


def held_out_parts(decoded: Decoded, seed: int) -> dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Name the splits: the positions of the images to learn from and of those to measure on."""
    parts = {f"fold-{i}": part for i, part in enumerate(splits.folds(decoded, FOLDS, seed), start=1)}
    names = np.array([Path(str(image.path)).name for image in decoded.samples])
    half = np.random.default_rng(seed).random(decoded.groups.max() + 1) < 0.5
    for own, other in (SERIES, SERIES[::-1]):
        normal = np.array([name.startswith(other) for name in names])
        held_out = np.where(decoded.labels == 0, normal, half[decoded.groups] == (own == SERIES[0]))
        shared = np.intersect1d(decoded.groups[held_out], decoded.groups[~held_out])
        held_out |= np.isin(decoded.groups, shared)  # identical images under both series
        parts[f"learnt-from-{own.rstrip('-')}"] = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    return parts


def measure(learnt: Decoded, held_out: Decoded, recipe: Recipe, result: Path) -> None:
    """Train on some images and predict the others under every shift."""
    run = fit(learnt.samples, result.parent, recipe, resume=True, progress=report)
    detector = Detector(run.model)
    some = np.arange(len(held_out.samples))[:: -(-len(held_out.samples) // CORRUPTED)]
    table = under_corruptions(held_out.take(some), detector)
    table["none"] = evaluate(held_out.samples, detector).performance
    write_text(result, json.dumps({shift: p.as_dict() for shift, p in table.items()}, indent=1))


def check(run: Path, recipe: Recipe) -> None:
    """Reject to show figures of another recipe than the one asked for."""
    found = json.loads((run / "recipe.json").read_text(encoding="utf-8"))["recipe"]
    if found != asdict(recipe):
        raise SystemExit(
            f"Expected a run of this recipe in '{run}', got another one's: name another folder with --out."
        )


def report(what: str, done: int, total: int, figures: object) -> None:
    """Say when each stretch is over."""
    if done == total:
        print(what, figures, flush=True)


def page(tables: Mapping[str, Table], recipe: Recipe, source: Path) -> str:
    """Lay the figures out in Markdown."""
    held_out = "\n".join(
        f"| {name} | {t['none']['n']} ({t['none']['positives']}) | "
        + " | ".join(interval(t["none"][figure]) for figure in FIGURES)
        + f" | {worst(t, 'sensitivity')} | {worst(t, 'specificity')} |"
        for name, t in tables.items()
    )
    shifts = "\n".join(
        f"| {shift} | "
        + " | ".join(
            f"{np.mean(values):.3f} ({np.min(values):.3f})"
            for figure in ("auc", "sensitivity", "specificity")
            if (values := [t[shift][figure]["value"] for t in tables.values()])
        )
        + " |"
        for shift in next(iter(tables.values()))
    )
    return f"""\
# On patients and images that a model was not trained on

Written by `python benchmarks/generalisation.py chest_xray/train`: {len(tables)} trainings of
[`recipes/{source.name}`](../recipes/{source.name}), here of {recipe.epochs} epochs, on parts of Kermany's
training split. A fold holds a fifth of the patients out. `learnt-from-IM` has learnt from normals of the naming series
`IM-` and from half of the patients with pneumonia, and is measured on the normals of `NORMAL2-IM-` and on the other
half; `learnt-from-NORMAL2-IM` the other way round. Those measured on have chosen nothing: epoch, temperature and
threshold come from a fifth of the patients learnt from. In brackets the 95 % interval; "worst" is the worst of
{len(next(iter(tables.values()))) - 2} shifts, inverted images apart, on at most {CORRUPTED} of the images.

| split | images (pneumonia) | AUC | sensitivity | specificity | balanced accuracy | ECE \
| worst sensitivity | worst specificity |
|---|---|---|---|---|---|---|---|---|
{held_out}

## Shift by shift

The mean over these splits, and in brackets the worst of them. "none" is all held-out images as they are, each other row
at most {CORRUPTED} of a split.

| shift | AUC | sensitivity | specificity |
|---|---|---|---|
{shifts}
"""


def interval(figure: Mapping[str, float]) -> str:
    """Write a figure with its interval."""
    return f"{figure['value']:.3f} ({figure['low']:.3f}–{figure['high']:.3f})"


def worst(table: Table, figure: str) -> str:
    """Name the shift under which a figure is lowest."""
    shifts = [shift for shift in table if shift not in corruptions.APART]
    shift = min(shifts, key=lambda name: float(table[name][figure]["value"]))
    return f"{interval(table[shift][figure])} {shift}"


if __name__ == "__main__":
    main()
