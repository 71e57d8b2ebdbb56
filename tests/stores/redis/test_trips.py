"""Cost of operations on the wire, to the byte. A change of a script or of its arguments shows here."""

from __future__ import annotations

from pathlib import Path

from benchmarks.trips import Trip, counted, trips_table

from ...servers import Server

TRIPS = [
    Trip("append 2 messages to 1,000", 1, 1_430, 93),
    Trip("the same, once a minute", 2, 1_649, 129),
    Trip("turn, last 20 of 1,000", 2, 1_877, 13_282),
    Trip("read the last 20 of 1,000", 1, 300, 11_703),
    Trip("messages, a page of 50 of 1,000", 1, 197, 28_183),
    Trip("save a changed field", 1, 331, 90),
    Trip("touch", 1, 196, 92),
    Trip("mapping: read all, add one to 20", 2, 934, 12_033),
    Trip("start a session", 1, 529, 132),
    Trip("start an owner's session", 2, 533, 132),
    Trip("list an owner's sessions", 2, 786, 389),
    Trip("GET /sessions/<id>?last=20", 1, 399, 11_735),
]


def test_every_operation_takes_exactly_so_many_round_trips_and_bytes(server: Server) -> None:
    assert counted(server) == TRIPS


def test_the_page_of_performance_says_the_same() -> None:
    page = Path(__file__).parents[3] / "docs" / "performance.md"
    assert trips_table(TRIPS) in page.read_text("utf-8"), "make bench REPORT=docs/performance.md"
