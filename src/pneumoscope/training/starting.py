"""What a training starts from, where that is a model file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pneumoscope.data.disk_array import Rows
from pneumoscope.errors import NotFoundError, TrainingError
from pneumoscope.inference import model_file
from pneumoscope.inference.model_file import Card
from pneumoscope.networks import restoring
from pneumoscope.networks.backend import keras

BUNDLED = "default"
"""How `init` names the model file that comes with Pneumoscope."""

WORDS = ("auto", "imagenet", "none", BUNDLED)
SUFFIXES = (".onnx", ".keras", ".weights.h5")
"""What `init` may be: one of these words, or a file whose name ends so."""

FORM = {"architecture", "size", "pooling"}
"""What a recipe takes over from a model file."""

STATISTICS_IMAGES = 256
"""Training images, at most, on which the statistics of batch normalisation are measured."""


def is_model_file(init: str) -> bool:
    """Say whether a recipe's `init` names a model file.

    Example:
        >>> [is_model_file(init) for init in ("default", "first.onnx", "imagenet")]
        [True, True, False]
    """
    return init == BUNDLED or init.endswith(".onnx")


def check_name(init: str) -> None:
    """Check that a recipe's `init` is one that there can be; whether there is such a file is not looked at.

    Raises:
        TrainingError: it is not.

    Example:
        >>> check_name("imagnet")
        Traceback (most recent call last):
        pneumoscope.errors.TrainingError: Expected init auto, imagenet, none, default or a file in .onnx, ...
    """
    if init not in WORDS and not init.endswith(SUFFIXES):
        raise TrainingError(
            f"Expected init {', '.join(WORDS)} or a file in {', '.join(SUFFIXES)} to start from, got '{init}'."
        )


def card_of(init: str) -> Card:
    """Read the card of the model file that `init` names.

    Raises:
        NotFoundError: there is no such file.
        ModelFileError: it is no model that Pneumoscope wrote.
        TrainingError: training cannot go on from networks of its architecture.

    Example:
        >>> card_of("default").labels
        ('NORMAL', 'PNEUMONIA')
    """
    _, card = model_file.read(_path(init))
    if card.architecture not in restoring.RESTORABLE:
        raise TrainingError(
            f"Expected a model file of one of {', '.join(restoring.RESTORABLE)} to start from, got "
            f"{card.architecture} in '{init}': give the model.keras of its run instead."
        )
    return card


def completed(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add to the values of a recipe what follows from the model file that it starts from.

    Example:
        >>> completed({"init": "default"})["size"] == card_of("default").input_size
        True
    """
    init = str(values.get("init", ""))
    if not is_model_file(init) or values.keys() >= FORM:
        return values
    form = _form(card_of(init))
    _check(init, form, values)
    return form | dict(values)


def check(init: str, values: Mapping[str, Any]) -> None:
    """Check that the file to start from is there, and that a recipe's values are those of it if it is a model file.

    Raises:
        NotFoundError: there is no such file.
        ModelFileError: it is no model that Pneumoscope wrote.
        TrainingError: the values are others.

    Example:
        >>> check("imagenet", {"size": 192})
    """
    if is_model_file(init):
        _check(init, _form(card_of(init)), values)
    elif init.endswith(SUFFIXES) and not Path(init).is_file():
        raise NotFoundError(f"Expected a file to start from at '{init}', which does not exist.")


def restore(network: keras.Model, init: str, pixels: Rows) -> None:
    """Give a network the weights of the model file that `init` names.

    Args:
        network: of the file's architecture, size and pooling.
        init: `default` or the path of an `.onnx` file.
        pixels: (N, S, S) in [0, 1], the training images; some of them are used.

    Raises:
        TrainingError: the network does not give what the file gives.

    Example:
        >>> restore(network, "default", images.training.pixels)  # doctest: +SKIP
    """
    chosen = np.unique(np.linspace(0, len(pixels) - 1, STATISTICS_IMAGES).round().astype(np.int64))
    restoring.restore(network, _path(init), np.asarray(pixels[chosen], dtype=np.float32))


def _form(card: Card) -> dict[str, Any]:
    return {
        "architecture": card.architecture,
        "size": card.input_size,
        "pooling": card.recipe.get("pooling", "max"),
    }


def _check(init: str, form: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    for name, found in form.items():
        if values.get(name, found) != found:
            raise TrainingError(
                f"Expected {name} {found}, as in the model file '{init}' to start from, got {values[name]}: leave it "
                "out, or start from elsewhere."
            )


def _path(init: str) -> Path:
    return model_file.default() if init == BUNDLED else Path(init)
