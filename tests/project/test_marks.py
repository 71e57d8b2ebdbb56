"""The marks by which ``make check`` leaves tests out."""

from __future__ import annotations

import pytest

from ..conftest import SERVERS
from ..harness import Harness
from ..servers import Server, programs


def test_a_test_without_the_mark_starts_no_server() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"@pytest\.mark\.server"):
        Server(programs()["valkey"])


def test_the_mark_comes_with_a_server(valkey: Server, request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("server")


def test_the_mark_comes_with_the_stores_that_are_servers(harness: Harness, request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.params["harness"]
    assert bool(request.node.get_closest_marker("server")) is (kind in SERVERS)
