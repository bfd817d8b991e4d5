"""Trains the model that comes with Pneumoscope, and writes its model file and model card.

    python scripts/build_default_model.py chest_xray/train nih/images.csv --init imagenet

The children of Kermany's training split and the adults of the NIH's images that radiologists have read are two sites.
Two networks are trained on them with `recipes/default.toml` and `recipes/default-exchanged.toml`, and the mean of their
weights is the model. It takes an hour on two cores with PyTorch; if it is interrupted, the same command continues where
it stopped. The card holds the figures of the shipped file itself, on patients it was not trained on; `--card` only
measures that file again and writes the card.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pneumoscope import Detector
from pneumoscope.atomic import replacing, write_text
from pneumoscope.data import layouts, splits
from pneumoscope.data.layouts import Sample
from pneumoscope.evaluation import evaluate
from pneumoscope.evaluation.evaluate import Evaluation, Localisation
from pneumoscope.inference import model_file
from pneumoscope.inference.model_file import Card
from pneumoscope.metrics import calibration
from pneumoscope.metrics.metrics import expected_calibration_error
from pneumoscope.training import data
from pneumoscope.training import run as training
from pneumoscope.training.job import Job
from pneumoscope.training.recipe import Recipe

sys.path.insert(0, str(Path(__file__).parent))

import readme_figures

ROOT = Path(__file__).parents[1]
CARD = ROOT / "docs" / "model-card.md"
RECIPES = [ROOT / "recipes" / name for name in ("default.toml", "default-exchanged.toml")]
"""The recipes of the networks that are averaged."""
CHILDREN, ADULTS = "Guangzhou", "Bethesda"
READ_AS = {"normal": (0, False), "opacity": (1, False), "abnormal, no opacity": (0, True)}
"""The label, and whether it is another finding, for each reading by the radiologists of the RSNA's challenge."""


def main() -> None:
    """Train, measure, and install model and card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("children", type=Path, help="Kermany's training split: NORMAL/ and PNEUMONIA/")
    parser.add_argument("adults", type=Path, help="a CSV of NIH images with the columns path,label,readers,boxes,...")
    parser.add_argument("--init", default="imagenet", help="imagenet, or a file with MobileNetV2's ImageNet weights")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "default", help="the runs' folder")
    parser.add_argument(
        "--card", action="store_true", help="train nothing: measure the shipped file and write its card"
    )
    arguments = parser.parse_args()
    samples = two_sites(arguments.children, arguments.adults)
    if not arguments.card:
        build(samples, arguments.init, arguments.out)
    detector = Detector()
    write_text(CARD, card_text(*measure(held_out(samples, detector.card), detector)))
    readme_figures.main()


def build(samples: Sequence[Sample], init: str, out: Path) -> None:
    """Train both networks, average them, and install the model file."""
    members = [out / path.stem for path in RECIPES]
    for path, member in zip(RECIPES, members, strict=True):
        if not (member / "model.onnx").exists():
            training.fit(Job(samples, member, Recipe.from_toml(path, init=init), resume=True, progress=report))
    run = training.soup(Job(samples, out / "mean", progress=report), members)
    with replacing(model_file.default()) as draft:
        shutil.copyfile(run.model, draft)


def held_out(samples: Sequence[Sample], card: Card) -> list[Sample]:
    """Hold out the same patients as the training."""
    recipe = Recipe.from_toml(RECIPES[0])
    validation = data.partition(splits.decode(samples, recipe.size), recipe)[1]
    expected = card.data["validation"]
    counted = {
        "images": len(validation.samples),
        "patients": len(np.unique(validation.groups)),
        "pneumonia": int(validation.labels.sum()),
    }
    if counted != expected:
        raise SystemExit(f"Expected the images that the model was trained on, with {expected} held out, got {counted}.")
    return validation.samples


def rows(table: Path) -> list[dict[str, str]]:
    """Read a CSV file with a header."""
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def measure(held_out: Sequence[Sample], detector: Detector) -> tuple[Evaluation, dict[str, Localisation | None]]:
    """Measure the held-out images with and without corruptions, and the effect of hiding the thorax at each site."""
    result = evaluate.evaluate(held_out, detector, evidence=True)
    told = splits.decode([sample for sample in result.samples if not sample.other], detector.card.input_size)
    result = replace(result, corrupted=evaluate.under_corruptions(told, detector))
    sites = np.array([sample.site for sample in told.samples])
    return result, {
        site: evaluate.localise(told.take(np.flatnonzero(sites == site)), detector) for site in (ADULTS, CHILDREN)
    }


def two_sites(children: Path, adults: Path) -> list[Sample]:
    """List the images of both hospitals; the NIH's with the labels of the radiologists who read them."""
    readers = {Path(row["path"]).name: row["readers"] for row in rows(adults)}
    read = []
    for sample in layouts.load(adults, other="negative"):
        if (seen := readers[sample.path.name]) in READ_AS:
            label, other = READ_AS[seen]
            read.append(replace(sample, site=ADULTS, label=label, other=other))
    return [*(replace(sample, site=CHILDREN) for sample in layouts.load(children)), *read]


def report(what: str, done: int, total: int, figures: object) -> None:
    """Print a line when each step is done."""
    if done == total:
        print(what, figures, flush=True)


def by_chance(measured: Evaluation, site: str) -> float:
    """Return the mean calibration error at a site over draws of labels for which the probabilities are exact."""
    p = measured.probabilities[[sample.site == site and not sample.other for sample in measured.samples]]
    rng = np.random.default_rng(0)
    return float(np.mean([expected_calibration_error(rng.binomial(1, p), p) for _ in range(1000)]))


def card_text(measured: Evaluation, hidden: Mapping[str, Localisation | None]) -> str:
    """Return the model card (Mitchell et al. 2019, "Model Cards for Model Reporting"), the worst figures first."""
    card, table, pointing = measured.card, measured.corrupted, measured.pointing
    fitted, kept, held = card.calibration, card.data["training"], card.data["validation"]
    parts = sorted(
        (
            f"| {name} | {g.n} ({g.positives}) | {g.auc} | {g.sensitivity} | {g.specificity} "
            f"| {g.balanced_accuracy} | {g.ece} | ",
            g,
        )
        for found in measured.parts.values()
        for name, g in found.items()
        if g.n
    )
    parts.sort(key=lambda row: (np.isnan(row[1].auc.value), row[1].auc.value))
    groups = "\n".join(f"{row}{g.others_called if g.others else ''} |" for row, g in parts)
    subtypes = "\n".join(f"| {name} | {n} | {e} |" for name, (n, e) in measured.subtypes.items())
    shifts = "\n".join(
        f"| {name} | {p.figures['auc']} | {p.figures['sensitivity']} | {p.figures['specificity']} |"
        for name, p in sorted(table.items(), key=lambda row: row[1].figures["auc"].value)
    )
    hiding = "\n".join(
        f"| AUC at {site} when the thorax is hidden; share of findings that change when all else "
        f"is hidden | {of.auc_around}; {of.flipped} |"
        for site, of in hidden.items()
        if of
    )
    assert pointing is not None
    assert measured.whole is not None
    return f"""\
# Model card: the model that comes with Pneumoscope

Written by `python scripts/build_default_model.py`, with the figures of the shipped file.

**{card.intended_use}**

| | |
|---|---|
| architecture | {card.architecture}, {card.input_size} x {card.input_size} pixels, pretrained on ImageNet |
| recipe | the mean of the weights of two networks, trained as `recipes/default.toml` and \
`recipes/default-exchanged.toml` say |
| trained on | {kept["images"]:,} images ({kept["pneumonia"]:,} pneumonia) of {kept["patients"]:,} patients |
| measured on | {held["images"]:,} images ({held["pneumonia"]:,} pneumonia) of {held["patients"]:,} other patients \
of the same two hospitals |
| of those, rejected as no chest radiograph | {len(measured.failures)} |
| children | Kermany, Zhang, Goldbaum, doi:10.17632/rscbjbr9sj.2, CC BY 4.0: the training split, frontal radiographs \
of children of one to five years, Guangzhou Women and Children's Medical Center |
| adults | NIH Clinical Center, Bethesda; Wang et al., "ChestX-ray8", CVPR 2017. Labels and boxes: RSNA \
Pneumonia Detection Challenge 2018; Shih et al., "Augmenting the NIH Chest Radiograph Dataset with Expert Annotations \
of Possible Pneumonia", Radiology: Artificial Intelligence 2019. "Others" are sick people without pneumonia \
("abnormal, no opacity") |
| threshold | {fitted.threshold:.3f}. {fitted.threshold_reason} Each site has the same weight, and \
others have {calibration.OTHER_SHARE:.0%} of the weight of its negatives |
| uncertain | from {fitted.uncertain_low:.3f} to {fitted.uncertain_high:.3f}. {fitted.uncertain_reason} |
| probability | {fitted.probability_reason} `--prevalence P` shifts it to another share by Bayes' rule |
| offset, temperature | {fitted.offset:.3f}, {fitted.temperature:.3f} |
| licence | {card.licence} |

## Least flattering first

These figures are for held-out patients at the shipped threshold. In brackets is the 95 % interval: DeLong's for the
AUC, Wilson's for proportions, and a bootstrap over patients for balanced accuracy and expected calibration error
(ECE). Offset, temperature and threshold were chosen on these patients, who are from the same hospitals as the
training images: **expect less elsewhere,** and measure it there with `pneumoscope evaluate`.
`benchmarks/generalisation.py` leaves a hospital out.

With few images, the ECE comes out too high. A perfectly calibrated model with the same probabilities would have
{by_chance(measured, ADULTS):.3f} on average at {ADULTS}, and {by_chance(measured, CHILDREN):.3f} at {CHILDREN}.

- Of {measured.whole.others} sick adults without pneumonia, {measured.whole.others_called} are called pneumonia.

| part | images (pneumonia) | AUC | sensitivity | specificity | balanced accuracy | ECE | others called pneumonia |
|---|---|---|---|---|---|---|---|
{groups}

| subtype, children | images | sensitivity |
|---|---|---|
{subtypes}

## Where it looks

On {pointing.n} held-out images with radiologists' boxes.

| | |
|---|---|
| hottest place of the evidence inside a box (by chance {pointing.chance:.3f}) | {pointing.hits} |
| share of the positive evidence inside the boxes (of the area: {pointing.area:.3f}) | {pointing.inside} |
| share of the positive evidence inside the thorax, taken as an ellipse that nearly touches the edges | \
{pointing.thorax} |
{hiding}

## On corrupted images

The same images without the others, corrupted as a scanner, an exporter or a technician might do it
(`pneumoscope.imaging.corruptions`).

| corruption | AUC | sensitivity | specificity |
|---|---|---|---|
{shifts}

## Limits

- The model was trained at only two hospitals: at one on children of one to five years, at the other mostly on adults.
  It saw hardly any infants or children of other ages.
- An opacity of any cause may be called pneumonia. The model cannot tell heart failure, atelectasis or a mass from it
  well.
- In the training images from Guangzhou, the way an image was acquired tells the classes apart. The model still reads
  some of that, as the AUC with the thorax hidden shows.
- The labels are those of the collections. NORMAL means that no pneumonia was labelled, not that the patient was well.
- The finding is for one frontal radiograph alone. Most photographs, drawings, sections and other images that are not
  chest radiographs are rejected, but not all of them; `benchmarks/gate.py` measures how many.
- Images that are turned or inverted bring a warning but still get a finding, which is not to be trusted. Some
  mirrored images go unnoticed.
"""


if __name__ == "__main__":
    main()
