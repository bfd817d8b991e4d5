"""The command line as a whole: help, completion, versions, wrong usage, and what cannot be written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from pneumoscope.cli.main import app
from pneumoscope.errors import UnsupportedError
from pneumoscope.training.recipe import Recipe
from tests.builders.commands import on_a_terminal, predict, run


def test_an_empty_name_is_wrong_usage() -> None:
    done = run("predict", "")
    assert done.returncode == 2
    assert "empty name" in done.stderr


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


def test_the_version_is_that_of_the_package() -> None:
    import pneumoscope

    assert run("--version").stdout.strip() == f"pneumoscope {pneumoscope.__version__}"


def test_a_model_that_does_not_exist_is_said_in_one_line(draw_folder: Callable[..., Path]) -> None:
    done = predict(Path("missing.onnx"), draw_folder(1, 1))
    assert done.returncode == 1
    assert "missing.onnx" in done.stderr
    assert done.stdout == ""


def test_a_closed_pipe_is_no_traceback(tiny_model: Path, draw_folder: Callable[..., Path]) -> None:
    command = f"{sys.executable} -m pneumoscope predict -m {tiny_model} {draw_folder(20, 20)} -f json | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr


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
    with pytest.raises(UnsupportedError, match=r"file' is not a folder"):
        app(arguments, standalone_mode=False)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "wishes", [["--sensitivity", "0.9", "--threshold", "0.5"], ["--specificity", "95"], ["--threshold", "x"]]
)
def test_contradictory_or_impossible_wishes_are_wrong_usage(
    wishes: list[str], draw_folder: Callable[..., Path], tmp_path: Path
) -> None:
    done = run("calibrate", draw_folder(1, 1), "--out", tmp_path / "ours.onnx", *wishes)
    assert done.returncode == 2
    assert wishes[0].strip("-") in done.stderr
