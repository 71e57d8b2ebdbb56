"""Requests a second of the blueprint, against Flask routes by hand, under gunicorn with sync and gthread workers."""

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

from tests.servers import Server, free_port

from .measure import Result

_CLIENTS = 4
_BODY = json.dumps({"content": "u" * 200})
_WORKERS = {"sync": ["--worker-class", "sync"], "gthread": ["--worker-class", "gthread", "--threads", "4"]}


def http_results(server: Server, seconds: float) -> list[Result]:
    """``continue`` against a route that does the floor's two calls with the same validation; and against a bare route."""
    results = []
    for kind, options in _WORKERS.items():
        with _serving(server, options) as port:
            names = [_start(port) for _ in range(_CLIENTS)]
            paths = {
                "continue": [f"/sessions/{name}/messages" for name in names],
                "by hand": [f"/by-hand/{name}/messages" for name in names],
                "bare": ["/bare"] * _CLIENTS,
            }
            rates: dict[str, list[float]] = {name: [] for name in paths}
            for _ in range(5):
                for name, found in paths.items():
                    rates[name].append(_rate(port, found, seconds / 5))
        middle = {name: sorted(found)[2] for name, found in rates.items()}
        for other, target in (("by hand", 1.0), ("bare", None)):
            ours, theirs = 1e6 / middle["continue"], 1e6 / middle[other]
            case, against = f"HTTP continue, {kind}", f"route {other}"
            results.append(Result(case, 0, against, round(ours, 1), round(theirs, 1), round(ours / theirs, 3), target))
    return results


@contextlib.contextmanager
def _serving(server: Server, options: list[str]) -> Iterator[int]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "CONVSTORE_URL": server.url, "INSTANCE": folder}
        command = [sys.executable, "-m", "gunicorn", "--workers", "1", "--log-level", "critical", *options]
        command += ["--bind", f"127.0.0.1:{port}", "benchmarks.http_app:create_app()"]
        process = subprocess.Popen(command, cwd=Path(__file__).parent.parent, env=environment)
        try:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError):
                    _start(port)
                    break
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()
            process.wait(20)


def _start(port: int) -> str:
    client = http.client.HTTPConnection("127.0.0.1", port)
    client.request("POST", "/sessions", "{}", {"Content-Type": "application/json"})
    session_id = str(json.loads(client.getresponse().read())["session_id"])
    client.close()
    return session_id


def _rate(port: int, paths: list[str], seconds: float) -> float:
    """Requests a second, each client on a path of its own. A sync worker serves one connection at a time."""
    counts: list[int] = []

    def run(path: str) -> None:
        count, end = 0, time.perf_counter() + seconds
        client = http.client.HTTPConnection("127.0.0.1", port)
        while time.perf_counter() < end:
            client.request("POST", path, _BODY, {"Content-Type": "application/json"})
            answer = client.getresponse()
            answer.read()
            assert answer.status in (200, 201), answer.status
            count += 1
        client.close()
        counts.append(count)

    threads = [threading.Thread(target=run, args=(path,)) for path in paths]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - started)
