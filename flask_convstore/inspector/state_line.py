"""The line on top of every page: all is well, or what is wrong, in words that can be read aloud."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..domain.results import Health
from ..operations.diagnosis import State
from .wording import duration


class StateLine(NamedTuple):
    """The state of a store, for people.

    Attributes:
        state: ``ok``, ``warning`` or ``problem``.
        sentences: The worst first.
    """

    state: State
    sentences: list[str]


def state_line(health: Health) -> StateLine:
    """Say how the store is."""
    problems, warnings = list(_problems(health)), list(_warnings(health))
    if problems or warnings:
        return StateLine("problem" if problems else "warning", [*problems, *warnings])
    return StateLine("ok", [f"All is well. {server(health)} answers in {health.latency_ms or 0:.1f} ms."])


def server(health: Health) -> str:
    """Name the server."""
    if not health.server:
        return "The server"
    name = {"memory": "The memory of this process"}.get(health.server, health.server.capitalize())
    return f"{name} {health.version}" if health.version else name


def _problems(health: Health) -> Iterator[str]:
    if not health.connected:
        yield "The server does not answer."
        yield (
            "What comes in is kept in this host's journal." if health.can_start else "Nothing can be written meanwhile."
        )
    if health.role == "replica":
        yield "The server is a replica, which takes no writes."
    if health.pending is None:
        yield "The journal of this host cannot be read."
    if health.set_aside:
        writes = "1 write lies" if health.set_aside == 1 else f"{health.set_aside:,} writes lie"
        yield f"{writes} aside, refused by the server for good: see the command journal ls."
    if health.problem:
        yield f"{health.problem[:1].upper()}{health.problem[1:].rstrip('.')}."


def _warnings(health: Health) -> Iterator[str]:
    if health.pending:
        writes = "1 write waits" if health.pending == 1 else f"{health.pending:,} writes wait"
        age = "" if health.pending_age_s is None else f", the oldest for {duration(1000 * health.pending_age_s)}"
        yield f"{writes} in this host's journal{age}."
    elif health.degraded and health.connected:
        yield "Not all is stored on the server at this moment."
    if health.evicts:
        yield f"A full server removes keys ({health.evicts}), and with them conversations: set maxmemory-policy noeviction."
