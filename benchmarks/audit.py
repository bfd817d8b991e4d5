"""Measures how much longer an audit takes than only decoding its images, side by side.

    python benchmarks/audit.py chest_xray/train
    python benchmarks/audit.py chest_xray/train --enlarged 1320 960

Both work in as many processes or threads. They alternate for several rounds, and the median round counts, so that other
load on the machine affects both equally. `--enlarged` is for whoever has only a small copy of a large data set.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from pneumoscope import Detector, parallel
from pneumoscope.auditing import audit
from pneumoscope.data import layouts
from pneumoscope.data.layouts import Sample
from pneumoscope.imaging import radiograph


def main() -> None:
    """Prepare the images and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a labelled data set, as for `audit`")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--enlarged", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="enlarge each image first, as a JPEG"
    )
    arguments = parser.parse_args()
    samples = layouts.load(arguments.data, complete=False)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.enlarged:
            enlarge = partial(enlarged, size=tuple(arguments.enlarged), folder=Path(folder))
            samples = list(parallel.on_all_cores(enlarge, enumerate(samples), processes=True))
        compare(samples, arguments.rounds)


def enlarged(numbered: tuple[int, Sample], size: tuple[int, int], folder: Path) -> Sample:
    """Write an enlarged copy of an image, with the quality that most exporters use."""
    position, sample = numbered
    path = folder / f"{position}.jpeg"
    Image.open(sample.path).convert("L").resize(size, Image.Resampling.BICUBIC).save(path, quality=90)
    return replace(sample, path=path)


def decoded(sample: Sample) -> tuple[int, int]:
    """Decode an image completely; return its (H, W)."""
    return radiograph.read(sample.source).shape


def compare(samples: list[Sample], rounds: int) -> None:
    """Measure both sides, and print a table in Markdown."""
    detector = Detector()

    def decode() -> None:
        list(parallel.on_all_cores(decoded, samples, processes=len(samples) >= parallel.MANY))

    sides: dict[str, Callable[[], object]] = {
        "decoding alone": decode,
        "audit": lambda: audit.audit(samples, reject=detector.rejection, at_least=detector.card.input_size),
    }
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, work in sides.items():
            start = time.perf_counter()
            work()
            taken[side].append(time.perf_counter() - start)
    seconds = {side: float(np.median(times)) for side, times in taken.items()}
    print(f"{len(samples)} images\n\n| side | seconds | of decoding alone |\n|---|---|---|")
    for side, median in seconds.items():
        print(f"| {side} | {median:.1f} | {median / seconds['decoding alone']:.2f} |")


if __name__ == "__main__":
    main()
