"""The documents: their figures are the model card's, their programs run, their links and pictures are there."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

import readme_figures  # a script, not a package

DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
LINK = re.compile(r"\]\(([^)\s]+)\)")
MADE = {"reference/command-line.md", "changelog.md", "contributing.md", "security.md", "tutorials/six-samples.md"}
"""Pages that exist in the site alone: scripts/site_pages.py makes them."""


@pytest.mark.parametrize("page", readme_figures.PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_has_the_figures_of_the_model_card(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    table = readme_figures.figures(readme_figures.CARD.read_text(encoding="utf-8"))
    assert len(re.findall(r"\d\.\d{3} \(\d\.\d{3}–\d\.\d{3}\)", table)) == 10
    assert readme_figures.filled(text, table) == text


def test_the_table_takes_what_a_new_card_says_and_says_what_a_card_lacks() -> None:
    card = readme_figures.CARD.read_text(encoding="utf-8")
    assert "| 0.777 (" in readme_figures.figures(re.sub(r"(\| Guangzhou \| [^|]+ \| )0\.\d{3}", r"\g<1>0.777", card))
    with pytest.raises(ValueError, match="Bethesda PA"):
        readme_figures.figures(card.replace("| Bethesda PA |", "| Elsewhere PA |"))


def test_the_readme_is_short_and_its_program_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 150
    monkeypatch.chdir(ROOT)
    exec(readme.partition("```python\n")[2].partition("```")[0], {})
    assert capsys.readouterr().out.startswith("PNEUMONIA 0.")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_every_link_to_a_file_leads_to_one(document: Path) -> None:
    for link in LINK.findall(document.read_text(encoding="utf-8")):
        place = unquote(link.partition("#")[0])
        if not place or ":" in place:
            continue
        target = (document.parent / place).resolve()
        made = target.is_relative_to(ROOT / "docs") and target.relative_to(ROOT / "docs").as_posix()
        assert target.exists() or made in MADE or str(made).startswith("reference/api/"), link
