"""The page as a person meets it, in a real browser: images come in and get their findings."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="serving is not installed")
pytest.importorskip("playwright", reason="there is no Playwright to drive a browser with")

from playwright.sync_api import Page, expect

import pneumoscope
from pneumoscope import Detector
from tests.builders.browsing import NEEDS_CHROMIUM, drop, predicted, screenshot
from tests.builders.dicoms import image as dicom_image
from tests.builders.dicoms import table
from tests.builders.serving import RunningService, image, lenient, png
from tests.conftest import drawn_image

pytestmark = NEEDS_CHROMIUM

WORDS = {"NORMAL": "No pneumonia seen", "PNEUMONIA": "Pneumonia suspected"}


def probable(probability: float | None) -> str:
    """Write a probability as the page does: none is certain."""
    assert probability is not None
    return "> 0.99" if probability > 0.99 else "< 0.01" if probability < 0.01 else f"{probability:.2f}"


def test_an_empty_room_says_what_to_do_and_what_it_is_not(page: Page) -> None:
    expect(page.get_by_role("heading", name="Drop chest radiographs here")).to_be_visible()
    expect(page.get_by_text("Not a medical device")).to_be_visible()
    expect(page.locator("#trained")).to_contain_text("Children of one to five years")
    screenshot(page, "empty")


@pytest.mark.images
def test_real_images_that_are_dropped_get_their_findings(page: Page, data: Path) -> None:
    paths = sorted((data / "kermany_original" / "val").rglob("*.jpeg"))
    findings = {Path(finding.path).name: finding for finding in Detector(lenient()).examine(paths)}
    drop(page, **{path.name.replace(".jpeg", "_jpeg"): path.read_bytes() for path in paths}, notes_txt=b"no image")
    expect(page.locator("#images li")).to_have_count(17)  # at once, predicted or not
    predicted(page, 17)
    rows = page.locator("#images li").all()
    names = [row.locator(".name").get_attribute("title") or "" for row in rows]
    assert names[0] == "notes.txt"  # the one that nobody has looked at
    assert names[1:] == sorted(findings, key=lambda name: -(findings[name].probability or 0))
    for name, row in zip(names[1:], rows[1:], strict=True):
        expect(row.locator(".number")).to_have_text(probable(findings[name].probability))
        expect(row.locator(".short")).to_contain_text(WORDS[str(findings[name].finding)])
    rows[1].click()
    fitted = Detector(lenient()).card.calibration
    expect(page.locator("#finding .word")).to_have_text("Pneumonia suspected")
    expect(page.locator("#finding .scale")).to_have_attribute(
        "aria-label", re.compile(f"threshold {fitted.threshold:.2f}; uncertain from")
    )
    screenshot(page, "dark")
    rows[0].click()
    expect(page.locator("#finding")).to_contain_text("Expected a JPEG, PNG, TIFF or DICOM file")
    screenshot(page, "refusal")


def test_an_image_shows_how_far_it_has_come(page: Page) -> None:
    page.route("**/v1/predict*", lambda route: None)  # on its way for ever
    drop(page, slow_png=image(1))
    expect(page.locator("#images li .short")).to_have_text(re.compile("Waiting its turn|On its way|Being predicted"))
    expect(page.locator("#finding progress")).to_be_visible()
    expect(page.locator("#stage .image")).to_be_visible()  # the browser shows it meanwhile
    expect(page.locator("#tally")).to_contain_text("0 of 1 predicted")


def test_a_dicom_image_is_shown_as_the_service_reads_it(page: Page) -> None:
    values = drawn_image(1, 5, 256).astype(np.uint16) * 16
    drop(page, study_dcm=dicom_image(values, VOILUTSequence=table(np.arange(4096) * 16, 16), PatientAge="006M"))
    predicted(page, 1)
    expect(page.locator("#stage .image")).to_be_visible()
    expect(page.locator("#finding .alert").first).to_contain_text("under a year")
    screenshot(page, "dicom")


def test_a_service_that_has_gone_is_told_and_asked_again(page: Page) -> None:
    page.route("**/v1/predict*", lambda route: route.abort())
    drop(page, image_png=image(1))
    expect(page.locator("#finding")).to_contain_text("Is it still running?")
    page.unroute("**/v1/predict*")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#finding .probability")).to_be_visible()


def test_a_full_queue_makes_the_page_wait_and_try_again(page: Page) -> None:
    refusals = iter([{"status": 503, "headers": {"Retry-After": "1"}, "body": "{}"}])
    refuse = page.route
    refuse(
        "**/v1/predict*",
        lambda route: route.fulfill(**answer) if (answer := next(refusals, None)) else route.continue_(),
    )
    drop(page, image_png=image(1))
    predicted(page, 1)
    expect(page.locator("#finding .probability")).to_be_visible()


def test_no_name_leaves_the_page(page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    with page.expect_response("**/v1/predict*") as answer:
        drop(page, JaneDoe1970_png=image(1))
    assert answer.value.json()["findings"][0]["path"] == "image"  # the name that the service was given
    assert not any("Jane" in url for url in asked)


def test_the_sample_images_are_there_to_try(page: Page) -> None:
    expect(page.locator(".credit")).to_contain_text("CC BY 4.0")
    page.get_by_role("button", name="Try it with sample images").click()
    predicted(page, 6)
    expect(page.locator("#tally")).to_contain_text("3 pneumonia suspected · 3 no pneumonia seen")
    sent = {path.name for path in (Path(pneumoscope.__file__).parent / "samples").rglob("*.jpeg")}
    assert {row.get_attribute("title") for row in page.locator("#images li .name").all()} == sent
    screenshot(page, "samples")


def test_a_probability_says_how_common_pneumonia_is_taken_to_be(page: Page, service: RunningService) -> None:
    share = service.client.get("/v1/model").json()["card"]["calibration"]["prevalence"]
    page.get_by_role("button", name="Try it with sample images").click()
    predicted(page, 6)
    page.locator("#images li[role=option]").first.click()
    expect(page.locator("#finding")).to_contain_text(f"assumes that {share:.0%}".replace("%", " %"))
    expect(page.locator("#finding")).to_contain_text("The probability lies at or above the threshold")


def test_a_site_unlike_the_training_images_is_told(page: Page) -> None:
    rng = np.random.default_rng(0)
    noise = [png(rng.integers(0, 255, (224, 224), dtype=np.uint8)) for _ in range(20)]
    drop(page, **{f"noise{i}_png": data for i, data in enumerate(noise)})
    predicted(page, 20)
    expect(page.locator("#site")).to_contain_text("of 20 images are unlike those the model was trained on")
