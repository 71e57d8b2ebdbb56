"""``make compare``: each way that needs no other package keeps what it is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.others import WAYS, kept, round_trips

from ..servers import Server

OWN = [name for name, way in WAYS.items() if way.package in ("", "flask-convstore")]


@pytest.mark.parametrize("name", OWN)
def test_a_way_keeps_a_turn(valkey: Server, tmp_path: Path, name: str) -> None:
    with kept(name, valkey.url, tmp_path) as way:
        way.fill(["before"])
        way.turn("said", "reply")
        assert way.texts() == ["before", "said", "reply"]
        way.fill([])
        way.turn("anew", "reply")
        assert way.texts() == ["anew", "reply"]


def test_round_trips_are_those_of_a_turn(valkey: Server, tmp_path: Path) -> None:
    assert [round_trips(valkey, tmp_path, name) for name in OWN] == [1, 2, 1, 2]
