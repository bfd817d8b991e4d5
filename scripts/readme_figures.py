"""Writes the model card's main figures into README.md and the front page of the site.

    python scripts/readme_figures.py

`build_default_model.py` calls it after writing the card. The figures are copied from the text of the card.
"""

from __future__ import annotations

import re
from pathlib import Path

from pneumoscope.atomic import write_text

ROOT = Path(__file__).parents[1]
CARD = ROOT / "docs" / "model-card.md"
PAGES = (ROOT / "README.md", ROOT / "docs" / "index.md")
BEGIN, END = "<!-- figures: python scripts/readme_figures.py -->", "<!-- end of figures -->"


def main() -> None:
    """Update the table in each page."""
    table = figures(CARD.read_text(encoding="utf-8"))
    for page in PAGES:
        write_text(page, filled(page.read_text(encoding="utf-8"), table))


def filled(page: str, table: str) -> str:
    r"""Replace the table between the two marks of a page.

    Raises:
        ValueError: the page has no marks.

    Example:
        >>> filled(f"# Title\n{BEGIN}\nold\n{END}\n", "new").splitlines()[1:]
        ['<!-- figures: python scripts/readme_figures.py -->', 'new', '<!-- end of figures -->']
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"Expected {BEGIN} and {END} around the table, got a page without them.")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def figures(card: str) -> str:
    """Return the table of the most important figures of a model card, the least favourable first.

    Raises:
        ValueError: the card lacks one of the figures.
    """
    sick = re.search(r"Of ([\d,]+) sick adults without pneumonia, (.*?) are called pneumonia", card)
    chance = re.search(r"inside a box \(by chance (.*?)\)", card)
    measured = re.search(r"On (\d+) held-out images with radiologists' boxes", card)
    if not sick or not chance or not measured:
        raise ValueError(f"Expected figures of sick adults and of radiologists' boxes in {CARD.name}, got none.")
    front = row(card, "Bethesda PA")
    children, adults = row(card, "Guangzhou"), row(card, "Bethesda")
    hidden = row(card, "AUC at Guangzhou when the thorax is hidden")[1].partition(";")[0]
    rows = (
        ("Adults who are sick, but not with pneumonia: called pneumonia", sick[1], sick[2]),
        ("Adults standing (PA view): AUC", number(front[1]), front[2]),
        ("Adults, pneumonia or normal: AUC", number(adults[1]), adults[2]),
        ("Adults: sensitivity", number(adults[1]), adults[3]),
        ("Adults: specificity", number(adults[1]), adults[4]),
        ("Children, pneumonia or normal: AUC", number(children[1]), children[2]),
        ("Children: sensitivity", number(children[1]), children[3]),
        ("Children: specificity", number(children[1]), children[4]),
        ("Children with the thorax hidden: AUC, where 0.5 would be right", number(children[1]), hidden),
        (
            f"Strongest evidence lies inside a radiologist's box (by chance {chance[1]})",
            measured[1],
            row(card, "hottest place of the evidence inside a box")[1],
        ),
    )
    head = ["| on patients held out | images | value (95 % interval) |", "|---|---|---|"]
    return "\n".join([*head, *(f"| {what} | {n} | {value} |" for what, n, value in rows)])


def row(card: str, name: str) -> list[str]:
    r"""Find a row in the card's tables by its first cell, or else by the beginning of it.

    Example:
        >>> row("| Bethesda PA | 53 (11) |\n| Bethesda | 94 (45) |", "Bethesda")
        ['Bethesda', '94 (45)']
    """
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in card.splitlines() if line[:1] == "|"]
    found = [cells for cells in rows if cells[0] == name] or [cells for cells in rows if cells[0].startswith(name)]
    if not found:
        raise ValueError(f"Expected a row '{name}' in {CARD.name}, got none.")
    return found[0]


def number(cell: str) -> str:
    """Return the number of images from a cell that also has the number of pneumonias.

    Example:
        >>> number("94 (45)")
        '94'
    """
    return cell.partition(" ")[0]


if __name__ == "__main__":
    main()
