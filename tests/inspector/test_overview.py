"""The overview: figures and plots of the last hour, which an inspector has counted."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from flask_convstore.domain.figures import Minute
from flask_convstore.inspector import overview
from flask_convstore.telemetry import portions

from ..processes import wait_for
from ..telemetry.test_figures import threads
from .panel import Panel
from .test_views import words


@pytest.fixture(autouse=True)
def _no_thread_outlives_its_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(portions, "EVERY", 0.05)
    yield
    wait_for(lambda: not threads(), "a thread goes on")


def talk(panel: Panel) -> None:
    with panel.app.app_context():
        with panel.convstore.turn("s-001", "hi", owner="bob") as turn:
            turn.reply("hello")
        panel.convstore.delete_session("s-000", owner="ada")


def test_an_inspector_turns_the_figures_on(url: str) -> None:
    panel = Panel(url, counts=True).with_inspector()
    panel.seed(2)
    talk(panel)
    page = panel.get()
    shown = words(page.text)
    assert "Alive 5" in shown
    assert "Started 6" in shown
    assert "Deleted 1" in shown
    assert "turns 1" in shown
    assert "Turns a minute" in shown
    assert page.text.count("<svg") == 6
    row = re.search(r"\d\d:\d\d [56] 6 1 1 0 \d+ 0", shown)  # alive: at some moment of the minute
    assert row, shown


def test_the_setting_has_the_last_word(url: str) -> None:
    panel = Panel(url, FIGURES=False).with_inspector()
    panel.seed(2)
    shown = words(panel.get().text)
    assert "Alive 6" in shown
    assert "Nobody counts" in shown
    assert "<svg" not in panel.get().text


def test_degraded_minutes_are_marked_and_told() -> None:
    minutes = [Minute(at_ms=60_000 * number, degraded_seconds=number % 2) for number in range(10)]
    plots = overview._plots(minutes)
    assert all("Degraded in 5 of 10 minutes." in one.text for one in plots)
    assert all(one.svg.count('class="band"') == 5 for one in plots)


def test_what_has_ended_is_what_was_there_or_came_and_is_not_there() -> None:
    counted = [(10, 0, 0), (12, 3, 1), (12, 0, 0), (None, 4, 2), (9, 0, 0), (5, 1, 0)]
    minutes = [
        Minute(at_ms=at, alive=alive, started=started, deleted=deleted)
        for at, (alive, started, deleted) in enumerate(counted)
    ]
    assert overview._ended(minutes) == [0, 1, 0, 2, 0, 5]
    assert overview._ended([]) == []
