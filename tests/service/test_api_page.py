"""The service's own page: what it says is what is answered, its clients run, and its forms send."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="serving is not installed")
pytest.importorskip("playwright", reason="there is no Playwright to drive a browser with")

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from pneumoscope.inference.finding import WARNINGS
from tests.builders.browsing import NEEDS_CHROMIUM, watched
from tests.builders.dicoms import filed
from tests.builders.serving import RunningService, image, running_service
from tests.conftest import drawn_image

pytestmark = NEEDS_CHROMIUM

NODE = shutil.which("node")
TOKEN = "a token for programs"
LINES = 10  # of a client, at most


@pytest.fixture(scope="module")
def service() -> Iterator[RunningService]:
    with running_service(token=TOKEN) as service:
        yield service


@pytest.fixture
def page(browser: Browser, service: RunningService) -> Iterator[Page]:
    """The page, opened; a fault in its scripts, a broken content policy or another host fails the test."""
    with watched(browser, (service.url,)) as page:
        page.goto(f"{service.url}/docs")
        expect(page.get_by_role("heading", name="/v1/predict", exact=False).first).to_be_visible(timeout=60_000)
        yield page


def form(page: Page, heading: str) -> Locator:
    """Open the form below a heading."""
    section = page.locator("#operations section").filter(has=page.get_by_role("heading", name=heading, exact=True))
    section.get_by_text("Try it").click()
    return section.locator("details")


def sent(form: Locator) -> str:
    """Send a form and give the status that it tells."""
    form.get_by_role("button", name="Send").click()
    status = form.get_by_role("status")
    expect(status).to_have_text(re.compile(r"after [\d.]+ s$"), timeout=60_000)
    return status.inner_text()


def upload(name: str, data: bytes) -> Any:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": data}


def test_shapes_warnings_and_errors_are_told_with_examples(page: Page) -> None:
    expect(page.locator("#warning-words th")).to_have_text(list(WARNINGS))
    expect(page.locator("#error-words th")).to_contain_text(["busy"])
    for example in page.locator("#finding-shape pre").all_inner_texts():
        assert set(json.loads(example)) >= {"probability", "finding", "warnings", "error"}
    assert [one for one in Axe().run(page).response["violations"] if one["impact"] in ("serious", "critical")] == []


def test_the_client_in_python_predicts(page: Page, service: RunningService, tmp_path: Path) -> None:
    client = page.locator("#python").inner_text()
    assert len(client.splitlines()) <= LINES
    assert service.url in client
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for seed, path in enumerate(paths):
        path.write_bytes(image(1, seed))
    call = f"import json\nprint(json.dumps(predict({str(paths[0])!r}, {str(paths[1])!r}, token={TOKEN!r})))"
    done = subprocess.run([sys.executable, "-c", f"{client}\n{call}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = service.predict(
        *(path.read_bytes() for path in paths), headers={"Authorization": f"Bearer {TOKEN}"}
    ).json()
    got = json.loads(done.stdout)
    assert [one["probability"] for one in got] == [one["probability"] for one in expected["findings"]]
    refused = subprocess.run(
        [sys.executable, "-c", f"{client}\npredict({str(paths[0])!r})"], capture_output=True, text=True, check=False
    )
    assert "Expected the service's token" in refused.stderr


def test_the_client_in_javascript_predicts_in_a_browser(page: Page, service: RunningService) -> None:
    client = page.locator("#javascript").inner_text()
    assert len(client.splitlines()) <= LINES
    assert service.url in client
    sent = list(image(1, 3))
    call = f"async ([bytes, token]) => {{ {client}\nreturn predict([new Blob([Uint8Array.from(bytes)])], token); }}"
    (finding,) = page.evaluate(call, [sent, TOKEN])
    expected = service.predict(bytes(sent), headers={"Authorization": f"Bearer {TOKEN}"}).json()["findings"][0]
    assert finding["probability"] == expected["probability"]
    told = page.evaluate(call.replace("token);", "null).catch(String);"), [sent, TOKEN])
    assert "Expected the service's token" in told


@pytest.mark.skipif(NODE is None, reason="there is no Node.js: apt-get install nodejs")
def test_the_client_in_javascript_predicts_in_node(page: Page, service: RunningService, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(image(1, 3))
    call = 'import { openAsBlob } from "node:fs";\n' + page.locator("#javascript").inner_text()
    call += '\nconsole.log(JSON.stringify(await predict([await openAsBlob("a.png")], process.argv[2])));'
    (tmp_path / "client.mjs").write_text(call)
    assert NODE
    done = subprocess.run([NODE, "client.mjs", TOKEN], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = service.predict(image(1, 3), headers={"Authorization": f"Bearer {TOKEN}"}).json()["findings"][0]
    assert json.loads(done.stdout)[0]["probability"] == expected["probability"]


def test_a_form_shows_the_refusal_without_the_token_and_the_answer_with_it(page: Page) -> None:
    predict = form(page, "POST /v1/predict")
    assert sent(predict).startswith("401")
    expect(predict.locator(".answer")).to_contain_text('"kind": "token"')
    page.locator("#token-input").fill(TOKEN)
    assert sent(predict).startswith("200")  # a sample image, where none is chosen
    assert json.loads(predict.locator(".answer").inner_text())["findings"][0]["error"] is None
    page.reload()
    expect(page.locator("#token-input")).to_have_value(TOKEN)


@pytest.fixture
def unlocked(page: Page) -> Page:
    page.locator("#token-input").fill(TOKEN)
    return page


def test_a_form_sends_images_and_options_and_tells_the_same_for_a_shell(
    unlocked: Page, service: RunningService
) -> None:
    predict = form(unlocked, "POST /v1/predict")
    predict.locator("input[type=file]").set_input_files(
        [upload("Jane.png", image(1)), upload("notes.txt", b"no image")]
    )
    predict.get_by_label("evidence").check()
    assert sent(predict).startswith("200")
    findings = json.loads(predict.locator(".answer").inner_text())["findings"]
    assert [one["error"] and one["error"]["kind"] for one in findings] == [None, "unsupported"]
    assert findings[0]["evidence"]["cells"]
    command = predict.get_by_label("The same by curl").inner_text()
    assert f"'{service.url}/v1/predict?evidence=true'" in command
    assert TOKEN not in command
    assert "Jane" not in predict.inner_text()
    predict.get_by_label("Answer as").select_option("application/fhir+json")
    assert sent(predict).startswith("200")
    assert json.loads(predict.locator(".answer").inner_text())["resourceType"] == "Bundle"


def test_a_form_sends_dicom_instances(unlocked: Page) -> None:
    store = form(unlocked, "POST /dicom-web/studies")
    sent_file = filed(drawn_image(1, 5, 256).astype(np.uint16) * 16)
    store.locator("input[type=file]").set_input_files([upload("image.dcm", sent_file)])
    assert sent(store).startswith("200")
    expect(store.locator(".answer")).to_contain_text("multipart/related")
    store.get_by_label("Answer as").select_option("application/dicom+json")
    assert sent(store).startswith("200")
    assert "00081199" in json.loads(store.locator(".answer").inner_text())  # ReferencedSOPSequence


@pytest.mark.parametrize("path", ["/v1/model", "/healthz", "/readyz", "/metrics"])
def test_a_form_asks_for_what_is_only_read(unlocked: Page, path: str) -> None:
    asked = form(unlocked, f"GET {path}")
    assert sent(asked).startswith("200")
    expect(asked.locator(".answer")).not_to_be_empty()


def test_nothing_of_it_is_cut_off_on_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    form(page, "POST /v1/predict")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
