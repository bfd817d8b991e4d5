"""Train the model that comes with Pneumoscope, from images to model file and model card.

    python scripts/build_default_model.py chest_xray/train --init imagenet

Two trainings from one start, of which the second changes the place of images more strongly, are averaged weight by
weight. They take half an hour on two cores; broken off, the same command goes on where it was. The card holds the
figures of the very file that is shipped, on patients it was not trained on.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

from pneumoscope import Detector
from pneumoscope.atomic import replacing, write_text
from pneumoscope.data import layouts, splits
from pneumoscope.evaluation import evaluate
from pneumoscope.evaluation.evaluate import Evaluation
from pneumoscope.inference import model_file
from pneumoscope.training.recipe import Recipe
from pneumoscope.training.run import fit, soup

ROOT = Path(__file__).parents[1]
RECIPES = ("default", "default-wide")
CARD = ROOT / "docs" / "model-card.md"


def main() -> None:
    """Train, measure, and put model and card in their places."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="Kermany's training split: NORMAL/ and PNEUMONIA/")
    parser.add_argument("--init", default="imagenet", help="imagenet, or a file with MobileNetV2's ImageNet weights")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "default", help="the run's folder")
    arguments = parser.parse_args()

    parts = []
    for name in RECIPES:
        recipe = Recipe.from_toml(ROOT / "recipes" / f"{name}.toml", init=arguments.init)
        parts.append(arguments.out / name)
        fit(arguments.data, parts[-1], recipe, resume=True, progress=report)
    run = soup(arguments.data, arguments.out / "soup", parts, progress=report)
    held_out = [sample for sample in layouts.load(run.model.parent / "split.csv") if sample.split == "val"]
    detector = Detector(run.model)
    decoded = splits.decode(held_out, detector.card.input_size)
    measured = replace(
        evaluate.evaluate(held_out, detector),
        corrupted=evaluate.under_corruptions(decoded, detector),
        localisation=evaluate.localise(decoded, detector),
    )
    with replacing(model_file.default()) as draft:
        shutil.copyfile(run.model, draft)
    write_text(CARD, card_text(measured))


def report(what: str, done: int, total: int, figures: object) -> None:
    """Say when each stretch is over."""
    if done == total:
        print(what, figures, flush=True)


def card_text(measured: Evaluation) -> str:
    """Write the model card, after Mitchell et al. 2019, "Model Cards for Model Reporting"."""
    card, table, localisation = measured.card, measured.corrupted, measured.localisation
    fitted = card.calibration
    figures = "\n".join(f"| {name.replace('_', ' ')} | {e} |" for name, e in table["none"].figures.items())
    subtypes = "\n".join(f"| {name} | {n} | {e} |" for name, (n, e) in measured.subtypes.items())
    shifts = "\n".join(
        f"| {name} | {p.figures['auc']} | {p.figures['sensitivity']} | {p.figures['specificity']} |"
        for name, p in table.items()
    )
    headline = " and ".join(
        f"{figure} {table[shift].figures[figure]} ({shift})"
        for figure in evaluate.HEADLINE
        if (shift := evaluate.worst_corruption(table, figure))
    )
    assert localisation is not None
    kept, held = card.data["training"], card.data["validation"]
    return f"""\
# Model card: the model that comes with Pneumoscope

Written by `python scripts/build_default_model.py`, with the figures of the shipped file.

**{card.intended_use}**

| | |
|---|---|
| architecture | {card.architecture}, {card.input_size} x {card.input_size} pixels, pretrained on ImageNet |
| recipe | the mean of the weights of [`recipes/default.toml`](../recipes/default.toml) and \
[`recipes/default-wide.toml`](../recipes/default-wide.toml) |
| trained on | {kept["images"]:,} images ({kept["pneumonia"]:,} pneumonia) of {kept["patients"]:,} patients |
| measured on | {held["images"]:,} images ({held["pneumonia"]:,} pneumonia) of {held["patients"]:,} other patients |
| data | Kermany, Zhang, Goldbaum, doi:10.17632/rscbjbr9sj.2, CC BY 4.0: the training split, frontal chest radiographs \
of children of one to five years, Guangzhou Women and Children's Medical Center |
| threshold | {fitted.threshold:.3f}. {fitted.threshold_reason} |
| uncertain | from {fitted.uncertain_low:.3f} to {fitted.uncertain_high:.3f}. {fitted.uncertain_reason} |
| temperature | {fitted.temperature:.3f} |
| licence | {card.licence} |

## On held-out patients

At the shipped threshold; in brackets the 95 % interval: DeLong for the AUC, Wilson for proportions, a bootstrap over
patients for the rest.

| figure | value |
|---|---|
{figures}

| subtype | images | sensitivity |
|---|---|---|
{subtypes}

## On corrupted images

The same images as a scanner, an exporter or a technician might have given them (`pneumoscope.imaging.corruptions`).
At worst, inverted images apart: {headline}.

| shift | AUC | sensitivity | specificity |
|---|---|---|---|
{shifts}

## Where it looks

`evaluate.localise`, on the same images. The thorax is an ellipse that touches the edges nearly; no lungs are segmented.

| | |
|---|---|
| evidence for pneumonia outside the thorax | {localisation.outside}; even evidence would give {localisation.even:.3f} |
| findings that change when the surroundings are hidden | {localisation.flipped} |
| AUC when the thorax is hidden | {localisation.auc_around} |

## Limits

- The held-out patients chose the epoch, the temperature and the threshold, and they are of the hospital the model was
  trained on: the figures flatter it. Expect less on images from elsewhere, and measure it there with
  `pneumoscope evaluate`.
- All training images are of children of one to five years from one hospital. Adults, other projections and other
  diseases were never shown; an opacity of any cause may be called pneumonia.
- The labels are those of the collection; NORMAL means no pneumonia was labelled, not that the child was well.
- Images turned by 8 degrees are called pneumonia too seldom, noisy ones and those cut closer too often; inverted ones
  lose a tenth of their sensitivity.
- The evidence is not always in the lungs: on some images it is strongest over neck or shoulder.
- The finding is on one frontal radiograph alone. Photographs, drawings, sections and other images that are no chest
  radiograph are rejected, though not all of them; some get a finding and a warning, few a finding alone. Radiographs of
  other body parts and lateral radiographs were not there to learn from. `benchmarks/gate.py` measures it.
- Images that are turned or inverted bring a warning and still get a finding, which is not to be trusted; some
  mirrored images go unnoticed.
"""


if __name__ == "__main__":
    main()
