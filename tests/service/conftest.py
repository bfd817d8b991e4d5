"""What the tests of the service share; what only some installs have is imported where it is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.builders.serving import RunningService


@pytest.fixture(scope="module")
def service() -> Iterator[RunningService]:
    """A service as it comes."""
    from tests.builders.serving import running_service

    with running_service() as service:
        yield service


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser without a screen."""
    from tests.builders.browsing import chromium

    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def strict() -> Iterator[RunningService]:
    """A service with narrow limits."""
    from tests.builders.serving import QUICK, running_service

    with running_service(QUICK) as service:
        yield service


@pytest.fixture(scope="module")
def huge() -> bytes:
    """An image that is small to send and slow to read."""
    from tests.builders.serving import slow_image

    return slow_image()


@pytest.fixture
def page(browser: Browser, service: RunningService) -> Iterator[Page]:
    """The page, opened; a fault in its scripts or a broken content policy fails the test."""
    from tests.builders.browsing import DESK, watched

    with watched(browser, (service.url, "blob:"), viewport=DESK) as page:
        page.goto(service.url)
        yield page


@pytest.fixture
def shown(page: Page) -> Page:
    """The page with one image, predicted."""
    from playwright.sync_api import expect

    from tests.builders.browsing import PIXEL, drop, predicted
    from tests.builders.serving import image

    drop(page, image_png=image(1, 9))
    predicted(page, 1)
    expect(page.locator("#finding .probability")).to_be_visible()
    expect(page.locator("#stage .window")).to_contain_text("%")  # the image itself is there
    page.wait_for_function(f"({PIXEL})() > 0")  # and painted
    return page


@pytest.fixture
def several(page: Page) -> Page:
    """The page with nine images, predicted, and a file that is none."""
    from tests.builders.browsing import drop, predicted
    from tests.builders.serving import image

    drop(page, **{f"image{i}_png": image(i % 2, i) for i in range(9)}, **{"-evil_png": b"no image"})
    predicted(page, 10)
    return page
