"""The page on paper, on a phone, in either light, locked, and for people who do not see it."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="serving is not installed")
pytest.importorskip("playwright", reason="there is no Playwright to drive a browser with")

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from pneumoscope import Detector
from tests.builders.browsing import NEEDS_CHROMIUM, drop, predicted, screenshot
from tests.builders.serving import RunningService, image, lenient, running_service

pytestmark = NEEDS_CHROMIUM

PHONE = {"width": 390, "height": 844}

SIZES = [
    (360, 740),
    (390, 844),
    (768, 1024),
    (820, 1180),
    (844, 390),
    (1024, 768),
    (1180, 820),
    (1440, 900),
    (2560, 1440),
]

TOKEN = "a token for the page"


def serious(page: Page) -> list[str]:
    """Say what axe-core finds that keeps people out."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in ("serious", "critical")]


def test_the_report_holds_the_image_the_finding_the_card_and_the_limits(shown: Page, tmp_path: Path) -> None:
    shown.get_by_role("button", name="Report").click()
    paper = shown.locator("#paper")
    auc = Detector(lenient()).card.metrics["auc"]["value"]
    for said in ("Not a medical device", "image.png", "probability of pneumonia", "With its evidence map",
                 f"AUC {auc:.3f}", "Guangzhou", "not for diagnosis"):  # fmt: skip
        expect(paper).to_contain_text(said)
    screenshot(shown, "report")
    image, caption, model = (
        shown.locator(f"#paper {part}").first.bounding_box() for part in (".plate canvas", "figcaption", "h3")
    )
    assert image
    assert caption
    assert model
    assert image["y"] + image["height"] <= caption["y"]  # nothing lies under the image
    assert caption["y"] + caption["height"] <= model["y"]
    shown.pdf(path=tmp_path / "report.pdf", format="A4", print_background=True)
    assert len(re.findall(rb"/Type\s*/Page\b", (tmp_path / "report.pdf").read_bytes())) == 1


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_axe_finds_no_serious_fault(several: Page, theme: str) -> None:
    if theme == "light":
        several.get_by_role("button", name="Light room").click()
    expect(several.locator("html")).to_have_attribute("data-theme", theme)
    assert serious(several) == []
    several.locator("#images li.rejected").click()
    several.get_by_text("The model and its limits").click()
    assert serious(several) == []
    several.get_by_role("button", name="Report").click()
    assert serious(several) == []
    several.get_by_role("button", name="Close").click()
    several.get_by_role("button", name="Keys and mouse").click()
    assert serious(several) == []
    several.get_by_role("button", name="Close").click()
    several.set_viewport_size(PHONE)  # type: ignore[arg-type]
    assert serious(several) == []
    several.get_by_role("button", name="Clear").click()
    assert serious(several) == []


def test_the_light_room_is_remembered(page: Page) -> None:
    page.get_by_role("button", name="Light room").click()
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    screenshot(page, "light")


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_nothing_covers_another_part_at_any_size(page: Page, width: int, height: int) -> None:
    """The parts lie beside or below each other, none is cut off sideways, and the image keeps a fair share."""
    page.set_viewport_size({"width": width, "height": height})
    page.get_by_role("button", name="Try it with sample images").click()
    predicted(page, 6)
    page.locator("#images li", has_text="person1954").click()
    page.wait_for_timeout(200)
    page.evaluate("document.querySelector('main').scrollTop = 0")
    boxes = page.evaluate(
        """() => Object.fromEntries(["#panes", "#tools", "#finding", "#worklist", "body > header"].map((part) => {
            const { left, top, right, bottom } = document.querySelector(part).getBoundingClientRect();
            return [part, [left, top + scrollY, right, bottom + scrollY]]; }))"""
    )
    for (one, a), (other, b) in itertools.combinations(boxes.items(), 2):
        across = min(a[2], b[2]) - max(a[0], b[0])
        down = min(a[3], b[3]) - max(a[1], b[1])
        assert across <= 1 or down <= 1, (one, other)
    for part, (left, _, right, _) in boxes.items():
        assert -1 <= left < right <= width + 1, part
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    left, top, right, bottom = boxes["#panes"]
    assert (right - left) * (bottom - top) >= 0.25 * width * height
    for part in ("#finding .word", "#finding .scale", "#images li >> nth=0"):
        page.locator(part).scroll_into_view_if_needed()
        expect(page.locator(part)).to_be_in_viewport()
    screenshot(page, f"size-{width}x{height}")


def test_a_phone_shows_everything_without_scrolling_sideways(several: Page) -> None:
    several.set_viewport_size(PHONE)  # type: ignore[arg-type]
    assert several.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for part in ("#stage", "#tools", "#finding", "#images", "#csv"):
        several.locator(part).scroll_into_view_if_needed()
        expect(several.locator(part)).to_be_in_viewport()
    several.locator("#images li").last.click()
    expect(several.locator("#stage")).to_be_in_viewport()
    screenshot(several, "phone")


def test_the_services_own_page_is_there_without_another_host(page: Page, service: RunningService) -> None:
    page.goto(f"{service.url}/docs")
    expect(page.get_by_role("heading", name="/v1/predict/stream")).to_be_visible()
    assert serious(page) == []
    screenshot(page, "docs")


def test_a_locked_service_asks_for_the_token_or_takes_it_from_the_address(browser: Browser) -> None:
    with running_service(token=TOKEN) as locked:
        page = browser.new_page()
        page.goto(locked.url)
        page.locator("#token-input").fill("wrong")
        page.get_by_role("button", name="Go on").click()
        expect(page.locator("#token-input")).to_be_visible()
        page.locator("#token-input").fill(TOKEN)
        page.get_by_role("button", name="Go on").click()
        expect(page.locator("#trained")).to_contain_text("Children")
        page.close()
        page = browser.new_page()
        page.goto(f"{locked.url}/#token={TOKEN.replace(' ', '%20')}")
        expect(page.locator("#trained")).to_contain_text("Children")
        assert "token" not in page.url
        drop(page, image_png=image(1))
        predicted(page, 1)
        page.close()
