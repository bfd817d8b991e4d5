"""Who may ask the service, what stands in every answer's head, and what is kept of an image."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi", reason="serving is not installed")

from pneumoscope.errors import UnsupportedError
from pneumoscope.service.security import check_address
from tests.builders.serving import TOKEN, RunningService, image, raw, running_service


@pytest.fixture(scope="module")
def locked() -> Iterator[RunningService]:
    """A service that asks for a token and lets one other site ask."""
    with running_service(token=TOKEN, origins=["https://images.example"]) as service:
        yield service


# --- who may ask


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "images.example"])
def test_an_address_that_others_reach_demands_a_token(host: str) -> None:
    with pytest.raises(UnsupportedError, match="PNEUMOSCOPE_TOKEN"):
        check_address(host, None)
    check_address(host, TOKEN)


@pytest.mark.parametrize("token", ["", "tab\t", "näme"])
def test_a_token_that_cannot_be_sent_is_refused(token: str) -> None:
    with pytest.raises(UnsupportedError, match="token"):
        check_address("127.0.0.1", token)


@pytest.mark.parametrize(
    "given", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ü"]
)
@pytest.mark.parametrize("path", ["/v1/model", "/metrics", "/v1/predict"])
def test_without_the_token_nothing_is_told(locked: RunningService, path: str, given: str | None) -> None:
    headers = {} if given is None else {"Authorization": given.encode("utf-8")}
    answer = locked.client.get(path, headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_with_the_token_it_answers_and_the_page_is_there_for_all(locked: RunningService) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert locked.client.get("/v1/model", headers=headers).status_code == 200
    assert locked.predict(image(1), headers=headers).status_code == 200
    for path in ("/", "/app.js", "/healthz", "/readyz", "/openapi.json"):
        assert locked.client.get(path).status_code == 200


def test_no_other_site_may_ask_unless_it_is_named(service: RunningService, locked: RunningService) -> None:
    theirs = {"Origin": "https://images.example"}
    assert service.predict(image(), headers=theirs).status_code == 403
    assert service.predict(image(), headers={"Origin": service.url}).status_code == 200
    assert "access-control-allow-origin" not in service.client.get("/v1/model").headers
    answer = locked.predict(image(), headers=theirs | {"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == theirs["Origin"]
    other = {"Origin": "https://others.example", "Authorization": f"Bearer {TOKEN}"}
    assert locked.predict(image(), headers=other).status_code == 403


def test_a_name_that_was_made_to_lead_here_is_refused(service: RunningService) -> None:
    for host in ("images.example", "127.0.0.1.images.example", "[", ""):
        assert service.client.get("/v1/model", headers={"Host": host}).status_code == 421
    for host in ("localhost:99", "127.0.0.1", "[::1]:8000"):
        assert service.client.get("/v1/model", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/v1/model", "/nothing", "/healthz", "/app.js"])
def test_every_answer_has_the_security_headers(service: RunningService, path: str) -> None:
    headers = service.client.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] in ("no-store", "no-cache")
    assert re.fullmatch("[0-9a-f]{32}", headers["X-Request-Id"])
    assert "server" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/../app.py",
        "/%2e%2e/app.py",
        "/..%2fapp.py",
        "/..%5capp.py",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/app.js/../../app.py",
        "/%00",
        "/v1/../../security.py",
        "/" + "a" * 5000,
    ],
)
def test_no_path_leads_out_of_the_page(service: RunningService, path: str) -> None:
    answer = raw(service, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert re.match(rb"HTTP/1.1 4\d\d ", answer)
    assert b"import" not in answer
    assert b"root:" not in answer


# --- what is kept and told


def test_no_image_touches_a_disk(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")  # the service runs in this process
    assert service.predict(image(1) + bytes(5_000_000)).status_code == 200
