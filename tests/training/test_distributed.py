"""Several devices and hosts: the batches, the loss and the model of one, and clear words where they fail."""

from __future__ import annotations

import csv
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pneumoscope import Detector
from pneumoscope.data.layouts import Sample
from pneumoscope.errors import TrainingError
from pneumoscope.training import distributed
from pneumoscope.training.distributed import Share
from tests.conftest import SIZE, drawn_image


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(("hosts", "each", "n"), [(1, 1, 5), (1, 4, 5), (2, 1, 5), (2, 4, 16), (3, 2, 1)])
def test_hosts_share_a_batch_in_equal_parts_and_in_its_order(hosts: int, each: int, n: int) -> None:
    batch = np.arange(100, 100 + n)
    shares = [Share(host, hosts, hosts * each) for host in range(hosts)]
    parts = [share.own(share.padded(batch)) for share in shares]
    assert {len(part) % each for part in parts} == {0}
    assert len({len(part) for part in parts}) == 1
    assert np.array_equal(np.concatenate(parts)[:n], batch)
    assert set(np.concatenate(parts)[n:]) <= {100}


def test_images_repeated_to_fill_a_batch_do_not_change_its_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("keras", reason="training is not installed")
    from pneumoscope.training.augmentation import NONE
    from pneumoscope.training.batches import Batches, Examples
    from pneumoscope.training.recipe import Recipe

    rng = np.random.default_rng(0)
    y, images, losses = rng.integers(0, 2, 9), rng.random((9, 4, 4)).astype(np.float16), rng.random(9)
    order, class_weights = rng.permutation(9), np.array([0.7, 1.9])
    expected = (class_weights[y[order]] * losses[order]).mean()
    examples = Examples(images, [Sample(Path(str(i)), int(label), str(i)) for i, label in enumerate(y)])
    rows = []
    for host in (0, 1):
        monkeypatch.setattr(distributed, "share", partial(Share, host, 2, 4))
        recipe = Recipe(architecture="cnn", init="none", augmentation=NONE)
        inputs, targets, weights = Batches(examples, class_weights, [order], recipe, 0, False)[0]
        assert inputs.shape == (6, 4, 4, 1)
        assert targets["logit"].shape == (6, 1)
        rows.append(weights["logit"] * losses[Share(host, 2, 4).own(Share(devices=4).padded(order))])
    assert np.concatenate(rows).mean() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("hosts", "host", "reason"),
    [
        (["10.0.0.1"], 0, "name:port"),
        (["10.0.0.1:99999"], 0, "name:port"),
        ([":80"], 0, "name:port"),
        (["a:1", "b:1"], 2, r"\[0, 1\], got 2"),
        (["a:1", "a:1"], 0, "one twice"),
    ],
)
def test_hosts_that_cannot_be_are_rejected(hosts: list[str], host: int, reason: str) -> None:
    with pytest.raises(TrainingError, match=reason):
        distributed.use(1, hosts, host)


def test_hosts_wait_until_all_are_there() -> None:
    addresses = [("127.0.0.1", free_port()), ("127.0.0.1", 1), ("127.0.0.1", 2)]
    done: list[int] = []

    def come(host: int) -> None:
        distributed.meet(addresses, host)
        done.append(host)

    hosts = [threading.Thread(target=come, args=(host,)) for host in (2, 0, 1)]
    for thread in hosts[:2]:
        thread.start()
    time.sleep(0.5)
    assert done == []
    hosts[2].start()
    for thread in hosts:
        thread.join(timeout=20)
    assert sorted(done) == [0, 1, 2]


def test_hosts_that_do_not_come_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "PATIENCE", 0.5)
    addresses = [("127.0.0.1", free_port()), ("127.0.0.1", 1)]
    with pytest.raises(TrainingError, match="host 1 of 2"):
        distributed.meet(addresses, 0)
    with pytest.raises(TrainingError, match="as host 0"):
        distributed.meet(addresses, 1)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(TrainingError, match=f"port {port}"):
            distributed.meet([("127.0.0.1", port), ("127.0.0.1", 1)], 0)


@pytest.mark.training
def test_two_processes_train_the_model_that_one_trains(draw_folder: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("jax", reason="training on several devices is not installed")
    from pneumoscope.training.augmentation import NONE

    images = draw_folder(32, 31)
    calm = "\n".join(f"{name} = 0" for name in vars(NONE) if name not in ("share", "noise", "brightness"))
    recipe = f'size = {SIZE}\nbatch_size = 16\narchitecture = "cnn"\nepochs = 2\n[augmentation]\n{calm}\n'
    (tmp_path / "recipe.toml").write_text(recipe)

    def started(out: str, *arguments: str) -> subprocess.Popen[str]:
        command = ["train", str(images), "--out", str(tmp_path / out), "--recipe", str(tmp_path / "recipe.toml")]
        return subprocess.Popen(
            [sys.executable, "-m", "pneumoscope", *command, *arguments], text=True, stderr=subprocess.PIPE
        )

    def finished(process: subprocess.Popen[str]) -> None:
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said

    hosts = f"127.0.0.1:{free_port()},127.0.0.1:{free_port()}"
    processes = [
        started("two", "--hosts", hosts, "--host", "1", "--cache", str(tmp_path)),
        started("two", "--hosts", hosts, "--host", "0"),
        started("one", "--devices", "1"),
    ]
    for process in processes:
        finished(process)
    curves = [list(csv.DictReader((tmp_path / out / "history.csv").open())) for out in ("one", "two")]
    for one, two in zip(*curves, strict=True):
        for name in ("learning_rate", "loss", "val_loss", "val_auc"):
            assert float(two[name]) == pytest.approx(float(one[name]), rel=2e-3), name
    sample = [drawn_image(i % 2, 900 + i) for i in range(8)]
    one, two = (Detector(tmp_path / out / "model.onnx").predict_proba(sample) for out in ("one", "two"))
    np.testing.assert_allclose(one, two, atol=0.01)
