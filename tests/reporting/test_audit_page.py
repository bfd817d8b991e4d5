"""The page of an audit: every fault with its advice, readable by everybody, and the same each time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pneumoscope.auditing.audit import audit
from pneumoscope.auditing.result import Audit
from pneumoscope.cli.main import app
from pneumoscope.data import layouts
from pneumoscope.data.layouts import Sample
from pneumoscope.reporting import audit_page
from tests.builders.audits import chest, faulty_folder, kinds, save
from tests.builders.pages import Page


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return faulty_folder(tmp_path_factory.mktemp("data") / "chest_xray")


@pytest.fixture(scope="module")
def found(faulty: Path) -> Audit:
    return audit(layouts.load(faulty, complete=False))


@pytest.fixture(scope="module")
def page(found: Audit) -> Page:
    return Page(audit_page.render(found))


def test_the_folder_holds_the_page_and_everything_for_programs(found: Audit, tmp_path: Path) -> None:
    written = audit_page.write(found, tmp_path / "new" / "folder")
    assert written == tmp_path / "new" / "folder" / "audit.html"
    assert sorted(path.name for path in written.parent.iterdir()) == ["audit.html", "audit.json"]
    told = json.loads((written.parent / "audit.json").read_text(encoding="utf-8"))
    assert told["images"] == 84
    assert {fault["kind"] for fault in told["faults"]} == set(kinds(found))
    assert [entry["error"]["kind"] for entry in told["unreadable"]] == ["unreadable"]
    assert told["identical"]["pairs"] == 2
    assert [group["across"] for group in told["near_duplicates"]["groups"]] == [["patients"]]
    assert len(told["patients_across_splits"]) == 1
    assert {"value", "low", "high"} == set(told["shortcuts"][0]["auc"])


def test_every_fault_stands_on_the_page_with_its_advice(page: Page, found: Audit) -> None:
    assert len(found.faults) >= 8
    text = " ".join(page.text.split())
    for fault in found.faults:
        assert f"{fault.severity.capitalize()}: {fault.text}" in text
        assert fault.advice in text


def test_copies_stand_side_by_side_under_their_names(page: Page, found: Audit) -> None:
    assert len(page.images) == sum(len(group.samples) for group in found.identical + found.near) == 6
    assert all(image.startswith("data:image/jpeg;base64,") for image in page.images)
    for name in ("train/NORMAL/copy.jpg", "train/PNEUMONIA/<b>bold & co.png", "val/PNEUMONIA/person1_virus_2.tiff"):
        assert name in page.text


def test_the_page_asks_nobody_for_anything(page: Page) -> None:
    addresses = [
        value or "" for _, attributes in page.elements for name, value in attributes.items() if name in ("src", "href")
    ]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not page.all("script")
    assert all("style" in mark for mark in page.all("b"))  # none comes from the name of an image


def test_people_who_do_not_see_the_page_can_read_it(page: Page) -> None:
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1
    assert all(image["alt"] for image in page.all("img"))
    assert all(header["scope"] in ("row", "col") for header in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))


def test_the_same_audit_gives_the_same_page(found: Audit, faulty: Path) -> None:
    again = audit(layouts.load(faulty, complete=False))
    assert audit_page.render(again) == audit_page.render(found)
    assert again.as_dict() == found.as_dict()


def test_an_image_that_has_gone_since_is_still_named(tmp_path: Path) -> None:
    images = [Sample(save(chest(0), tmp_path / f"{name}.png"), 0, name) for name in "ab"]
    found = audit(images)
    images[1].path.unlink()
    page = Page(audit_page.render(found))
    assert len(page.images) == 1
    assert "can no longer be read" in page.text


def test_patients_that_a_csv_names_are_not_told(tmp_path: Path) -> None:
    rows = ["path,label,patient,split"]
    for i in range(6):
        save(chest(i % 5), tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{i % 2},Jane Doe {i % 3},{'train' if i < 4 else 'test'}")
    (tmp_path / "images.csv").write_text("\n".join(rows))
    done = CliRunner().invoke(app, ["audit", str(tmp_path / "images.csv"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "out" / "audit.json").read_text())["patients_across_splits"]
    for told in (done.output, *((tmp_path / "out" / name).read_text() for name in ("audit.html", "audit.json"))):
        assert "Jane Doe" not in told
