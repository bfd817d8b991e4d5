"""The page's image: its window, its place, its evidence, its header, with a mouse or with keys alone."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="serving is not installed")
pytest.importorskip("playwright", reason="there is no Playwright to drive a browser with")

from playwright.sync_api import Page, expect

from tests.builders.browsing import NEEDS_CHROMIUM, PIXEL, drop, predicted, screenshot
from tests.builders.dicoms import image as dicom_image
from tests.builders.serving import MODEL_SIZE, image, png
from tests.conftest import drawn_image

pytestmark = NEEDS_CHROMIUM


def slide(page: Page, name: str, value: int) -> None:
    page.locator(f"#{name}").fill(str(value))


def test_a_drag_changes_the_window_and_reset_takes_it_back(shown: Page) -> None:
    before = shown.evaluate(PIXEL)
    shown.mouse.move(700, 400)
    shown.mouse.down()
    shown.mouse.move(700, 320, steps=4)  # up: brighter
    shown.mouse.up()
    expect(shown.locator("#stage .window")).not_to_contain_text("L 128")
    shown.wait_for_function(f"before => ({PIXEL})() > before", arg=before)
    shown.locator("#reset").click()
    shown.wait_for_function(f"before => ({PIXEL})() === before", arg=before)


def test_sliders_do_what_a_drag_does(shown: Page) -> None:
    before = shown.evaluate(PIXEL)
    slide(shown, "brightness", 70)
    shown.wait_for_function(f"before => ({PIXEL})() > before", arg=before)
    slide(shown, "contrast", 80)
    expect(shown.locator("#stage .window")).to_contain_text("W 111")


def test_sliders_stand_where_the_window_of_another_image_is(page: Page) -> None:
    drop(page, one_png=image(1, 9), two_png=image(1, 3))
    predicted(page, 2)
    expect(page.locator("#stage .window")).to_contain_text("%")
    slide(page, "brightness", 70)
    page.keyboard.press("j")
    page.keyboard.press("k")
    expect(page.locator("#stage .window")).to_contain_text("L 128")
    expect(page.locator("#brightness")).to_have_value("50")


def test_inversion_turns_black_to_white(shown: Page) -> None:
    before = shown.evaluate(PIXEL)
    shown.locator("#invert").click()
    expect(shown.locator("#invert")).to_have_attribute("aria-pressed", "true")
    shown.wait_for_function(f"before => ({PIXEL})() === 255 - before", arg=before)


def test_the_wheel_zooms_in_small_steps_to_the_pointer_and_a_right_drag_moves(shown: Page) -> None:
    plate = shown.locator("#stage .image")
    whole = plate.bounding_box()
    shown.mouse.move(600, 300)
    for _ in range(5):
        shown.mouse.wheel(0, -100)
    shown.wait_for_timeout(100)
    large = plate.bounding_box()
    assert whole
    assert large
    assert large["width"] == pytest.approx(1.1**5 * whole["width"], rel=0.01)
    at = [(600 - box["x"]) / box["width"] for box in (whole, large)]
    assert at[0] == pytest.approx(at[1], abs=0.01)  # what lay under the pointer still does
    shown.mouse.down(button="right")
    shown.mouse.move(640, 300)
    shown.mouse.up(button="right")
    moved = plate.bounding_box()
    assert moved
    assert moved["x"] == pytest.approx(large["x"] + 40, abs=1)
    shown.mouse.dblclick(700, 400)
    assert plate.bounding_box() == whole


def test_actual_size_shows_a_pixel_as_a_pixel(shown: Page) -> None:
    shown.keyboard.press("1")
    expect(shown.locator("#stage .window")).to_contain_text("100 %")
    plate = shown.locator("#stage .image").bounding_box()
    assert plate
    assert (plate["width"], plate["height"]) == (MODEL_SIZE, MODEL_SIZE)


def test_an_image_is_turned_and_flipped_as_it_is_seen(page: Page) -> None:
    """The corner that is bright at first, top left, is found where each key should have brought it."""
    pixels = drawn_image(1, 3, 128)
    pixels[:40, :40] = 255
    drop(page, corner_png=png(pixels))
    predicted(page, 1)
    expect(page.locator("#stage .window")).to_contain_text("%")
    page.keyboard.press("0")

    def bright() -> str:
        """Name the corner of the stage's image that the image's own top left corner lies at."""
        return str(
            page.evaluate(
                """async () => {
            const { plate } = { plate: document.querySelector("#stage .plate") };
            const m = new DOMMatrix(getComputedStyle(plate).transform);
            const [x, y] = [-m.a - m.c, -m.b - m.d]; // where the top left corner points, from the middle
            return `${y < 0 ? "top" : "bottom"} ${x < 0 ? "left" : "right"}`;
        }"""
            )
        )

    assert bright() == "top left"
    for key, corner in (("t", "top right"), ("f", "top left"), ("t", "top right"), ("r", "top left")):
        page.keyboard.press(key)
        assert bright() == corner, key


def test_evidence_is_off_until_asked_for_where_no_pneumonia_is_seen(page: Page) -> None:
    drop(page, normal_png=image(0, 1), pneumonia_png=image(1, 9))
    predicted(page, 2)
    for row in page.locator("#images li").all():
        row.click()
        suspected = "pneumonia" in str(row.get_attribute("class"))
        expect(page.locator("#stage .evidence")).to_be_visible(visible=suspected)
        expect(page.locator("#tint")).to_have_attribute("aria-pressed", str(suspected).lower())


def test_the_evidence_lies_over_the_image_as_strongly_as_wished(shown: Page) -> None:
    evidence = shown.locator("#stage .evidence")
    slide(shown, "opacity", 80)
    expect(evidence).to_be_visible()
    expect(evidence).to_have_css("opacity", "0.8")
    shown.keyboard.press("e")
    expect(evidence).to_be_hidden()
    shown.keyboard.press("e")
    expect(evidence).to_be_visible()
    expect(shown.locator(".legend").first).to_contain_text("for pneumonia")
    assert shown.locator("#stage .image").bounding_box() == evidence.bounding_box()


def test_the_outline_encloses_the_strongest_evidence(shown: Page) -> None:
    shown.keyboard.press("o")
    cells = shown.evaluate("""async () => {
        const { outline } = await import("./evidence.js");
        const cells = Array.from({ length: 6 }, () => Array(6).fill(-1));
        cells[2][3] = 4; // its centre lies at (3.5, 2.5) sixths
        return [outline({ cells }), outline({ cells: [[-1, -1], [-1, -1]] })];
    }""")
    places = [float(number) for number in re.findall(r"[\d.]+", cells[0])]
    xs, ys = places[::2], places[1::2]
    assert min(xs) < 3.5 / 6 < max(xs) < 4.5 / 6
    assert min(ys) < 2.5 / 6 < max(ys) < 3.5 / 6
    assert cells[1] == ""
    assert len(shown.locator("#stage .contour path").get_attribute("d") or "") > 100


def test_side_by_side_shows_the_evidence_or_another_image(page: Page) -> None:
    drop(page, one_png=image(1, 9), two_png=image(1, 3))
    predicted(page, 2)
    page.locator("#layout").select_option("evidence")
    expect(page.locator("#stage-2 .evidence")).to_be_visible()
    expect(page.locator("#stage .evidence")).to_be_hidden()
    names = [page.locator(f"{stage} .corner.name") for stage in ("#stage", "#stage-2")]
    assert names[0].inner_text() == names[1].inner_text()
    page.locator("#layout").select_option("two")
    first = names[0].inner_text()
    other = page.locator("#images li", has_not=page.locator("[title=none]")).filter(has_not_text=first)
    other.first.click()
    expect(names[1]).to_have_text(first)
    expect(names[0]).not_to_have_text(first)
    expect(page.locator("#stage-2 .image")).to_be_visible()
    screenshot(page, "side-by-side")


def test_a_dicom_image_is_windowed_in_its_own_units_with_all_bits(page: Page) -> None:
    values = drawn_image(1, 5, 256).astype(np.uint16) * 16
    values[:128, :] |= 1  # what 8 bits do not hold
    header: dict[str, Any] = {
        "RescaleIntercept": "-1000",
        "RescaleSlope": "1",
        "RescaleType": "HU",
        "ImagerPixelSpacing": [0.5, 0.5],
    }
    windows: dict[str, Any] = {
        "WindowCenter": [1000, 200],
        "WindowWidth": [4000, 300],
        "WindowCenterWidthExplanation": ["WIDE", "LUNGS"],
    }
    drop(page, study_dcm=dicom_image(values, **header, **windows))
    predicted(page, 1)
    tells = page.locator("#stage .window")
    expect(tells).to_contain_text("as read")
    expect(page.locator("#preset option")).to_have_text(
        ["Preset…", "As read", "WIDE (header)", "LUNGS (header)", "Full", "Lung", "Bone"]
    )
    page.locator("#preset").select_option(label="LUNGS (header)")
    expect(tells).to_contain_text("W 300   L 200 HU")
    page.locator("#stage").hover(position={"x": 200, "y": 60})
    told = page.locator("#stage .value")
    expect(told).to_contain_text("HU")
    x, y, value = (int(number) for number in re.findall(r"-?\d+", told.inner_text()))
    assert value == int(values[y, x]) - 1000
    page.keyboard.press("l")
    box = page.locator("#stage .image").bounding_box()
    assert box
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 4, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 3 / 4, middle)
    page.mouse.up()
    length = re.fullmatch(r"([\d.]+) mm", page.locator("#stage .length").inner_text())
    assert length
    assert float(length[1]) == pytest.approx(64, abs=1)  # half of 256 pixels of 0.5 mm
    screenshot(page, "dicom")


def test_the_study_header_is_shown_from_the_file_and_sent_nowhere(page: Page) -> None:
    sent: list[bytes] = []
    page.on("request", lambda request: sent.append(request.url.encode()))
    drop(page, study_dcm=dicom_image(drawn_image(1, 5, 64).astype(np.uint16), StudyDate="20260131"))
    predicted(page, 1)
    expect(page.locator("#stage .study")).to_be_hidden()
    page.get_by_role("button", name="Study header").click()
    expect(page.locator("#stage .study")).to_contain_text("MARKER NAME   MARKER-ID   born 1901-02-03")
    expect(page.locator("#stage .study")).to_contain_text("2026-01-31")
    assert not any(b"MARKER" in url for url in sent)
    assert "MARKER" not in page.evaluate("JSON.stringify({ ...localStorage, ...sessionStorage })")


def test_a_study_header_stands_on_its_own_image_alone(page: Page) -> None:
    for name, patient in (("one_dcm", "FIRST^NAME"), ("two_dcm", "SECOND^NAME")):
        drop(page, **{name: dicom_image(drawn_image(1, 5, 64).astype(np.uint16), PatientName=patient)})
    predicted(page, 2)
    rows = {name: page.locator("#images li", has_text=name) for name in ("one.dcm", "two.dcm")}
    rows["one.dcm"].click()
    page.get_by_role("button", name="Study header").click()
    page.locator("#layout").select_option("two")
    rows["two.dcm"].click()
    first, second = page.locator("#stage .study"), page.locator("#stage-2 .study")
    expect(first).to_contain_text("SECOND NAME")
    expect(second).to_contain_text("FIRST NAME")
    page.get_by_role("button", name="Study header").click()
    for study in (first, second):
        expect(study).to_be_hidden()


def test_keys_alone_are_enough_and_work_at_once(page: Page) -> None:
    drop(page, one_png=image(0, 1), two_png=image(1, 2), three_png=image(1, 3))
    predicted(page, 3)
    first = page.locator("#finding h2").inner_text()
    shown = page.locator("#stage .window")
    expect(shown).to_contain_text("%")
    for key in ("i", "+", "Shift+ArrowUp"):  # nothing was clicked
        page.keyboard.press(key)
    expect(shown).to_have_text(re.compile(r"L 133 .*inverted"))
    page.keyboard.press("r")
    expect(shown).to_have_text(re.compile(r"L 128\s+\d+ %$"))
    page.keyboard.press("?")
    expect(page.get_by_role("heading", name="Keys and mouse")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="Keys and mouse")).to_be_hidden()
    page.locator("#order").focus()
    page.keyboard.press("Tab")
    expect(page.locator("#images")).to_be_focused()
    page.keyboard.press("Home")
    top = page.locator("#finding h2").inner_text()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#finding h2")).not_to_have_text(top)
    page.keyboard.press("ArrowUp")
    expect(page.locator("#finding h2")).to_have_text(top)
    page.keyboard.press("j")
    expect(page.locator("#finding h2")).not_to_have_text(top)
    assert first
    page.locator("#search").fill("i+?")  # a person who writes presses no keys of the viewer
    expect(shown).not_to_contain_text("inverted")
