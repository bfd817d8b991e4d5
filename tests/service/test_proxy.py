"""Behind nginx as Debian installs it, below another path, with the block that the documents give."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="serving is not installed")

from tests.builders.serving import RunningService, image, png, running_service
from tests.conftest import ROOT

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
SETTINGS = Path("/etc/nginx/nginx.conf")
pytestmark = pytest.mark.skipif(
    NGINX is None or not SETTINGS.exists(), reason="there is no nginx of Debian: apt-get install nginx-light"
)
TOKEN = "behind a proxy"


@pytest.fixture(scope="module")
def service() -> Iterator[RunningService]:
    with running_service(token=TOKEN) as service:
        yield service


def blocks() -> list[str]:
    """Find the nginx blocks in the documents."""
    texts = [file.read_text(encoding="utf-8") for file in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))]
    fenced = [block for text in texts for block in re.findall(r"```nginx\n(.*?)```", text, re.DOTALL)]
    return [block for block in fenced if "location /pneumoscope/" in block and "listen" not in block]


@pytest.fixture(scope="module")
def proxy(service: RunningService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Debian's own settings with the documents' block in a site; places that only root may write are moved."""
    folder = tmp_path_factory.mktemp("nginx")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    block = blocks()[0].replace("127.0.0.1:8000", f"127.0.0.1:{service.port}")
    (folder / "site.conf").write_text(f"server {{ listen 127.0.0.1:{port};\n{block}\n}}\n")
    settings = SETTINGS.read_text()
    settings = re.sub(r"^user .*;$", "", settings, flags=re.MULTILINE)
    settings = re.sub(r"^pid .*;$", f"pid {folder}/pid; daemon off;", settings, flags=re.MULTILINE)
    settings = settings.replace("/var/log/nginx", str(folder))
    settings = re.sub(r"include /etc/nginx/(conf\.d|sites-enabled)/\S+;", "", settings)
    moved = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    settings = re.sub(r"http \{", f"http {{ {moved} include {folder}/site.conf;", settings)
    (folder / "nginx.conf").write_text(settings)
    assert NGINX
    process = subprocess.Popen([NGINX, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")])
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            assert process.poll() is None
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.05)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0) as client:
            yield client
    finally:
        process.terminate()
        process.wait()


AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


def test_every_document_that_gives_a_block_gives_the_same() -> None:
    assert len(set(blocks())) == 1


def test_the_page_and_all_that_it_asks_for_are_there_below_another_path(proxy: httpx.Client) -> None:
    assert proxy.get("/pneumoscope").headers["location"].endswith("/pneumoscope/")
    page = proxy.get("/pneumoscope/")
    asked = re.findall(r'(?:src|href)="(?!https?:)([^"#]+)"', page.text)
    assert "app.js" in asked
    assert not [path for path in asked if path.startswith("/")]
    for path in (*asked, "samples/NORMAL2-IM-1427-0001.jpeg", "openapi.json", "healthz"):
        assert proxy.get(f"/pneumoscope/{path}").status_code == 200, path
    assert proxy.head("/pneumoscope/healthz").status_code == 200


def test_the_description_names_the_address_in_front_of_the_proxy(proxy: httpx.Client) -> None:
    (server,) = proxy.get("/pneumoscope/openapi.json").json()["servers"]
    assert server["url"] == f"{str(proxy.base_url).rstrip('/')}/pneumoscope"
    assert proxy.get(f"{server['url']}/v1/model", headers=AUTHORIZED).status_code == 200


def test_images_of_more_than_nginx_allows_by_itself_are_predicted(proxy: httpx.Client) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500), dtype=np.uint8)
    own = {"Origin": str(proxy.base_url).rstrip("/")}  # as the browser sends it with the page's own requests
    files = [("images", image(1)), ("images", png(noise))]
    answer = proxy.post("/pneumoscope/v1/predict", files=files, headers=AUTHORIZED | own)
    assert answer.status_code == 200
    assert len(answer.json()["findings"]) == 2
    lines = proxy.post("/pneumoscope/v1/predict/stream", files=files, headers=AUTHORIZED).text.splitlines()
    assert len(lines) == 2


def test_what_is_set_up_wrong_is_told_with_the_option_that_helps(proxy: httpx.Client) -> None:
    assert "--token" in proxy.get("/pneumoscope/v1/model").json()["error"]["message"]
    other = proxy.get("/pneumoscope/v1/model", headers=AUTHORIZED | {"Origin": "https://elsewhere.example"})
    assert (other.status_code, other.json()["error"]["kind"]) == (403, "origin")
    assert "--allow-origin" in other.json()["error"]["message"]
