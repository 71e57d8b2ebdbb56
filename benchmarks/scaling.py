"""Needs of 1, 10 and 100 million live sessions, worked out from measurements of thousands.

    python -m benchmarks.scaling [--quick] [--report docs/scaling.md] [--lifetime 24 --price 8 …]

The measurements are in ``footprint``. The assumptions, in ``Use``, are options. The rest is arithmetic, in ``plan``.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, field, fields
from datetime import date
from pathlib import Path

from flask_convstore.domain.types import TOMBSTONE_MS
from flask_convstore.stores.redis.index_parts import PARTS
from tests.servers import programs

from .footprint import CHARACTERS, TURNS, Footprint, footprint
from .measure import put

LIVE = (1e6, 1e7, 1e8)
GB = 1e9


def _assumed(default: float, meaning: str) -> float:
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True)
class Use:
    """Assumptions about the use of the app and its machines."""

    lifetime: float = _assumed(1, "hours from its last interaction to its end (`CONVSTORE_TTL`)")
    active: float = _assumed(0.25, "hours from its first turn to its last")
    reads: float = _assumed(1, "reads of the last 20 messages for each turn")
    peak: float = _assumed(3, "times the mean, at the busiest hour")
    model: float = _assumed(5, "seconds until a model has replied, in which a turn occupies a thread")
    threads: float = _assumed(32, "threads of an app's process")
    node: float = _assumed(32, "GB of memory of a server's machine")
    spare: float = _assumed(0.25, "of it for the system, fragmentation and buffers")
    load: float = _assumed(0.5, "of its core that a primary is busy at the peak, no more")
    snapshot: float = _assumed(100, "MB a second that a forked server writes")
    replicas: float = _assumed(1, "of each primary")
    price: float = _assumed(5, "USD for a GB of such memory and a month")


@dataclass(frozen=True)
class Plan:
    """Needs of so many live sessions. Rates are those of a second at the peak. Memory is in bytes.

    Attributes:
        live, expired: Memory of sessions that live, and of those that have expired within a day.
        cores: Busy cores of all primaries.
        copied: Memory that one primary copies while it has forked.
        threads: Threads of the app that wait for a model.
        into, out_of, replicated: Bytes of network of all primaries.
        logged: Bytes that a day writes into append-only files, at the mean rate.
        nobodys: Memory of all parts of the index, if no session had an owner.
        nobodys_core: Busy cores of the primaries that would have them.
    """

    starts: float
    turns: float
    live: float
    expired: float
    cores: float
    primaries: int
    copied: float
    threads: float
    into: float
    out_of: float
    replicated: float
    logged: float
    nobodys: float
    nobodys_core: float
    month: float


def plan(sessions: float, use: Use, found: Footprint) -> Plan:
    """Needs of so many live sessions."""
    taken = found.taken
    index = taken["read, a minute later"], taken["read the last 20"]
    # A session is there while it is active, and its lifetime long from then on.
    starts = sessions / ((use.active + use.lifetime) * 3600)
    turns = starts * found.turns

    def each_second(part: str) -> float:
        """The mean of a second, all primaries together. Turns are a minute apart: each is told to an index."""
        told = getattr(index[0], part) - getattr(index[1], part)
        turn = getattr(taken["turn"], part) + told + use.reads * getattr(taken["read the last 20"], part)
        return starts * float(getattr(taken["start"], part) + getattr(taken["data fields"], part)) + turns * float(turn)

    live = sessions * (taken["start"].memory + found.turns * taken["turn"].memory + taken["data fields"].memory)
    expired = starts * TOMBSTONE_MS / 1000 * found.left_behind
    cores = use.peak * each_second("server_us") / 1e6
    threads = use.peak * turns * use.model
    processes = threads / use.threads

    def copied(primaries: int) -> float:
        """While a primary forks, and writes what it has, what changes is copied: no more than all."""
        own = (live + expired) / primaries
        return min(own, use.peak * turns / primaries * own / (use.snapshot * 1e6) * found.copied)

    def fits(primaries: int) -> bool:
        needed = (live + expired) / primaries + copied(primaries) + processes * found.connection
        return needed <= use.node * GB * (1 - use.spare) and cores / primaries <= use.load

    primaries = next(number for number in range(1, 100_000) if number != 2 and fits(number))  # a Cluster has three
    told_us = index[0].server_us - index[1].server_us
    return Plan(
        starts=use.peak * starts,
        turns=use.peak * turns,
        live=live,
        expired=expired,
        cores=cores,
        primaries=primaries,
        copied=copied(primaries),
        threads=threads,
        into=use.peak * each_second("received"),
        out_of=use.peak * each_second("sent"),
        replicated=use.peak * each_second("logged") * use.replicas,
        logged=86_400 * each_second("logged"),
        nobodys=2 * sessions * found.nobodys_entry,  # up to half of its entries are of sessions that are gone
        nobodys_core=use.peak * (starts + turns) * told_us / 1e6,
        month=primaries * (1 + use.replicas) * use.node * use.price,
    )


def plan_table(use: Use, found: Footprint) -> str:
    """As Markdown: a column for each number of sessions."""
    plans = [plan(sessions, use, found) for sessions in LIVE]
    nodes = [one.primaries * (1 + use.replicas) for one in plans]
    processes = [math.ceil(one.threads / use.threads) for one in plans]
    rows: dict[str, list[str]] = {
        "starts; turns, a second at the peak": [f"{one.starts:,.0f}; {one.turns:,.0f}" for one in plans],
        "memory of live sessions": [_bytes(one.live) for one in plans],
        "memory of the tombstones of expired ones": [_bytes(one.expired) for one in plans],
        "cores of all primaries at the peak": [f"{one.cores:,.1f}" for one in plans],
        "**primaries**": [f"**{one.primaries:,}**" for one in plans],
        "of each: data": [_bytes((one.live + one.expired) / one.primaries) for one in plans],
        "of each: copied while it saves": [_bytes(one.copied) for one in plans],
        "of each: busy at the peak": [f"{one.cores / one.primaries:.0%}" for one in plans],
        "servers, with replicas": [f"{count:,.0f}" for count in nodes],
        "threads that wait for a model; processes": [
            f"{one.threads:,.0f}; {count:,}" for one, count in zip(plans, processes, strict=True)
        ],
        "connections of each primary, at least": [f"{count:,}" for count in processes],
        "memory for them": [_bytes(count * found.connection) for count in processes],
        "network into all primaries; out, to apps; to replicas, a second": [
            f"{_bytes(one.into)}; {_bytes(one.out_of)}; {_bytes(one.replicated)}" for one in plans
        ],
        "written to append-only files, a day": [_bytes(one.logged) for one in plans],
        f"if nobody had an owner: each of {PARTS} parts of the index": [_bytes(one.nobodys / PARTS) for one in plans],
        "… and of one core": [f"{one.nobodys_core / PARTS:.1%}" for one in plans],
        "**a month**, USD; for a million sessions": [
            f"**{one.month:,.0f}**; {one.month / sessions * 1e6:,.0f}"
            for one, sessions in zip(plans, LIVE, strict=True)
        ],
    }
    heads = [f"{sessions / 1e6:,.0f} million" for sessions in LIVE]
    return _table(["live sessions", *heads], [[name, *cells] for name, cells in rows.items()])


def measured_tables(footprints: list[Footprint]) -> str:
    """The measurements as Markdown."""
    heads = ["bytes"]
    for found in footprints:
        heads += [f"{found.program}: at its start", "after its turns"]
    kinds = {
        "session": "hash",
        "history": "messages",
        "receipts": "receipts",
        "tokens": "tombstone",
        "owner": "its part of its owner's index",
    }
    rows = [
        [name, *(f"{part.get(kind, 0):,.0f}" for found in footprints for part in (found.started, found.grown))]
        for kind, name in kinds.items()
    ]
    for name, what in (
        ("used_memory, of a start", "start"),
        ("… of a turn", "turn"),
        ("… of data fields", "data fields"),
    ):
        rows.append([name, *(cell for f in footprints for cell in ("", f"{f.taken[what].memory:,.0f}"))])
    facts = {
        "… of an alias": [found.taken["alias"].memory for found in footprints],
        "… left behind when it has expired": [found.left_behind for found in footprints],
        "an entry in the index of nobody's sessions": [found.nobodys_entry for found in footprints],
        "an idle connection": [found.connection for found in footprints],
        "copied for a turn while the server has forked": [found.copied for found in footprints],
    }
    rows += [[name, *(cell for value in values for cell in ("", f"{value:,.0f}"))] for name, values in facts.items()]
    memory = _table(heads, rows)
    operations = ["start", "start, no owner", "append 2 messages", "turn", "data fields", "read the last 20"]
    operations += ["read, a minute later", "read all", "list 10 sessions", "alias"]
    first = footprints[0].taken
    costs = [
        [
            name,
            *(f"{found.taken[name].server_us:.0f}" for found in footprints),
            *(f"{part:,.0f}" for part in first[name][2:]),
        ]
        for name in operations
    ]
    heads = [
        "",
        *(f"server µs, {found.program}" for found in footprints),
        "bytes to it",
        "bytes from it",
        "bytes logged",
    ]
    return f"{memory}\n\n{_table(heads, costs)}"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, ["---"] * len(heads), *rows])


def _bytes(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count / 1e3:,.1f} kB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few sessions")
    parser.add_argument("--report", type=Path, help="write the figures into this Markdown file, between its marks")
    for one in fields(Use):
        parser.add_argument(f"--{one.name}", type=float, default=one.default, help=one.metadata["meaning"])
    given = parser.parse_args()
    use = Use(**{one.name: getattr(given, one.name) for one in fields(Use)})
    count = 200 if given.quick else 3_000
    footprints = [footprint(kind, count) for kind in programs()]
    first = footprints[0]
    about = (
        f"{date.today()}, {count:,} sessions of {TURNS[0]} to {TURNS[1]} turns, {first.turns:.1f} on average,\n"
        f"of {CHARACTERS[0]} + {CHARACTERS[1]} characters on average: {first.text:,.0f} bytes of JSON in a session."
    )
    assumed = _table(
        ["assumption", "", ""],
        [[f"`{one.name}`", f"{getattr(use, one.name):g}", one.metadata["meaning"]] for one in fields(Use)],
    )
    sections = {
        "measured": f"{about}\n\n{measured_tables(footprints)}",
        "assumed": assumed,
        "plan": f"With what was measured on {first.program}:\n\n{plan_table(use, first)}",
    }
    for mark, text in sections.items():
        print(text, end="\n\n")
        if given.report:
            put(given.report, mark, text)


if __name__ == "__main__":
    main()
