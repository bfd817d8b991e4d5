"""Builds the network of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from pneumoscope.networks import architectures
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
