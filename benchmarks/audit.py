"""Measures how much longer an audit takes than only decoding its images, side by side.

    python benchmarks/audit.py chest_xray/train

Both read each image once, completely, in the same number of threads. They alternate for several rounds, and the median
round counts, so that other load on the machine affects both equally.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from pneumoscope import Detector
from pneumoscope.auditing import audit
from pneumoscope.data import layouts
from pneumoscope.imaging import radiograph


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a labelled data set, as for `audit`")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    samples, detector = layouts.load(arguments.data, complete=False), Detector()

    def decoded() -> None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda sample: radiograph.read(sample.source).shape, samples))

    sides: dict[str, Callable[[], object]] = {
        "decoding alone": decoded,
        "audit": lambda: audit.audit(samples, reject=detector.rejection, at_least=detector.card.input_size),
    }
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(arguments.rounds):
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
