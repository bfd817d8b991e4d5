"""Measures the overhead of `score` over `predict`, and how it scales with the number of workers, side by side.

    python benchmarks/score.py chest_xray/train --images 5000

`predict` and `score` with 1, 2, ... workers predict the same images, multiplied by links, each in a process of its own.
They alternate for several rounds, and the median counts, so that other load on the machine affects all of them equally.
Each also predicts a few images, whose time is taken as the startup time; the rest is the time for the images.
Efficiency is the throughput of n workers over n times that of one; the overhead is that of as many workers as `predict`
has threads. `--ray` also measures a Ray cluster, which each run starts on this machine.

`--stages` prints the processor time per image instead, which is meaningful even on a busy machine: for
`Detector.examine` on one thread, for a worker that also reads, hashes and writes its shards, and for each stage alone.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pneumoscope import Detector
from pneumoscope.batch.manifest import IMAGES_A_SHARD
from pneumoscope.batch.output import Archive
from pneumoscope.batch.scorer import Scorer
from pneumoscope.batch.storage import Place, Reader
from pneumoscope.imaging import preprocessing, radiograph
from pneumoscope.inference import model_file, runtimes
from pneumoscope.inference.detector import BATCH_SIZE

FEW = 16
STAGED = 1000
"""The number of images whose processor time is measured."""
PREDICT = "predict"


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a folder of images")
    parser.add_argument("--images", type=int, default=5000, help="how many are predicted")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stages", action="store_true", help="print the processor time per image")
    parser.add_argument("--workers", type=int, nargs="+", default=sorted({1, 2, runtimes.WORKERS}))
    parser.add_argument("--ray", action="store_true", help="measure `score --ray` too")
    arguments = parser.parse_args()
    images = sorted(radiograph.files(arguments.source))
    if not images:
        raise SystemExit(f"Expected images, got none in '{arguments.source}'.")
    if arguments.stages:
        print(stages(images[:: max(1, len(images) // STAGED)][:STAGED], arguments.rounds))
        return
    ways = ["score --workers", *(["score --ray --workers"] if arguments.ray else [])]
    sides = [PREDICT, *(f"{way} {n}" for way in ways for n in arguments.workers)]
    with tempfile.TemporaryDirectory() as folder:
        many, few = (linked(images, n, Path(folder, str(n))) for n in (arguments.images, FEW))
        taken = [[(seconds(side, few), seconds(side, many)) for side in sides] for _ in range(arguments.rounds)]
    starts, totals = np.median(np.array(taken), axis=0).T
    print(table(sides, arguments, starts.tolist(), totals.tolist()))


def stages(images: list[Path], rounds: int) -> str:
    """Measure the processor time per image in ms for each stage, as the median of several rounds."""
    detector = Detector(workers=1)
    size = detector.card.input_size
    blank = np.zeros((BATCH_SIZE, size, size, 1), dtype=np.float32)
    run = runtimes.start("openvino", model_file.default(), model_file.read(model_file.default())[0])
    listed = [(os.fsencode(image), "") for image in images]

    def worker() -> None:
        with tempfile.TemporaryDirectory() as out:
            archive = Archive(Place.of(out))
            archive.begin({"shards": 1})
            scorer = Scorer(model_file.default().read_bytes(), "", "openvino", archive, Reader(archive.place))
            list(scorer.predict(listed[:1]))  # the model is loaded
            start = time.process_time()
            for shard in range(0, len(listed), IMAGES_A_SHARD):
                scorer.do(shard, listed[shard : shard + IMAGES_A_SHARD], careful=False)
            taken["a worker"].append(time.process_time() - start)

    sides: dict[str, Callable[[], object]] = {
        "`Detector.examine`": lambda: list(detector.examine(images)),
        "reading and squashing": lambda: [preprocessing.squash(_read(image, size), size) for image in images],
        "network": lambda: [run(blank) for _ in range(-(-len(images) // BATCH_SIZE))],
        "sha256": lambda: [hashlib.sha256(image.read_bytes()).digest() for image in images],
    }
    taken: dict[str, list[float]] = {"a worker": [], **{side: [] for side in sides}}
    for _ in range(rounds):
        worker()
        for side, work in sides.items():
            start = time.process_time()
            work()
            taken[side].append(time.process_time() - start)
    kilobytes = np.mean([image.stat().st_size for image in images]) / 1e3
    rows = [
        f"{len(images)} images of {kilobytes:.0f} kB",
        "",
        "| stage | ms an image | images/s a core |",
        "|---|---|---|",
    ]
    for side, times in taken.items():
        each = float(np.median(times)) / len(images)
        rows.append(f"| {side} | {1e3 * each:.2f} | {1 / each:.0f} |")
    return "\n".join(rows)


def _read(image: Path, size: int) -> NDArray[np.float32]:
    return radiograph.read(image, at_least=size).pixels


def linked(images: list[Path], n: int, folder: Path) -> Path:
    """Create a folder of n images as links, or copies if the file system has no links."""
    folder.mkdir()
    for i, image in enumerate(islice(cycle(images), n)):
        target = folder / f"{i:07d}{image.suffix}"
        try:
            os.link(image, target)
        except OSError:
            shutil.copyfile(image, target)
    return folder


def seconds(side: str, images: Path) -> float:
    """Run one side over a folder."""
    with tempfile.TemporaryDirectory() as out:
        rest = (
            ["--format", "json", "--output", f"{out}/findings.jsonl"]
            if side == PREDICT
            else ["--out", f"{out}/findings"]
        )
        command = [sys.executable, "-m", "pneumoscope", *side.split(), str(images), *rest]
        start = time.perf_counter()
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode not in (0, 3):
            raise SystemExit(f"A side broke off: {run.stderr}")
        return time.perf_counter() - start


def table(sides: list[str], arguments: argparse.Namespace, starts: list[float], totals: list[float]) -> str:
    """Format the figures as Markdown."""
    n = arguments.images
    rates = [(n - FEW) / (total - start) for start, total in zip(starts, totals, strict=True)]
    rows = [
        "| side | start, s | images/s after it | efficiency | overhead, start counted | overhead, start not counted |",
        "|---|---|---|---|---|---|",
    ]
    for i, side in enumerate(sides):
        way, _, number = side.rpartition(" ")
        workers = 0 if side == PREDICT else int(number)
        alone = sides.index(f"{way} {arguments.workers[0]}") if workers else 0
        efficiency = f"{rates[i] / (workers * rates[alone] / arguments.workers[0]):.2f}" if workers else ""
        overheads = ["", ""]
        if workers == runtimes.WORKERS:
            overheads = [f"{totals[i] / totals[0] - 1:+.1%}", f"{rates[0] / rates[i] - 1:+.1%}"]
        rows.append(f"| `{side}` | {starts[i]:.1f} | {rates[i]:.0f} | {efficiency} | {' | '.join(overheads)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
