"""Train the model that comes with Pneumoscope, from images to model file and model card.

    python scripts/build_default_model.py chest_xray/train nih/images.csv --init imagenet

The children of Kermany's training split and the adults of the NIH's images that radiologists have read are two sites;
`recipes/default.toml` says how they are learnt from. Takes half an hour on two cores with PyTorch; broken off, the
same command goes on where it was. The card holds the figures of the very file that is shipped, on patients it was not
trained on.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from dataclasses import replace
from pathlib import Path

from pneumoscope.atomic import replacing
from pneumoscope.data import layouts
from pneumoscope.data.layouts import Sample
from pneumoscope.inference import model_file
from pneumoscope.training import run as training
from pneumoscope.training.recipe import Recipe

ROOT = Path(__file__).parents[1]
CHILDREN, ADULTS = "Guangzhou", "Bethesda"
READ_AS = {"normal": (0, False), "opacity": (1, False), "abnormal, no opacity": (0, True)}
"""Label, and whether it is another finding, by what the radiologists of the RSNA's challenge saw."""


def main() -> None:
    """Train, measure, and put model and card in their places."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("children", type=Path, help="Kermany's training split: NORMAL/ and PNEUMONIA/")
    parser.add_argument("adults", type=Path, help="a CSV of NIH images with the columns path,label,readers,boxes,...")
    parser.add_argument("--init", default="imagenet", help="imagenet, or a file with MobileNetV2's ImageNet weights")
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes" / "default.toml")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "default", help="the run's folder")
    arguments = parser.parse_args()
    recipe = Recipe.from_toml(arguments.recipe, init=arguments.init)
    samples = two_sites(arguments.children, arguments.adults)
    run = training.fit(samples, arguments.out, recipe, resume=True, progress=report)
    with replacing(model_file.default()) as draft:
        shutil.copyfile(run.model, draft)


def two_sites(children: Path, adults: Path) -> list[Sample]:
    """List the images of both hospitals; of the NIH's those that radiologists have read, as they read them."""
    with adults.open(newline="", encoding="utf-8") as file:
        readers = {(adults.parent / row["path"]).name: row["readers"] for row in csv.DictReader(file)}
    read = []
    for sample in layouts.load(adults, other="negative"):
        if (seen := readers[sample.path.name]) in READ_AS:
            label, other = READ_AS[seen]
            read.append(replace(sample, site=ADULTS, label=label, other=other))
    return [*(replace(sample, site=CHILDREN) for sample in layouts.load(children)), *read]


def report(what: str, done: int, total: int, figures: object) -> None:
    """Say when each stretch is over."""
    if done == total:
        print(what, figures, flush=True)


if __name__ == "__main__":
    main()
