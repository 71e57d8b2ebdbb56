"""Plots: lines that fit into their picture, gaps where nothing is known, and the same in words."""

from __future__ import annotations

import re

import pytest

from flask_convstore.inspector.plots import HEIGHT, WIDTH, PlotLine, plot


def points(svg: str) -> list[list[tuple[float, float]]]:
    return [
        [(float(x), float(y)) for x, _, y in (pair.partition(",") for pair in run.split())]
        for run in re.findall(r'points="([^"]+)"', svg)
    ]


@pytest.mark.parametrize(
    ("most", "top"),
    [(0, "1"), (0.3, "0.3"), (1, "1"), (3, "3"), (7, "8"), (9, "10"), (10, "10"), (11, "20"), (999, "1,000")],
)
def test_the_top_is_a_round_number(most: float, top: str) -> None:
    drawn = plot("Title", [PlotLine("a", "one", [0, most])])
    assert drawn.top == top
    [run] = points(drawn.svg)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in run)


def test_where_nothing_is_known_there_is_a_gap() -> None:
    drawn = plot("Title", [PlotLine("a", "one", [1, None, 1, 1, None, None, 1])], unit="ms")
    runs = points(drawn.svg)
    assert [len(run) for run in runs] == [2, 2, 2]
    assert all(run[1][0] - run[0][0] >= WIDTH / 12 for run in runs)
    assert drawn.text == "a: now 1 ms, between 1 ms and 1 ms."


def test_an_unknown_line_is_told() -> None:
    drawn = plot("Title", [PlotLine("a", "one", [None, None])])
    assert drawn.text == "a: nothing is known."
    assert drawn.names == [("one", "a", "-")]
    assert points(drawn.svg) == []


def test_names_are_texts() -> None:
    drawn = plot("Title", [PlotLine("a", '"><script>', [1])])
    assert "<script>" not in drawn.svg
