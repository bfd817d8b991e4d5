"""The six radiographs that come with the package: attributed, unchanged, and read rightly by the shipped model."""

from __future__ import annotations

from pathlib import Path

import pneumoscope
from pneumoscope import Detector

SAMPLES = Path(pneumoscope.__file__).parent / "samples"
IMAGES = sorted(SAMPLES.rglob("*.jpeg"))


def test_there_are_three_of_each_class_and_each_is_attributed() -> None:
    text = (SAMPLES / "README.md").read_text(encoding="utf-8")
    assert [image.parent.name for image in IMAGES] == ["NORMAL"] * 3 + ["PNEUMONIA"] * 3
    for image in IMAGES:
        assert f"`{image.parent.name}/{image.name}`" in text
    for credit in ("Kermany", "Zhang", "Goldbaum", "CC BY 4.0", "10.17632/rscbjbr9sj.2"):
        assert credit in text


def test_they_are_the_data_sets_own_files(data: Path) -> None:
    for image in IMAGES:
        original = data / "kermany_original" / "val" / image.parent.name / image.name
        assert image.read_bytes() == original.read_bytes()


def test_the_shipped_model_gives_each_its_class_without_a_warning() -> None:
    for finding in Detector().examine(IMAGES):
        assert (finding.finding, finding.warnings) == (Path(finding.path).parent.name, ())
