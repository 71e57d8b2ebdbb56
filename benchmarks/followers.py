"""Followers of an owner's list of conversations: the number that a worker of each kind carries, and the memory of each.

python -m benchmarks.followers [--quick] [--report docs/performance.md]

A follower is a connection that reads ``GET /sessions/events``. Another worker saves the sessions that it is told of.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import threading
import time
from pathlib import Path

from tests.servers import Server, running

from .streaming import (
    WORKERS,
    Line,
    Readers,
    Request,
    asked,
    blocked,
    percentile,
    rss_kib,
    serving,
    with_sockets,
    write,
)

_EVENTS = Request("GET", "/sessions/events", owner="ada")
_PATIENCE = 10.0
"""Seconds in which a follower must have got the state of the list, and another request its answer."""


def told(server: Server, kind: str, followers: int, seconds: float, target: float | None = None) -> list[Line]:
    """Followers of the list of one owner, in which two sessions a second are saved."""
    name = f"{followers:,} followers of an owner's list, {kind}"
    with serving(server, "gthread") as saving, serving(server, kind) as app:
        before = rss_kib(app.pid)
        readers = Readers(app.port, [_EVENTS] * followers)
        readers.read(60, until_begun=True)
        assert readers.begun == followers, readers.begun
        memory = (rss_kib(app.pid) - before) / followers
        asked(saving.port, "POST", "/changes", {"owner": "ada", "changes": int(seconds * 2), "pause": 0.5})
        readers.read(seconds + 3)
        here, after = blocked(server), (rss_kib(app.pid) - before) / followers
        readers.close()
    assert len(readers.latencies) == followers * int(seconds * 2), len(readers.latencies)
    p95 = percentile(readers.latencies, 0.95) * 1000
    return [
        Line(f"{name}: resident memory for each", memory, "KiB"),
        Line(f"{name}: … after {int(seconds * 2)} changes", after, "KiB"),
        Line(f"{name}: subscribed connections of the worker", here, "", (1, True)),
        Line(f"{name}: from the save to the followers: median", statistics.median(readers.latencies) * 1000, "ms"),
        Line(f"{name}: … p95, of all {followers:,}", p95, "ms", None if target is None else (target, True)),
    ]


def carried(server: Server, kind: str, followers: int) -> list[Line]:
    """Ask for more followers than a worker may have, and see how many get something, and whether others are served."""
    with serving(server, kind) as app:
        before = rss_kib(app.pid)
        readers = Readers(app.port, [_EVENTS] * followers)
        readers.read(_PATIENCE, until_begun=True)
        begun, memory = readers.begun, rss_kib(app.pid) - before
        is_answered = threading.Event()

        def ask() -> None:
            with contextlib.suppress(OSError):  # the worker ends before it answers
                asked(app.port, "GET", "/pid")
                is_answered.set()

        threading.Thread(target=ask, daemon=True).start()
        others = "others are served" if is_answered.wait(_PATIENCE) else "nobody else is served"
        readers.close()
    name = f"of {followers:,} followers, {kind} carries"
    return [Line(f"{name} ({others})", begun, ""), Line(f"{name}, memory for each", memory / max(1, begun), "KiB")]


def main() -> int:
    parser = argparse.ArgumentParser(description="Followers of an owner's list, for each kind of worker.")
    parser.add_argument("--quick", action="store_true", help="fewer followers, shorter rounds")
    parser.add_argument("--report", type=Path, help="a page that gets the figures")
    parser.add_argument("--only", default="", help="part of the name of a kind of worker")
    options = parser.parse_args()
    with_sockets()
    followers, seconds = (200, 4.0) if options.quick else (1000, 15.0)
    lines: list[Line] = []
    with running("valkey", "--maxclients", "5000") as server:
        for kind in WORKERS:
            if options.only in kind:
                measure = told if kind in ("gevent", "gthread") else None
                found = measure(server, kind, followers, seconds) if measure else carried(server, kind, followers)
                print(*(line.shown() for line in found), sep="\n", flush=True)
                lines += found
                server.client.flushall()
                time.sleep(0.5)
    if options.report:
        write(options.report, "followers", "python -m benchmarks.followers", lines)
    return 0 if all(line.is_met for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
