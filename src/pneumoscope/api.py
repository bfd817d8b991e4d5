"""Pneumoscope in a notebook: what each command does, as a function."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pneumoscope.errors import needs_extra

if TYPE_CHECKING:
    from pneumoscope.auditing.result import Audit
    from pneumoscope.evaluation.evaluate import Evaluation
    from pneumoscope.evaluation.recalibration import Recalibration
    from pneumoscope.training.packaging import Run
    from pneumoscope.training.recipe import Recipe

Data = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A data set: a folder with `NORMAL/` and `PNEUMONIA/` in it, a CSV with `path,label`; or several, a site each."""

Model = str | os.PathLike[str] | None
"""A model file; None is the one that comes with Pneumoscope."""


def train(
    data: Data,
    out: str | os.PathLike[str],
    recipe: Recipe | str | os.PathLike[str] | None = None,
    *,
    resume: bool = False,
    **changes: Any,  # noqa: ANN401 - any attribute of a recipe
) -> Run:
    """Train a network on labelled images and write a model file to predict with; `pneumoscope train` does the same.

    Args:
        data: the images; those of a `test` split are never read.
        out: the run's folder, which receives `model.onnx` and everything else that tells of the run.
        recipe: how to train: a `Recipe`, or a TOML file of one; by default `Recipe()`.
        resume: go on after the last finished epoch in `out`.
        **changes: attributes of the recipe that are to differ, such as `epochs=5`.

    Returns:
        The run: `run.model` is the model file, `run.validation` its figures on patients held out.

    Raises:
        MissingExtraError: what trains is not installed: `pip install 'pneumoscope[train]'`.
        DatasetError: the images cannot be trained on.
        TrainingError: the recipe cannot be, or the folder holds another run.

    Example:
        >>> run = train("chest_xray", "runs/first", epochs=5)  # doctest: +SKIP
        >>> print(run.validation.figures["auc"])  # doctest: +SKIP
        0.991 (0.982–0.996)
    """
    from dataclasses import replace

    with needs_extra("Training", "train"):
        from pneumoscope.training import run as training
        from pneumoscope.training.job import Job
        from pneumoscope.training.recipe import Recipe

    if recipe is None or isinstance(recipe, Recipe):
        chosen = Recipe.from_dict(changes) if recipe is None else replace(recipe, **changes)
    else:
        chosen = Recipe.from_toml(os.fspath(recipe), **changes)
    return training.fit(Job(_paths(data), Path(out), chosen, resume=resume))


def evaluate(data: Data, model: Model = None, *, split: str | None = None) -> Evaluation:
    """Measure a model on labelled images; `pneumoscope evaluate` does the same and writes a page of it.

    Args:
        data: the images, not those that the model was trained on.
        model: the model file.
        split: `train`, `val` or `test`, to measure on that part alone; by default `test` where the data set has one.

    Returns:
        The evaluation: `evaluation.performance.figures` by name, each with its interval; `evaluation.findings`, one an
        image; `evaluation.failures`, the images that could not be read or are rejected, which are in no figure.

    Raises:
        DatasetError: there are no such images, or not one could be read.
        NotFoundError: there is no such model file.

    Example:
        >>> print(evaluate("our_clinic").performance.figures["specificity"])
        1.000 (0.439–1.000)
    """
    from pneumoscope.data import layouts
    from pneumoscope.evaluation import evaluate as evaluation
    from pneumoscope.inference.detector import Detector

    return evaluation.evaluate(evaluation.choose(layouts.load(_paths(data)), split), Detector(model))


def audit(data: Data, model: Model = None) -> Audit:
    """Look for what would spoil a training or an evaluation; `pneumoscope audit` does the same.

    Copies, patients in two splits, masks and other images that are no chest radiographs, shortcuts that tell the class
    without the lungs, images that cannot be read.

    Args:
        data: the images.
        model: the model file whose gate finds images that are no chest radiographs.

    Returns:
        What was found: `audit.faults`, the gravest first.

    Raises:
        DatasetError: there are no such images.

    Example:
        >>> [fault.kind for fault in audit("chest_xray").faults]
        ['small_split']
    """
    from pneumoscope.auditing import audit as auditing
    from pneumoscope.data import layouts
    from pneumoscope.inference.detector import Detector

    detector = Detector(model)
    samples = layouts.load(_paths(data), complete=False)
    return auditing.audit(samples, reject=detector.rejection, at_least=detector.card.input_size)


def calibrate(data: Data, out: str | os.PathLike[str], model: Model = None) -> Recalibration:
    """Fit probabilities, threshold and band of a model to one site; `pneumoscope calibrate` does the same.

    Args:
        data: labelled images of the site.
        out: the new model file.
        model: the model file to start from.

    Returns:
        The new model file, and its figures on the site's images before and after.

    Raises:
        DatasetError: too few images, or labels that seem to be swapped.

    Example:
        >>> done = calibrate("our_clinic", "our_clinic.onnx")  # doctest: +SKIP
        >>> print(done.before.figures["ece"], done.after.figures["ece"])  # doctest: +SKIP
        0.100 (0.077–0.127) 0.043 (0.036–0.077)
    """
    from pneumoscope.evaluation import recalibration

    return recalibration.recalibrate(recalibration.load(_paths(data)), out, model)


def _paths(data: Data) -> str | Path | Sequence[str | Path]:
    if isinstance(data, (str, os.PathLike)):
        return Path(data)
    return [Path(one) for one in data]
