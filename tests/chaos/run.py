"""One world, for so many seconds: load and faults, then the last reads, then the judge."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from .checker import Finding, check
from .clients import Load, read_of
from .connection import Connection
from .nemesis import CLUSTER, SENTINEL, SINGLE, Fault, Nemesis, Struck
from .records import NOT_FOUND, Final, Operation
from .stream_checker import check_streams
from .streamers import StreamedTurn, Streams
from .worlds import BOUNDS, World, clustered, sentinel, single

WORLDS: dict[str, tuple[Callable[[], AbstractContextManager[Any]], Sequence[Fault[Any]]]] = {
    "single": (single, SINGLE),
    "sentinel": (sentinel, SENTINEL),
    "cluster": (clustered, CLUSTER),
}

_PACE_SECONDS = 0.02

_LEASES_SECONDS = 3.0
"""Time after which no lease is left of a turn that nobody is at."""

_CIRCUIT_SECONDS = 40
"""Longest time that a worker may go on refusing when all is well again. Its circuit tries again after 32 s at most."""


@dataclass(slots=True)
class Result:
    """The outcome of a run."""

    world: str
    durability: str
    server: str
    seconds: float
    operations: list[Operation]
    finals: list[Final]
    struck: list[Struck]
    streamed: list[StreamedTurn] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def run(name: str, seconds: float, seed: int) -> Result:
    """Load and faults for so many *seconds*; the last reads come behind."""
    make, faults = WORLDS[name]
    stop = threading.Event()
    with make() as world:
        load = Load(f"{seed} {name}", world.workers.port, pace=_PACE_SECONDS, is_durable=world.is_durable)
        streams = Streams(f"{seed} {name}", world.workers.port)
        nemesis = Nemesis(world, faults, f"{seed} {name}", stop)
        began = time.monotonic()
        try:
            load.start()
            streams.start()
            nemesis.start()
            nemesis.join(seconds)
        finally:
            stop.set()
            nemesis.join()  # whatever happens: it might start what nobody would end
        streams.ask_to_stop()
        load.stop()
        streams.stop()
        took = time.monotonic() - began
        problems = [
            f"{type(error).__name__}: {error}"
            for error in (nemesis.failure, *load.failures, *streams.failures)
            if error
        ] or world.recover()
        time.sleep(_LEASES_SECONDS)
        ends = streams.ends()
        finals = _last_reads(world, load.operations)
        result = Result(name, world.durability, world.version(), took, load.operations, finals, nemesis.struck)
    result.streamed = streams.turns
    result.findings = check(result.operations, finals, BOUNDS)
    result.findings += check_streams(result.streamed, ends, [(one.began, one.ended) for one in result.struck])
    result.findings += nemesis.findings
    result.findings += [Finding("errors", problem) for problem in problems]
    return result


def _last_reads(world: World, operations: Sequence[Operation]) -> list[Final]:
    """Every session that has an id, by HTTP and straight from the servers."""
    starts = [operation for operation in operations if operation.kind == "start" and operation.session_id]
    sessions = {start.label: (str(start.session_id), start.owner) for start in starts}
    connection = Connection(world.workers.port, timeout=30)
    finals = [_read(connection, label, *whose) for label, whose in sessions.items()]
    connection.close()
    return [*finals, *world.read_directly(sessions)]


def _read(connection: Connection, label: str, session_id: str, owner: str | None) -> Final:
    door, headers = ("/own", {"X-Owner": owner}) if owner else ("/sessions", {})
    give_up = time.monotonic() + _CIRCUIT_SECONDS
    while True:
        answer = connection.call("GET", f"{door}/{session_id}", None, **headers)
        if answer.status in (200, NOT_FOUND) or time.monotonic() > give_up:
            break
        time.sleep(0.5)
    if answer.status == 200:
        return Final(label, session_id, "http", read_of(answer.json["history"], None))
    problem = "" if answer.status == NOT_FOUND else f"{answer.status} {answer.json or answer.detail}"
    return Final(label, session_id, "http", None, problem)
