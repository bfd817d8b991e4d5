"""Builds the network of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from pneumoscope.inference import runtimes
from pneumoscope.networks import architectures, torch_layers
from pneumoscope.networks.backend import keras
from pneumoscope.training import starting
from pneumoscope.training.recipe import Recipe


def build(recipe: Recipe, init: str, *, quick: bool = False) -> keras.Model:
    """Build a recipe's network with the weights that `init` names; those of a model file are left to the caller.

    Args:
        recipe: the recipe.
        init: as `Recipe.init`, but not `auto`.
        quick: build a faster network that cannot be saved.

    Example:
        >>> network = build(Recipe(), "none")  # doctest: +SKIP
    """
    return architectures.build(
        recipe.architecture,
        recipe.size,
        pooling=recipe.pooling,
        dropout=recipe.dropout,
        init="restored" if starting.is_model_file(init) else init,
        batch_norm=recipe.batch_norm,
        quick=quick,
    )


def copy(recipe: Recipe, weights: Sequence[NDArray[Any]], *, quick: bool = False) -> keras.Model:
    """Build a recipe's network with these weights, in full precision, on this host's first device.

    Example:
        >>> again = copy(recipe, network.get_weights())  # doctest: +SKIP
    """
    copied = build(recipe, "none", quick=quick)
    copied.set_weights(weights)
    return copied


def precision(recipe: Recipe) -> str:
    """Return the Keras dtype policy to train with on this machine.

    Half the bits halve what moves through memory, which is what PyTorch's training on a processor waits for. Processors
    without units for bfloat16 emulate it slowly.

    Example:
        >>> precision(Recipe(precision="float32"))
        'float32'
    """
    if recipe.precision != "auto":
        return recipe.precision
    return "mixed_bfloat16" if torch_layers.on_processor() and runtimes.has_bfloat16() else "float32"
