"""`evaluate`, `calibrate` and `demo`: figures for people, JSON for programs, and pages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders.commands import predict, run
from tests.conftest import FIGURES


def test_evaluate_writes_metrics_with_intervals_and_a_page(
    tiny_model: Path, draw_folder: Callable[..., Path], tmp_path: Path
) -> None:
    done = run("evaluate", draw_folder(20, 30, seed=7), "-m", tiny_model, "--out", tmp_path / "report")
    assert done.returncode == 0
    figures = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert figures["n"] == 50
    assert figures["positives"] == 30
    assert set(figures["confusion"]) == {"tp", "fp", "tn", "fn"}
    for name in FIGURES:
        assert set(figures[name]) == {"value", "low", "high"}
        assert figures[name]["low"] <= figures[name]["value"] <= figures[name]["high"], name
    assert "<html" in (tmp_path / "report" / "report.html").read_text()


def test_evaluate_says_what_it_expects_of_a_folder(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    done = run("evaluate", tmp_path / "images", "-m", tiny_model)
    assert done.returncode == 1
    assert "DATA/NORMAL" in done.stderr


@pytest.mark.images
def test_the_demo_shows_truth_beside_finding(data: Path, tmp_path: Path) -> None:
    done = run("demo", "--data", data / "kermany_original" / "val", "--out", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    assert "✓ ✗" in done.stdout  # the note that says what the marks mean
    suspected = re.findall("PNEUMONIA [✓✗]", done.stdout)
    assert len(list((tmp_path / "demo" / "overlays").iterdir())) == len(suspected) > 0
    assert (tmp_path / "demo" / "report.html").exists()


def test_the_demo_needs_no_images_and_no_connection(tmp_path: Path) -> None:
    done = run("demo", "--out", tmp_path / "demo", HTTPS_PROXY="http://127.0.0.1:1", PIP_INDEX_URL="http://127.0.0.1:1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("PNEUMONIA ✓") == done.stdout.count("NORMAL ✓") == 3
    assert len(list((tmp_path / "demo" / "overlays").iterdir())) == 3  # a normal image has none


def test_calibrate_shows_figures_before_and_after_and_writes_a_model(
    tiny_model: Path, draw_folder: Callable[..., Path], tmp_path: Path
) -> None:
    images, out = draw_folder(25, 35, seed=40), tmp_path / "models" / "ours.onnx"
    (images / "NORMAL" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    done = run("calibrate", images, "-m", tiny_model, "--out", out, "--sensitivity", "0.95")
    assert done.returncode == 3, done.stderr
    for word in ("before", "after", "balanced accuracy", "uncertain", "60 images"):
        assert word in done.stdout
    for word in ("broken.png", "sensitivity of at least 0.95 on 60 images", "58% of the images", str(out)):
        assert word in done.stderr
    rows = [json.loads(line) for line in predict(out, images / "PNEUMONIA", "-f", "json").stdout.splitlines()]
    assert sum(row["finding"] == "PNEUMONIA" for row in rows) >= 0.95 * 35
    assert all("seen_in_training" in row["warnings"] for row in rows)


def test_calibrate_gives_one_json_object_and_nothing_else(
    tiny_model: Path, draw_folder: Callable[..., Path], tmp_path: Path
) -> None:
    done = run("calibrate", draw_folder(30, 30, seed=40), "-m", tiny_model, "--out", tmp_path / "o.onnx", "-f", "json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["model"] == str(tmp_path / "o.onnx")
    for when in ("before", "after"):
        assert printed[when]["n"] == 60
        for name in (*FIGURES, "uncertain"):
            assert set(printed[when][name]) == {"value", "low", "high"}


def test_calibrate_rejects_too_few_images_in_one_line_and_writes_nothing(
    tiny_model: Path, draw_folder: Callable[..., Path], tmp_path: Path
) -> None:
    done = run("calibrate", draw_folder(15, 15), "-m", tiny_model, "--out", tmp_path / "ours.onnx")
    assert done.returncode == 1
    assert "at least 40 images" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "ours.onnx").exists()


def test_evaluate_under_corruptions_tells_the_worst_corruption_and_where_the_evidence_lies(
    tiny_model: Path, draw_folder: Callable[..., Path], tmp_path: Path
) -> None:
    done = run("evaluate", draw_folder(12, 12), "-m", tiny_model, "--corruptions", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "Worst specificity on corrupted images: " in done.stderr
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert set(metrics["worst_corruption"]) == {"sensitivity", "specificity"}
    assert metrics["corruptions"]["inverted"]["specificity"].keys() == {"value", "low", "high"}
    assert 0 <= metrics["localisation"]["outside"]["value"] <= 1
    page = (tmp_path / "out" / "report.html").read_text()
    assert "On corrupted images" in page
    assert "Does it look at the thorax?" in page
