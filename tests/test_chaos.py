"""A short run of the chaos suite: every promise is kept. ``make chaos`` runs longer, and in more worlds."""

from __future__ import annotations

import pytest

from .chaos.checker import COUNTS, counted
from .chaos.report import acknowledged, as_table
from .chaos.run import run


@pytest.mark.chaos
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # http.client's half-closed sockets
def test_no_promise_is_broken_in_twenty_seconds() -> None:
    result = run("single", 20, seed=1)
    assert counted(result.findings) == dict.fromkeys(COUNTS, 0), as_table(result)
    assert acknowledged(result) > 1_000
    assert len(result.struck) > 1
