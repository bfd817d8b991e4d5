"""The service keeps what its OpenAPI description promises, whatever is sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="serving is not installed")
schemathesis = pytest.importorskip("schemathesis")

from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from pneumoscope.service.app import create_app
from pneumoscope.service.worker import Worker
from tests.builders.serving import running_service
from tests.conftest import ROOT

PROMISES = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)


@schemathesis.serializer("multipart/related")  # type: ignore[untyped-decorator]
def related(context: Any, value: Any) -> bytes:
    """Write whatever was thought of as a part of a body."""
    data = value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
    return b"--x\r\nContent-Type: application/dicom\r\n\r\n" + data + b"\r\n--x--\r\n"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_service() as service:
        yield service.url


DESCRIBED = schemathesis.openapi.from_asgi("/openapi.json", create_app(Worker()), headers={"Host": "localhost"})
OPERATIONS = {found.ok().label: found.ok() for found in DESCRIBED.get_all_operations()}
CASES = [
    (label, mode)
    for label, operation in OPERATIONS.items()
    for mode in GenerationMode
    if mode == GenerationMode.POSITIVE or operation.body or list(operation.iter_parameters())  # else all is valid
]


@pytest.mark.parametrize("label", OPERATIONS)
def test_the_reference_names_every_request(label: str) -> None:
    method, path = label.split()
    rows = (ROOT / "docs" / "reference" / "http.md").read_text(encoding="utf-8").splitlines()
    assert any(row.startswith(f"| `{method} ") and f"{path}`" in row for row in rows), (
        f"Expected '{label}' in docs/reference/http.md."
    )


@pytest.mark.parametrize(("label", "mode"), CASES, ids=str)
def test_no_request_makes_it_fail_or_break_its_promise(url: str, label: str, mode: GenerationMode) -> None:
    described = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operation = next(found.ok() for found in described.get_all_operations() if found.ok().label == label)

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def keeps_its_promise(case: Any) -> None:
        boundary = {"Content-Type": "multipart/related; boundary=x"} if case.media_type == "multipart/related" else {}
        case.call_and_validate(checks=PROMISES, headers=boundary)

    keeps_its_promise()
