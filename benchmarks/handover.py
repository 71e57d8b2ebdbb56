"""The hand-over of a journal: writes a second, memory, and what others wait meanwhile at the same server.

    python -m benchmarks.handover --writes 100000 --sessions 2000
    python -m benchmarks.handover --kind turns

A Valkey that writes nothing to a disk, and one thread that hands over, as in a worker of an app. The journal lies on a disk,
and each note of the progress is flushed. Another process appends to a session of its own, a hundred times a second.
"""

from __future__ import annotations

import argparse
import cProfile
import itertools
import multiprocessing
import pstats
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from flask_convstore.config import Settings, limits_of
from flask_convstore.domain.commands import Append, BeginTurn, Command, CommitTurn, Put
from flask_convstore.domain.messages import join_element
from flask_convstore.domain.types import Limits
from flask_convstore.errors import StoreUnavailable
from flask_convstore.outages.circuit import Circuit
from flask_convstore.outages.fallback import FallbackStore
from flask_convstore.outages.journal import Journal
from flask_convstore.outages.replay import Replayer
from flask_convstore.outages.session_replay import Replayed
from flask_convstore.stores.memory import MemoryStore
from flask_convstore.stores.redis.store import RedisStore
from flask_convstore.stores.store import StoreAround
from tests.servers import Server, programs

PAUSE = 0.01
TEXT = "x" * 200


class Away(StoreAround):
    """A store that is away."""

    def _call(self, *_: Any, **__: Any) -> Any:
        raise StoreUnavailable("away", written=False, is_down=True)


def said(text: str) -> bytes:
    return join_element(int(time.time() * 1000), b'{"role":"user","content":"%b"}' % text.encode())


def appends(session_id: str) -> Iterator[Command | BeginTurn]:
    """A session, message by message."""
    yield Put(session_id=session_id, owner="ann", mode="replace", shape="full")
    for number in itertools.count():
        yield Append(session_id=session_id, owner="ann", elements=(said(f"{number} {TEXT}"),))


def turns(session_id: str) -> Iterator[Command | BeginTurn]:
    """A session, turn by turn."""
    yield Put(session_id=session_id, owner="ann", mode="replace", shape="full")
    for number in itertools.count():
        begin = BeginTurn(session_id=session_id, owner="ann", element=said(f"{number} {TEXT}"), lease_ms=60_000)
        yield begin
        yield CommitTurn(session_id=session_id, owner="ann", turn=begin.attempt, elements=(said(f"re: {TEXT}"),))


def fill(folder: Path, writes: int, sessions: int, kind: str, limits: Limits) -> None:
    """Let so many writes of so many sessions wait in a journal, as they come when all sessions go on at once."""
    journal = Journal(folder, "target", 2**31, 5.0)
    store = FallbackStore(Away(MemoryStore(limits)), journal, Circuit(1), "", limits, lambda: None)
    with journal.writing() as connection:
        connection.execute("SELECT 1")
    with journal.reading() as connection:
        connection.execute("PRAGMA synchronous = OFF")
    make = turns if kind == "turns" else appends
    going = [make(f"session-{number}") for number in range(sessions)]
    for session in itertools.islice(itertools.cycle(going), writes):
        command = next(session)
        store.begin(command) if isinstance(command, BeginTurn) else store.apply(command)
    journal.close()


def others(path: str, limits: Limits, ready: Any, stop: Any, took: Any) -> None:
    """Append to a session again and again until *stop*. Send the times in seconds."""
    store = RedisStore(redis.Redis(unix_socket_path=path), "c:", limits)
    store.apply(Put(session_id="other", owner="bob", mode="replace", shape="full"))
    times = []
    ready.set()
    while not stop.is_set():
        started = time.perf_counter()
        store.apply(Append(session_id="other", owner="bob", elements=(said(TEXT),)))
        times.append(time.perf_counter() - started)
        time.sleep(PAUSE)
    took.put(times)


def told(name: str, times: list[float]) -> None:
    cuts = [cut * 1000 for cut in statistics.quantiles(times, n=100)]
    print(f"{name}: p50 {cuts[49]:.2f} ms, p99 {cuts[98]:.2f} ms, longest {max(times) * 1000:.1f} ms ({len(times)})")


def timed_others(server: Server, limits: Limits, work: Any) -> list[float]:
    """The times of another client's appends while *work* is done."""
    context = multiprocessing.get_context("spawn")
    ready, stop, took = context.Event(), context.Event(), context.Queue()
    other = context.Process(target=others, args=(str(server.socket), limits, ready, stop, took))
    other.start()
    assert ready.wait(30)
    work()
    stop.set()
    times: list[float] = took.get(timeout=30)
    other.join()
    return times


def grown_mib() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--writes", type=int, default=100_000)
    asked.add_argument("--sessions", type=int, default=2_000)
    asked.add_argument("--kind", choices=("appends", "turns"), default="appends")
    asked.add_argument("--profile", action="store_true")
    asked.add_argument("--keep", type=Path, help="the folder where the full journal is kept for the next run")
    given = asked.parse_args()
    limits = limits_of(Settings(max_history=100_000, max_session_bytes=2**28))
    with tempfile.TemporaryDirectory() as name:
        full = (given.keep or Path(name)) / f"{given.kind}-{given.writes}-{given.sessions}"
        if not full.exists():
            # In a process of its own, so that the views of the sessions are not in the memory of this one.
            filling = multiprocessing.get_context("spawn").Process(
                target=fill, args=(full, given.writes, given.sessions, given.kind, limits)
            )
            filling.start()
            filling.join()
        handed_over(Path(shutil.copytree(full, Path(name, "journal"))), limits, given)


def handed_over(folder: Path, limits: Limits, given: argparse.Namespace) -> None:
    server = Server(programs()["valkey"], "--appendonly", "no")
    try:
        journal = Journal(folder, "target", 2**31, 5.0)
        waiting = journal.status().pending
        store = RedisStore(redis.Redis(unix_socket_path=str(server.socket)), "c:", limits)
        circuit = Circuit(5)
        part = Replayed("", store, FallbackStore(store, journal, circuit, "", limits, lambda: None))
        replayer = Replayer(journal, circuit, lambda: [part], 100)
        told("others, alone", timed_others(server, limits, lambda: time.sleep(2)))
        before, profile, took = resident_mib(), cProfile.Profile(), []

        def work() -> None:
            started, used = time.perf_counter(), time.process_time()
            profile.runcall(replayer._replay) if given.profile else replayer._replay()
            took.append((time.perf_counter() - started, time.process_time() - used))

        times = timed_others(server, limits, work)
        seconds, used = took[0]
        told("others, meanwhile", times)
        left = journal.status().pending
        print(f"{waiting - left} writes of {given.sessions} sessions ({given.kind}) in {seconds:.1f} s: ", end="")
        print(f"{(waiting - left) / seconds:.0f} a second, {used / seconds:.0%} of a core here, ", end="")
        info: Any = store._calls.command("INFO", "cpu").decode()
        print(next(line for line in info.splitlines() if line.startswith("used_cpu_user:")), "there")
        print(f"memory: {before:.0f} MiB before, {grown_mib():.0f} MiB at most")
        if given.profile:
            pstats.Stats(profile).sort_stats("tottime").print_stats(40)
        journal.close()
    finally:
        server.stop()


if __name__ == "__main__":
    main()
