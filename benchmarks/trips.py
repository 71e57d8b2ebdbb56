"""Round trips and bytes of operations, counted on the wire: exact, and the same in every run.

``tests/stores/redis/test_trips.py`` says what they must be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.servers import Server
from tests.wire import Proxy

from .library import BOT, USER, app_with_store


class Trip(NamedTuple):
    """Cost of an operation on the wire."""

    case: str
    round_trips: int
    sent: int
    received: int


def counted(server: Server) -> list[Trip]:
    """Each operation once it has been done before: it is connected, and the server knows its scripts."""
    server.client.flushall()
    with Proxy(("127.0.0.1", server.port)) as proxy, app_with_store(proxy.url) as (app, store):
        numbers = iter(range(100, 1_000))
        store.save_session("s", {"history": [USER, BOT] * 500, "topic": "x"})
        store.save_session("few", {"history": [USER, BOT] * 10})
        client = app.test_client()

        def turn() -> None:
            with store.turn("s", USER, last=20) as begun:
                begun.reply(BOT)

        def append_a_minute_later() -> None:
            server.client.hset("chat:session:{s}", "indexed", 0)  # when the owner's index heard of it last
            store.append("s", USER, BOT)

        def add() -> None:
            with store.sessions.scope():
                store.sessions["few"]["history"].append(USER)

        def save() -> None:
            session: Any = store.get_session("few", last=1)
            session["topic"] = next(numbers)
            proxy.reset()
            store.save_session("few", session)

        cases: dict[str, Callable[[], object]] = {
            "append 2 messages to 1,000": lambda: store.append("s", USER, BOT),
            "the same, once a minute": append_a_minute_later,
            "turn, last 20 of 1,000": turn,
            "read the last 20 of 1,000": lambda: store.get_session("s", last=20),
            "messages, a page of 50 of 1,000": lambda: store.messages("s"),
            "save a changed field": save,
            "touch": lambda: store.touch("s"),
            "mapping: read all, add one to 20": add,
            "start a session": lambda: store.save_session(f"new{next(numbers)}", {"history": []}),
            "start an owner's session": lambda: store.save_session(f"own{next(numbers)}", {"history": []}, owner="ada"),
            "list an owner's sessions": lambda: store.list_sessions(owner="ada"),
            "GET /sessions/<id>?last=20": lambda: client.get("/sessions/s?last=20"),
        }
        found = []
        for name, action in cases.items():
            action()
            proxy.reset()
            action()
            found.append(Trip(name, proxy.round_trips, proxy.sent, proxy.received))
        return found


def trips_table(trips: list[Trip]) -> str:
    """As Markdown."""
    lines = ["| counted on the wire | round trips | bytes sent | bytes received |", "| --- | --- | --- | --- |"]
    lines += [f"| {trip.case} | {trip.round_trips} | {trip.sent:,} | {trip.received:,} |" for trip in trips]
    return "\n".join(lines)
