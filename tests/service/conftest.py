"""What the tests of the service share; what only some installs have is imported where it is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

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
