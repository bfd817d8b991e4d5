"""Training: balanced, repeatable, resumable, and honest about whom it held out."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("keras", reason="training is not installed")

from pneumoscope import Detector
from pneumoscope.data import disk_array, layouts, splits
from pneumoscope.data.layouts import Sample
from pneumoscope.data.samples import Box
from pneumoscope.data.splits import Decoded
from pneumoscope.errors import DatasetError, NotFoundError, TrainingError
from pneumoscope.inference import model_file
from pneumoscope.training import batches, loop, recipe, schedule, tracking
from pneumoscope.training import data as preparation
from pneumoscope.training.augmentation import NONE, Augmentation
from pneumoscope.training.job import Job
from pneumoscope.training.recipe import Recipe
from pneumoscope.training.run import fit, soup
from tests.conftest import ROOT, SIZE, drawn_image

QUICK = Recipe(
    architecture="cnn",
    init="none",
    size=SIZE,
    epochs=4,
    batch_size=16,
    augmentation=Augmentation(**{**vars(NONE), "noise": 0.02, "brightness": 0.05}),
)


class Killed(Exception):
    """Stands for a kill in the middle of an epoch."""


def history(out: Path) -> list[dict[str, str]]:
    with (out / "history.csv").open() as file:
        return list(csv.DictReader(file))


def kill_in(epoch: str) -> Callable[[str, int, int, Mapping[str, float]], None]:
    def progress(what: str, done: int, total: int, figures: Mapping[str, float]) -> None:
        if what.startswith(epoch) and done > total // 2:
            raise Killed

    return progress


def decoded_images(labels: list[int], patients: list[str], named: Sequence[str | None] | None = None) -> Decoded:
    images = [
        Sample(Path(f"{i}.png"), label, patient, split, pixels=drawn_image(label, i))
        for i, (label, patient, split) in enumerate(zip(labels, patients, named or [None] * len(labels), strict=True))
    ]
    return splits.decode(images, SIZE)


@pytest.fixture
def images(draw_folder: Callable[..., Path]) -> Path:
    return draw_folder(30, 60)


@pytest.fixture(scope="module")
def base_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of MobileNetV2 without its top, as `--init FILE` takes them; random ones, as here only the way counts."""
    from pneumoscope.networks import architectures

    features = architectures.build("mobilenet_v2", SIZE).get_layer("features")
    path = tmp_path_factory.mktemp("weights") / "base.weights.h5"
    next(layer for layer in features.layers if "mobilenet" in layer.name).save_weights(path)
    return path


def test_a_run_leaves_everything_one_needs(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = fit(Job(images, out, QUICK))
    assert {path.name for path in out.iterdir()} == {
        "checkpoint.npz", "curves.png", "history.csv", "model.keras", "model.onnx", "recipe.json", "split.csv",
        "validation.json",
    }  # fmt: skip
    assert run.validation.n == 18
    assert len(history(out)) == 4
    split = layouts.load(out / "split.csv")
    assert len(split) == 90
    assert not {f.patient for f in split if f.split == "train"} & {f.patient for f in split if f.split == "val"}


def test_equal_seeds_give_equal_models_and_others_do_not(images: Path, tmp_path: Path) -> None:
    first, second, other = (
        fit(Job(images, tmp_path / name, replace(QUICK, epochs=2, seed=seed)))
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert history(tmp_path / "a") == history(tmp_path / "b")
    assert history(tmp_path / "a") != history(tmp_path / "c")
    sample = [drawn_image(i % 2, 900 + i) for i in range(8)]
    probabilities = [Detector(run.model).predict_proba(sample) for run in (first, second, other)]
    assert np.array_equal(probabilities[0], probabilities[1])
    assert not np.array_equal(probabilities[0], probabilities[2])


@pytest.mark.parametrize("epoch", ["network 1/4", "network 3/4"])
def test_a_killed_run_resumes_to_the_same_result_as_an_unbroken_one(epoch: str, images: Path, tmp_path: Path) -> None:
    whole = fit(Job(images, tmp_path / "whole", QUICK))
    with pytest.raises(Killed):
        fit(Job(images, tmp_path / "broken", QUICK, progress=kill_in(epoch)))
    resumed = fit(Job(images, tmp_path / "broken", QUICK, resume=True))
    assert history(tmp_path / "whole") == history(tmp_path / "broken")
    sample = [drawn_image(i % 2, 900 + i) for i in range(8)]
    assert np.array_equal(Detector(whole.model).predict_proba(sample), Detector(resumed.model).predict_proba(sample))


def test_images_in_a_file_train_the_same_model(images: Path, base_weights: Path, tmp_path: Path) -> None:
    import keras

    recipe = replace(QUICK, architecture="mobilenet_v2_short", init=str(base_weights), head_epochs=1, epochs=0)
    (tmp_path / "cache").mkdir()
    fit(Job(images, tmp_path / "memory", recipe))
    fit(Job(images, tmp_path / "file", recipe, cache=tmp_path / "cache"))
    assert history(tmp_path / "memory") == history(tmp_path / "file")
    one, other = (keras.saving.load_model(tmp_path / out / "model.keras").get_weights() for out in ("memory", "file"))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert list((tmp_path / "cache").iterdir()) == []


def test_images_too_many_for_memory_are_kept_in_the_runs_folder(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path | None] = []
    decode = splits.decode

    def watched(samples: Sequence[Sample], size: int, progress: Callable[[], object], folder: Path | None) -> Decoded:
        asked.append(folder)
        return decode(samples, size, progress, folder)

    monkeypatch.setattr(splits, "decode", watched)
    fit(Job(images, tmp_path / "memory", replace(QUICK, epochs=1)))
    monkeypatch.setattr(disk_array, "SHARE", 1e-9)
    fit(Job(images, tmp_path / "run", replace(QUICK, epochs=1)))
    assert asked == [None, tmp_path / "run"]
    assert history(tmp_path / "memory") == history(tmp_path / "run")


def test_resuming_a_finished_run_gives_it_again(images: Path, tmp_path: Path) -> None:
    first = fit(Job(images, tmp_path / "run", QUICK))
    again = fit(Job(images, tmp_path / "run", QUICK, resume=True))
    assert again.validation == first.validation


def test_a_folder_with_a_run_in_it_is_not_overwritten(images: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        fit(Job(images, tmp_path / "run", QUICK, progress=kill_in("network 2/4")))
    with pytest.raises(TrainingError, match="resume it"):
        fit(Job(images, tmp_path / "run", QUICK))


def test_a_run_is_not_resumed_with_another_recipe_or_other_images(
    images: Path, tmp_path: Path, draw_folder: Callable[..., Path]
) -> None:
    with pytest.raises(Killed):
        fit(Job(images, tmp_path / "run", QUICK, progress=kill_in("network 2/4")))
    with pytest.raises(TrainingError, match="label_smoothing"):
        fit(Job(images, tmp_path / "run", replace(QUICK, label_smoothing=0.1), resume=True))
    with pytest.raises(TrainingError, match="images"):
        fit(Job(draw_folder(30, 50, name="others", seed=5), tmp_path / "run", QUICK, resume=True))


@pytest.mark.parametrize("imbalance", recipe.IMBALANCES)
def test_every_way_of_balancing_trains(imbalance: str, images: Path, tmp_path: Path) -> None:
    run = fit(Job(images, tmp_path / "run", replace(QUICK, epochs=1, imbalance=imbalance)))
    assert 0.0 <= run.validation.figures["auc"].value <= 1.0


def test_class_weights_give_both_classes_the_same_sum() -> None:
    y = np.array([0] * 10 + [1] * 30)
    weights = batches.class_weights(y)
    assert weights[0] * 10 == pytest.approx(weights[1] * 30)
    assert weights[y].mean() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("imbalance", "expected"), [("class_weight", (10, 30)), ("oversample", (30, 30)), ("undersample", (10, 10))]
)
def test_an_epoch_holds_the_classes_as_the_recipe_says(imbalance: str, expected: tuple[int, int]) -> None:
    y = np.array([0] * 10 + [1] * 30)
    order = batches.epoch_order(y, imbalance, np.random.default_rng(0))
    assert tuple(np.bincount(y[order])) == expected
    if imbalance != "undersample":
        assert set(order) == set(range(40))


def test_the_learning_rate_falls_when_nothing_improves_and_training_stops() -> None:
    recipe = Recipe(learning_rate=1.0, reduce_after=2, reduce_by=0.5, stop_after=4, schedule="plateau")
    rows = [{"val_loss": loss} for loss in (0.5, 0.4, 0.41, 0.42)]
    assert schedule.learning_rate(rows[:3], recipe) == 1.0
    assert schedule.learning_rate(rows, recipe) == 0.5
    assert not schedule.should_stop(rows, recipe)
    assert schedule.should_stop(rows + [{"val_loss": 0.4}] * 2, recipe)


def test_the_best_epoch_is_kept_not_the_last(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = fit(
        Job(images, out, replace(QUICK, epochs=6, learning_rate=0.02, average=0.0, reduce_after=9, schedule="plateau"))
    )
    rows = history(out)
    best = min(rows, key=lambda row: float(row["val_loss"]))
    assert run.validation.figures["auc"].value == pytest.approx(float(best["val_auc"]), abs=1e-6)


def test_a_sufficient_validation_split_of_the_data_set_is_used() -> None:
    n = preparation.MIN_VALIDATION
    labels = [0, 1] * n + [0, 1] * n
    decoded = decoded_images(labels, [f"p{i}" for i in range(4 * n)], ["train"] * 2 * n + ["val"] * 2 * n)
    kept, held_out, notes = preparation.partition(decoded, QUICK)
    assert {sample.split for sample in kept.samples} == {"train"}
    assert {sample.split for sample in held_out.samples} == {"val"}
    assert notes == []


def test_a_validation_split_of_sixteen_images_is_not_trusted() -> None:
    decoded = decoded_images([0, 1] * 58, [f"p{i}" for i in range(116)], ["train"] * 100 + ["val"] * 16)
    _, held_out, notes = preparation.partition(decoded, QUICK)
    assert len(held_out.samples) > 16
    assert "8 + 8" in notes[0]


def test_a_validation_split_that_shares_patients_is_not_trusted() -> None:
    n = preparation.MIN_VALIDATION
    patients = [f"p{i}" for i in range(2 * n)] * 2
    decoded = decoded_images([0, 1] * 2 * n, patients, ["train"] * 2 * n + ["val"] * 2 * n)
    kept, held_out, notes = preparation.partition(decoded, QUICK)
    assert not {sample.patient for sample in kept.samples} & {sample.patient for sample in held_out.samples}
    assert f"{2 * n} patients" in notes[0]


def test_test_images_are_never_read(tmp_path: Path, draw_folder: Callable[..., Path]) -> None:
    root = tmp_path / "kaggle"
    draw_folder(30, 30, name="kaggle/train")
    draw_folder(5, 5, name="kaggle/test", seed=9)
    for image in (root / "test").rglob("*.png"):
        image.write_bytes(b"reading this would fail")
    run = fit(Job(root, tmp_path / "run", replace(QUICK, epochs=1)))
    assert model_file.read(run.model)[1].data["training"]["images"] == 48


def test_unreadable_images_are_named_before_training_starts(images: Path, tmp_path: Path) -> None:
    (images / "NORMAL" / "normal003.png").write_bytes(b"broken")
    with pytest.raises(DatasetError, match=r"1 of 90[\s\S]*normal003\.png"):
        fit(Job(images, tmp_path / "run", QUICK))
    assert not (tmp_path / "run").exists()
    run = fit(Job(images, tmp_path / "run", replace(QUICK, epochs=1), skip_unreadable=True))
    assert run.model.exists()


def test_a_pretrained_network_trains_its_head_first_on_features_computed_once(
    images: Path, base_weights: Path, tmp_path: Path
) -> None:
    steps: list[tuple[str, int]] = []
    recipe = replace(QUICK, architecture="mobilenet_v2", init=str(base_weights), head_epochs=2, epochs=1)
    fit(Job(images, tmp_path / "run", recipe, progress=lambda what, done, *_: steps.append((what, done))))
    assert [row["phase"] for row in history(tmp_path / "run")] == ["head", "head", "network"]
    assert [done for what, done in steps if what == "computing features"] == [64, 72, 18]


def test_a_run_killed_between_and_within_its_phases_resumes_to_the_same_result(
    images: Path, base_weights: Path, tmp_path: Path
) -> None:
    recipe = replace(QUICK, architecture="mobilenet_v2_short", init=str(base_weights), head_epochs=2, epochs=2)
    fit(Job(images, tmp_path / "whole", recipe))
    for epoch in ("head 2/2", "network 1/2", "network 2/2"):
        with pytest.raises(Killed):
            fit(Job(images, tmp_path / "broken", recipe, resume=True, progress=kill_in(epoch)))
    fit(Job(images, tmp_path / "broken", recipe, resume=True))
    assert history(tmp_path / "whole") == history(tmp_path / "broken")


def test_mixed_precision_gives_a_float32_model_file(images: Path, tmp_path: Path) -> None:
    run = fit(Job(images, tmp_path / "run", replace(QUICK, epochs=1, precision="mixed_bfloat16")))
    graph, _ = model_file.read(run.model)
    assert graph.output("logit").get_element_type().to_dtype() == np.float32
    assert not [op for op in graph.get_ops() if op.get_output_element_type(0).get_type_name() in ("bf16", "f16")]


def test_a_trained_network_can_be_trained_further(images: Path, tmp_path: Path) -> None:
    first = fit(Job(images, tmp_path / "first", QUICK))
    more = replace(QUICK, init=str(tmp_path / "first" / "model.keras"), epochs=1, learning_rate=1e-9)
    second = fit(Job(images, tmp_path / "second", more))
    sample = [drawn_image(i % 2, 900 + i) for i in range(8)]
    graphs = [model_file.compile_graph(model_file.read(run.model)[0]) for run in (first, second)]
    batch: NDArray[Any] = np.stack(sample)[..., None].astype(np.float32) / 255
    assert np.abs(graphs[0](batch)["logit"] - graphs[1](batch)["logit"]).max() < 1e-3


def test_a_recipe_in_toml_says_what_it_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("epochz = 3")
    with pytest.raises(TrainingError, match="epochz"):
        Recipe.from_toml(path)
    path.write_text("[augmentation]\ntwist = 3")
    with pytest.raises(TrainingError, match="twist"):
        Recipe.from_toml(path)
    path.write_text("not = = toml")
    with pytest.raises(TrainingError, match="TOML"):
        Recipe.from_toml(path)
    with pytest.raises(NotFoundError):
        Recipe.from_toml(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "change",
    [{"imbalance": "magic"}, {"precision": "int3"}, {"pooling": "min"}, {"epochs": 0}, {"dropout": 1.5}],
)
def test_a_recipe_that_cannot_be_is_rejected(change: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="Expected"):
        replace(QUICK, **change)


def test_the_recipe_of_the_default_model_is_a_recipe() -> None:
    recipe = Recipe.from_toml(ROOT / "recipes" / "default.toml")
    made = model_file.read(model_file.default())[1]
    assert (recipe.architecture, recipe.size) == (made.architecture, made.input_size)


@pytest.mark.training
def test_a_run_killed_by_the_system_resumes(images: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(f'size = {SIZE}\nbatch_size = 16\narchitecture = "cnn"\ninit = "none"\n')

    def command(out: str, *options: str) -> list[str]:
        return [sys.executable, "-m", "pneumoscope", "train", str(images), "--out", str(tmp_path / out), *options]

    recipe = ("--recipe", str(tmp_path / "recipe.toml"), "--epochs", "15")
    broken = subprocess.Popen(command("broken", *recipe), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 180
    while not (tmp_path / "broken" / "checkpoint.npz").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(broken.pid, signal.SIGKILL)
    assert broken.wait() == -signal.SIGKILL
    assert not (tmp_path / "broken" / "model.onnx").exists()
    subprocess.run(command("broken", "--resume"), check=True, capture_output=True)  # its recipe lies in the folder
    subprocess.run(command("whole", *recipe), check=True, capture_output=True)
    assert history(tmp_path / "broken") == history(tmp_path / "whole")
    validation = [json.loads((tmp_path / out / "validation.json").read_text()) for out in ("broken", "whole")]
    assert validation[0] == validation[1]


@pytest.mark.training
@pytest.mark.images
def test_a_network_trained_for_minutes_on_real_images_finds_pneumonia_in_other_patients(
    data: Path, tmp_path: Path
) -> None:
    samples = layouts.load(data / "kermany224" / "train")
    normal = [sample for sample in samples if sample.label == 0][::5]
    pneumonia = [sample for sample in samples if sample.label == 1][::12]
    start = data.parent / "weights" / "mobilenet_v2_imagenet_notop.weights.h5"
    if not start.exists():
        pytest.skip(f"no ImageNet weights at {start}")
    recipe = Recipe(init=str(start), size=96, pooling="average", head_epochs=4, epochs=3, validation_share=0.25)
    run = fit(Job(normal + pneumonia, tmp_path / "run", recipe))
    assert run.validation.n > 120
    assert run.validation.figures["auc"].value > 0.95


def test_what_a_recipe_leaves_open_follows_the_architecture() -> None:
    assert (Recipe().init, Recipe().learning_rate) == ("imagenet", 1e-4)
    plain = Recipe(architecture="cnn")
    assert (plain.init, plain.learning_rate) == ("none", 1e-3)
    assert Recipe(learning_rate=0.5).learning_rate == 0.5
    with pytest.raises(NotFoundError, match="mobilenet_v2"):
        Recipe(architecture="resnet9000")


def test_the_list_of_who_was_held_out_can_be_evaluated_on_from_anywhere(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images.parent)
    fit(Job(images.name, tmp_path / "run", replace(QUICK, epochs=1)))
    monkeypatch.chdir("/")
    assert all(sample.path.exists() for sample in layouts.load(tmp_path / "run" / "split.csv"))


def test_the_list_of_who_was_held_out_says_all_that_was_known_of_each_image(images: Path, tmp_path: Path) -> None:
    box = Box("opacity", 0.125, 0.25, 0.5, 0.75)
    listed = [
        replace(sample, site="AB"[i % 2], view=("AP", "PA")[i % 3 % 2], age=float(i), split=None)
        for i, sample in enumerate(layouts.load(images))
    ]
    known = [replace(s, boxes=(box, box)) if s.label else replace(s, other=i % 5 == 0) for i, s in enumerate(listed)]
    fit(Job(known, tmp_path / "run", replace(QUICK, epochs=1)))
    again = layouts.load(tmp_path / "run" / "split.csv", other="negative")
    assert {replace(sample, split=None) for sample in again} == set(known)


def test_a_run_is_not_resumed_with_other_patients(tmp_path: Path) -> None:
    def drawn(patients: int) -> list[Sample]:
        return [Sample(Path(f"{i}.png"), i % 2, f"p{i % patients}", pixels=drawn_image(i % 2, i)) for i in range(80)]

    with pytest.raises(Killed):
        fit(Job(drawn(80), tmp_path / "run", QUICK, progress=kill_in("network 2/4")))
    with pytest.raises(TrainingError, match="images"):
        fit(Job(drawn(40), tmp_path / "run", QUICK, resume=True))


def test_patients_shared_with_the_test_split_are_told_of(tmp_path: Path) -> None:
    images = [Sample(Path(f"{i}.png"), i % 2, f"p{i}", "train", pixels=drawn_image(i % 2, i)) for i in range(80)]
    images += [replace(image, split="test") for image in images[:3]]
    run = fit(Job(images, tmp_path / "run", replace(QUICK, epochs=1)))
    assert any("3 patients of the test split" in note for note in run.notes)


def test_training_images_of_one_class_only_are_rejected(tmp_path: Path) -> None:
    n = 2 * preparation.MIN_VALIDATION
    images = [Sample(Path(f"v{i}.png"), i % 2, f"v{i}", "val", pixels=drawn_image(i % 2, i)) for i in range(n)]
    images += [Sample(Path(f"t{i}.png"), 1, f"t{i}", "train", pixels=drawn_image(1, 500 + i)) for i in range(20)]
    with pytest.raises(DatasetError, match="both classes to train on"):
        fit(Job(images, tmp_path / "run", QUICK))


@pytest.mark.parametrize(
    "values",
    [{"stop_after": 0}, {"epochs": 2.5}, {"learning_rate": -1}, {"seed": -1}, {"augmentation": 3}, {"size": "big"},
     {"init": "imagnet"}, {"augmentation": {"horizontal_flip": 1.1}}, {"augmentation": {"blur": "much"}}],
)  # fmt: skip
def test_a_recipe_of_wrong_values_is_rejected(values: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="Expected"):
        Recipe.from_dict(values)


def test_the_plain_cnn_is_not_given_weights_it_cannot_have() -> None:
    from pneumoscope.networks import architectures

    for init in ("imagenet", "base.weights.h5", "garbage"):
        with pytest.raises(TrainingError, match="Expected init"):
            architectures.build("cnn", SIZE, init=init)
    assert Recipe(architecture="cnn").dropout == 0.5
    assert Recipe(architecture="cnn", dropout=0.0).dropout == 0.0


def test_the_soup_of_two_runs_has_the_mean_of_their_weights(images: Path, tmp_path: Path) -> None:
    import keras

    runs = [tmp_path / "calm", tmp_path / "noisy"]
    for run, noise in zip(runs, (0.0, 0.2), strict=True):
        fit(Job(images, run, replace(QUICK, augmentation=replace(NONE, noise=noise, share=1.0))))
    souped = soup(Job(images, tmp_path / "soup"), runs)
    first, second, mean = (
        keras.saving.load_model(path / "model.keras").get_weights() for path in (*runs, tmp_path / "soup")
    )
    assert any(not np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    for a, b, m in zip(first, second, mean, strict=True):
        np.testing.assert_allclose(m, (a + b) / 2, rtol=1e-6, atol=1e-7)
    assert [part["noise"] for part in Detector(souped.model).card.recipe["mean_of"]] == [0.0, 0.2]
    assert Detector(souped.model).card.data["training"] == Detector(runs[0] / "model.onnx").card.data["training"]


def test_the_soup_of_one_run_is_that_run(images: Path, tmp_path: Path) -> None:
    run = fit(Job(images, tmp_path / "run", QUICK))
    souped = soup(Job(images, tmp_path / "soup"), [tmp_path / "run"])
    assert Detector(souped.model).card == Detector(run.model).card


def test_runs_that_held_out_other_patients_make_no_soup(images: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        fit(Job(images, tmp_path / str(seed), replace(QUICK, seed=seed)))
    with pytest.raises(TrainingError, match="same patients"):
        soup(Job(images, tmp_path / "soup"), [tmp_path / "0", tmp_path / "1"])
    with pytest.raises(TrainingError, match="folder of a training"):
        soup(Job(images, tmp_path / "soup"), [tmp_path / "nowhere"])
    (tmp_path / "1" / "model.keras").unlink()
    with pytest.raises(TrainingError, match="unfinished"):
        soup(Job(images, tmp_path / "soup"), [tmp_path / "1"])
    with pytest.raises(TrainingError, match="got none"):
        soup(Job(images, tmp_path / "soup"), [])
    assert not (tmp_path / "soup").exists()


def test_the_threshold_keeps_the_sensitivity_that_was_asked_for(
    draw_folder: Callable[..., Path], tmp_path: Path
) -> None:
    run = fit(Job(draw_folder(60, 60), tmp_path / "run", replace(QUICK, sensitivity=0.99)))
    assert "sensitivity of at least 0.99" in Detector(run.model).card.calibration.threshold_reason
    with pytest.raises(TrainingError, match="got both"):
        Recipe(sensitivity=0.9, specificity=0.9)


def test_a_head_is_fitted_in_one_step_to_what_scikit_learn_finds(
    images: Path, base_weights: Path, tmp_path: Path
) -> None:
    import keras
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    recipe = replace(
        QUICK,
        architecture="mobilenet_v2_short",
        init=str(base_weights),
        head="logistic",
        epochs=0,
        augmentation=replace(NONE, horizontal_flip=1.0),
    )
    run = fit(Job(images, tmp_path / "run", recipe))
    network = keras.saving.load_model(tmp_path / "run" / "model.keras")
    parts = {"train": [], "val": []}  # type: dict[str, list[Sample]]
    for sample in layouts.load(tmp_path / "run" / "split.csv"):
        parts[str(sample.split)].append(sample)
    learnt, held_out = (splits.decode(part, SIZE) for part in parts.values())

    def pooled(pixels: Any) -> NDArray[np.float32]:
        maps = network.get_layer("features").predict_on_batch(pixels[..., None].astype(np.float32))
        head = network.get_layer("head")
        return np.asarray(keras.Model(head.inputs, head.layers[-1].input).predict_on_batch(maps))

    expected = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000))
    inputs = np.concatenate([pooled(learnt.pixels), pooled(learnt.pixels[:, :, ::-1])])
    expected.fit(inputs, np.tile(learnt.labels, 2))
    logits = loop.predict_logits(network, held_out.pixels)
    np.testing.assert_allclose(logits, expected.decision_function(pooled(held_out.pixels)), atol=2e-2)
    assert Detector(run.model).card.architecture == "mobilenet_v2_short"
    assert "the recipe has no epochs" in run.kept


def test_a_run_without_epochs_keeps_what_it_starts_from_and_needs_no_curves(images: Path, tmp_path: Path) -> None:
    first = fit(Job(images, tmp_path / "first", replace(QUICK, epochs=1)))
    out = tmp_path / "second"
    (out / "tensorboard").mkdir(parents=True)
    (out / "history.csv").write_text("phase,epoch,val_loss\nnetwork,7,0.5\n")  # of a run that is no more
    again = replace(QUICK, init=str(first.model.with_name("model.keras")), epochs=0)
    pytest.importorskip("tensorboard", reason="tracking is not installed")
    with tracking.tracked("tensorboard", str(out / "tensorboard"), out) as tracker:
        run = fit(Job(images, out, again), tracker)
    assert "the recipe has no epochs" in run.kept
    image = drawn_image(1, 5)
    assert Detector(run.model).predict_proba(image) == pytest.approx(
        Detector(first.model).predict_proba(image), abs=1e-3
    )


def test_a_head_is_kept_where_its_loss_was_lowest_whatever_the_networks_schedule() -> None:
    rows = [{"phase": "head", "epoch": e, "val_loss": loss} for e, loss in ((1, 0.3), (2, 0.2), (3, 0.4))]
    told = schedule.reason(rows, replace(QUICK, schedule="cosine"))
    assert told == "Kept: epoch 2 of 3 of the head, with the lowest validation loss, 0.2000."


def test_a_network_from_random_weights_needs_epochs() -> None:
    with pytest.raises(TrainingError, match="got 0"):
        Recipe(architecture="cnn", epochs=0)
