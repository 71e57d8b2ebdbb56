"""No path reaches another's session."""

from __future__ import annotations

import pytest

from ..service import OwnedService, in_memory
from .paths import attack


@in_memory
@pytest.mark.slow
def test_no_path_reaches_anothers_session(url: str) -> None:
    """``make attack`` takes each path with each method."""
    assert attack(OwnedService(url), every=4) == []
