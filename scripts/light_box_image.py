"""Draw docs/light-box.png: the reading room with drawn images, for no real image may be shown.

    python scripts/light_box_image.py

Needs the extras `serve` and `dev`, and Chromium.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import expect, sync_playwright
from scipy.ndimage import gaussian_filter

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.builders.serving import light_box  # noqa: E402

IMAGES = {"drawn-01.png": 0.0, "drawn-02.png": 0.5, "drawn-03.png": 1.0, "drawn-04.png": 1.4, "drawn-05.png": 0.2}


def chest(shadow: float, seed: int) -> Image.Image:
    """Draw a chest: body, lungs, spine, heart, ribs, clavicles, grain; and a shadow in one lung, from 0 to 1."""
    rng = np.random.default_rng(seed)
    height, width = 900, 1100
    y, x = np.mgrid[-1 : 1 : height * 1j, -1.22 : 1.22 : width * 1j]
    x = x + 0.02 * rng.normal()

    def blob(cx: float, cy: float, rx: float, ry: float, soft: float) -> np.ndarray:
        inside = (((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1).astype(np.float32)
        return np.asarray(gaussian_filter(inside, soft))

    body = np.maximum(blob(0, 0.35, 0.95, 1.15, 14), blob(0, -1.0, 0.42, 0.5, 12))
    shoulders = np.maximum(blob(0, -0.3, 1.08, 0.42, 20), blob(0, 0.1, 1.3, 0.62, 30) * 0.55)
    image = 0.62 * np.maximum(body, shoulders)
    lungs = np.zeros_like(image)
    for side in (-1, 1):
        lung = blob(0.44 * side, -0.02, 0.33, 0.66, 12) * (1 - blob(0.5 * side, 0.82, 0.55, 0.42, 12))
        lungs = np.maximum(lungs, lung)
    image -= 0.40 * lungs
    image += 0.16 * blob(0, 0, 0.085, 1.4, 9) + 0.20 * blob(0.13, 0.3, 0.3, 0.3, 16) * (1 - 0.25 * lungs)
    image += 0.10 * blob(-0.4, 0.95, 0.75, 0.36, 22) + 0.08 * blob(0.4, 0.98, 0.7, 0.34, 22)
    for number in range(9):
        top = -0.72 + 0.17 * number
        for side in (-1, 1):
            arc = top + 0.30 * (np.abs(x) / 0.85) ** 2.0 - 0.05
            reach = (np.sign(x) == side) & (np.abs(x) > 0.07) & (np.abs(x) < 0.42 + 0.42 * min(1, 0.45 + 0.09 * number))
            rib = np.exp(-(((y - arc) / 0.021) ** 2)) * gaussian_filter(reach.astype(np.float32), 8)
            image += 0.09 * rib * np.clip(body + 0.2, 0, 1)
    for side in (-1, 1):
        line = -0.66 - 0.10 * np.abs(x) + 0.03 * np.sin(6 * np.abs(x))
        reach = gaussian_filter(((np.sign(x) == side) & (np.abs(x) > 0.06) & (np.abs(x) < 0.78)).astype(np.float32), 8)
        image += 0.11 * np.exp(-(((y - line) / 0.027) ** 2)) * reach
    vessels = gaussian_filter(rng.normal(size=image.shape), 5) * 5
    image += 0.035 * vessels * lungs
    if shadow:
        cloud = np.clip(gaussian_filter(rng.normal(size=image.shape), 20) * 30 + 1.0, 0.3, 1.7)
        image += 0.26 * shadow * cloud * blob(-0.44, 0.1, 0.3, 0.5, 40) * lungs
        image += 0.20 * shadow * cloud * blob(0.46, 0.15, 0.26, 0.45, 40) * lungs
    image = gaussian_filter(image, 1.6) + rng.normal(0, 0.012, image.shape)
    return Image.fromarray((255 * np.clip(image, 0, 1) ** 0.9).astype(np.uint8))


def main() -> None:
    """Draw images, look at them in the light box, and keep the image."""
    with tempfile.TemporaryDirectory() as folder, light_box() as box, sync_playwright() as playwright:
        for seed, (name, shadow) in enumerate(IMAGES.items()):
            chest(shadow, seed).save(Path(folder, name))
        notes = Path(folder, "notes.txt")
        notes.write_text("no image")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 780})
        page.goto(box.url)
        page.set_input_files("#files", [*sorted(Path(folder).glob("*.png")), notes])
        expect(page.locator("#tally")).to_contain_text("6 images", timeout=60_000)
        page.locator("#images li[role=option]:not(.rejected)").first.click()
        page.wait_for_timeout(500)
        page.screenshot(path=ROOT / "docs" / "light-box.png")
        browser.close()


if __name__ == "__main__":
    main()
