"""`predict`: a row for every image, in each format, and its evidence map beside it."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from pneumoscope import parallel
from pneumoscope.inference import detector, runtimes
from tests.builders.commands import predict, run
from tests.conftest import drawn_image

KEYS = ["path", "probability", "finding", "uncertain", "threshold", "warnings", "error"]


@pytest.fixture
def mixed(draw_folder: Callable[..., Path]) -> Path:
    """A folder as it really comes: good images, and a file of each kind of trouble."""
    folder = draw_folder(3, 3)
    image = (folder / "NORMAL" / "normal000.png").read_bytes()
    (folder / "broken.png").write_bytes(image[: len(image) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")
    (folder / "name\nwith a newline.png").write_bytes(image)
    (folder / ".DS_Store").write_bytes(b"hidden")
    Image.fromarray(drawn_image(0, seed=99).astype(np.uint16) * 257).save(folder / "deep.png")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png")).write_bytes(image)
    return folder


def test_json_gives_one_object_an_image_and_nothing_else(tiny_model: Path, draw_folder: Callable[..., Path]) -> None:
    done = predict(tiny_model, draw_folder(2, 2), "--format", "json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert len(rows) == 4
    for row in rows:
        assert list(row) == KEYS
        assert 0.0 <= row["probability"] <= 1.0
        assert row["finding"] in ("NORMAL", "PNEUMONIA")
        assert (row["finding"] == "PNEUMONIA") == (row["probability"] >= row["threshold"])
        assert isinstance(row["uncertain"], bool)
        assert row["error"] is None


def test_every_file_of_a_mixed_folder_gets_a_row_and_the_status_is_3(tiny_model: Path, mixed: Path) -> None:
    done = predict(tiny_model, mixed, "-f", "json")
    rows = {Path(row["path"]).name: row for row in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 3
    assert len(rows) == 12
    assert {name: row["error"]["kind"] for name, row in rows.items() if row["error"]} == {
        "broken.png": "unreadable",
        "empty.jpg": "unreadable",
        "notes.txt": "unsupported",
    }
    assert all((row["finding"] is None) == (row["error"] is not None) for row in rows.values())
    assert rows["name\nwith a newline.png"]["finding"]
    assert rows[os.fsdecode(b"caf\xe9.png")]["finding"]


def test_each_of_many_images_has_the_row_it_has_among_few(tiny_model: Path, mixed: Path, tmp_path: Path) -> None:
    few = [json.loads(line) for line in predict(tiny_model, mixed, "--format", "json").stdout.splitlines()]
    for i in range(-(-parallel.MANY // len(few))):
        shutil.copytree(mixed, tmp_path / "many" / f"{i:03}")
    done = predict(tiny_model, tmp_path / "many", "--format", "json", "--evidence", tmp_path / "maps")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 3
    assert len(rows) >= parallel.MANY
    for i, row in enumerate(rows):
        like = few[i % len(few)]
        assert Path(row["path"]).name == Path(like["path"]).name
        assert {key: row[key] for key in KEYS[1:]} == {key: like[key] for key in KEYS[1:]}
    assert len(list((tmp_path / "maps").rglob("*.svg"))) == sum(row["finding"] == "PNEUMONIA" for row in rows)


def test_csv_holds_names_with_a_carriage_return(tiny_model: Path, tmp_path: Path) -> None:
    image = tmp_path / "a\rb.png"
    Image.fromarray(drawn_image(0, 1)).save(image)
    done = run("predict", "-m", tiny_model, "--format", "csv", "--output", tmp_path / "rows.csv", image)
    assert done.returncode == 0
    with (tmp_path / "rows.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["path"] == str(image)


def test_a_name_that_is_too_long_is_a_row_like_others(tiny_model: Path, draw_folder: Callable[..., Path]) -> None:
    done = run("predict", "-m", tiny_model, "--format", "json", draw_folder(1, 1), "a" * 300)
    assert done.returncode == 3
    assert [json.loads(row)["error"] is None for row in done.stdout.splitlines()] == [True, True, False]


def test_csv_holds_the_same_rows(tiny_model: Path, mixed: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(predict(tiny_model, mixed, "-f", "csv").stdout)))
    assert len(rows) == 12
    assert [row["error_kind"] for row in rows if row["error_kind"]] == ["unreadable", "unreadable", "unsupported"]
    assert {row["finding"] for row in rows} <= {"NORMAL", "PNEUMONIA", ""}


def test_a_table_shows_names_that_a_terminal_cannot(tiny_model: Path, mixed: Path) -> None:
    done = predict(tiny_model, mixed)
    assert done.returncode == 3
    assert "name\\nwith a newline.png" in done.stdout.replace(" ", "").replace("│", "") or "newline" in done.stdout
    assert "Not a medical device" in done.stdout


def test_no_color_is_honoured(tiny_model: Path, draw_folder: Callable[..., Path]) -> None:
    folder = draw_folder(1, 1)
    coloured = run("predict", "-m", tiny_model, folder, FORCE_COLOR="1")
    plain = run("predict", "-m", tiny_model, folder, NO_COLOR="1", FORCE_COLOR="")
    assert "\x1b[" in coloured.stdout
    assert "\x1b[3" not in plain.stdout


def test_a_list_on_standard_input_is_read(tiny_model: Path, draw_folder: Callable[..., Path]) -> None:
    folder = draw_folder(2, 2)
    listed = f"{folder / 'NORMAL' / 'normal001.png'}\n{folder / 'PNEUMONIA'}\n".encode()
    done = predict(tiny_model, "-", "-f", "json", stdin=listed)
    assert [Path(json.loads(line)["path"]).name for line in done.stdout.splitlines()] == [
        "normal001.png",
        "pneumonia000.png",
        "pneumonia001.png",
    ]


def test_an_image_named_twice_has_two_rows(tiny_model: Path, draw_folder: Callable[..., Path]) -> None:
    image = draw_folder(1, 1) / "NORMAL" / "normal000.png"
    rows = predict(tiny_model, image, image, "-f", "json").stdout.splitlines()
    assert len(rows) == 2
    assert rows[0] == rows[1]


def test_a_name_that_does_not_exist_is_a_row(tiny_model: Path) -> None:
    done = predict(tiny_model, "nowhere.png", "-f", "json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"]["kind"] == "not_found"


def test_an_empty_folder_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    done = predict(tiny_model, tmp_path)
    assert done.returncode == 1
    assert "no files" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_without_images_among_others_is_remarked_on(
    tiny_model: Path, draw_folder: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "nothing").mkdir()
    folder = draw_folder(1, 1)
    listed = f"{tmp_path / 'nothing'}\n{folder}\n".encode()
    for done in (
        predict(tiny_model, tmp_path / "nothing", folder, "-f", "json"),
        predict(tiny_model, "-", "-f", "json", stdin=listed),
    ):
        assert done.returncode == 0
        assert len(done.stdout.splitlines()) == 2
        assert "There are no images in" in done.stderr


@pytest.mark.parametrize("style", ["json", "csv"])
def test_a_row_names_the_evidence_map_of_its_image(
    tiny_model: Path, draw_folder: Callable[..., Path], tmp_path: Path, style: str
) -> None:
    folder = draw_folder(1, 1)
    (folder / "text.png").write_text("no image")
    done = predict(tiny_model, folder, "--evidence", tmp_path / "maps", "-f", style)
    lines = io.StringIO(done.stdout)
    rows = list(csv.DictReader(lines) if style == "csv" else map(json.loads, lines))
    named = {Path(row["path"]).stem: row["evidence"] for row in rows}
    assert named.keys() == {"normal000", "pneumonia000", "text"}
    assert not named["text"]
    assert not named["normal000"]
    assert named["pneumonia000"].endswith("pneumonia000.evidence.svg")
    assert Path(named["pneumonia000"]).is_file()


def test_output_appears_whole_or_not_at_all(tiny_model: Path, draw_folder: Callable[..., Path], tmp_path: Path) -> None:
    target = tmp_path / "findings.jsonl"
    done = predict(tiny_model, draw_folder(1, 1), "-f", "json", "--output", target)
    assert done.returncode == 0
    assert done.stdout == ""
    assert len(target.read_text().splitlines()) == 2
    done = predict(tiny_model, draw_folder(1, 1, name="more"), "-o", tmp_path / "no folder" / "findings.csv")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_overlays_are_written_each_under_its_own_name(
    tiny_model: Path, draw_folder: Callable[..., Path], tmp_path: Path
) -> None:
    first, second = draw_folder(1, 1, name="a"), draw_folder(1, 1, name="b", seed=3)
    assert predict(tiny_model, first, second, "--evidence", tmp_path / "maps", "-f", "json").returncode == 0
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == [
        "pneumonia000-2.evidence.svg",
        "pneumonia000.evidence.svg",
    ]
    done = predict(tiny_model, first, second, "--evidence", tmp_path / "maps", "--evidence-of-normals", "-f", "json")
    assert done.returncode == 0
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == [
        "normal000-2.evidence.svg",
        "normal000.evidence.svg",
        "pneumonia000-2.evidence.svg",
        "pneumonia000.evidence.svg",
    ]


def test_overlays_are_images_that_open_anywhere_where_asked_for(
    tiny_model: Path, draw_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = draw_folder(0, 1)
    assert predict(tiny_model, folder, "--evidence", tmp_path, "--evidence-format", "png").returncode == 0
    assert Image.open(tmp_path / "pneumonia000.evidence.png").mode == "RGB"


def test_an_image_whose_overlay_cannot_be_written_has_its_row(
    tiny_model: Path, draw_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = draw_folder(0, 2)
    (tmp_path / "maps" / "pneumonia001.evidence.svg").mkdir(parents=True)
    done = predict(tiny_model, folder, "--evidence", tmp_path / "maps", "-f", "json")
    assert done.returncode == 3  # something that was asked for is missing
    assert len(done.stdout.splitlines()) == 2
    assert "no overlay of" in done.stderr
    assert (tmp_path / "maps" / "pneumonia000.evidence.svg").is_file()


def test_an_image_with_the_longest_of_names_has_its_overlay(
    tiny_model: Path, draw_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = draw_folder(0, 1)
    (folder / "PNEUMONIA" / "pneumonia000.png").rename(folder / f"{'ä' * 125}.png")
    assert predict(tiny_model, folder, "--evidence", tmp_path / "maps").returncode == 0
    assert [path.name for path in (tmp_path / "maps").iterdir()] == [f"{'ä' * 100}.evidence.svg"]


def test_either_engine_gives_the_same_findings(tiny_model: Path, draw_folder: Callable[..., Path]) -> None:
    folder = draw_folder(5, 5)
    first, second = (
        [json.loads(line) for line in predict(tiny_model, folder, "-f", "json", "--engine", engine).stdout.splitlines()]
        for engine in ("openvino", "onnxruntime")
    )
    assert [row["finding"] for row in first] == [row["finding"] for row in second]
    assert [row["probability"] for row in first] == pytest.approx([row["probability"] for row in second], abs=0.05)


def test_a_drawn_image_is_found_through_the_whole_path(tiny_model: Path, tmp_path: Path) -> None:
    for label, name in enumerate(("normal", "pneumonia")):
        image = Image.fromarray(drawn_image(label, seed=123)).resize((200, 200), Image.Resampling.NEAREST)
        image.save(tmp_path / f"{name}.tiff")
    rows = [json.loads(line) for line in predict(tiny_model, tmp_path, "-f", "json").stdout.splitlines()]
    assert [row["finding"] for row in rows] == ["NORMAL", "PNEUMONIA"]


def test_overlays_never_take_the_place_of_an_image(tiny_model: Path, draw_folder: Callable[..., Path]) -> None:
    folder = draw_folder(1, 1)
    images = {path: path.read_bytes() for path in folder.rglob("*.png")}
    assert predict(tiny_model, folder, "--evidence", folder / "PNEUMONIA").returncode == 0
    assert {path: path.read_bytes() for path in images} == images
    assert (folder / "PNEUMONIA" / "pneumonia000.evidence.svg").exists()


def test_a_pipe_given_as_output_stays_a_pipe(
    tiny_model: Path, draw_folder: Callable[..., Path], tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True) as reader:
        assert predict(tiny_model, draw_folder(1, 1), "-f", "json", "-o", pipe).returncode == 0
        assert len(reader.communicate(timeout=60)[0].splitlines()) == 2
    assert pipe.is_fifo()


def test_images_are_predicted_while_others_are_still_listed(tiny_model: Path, draw_folder: Callable[..., Path]) -> None:
    image = draw_folder(1, 1) / "NORMAL" / "normal000.png"
    enough = detector.IMAGES_AHEAD * runtimes.WORKERS + 1
    command = [sys.executable, "-m", "pneumoscope", "predict", "-m", str(tiny_model), "-", "-f", "json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0) as process:
        assert process.stdin
        assert process.stdout
        for _ in range(enough):
            process.stdin.write(f"{image}\n".encode())
        assert json.loads(process.stdout.readline())["path"] == str(image)
        process.stdin.write(f"{image}\n".encode())
        rest, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert len(rest.splitlines()) == enough


def test_the_findings_never_take_the_place_of_an_image(tiny_model: Path, draw_folder: Callable[..., Path]) -> None:
    image = draw_folder(1, 1) / "NORMAL" / "normal000.png"
    before = image.read_bytes()
    assert predict(tiny_model, image, "--output", image).returncode == 1
    assert image.read_bytes() == before


def test_overlays_are_not_predicted_as_images(tiny_model: Path, draw_folder: Callable[..., Path]) -> None:
    folder = draw_folder(1, 1)
    for _ in range(2):
        done = predict(tiny_model, folder, "--evidence", folder / "overlays", "-f", "json")
        assert len(done.stdout.splitlines()) == 2


@pytest.mark.images
def test_a_folder_of_unusual_images_is_remarked_on_once_and_a_usual_one_is_not(data: Path, tmp_path: Path) -> None:
    for path in sorted((data / "kermany224" / "train" / "NORMAL").iterdir())[:30]:
        shutil.copy(path, tmp_path)
    assert "unlike the images" not in run("predict", tmp_path).stderr
    for path in tmp_path.iterdir():
        with Image.open(path) as image:
            ImageOps.invert(image.convert("L")).save(path)
    done = run("predict", "--format", "json", tmp_path)
    assert done.stderr.count("unlike the images") == 1
    warnings = [json.loads(row)["warnings"] for row in done.stdout.splitlines()]
    assert sum("unlike_training_images" in of for of in warnings) >= 25


@pytest.mark.images
def test_each_image_of_a_folder_on_its_side_is_told_to_be_rotated(data: Path, tmp_path: Path) -> None:
    for path in sorted((data / "kermany224" / "train" / "NORMAL").iterdir())[:30]:
        with Image.open(path) as image:
            image.rotate(90).save(tmp_path / path.name)
    rows = [json.loads(row) for row in run("predict", "--format", "json", tmp_path).stdout.splitlines()]
    assert sum("rotated" in row["warnings"] for row in rows) >= 28
