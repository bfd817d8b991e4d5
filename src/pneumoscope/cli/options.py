"""Options, arguments and an exit status that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from pneumoscope.cli import console

SOME_FAILED = 3
"""The exit status if some files failed and the others have a finding."""


ModelOption = Annotated[
    Path | None,
    typer.Option("--model", "-m", metavar="FILE", help="A model file; by default the bundled one."),
]
PrevalenceOption = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        max=0.999,
        metavar="P",
        help="The share of pneumonias among your images. By Bayes' rule, probabilities are shifted to it from the "
        "share that the model assumes, and threshold and band with them, so no finding changes.",
    ),
]
NormalsOption = Annotated[
    bool,
    typer.Option(
        "--evidence-of-normals",
        help="Draw the evidence maps of images without pneumonia, too. A tint there is easily read as a finding.",
    ),
]
DataArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="DATA",
        help="A folder with NORMAL/ and PNEUMONIA/, with or without train/ val/ test/ above; a CSV file with the "
        "columns path and label, and optionally patient, site, view, age, boxes and split; or a MedMNIST .npz. Each of "
        "several is a site of its own.",
    ),
]
ClassesOption = Annotated[
    str | None,
    typer.Option(
        "--classes",
        metavar="CLASS=NAME,...",
        help="What the data set calls the classes, such as normal=Healthy,pneumonia=Lung_Opacity.",
    ),
]


class OtherClasses(StrEnum):
    """How to treat images of neither class."""

    negative = "negative"
    skip = "skip"


OtherOption = Annotated[
    OtherClasses | None,
    typer.Option("--other", help="Take images of other classes as negatives, or skip them; by default an error."),
]


class LabelsLike(StrEnum):
    """The collections whose own label files can be read."""

    nih = "nih"
    chexpert = "chexpert"


LabelsLikeOption = Annotated[
    LabelsLike | None,
    typer.Option(
        "--labels-like", help="DATA holds this collection's own label files: NIH ChestX-ray14's or CheXpert's."
    ),
]


def labelled(classes: str | None, other: OtherClasses | None, labels_like: LabelsLike | None) -> dict[str, Any]:
    """Return the options of `layouts.load` for these command-line options; messages become notes."""
    return {
        "classes": _classes(classes),
        "other": other and other.value,
        "like": labels_like and labels_like.value,
        "tell": console.note,
    }


def _classes(text: str | None) -> dict[str, str]:
    """Parse `normal=Healthy,pneumonia=Lung_Opacity` into the class of each name.

    Example:
        >>> _classes("normal=Healthy,pneumonia=Lung_Opacity")
        {'Healthy': 'normal', 'Lung_Opacity': 'pneumonia'}
    """
    pairs = [part.partition("=") for part in (text or "").split(",") if part.strip()]
    if wrong := next((name for name, _, word in pairs if not word.strip()), None):
        raise typer.BadParameter(
            f"Expected CLASS=NAME, such as normal=Healthy,pneumonia=Lung_Opacity, got '{wrong}'.",
            param_hint="--classes",
        )
    return {word.strip(): name.strip() for name, _, word in pairs}
