"""A recipe's network, built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from pneumoscope.networks import architectures
from pneumoscope.networks.backend import keras
from pneumoscope.training import starting
from pneumoscope.training.recipe import Recipe


def build(recipe: Recipe, init: str, *, quick: bool = False) -> keras.Model:
    """Build it with the weights that `init` says; where that is a model file, the caller restores them.

    Args:
        recipe: what it is like.
        init: as `Recipe.init`, but not `auto`.
        quick: faster, but it cannot be saved.

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
    """Build it in full precision, with these weights, on this host's first device.

    Example:
        >>> again = copy(recipe, network.get_weights())  # doctest: +SKIP
    """
    copied = build(recipe, "none", quick=quick)
    copied.set_weights(weights)
    return copied
