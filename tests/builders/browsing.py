"""A browser that looks at pages, and fails a test for what goes wrong out of sight."""

from __future__ import annotations

import base64
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.conftest import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium")

ARTEFACTS = Path(os.environ.get("PNEUMOSCOPE_ARTEFACTS", ROOT / "artefacts"))
DESK = {"width": 1440, "height": 900}

_DROP = """([files]) => {
    const data = new DataTransfer();
    for (const [name, text] of files)
        data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
    for (const type of ["dragenter", "drop"])
        document.body.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
}"""
PIXEL = """() => { const c = document.querySelector("#stage .image");
    return [...c.getContext("2d").getImageData(c.width / 2, c.height / 2, 1, 1).data][0]; }"""
"""Gives how bright the middle of the image is, from 0 to 255."""

expect.set_options(timeout=30_000)  # what never comes fails all the same; a busy machine takes longer than five seconds


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def watched(browser: Browser, allowed: tuple[str, ...], **options: Any) -> Iterator[Page]:
    """Give a page; a fault in its scripts, a broken content policy or another address fails the test at the end."""
    page = browser.new_page(**options)
    faults: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if "Policy" in message.text else None)
    page.on("request", lambda request: asked.append(request.url))
    yield page
    page.close()
    assert faults == []
    assert [url for url in asked if not url.startswith(allowed)] == []


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
