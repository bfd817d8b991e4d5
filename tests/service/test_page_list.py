"""The page's list of many images: sorted, filtered, exported, and unpacked from archives."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="serving is not installed")
pytest.importorskip("playwright", reason="there is no Playwright to drive a browser with")

from playwright.sync_api import Dialog, Page, expect

from pneumoscope import Detector
from pneumoscope.reporting.writers import COLUMNS
from tests.builders.browsing import NEEDS_CHROMIUM, drop, predicted, screenshot
from tests.builders.serving import image, lenient

pytestmark = NEEDS_CHROMIUM


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
