"""Checkpoints, from which an interrupted run is resumed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pneumoscope.atomic import replacing
from pneumoscope.networks.backend import keras
from pneumoscope.training import distributed, history


class Checkpoint:
    """The state of a run, saved after every epoch: the history, all weights, the optimizer, the best weights.

    Args:
        out: the run's folder; a `checkpoint.npz` in it is loaded.
        network: the network whose weights are saved.
        told: called with each row of the history, including the loaded ones.

    Attributes:
        history: one row per epoch.
    """

    def __init__(
        self, out: Path, network: keras.Model, told: Callable[[Mapping[str, Any]], object] = lambda _: None
    ) -> None:
        self.out = out
        self.network = network
        self.told = told
        self.path = out / "checkpoint.npz"
        self.history: list[dict[str, Any]] = []
        self.best: list[NDArray[Any]] = []
        self._state: dict[str, NDArray[Any]] = {}
        if self.path.exists():
            with np.load(self.path, allow_pickle=False) as saved:
                self._state = dict(saved)
            self.history = json.loads(str(self._state["history"]))
            self.best = _unpacked(self._state, "best")
            if distributed.share().host == 0:
                history.write(self.history, out)  # a killed run may not have written them
            for row in self.history:
                told(row)

    def rows(self, phase: str) -> list[dict[str, Any]]:
        """Return the history of one phase."""
        return [row for row in self.history if row["phase"] == phase]

    def restore(self, phase: str, optimizer: keras.Optimizer) -> None:
        """Restore weights and optimizer to their state after the last epoch, if that was in this phase."""
        if self.history and self.history[-1]["phase"] == phase:
            assign(self.network.variables, _unpacked(self._state, "network"))
            assign(optimizer.variables, _unpacked(self._state, "optimizer"))

    def save(self, optimizer: keras.Optimizer) -> None:
        """Save the state in one step, and write the history and curves; only the first of several hosts does."""
        if distributed.share().host:
            return
        state = {"history": np.array(json.dumps(self.history))}
        for name, given in (
            ("network", values(self.network.variables)),
            ("optimizer", values(optimizer.variables)),
            ("best", self.best),
        ):
            state |= {f"{name}/{i:05d}": value for i, value in enumerate(given)}
        with replacing(self.path) as draft:
            np.savez(draft, **state)  # type: ignore[arg-type]
        history.write(self.history, self.out)
        self.told(self.history[-1])


def _unpacked(state: Mapping[str, NDArray[Any]], name: str) -> list[NDArray[Any]]:
    return [state[key] for key in sorted(state) if key.startswith(f"{name}/")]


def values(variables: Sequence[Any]) -> list[NDArray[Any]]:
    """Copy the values of a network's or an optimizer's variables.

    Example:
        >>> best = values(network.variables)  # doctest: +SKIP
    """
    return [keras.ops.convert_to_numpy(variable).copy() for variable in variables]


def assign(variables: Sequence[Any], values: Sequence[NDArray[Any]]) -> None:
    """Assign values to variables.

    Example:
        >>> assign(network.variables, best)  # doctest: +SKIP
    """
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
