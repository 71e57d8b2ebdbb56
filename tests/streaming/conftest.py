"""Workers for tests of streamed replies, all on one Valkey."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..servers import Server
from .workers import Worker, serving

Start = Callable[..., Worker]


@pytest.fixture
def started(valkey: Server, tmp_path: Path) -> Iterator[Start]:
    """Start a worker of a kind. All are ended behind the test."""
    with contextlib.ExitStack() as stack:
        yield lambda kind="gthread", *options, **settings: stack.enter_context(
            serving(kind, valkey, tmp_path, *options, **settings)
        )
