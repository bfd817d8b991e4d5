"""The OpenAPI description says what is answered, under which address, and what must be shown for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi", reason="serving is not installed")
jsonschema = pytest.importorskip("jsonschema")

from pneumoscope.errors import UnsupportedError
from pneumoscope.inference.finding import WARNINGS
from pneumoscope.service import server
from pneumoscope.service.schemas import EXAMPLES
from pneumoscope.service.security import Limits
from tests.builders.serving import RunningService, image, running_service

TOKEN = "a token of the service"
SHOWN = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def service() -> Iterator[RunningService]:
    with running_service(Limits(body=1_000_000)) as service:
        yield service


@pytest.fixture(scope="module")
def locked() -> Iterator[RunningService]:
    """A service that asks for a token, below a path."""
    with running_service(token=TOKEN, root_path="/below/") as service:
        yield service


def description(service: RunningService, **headers: str) -> dict[str, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = service.client.get("/openapi.json", headers=named)
    assert answer.status_code == 200
    return dict(answer.json())


def servers(service: RunningService, **headers: str) -> list[str]:
    return [server["url"] for server in description(service, **headers)["servers"]]


def check(document: dict[str, Any], shape: str, value: object) -> None:
    """Validate a value against a shape of the description."""
    schema = {"$ref": f"#/components/schemas/{shape}", "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(value)


def test_every_example_is_of_its_shape_and_so_is_what_is_answered(service: RunningService) -> None:
    document = description(service)
    for shape in EXAMPLES:
        examples = document["components"]["schemas"][shape]["examples"]
        assert examples
        for example in examples:
            check(document, shape, example)
    answer = service.predict(image(1), b"no image").json()
    check(document, "FindingsAnswer", answer)
    check(document, "ErrorAnswer", service.client.post("/v1/predict", files=[]).json())
    with pytest.raises(jsonschema.ValidationError):
        check(document, "FindingWarning", "of no such kind")


def test_the_examples_are_laid_out_as_real_answers_are(service: RunningService) -> None:
    seen, failed = description(service)["components"]["schemas"]["FindingAnswer"]["examples"]
    real, really_failed = service.predict(image(1), b"no image").json()["findings"]
    assert list(real) == list(seen)
    assert {key: type(value) for key, value in real.items()} == {key: type(value) for key, value in seen.items()}
    assert failed == really_failed | {"path": failed["path"]}


def test_every_warning_and_kind_of_error_is_a_word_with_a_meaning(service: RunningService) -> None:
    shapes = description(service)["components"]["schemas"]
    assert (
        dict(zip(shapes["FindingWarning"]["enum"], shapes["FindingWarning"]["x-enum-descriptions"], strict=True))
        == WARNINGS
    )
    assert len(shapes["ErrorKind"]["enum"]) == len(shapes["ErrorKind"]["x-enum-descriptions"])


def test_the_example_of_a_refusal_is_what_is_answered(service: RunningService, locked: RunningService) -> None:
    client = service.client
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    answers = {
        ("/v1/predict", 400): client.post("/v1/predict", content=b"--x damaged", headers=form),
        ("/v1/predict", 401): locked.client.post("/v1/predict"),
        ("/v1/predict", 403): client.post("/v1/predict", headers={"Origin": "https://elsewhere.example"}),
        ("/v1/predict", 415): client.post("/v1/predict", content=b"no form"),
        ("/v1/predict", 421): client.post("/v1/predict", headers={"Host": "elsewhere.example"}),
        ("/v1/predict", 422): client.post("/v1/predict?evidence=perhaps", files={"images": image(1)}),
        ("/dicom-web/studies", 406): client.post("/dicom-web/studies", headers={"Accept": "text/html"}),
        ("/dicom-web/studies", 415): client.post("/dicom-web/studies", content=b"no parts"),
    }
    document = description(service)
    for (path, status), answer in answers.items():
        described = document["paths"][path]["post"]["responses"][str(status)]
        assert (answer.status_code, answer.json()) == (status, described["content"]["application/json"]["example"])
    too_large = client.post("/v1/predict", content=bytes(2_000_000), headers=form).json()
    example = document["paths"]["/v1/predict"]["post"]["responses"]["413"]["content"]["application/json"]["example"]
    assert too_large["error"]["message"] == example["error"]["message"].replace("128,000,000", "1,000,000")


def test_the_server_is_the_address_that_the_service_was_asked_under(service: RunningService) -> None:
    assert servers(service) == [service.url]
    assert servers(service, Host="localhost:99") == ["http://localhost:99"]


def test_the_server_is_the_address_that_proxies_were_asked_under(service: RunningService) -> None:
    forwarded = {"X_Forwarded_Proto": "https", "X_Forwarded_Host": "images.example", "X_Forwarded_Prefix": "/x-ray/"}
    assert servers(service, **forwarded) == ["https://images.example/x-ray"]
    several = {name: f"{value}, inner" for name, value in forwarded.items()}
    assert servers(service, **several) == ["https://images.example/x-ray"]


def test_what_no_address_can_hold_is_not_taken_from_a_proxy(service: RunningService) -> None:
    nonsense = {"X_Forwarded_Proto": "javascript", "X_Forwarded_Host": "a b", "X_Forwarded_Prefix": "//<script>"}
    assert servers(service, **nonsense) == [service.url]


def test_a_service_below_a_path_answers_whether_the_proxy_leaves_it_or_takes_it_away(locked: RunningService) -> None:
    assert servers(locked) == [f"{locked.url}/below"]
    assert servers(locked, X_Forwarded_Prefix="/elsewhere") == [f"{locked.url}/elsewhere"]
    for before in ("", "/below"):
        assert locked.client.get(f"{before}/healthz").status_code == 200
        assert locked.client.get(f"{before}/docs").status_code == 200
        assert locked.client.get(f"{before}/v1/model").status_code == 401
        assert locked.client.get(f"{before}/v1/model", headers=SHOWN).status_code == 200
    assert locked.client.get("/belowhealthz").status_code == 401


def test_a_path_that_is_none_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="path"):
        server.serve("127.0.0.1", 0, root_path="below?")


def test_the_token_is_a_security_scheme_of_all_that_asks_for_it(
    service: RunningService, locked: RunningService
) -> None:
    open_to_all = description(service)
    assert "security" not in open_to_all
    assert "securitySchemes" not in open_to_all["components"]
    document = description(locked)
    (scheme,) = document["components"]["securitySchemes"].items()
    assert (scheme[1]["type"], scheme[1]["scheme"]) == ("http", "bearer")
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            demanded = operation.get("security", document["security"])
            assert demanded in ([], [{scheme[0]: []}])
            asked = path.replace("{study}", "1.2")
            status = httpx.request(method, f"{locked.url}{asked}", timeout=60.0).status_code
            assert (status == 401) == bool(demanded), path
