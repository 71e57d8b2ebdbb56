"""Appends and turns on Clusters of 1, 2 and 3 primaries: how the primaries share the work, and what that allows.

    python -m benchmarks.cluster [--quick] [--report docs/scaling.md]

Clients and primaries share the processors of one machine here, so that more primaries make nothing faster by the clock. But
a primary works on one core of its own, where it has one, and what it takes from a core can be seen on any machine: the
primary with the largest share bounds what all of them can do.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

import flask

from flask_convstore import ConversationStore
from tests.topologies import Cluster, cluster

from .library import BOT, USER
from .measure import put, server_seconds

PRIMARIES = (1, 2, 3)
SESSIONS = 3_000
"""Their ids put them into slots by chance: with so many, shares differ by a percent or two."""


@dataclass(frozen=True)
class Round:
    """The work of a while, by as many processes as there are primaries.

    Attributes:
        done: The number of appends, or of turns.
        calls: The number of scripts that each primary has run.
        used: The seconds of a processor that each primary took.
    """

    done: int
    seconds: float
    calls: list[int]
    used: list[float]

    @property
    def largest_share(self) -> float:
        return max(self.used) / sum(self.used)

    @property
    def busiest_us(self) -> float:
        """Mean processor time of the busiest primary for one append or turn."""
        return max(self.used) / self.done * 1e6


@cache
def _store(url: str) -> tuple[flask.Flask, ConversationStore]:
    """One in each process."""
    app = flask.Flask("cluster")
    app.config.update(CONVSTORE_URL=url, CONVSTORE_FALLBACK="none")
    return app, ConversationStore(app)


def start_sessions(url: str) -> None:
    app, store = _store(url)
    with app.app_context():
        for number in range(SESSIONS):
            store.save_session(str(number), {"history": []}, owner=_owner(number))


def _owner(number: int) -> str:
    return f"user {number // 10}"


def work(url: str, what: str, part: int, parts: int, seconds: float) -> int:
    """Append to one session of this part after the other, or take turns in them, and count that for so many seconds."""
    app, store = _store(url)
    count, end = 0, time.perf_counter() + seconds
    with app.app_context():
        for number in cycle(range(part, SESSIONS, parts)):
            if what == "append":
                store.append(str(number), USER, BOT, owner=_owner(number))
            else:
                with store.turn(str(number), USER, last=20, owner=_owner(number)) as turn:
                    turn.reply(BOT)
            count += 1
            if time.perf_counter() >= end:
                break
    return count


def measured(pool: Executor, found: Cluster, what: str, seconds: float) -> Round:
    """The processor time of every primary for all that work, without the time that an idle primary takes."""
    clients: list[Any] = [server.client for server in found.primaries]
    idle = [-server_seconds(client) for client in clients]
    time.sleep(seconds / 2)
    idle = [2 * (then + server_seconds(client)) for then, client in zip(idle, clients, strict=True)]
    parts, started = len(clients), time.perf_counter()
    calls, used = [-_scripts(client) for client in clients], [-server_seconds(client) for client in clients]
    doing = [pool.submit(work, found.url, what, part, parts, seconds) for part in range(parts)]
    done = sum(one.result() for one in doing)
    took = time.perf_counter() - started
    for number, client in enumerate(clients):
        calls[number] += _scripts(client)
        used[number] += server_seconds(client) - idle[number] * took / seconds
    return Round(done, took, calls, used)


def _scripts(client: Any) -> int:
    return int(client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))


@contextlib.contextmanager
def filled(pool: Executor) -> Iterator[list[Cluster]]:
    """All the Clusters, with their sessions."""
    with contextlib.ExitStack() as stack:
        clusters = [stack.enter_context(cluster(primaries)) for primaries in PRIMARIES]
        for one in [pool.submit(start_sessions, found.url) for found in clusters]:
            one.result()
        yield clusters


def table(rounds: dict[tuple[str, int], list[Round]]) -> str:
    """Medians, as Markdown."""
    heads = ["", "primaries", "a second, by the clock", "scripts for 1,000, of each primary"]
    heads += ["server ms for 1,000, of each primary", "1 / largest share", "times one primary's"]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for (what, primaries), found in rounds.items():
        calls = _medians([[1000 * calls / one.done for calls in one.calls] for one in found])
        used = _medians([[1e6 * used / one.done for used in one.used] for one in found])
        rate = statistics.median(one.done / one.seconds for one in found)
        share = statistics.median(one.largest_share for one in found)
        of_one = statistics.median(one.busiest_us for one in rounds[what, PRIMARIES[0]])
        times = of_one / statistics.median(one.busiest_us for one in found)
        lines.append(f"| {what} | {primaries} | {rate:,.0f} | {calls} | {used} | {1 / share:.2f} | {times:.2f} |")
    return "\n".join(lines)


def _medians(rows: list[list[float]]) -> str:
    return " + ".join(f"{statistics.median(column):,.0f}" for column in zip(*rows, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--report", type=Path, help="write the figures into this Markdown file, between its marks")
    given = parser.parse_args()
    count, seconds = (2, 0.5) if given.quick else (9, 1.0)
    rounds: dict[tuple[str, int], list[Round]] = {}
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max(PRIMARIES), spawned) as pool, filled(pool) as clusters:
        for number in range(count + 1):
            for what in ("append", "turn, last 20"):
                for found in clusters:
                    one = measured(pool, found, what, seconds)
                    if number:  # the first brings the scripts
                        rounds.setdefault((what, len(found.primaries)), []).append(one)
    text = (
        f"{SESSIONS:,} sessions, as many processes as primaries, medians of {count} rounds, in turn.\n\n{table(rounds)}"
    )
    print(text)
    if given.report:
        put(given.report, "cluster", text)


if __name__ == "__main__":
    main()
