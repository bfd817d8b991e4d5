"""Compares the speed of prediction with two naive implementations, side by side.

    python benchmarks/predict.py chest_xray/train

The sides predict the same images with the same network: (a) the ordinary Keras way, `load_img`, array and
`model.predict` in batches of 32; (b) ONNX Runtime and Pillow in a plain loop; and this project, on each of its engines.
Keras's network gets its weights from the model file, which must be a MobileNetV2. Every side is a process of its own.
They alternate for several rounds over all images, and the median round counts, so that other load on the machine
affects all of them equally. Cold start is a fresh process with one image, from start to end.

The machine's limit is the throughput of each stage alone on all cores: reading and squashing images, and running the
network. Both need the same cores, so that even a perfect program reaches only 1 / (1 / reading + 1 / network).

`--memory N` predicts N images instead and prints the memory in use on the way.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pneumoscope import Detector, parallel
from pneumoscope.imaging import preprocessing, radiograph
from pneumoscope.inference import model_file, runtimes
from pneumoscope.reporting import attachments

if TYPE_CHECKING:
    import keras

Predict = Callable[[list[Path]], list[float]]
"""Maps images to their probabilities of pneumonia."""

BATCH = 32
"""The number of images per call of `model.predict`."""


def main() -> None:
    """Run the comparison, or one side of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="a folder of images")
    parser.add_argument(
        "--model", type=Path, default=model_file.default(), help="a model file; side (a) needs a MobileNetV2"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=4, help="how often a round takes each image")
    parser.add_argument("--memory", type=int, metavar="N", help="predict N images and print the memory in use")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    images = sorted(radiograph.files(arguments.images))
    if not images:
        raise SystemExit(f"Expected images, got none in '{arguments.images}'.")
    if arguments.side:
        work(SIDES[arguments.side](arguments), images)
    elif arguments.memory:
        for line in memory(Detector(arguments.model), images, arguments.memory):
            print(line, flush=True)
    else:
        print(table(*measured(images, arguments)))


def keras_way(arguments: argparse.Namespace) -> Predict:
    """Predict like a typical Keras notebook."""
    import keras

    network, calibration = keras_network(arguments.model), model_file.read(arguments.model)[1].calibration
    size = network.input_shape[1:3]

    def predict(images: list[Path]) -> list[float]:
        probabilities: list[float] = []
        for start in range(0, len(images), BATCH):
            loaded = [
                keras.utils.load_img(image, color_mode="grayscale", target_size=size, interpolation="bilinear")
                for image in images[start : start + BATCH]
            ]
            batch = np.stack([keras.utils.img_to_array(one) / 255 for one in loaded])
            probabilities += calibration.probabilities(network.predict(batch, verbose=0)[:, 0]).tolist()
        return probabilities

    return predict


def keras_network(path: Path) -> keras.Model:
    """Build the network of a model file in Keras, with its batch normalisation restored."""
    from pneumoscope.networks import architectures, restoring

    card = model_file.read(path)[1]
    pooling = card.recipe["pooling"]
    network = architectures.build(card.architecture, card.input_size, pooling=pooling, init="restored")
    restoring.restore(network, path, np.random.default_rng(0).random((4, *network.input_shape[1:3]), dtype=np.float32))
    return network


def plain_loop(arguments: argparse.Namespace) -> Predict:
    """Predict image by image with Pillow and ONNX Runtime."""
    import onnxruntime
    from PIL import Image

    card = model_file.read(arguments.model)[1]
    session = onnxruntime.InferenceSession(arguments.model)

    def one(image: Path) -> float:
        squashed = Image.open(image).convert("L").resize((card.input_size, card.input_size), Image.Resampling.BILINEAR)
        pixels = np.asarray(squashed, dtype=np.float32)[None, ..., None] / 255
        return float(card.calibration.probabilities(session.run(["logit"], {"image": pixels})[0])[0])

    return lambda images: [one(image) for image in images]


def this_project(arguments: argparse.Namespace, engine: str = "openvino") -> Predict:
    """Predict with the detector."""
    detector = Detector(arguments.model, engine=engine)

    def predict(images: list[Path]) -> list[float]:
        findings = detector.examine(images, processes=len(images) >= parallel.MANY)
        return [finding.probability or 0.0 for finding in findings]

    return predict


def with_overlays(arguments: argparse.Namespace, normals: bool = False) -> Predict:
    """Predict with the detector and write evidence maps: of pneumonias, or of all images."""
    detector = Detector(arguments.model)

    def predict(images: list[Path]) -> list[float]:
        probabilities = []
        with tempfile.TemporaryDirectory() as folder:
            overlays = attachments.Overlays(Path(folder), normals=normals)
            for finding in detector.examine(images, evidence=True, processes=len(images) >= parallel.MANY):
                overlays.write(finding)
                probabilities.append(finding.probability or 0.0)
        return probabilities

    return predict


def reading_alone(arguments: argparse.Namespace) -> Predict:
    """Read and squash images on all cores, without predicting."""
    size = model_file.read(arguments.model)[1].input_size

    def predict(images: list[Path]) -> list[float]:
        with ThreadPoolExecutor(runtimes.WORKERS) as pool:
            squashed = pool.map(
                lambda image: preprocessing.squash(radiograph.read(image, at_least=size).pixels, size)[0], images
            )
            return [float(pixels[0, 0]) for pixels in squashed]

    return predict


def network_alone(arguments: argparse.Namespace) -> Predict:
    """Run the network on all cores, repeatedly on noise."""
    import openvino

    graph, card = model_file.read(arguments.model)
    shape = (1, card.input_size, card.input_size, 1)
    graph.reshape(shape)
    hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(graph, "CPU", hints)
    image = np.random.default_rng(0).random(shape, dtype=np.float32)

    # Two threads that make the first call at the same time may deadlock in OpenVINO's binding.
    compiled.create_infer_request().infer(image)

    def share(images: int) -> list[float]:
        request = compiled.create_infer_request()
        return [float(request.infer(image)["logit"][0]) for _ in range(images)]

    def predict(images: list[Path]) -> list[float]:
        with ThreadPoolExecutor(runtimes.WORKERS) as pool:
            outputs = pool.map(share, [len(images[i :: runtimes.WORKERS]) for i in range(runtimes.WORKERS)])
            return [logit for logits in outputs for logit in logits]

    return predict


SIDES: dict[str, Callable[[argparse.Namespace], Predict]] = {
    "Keras: load_img, predict": keras_way,
    "Pillow, ONNX Runtime: plain loop": plain_loop,
    "pneumoscope": this_project,
    "pneumoscope --engine openvino-bf16": lambda arguments: this_project(arguments, "openvino-bf16"),
    "pneumoscope --engine onnxruntime": lambda arguments: this_project(arguments, "onnxruntime"),
    "pneumoscope --evidence": with_overlays,
    "pneumoscope --evidence --evidence-of-normals": lambda arguments: with_overlays(arguments, normals=True),
    "reading alone": reading_alone,
    "network alone": network_alone,
}
KERAS, PLAIN, OURS, REDUCED, *_ = SIDES
READING, NETWORK = list(SIDES)[-2:]


def work(predict: Predict, images: list[Path]) -> None:
    """Run one side: predict as many images as each line of standard input says, and answer with one line."""
    for line in sys.stdin:
        taken = list(islice(cycle(images), int(line)))
        start = time.perf_counter()
        probabilities = predict(taken)
        answer = {"seconds": time.perf_counter() - start, "probabilities": probabilities, "peak": memory_of("VmHWM")}
        print(json.dumps(answer), flush=True)


def memory_of(line: str) -> float:
    """Return a line of `/proc/PID/status` such as `VmRSS`, added up over this process and its own, in MB."""
    found = 0.0
    own = [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    for pid in ("self", *own):
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        found += next(int(text.split()[1]) for text in status.splitlines() if text.startswith(line)) / 1e3
    return found


def measured(images: list[Path], arguments: argparse.Namespace) -> tuple[dict[str, Any], int, model_file.Card]:
    """Run all sides alternately."""
    card = model_file.read(arguments.model)[1]
    there = {KERAS: card.architecture.startswith("mobilenet_v2"), REDUCED: runtimes.has_bfloat16()}
    sides = [side for side in SIDES if there.get(side, True)]
    result: dict[str, Any] = {side: {"cold": [], "rounds": []} for side in sides}
    for side in sides[: sides.index(OURS) + 1]:
        for _ in range(3):
            start = time.perf_counter()
            with process(side) as worker:
                ask(worker, 1)
            result[side]["cold"].append(time.perf_counter() - start)
    workers = {side: process(side) for side in sides}
    try:
        n = arguments.repeat * len(images)
        for side in sides:
            ask(workers[side], n)  # warm up
        for _ in range(arguments.rounds):
            for side in sides:
                answer = ask(workers[side], n)
                result[side]["rounds"].append(n / answer["seconds"])
                result[side] |= {"probabilities": answer["probabilities"][: len(images)], "peak": answer["peak"]}
    finally:
        for worker in workers.values():
            worker.communicate()
    return result, len(images), card


def process(side: str) -> subprocess.Popen[str]:
    """Start a side."""
    command = [sys.executable, __file__, *sys.argv[1:], "--side", side]
    quiet = subprocess.DEVNULL  # TensorFlow's greeting
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=quiet, text=True)


def ask(worker: subprocess.Popen[str], n: int) -> dict[str, Any]:
    """Let a side predict some images."""
    assert worker.stdin
    assert worker.stdout
    worker.stdin.write(f"{n}\n")
    worker.stdin.flush()
    line = worker.stdout.readline()
    if not line:
        raise SystemExit(f"A side broke off; run this to see why: {worker.args!r}")
    answer: dict[str, Any] = json.loads(line)
    return answer


def table(result: dict[str, Any], n: int, card: model_file.Card) -> str:
    """Format the figures as Markdown."""
    speed = {side: float(np.median(figures["rounds"])) for side, figures in result.items()}
    reference = np.array(result.get(KERAS, result[PLAIN])["probabilities"])
    fitted = card.calibration
    both = 1 / (1 / speed[READING] + 1 / speed[NETWORK])
    slower = min(speed[READING], speed[NETWORK])
    rows = [
        "| side | images/s | of (a) | of (b) | of the slower stage alone | of both stages | cold start, s | peak, MB "
        "| other findings: all, sure |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for side, figures in result.items():
        probabilities = np.array(figures["probabilities"])
        other = (probabilities >= fitted.threshold) != (reference >= fitted.threshold)
        sure = ~np.array([fitted.is_uncertain(float(p)) for p in reference])
        stage = side in (READING, NETWORK)
        cells = [
            f"{speed[side]:.0f} ({min(figures['rounds']):.0f}–{max(figures['rounds']):.0f})",
            f"{speed[side] / speed[KERAS]:.1f}" if KERAS in speed else "",
            f"{speed[side] / speed[PLAIN]:.1f}",
            f"{speed[side] / slower:.2f}",
            f"{speed[side] / both:.2f}",
            f"{np.median(figures['cold']):.2f}" if figures["cold"] else "",
            f"{figures['peak']:.0f}",
            "" if stage else f"{other.sum()}, {(other & sure).sum()} of {n}",
        ]
        rows.append(f"| {side} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def memory(detector: Detector, images: list[Path], n: int) -> Iterator[str]:
    """Predict many images, and yield lines with the memory in use."""
    marks = sorted({min(n, mark) for mark in (100, 1_000, 5_000, 10_000, 20_000, 50_000, n)})
    findings = detector.examine(islice(cycle(images), n), processes=n >= parallel.MANY)
    for done, _ in enumerate(findings, start=1):
        if done in marks:
            now, most = memory_of("VmRSS"), memory_of("VmHWM")
            yield f"{done:,} images: {now:.0f} MB now, {most:.0f} MB at most"


if __name__ == "__main__":
    main()
