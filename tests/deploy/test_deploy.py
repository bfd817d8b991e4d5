"""What `deploy/` holds is what the programs it is written for take, and what Pneumoscope takes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from pneumoscope.cli.main import app
from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
UNIT = (DEPLOY / "systemd" / "pneumoscope-listen.service").read_text()


OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
OTHERS = {
    *("--build",),  # docker compose
    *("--no-install-recommends", "--no-create-home", "--uid"),  # apt-get, useradd
    *("--no-cache-dir", "--no-compile"),  # pip
    *("--from", "--read-only", "--tmpfs", "--start-period"),  # a Containerfile, podman, and a health check
    *("--images", "--memory", "--minutes", "--rounds"),  # pytest, benchmarks/
}
"""Options in what is written here that are of other programs."""


def options(command: str) -> set[str]:
    """Give the options that a command of Pneumoscope has."""
    found = get_command(app).commands[command].params  # type: ignore[attr-defined]
    return {"--help"} | {name for param in found for name in (*param.opts, *param.secondary_opts)}


PAGES = (
    "README.md",
    "docs/how-to/listen.md",
    "docs/how-to/service.md",
    "docs/how-to/page.md",
    "docs/reference/http.md",
)
WRITTEN = [path for path in (*DEPLOY.rglob("*"), *map(ROOT.joinpath, PAGES)) if path.is_file()]


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_option_that_is_written_of_is_one(path: Path) -> None:
    known = set().union(*map(options, get_command(app).commands)) | OTHERS  # type: ignore[attr-defined]
    assert set(OPTION.findall(path.read_text(encoding="utf-8"))) <= known


def test_the_containers_run_commands_that_there_are() -> None:
    services = [service for service in COMPOSE["services"].values() if service.get("image") == "pneumoscope"]
    assert [service["command"][0] for service in services] == ["listen", "serve"]
    for service in services:
        command, *rest = service["command"]
        assert {option.partition("=")[0] for option in rest} <= options(command)
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]


def test_the_container_runs_as_nobody_in_particular_and_is_asked_for_its_health() -> None:
    steps = (DEPLOY / "Containerfile").read_text()
    assert re.search(r"^USER \d+$", steps, re.MULTILINE)
    (health,) = re.findall(r"^HEALTHCHECK .*CMD (\[.*\])$", steps, re.MULTILINE)
    assert json.loads(health)[0] == "python"
    (command,) = re.findall(r"^CMD (\[.*\])$", steps, re.MULTILINE)
    name, *rest = json.loads(command)
    assert {option for option in rest if option.startswith("--")} <= options(name)


def test_what_the_compose_file_mounts_is_there() -> None:
    mounts = [mount for service in COMPOSE["services"].values() for mount in service.get("volumes", ())]
    files = [mount.split(":")[0] for mount in mounts if mount.startswith("./")]
    assert "./certificates" in files
    for file in set(files) - {"./certificates"}:
        assert (DEPLOY / file).is_file(), file


def test_orthanc_knows_pneumoscope_by_the_names_that_the_containers_have() -> None:
    title, host, port = json.loads((DEPLOY / "orthanc" / "orthanc.json").read_text())["DicomModalities"]["pneumoscope"]
    assert (title, port) == ("PNEUMOSCOPE", 11112)
    assert host in COMPOSE["services"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_unit_is_understood_by_systemd_and_hardly_exposed(tmp_path: Path) -> None:
    (program,) = re.findall(r"^ExecStart=(\S+)", UNIT, re.MULTILINE)
    assert set(re.findall(r"--[a-z-]+", UNIT)) <= options("listen")
    unit = tmp_path / "pneumoscope-listen.service"
    unit.write_text(UNIT.replace(program, "/bin/true"))
    told = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout[-500:]


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed: apt-get install nginx")
def test_the_block_is_understood_by_nginx(tmp_path: Path) -> None:
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x"]
    subprocess.run([*made, "-keyout", "site.key", "-out", "site.pem"], cwd=tmp_path, check=True, capture_output=True)
    block = (DEPLOY / "nginx" / "pneumoscope.conf").read_text()
    block = block.replace("/etc/nginx/certificates", str(tmp_path)).replace("server serve:", "server 127.0.0.1:")
    whole = f"pid {tmp_path}/pid; error_log stderr; events {{}}\nhttp {{\n{block}\n}}\n"
    (tmp_path / "nginx.conf").write_text(whole)
    told = subprocess.run(
        ["nginx", "-t", "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "syntax is ok" in told.stderr, told.stderr
    assert "test is successful" in told.stderr, told.stderr
