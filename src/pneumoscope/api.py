"""The commands as Python functions, for use in a notebook."""

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
"""A folder with `NORMAL/` and `PNEUMONIA/` in it, or a CSV file with `path,label`; or a list of these, one per site."""

Model = str | os.PathLike[str] | None
"""A model file; None for the one that comes with Pneumoscope."""


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
        out: the folder for `model.onnx` and every other file of the run.
        recipe: how to train: a `Recipe`, or a TOML file that holds one; by default `Recipe()`.
        resume: continue after the last finished epoch in `out`.
        **changes: attributes of the recipe to override, such as `epochs=5`.

    Returns:
        The run: `run.model` is the model file, `run.validation` its figures on held-out patients.

    Raises:
        MissingExtraError: the training libraries are not installed: `pip install 'pneumoscope[train]'`.
        DatasetError: the images cannot be trained on.
        TrainingError: the recipe is invalid, or the folder holds another run.

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
    """Measure a model on labelled images; `pneumoscope evaluate` does the same and writes a report.

    Args:
        data: the images, which the model must not have been trained on.
        model: the model file.
        split: `train`, `val` or `test`, to measure on that split alone; by default `test` if the data set has one.

    Returns:
        The evaluation: `evaluation.performance.figures` by name, each with its interval; `evaluation.findings`, one for
        each image; `evaluation.failures`, the images that could not be read or were rejected, which no figure counts.

    Raises:
        DatasetError: there are no such images, or none of them could be read.
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
    """Look for faults in a data set that would invalidate training or evaluation; `pneumoscope audit` does the same.

    It finds duplicates, patients in two splits, masks and other images that are not chest radiographs, shortcuts that
    predict the class without the lungs, and images that cannot be read.

    Args:
        data: the images.
        model: the model file whose gate finds images that are not chest radiographs.

    Returns:
        The audit: `audit.faults` lists what was found, the most serious first.

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
    """Fit a model's probabilities, threshold and uncertain band to one site; `pneumoscope calibrate` does the same.

    Args:
        data: labelled images of the site.
        out: the model file to write.
        model: the model file to start from.

    Returns:
        The new model file, and its figures on the site's images before and after.

    Raises:
        DatasetError: there are too few images, or the labels seem to be swapped.

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
