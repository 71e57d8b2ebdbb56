"""Requests of the blueprint, against Flask routes by hand, under gunicorn with sync and gthread workers."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.processes import children
from tests.servers import Server, free_port

from .measure import Cost, Result, median, server_seconds

_CLIENTS = 4
_ROUNDS = 5
MESSAGE = json.dumps({"content": "u" * 200})
_WORKERS = {"sync": ["--worker-class", "sync"], "gthread": ["--worker-class", "gthread", "--threads", "4"]}


class Ask(NamedTuple):
    """A request that is made over and over, by each client at a path of its own."""

    method: str
    paths: list[str]
    body: str | None = None
    owner: str = ""


def http_results(server: Server, seconds: float) -> list[Result]:
    """Each route of the blueprint for so many seconds against a hand-written one, and ``continue`` against a bare one."""
    results = []
    for kind, options in _WORKERS.items():
        with serving(server, options) as (port, worker):
            ours, theirs = _asks(port, "/sessions"), _asks(port, "/by-hand")
            bare = Ask("POST", ["/bare"] * _CLIENTS, MESSAGE)
            asks = [*ours.values(), *theirs.values(), bare]
            rounds = [[_cost(server, port, worker, ask, seconds / _ROUNDS) for ask in asks] for _ in range(_ROUNDS)]
        found = [median(column) for column in zip(*rounds, strict=True)]
        of_bare = found[-1]
        for number, name in enumerate(ours):
            target = 1.10 if name == "continue" else None
            by_hand = found[len(ours) + number]
            results.append(Result(f"HTTP {name}, {kind}", 0, "route by hand", found[number], by_hand, target))
            if name == "continue":
                results.append(Result(f"HTTP {name}, {kind}", 0, "bare route", found[number], of_bare))
    return results


def _asks(port: int, root: str) -> dict[str, Ask]:
    """The requests to routes below *root*: sessions are made for them."""
    names = [str(asked(port, Ask("POST", [root], "{}"))["session_id"]) for _ in range(2 * _CLIENTS)]
    read, continued = names[:_CLIENTS], names[_CLIENTS:]
    for name in read:
        for _ in range(10):
            asked(port, Ask("POST", [f"{root}/{name}/messages"], MESSAGE))
    for _ in range(50):
        asked(port, Ask("POST", [root], "{}", "alice"))
    return {
        "start": Ask("POST", [root] * _CLIENTS, "{}"),
        "continue": Ask("POST", [f"{root}/{name}/messages" for name in continued], MESSAGE),
        "get 20 messages": Ask("GET", [f"{root}/{name}" for name in read]),
        "list 50 sessions": Ask("GET", [f"{root}?limit=50"] * _CLIENTS, owner="alice"),
    }


@contextlib.contextmanager
def serving(server: Server, options: list[str], **more: str) -> Iterator[tuple[int, int]]:
    """The port of a gunicorn, and the process that works there. *more* goes into its environment."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, **more, "CONVSTORE_URL": server.url, "INSTANCE": folder}
        command = [sys.executable, "-m", "gunicorn", "--workers", "1", "--log-level", "critical", *options]
        command += ["--bind", f"127.0.0.1:{port}", "benchmarks.http_app:create_app()"]
        process = subprocess.Popen(command, cwd=Path(__file__).parent.parent, env=environment)
        try:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError):
                    asked(port, Ask("POST", ["/bare"], "{}"))
                    break
                time.sleep(0.05)
            (worker,) = children(process.pid)
            yield port, worker
        finally:
            process.terminate()
            process.wait(20)


def asked(port: int, ask: Ask) -> dict[str, object]:
    client = http.client.HTTPConnection("127.0.0.1", port)
    found = _answer(client, ask, ask.paths[0])
    client.close()
    return dict(json.loads(found))


def _answer(client: http.client.HTTPConnection, ask: Ask, path: str) -> bytes:
    headers = {"Owner": ask.owner} if ask.owner else {}
    client.request(ask.method, path, ask.body, {**headers, "Content-Type": "application/json"})
    answer = client.getresponse()
    found = answer.read()
    assert answer.status in (200, 201), (ask, answer.status, found)
    return found


def _cost(server: Server, port: int, worker: int, ask: Ask, seconds: float) -> Cost:
    """Cost of one request. By the clock it is the inverse of the rate: a sync worker serves one connection at a time."""
    counts: list[int] = []

    def run(path: str) -> None:
        count, end = 0, time.perf_counter() + seconds
        client = http.client.HTTPConnection("127.0.0.1", port)
        while time.perf_counter() < end:
            _answer(client, ask, path)
            count += 1
        client.close()
        counts.append(count)

    threads = [threading.Thread(target=run, args=(path,)) for path in ask.paths]
    used, busy, started = _app_seconds(worker), server_seconds(server.client), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - started
    spent = (elapsed, _app_seconds(worker) - used, server_seconds(server.client) - busy)
    return Cost(*(part * 1e6 / sum(counts) for part in spent))


def _app_seconds(worker: int) -> float:
    """The processor time of a process so far, to a hundredth of a second."""
    fields = Path(f"/proc/{worker}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
