"""`audit` on the command line: each fault is printed, and the status tells of unreadable images alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from pneumoscope.cli.main import app
from pneumoscope.data import layouts
from tests.builders.audits import chest, faulty_folder, save
from tests.builders.commands import run


def test_the_command_prints_each_fault_and_exits_3_where_images_are_unreadable(tmp_path: Path) -> None:
    folder, out = faulty_folder(tmp_path / "chest_xray"), tmp_path / "out"
    done = CliRunner().invoke(app, ["audit", str(folder), "--out", str(out)], env={"COLUMNS": "400"})
    assert done.exit_code == 3, done.output
    for said in ("critical", "warning", "note", "val has 5 NORMAL and 6 PNEUMONIA", "1 image cannot be read"):
        assert said in done.output
    assert done.output.index("critical") < done.output.index("warning  ") < done.output.index("note  ")
    assert {path.name for path in out.iterdir()} == {"audit.html", "audit.json"}


def test_findings_are_no_failure(draw_folder: Callable[..., Path], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["audit", str(draw_folder(12, 3)), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0
    assert "imbalance" in {f["kind"] for f in json.loads((tmp_path / "out" / "audit.json").read_text())["faults"]}


@pytest.mark.parametrize("missing", ["folder", "files", "label"])
def test_a_data_set_that_training_rejects_is_described(
    draw_folder: Callable[..., Path], tmp_path: Path, missing: str
) -> None:
    folder = draw_folder(3, 3)
    for path in (folder / "PNEUMONIA").iterdir():
        path.unlink()
    if missing == "folder":
        (folder / "PNEUMONIA").rmdir()
    elif missing == "label":
        (folder / "images.csv").write_text("path,label\n" + "\n".join(f"NORMAL/normal00{i}.png,0" for i in range(3)))
        folder = folder / "images.csv"
    done = CliRunner().invoke(app, ["audit", str(folder), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "No image is PNEUMONIA" in done.output


def test_an_archive_is_audited(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {}
    for k, split in enumerate(layouts.SPLITS):
        arrays[f"{split}_images"] = np.stack([chest(50 * k + i, 28) for i in range(10)])
        arrays[f"{split}_labels"] = np.arange(10)[:, None] % 2
    arrays["test_images"][0] = arrays["train_images"][0]
    np.savez(tmp_path / "set.npz", **arrays)
    done = CliRunner().invoke(app, ["audit", str(tmp_path / "set.npz"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert {"identical_across_splits", "small_split", "patients_unknown", "not_compared"} <= {
        fault["kind"] for fault in told["faults"]
    }
    assert "train/0" in (tmp_path / "out" / "audit.html").read_text()


@pytest.mark.parametrize("data", ["nowhere", "empty", "cats"])
def test_what_is_no_data_set_is_an_error_and_nothing_is_written(tmp_path: Path, data: str) -> None:
    (tmp_path / "empty").mkdir()
    save(chest(0), tmp_path / "cats" / "tabby" / "a.png")
    done = run("audit", tmp_path / data, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert data in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_said_in_one_line(draw_folder: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("audit", draw_folder(1, 1), "--out", tmp_path / "file")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
