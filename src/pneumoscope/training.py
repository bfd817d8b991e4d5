"""From labelled films to a model file: who is held out, what is trained, and what a run folder holds."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from pneumoscope import (
    architectures,
    calibration,
    dataset,
    devices,
    epochs,
    gate,
    metrics,
    model_file,
    splits,
    stored,
    stress,
    views,
)
from pneumoscope.atomic import write_text
from pneumoscope.augmentation import NONE, augmented
from pneumoscope.dataset import Film
from pneumoscope.epochs import Checkpoint, Phase, Progress
from pneumoscope.errors import DatasetError, TrainingError
from pneumoscope.model_file import Card
from pneumoscope.operating_point import OperatingPoint
from pneumoscope.recipe import Recipe
from pneumoscope.splits import Decoded
from pneumoscope.stored import Rows
from pneumoscope.tracking import Tracker

MIN_VALIDATION = 20
"""A validation split with fewer films of a class says too little to choose an epoch by (Kaggle's has 8)."""

HEAD_C = 0.01
"""Inverse strength of the penalty on a head fitted by logistic regression: thousands of features, hundreds of films."""

STRESSED_COPIES = 4

USUAL_FILMS = 1000
"""Training films, at most, that say what each place of a usual film adds to the logit."""

MOST_FITTED = 10_000
"""Films of a part, at most, that calibration, gate and views are fitted on after a training."""


@dataclass(frozen=True)
class Run:
    """What a training gave.

    Attributes:
        model: the model file.
        validation: its figures on the held-out patients.
        notes: decisions that the user should know of.
    """

    model: Path
    validation: metrics.Performance
    notes: list[str]


def fit(
    data: str | Path | Sequence[Film],
    out: str | Path,
    recipe: Recipe | None = None,
    *,
    resume: bool = False,
    skip_unreadable: bool = False,
    cache: str | Path | None = None,
    tracker: Tracker | None = None,
    progress: Progress = lambda *_: None,
) -> Run:
    """Train a network and write everything a run is into a folder.

    The folder receives `model.onnx` (to predict with), `model.keras` (to train on), `recipe.json`, `split.csv` (who
    was trained on and who held out), `history.csv`, `curves.png`, `validation.json`, and while it runs
    `checkpoint.npz`.

    Args:
        data: what `dataset.load` takes, or films. Films of a `test` split are never read.
        out: the run's folder.
        recipe: how to train; by default `Recipe()`.
        resume: go on after the last finished epoch in `out`; the result equals that of a run without a break.
        skip_unreadable: leave out films that cannot be read instead of refusing to train.
        cache: a folder for a file that holds the decoded films instead of memory, 2 bytes a pixel; the result is the
            same. Without one, films too many for memory are kept so in `out`.
        tracker: told of the recipe, each epoch and the finished run.
        progress: told of every step.

    Returns:
        The run.

    Raises:
        DatasetError: the films cannot be trained on.
        TrainingError: the folder holds another run; there is no room in `cache`.

    Example:
        >>> run = fit("chest_xray", "runs/first", Recipe(epochs=5))  # doctest: +SKIP
    """
    recipe, out, tracker = recipe or Recipe(), Path(out), tracker or Tracker()
    if devices.share().host:
        raise TrainingError("Expected `fit` on host 0 alone, got another: call `assist` there.")
    films, network = _trained(data, out, recipe, resume, skip_unreadable, cache, tracker, progress)
    run = _written(network, films, recipe, out, progress)
    tracker.finished(run.model, run.validation.as_dict())
    return run


def assist(
    data: str | Path | Sequence[Film],
    out: str | Path,
    recipe: Recipe | None = None,
    *,
    resume: bool = False,
    skip_unreadable: bool = False,
    cache: str | Path | None = None,
    progress: Progress = lambda *_: None,
) -> None:
    """Train together with `fit` on host 0, which writes what there is to write; all else is as there.

    Args:
        data: as with `fit`.
        out: the run's folder; it is read where the run is resumed, so all hosts have to see the same one then.
        recipe: as with `fit`.
        resume: as with `fit`.
        skip_unreadable: as with `fit`.
        cache: as with `fit`; of this host.
        progress: told of every step.

    Raises:
        DatasetError: as with `fit`.
        TrainingError: likewise; or host 0 has other films, another recipe or another checkpoint.

    Example:
        >>> assist("chest_xray", "runs/first", Recipe(epochs=5))  # doctest: +SKIP
    """
    _trained(data, Path(out), recipe or Recipe(), resume, skip_unreadable, cache, Tracker(), progress)


def _trained(
    data: str | Path | Sequence[Film],
    out: Path,
    recipe: Recipe,
    resume: bool,
    skip_unreadable: bool,
    cache: str | Path | None,
    tracker: Tracker,
    progress: Progress,
) -> tuple[_Films, keras.Model]:
    """Train on all devices and hosts; give the films and, on this host alone, the network."""
    if (out / "checkpoint.npz").exists() and not resume:
        raise TrainingError(f"Expected an empty folder, got '{out}' with a run in it: add --resume, or name another.")
    films = _prepared(data, recipe, skip_unreadable, progress, out, cache)
    parts = [films.training.fingerprint(), films.validation.fingerprint()]
    devices.check_equal("films and recipe", json.dumps([parts, asdict(recipe)]))
    _claim(out, recipe, parts, resume)
    tracker.began(_told(recipe), films.fingerprint)
    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(recipe.precision)
    try:
        network = _train(films.training, films.validation, recipe, out, tracker, progress)
    finally:
        keras.config.set_dtype_policy("float32")
    if recipe.precision != "float32" or devices.share().devices > 1:
        weights = network.get_weights()
        devices.leave()
        network = _copy(weights, recipe)
    return films, network


def soup(
    data: str | Path | Sequence[Film],
    out: str | Path,
    runs: Sequence[str | Path],
    *,
    skip_unreadable: bool = False,
    progress: Progress = lambda *_: None,
) -> Run:
    """Average the weights of several runs into one network, and write its model files as `fit` does.

    The card holds the first run's recipe, and under `mean_of` the augmentation of each.

    Networks that were trained from one start with different augmentation lie in one valley of the loss; their mean does
    better on films from elsewhere than each of them and costs no more to use (Wortsman et al. 2022, "Model soups:
    averaging weights of multiple fine-tuned models improves accuracy without increasing inference time").

    Args:
        data: the films the runs were trained on; they are held out and calibrated on as in the first run.
        out: the folder for the averaged network.
        runs: the folders that `fit` wrote, of one architecture and size, and with the same patients held out.
        skip_unreadable: as with `fit`.
        progress: told of every step.

    Returns:
        The run.

    Raises:
        TrainingError: the runs cannot be averaged.

    Example:
        >>> run = soup("chest_xray", "runs/mean", ["runs/a", "runs/b"])  # doctest: +SKIP
    """
    out = Path(out)
    claims = [_claim_of(Path(run)) for run in runs]
    if not claims:
        raise TrainingError("Expected runs to average, got none.")
    recipes = [Recipe.from_dict(claim["recipe"]) for claim in claims]
    recipe = recipes[0]
    if len({(r.architecture, r.size, r.pooling) for r in recipes}) > 1:
        raise TrainingError("Expected runs of one architecture, size and pooling, got several.")
    for run in runs:
        if not (Path(run) / "model.keras").is_file():
            raise TrainingError(f"Expected a finished run in '{run}', got a broken-off one: resume it first.")
    parts = claims[0]["training and validation films"]
    if any(claim["training and validation films"] != parts for claim in claims):
        raise TrainingError("Expected runs that hold out the same patients, got others: train them with one seed.")
    films = _prepared(data, recipe, skip_unreadable, progress, out, None)
    if [films.training.fingerprint(), films.validation.fingerprint()] != parts:
        raise TrainingError("Expected the films that the runs were trained on, got others.")
    networks = [_copy(keras.saving.load_model(Path(run) / "model.keras").get_weights(), recipe) for run in runs]
    networks[0].set_weights([np.mean(same, axis=0) for same in zip(*(n.get_weights() for n in networks), strict=True)])
    out.mkdir(parents=True, exist_ok=True)
    return _written(networks[0], films, recipe, out, progress, mean_of=[asdict(r.augmentation) for r in recipes])


@dataclass(frozen=True)
class _Films:
    """The films of a training: two parts, and what they were made from."""

    training: Decoded
    validation: Decoded
    fingerprint: str
    seen: str
    notes: list[str]


def _prepared(
    data: str | Path | Sequence[Film],
    recipe: Recipe,
    skip_unreadable: bool,
    progress: Progress,
    out: Path,
    cache: str | Path | None,
) -> _Films:
    """Read the films and hold patients out."""
    films = dataset.load(data) if isinstance(data, (str, Path)) else list(data)
    tested = {film.patient for film in films if film.split == "test"}
    films = [film for film in films if film.split != "test"]
    folder = None if cache is None else Path(cache)
    if folder is None and stored.too_many((len(films), recipe.size, recipe.size)):
        out.mkdir(parents=True, exist_ok=True)
        folder = out
    decoded = splits.decode(films, recipe.size, _counted(progress, "reading films", len(films)), folder)
    if decoded.failures and not skip_unreadable:
        named = "\n".join(f"  {film.path}: {error}" for film, error in decoded.failures[:5])
        raise DatasetError(
            f"Expected readable films, got {len(decoded.failures)} of {len(films)} that are not; repair or remove "
            f"them, or add --skip-unreadable. The first:\n{named}"
        )
    training, validation, notes = partition(decoded, recipe)
    if len(np.unique(training.labels)) < 2:
        raise DatasetError(f"Expected films of both classes to train on, got {len(training.films)} of one class only.")
    if shared := tested & {film.patient for film in decoded.films}:
        notes.append(
            f"{len(shared)} patients of the test split are also trained on: what that split says is flattered."
        )
    return _Films(training, validation, decoded.fingerprint(), model_file.encode_seen(decoded.pixels), notes)


def _copy(weights: Sequence[NDArray[Any]], recipe: Recipe) -> keras.Model:
    """Build the recipe's network in full precision and with these weights, on this host's first device."""
    r = recipe
    plain = architectures.build(r.architecture, r.size, pooling=r.pooling, dropout=r.dropout, init="none")
    plain.set_weights(weights)
    return plain


def _written(
    network: keras.Model,
    films: _Films,
    recipe: Recipe,
    out: Path,
    progress: Progress,
    mean_of: Sequence[Mapping[str, Any]] = (),
) -> Run:
    """Calibrate a trained network and write it down with what it is and can."""
    training, validation, notes = films.training, films.validation, films.notes
    _write_split(out / "split.csv", training, validation)
    logits = epochs.predict_logits(network, validation.pixels)
    fitted = calibration.Calibration()
    if np.bincount(validation.labels, minlength=2).min() >= calibration.MIN_PER_CLASS:
        fitted = _calibrated(network, _some(validation, MOST_FITTED), recipe.operating_point, progress)
    else:
        notes.append(
            f"Fewer than {calibration.MIN_PER_CLASS} validation films of a class: probabilities are not calibrated and "
            "the threshold is 0.5."
        )
    figures = metrics.performance(validation.labels, fitted.probabilities(logits), fitted.threshold, validation.groups)
    unlike: dict[str, Any] = {}
    seen_views: dict[str, Any] = {}
    if len(validation.films) >= gate.ENOUGH:
        rng = np.random.default_rng(recipe.seed)
        some = [_some(part, MOST_FITTED) for part in (training, validation)]
        unlike = gate.fit(*(_embeddings(network, part, rng, progress) for part in some)).as_dict()
        seen_views = views.fit(
            training.pixels, some[1].pixels, recipe.seed, lambda n, of: progress("learning views", n, of, {})
        ).as_dict()
    else:
        notes.append(
            f"Fewer than {gate.ENOUGH} validation films: the model cannot tell films unlike its own, nor turned or "
            "inverted ones, and of pictures that are no chest films it refuses blank ones only."
        )
    usual = _usual_evidence(network, training, progress)
    card = Card(
        architecture=recipe.architecture,
        input_size=recipe.size,
        calibration=fitted,
        bias=architectures.bias(network, usual),
        recipe=_told(recipe) | ({"mean_of": mean_of} if len(mean_of) > 1 else {}),
        data={
            "population": recipe.population,
            "oldest_patient_years": recipe.oldest,
            "fingerprint": films.fingerprint,
            "training": _counts(training),
            "validation": _counts(validation),
        },
        metrics=figures.as_dict(),
        seen=films.seen,
        gate=unlike,
        views=seen_views,
        licence=recipe.licence,
    )
    network.save(out / "model.keras")
    write_text(out / "validation.json", json.dumps(figures.as_dict(), indent=2))
    model_file.write(network, card, out / "model.onnx", validation.pixels[:32], usual)
    return Run(out / "model.onnx", figures, notes)


def partition(decoded: Decoded, recipe: Recipe) -> tuple[Decoded, Decoded, list[str]]:
    """Choose who is trained on and who is held out to validate.

    The data set's own validation split is used where it has at least `MIN_VALIDATION` films a class and shares no
    patient with the training films; otherwise patients are held out of all films.

    Returns:
        The training films, the validation films, and what the user should know of the choice.
    """
    own = np.array([film.split == "val" for film in decoded.films])
    if not own.any():
        training, validation = splits.hold_out(decoded, recipe.validation_share, recipe.seed)
        return decoded.take(training), decoded.take(validation), []
    counts = np.bincount(decoded.labels[own], minlength=2)
    shared = np.intersect1d(decoded.groups[own], decoded.groups[~own])
    if counts.min() >= MIN_VALIDATION and not len(shared):
        return decoded.take(np.flatnonzero(~own)), decoded.take(np.flatnonzero(own)), []
    reason = (
        f"shares {len(shared)} patients with the training films"
        if len(shared)
        else f"has only {counts[0]} + {counts[1]} films, fewer than {MIN_VALIDATION} of a class"
    )
    training, validation = splits.hold_out(decoded, recipe.validation_share, recipe.seed)
    note = f"The data set's own validation split {reason}; patients were held out of all films instead."
    return decoded.take(training), decoded.take(validation), [note]


def _calibrated(
    network: keras.Model, validation: Decoded, point: OperatingPoint, progress: Progress
) -> calibration.Calibration:
    """Fit on the validation films as they are and under the shifts of `stress`, each film under a few of them.

    A threshold fitted on clean films alone calls many normals sick as soon as films come from elsewhere.
    """
    shifts = [name for name in stress.SHIFTS if name not in stress.APART]
    labels, stressed = [validation.labels], [epochs.predict_logits(network, validation.pixels)]
    for turn in range(STRESSED_COPIES):
        films = (
            stress.apply(shifts[(STRESSED_COPIES * i + turn) % len(shifts)], film.astype(np.float32))
            for i, film in enumerate(validation.pixels)
        )
        while batch := list(islice(films, epochs.BATCH)):
            stressed.append(epochs.predict_logits(network, np.stack(batch)))
        labels.append(validation.labels)
        progress("calibrating", turn + 1, STRESSED_COPIES, {})
    what = f"films of held-out patients, each as it is and under {STRESSED_COPIES} kinds of stress"
    y, z = np.concatenate(labels), np.concatenate(stressed)
    return calibration.fit(y, z, copies=STRESSED_COPIES + 1, films=what, point=point)


def _train(
    training: Decoded, validation: Decoded, recipe: Recipe, out: Path, tracker: Tracker, progress: Progress
) -> keras.Model:
    network = architectures.build(
        recipe.architecture, recipe.size, pooling=recipe.pooling, dropout=recipe.dropout, init=recipe.init
    )
    pretrained = recipe.init != "none" and not recipe.init.endswith(".keras")
    run = Checkpoint(out, network, tracker.epoch)
    devices.check_equal("checkpoint in the run's folder", json.dumps(run.history))
    if pretrained and recipe.head == "logistic" and not run.history:
        _fit_head(network, training, recipe, progress)
    elif pretrained and recipe.head_epochs and not run.rows("network"):
        # Nothing before the head changes in this phase, so each film's features are computed once.
        features = network.get_layer("features")
        Phase(
            name="head",
            model=network.get_layer("head"),
            evaluated=network.get_layer("head"),
            training=(_features_of(features, training, progress), training.labels),
            validation=(_features_of(features, validation, progress), validation.labels),
            recipe=replace(
                recipe, epochs=recipe.head_epochs, learning_rate=recipe.head_learning_rate, augmentation=NONE
            ),
        ).run(run, progress)
    if recipe.epochs == 0:
        return network
    Phase(
        name="network",
        model=augmented(network, recipe.augmentation),
        evaluated=network,
        training=(training.pixels, training.labels),
        validation=(validation.pixels, validation.labels),
        recipe=recipe,
    ).run(run, progress)
    return network


def _fit_head(network: keras.Model, training: Decoded, recipe: Recipe, progress: Progress) -> None:
    """Fit a linear head by logistic regression on the features, each brought to one scale, of every film.

    Where the recipe flips films, each also counts flipped.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, head = network.get_layer("features"), network.get_layer("head")
    *_, dense = head.layers
    flips = (False, True) if recipe.augmentation.horizontal_flip else (False,)
    inputs: list[NDArray[np.float32]] = []
    labels = np.tile(training.labels, len(flips))
    for flipped in flips:
        films = keras.Input(features.input_shape[1:])
        maps = features(keras.ops.flip(films, axis=2) if flipped else films)
        pooled = keras.Model(films, keras.Model(head.inputs, dense.input)(maps))
        inputs += _outputs(pooled, training.pixels, "computing features", progress)
    balance = "balanced" if recipe.imbalance == "class_weight" else None
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=HEAD_C, class_weight=balance, max_iter=1000))
    scale, line = (step for _, step in fitted.fit(np.concatenate(inputs), labels).steps)
    slope = line.coef_[0] / scale.scale_
    dense.set_weights([slope[:, None], line.intercept_ - slope @ scale.mean_])


def _features_of(features: keras.Model, films: Decoded, progress: Progress) -> Rows:
    maps = stored.like(films.pixels, (len(films.films), *features.output_shape[1:]))
    rows = (row for batch in _outputs(features, films.pixels, "computing features", progress) for row in batch)
    for i, row in enumerate(rows):
        maps[i] = row
    return maps


def _embeddings(
    network: keras.Model, films: Decoded, rng: np.random.Generator, progress: Progress
) -> NDArray[np.float32]:
    """Give what the model file will give as `embedding`, (2 N, d): of the films as they are, and of each changed."""
    changed = stored.like(films.pixels, films.pixels.shape)
    for i, film in enumerate(films.pixels):
        changed[i] = views.varied(film, rng)
    features = network.get_layer("features")
    maps = [
        batch.mean(axis=(1, 2))
        for pixels in (films.pixels, changed)
        for batch in _outputs(features, pixels, "embedding films", progress)
    ]
    return np.concatenate(maps)


def _usual_evidence(network: keras.Model, films: Decoded, progress: Progress) -> NDArray[np.float32]:
    """Average the evidence maps (h, w) of some films, each class alike."""
    some = _some(films, USUAL_FILMS)
    inference = architectures.with_evidence(network)
    weighing = keras.Model(inference.input, inference.output["evidence"])
    maps = np.concatenate(list(_outputs(weighing, some.pixels, "weighing places", progress)))
    return np.asarray(np.mean([maps[some.labels == label].mean(axis=0) for label in np.unique(some.labels)], axis=0))


def _some(films: Decoded, most: int) -> Decoded:
    """Take every so many-th film, so that there are `most` at most."""
    return films.take(np.arange(0, len(films.films), -(-len(films.films) // most)))


def _outputs(model: keras.Model, pixels: Rows, what: str, progress: Progress) -> Iterator[NDArray[np.float32]]:
    """Run a model over films (N, S, S), and give its outputs a batch at a time."""
    done = 0
    for batch in epochs.outputs(model, pixels):
        yield batch
        done += len(batch)
        progress(what, done, len(pixels), {})


def _claim(out: Path, recipe: Recipe, parts: list[str], resume: bool) -> None:
    """Write down what this run is, or check that the run being resumed is the same."""
    mine = {"recipe": asdict(recipe), "training and validation films": parts}
    path = out / "recipe.json"
    if resume and path.exists():
        found = _claim_of(out)
        if found != mine:
            differing = [k for k in mine["recipe"] if found["recipe"].get(k) != mine["recipe"][k]]  # type: ignore[index]
            raise TrainingError(
                f"Expected the recipe and films of the run in '{out}', got other "
                f"{', '.join(differing) or 'films'}: give the same ones, or name another folder."
            )
    if devices.share().host == 0:
        out.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(mine, indent=2))


def _claim_of(run: Path) -> dict[str, Any]:
    try:
        claim: dict[str, Any] = json.loads((run / "recipe.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise TrainingError(f"Expected the folder of a training in '{run}', got none.") from None
    return claim


def _told(recipe: Recipe) -> dict[str, Any]:
    """Give a recipe as others may read it: without the folder of the weights it starts from."""
    return asdict(recipe) | {"init": Path(recipe.init).name}


def _write_split(path: Path, training: Decoded, validation: Decoded) -> None:
    rows = io.StringIO()
    table = csv.writer(rows, lineterminator="\n")
    table.writerow(("path", "label", "patient", "split"))
    for part, name in ((training, "train"), (validation, "val")):
        table.writerows((film.path.absolute(), dataset.LABELS[film.label], film.patient, name) for film in part.films)
    write_text(path, rows.getvalue())


def _counts(part: Decoded) -> dict[str, int]:
    return {
        "films": len(part.films),
        "pneumonia": int(part.labels.sum()),
        "patients": len(np.unique(part.groups)),
    }


def _counted(progress: Progress, what: str, total: int) -> Callable[[], object]:
    done = iter(range(1, total + 1))
    return lambda: progress(what, next(done), total, {})
