"""The page as a person meets it: in a real browser, with a mouse, with keys alone, on a desk and on a phone."""

from __future__ import annotations

import base64
import csv
import io
import itertools
import json
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="serving is not installed")
pytest.importorskip("playwright", reason="there is no Playwright to drive a browser with")

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Dialog, Page, expect

import pneumoscope
from pneumoscope import Detector
from pneumoscope.reporting.writers import COLUMNS
from tests.builders.browsing import NEEDS_CHROMIUM, watched
from tests.builders.dicoms import image as dicom_image
from tests.builders.dicoms import table
from tests.builders.serving import MODEL_SIZE, RunningService, image, lenient, png, running_service
from tests.conftest import ROOT, drawn_image

pytestmark = NEEDS_CHROMIUM

ARTEFACTS = Path(os.environ.get("PNEUMOSCOPE_ARTEFACTS", ROOT / "artefacts"))
DESK = {"width": 1440, "height": 900}
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

WORDS = {"NORMAL": "No pneumonia seen", "PNEUMONIA": "Pneumonia suspected"}

_DROP = """([files]) => {
    const data = new DataTransfer();
    for (const [name, text] of files)
        data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
    for (const type of ["dragenter", "drop"])
        document.body.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
}"""
_PIXEL = """() => { const c = document.querySelector("#stage .image");
    return [...c.getContext("2d").getImageData(c.width / 2, c.height / 2, 1, 1).data][0]; }"""


@pytest.fixture
def page(browser: Browser, service: RunningService) -> Iterator[Page]:
    """The page, opened; a fault in its scripts or a broken content policy fails the test."""
    with watched(browser, (service.url, "blob:"), viewport=DESK) as page:
        page.goto(service.url)
        yield page


def drop(page: Page, **images: bytes) -> None:
    """Drop files onto the page; their names are given with `_` for the dot."""
    files = [[re.sub("_(?=[a-z]+$)", ".", name), base64.b64encode(data).decode()] for name, data in images.items()]
    page.evaluate(_DROP, [files])


def predicted(page: Page, n: int) -> None:
    """Wait until so many images, which are all, are predicted."""
    expect(page.locator("#tally")).to_contain_text(re.compile(rf"^{n} images?\b"), timeout=60_000)


def screenshot(page: Page, name: str) -> None:
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"{name}.png")


def probable(probability: float | None) -> str:
    """Write a probability as the page does: none is certain."""
    assert probability is not None
    return "> 0.99" if probability > 0.99 else "< 0.01" if probability < 0.01 else f"{probability:.2f}"


def slide(page: Page, name: str, value: int) -> None:
    page.locator(f"#{name}").fill(str(value))


def serious(page: Page) -> list[str]:
    """Say what axe-core finds that keeps people out."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in ("serious", "critical")]


# --- images come in


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


# --- the image


@pytest.fixture
def shown(page: Page) -> Page:
    """The page with one image, predicted."""
    drop(page, image_png=image(1, 9))
    predicted(page, 1)
    expect(page.locator("#finding .probability")).to_be_visible()
    expect(page.locator("#stage .window")).to_contain_text("%")  # the image itself is there
    page.wait_for_function(f"({_PIXEL})() > 0")  # and painted
    return page


def test_a_drag_changes_the_window_and_reset_takes_it_back(shown: Page) -> None:
    before = shown.evaluate(_PIXEL)
    shown.mouse.move(700, 400)
    shown.mouse.down()
    shown.mouse.move(700, 320, steps=4)  # up: brighter
    shown.mouse.up()
    expect(shown.locator("#stage .window")).not_to_contain_text("L 128")
    shown.wait_for_function(f"before => ({_PIXEL})() > before", arg=before)
    shown.locator("#reset").click()
    shown.wait_for_function(f"before => ({_PIXEL})() === before", arg=before)


def test_sliders_do_what_a_drag_does(shown: Page) -> None:
    before = shown.evaluate(_PIXEL)
    slide(shown, "brightness", 70)
    shown.wait_for_function(f"before => ({_PIXEL})() > before", arg=before)
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
    before = shown.evaluate(_PIXEL)
    shown.locator("#invert").click()
    expect(shown.locator("#invert")).to_have_attribute("aria-pressed", "true")
    shown.wait_for_function(f"before => ({_PIXEL})() === 255 - before", arg=before)


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


# --- many images


@pytest.fixture
def several(page: Page) -> Page:
    drop(page, **{f"image{i}_png": image(i % 2, i) for i in range(9)}, **{"-evil_png": b"no image"})
    predicted(page, 10)
    return page


def test_the_list_is_filtered_and_sorted(several: Page) -> None:
    rows = several.locator("#images li")
    numbers = [float(text) for text in rows.locator(".number").all_inner_texts() if text]
    assert numbers == sorted(numbers, reverse=True)
    several.locator("#show").select_option("rejected")
    expect(rows).to_have_count(1)
    expect(several.locator("#tally")).to_contain_text("1 shown")
    several.locator("#show").select_option("all")
    several.locator("#search").fill("image3")
    expect(rows).to_have_count(1)
    several.locator("#search").fill("")
    several.locator("#order").select_option("name")
    expect(rows.locator(".name")).to_have_text(["-evil.png", *(f"image{i}.png" for i in range(9))])
    screenshot(several, "many")


def test_a_short_name_stands_whole_and_of_a_long_one_both_ends_do(page: Page) -> None:
    names = {"b_dcm", "00000181_006_jpg", "a_long_name_of_a_study_with_its_number_at_the_end_000001_png"}
    drop(page, **dict.fromkeys(names, image(1)))
    predicted(page, 3)
    gaps = """row => { const [whole, head, tail] = [row, ...row.children].map((node) => node.getBoundingClientRect());
        const begin = head.width ? head.left : tail.left, between = head.width ? tail.left - head.right : 0;
        return [begin - whole.left, between, row.scrollWidth - row.clientWidth]; }"""
    for row in page.locator("#images .name").all():
        assert max(row.evaluate(gaps)) <= 1, row.get_attribute("title")


def test_files_of_a_folder_are_told_apart_by_their_paths(page: Page, tmp_path: Path) -> None:
    for series in ("S1", "S2"):
        (tmp_path / "study" / series).mkdir(parents=True)
        (tmp_path / "study" / series / "I1.png").write_bytes(image(1))
    page.locator("#folder").set_input_files(tmp_path / "study")
    predicted(page, 2)
    page.locator("#order").select_option("name")
    expect(page.locator("#images li .name")).to_have_text(["study/S1/I1.png", "study/S2/I1.png"])


def test_the_csv_is_what_the_command_writes(several: Page) -> None:
    with several.expect_download() as download:
        several.get_by_role("button", name="Export CSV").click()
    text = Path(download.value.path()).read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 10
    bad = next(row for row in rows if row["error_kind"])
    assert bad["path"] == "'-evil.png"  # no spreadsheet takes it for a formula
    (expected,) = Detector(lenient()).examine([image(1, 3)])
    good = next(row for row in rows if row["path"] == "image3.png")
    assert float(good["probability"]) == pytest.approx(expected.probability, abs=2e-5)
    assert good["finding"] == expected.finding
    assert good["uncertain"] == str(expected.uncertain)
    assert good["warnings"] == ";".join(expected.warnings)


def test_the_json_says_what_it_rests_on(several: Page) -> None:
    with several.expect_download() as download:
        several.get_by_role("button", name="Export JSON").click()
    content: dict[str, Any] = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert "Not a medical device" in content["notice"]
    assert content["model"]["calibration"]["threshold"] == Detector(lenient()).card.calibration.threshold
    assert len(content["findings"]) == 10
    keys = ("path", "probability", "finding", "uncertain", "threshold", "warnings", "error")
    assert all(tuple(row) == keys for row in content["findings"])


def test_what_a_person_notes_is_kept_and_exported(several: Page) -> None:
    several.locator("#images li", has_text="image3.png").click()
    several.get_by_role("button", name="Disagree").click()
    several.get_by_label("Note").fill('old scar, "healed"')
    expect(several.locator("#images li", has_text="image3.png").locator(".short")).to_contain_text("disagreed")
    with several.expect_download() as download:
        several.get_by_role("button", name="Export CSV").click()
    rows = list(csv.DictReader(Path(download.value.path()).read_text(encoding="utf-8").splitlines()))
    noted = {row["path"]: (row["review"], row["review_note"]) for row in rows}
    assert noted["image3.png"] == ("disagree", 'old scar, "healed"')
    assert noted["image4.png"] == ("", "")
    with several.expect_download() as download:
        several.get_by_role("button", name="Export JSON").click()
    content = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert next(row for row in content["findings"] if row["path"] == "image3.png")["review"] == "disagree"
    several.get_by_role("button", name="Clear").click()
    drop(several, again_png=image(1, 3))  # the same image under another name
    predicted(several, 1)
    expect(several.get_by_role("button", name="Disagree")).to_have_attribute("aria-pressed", "true")
    expect(several.get_by_label("Note")).to_have_value('old scar, "healed"')


def test_a_reload_asks_before_it_empties_a_list(several: Page) -> None:
    asked: list[str] = []

    def leave(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.accept()

    several.on("dialog", leave)
    several.locator("#stage").click()  # browsers ask only where a person has done something
    several.reload()
    assert asked == ["beforeunload"]
    several.reload()  # nothing is lost now
    assert asked == ["beforeunload"]


def test_a_zip_archive_is_unpacked_without_what_is_no_image(page: Page) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("study/two.png", image(1, 2), zipfile.ZIP_DEFLATED)
        archive.writestr("study/series/one.png", image(0, 3), zipfile.ZIP_STORED)
        archive.writestr("study/three.png", image(1, 4), zipfile.ZIP_DEFLATED)
        for name in ("study/DICOMDIR", "study/.hidden", "__MACOSX/study/._one.png"):
            archive.writestr(name, b"nothing")
    drop(page, study_zip=file.getvalue())
    predicted(page, 3)
    page.locator("#order").select_option("arrival")
    expect(page.locator("#images li .name")).to_have_text(["study/two.png", "study/series/one.png", "study/three.png"])


def test_a_damaged_zip_archive_has_a_row_that_says_so(page: Page) -> None:
    drop(page, study_zip=b"PK\x03\x04 damaged")
    predicted(page, 1)
    expect(page.locator("#images li .short")).to_contain_text("Not an image that is read")


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


# --- on paper, on a phone, for everybody


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
