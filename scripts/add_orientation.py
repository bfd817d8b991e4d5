"""Teach an existing model file to reject images that are no chest radiographs, and to see turned and inverted ones.

    python scripts/add_orientation.py runs/first/split.csv --model runs/first/model.onnx --out runs/first/gated.onnx

`pneumoscope train` does this itself; here it is done anew, or for a file of an earlier version, without training the
network again: what an image shows is learnt from the images alone. The graph stays as it is.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from pneumoscope.data import layouts, splits
from pneumoscope.inference import model_file
from pneumoscope.ood import embedding, orientation


def main() -> None:
    """Read the images, learn, and write the model file again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the images of the training, as split.csv in a run's folder lists them")
    parser.add_argument("--model", type=Path, default=model_file.default(), help="by default the bundled one")
    parser.add_argument("--out", type=Path, required=True, help="the new model file")
    arguments = parser.parse_args()

    _, card = model_file.read(arguments.model)
    model_file.check_target(arguments.model, arguments.out)
    decoded = splits.decode(layouts.load(arguments.data), card.input_size)
    held_out = np.array([image.split == "val" for image in decoded.samples])
    if held_out.sum() < embedding.ENOUGH or held_out.all():
        raise SystemExit(
            f"Expected training images and at least {embedding.ENOUGH} of split 'val', got {held_out.sum()}."
        )
    sites = np.array([image.site for image in decoded.samples])
    learnt = orientation.fit(
        decoded.pixels[~held_out],
        decoded.pixels[held_out],
        progress=report,
        training_sites=sites[~held_out],
        held_out_sites=sites[held_out],
    )
    model_file.rewrite(arguments.model, replace(card, orientation=learnt.as_dict()), arguments.out, decoded.pixels[:8])
    print(f"rejected from log odds of {learnt.rejection:.2f}, unlike from {learnt.doubt:.2f}; {dict(learnt.remarks)}")


def report(done: int, total: int) -> None:
    """Say how far it is, every thousand images."""
    if done % 1000 == 0:
        print(f"{done} of {total} images", flush=True)


if __name__ == "__main__":
    main()
