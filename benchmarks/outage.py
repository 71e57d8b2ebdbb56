"""Answers of an app while its Redis is stopped, their times, and the time until the journal is handed over.

    python -m benchmarks.outage

An echo app under gunicorn (2 workers with 4 threads) has default settings and a Valkey that is killed and started again.
Clients start sessions, speak in them and read them.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.app.test_gunicorn import Client
from tests.outages.test_outage import contents, gunicorn
from tests.servers import Server, free_port, programs

CLIENTS = 2
SESSIONS = 25
TURNS = 10


def timed(client: Client, method: str, path: str, body: object = None) -> tuple[float, int, dict[str, object]]:
    """Seconds, status and JSON of a request."""
    started = time.perf_counter()
    status, shown = client.call(method, path, body)
    return time.perf_counter() - started, status, shown


def one_client(port: int, number: int) -> tuple[list[float], dict[str, list[str]]]:
    """The times of its requests, and the messages of its sessions."""
    client = Client(port)
    took: list[float] = []
    said: dict[str, list[str]] = {}
    for session in range(SESSIONS):
        seconds, status, shown = timed(client, "POST", "/sessions", {})
        assert status == 201, shown
        took.append(seconds)
        session_id = str(shown["session_id"])
        said[session_id] = []
        for turn in range(TURNS):
            text = f"{number} {session} {turn} {'x' * 400}"
            seconds, status, shown = timed(client, "POST", f"/sessions/{session_id}/messages", {"content": text})
            assert status == 201, shown
            took.append(seconds)
            said[session_id] += [text, f"re: {text}"]
        seconds, status, shown = timed(client, "GET", f"/sessions/{session_id}")
        assert contents(shown) == said[session_id]
        took.append(seconds)
    client.close()
    return took, said


def start(port: int) -> float:
    """Seconds that a start takes, by any worker: over a connection of its own."""
    client = Client(port)
    seconds, status, _ = timed(client, "POST", "/sessions", {})
    client.close()
    assert status == 201
    return seconds


def waited_for(condition: Callable[[], bool]) -> float:
    started = time.perf_counter()
    while not condition():
        time.sleep(0.005)
    return time.perf_counter() - started


def main() -> None:
    port = free_port()
    server = Server(programs()["valkey"], "--appendonly", "yes", "--appendfsync", "always")
    with tempfile.TemporaryDirectory() as folder, gunicorn(server, Path(folder), port):
        watcher = Client(port)
        _, there = watcher.call("POST", "/sessions", {})
        server.kill()
        first = [start(port) for _ in range(60)]
        print(f"the first requests, until the circuits are open: longest {max(first) * 1000:.0f} ms")

        with ThreadPoolExecutor(CLIENTS) as pool:
            results = list(pool.map(lambda number: one_client(port, number), range(CLIENTS)))
        took = sorted(seconds * 1000 for times, _ in results for seconds in times)
        cuts = statistics.quantiles(took, n=1000)
        print(f"sessions of the journal, {len(took)} requests of {CLIENTS} clients: p50 {cuts[499]:.1f} ms, ", end="")
        print(f"p99 {cuts[989]:.1f} ms, longest {took[-1]:.1f} ms")
        watcher.close()  # gunicorn ends a connection on which nothing comes for 2 s
        watcher = Client(port)
        refused = [timed(watcher, "GET", f"/sessions/{there['session_id']}") for _ in range(200)]
        assert {status for _, status, _ in refused} == {503}
        print(f"other sessions, 503: longest {max(refused)[0] * 1000:.1f} ms")

        pending = watcher.call("GET", "/sessions/health")[1]["pending"]
        server.start()
        closed = waited_for(lambda: bool(watcher.call("GET", "/sessions/health")[1]["connected"]))
        drained = waited_for(lambda: watcher.call("GET", "/sessions/health")[1]["pending"] == 0)
        print(f"Redis answers: noticed after {closed:.1f} s, {pending} writes handed over {drained:.2f} s later")
        for _, said in results:
            for session_id, texts in said.items():
                assert contents(watcher.call("GET", f"/sessions/{session_id}")[1]) == texts
        print(
            f"{sum(len(texts) for _, said in results for texts in said.values())} messages, all there, in order, once"
        )
        watcher.close()
    server.stop()


if __name__ == "__main__":
    main()
