"""The report: one page that needs nothing beside it, says everything, and gives nothing away."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumoscope import Detector
from pneumoscope.data import layouts
from pneumoscope.data.layouts import Sample
from pneumoscope.evaluation.evaluate import Evaluation, evaluate
from pneumoscope.imaging import radiograph
from pneumoscope.reporting import evaluation_page
from tests.builders.pages import Page
from tests.conftest import drawn


def turned(samples: list[Sample]) -> list[Sample]:
    """Swap the truth, so that a good detector errs."""
    return [replace(sample, label=1 - sample.label) for sample in samples]


@pytest.fixture(scope="module")
def detector(tiny_model: Path) -> Detector:
    return Detector(tiny_model)


@pytest.fixture(scope="module")
def result(detector: Detector) -> Evaluation:
    images = drawn(60)
    return evaluate(turned(images[:8]) + images[8:], detector)


@pytest.fixture(scope="module")
def html(result: Evaluation, detector: Detector) -> str:
    return evaluation_page.render(result, detector)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def page_of(samples: list[Sample], detector: Detector) -> Page:
    return Page(evaluation_page.render(evaluate(samples, detector), detector))


def test_the_folder_holds_the_page_and_the_numbers(result: Evaluation, detector: Detector, tmp_path: Path) -> None:
    written = evaluation_page.write(result, detector, tmp_path / "new" / "folder")
    assert written == tmp_path / "new" / "folder" / "report.html"
    curves = (
        "roc",
        "precision_recall",
        "reliability",
        "histogram",
    )  # and nothing under corruption, which was not measured
    assert {path.name for path in written.parent.iterdir()} == {
        "metrics.json",
        "predictions.csv",
        "report.html",
        *(f"{name}.curve.{suffix}" for name in curves for suffix in ("png", "svg")),
    }
    assert json.loads((written.parent / "metrics.json").read_text(encoding="utf-8")) == result.as_dict()


def test_the_curves_are_files_of_their_own(result: Evaluation, detector: Detector, tmp_path: Path) -> None:
    evaluation_page.write(result, detector, tmp_path)
    with Image.open(tmp_path / "roc.curve.png") as image:
        assert min(image.size) > 800
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24) or []}
    assert {(0xB9, 0x4F, 0x00), (0xFF, 0xFF, 0xFF)} <= colours  # not the placeholders that a page replaces
    svg = (tmp_path / "histogram.curve.svg").read_text(encoding="utf-8")
    assert "#0068a8" in svg
    assert "currentColor" not in svg
    assert [path.name for path in radiograph.files(tmp_path) if path.suffix in (".png", ".svg")] == []


def test_every_image_is_a_row_of_the_predictions(
    detector: Detector, draw_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = draw_folder(3, 3)
    broken = folder / "NORMAL" / "broken, too.png"
    broken.write_bytes(b"no image")
    samples = layouts.load(folder)
    result = evaluate(samples, detector)
    evaluation_page.write(result, detector, tmp_path / "out")
    with (tmp_path / "out" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [str(sample.path) for sample in samples if sample.path != broken] + [
        str(broken)
    ]
    assert rows[-1]["error_kind"] == "unsupported"
    assert (rows[-1]["label"], rows[-1]["probability"], rows[-1]["site"]) == ("NORMAL", "", folder.name)
    for row, finding in zip(rows[:-1], result.findings, strict=True):
        assert float(row["probability"]) == pytest.approx(finding.probability, abs=1e-6)
        assert (row["finding"], row["label"]) == (finding.finding, Path(row["path"]).parent.name)
    assert len(layouts.load(tmp_path / "out" / "predictions.csv")) == 7  # it is a data set, too


def test_a_framed_image_may_be_among_the_worst_mistakes(detector: Detector) -> None:
    framed = [
        replace(sample, pixels=np.pad(sample.pixels, ((0, 0), (24, 24)), constant_values=0))
        for sample in turned(drawn(4))
        if sample.pixels is not None
    ]
    result = evaluate([*framed, *turned(drawn(8, seed=90_000))], detector)
    seen = detector.examine((sample.source for sample, _ in result.mistakes()), evidence=True)
    assert len({finding.evidence.shape for finding in seen if finding.evidence is not None}) == 2
    assert Page(evaluation_page.render(result, detector)).images


def test_the_page_says_which_split_was_measured(result: Evaluation, detector: Detector) -> None:
    images = [replace(image, split="train" if i % 3 else "val") for i, image in enumerate(drawn(9))]
    assert "of the splits train (6), val (3)" in " ".join(page_of(images, detector).text.split())
    assert "of the split test" in " ".join(page_of([replace(f, split="test") for f in images], detector).text.split())


def test_the_page_does_not_contradict_the_gate(result: Evaluation, detector: Detector) -> None:
    for gate, said in (
        ({}, "it gives a finding on any image"),
        ({"limit": 1}, "a frontal chest radiograph are rejected"),
    ):
        card = replace(result.card, gate=gate, orientation={})
        text = " ".join(Page(evaluation_page.render(replace(result, card=card), detector)).text.split())
        assert said in text
        assert "also on a lateral view" not in text


def test_the_page_asks_nobody_for_anything(html: str, page: Page) -> None:
    addresses = [
        value or ""
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster")
    ]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert re.findall(r"url\((?!#)|@import|https?:", html) == []
    assert not page.all("script") and not page.all("link") and not page.all("iframe")  # noqa: PT018
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_the_same_evaluation_gives_the_same_page(html: str, result: Evaluation, detector: Detector) -> None:
    assert evaluation_page.render(result, detector) == html


def test_every_figure_stands_there_with_its_interval_and_its_meaning(page: Page, result: Evaluation) -> None:
    assert set(evaluation_page.MEANINGS) == set(result.performance.figures)
    for name, estimate in result.performance.figures.items():
        title, meaning = evaluation_page.MEANINGS[name]
        assert title in page.text
        assert meaning in page.text
        assert str(estimate) in page.text


def test_the_four_curves_are_drawn(page: Page, result: Evaluation) -> None:
    labels = [svg["aria-label"] or "" for svg in page.all("svg")]
    assert [label.split(",")[0] for label in labels[:3]] == [
        "ROC curve",
        "Precision-recall curve",
        "Reliability diagram",
    ]
    assert labels[3].startswith("Histograms")
    assert str(result.performance.figures["auc"]) in labels[0]


def test_figures_take_their_colours_from_the_page(html: str) -> None:
    assert "prefers-color-scheme: dark" in html
    assert "currentColor" in html
    assert "#10111" not in html


def test_people_who_do_not_see_the_page_can_read_it(page: Page) -> None:
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1
    assert all(image["alt"] for image in page.all("img"))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))
    assert all(header["scope"] in ("row", "col") for header in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))


def test_no_two_elements_share_an_id(page: Page) -> None:
    ids = Counter(attributes["id"] for _, attributes in page.elements if attributes.get("id"))
    assert [name for name, n in ids.items() if n > 1] == []
    referred = {(attributes["href"] or "")[1:] for attributes in page.all("use") + page.all("a")}
    assert referred <= set(ids)


def test_the_worst_mistakes_stand_beside_their_evidence(page: Page, result: Evaluation) -> None:
    wrong = result.mistakes(1000)
    assert 0 < len(wrong) <= 12
    assert len(page.images) == 2 * len(wrong)
    for sample, finding in wrong:
        assert str(sample.path).partition("#")[2] in page.text
        assert f"{finding.probability:.3f}" in page.text
    plain, tinted = (Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) for source in page.images[:2])
    assert plain.size == tinted.size
    assert plain.tobytes() != tinted.tobytes()
    assert not plain.getexif()


def test_at_most_twelve_mistakes_are_shown(detector: Detector) -> None:
    page = page_of(turned(drawn(40)), detector)
    assert len(page.images) == 24
    assert "the 12 most confident are shown" in page.text


def test_a_set_without_a_mistake_says_so(detector: Detector, result: Evaluation) -> None:
    wrong = {id(image) for image, _ in result.mistakes(1000)}
    images = [image for image in result.samples if id(image) not in wrong]
    page = page_of(images, detector)
    assert f"every finding on these {len(images)} images is right" in page.text
    assert page.images == []


@pytest.mark.parametrize("label", [0, 1])
def test_images_of_one_class_leave_what_needs_both_undefined(detector: Detector, label: int, tmp_path: Path) -> None:
    samples = [sample for sample in drawn(20) if sample.label == label]
    result = evaluate(samples, detector)
    page = Page(evaluation_page.write(result, detector, tmp_path).read_text(encoding="utf-8"))
    assert "All images are of one class" in page.text
    assert f"All images are {'PNEUMONIA' if label else 'NORMAL'}: " in page.text
    assert "cannot be measured" in page.text
    assert "undefined" in page.text
    assert len(page.all("svg")) == 2
    assert "nan" not in page.text.lower().split()
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))["auc"]["value"] is None


def test_a_single_image_makes_a_report(detector: Detector) -> None:
    assert "on 1 image of 1 patient" in " ".join(page_of(drawn(1), detector).text.split())


def test_images_the_model_was_trained_on_bring_a_warning(detector: Detector, page: Page) -> None:
    assert "used to train or tune" not in page.text
    assert "10 images of 10 were used to train or tune this model" in page_of(drawn(10, seed=10_000), detector).text


def test_names_may_hold_html_and_folders_are_not_told(
    detector: Detector, draw_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = draw_folder(4, 4, name="Jane Doe 1970")
    for path in sorted(folder.glob("*/*.png")):
        path.rename(path.with_name(f"<script>alert('{path.stem}') & co.png"))
    page = page_of(turned(layouts.load(folder)), detector)
    assert page.images
    assert "<script>alert('normal000') & co.png" in page.text
    assert "Jane Doe" not in page.text
    assert not page.all("script")


def test_unreadable_images_are_listed_with_their_reasons(detector: Detector, tmp_path: Path) -> None:
    broken, empty = tmp_path / "broken.png", tmp_path / "empty.jpeg"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    empty.write_bytes(b"")
    images = [*drawn(10), Sample(broken, 1, "a"), Sample(empty, 0, "b")]
    result = evaluate(images, detector)
    page = Page(evaluation_page.render(result, detector))
    for failure in result.failures:
        assert failure.error is not None
        assert Path(failure.path).name in page.text
        assert str(failure.error) in page.text
    assert str(tmp_path) not in page.text


def test_an_image_that_has_gone_since_is_still_named(detector: Detector, draw_folder: Callable[..., Path]) -> None:
    images = turned(layouts.load(draw_folder(4, 4)))
    result = evaluate(images, detector)
    gone = result.mistakes()[0][0].path
    gone.unlink()
    page = Page(evaluation_page.render(result, detector))
    assert gone.name in page.text
    assert "can no longer be read" in page.text
    assert len(page.images) == 2 * (len(result.mistakes()) - 1)


def test_results_by_subtype_are_told(page: Page, result: Evaluation) -> None:
    n, _ = result.subtypes["virus"]
    assert re.search(rf"virus\s*{n}\s*\d", page.text)


def test_the_models_card_is_told(page: Page, result: Evaluation) -> None:
    card = result.card
    for said in (
        card.architecture,
        card.calibration.threshold_reason,
        card.calibration.uncertain_reason,
        card.licence,
        card.intended_use,
        f"{card.data['training']['images']} images of {card.data['training']['patients']} patients",
        card.data["fingerprint"][:16],
    ):
        assert said in page.text
    assert "approximate" in page.text  # the tiny model's head is not linear


def test_a_bare_card_and_what_it_says_besides_are_told(result: Evaluation, detector: Detector) -> None:
    bare = replace(result.card, recipe={}, metrics={}, data={"population": "children of <one> hospital"})
    page = Page(evaluation_page.render(replace(result, card=bare), detector))
    assert "children of <one> hospital" in page.text


def test_it_is_no_medical_device(page: Page) -> None:
    assert page.text.index("Not a medical device") < page.text.index("In short")
