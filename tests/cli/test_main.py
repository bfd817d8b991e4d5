"""The command line: the contract that people and programs rely on."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from typer.main import get_command
from typer.testing import CliRunner

from pneumoscope.cli import train
from pneumoscope.cli.main import app
from pneumoscope.data.samples import Sample
from pneumoscope.errors import UnsupportedError
from pneumoscope.inference import detector, runtimes
from pneumoscope.training.recipe import Recipe
from tests.conftest import FIGURES, SIZE, drawn_image

KEYS = ["path", "probability", "finding", "uncertain", "threshold", "warnings", "error"]


def run(*arguments: str | Path, stdin: bytes = b"", **environment: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "pneumoscope", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        env=os.environ | {"COLUMNS": "120"} | environment,
        timeout=300,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode("utf-8", "surrogateescape"), done.stderr.decode()
    )


def on_a_terminal(*arguments: str | Path, columns: int = 80) -> str:
    """Run Python on a terminal, and give what it shows, without colours."""
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command = [sys.executable, *map(str, arguments)]
    shown = b""
    with subprocess.Popen(command, stdin=there, stdout=there, stderr=there, env=environment | {"TERM": "xterm"}):
        os.close(there)
        with suppress(OSError):  # Linux says so when the last of the other side has gone
            while some := os.read(here, 65536):
                shown += some
    os.close(here)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r\n", "\n")


def predict(model: Path, *arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    return run("predict", "--model", model, *arguments, stdin=stdin)


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


def test_an_empty_name_is_wrong_usage() -> None:
    done = run("predict", "")
    assert done.returncode == 2
    assert "empty name" in done.stderr


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


@pytest.mark.parametrize(
    "arguments", [[], ["predict"], ["predict", "x.png", "--format", "xml"], ["nonsense"], ["train", "x"], ["-q"]]
)
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    assert run(*arguments).returncode == 2


COMMANDS = [str(command.name or command.callback.__name__) for command in app.registered_commands if command.callback]


def helped(*command: str, columns: int = 80) -> str:
    environment = {"COLUMNS": str(columns)}
    return CliRunner().invoke(app, [*command, "--help"], prog_name="pneumoscope", env=environment).stdout


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
@pytest.mark.parametrize("columns", [78, 80])  # of a terminal of 80 columns two are left free
def test_help_fits_a_terminal_says_the_usage_and_teaches_by_example(command: list[str], columns: int) -> None:
    page = helped(*command, columns=columns)
    assert page.startswith(f"Usage: {' '.join(['pneumoscope', *command])} ")
    assert "$ pneumoscope" in page
    assert [line for line in page.splitlines() if len(line) > 80] == []
    assert [line for line in page.splitlines() if line.endswith(("…", "-"))] == []  # nothing cut, no name broken
    assert "...\n" not in page.partition("Commands:")[2]  # no command's description is cut


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_every_default(name: str) -> None:
    page = " ".join(helped(name).split())
    for parameter in get_command(app).commands[name].params:  # type: ignore[attr-defined]
        if isinstance(parameter.default, str | int | float) and not isinstance(parameter.default, bool):
            shown = getattr(parameter.default, "value", parameter.default)
            assert shown == "" or f"default: {shown}" in page, parameter.name


def test_help_on_training_says_what_a_recipe_has_by_default() -> None:
    page, recipe = " ".join(helped("train").split()), Recipe()
    assert f"{recipe.architecture}, which is the default" in page
    assert f"{recipe.epochs} by default" in page
    assert f"{recipe.seed} by default" in page


def test_the_shell_completes_commands_options_and_choices() -> None:
    def completed(*words: str) -> list[str]:
        environment: dict[str, Any] = {"COMP_WORDS": " ".join(["pneumoscope", *words]), "COMP_CWORD": str(len(words))}
        done = run(**environment, _PNEUMOSCOPE_COMPLETE="complete_bash")
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    assert completed("ev") == ["evaluate"]
    assert completed("predict", "--form") == ["--format"]
    assert completed("predict", "--format", "") == ["table", "json", "csv"]
    assert completed("predict", "image") == []  # the shell's own: names of files


def test_completion_is_installed_for_the_shell(tmp_path: Path) -> None:
    shell: dict[str, Any] = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    shown, installed = (run(option, "bash", **shell) for option in ("--show-completion", "--install-completion"))
    for done in (shown, installed):
        assert (done.returncode, done.stderr) == (0, "")
    assert "_PNEUMOSCOPE_COMPLETE=complete_bash" in shown.stdout
    assert subprocess.run(["bash", "-n"], input=shown.stdout, text=True, check=True).returncode == 0
    assert shown.stdout.strip() == (tmp_path / ".bash_completions" / "pneumoscope.sh").read_text().strip()
    assert "pneumoscope.sh" in (tmp_path / ".bashrc").read_text()


def test_messages_are_broken_between_words_on_a_terminal_and_not_at_all_elsewhere(tmp_path: Path) -> None:
    long = tmp_path / ("folder" * 20)
    elsewhere = run("evaluate", long, COLUMNS="80")
    assert len(elsewhere.stderr.splitlines()) == 1
    terminal = on_a_terminal("-m", "pneumoscope", "evaluate", long)
    assert str(long) in terminal  # whole, so that it can be copied
    assert max(len(line) for line in terminal.splitlines() if str(long) not in line) <= 80


def test_the_bars_of_a_training_fit_a_terminal_and_lines_elsewhere_have_all_figures(tmp_path: Path) -> None:
    training = tmp_path / "training.py"
    training.write_text(
        "from pneumoscope.cli import console\n"
        "with console.progress() as bars:\n"
        "    step = console.steps(bars)\n"
        "    step('computing features', 5216, 5216, {})\n"
        "    figures = {f'val_{name}{site}': 0.5 for name in ('auc', 'loss') for site in ('', '_a_site', '_another')}\n"
        "    step('network 10/20', 5216, 5216, figures)\n"
    )
    shown = on_a_terminal(training)
    assert "…" not in shown
    assert re.search(r"network 10/20 +━+ 5216/5216 .*val auc 0.500  val loss 0.500 *$", shown, re.MULTILINE)
    lines = subprocess.run([sys.executable, training], capture_output=True, text=True).stderr.splitlines()
    assert lines[0] == "computing features: 5,216"
    assert "val auc another 0.500" in lines[1]


def test_the_version_is_that_of_the_package() -> None:
    import pneumoscope

    assert run("--version").stdout.strip() == f"pneumoscope {pneumoscope.__version__}"


def test_a_model_that_does_not_exist_is_said_in_one_line(draw_folder: Callable[..., Path]) -> None:
    done = predict(Path("missing.onnx"), draw_folder(1, 1))
    assert done.returncode == 1
    assert "missing.onnx" in done.stderr
    assert done.stdout == ""


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


def test_train_evaluate_and_predict_work_one_after_the_other(draw_folder: Callable[..., Path], tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'architecture = "cnn"\ninit = "none"\nsize = {SIZE}\nlearning_rate = 2e-3\naverage = 0.0\n')
    images = draw_folder(60, 60)
    trained = run("train", images, "--out", tmp_path / "run", "--recipe", recipe, "--epochs", "6", "--seed", "4")
    assert trained.returncode == 0, trained.stderr
    assert "auc" in trained.stdout
    again = run("train", images, "--out", tmp_path / "run", "--recipe", recipe, "--epochs", "6", "--seed", "4")
    assert again.returncode == 1
    assert "resume it" in again.stderr
    model = tmp_path / "run" / "model.onnx"
    assert predict(model, images / "NORMAL", "-f", "json").returncode == 0


def test_training_without_its_extra_says_how_to_get_it(draw_folder: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "keras.py").write_text("raise ModuleNotFoundError('No module named keras', name='keras')")
    done = run("train", draw_folder(2, 2), "--out", tmp_path / "run", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "pip install '.[train]'" in done.stderr


@pytest.mark.images
def test_the_demo_shows_truth_beside_finding(data: Path, tmp_path: Path) -> None:
    done = run("demo", "--data", data / "kermany_original" / "val", "--out", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    assert "truth" in done.stdout
    suspected = re.findall("PNEUMONIA [✓✗]", done.stdout)
    assert len(list((tmp_path / "demo" / "overlays").iterdir())) == len(suspected) > 0
    assert (tmp_path / "demo" / "report.html").exists()


def test_the_demo_needs_no_images_and_no_connection(tmp_path: Path) -> None:
    done = run("demo", "--out", tmp_path / "demo", HTTPS_PROXY="http://127.0.0.1:1", PIP_INDEX_URL="http://127.0.0.1:1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("PNEUMONIA ✓") == done.stdout.count("NORMAL ✓") == 3
    assert len(list((tmp_path / "demo" / "overlays").iterdir())) == 3  # a normal image has none


def test_fetch_lists_the_sources_with_their_licences() -> None:
    done = run("fetch")
    assert done.returncode == 0
    for name in ("samples", "pneumoniamnist", "kermany"):
        assert name in done.stdout
    assert "CC BY 4.0" in done.stdout


def test_fetch_of_an_unknown_name_lists_the_known_ones() -> None:
    done = run("fetch", "nothing")
    assert done.returncode == 1
    assert "samples" in done.stderr


def test_a_closed_pipe_is_no_traceback(tiny_model: Path, draw_folder: Callable[..., Path]) -> None:
    command = f"{sys.executable} -m pneumoscope predict -m {tiny_model} {draw_folder(20, 20)} -f json | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr


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


def test_a_folder_that_cannot_be_made_is_said_in_one_line(
    tiny_model: Path, draw_folder: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for arguments in (["predict", "--evidence"], ["evaluate", "--out"]):
        done = run(*arguments, tmp_path / "file", "-m", tiny_model, draw_folder(1, 1, name=arguments[0]))
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "file" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["predict", "--evidence"],
        ["evaluate", "--out"],
        ["audit", "--out"],
        ["calibrate", "--out"],
        ["train", "--out"],
        ["demo", "--data", "gone", "--out"],
        ["export", "--format", "onnx", "--images", "gone", "--out"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_written_is_said_before_the_work(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    arguments = [*command, str(tmp_path / "file" / "deep" / "out.onnx")]
    if "gone" not in command:
        arguments.append(str(tmp_path / "gone"))  # so that whatever else is looked at first fails in another way
    with pytest.raises(UnsupportedError, match=r"file' is no folder"):
        app(arguments, standalone_mode=False)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


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


@pytest.mark.parametrize(
    "wishes", [["--sensitivity", "0.9", "--threshold", "0.5"], ["--specificity", "95"], ["--threshold", "x"]]
)
def test_contradictory_or_impossible_wishes_are_wrong_usage(
    wishes: list[str], draw_folder: Callable[..., Path], tmp_path: Path
) -> None:
    done = run("calibrate", draw_folder(1, 1), "--out", tmp_path / "ours.onnx", *wishes)
    assert done.returncode == 2
    assert wishes[0].strip("-") in done.stderr


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


def test_a_wished_specificity_overrules_a_recipes_sensitivity(draw_folder: Callable[..., Path], tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('architecture = "cnn"\nsize = 32\nepochs = 1\nsensitivity = 0.95\n')
    done = run("train", draw_folder(60, 60), "--out", tmp_path / "run", "--recipe", recipe, "--specificity", "0.9")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["recipe"]["specificity"] == 0.9


def test_train_notes_masks_among_its_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lungs = np.zeros((200, 200), dtype=np.uint8)
    lungs[40:160, 20:90] = lungs[40:160, 110:180] = 255
    Image.fromarray(lungs).save(tmp_path / "mask.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    images = [Sample(tmp_path / name, 0, name) for name in ("broken.png", "mask.png")]
    assert train._without_rejected(images, skip=False) == images
    told = " ".join(capsys.readouterr().err.split())
    assert "1 of 2 images do not look like frontal chest radiographs" in told
    assert "mask.png" in told
    assert "They are trained on all the same" in told
    assert train._without_rejected(images, skip=True) == images[:1]  # what cannot be read is another matter
    assert "They are left out" in " ".join(capsys.readouterr().err.split())
