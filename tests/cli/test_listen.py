"""`pneumoscope listen`: what it is told, and what it says where that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("pynetdicom", reason="the DICOM node is not installed")

from pneumoscope.cli.main import app
from pneumoscope.errors import PneumoscopeError


def failure(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["listen", *arguments])
    assert isinstance(result.exception, PneumoscopeError), result.output
    return str(result.exception)


def test_an_address_that_others_can_reach_demands_an_allow_list(tmp_path: Path) -> None:
    assert "--allow" in failure("--host", "0.0.0.0", "--spool", str(tmp_path / "spool"))
    assert not (tmp_path / "spool").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--send-to", "ARCHIVE"),
        ("--aet", "A TITLE THAT IS TOO LONG"),
        ("--allow", "MODALITY@"),
        ("--allow", "MODALITY@no.such.host.invalid"),
    ],
)
def test_titles_and_addresses_that_cannot_be_are_told_before_anything_starts(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    assert "Expected" in failure(*arguments, "--spool", str(tmp_path / "spool"))
    assert not (tmp_path / "spool").exists()


@pytest.mark.parametrize("arguments", [("--tls-cert", "node.pem"), ("--metrics", "9112x"), ("--port", "70000")])
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(app, ["listen", *arguments]).exit_code == 2


@pytest.mark.parametrize("command", ["predict", "serve", "listen"])
def test_a_prevalence_that_is_none_is_a_usage_error(command: str, tmp_path: Path) -> None:
    rest = [str(tmp_path)] if command == "predict" else []
    result = CliRunner().invoke(app, [command, *rest, "--prevalence", "3"])
    assert result.exit_code == 2
    assert "Invalid value for '--prevalence'" in result.output
