"""What the tests of audits share."""

from __future__ import annotations

import pytest

from pneumoscope.data.layouts import Sample
from tests.builders.audits import clean


@pytest.fixture(scope="session")
def unspoilt() -> list[Sample]:
    """Images without a fault."""
    return clean()
