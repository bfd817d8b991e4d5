"""Measures how well a recipe's models do at hospitals and on patients that they were not trained on.

    python benchmarks/generalisation.py chest_xray/train nih/images.csv --recipe recipes/default.toml --init imagenet

The measure for choosing a recipe comes first: training at one site and measuring at the other, in both directions. Then
follow folds of both sites together, split by patient. In each, temperature and threshold are chosen on patients held
out from training, so that nothing is chosen on those measured on. For comparison, each row has the in-house validation
of the same model, and the acquisition probe: how well the edges of the image, its histogram and its spectrum alone
predict the model's logits on normals.

It takes ten minutes per training on two cores. If it is interrupted, the same command continues where it stopped. The
page is updated after each training.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from pneumoscope import Detector
from pneumoscope.atomic import write_text
from pneumoscope.data import splits
from pneumoscope.data.layouts import Sample
from pneumoscope.evaluation import acquisition
from pneumoscope.evaluation import evaluate as evaluation
from pneumoscope.metrics import calibration, metrics
from pneumoscope.training import run as training
from pneumoscope.training.job import Job
from pneumoscope.training.packaging import Run
from pneumoscope.training.recipe import Recipe

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from build_default_model import report, two_sites

ROOT = Path(__file__).parents[1]
FOLDS = 4
PROBED = 600
"""The most normal images of a site for the acquisition probe."""


def main() -> None:
    """Train and measure what is missing, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("children", type=Path, help="Kermany's training split: NORMAL/ and PNEUMONIA/")
    parser.add_argument("adults", type=Path, help="a CSV of NIH images with the columns path,label,readers,boxes,...")
    parser.add_argument("--recipe", type=Path, nargs="+", default=[ROOT / "recipes" / "default.toml"])
    parser.add_argument("--init", default="imagenet", help="imagenet, or a file with MobileNetV2's ImageNet weights")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "generalisation", help="the runs' folder")
    parser.add_argument("--only", nargs="*", help="the splits to run, by the names of their folders")
    parser.add_argument("--images", type=int, help="images per epoch; by default the recipe's")
    parser.add_argument("--page", type=Path, help="where the page goes; by default beside the runs")
    arguments = parser.parse_args()

    samples = two_sites(arguments.children, arguments.adults)
    found: dict[str, dict[str, Any]] = {}
    for path in arguments.recipe:
        changes = {"epoch_images": arguments.images} if arguments.images else {}
        recipe = Recipe.from_toml(path, init=arguments.init, **changes)
        for name, (learnt, held_out) in parts(samples, recipe).items():
            out = arguments.out / path.stem / name
            result = out / "generalisation.json"
            if not result.exists() and (not arguments.only or name in arguments.only):
                run = training.fit(Job(learnt, out, recipe, resume=True, progress=report))
                write_text(result, json.dumps(measured(run, held_out), indent=1))
            if result.exists():
                found.setdefault(name, {})[path.stem] = json.loads(result.read_text(encoding="utf-8"))
                write_text(arguments.page or arguments.out / "generalisation.md", page(found))


def parts(samples: Sequence[Sample], recipe: Recipe) -> dict[str, tuple[list[Sample], list[Sample]]]:
    """Return the splits by name: the images to train on, and those to measure on."""
    sites = sorted({sample.site for sample in samples}, reverse=True)
    named = {
        f"learnt-at-{site}": (
            [sample for sample in samples if sample.site == site],
            [sample for sample in samples if sample.site != site],
        )
        for site in sites
    }
    decoded = splits.decode(samples, 64)  # small, to find identical images
    for i, (learnt, held_out) in enumerate(splits.folds(decoded, FOLDS, recipe.seed), start=1):
        named[f"fold-{i}"] = ([decoded.samples[j] for j in learnt], [decoded.samples[j] for j in held_out])
    return named


def measured(run: Run, held_out: Sequence[Sample]) -> dict[str, Any]:
    """Measure the held-out images by site and view, and add the in-house validation."""
    detector = Detector(run.model)
    in_house = detector.card.metrics
    sites: dict[str, Any] = {}
    for site in sorted({sample.site for sample in held_out}):
        here = [sample for sample in held_out if sample.site == site]
        result = evaluation.evaluate([sample for sample in here if not sample.other], detector)
        views = sorted({sample.view for sample in result.samples if sample.view})
        beyond = calibration.beyond_band(result.labels, result.probabilities, detector.card.calibration)
        rows = {"all": result.performance.as_dict() | {name: asdict(e) for name, e in beyond.items()}}
        for view in views:
            chosen = np.array([sample.view == view for sample in result.samples])
            rows[view] = {"auc": asdict(metrics.delong(result.labels[chosen], result.probabilities[chosen]))}
        if others := [sample for sample in here if sample.other]:
            called = [f.finding == "PNEUMONIA" for f in detector.examine(s.source for s in others) if f.error is None]
            rows["all"]["others_called_pneumonia"] = asdict(metrics.wilson(sum(called), len(called)))
        rows["all"]["rejected"] = asdict(
            metrics.wilson(len(result.failures), len(result.failures) + len(result.samples))
        )
        rows["all"]["acquisition_probe"] = asdict(probe(result, detector))
        sites[site] = rows
    return {"in_house": in_house, "sites": sites}


def probe(result: evaluation.Evaluation, detector: Detector) -> metrics.Estimate:
    """Run the acquisition probe on some normals of an evaluation."""
    normal = np.flatnonzero(result.labels == 0)
    chosen = normal[:: -(-len(normal) // PROBED)]
    images = [replace(result.samples[i], split=None) for i in chosen]
    decoded = splits.decode(images, detector.card.input_size)
    logits = detector.card.calibration.logits(result.probabilities[chosen])
    return acquisition.probe(decoded.pixels, logits, [image.patient for image in images])


def page(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Format the figures as Markdown."""
    rows = []
    for split, recipes in found.items():
        for recipe, result in recipes.items():
            for site, of in result["sites"].items():
                whole = of["all"]
                figures = [whole[name] for name in ("auc", "sensitivity", "specificity", "ece")]
                views = "; ".join(f"{view} {interval(row['auc'])}" for view, row in of.items() if view != "all")
                others = interval(whole["others_called_pneumonia"]) if "others_called_pneumonia" in whole else ""
                rows.append(
                    f"| {split} | {recipe} | {site}, {whole['n']} ({whole['positives']}) | "
                    + " | ".join(map(interval, figures))
                    + f" | {views} | {others} | {interval(whole['normals_above'])}, "
                    f"{interval(whole['pneumonias_below'])} | {interval(whole['rejected'])} | "
                    f"{interval(whole['acquisition_probe'])} | {interval(result['in_house']['auc'])} |"
                )
    table = "\n".join(rows)
    return f"""\
# At hospitals and on patients that a model was not trained on

Written by `python benchmarks/generalisation.py chest_xray/train nih/images.csv`. `learnt-at-Guangzhou` was trained at
Guangzhou alone and is measured at Bethesda, `learnt-at-Bethesda` the other way round; a fold holds a quarter of the
patients of both sites out. Those measured on have chosen nothing. In brackets the 95 % interval. "In house" is the AUC
on held-out patients of the sites trained on: what would have chosen the recipe otherwise.

| split | recipe | measured at, images (pneumonia) | AUC | sensitivity | specificity | ECE | AUC by view \
| other findings called pneumonia | beyond the band: normals, pneumonias | rejected | acquisition probe | in house |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
{table}
"""


def interval(figure: Mapping[str, float]) -> str:
    """Format a figure with its interval."""
    return f"{figure['value']:.3f} ({figure['low']:.3f}–{figure['high']:.3f})"


if __name__ == "__main__":
    main()
