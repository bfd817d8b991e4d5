"""Compares the training speed of the backends side by side.

    python benchmarks/train.py chest_xray/train --init mobilenet_v2.weights.h5

Every side trains the same network with the same recipe on the same augmented batches: PyTorch with
`networks.torch_layers`, which training uses if PyTorch is installed, in both precisions; plain Keras on PyTorch;
TensorFlow; and on request TensorFlow in mixed precision, and JAX. Each is a process of its own; they alternate, so that
other load on the machine affects all of them equally, and the median round counts. The first steps of a round, which
allocate memory and compile graphs, do not count. The last columns are the training loss and the AUC on the same
validation images after the last step, to show that all sides learn the same.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
SIDES = {
    "torch, mixed_bfloat16": ("torch", True, "mixed_bfloat16"),
    "torch, float32": ("torch", True, "float32"),
    "torch, Keras's own layers": ("torch", False, "float32"),
    "tensorflow": ("tensorflow", False, "float32"),
    "tensorflow, mixed_bfloat16": ("tensorflow", False, "mixed_bfloat16"),
    "jax": ("jax", False, "float32"),
}
"""The backend of each side, whether `torch_layers` replaces Keras's layers, and the precision."""
WARMING = 4
"""The number of warm-up steps, which do not count."""
VALIDATED = 200
"""The number of held-out images."""


def main() -> None:
    """Run every side in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="a data set: NORMAL/ and PNEUMONIA/")
    parser.add_argument("--init", default="imagenet", help="imagenet, none, or a .weights.h5 file")
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes" / "default.toml")
    parser.add_argument("--steps", type=int, default=24, help=f"steps per round, more than {WARMING}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES)[:4])
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.steps <= WARMING:
        raise SystemExit(f"Expected more than {WARMING} steps, got {arguments.steps}.")
    if arguments.side:
        print(json.dumps(trained(arguments)))
        return
    rounds: dict[str, list[dict[str, Any]]] = {side: [] for side in arguments.sides}
    for _ in range(arguments.rounds):
        for side in arguments.sides:
            rounds[side].append(round_of(side))
    print(table(rounds))


def round_of(side: str) -> dict[str, Any]:
    """Train in a process of its own, on the side's backend."""
    command = [sys.executable, *sys.argv, "--side", side]
    there = os.environ | {"KERAS_BACKEND": SIDES[side][0]}
    done = subprocess.run(command, env=there, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def trained(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train for a round on this process's backend; return images per second, loss and validation AUC."""
    from pneumoscope.data import layouts, splits
    from pneumoscope.networks import architectures, torch_layers
    from pneumoscope.networks.backend import keras
    from pneumoscope.training import batches, checkpoint, loop
    from pneumoscope.training.recipe import Recipe

    _, quick, precision = SIDES[arguments.side]
    if not quick:
        torch_layers.QUICK.clear()
    keras.config.set_dtype_policy(precision)
    recipe = Recipe.from_toml(arguments.recipe, init=arguments.init)
    recipe = replace(recipe, epochs=1, epoch_images=arguments.steps * recipe.batch_size)
    rng = np.random.default_rng(recipe.seed)
    samples = layouts.load(arguments.images)
    chosen = rng.permutation(len(samples))[: recipe.epoch_images + VALIDATED]
    images = splits.decode([samples[i] for i in chosen], recipe.size)
    training, validation = (images.take(part) for part in np.split(np.arange(len(chosen)), [-VALIDATED]))
    keras.utils.set_random_seed(recipe.seed)
    network = architectures.build(
        recipe.architecture,
        recipe.size,
        pooling=recipe.pooling,
        dropout=recipe.dropout,
        init=recipe.init,
        batch_norm=recipe.batch_norm,
        quick=True,
    )
    model = architectures.with_logit(network)
    times: list[float] = []
    figures: dict[str, float] = {}

    def progress(what: str, done: int, total: int, row: Mapping[str, float]) -> None:
        times.append(time.perf_counter())
        figures.update(row)

    with tempfile.TemporaryDirectory() as folder:
        loop.Phase(
            name="network",
            model=model,
            evaluated=network,
            training=batches.Examples(training.pixels, training.samples),
            validation=batches.Examples(validation.pixels, validation.samples),
            recipe=recipe,
        ).run(checkpoint.Checkpoint(Path(folder), model), progress)
    steps = times[WARMING - 1 : arguments.steps]
    return {
        "images_per_second": (len(steps) - 1) * recipe.batch_size / (steps[-1] - steps[0]),
        "loss": figures["loss"],
        "val_auc": figures["val_auc"],
    }


def table(rounds: Mapping[str, list[dict[str, Any]]]) -> str:
    """Format the medians, with their ratio to the slowest side."""
    median = {side: statistics.median(of["images_per_second"] for of in each) for side, each in rounds.items()}
    slowest = min(median.values())
    lines = ["| side | images/s (rounds) | times the slowest | loss | validation AUC |", "|---|---|---|---|---|"]
    for side, each in rounds.items():
        speeds = ", ".join(f"{of['images_per_second']:.1f}" for of in each)
        last = each[-1]
        lines.append(
            f"| {side} | {median[side]:.1f} ({speeds}) | {median[side] / slowest:.2f} | {last['loss']:.3f} "
            f"| {last['val_auc']:.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
