"""Draws the pictures of the documentation, in docs/pictures/, from the six sample radiographs and the bundled model.

    python scripts/pictures.py [evidence|demo|page]...

Without names, all are drawn. `page` needs the extras `serve` and `dev`, and Chromium.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.text import Text

import pneumoscope
from pneumoscope import Detector
from pneumoscope.imaging import radiograph
from pneumoscope.reporting import evidence_map

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
SAMPLES = Path(pneumoscope.__file__).parent / "samples"
SHOWN = SAMPLES / "PNEUMONIA" / "person1946_bacteria_4874.jpeg"
SIDE, GAP = 620, 16
COLUMNS = 100
"""The width of the terminal for the demo's table."""

WORDS = {"NORMAL": "No pneumonia seen", "PNEUMONIA": "Pneumonia suspected"}
"""The words for the findings, as on the page."""


def probable(probability: float | None) -> str:
    """Format a probability as on the page, where it is never a certainty."""
    assert probability is not None
    if probability > 0.99:
        return "> 0.99"
    return "< 0.01" if probability < 0.01 else f"{probability:.2f}"


def evidence() -> None:
    """Draw a radiograph without and with its evidence map, and the finding below."""
    (finding,) = Detector().examine([SHOWN], evidence=True)
    assert finding.evidence is not None
    image = radiograph.read(SHOWN)
    right = evidence_map.draw(image, finding.evidence, max_side=SIDE)
    bare = evidence_map.draw(image, 0 * finding.evidence, max_side=SIDE, legend=False)
    canvas = Image.new("RGB", (2 * bare.width + GAP, right.height), (18, 18, 18))
    canvas.paste(bare, (0, 0))
    canvas.paste(right, (bare.width + GAP, 0))
    pen = ImageDraw.Draw(canvas)
    sure = "uncertain" if finding.uncertain else "outside the uncertain band"
    lines = (
        (22, (240, 240, 240), f"{WORDS[str(finding.finding)]}"),
        (
            15,
            (168, 168, 168),
            f"probability {probable(finding.probability)}, threshold {finding.threshold:.2f}; {sure}",
        ),
    )
    y = bare.height + 14
    for size, ink, line in lines:
        pen.text((12, y), line, ink, ImageFont.load_default(size=size))
        y += 2 * size - 8
    evidence_map.save(canvas, PICTURES / "evidence.png")


def demo() -> None:
    """Save the table that `pneumoscope demo` prints as an image."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pneumoscope", "demo", "--out", folder, "--data", str(SAMPLES)]
        coloured = os.environ | {"FORCE_COLOR": "1", "COLUMNS": str(COLUMNS)}
        printed = subprocess.run(command, env=coloured, capture_output=True, text=True, check=True).stdout
    lines = [line for line in printed.splitlines() if "images in" not in line]  # a folder of this machine
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi("\n".join(lines)))
    drawn = console.export_svg(title="pneumoscope demo")
    # Use the reader's own fixed-width font, so that the image loads none from another host.
    text = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    (PICTURES / "demo.svg").write_text(text, encoding="utf-8")


def page() -> None:
    """Open the samples on the page of `pneumoscope serve`, and save a screenshot."""
    from playwright.sync_api import expect, sync_playwright

    with served() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 780})
        tab.goto(url)
        tab.set_input_files("#files", sorted(SAMPLES.rglob("*.jpeg")))
        expect(tab.locator("#tally")).to_contain_text("6 images", timeout=60_000)
        tab.locator("#images li[role=option]").filter(has_text=SHOWN.name).click()
        tab.wait_for_timeout(1_000)
        tab.screenshot(path=PICTURES / "page.png")
        browser.close()


@contextmanager
def served() -> Iterator[str]:
    """Run the service on a free port until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    command = [sys.executable, "-m", "pneumoscope", "serve", "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as service:
        try:
            for _ in range(240):
                try:
                    urllib.request.urlopen(f"{url}readyz").close()
                    break
                except OSError:
                    time.sleep(0.25)
            yield url
        finally:
            service.terminate()


DRAWN: dict[str, Callable[[], None]] = {"evidence": evidence, "demo": demo, "page": page}

if __name__ == "__main__":
    for name in sys.argv[1:] or DRAWN:
        DRAWN[name]()
