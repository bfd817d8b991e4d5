"""Starting a training from a model file."""

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
"""The value of `init` for the model file that comes with Pneumoscope."""

WORDS = ("auto", "imagenet", "none", BUNDLED)
SUFFIXES = (".onnx", ".keras", ".weights.h5")
"""What `init` may be: one of these words, or a file with one of these suffixes."""

FORM = {"architecture", "size", "pooling"}
"""The values that a recipe takes from a model file."""

STATISTICS_IMAGES = 256
"""The most training images on which the statistics of batch normalisation are measured."""


def is_model_file(init: str) -> bool:
    """Return whether a recipe's `init` names a model file.

    Example:
        >>> [is_model_file(init) for init in ("default", "first.onnx", "imagenet")]
        [True, True, False]
    """
    return init == BUNDLED or init.endswith(".onnx")


def check_name(init: str) -> None:
    """Check that a recipe's `init` is a known word or has a known suffix, without checking that the file exists.

    Raises:
        TrainingError: it does not.

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
        ModelFileError: it is not a model that Pneumoscope wrote.
        TrainingError: networks of its architecture cannot be restored from a model file.

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
    """Add to the values of a recipe those of the model file that it starts from.

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
    """Check that the file to start from exists, and that a recipe's values agree with it if it is a model file.

    Raises:
        NotFoundError: there is no such file.
        ModelFileError: it is not a model that Pneumoscope wrote.
        TrainingError: the values disagree.

    Example:
        >>> check("imagenet", {"size": 192})
    """
    if is_model_file(init):
        _check(init, _form(card_of(init)), values)
    elif init.endswith(SUFFIXES) and not Path(init).is_file():
        raise NotFoundError(f"Expected a file to start from at '{init}', which does not exist.")


def restore(network: keras.Model, init: str, pixels: Rows) -> None:
    """Load the weights of the model file that `init` names into a network.

    Args:
        network: a network with the file's architecture, size and pooling.
        init: `default` or the path of an `.onnx` file.
        pixels: (N, S, S) in [0, 1], the training images; some of them are used.

    Raises:
        TrainingError: the outputs of the network and the file differ.

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
                "out, or start from something else."
            )


def _path(init: str) -> Path:
    return model_file.default() if init == BUNDLED else Path(init)
