"""Trackers keep the recipe, the curves, the figures and the model; never a patient, and nothing unless asked to."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("keras", reason="training is not installed")

from pneumoscope.errors import MissingExtraError, TrainingError, UnsupportedError
from pneumoscope.training import tracking
from pneumoscope.training.job import Job
from pneumoscope.training.run import fit
from tests.training.test_run import QUICK

RECIPE = replace(QUICK, epochs=2)


def history(out: Path) -> list[dict[str, Any]]:
    with (out / "history.csv").open() as file:
        return [{key: v if key == "phase" else float(v) for key, v in row.items()} for row in csv.DictReader(file)]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    pytest.importorskip("mlflow", reason="tracking is not installed")
    monkeypatch.chdir(tmp_path)  # where MLflow puts the files of a database's runs
    return f"sqlite:///{tmp_path}/runs.db"


def runs_in(store: str) -> list[Any]:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    return [] if experiment is None else list(client.search_runs([experiment.experiment_id]))


def test_mlflow_has_the_recipe_the_curves_the_figures_and_the_model(
    store: str, draw_folder: Callable[..., Path], tmp_path: Path
) -> None:
    import mlflow

    out = tmp_path / "run"
    with tracking.tracked("mlflow", store, out) as tracker:
        run = fit(Job(draw_folder(30, 30), out, RECIPE), tracker)
    assert tracker.lost is None
    [found] = runs_in(store)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "run")
    assert found.data.params["architecture"] == "cnn"
    assert found.data.params["augmentation.noise"] == "0.02"
    client = mlflow.MlflowClient(tracking_uri=store)
    curve = client.get_metric_history(found.info.run_id, "val_loss")
    assert [(m.step, m.value) for m in curve] == [(i + 1, row["val_loss"]) for i, row in enumerate(history(out))]
    auc = run.validation.figures["auc"]
    kept = [found.data.metrics[f"held_out/auc.{part}"] for part in ("value", "low", "high")]
    assert kept == pytest.approx([auc.value, auc.low, auc.high], abs=1e-6)
    assert {file.path for file in client.list_artifacts(found.info.run_id)} == set(tracking.ARTIFACTS)
    copy = Path(client.download_artifacts(found.info.run_id, "model.onnx", str(tmp_path)))
    assert copy.read_bytes() == run.model.read_bytes()


def test_mlflow_knows_of_a_training_that_failed(store: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), tracking.tracked("mlflow", store, tmp_path / "run"):
        raise RuntimeError
    assert [run.info.status for run in runs_in(store)] == ["FAILED"]


def test_a_training_outlives_its_tracker(store: str, tmp_path: Path) -> None:
    with tracking.tracked("mlflow", store, tmp_path / "run") as tracker:
        tracker.epoch({"loss": 0.5})
        tracker.epoch({"a name that MLflow does not take: *": 1.0})
        tracker.epoch({"loss": 0.4})
    assert tracker.lost
    assert [run.data.metrics["loss"] for run in runs_in(store)] == [0.5]


@pytest.mark.parametrize("uri", ["nonsense://somewhere", "http://127.0.0.1:9"])
def test_a_place_that_keeps_no_runs_is_rejected_before_any_work(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="tracking is not installed")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrainingError, match=f"{uri}[\\s\\S]*name another"), tracking.tracked("mlflow", uri, tmp_path):
        pytest.fail("the training began")


def test_no_password_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="tracking is not installed")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrainingError) as caught, tracking.tracked("mlflow", "http://me:s3cret@127.0.0.1:9", tmp_path):
        pytest.fail("the training began")
    assert "s3cret" not in str(caught.value)


def test_tensorboard_has_the_recipe_the_curves_the_figures_and_the_name_of_the_model(
    tiny_model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard", reason="tracking is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    out = tiny_model.parent
    rows, figures = history(out), json.loads((out / "validation.json").read_text())
    with tracking.tracked("tensorboard", str(tmp_path / "events"), out) as tracker:
        tracker.began(asdict(RECIPE), "f1ee")
        for row in rows:
            tracker.epoch(row)
        tracker.finished(tiny_model, figures)
    found = EventAccumulator(str(tmp_path / "events")).Reload()
    tags = set(found.Tags()["tensors"])
    assert {"epoch/loss", "epoch/val_auc", "held_out/auc.value", "held_out/auc.low", "curves", "model"} <= tags
    curve = found.Tensors("epoch/val_loss")
    assert [event.step for event in curve] == list(range(1, len(rows) + 1))
    assert [float(make_ndarray(event.tensor_proto)) for event in curve] == pytest.approx([r["val_loss"] for r in rows])
    assert b"sha256" in found.Tensors("model")[0].tensor_proto.string_val[0]
    assert any("hparams" in tag for tag in found.summary_metadata)


def test_event_files_are_not_put_where_a_file_is(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tracking is not installed")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UnsupportedError), tracking.tracked("tensorboard", str(tmp_path / "file"), tmp_path):
        pytest.fail("the training began")


@pytest.mark.parametrize(("kind", "module"), [("mlflow", "mlflow"), ("tensorboard", "tensorboard.plugins.hparams")])
def test_a_missing_library_is_named_before_any_work(
    kind: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"\[train,track\]"), tracking.tracked(kind, None, tmp_path):
        pytest.fail("the training began")


def test_nothing_is_kept_by_default(tmp_path: Path) -> None:
    with tracking.tracked(None, None, tmp_path) as tracker:
        tracker.epoch({"loss": 0.5})
    assert list(tmp_path.iterdir()) == []


def test_what_names_patients_is_not_kept() -> None:
    assert not {"split.csv", "recipe.json", "checkpoint.npz"} & set(tracking.ARTIFACTS)
