"""Turns a trained network into a model file: calibration, gate, orientation model and card."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pneumoscope.atomic import write_text
from pneumoscope.data import disk_array, layouts
from pneumoscope.data.splits import Decoded
from pneumoscope.imaging import corruptions
from pneumoscope.inference import model_file
from pneumoscope.inference.model_file import Card
from pneumoscope.metrics import calibration, metrics
from pneumoscope.metrics.thresholds import OperatingPoint
from pneumoscope.networks import architectures
from pneumoscope.networks.backend import keras
from pneumoscope.ood import embedding, orientation
from pneumoscope.training import building, loop, starting
from pneumoscope.training.data import Prepared
from pneumoscope.training.loop import Progress
from pneumoscope.training.recipe import Recipe

CORRUPTED_COPIES = 4

MOSTLY = 0.9
"""The share of uncertain validation images above which the user is warned."""

SHARPENED = 1.0
"""The largest amplification of the fine detail of a corrupted image; 1 doubles it."""

USUAL_IMAGES = 1000
"""The most training images used to find the evidence of a usual image."""

MOST_FITTED = 10_000
"""The most training or validation images that calibration, gate and orientation model are fitted on."""


@dataclass(frozen=True)
class Run:
    """The result of a training run.

    Attributes:
        model: the model file.
        validation: its figures on the held-out patients.
        notes: decisions that the user should know about.
        kept: which epoch's weights were kept, and why.
    """

    model: Path
    validation: metrics.Performance
    notes: list[str]
    kept: str = ""


def finish(
    network: keras.Model,
    images: Prepared,
    recipe: Recipe,
    out: Path,
    progress: Progress,
    mean_of: Sequence[Mapping[str, Any]] = (),
) -> Run:
    """Calibrate a trained network and write its model file.

    Args:
        network: the trained output of `architectures.build`, in full precision.
        images: the training and validation images.
        recipe: how it was trained.
        out: the run's folder.
        progress: called for every step.
        mean_of: the augmentations of the networks that were averaged.

    Raises:
        ModelFileError: the file's outputs differ from the network's; no model file is written.

    Example:
        >>> run = finish(network, images, recipe, Path("run"), lambda *_: None)  # doctest: +SKIP
    """
    training, notes = images.training, images.notes
    quick = building.copy(recipe, network.get_weights(), quick=True)
    _write_split(out / "split.csv", training, images.validation)
    validation, others = _without_others(images.validation)
    logits = loop.predict_logits(quick, validation.pixels)
    fitted = calibration.Calibration()
    if np.bincount(validation.labels, minlength=2).min() >= calibration.MIN_PER_CLASS:
        fitted = _calibrated(quick, _some(images.validation, MOST_FITTED), recipe.operating_point, progress)
    else:
        notes.append(
            f"Fewer than {calibration.MIN_PER_CLASS} validation images of a class: probabilities are not calibrated, "
            "and the threshold is 0.5."
        )
    figures = metrics.performance(validation.labels, fitted.probabilities(logits), fitted.threshold, validation.groups)
    measured = figures.as_dict() | {"sites": _by_site(validation, fitted.probabilities(logits), fitted.threshold)}
    if len(others.samples):
        called = fitted.probabilities(loop.predict_logits(quick, others.pixels)) >= fitted.threshold
        measured["others_called_pneumonia"] = asdict(metrics.wilson(int(called.sum()), len(called)))
    notes += _doubts(fitted, logits)
    unlike: dict[str, Any] = {}
    turned: dict[str, Any] = {}
    if len(images.validation.samples) >= embedding.ENOUGH:
        rng = np.random.default_rng(recipe.seed)
        some = [_some(part, MOST_FITTED) for part in (training, images.validation)]
        sites = [np.array([sample.site for sample in part.samples]) for part in (training, *some)]
        unlike = embedding.fit(
            *(_embeddings(quick, part, rng, progress) for part in some),
            training_sites=np.tile(sites[1], 2),
            held_out_sites=np.tile(sites[2], 2),
        ).as_dict()
        turned = orientation.fit(
            training.pixels,
            some[1].pixels,
            recipe.seed,
            lambda n, of: progress("learning orientations", n, of, {}),
            training_sites=sites[0],
            held_out_sites=sites[2],
        ).as_dict()
    else:
        notes.append(
            f"Fewer than {embedding.ENOUGH} validation images: the model cannot recognise images unlike its own, nor "
            "rotated or inverted ones, and rejects only by header, size, or images of one or two tones."
        )
    usual = _usual_evidence(network, training, progress)
    youngest, oldest = _ages(recipe, training.samples)
    card = Card(
        architecture=recipe.architecture,
        input_size=recipe.size,
        calibration=fitted,
        bias=architectures.bias(network, usual),
        recipe=told(recipe) | ({"mean_of": mean_of} if len(mean_of) > 1 else {}),
        data={
            "population": recipe.population,
            "youngest_patient_years": youngest,
            "oldest_patient_years": oldest,
            "fingerprint": images.fingerprint,
            "training": _counts(training),
            "validation": _counts(images.validation),
        }
        | ({"start": starting.card_of(recipe.init).data} if starting.is_model_file(recipe.init) else {}),
        metrics=measured,
        seen=images.seen,
        gate=unlike,
        orientation=turned,
        licence=recipe.licence,
    )
    network.save(out / "model.keras")
    write_text(out / "validation.json", json.dumps(measured, indent=2))
    model_file.write(network, card, out / "model.onnx", validation.pixels[:32], usual)
    return Run(out / "model.onnx", figures, notes)


def _doubts(fitted: calibration.Calibration, logits: NDArray[np.float64]) -> list[str]:
    """Return warnings that a model is of little use: it calls everything one class, or nearly everything uncertain."""
    called = logits > 0
    doubts = []
    if called.all() or not called.any():
        doubts.append(
            f"At even odds the network calls every validation image {layouts.LABELS[int(called[0])]}: it is "
            "undertrained. Train longer, or on more images."
        )
    uncertain = np.mean([fitted.is_uncertain(p) for p in fitted.probabilities(logits)])
    if uncertain > MOSTLY:
        doubts.append(
            f"{uncertain:.0%} of the validation images lie in the uncertain band: with too few images or too short a "
            "training, hardly any finding is certain. Train longer, or on more images."
        )
    return doubts


def told(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe for publication: without the folder of the weights it starts from.

    Example:
        >>> told(Recipe(init="here/weights.keras"))["init"]
        'weights.keras'
    """
    return asdict(recipe) | {"init": Path(recipe.init).name}


def _calibrated(
    network: keras.Model, validation: Decoded, point: OperatingPoint, progress: Progress
) -> calibration.Calibration:
    """Calibrate on the validation images, each both uncorrupted and with a few of the `corruptions`.

    A threshold fitted on clean images alone calls many normals positive on images from elsewhere.
    """
    shifts = [name for name in corruptions.CORRUPTIONS if name not in corruptions.APART]
    labels, corrupted = [validation.labels], [loop.predict_logits(network, validation.pixels)]
    for turn in range(CORRUPTED_COPIES):
        images = (
            corruptions.apply(shifts[(CORRUPTED_COPIES * i + turn) % len(shifts)], image.astype(np.float32))
            for i, image in enumerate(validation.pixels)
        )
        while batch := list(islice(images, loop.BATCH)):
            corrupted.append(loop.predict_logits(network, np.stack(batch)))
        labels.append(validation.labels)
        progress("calibrating", turn + 1, CORRUPTED_COPIES, {})
    what = f"images of held-out patients, each as it is and corrupted in {CORRUPTED_COPIES} ways"
    y, z = np.concatenate(labels), np.concatenate(corrupted)
    sites, others = (
        np.tile([getattr(sample, name) for sample in validation.samples], CORRUPTED_COPIES + 1)
        for name in ("site", "other")
    )
    return calibration.fit(y, z, copies=CORRUPTED_COPIES + 1, images=what, point=point, sites=sites, others=others)


def _embeddings(
    network: keras.Model, images: Decoded, rng: np.random.Generator, progress: Progress
) -> NDArray[np.float32]:
    """Return the embeddings (2 N, d) of the images uncorrupted and corrupted, as the model file will compute them."""
    changed = disk_array.like(images.pixels, images.pixels.shape)
    for i, image in enumerate(images.pixels):
        varied = orientation.varied(image, rng)
        # Data sets were resized and recompressed, so new images may be sharper. `orientation.varied` does not sharpen,
        # because it would then accept more images that are not chest radiographs.
        if rng.random() < 0.3:
            varied = np.clip(corruptions.sharpened(varied, rng.uniform(0.0, SHARPENED)), 0.0, 1.0)
        changed[i] = varied
    features = network.get_layer("features")
    maps = [
        batch.mean(axis=(1, 2))
        for pixels in (images.pixels, changed)
        for batch in loop.outputs(features, pixels, "embedding images", progress)
    ]
    return np.concatenate(maps)


def _usual_evidence(network: keras.Model, images: Decoded, progress: Progress) -> NDArray[np.float32]:
    """Average the evidence maps (h, w) of some images, with equal weight for each class of each site."""
    some = _some(images, USUAL_IMAGES)
    inference = architectures.with_evidence(network)
    weighing = keras.Model(inference.input, inference.output["evidence"])
    maps = np.concatenate(list(loop.outputs(weighing, some.pixels, "weighing places", progress)))
    groups = [f"{sample.site} {sample.label}" for sample in some.samples]
    usual = np.mean([maps[np.equal(groups, group)].mean(axis=0) for group in sorted(set(groups))], axis=0)
    if architectures.averages(network):
        # Such a head weighs all cells equally, so the usual evidence is a single number; subtracting it cell by cell
        # would move the hottest cell away from the opacity.
        usual = np.full_like(usual, usual.mean())
    return np.asarray(usual)


def _without_others(images: Decoded) -> tuple[Decoded, Decoded]:
    """Separate the images of the two classes from those of other findings."""
    others = np.array([sample.other for sample in images.samples], dtype=bool)
    return images.take(np.flatnonzero(~others)), images.take(np.flatnonzero(others))


def _by_site(images: Decoded, probabilities: NDArray[np.float64], threshold: float) -> dict[str, Any]:
    """Measure each site that has both classes, if there are several sites."""
    sites = np.array([sample.site for sample in images.samples])
    measured = {}
    for site in np.unique(sites) if len(np.unique(sites)) > 1 else ():
        here = np.flatnonzero(sites == site)
        if len(np.unique(images.labels[here])) == 2:
            found = metrics.performance(images.labels[here], probabilities[here], threshold, images.groups[here])
            measured[str(site)] = found.as_dict()
    return measured


def _some(images: Decoded, most: int) -> Decoded:
    """Subsample the images evenly, to at most `most`."""
    return images.take(np.arange(0, len(images.samples), -(-len(images.samples) // most)))


def _write_split(path: Path, training: Decoded, validation: Decoded) -> None:
    rows = io.StringIO()
    table = csv.writer(rows, lineterminator="\n")
    table.writerow(("path", "label", "patient", "site", "view", "age", "boxes", "split"))
    for part, name in ((training, "train"), (validation, "val")):
        for s in part.samples:
            boxes = "; ".join(f"{b.name} {b.left} {b.top} {b.right} {b.bottom}" for b in s.boxes)
            age = "" if s.age is None else f"{s.age:g}"
            table.writerow((s.path.absolute(), _label(s), s.patient, s.site, s.view, age, boxes, name))
    write_text(path, rows.getvalue())


def _label(sample: layouts.Sample) -> str:
    return "OTHER" if sample.other else layouts.LABELS[sample.label]


def _ages(recipe: Recipe, samples: Sequence[layouts.Sample]) -> tuple[float, float]:
    """Return the ages of the youngest and oldest training patients, in years; 0 and 0 if unknown.

    They come from the recipe, or else from the images, if all have one, and from the model file that training started
    from.
    """
    if recipe.oldest:
        return recipe.youngest, recipe.oldest
    ages = [sample.age for sample in samples if sample.age is not None]
    spans = [(min(ages), max(ages))] if ages and len(ages) == len(samples) else []
    if starting.is_model_file(recipe.init):
        data = starting.card_of(recipe.init).data
        spans.append((data.get("youngest_patient_years", 0), data.get("oldest_patient_years", 0)))
    known = [span for span in spans if span[1]]
    return (min(low for low, _ in known), max(high for _, high in known)) if known else (recipe.youngest, 0)


def _counts(part: Decoded) -> dict[str, int]:
    return {
        "images": len(part.samples),
        "pneumonia": int(part.labels.sum()),
        "patients": len(np.unique(part.groups)),
    }
