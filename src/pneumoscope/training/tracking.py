"""Reports training runs to MLflow or TensorBoard: recipe, curves, figures and model, but nothing about patients."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pneumoscope.atomic import check_folder
from pneumoscope.errors import TrainingError, needs_extra

EXPERIMENT = "pneumoscope"
"""The MLflow experiment, unless `MLFLOW_EXPERIMENT_NAME` names another."""

ARTIFACTS = ("model.onnx", "model.keras", "curves.png", "history.csv", "validation.json")
"""The files of a run that a tracker may upload. `split.csv` is not among them because it names patients."""


class Tracker:
    """The interface of trackers; this one ignores everything.

    Attributes:
        lost: the error after which tracking was given up, or None. Training continues without its tracker.
    """

    lost: str | None = None

    def began(self, recipe: Mapping[str, Any], fingerprint: str) -> None:
        """Record the recipe and the fingerprint of the images."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Record a row of the history."""

    def finished(self, model: Path, figures: Mapping[str, Any]) -> None:
        """Record the model file, the other files of the run, and the figures of held-out patients with intervals."""

    def close(self, status: str) -> None:
        """End the run with the status `FINISHED` or `FAILED`."""


class MLflow(Tracker):
    """A run on an MLflow server, or in a database.

    Args:
        uri: the server or database; None for `MLFLOW_TRACKING_URI` or MLflow's own default.
        name: the name of the run.

    Raises:
        MissingExtraError: MLflow is not installed.
        TrainingError: there is no such server or database, or it denies access.
    """

    def __init__(self, uri: str | None, name: str) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # the default of 7 takes minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        with needs_extra("Tracking by MLflow", "train,track"):
            import mlflow
            from mlflow.exceptions import MlflowException
        self._error: type[Exception] = MlflowException
        self._entities, self._step = mlflow.entities, 0
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        try:
            self._client = mlflow.MlflowClient(tracking_uri=uri)
            found = self._client.get_experiment_by_name(experiment)
            place = found.experiment_id if found else self._client.create_experiment(experiment)
            self._run = self._client.create_run(place, run_name=name).info.run_id
        except Exception as error:  # of MLflow, of its HTTP client, or of the database's driver
            asked = _without_password(uri or mlflow.get_tracking_uri())
            raise TrainingError(
                f"Expected an MLflow server or database at '{asked}', which does not respond or denies access: name "
                "another, such as http://host:5000 or sqlite:///runs.db, and set the credentials as MLflow expects "
                f"them. It said: {_first_line(error)}"
            ) from error

    def began(self, recipe: Mapping[str, Any], fingerprint: str) -> None:
        """Log the recipe as parameters."""
        parameters = [self._entities.Param(key, str(value)) for key, value in _flat(recipe).items()]
        tags = [self._entities.RunTag("images", fingerprint)]
        self._send(lambda: self._client.log_batch(self._run, params=parameters, tags=tags))

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Log a step of every curve."""
        self._step += 1
        self._log(_numbers(row))

    def finished(self, model: Path, figures: Mapping[str, Any]) -> None:
        """Log the figures, and upload the model and the image of its curves."""
        self._log({f"held_out/{key}": value for key, value in _numbers(_flat(figures)).items()})
        for path in filter(Path.exists, map(model.with_name, ARTIFACTS)):
            self._send(partial(self._client.log_artifact, self._run, str(path)))

    def close(self, status: str) -> None:
        """End the run."""
        self._send(lambda: self._client.set_terminated(self._run, status))

    def _log(self, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        metrics = [self._entities.Metric(key, value, now, self._step) for key, value in values.items()]
        self._send(lambda: self._client.log_batch(self._run, metrics=metrics))

    def _send(self, call: Callable[[], object]) -> None:
        if self.lost is None:
            try:
                call()
            except self._error as error:
                self.lost = _first_line(error)


class TensorBoard(Tracker):
    """Event files for TensorBoard, which hold only the name and hash of the model.

    Args:
        folder: the folder for the event files.

    Raises:
        MissingExtraError: TensorBoard is not installed.
        UnsupportedError: the folder cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        with needs_extra("Tracking by TensorBoard", "train,track"):
            import tensorflow
            from tensorboard.plugins.hparams import api
        check_folder(folder)
        self._summary, self._parameters, self._step = tensorflow.summary, api.hparams, 0
        self._decode = tensorflow.io.decode_png
        self._writer = self._summary.create_file_writer(str(folder))

    def began(self, recipe: Mapping[str, Any], fingerprint: str) -> None:
        """Write the recipe as hyperparameters."""
        with self._writer.as_default(step=0):
            self._parameters(_flat(recipe))
            self._summary.text("images", fingerprint)

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Write a step of every curve."""
        self._step += 1
        self._scalars("epoch", _numbers(row))

    def finished(self, model: Path, figures: Mapping[str, Any]) -> None:
        """Write the figures, the plot of the curves, and the name and hash of the model file."""
        self._scalars("held_out", _numbers(_flat(figures)))
        curves = model.with_name("curves.png")
        with self._writer.as_default(step=self._step):
            if self._step:  # without epochs there are no curves
                self._summary.image("curves", self._decode(curves.read_bytes(), channels=3)[None])
            self._summary.text("model", f"{model.name}, sha256 {hashlib.sha256(model.read_bytes()).hexdigest()}")

    def close(self, status: str) -> None:
        """Flush and close the event file."""
        self._writer.close()

    def _scalars(self, what: str, values: Mapping[str, float]) -> None:
        with self._writer.as_default(step=self._step):
            for key, value in values.items():
                self._summary.scalar(f"{what}/{key}", value)
        self._writer.flush()


@contextmanager
def tracked(kind: str | None, place: str | None, out: Path) -> Iterator[Tracker]:
    """Provide a tracker that is open until the block ends.

    Args:
        kind: `mlflow`, `tensorboard`, or None for a tracker that ignores everything.
        place: the URI for MLflow, by default MLflow's own; the folder for TensorBoard, by default one in `out`.
        out: the run's folder, whose name becomes the name of the run.

    Raises:
        MissingExtraError: the library is not installed.
        TrainingError: MLflow cannot be reached.
        UnsupportedError: TensorBoard's folder cannot be written to.

    Example:
        >>> with tracked("mlflow", "http://mlflow:5000", Path("runs/first")) as tracker:  # doctest: +SKIP
        ...     run.fit(Job("chest_xray", Path("runs/first")), tracker)
    """
    tracker = Tracker()
    if kind == "mlflow":
        tracker = MLflow(place, out.absolute().name)
    elif kind == "tensorboard":
        tracker = TensorBoard(Path(place) if place else out / "tensorboard")
    status = "FAILED"
    try:
        yield tracker
        status = "FINISHED"
    finally:
        tracker.close(status)


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Flatten nested tables to keys such as `outer.inner`."""
    named = {f"{above}{key}": value for key, value in values.items()}
    return {
        inner: leaf
        for key, value in named.items()
        for inner, leaf in (_flat(value, f"{key}.") if isinstance(value, Mapping) else {key: value}).items()
    }


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in values.items() if isinstance(value, (int, float))}


def _first_line(error: Exception) -> str:
    return _without_password((str(error).strip().splitlines() or [type(error).__name__])[0][:300])


def _without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)
