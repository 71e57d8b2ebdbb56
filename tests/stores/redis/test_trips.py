"""Cost of operations on the wire, to the byte. A change of a script or of its arguments shows here."""

from __future__ import annotations

from pathlib import Path

from benchmarks.trips import Trip, counted, trips_table

from ...servers import Server

TRIPS = [
    Trip("append 2 messages to 1,000", 1, 1_567, 93),
    Trip("the same, once a minute", 2, 1_786, 129),
    Trip("turn, last 20 of 1,000", 2, 2_151, 13_282),
    Trip("read the last 20 of 1,000", 1, 360, 11_703),
    Trip("messages, a page of 50 of 1,000", 1, 257, 28_183),
    Trip("save a changed field", 1, 455, 90),
    Trip("touch", 1, 256, 92),
    Trip("mapping: read all, add one to 20", 2, 1_118, 12_033),
    Trip("start a session", 1, 666, 132),
    Trip("start an owner's session", 2, 670, 132),
    Trip("list an owner's sessions", 2, 786, 389),
    Trip("GET /sessions/<id>?last=20", 1, 459, 11_735),
]


def test_every_operation_takes_exactly_so_many_round_trips_and_bytes(server: Server) -> None:
    assert counted(server) == TRIPS


def test_the_page_of_performance_says_the_same() -> None:
    page = Path(__file__).parents[3] / "docs" / "performance.md"
    assert trips_table(TRIPS) in page.read_text("utf-8"), "make bench REPORT=docs/performance.md"
