"""Trains a network on labelled images, and averages the networks of several runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pneumoscope.atomic import write_text
from pneumoscope.data import disk_array
from pneumoscope.data.disk_array import Rows
from pneumoscope.data.splits import Decoded
from pneumoscope.errors import TrainingError
from pneumoscope.networks import architectures
from pneumoscope.networks.backend import keras
from pneumoscope.training import batches, boxes, building, distributed, loop, sampling, schedule, starting
from pneumoscope.training.augmentation import NONE
from pneumoscope.training.batches import Examples
from pneumoscope.training.checkpoint import Checkpoint
from pneumoscope.training.data import Prepared, prepare
from pneumoscope.training.job import Job
from pneumoscope.training.loop import Phase, Progress
from pneumoscope.training.packaging import Run, finish, told
from pneumoscope.training.recipe import Recipe
from pneumoscope.training.tracking import Tracker

HEAD_C = 0.01
"""Inverse regularisation of a head fitted by logistic regression on thousands of features and hundreds of images."""


def fit(job: Job, tracker: Tracker | None = None) -> Run:
    """Train a network and write all files of the run into a folder.

    These are `model.onnx` (to predict with), `model.keras` (to train further), `recipe.json`, `split.csv` (the training
    and validation images), `validation.json`, `checkpoint.npz` (to resume from) and, if there are epochs, `history.csv`
    and `curves.png`.

    Args:
        job: what to train, and where to write it.
        tracker: informed of the recipe, each epoch and the finished run.

    Returns:
        The run.

    Raises:
        DatasetError: the images cannot be trained on.
        TrainingError: the folder holds another run, or there is not enough space in `cache`.

    Example:
        >>> run = fit(Job("chest_xray", Path("runs/first"), Recipe(epochs=5)))  # doctest: +SKIP
    """
    tracker = tracker or Tracker()
    if distributed.share().host:
        raise TrainingError("Expected `fit` only on host 0, got another host: call `assist` there.")
    images, network, rows = _trained(job, tracker)
    run = finish(network, images, job.recipe, job.out, job.progress)
    run = replace(run, kept=schedule.reason(rows, job.recipe))
    tracker.finished(run.model, run.validation.as_dict())
    return run


def assist(job: Job) -> None:
    """Take part in a training whose host 0 runs `fit` and writes the files.

    Args:
        job: as on host 0. A resumed run reads the folder, so all hosts must see the same one.

    Raises:
        DatasetError: as with `fit`.
        TrainingError: as with `fit`, or host 0 has other images, another recipe or another checkpoint.

    Example:
        >>> assist(Job("chest_xray", Path("runs/first"), Recipe(epochs=5)))  # doctest: +SKIP
    """
    _trained(job, Tracker())


def soup(job: Job, runs: Sequence[str | Path]) -> Run:
    """Average the weights of several runs into one network, and write its model files like `fit`.

    The card holds the first run's recipe, and under `mean_of` the augmentation of each run.

    Networks fine-tuned from the same start with different augmentation lie in the same basin of the loss; their mean
    does better on images from elsewhere than any of them and costs no more to use (Wortsman et al. 2022, "Model soups:
    averaging weights of multiple fine-tuned models improves accuracy without increasing inference time").

    Args:
        job: the images that the runs were trained on, and the folder for the averaged network. The first run's recipe
            replaces the job's, so that the same images are held out and calibrated on.
        runs: the folders that `fit` wrote, with the same architecture and size, and the same patients held out.

    Returns:
        The run.

    Raises:
        TrainingError: the runs cannot be averaged.

    Example:
        >>> run = soup(Job("chest_xray", Path("runs/mean")), ["runs/a", "runs/b"])  # doctest: +SKIP
    """
    claims = [_claim_of(Path(run)) for run in runs]
    if not claims:
        raise TrainingError("Expected runs to average, got none.")
    recipes = [Recipe.from_dict(claim["recipe"]) for claim in claims]
    recipe = recipes[0]
    if len({(r.architecture, r.size, r.pooling) for r in recipes}) > 1:
        raise TrainingError("Expected runs with the same architecture, size and pooling, got different ones.")
    for run in runs:
        if not (Path(run) / "model.keras").is_file():
            raise TrainingError(f"Expected a finished run in '{run}', got an unfinished one: resume it first.")
    parts = claims[0]["training and validation images"]
    if any(claim["training and validation images"] != parts for claim in claims):
        raise TrainingError(
            "Expected runs that hold out the same patients, got different ones: train them with the same seed."
        )
    images = prepare(replace(job, recipe=recipe))
    if [images.training.fingerprint(), images.validation.fingerprint()] != parts:
        raise TrainingError("Expected the images that the runs were trained on, got others.")
    networks = [building.copy(recipe, keras.saving.load_model(Path(run) / "model.keras").get_weights()) for run in runs]
    networks[0].set_weights([np.mean(same, axis=0) for same in zip(*(n.get_weights() for n in networks), strict=True)])
    job.out.mkdir(parents=True, exist_ok=True)
    mean_of = [asdict(r.augmentation) for r in recipes]
    return finish(networks[0], images, recipe, job.out, job.progress, mean_of=mean_of)


def _trained(job: Job, tracker: Tracker) -> tuple[Prepared, keras.Model, list[dict[str, Any]]]:
    """Train on all devices and hosts; return the images, the network (on this host's first device) and the history."""
    recipe = job.recipe
    if (job.out / "checkpoint.npz").exists() and not job.resume:
        raise TrainingError(
            f"Expected an empty folder, got '{job.out}' with a run in it: resume it, or choose another folder."
        )
    starting.check(recipe.init, asdict(recipe))
    images = prepare(job)
    parts = [images.training.fingerprint(), images.validation.fingerprint()]
    distributed.check_equal("images and recipe", json.dumps([parts, asdict(recipe)]))
    _claim(job, parts)
    tracker.began(told(recipe), images.fingerprint)
    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(building.precision(recipe))
    try:
        network, rows = _train(images, job, tracker)
    finally:
        keras.config.set_dtype_policy("float32")
    weights = network.get_weights()
    distributed.leave()
    return images, building.copy(recipe, weights), rows


def _train(images: Prepared, job: Job, tracker: Tracker) -> tuple[keras.Model, list[dict[str, Any]]]:
    recipe, progress, training = job.recipe, job.progress, images.training
    known = np.array([not sample.other for sample in images.validation.samples])
    validation = images.validation.take(np.flatnonzero(known))
    network = building.build(recipe, recipe.init, quick=True)
    if starting.is_model_file(recipe.init):
        starting.restore(network, recipe.init, training.pixels)
    pretrained = recipe.init == "imagenet" or recipe.init.endswith(".weights.h5")
    drawn = _masks(training, network, recipe)
    trained = architectures.with_cells(network) if drawn else architectures.with_logit(network)
    run = Checkpoint(job.out, trained, tracker.epoch)
    distributed.check_equal("checkpoint in the run's folder", json.dumps(run.history))
    if pretrained and recipe.head == "logistic" and not run.history:
        _fit_head(network, training, recipe, progress)
    elif pretrained and recipe.head_epochs and not run.rows("network"):
        # Only the head changes in this phase, so each image's features are computed once.
        features, head = network.get_layer("features"), network.get_layer("head")
        Phase(
            name="head",
            model=architectures.with_logit(head),
            evaluated=head,
            training=Examples(_features_of(features, training, progress), training.samples),
            validation=Examples(_features_of(features, validation, progress), validation.samples),
            recipe=replace(
                recipe,
                epochs=recipe.head_epochs,
                learning_rate=recipe.head_learning_rate,
                augmentation=NONE,
                schedule="plateau",
            ),
        ).run(run, progress)
    if recipe.epochs == 0:
        return network, run.history
    Phase(
        name="network",
        model=trained,
        evaluated=network,
        training=Examples(training.pixels, training.samples, *(drawn or ())),
        validation=Examples(validation.pixels, validation.samples),
        recipe=recipe,
    ).run(run, progress)
    return network, run.history


def _masks(
    training: Decoded, network: keras.Model, recipe: Recipe
) -> tuple[NDArray[np.float16], NDArray[np.bool_]] | None:
    """Draw the masks of the boxes to train on; None if there are none, or the network's evidence is not linear."""
    if recipe.box_weight == 0.0 or architectures.bias(network) is None:
        return None
    side = architectures.evidence_side(network)
    return boxes.masks(training.samples, training.parts, architectures.CELL * side)


def _fit_head(network: keras.Model, training: Decoded, recipe: Recipe, progress: Progress) -> None:
    """Fit a linear head by logistic regression on the standardised features of all images.

    If the recipe flips images, each one is also used flipped.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, head = network.get_layer("features"), network.get_layer("head")
    *_, dense = head.layers
    flips = (False, True) if recipe.augmentation.horizontal_flip > 0 else (False,)
    inputs: list[NDArray[np.float32]] = []
    labels = np.tile(training.labels, len(flips))
    for flipped in flips:
        images = keras.Input(features.input_shape[1:])
        maps = features(keras.ops.flip(images, axis=2) if flipped else images)
        pooled = keras.Model(images, keras.Model(head.inputs, dense.input)(maps))
        inputs += loop.outputs(pooled, training.pixels, "computing features", progress)
    weights = np.tile(_weights(training, recipe), len(flips))
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=HEAD_C, max_iter=1000))
    fitted.fit(np.concatenate(inputs), labels, logisticregression__sample_weight=weights)
    scale, line = (step for _, step in fitted.steps)
    slope = line.coef_[0] / scale.scale_
    dense.set_weights([slope[:, None], line.intercept_ - slope @ scale.mean_])


def _weights(training: Decoded, recipe: Recipe) -> NDArray[np.float64]:
    """Weight each image (N,) by how often an epoch of the recipe would show it; the mean is 1."""
    if recipe.imbalance == "class_weight":
        return batches.class_weights(training.labels)[training.labels]
    weights = np.ones(len(training.samples))
    if recipe.imbalance == "balanced":
        weights[:] = 0.0
        for stratum in sampling.strata(training.samples, recipe.other_share):
            weights[stratum.members] = stratum.share * len(weights) / len(stratum.members)
    return weights


def _features_of(features: keras.Model, images: Decoded, progress: Progress) -> Rows:
    maps = disk_array.like(images.pixels, (len(images.samples), *features.output_shape[1:]))
    rows = (row for batch in loop.outputs(features, images.pixels, "computing features", progress) for row in batch)
    for i, row in enumerate(rows):
        maps[i] = row
    return maps


def _claim(job: Job, parts: list[str]) -> None:
    """Record the recipe and images of this run, or check that those of a resumed run are the same."""
    out, recipe = job.out, job.recipe
    mine = {"recipe": asdict(recipe), "training and validation images": parts}
    path = out / "recipe.json"
    if job.resume and path.exists():
        found = _claim_of(out)
        if found != mine:
            differing = [k for k in mine["recipe"] if found["recipe"].get(k) != mine["recipe"][k]]  # type: ignore[index]
            raise TrainingError(
                f"Expected the recipe and images of the run in '{out}', got other "
                f"{', '.join(differing) or 'images'}: give the same ones, or choose another folder."
            )
    if distributed.share().host == 0:
        out.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(mine, indent=2))


def recipe_of(run: Path) -> Recipe:
    """Read the recipe of the run in a folder.

    Raises:
        TrainingError: there is no run.

    Example:
        >>> recipe_of(Path("runs/first")).architecture  # doctest: +SKIP
        'mobilenet_v2'
    """
    return Recipe.from_dict(_claim_of(run)["recipe"])


def _claim_of(run: Path) -> dict[str, Any]:
    try:
        claim: dict[str, Any] = json.loads((run / "recipe.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise TrainingError(f"Expected the folder of a training in '{run}', got none.") from None
    return claim
