"""A trained network as an ONNX graph. `python -m pneumoscope.graph NETWORK USUAL GRAPH` does it in its own process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from pneumoscope.architectures import with_evidence
from pneumoscope.errors import ModelFileError


def write(network: keras.Model, usual: NDArray[np.floating[Any]] | None, path: Path) -> None:
    """Write what `architectures.with_evidence` makes of a network as an ONNX graph.

    Keras writes graphs that OpenVINO reads under TensorFlow alone; under another backend a process with that does it.

    Args:
        network: what `architectures.build` gave, trained.
        usual: the evidence (h, w) of a usual film.
        path: where to; files of the same stem beside it are overwritten.

    Raises:
        ModelFileError: the other process failed.

    Example:
        >>> write(network, None, Path("graph.onnx"))  # doctest: +SKIP
    """
    if keras.backend.backend() == "tensorflow":
        with_evidence(network, usual).export(path, format="onnx", verbose=False)
        return
    saved, places = path.with_suffix(".keras"), path.with_suffix(".npy")
    network.save(saved)
    np.save(places, np.empty(0) if usual is None else usual)
    command = [sys.executable, "-m", "pneumoscope.graph", *map(str, (saved, places, path))]
    there = os.environ | {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": ""}  # JAX has all GPU memory
    done = subprocess.run(command, env=there, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    if done.returncode:
        raise ModelFileError(
            "Expected TensorFlow to write the trained network as an ONNX graph, got: "
            f"{(done.stderr.strip().splitlines() or ['nothing'])[-1]} "
            "Check that pip install '.[train]' was run, and add --resume: the training itself is kept."
        )


def _main(saved: str, places: str, path: str) -> None:
    usual = np.load(places, allow_pickle=False)
    write(keras.saving.load_model(saved), usual if usual.size else None, Path(path))


if __name__ == "__main__":
    _main(*sys.argv[1:])
