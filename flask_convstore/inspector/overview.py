"""The overview: how the store is, and how it was in the last hour."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from ..app.checkup import of_journal
from ..app.operator import Operator
from ..domain.figures import Figures, Minute
from ..domain.results import Health
from ..domain.types import ANY
from ..errors import StoreError
from .plots import NOTHING, Plot, PlotLine, plot
from .state_line import server
from .wording import bytes_in_words, counted, duration, exact, number

_COLUMNS = (
    "Alive",
    "Started",
    "Ended",
    "Turns",
    "Failed turns",
    "Calls",
    "Failed calls",
    "p50 ms",
    "p95 ms",
    "p99 ms",
)


def overview_of(operator: Operator, health: Health) -> dict[str, Any]:
    """Collect all that the overview shows. Where the store is away, only what this process knows."""
    shown: dict[str, Any] = {
        "rows": _rows(operator, health),
        "finding": of_journal(operator.state),
        "tiles": [],
        "parts": [],
        "known": (),
        "plots": [],
        "columns": _COLUMNS,
        "minutes": [],
        "first_ms": 0,
        "last_ms": 0,
        "note": "",
    }
    try:
        figures, minutes = operator.figures(owner=ANY), operator.timeline()
    except StoreError:
        return shown | {"note": "There are no figures while the server does not answer."}
    shown |= {"tiles": _tiles(figures), "note": _note(figures), "parts": _parts(figures)}
    shown |= {"known": operator.places()}
    if minutes and figures.since_ms is not None:
        shown |= {"plots": _plots(minutes), "minutes": _numbers(minutes)}
        shown |= {"first_ms": minutes[0].at_ms, "last_ms": minutes[-1].at_ms}
    return shown


def _rows(operator: Operator, health: Health) -> list[tuple[str, str]]:
    """List what is known of the store, each as label and text."""
    state, settings = operator.state, operator.settings
    is_here = state.client is None
    waits = "not known" if health.pending is None else counted(health.pending, "write")
    age = "" if health.pending_age_s is None else f", the oldest for {duration(1000 * health.pending_age_s)}"
    return [
        ("Server", ", ".join(filter(None, (server(health), health.role))) if health.connected else "does not answer"),
        ("Address", "the memory of this process" if is_here else state.server),
        ("Answers in", "no answer" if health.latency_ms is None else f"{health.latency_ms:.1f} ms"),
        ("Circuit", health.circuit),
        ("Durability", "memory" if is_here else settings.durability),
        ("Fallback", settings.fallback if state.journal else "none"),
        ("Waiting in the journal", f"{waits}{age}"),
        ("Set aside, dropped", f"{health.set_aside:,}, {health.dropped:,}"),
        ("Keys begin with", settings.prefix),
        ("Parts", ", ".join(operator.places())),
    ]


def _tiles(figures: Figures) -> list[tuple[str, str, str]]:
    """List figures, each as label, value and detail."""
    about = "" if figures.is_exact else "about "
    error = f"within {100 * figures.error:.1f} %" if figures.error else ""
    tiles = [
        ("Alive", f"{about}{figures.alive:,}", error),
        ("Messages", f"{about}{figures.messages:,}", ""),
        ("Size", f"{about}{bytes_in_words(figures.size)}", ""),
        ("Average size", f"{about}{bytes_in_words(figures.average_size)}", "a session"),
    ]
    for label, count in (("Started", figures.started), ("Expired", figures.expired), ("Deleted", figures.deleted)):
        if count is not None:
            tiles.append((label, f"{about if label == 'Expired' else ''}{count:,}", ""))
    return tiles


def _parts(figures: Figures) -> list[tuple[str, str, str, str, str]]:
    """List the parts of the store that have sessions, the largest first: name, sessions, messages, size, average size."""
    largest_first = sorted(figures.places.items(), key=lambda part: -part[1].size)
    return [
        (name, f"{one.alive:,}", f"{one.messages:,}", bytes_in_words(one.size), bytes_in_words(one.size / one.alive))
        for name, one in largest_first
        if one.alive
    ]


def _note(figures: Figures) -> str:
    if figures.since_ms is None:
        return "Nobody counts what happens: leave CONVSTORE_FIGURES to the inspector, or turn it on."
    return f"Started, expired and deleted are counted since {exact(figures.since_ms)}."


def _plots(minutes: Sequence[Minute]) -> list[Plot]:
    bands = [minute.degraded_seconds > 0 for minute in minutes]

    def line(name: str, kind: str, attribute: str) -> PlotLine:
        return PlotLine(name, kind, [getattr(minute, attribute) for minute in minutes])

    return [
        plot("Sessions alive", [line("alive", "one", "alive")], bands=bands),
        plot(
            "Started and ended a minute",
            [line("started", "one", "started"), PlotLine("ended", "two", _ended(minutes))],
            bands=bands,
        ),
        plot("Turns a minute", [line("turns", "one", "turns"), line("failed", "two", "failed_turns")], bands=bands),
        plot(
            "Time of a call",
            [line("p50", "one", "p50_ms"), line("p95", "two", "p95_ms"), line("p99", "three", "p99_ms")],
            unit="ms",
            bands=bands,
        ),
        plot(
            "Calls a minute",
            [line("calls", "one", "operations"), line("failed", "two", "failed_operations")],
            bands=bands,
        ),
        plot("Degraded", [line("seconds of a minute", "two", "degraded_seconds")], unit="s", bands=bands),
    ]


def _ended(minutes: Sequence[Minute]) -> list[int]:
    """Compute how many sessions ended in each minute, by deletion or by themselves.

    Those alive are counted at some moment of a minute, so that an end may show in the minute beside its own. Where they were
    not counted, only deletions are known.
    """
    ended = [minute.deleted for minute in minutes[:1]]
    for before, minute in pairwise(minutes):
        is_known = before.alive is not None and minute.alive is not None
        gone = (before.alive or 0) + minute.started - (minute.alive or 0) if is_known else 0
        ended.append(max(minute.deleted, gone))
    return ended


def _numbers(minutes: Sequence[Minute]) -> list[tuple[int, list[str]]]:
    """Make the rows of the table of minutes, the newest first, without those in which nothing was."""
    rows = [(minute.at_ms, _values(minute, ended)) for minute, ended in zip(minutes, _ended(minutes), strict=True)]
    return [
        (at_ms, [_cell(value) for value in values])
        for at_ms, values in reversed(rows)
        if any(value is not None and value > 0 for value in values)
    ]


def _values(minute: Minute, ended: int) -> tuple[float | None, ...]:
    return (
        minute.alive,
        minute.started,
        ended,
        minute.turns,
        minute.failed_turns,
        minute.operations,
        minute.failed_operations,
        minute.p50_ms,
        minute.p95_ms,
        minute.p99_ms,
    )


def _cell(value: float | None) -> str:
    return NOTHING if value is None else number(value)
