"""Metrics and figures under gunicorn: after 1,000 turns over 2 workers they are what was sent."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from flask_convstore import open_store

from ..app.test_gunicorn import ROOT, Client, _answers, start
from ..processes import children, wait_for
from ..servers import Server, free_port

CLIENTS, TURNS = 8, 125
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@contextlib.contextmanager
def serving(server: Server, kind: str, folder: Path) -> Iterator[tuple[int, int]]:
    """Serve with two workers of a *kind*, as ``deploy`` has it. Yield the port and the process id of gunicorn."""
    port, figures = free_port(), folder / "figures"
    figures.mkdir()
    (figures / "counter_1.db").write_bytes(b"of an earlier run")
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(figures), "BIND": f"127.0.0.1:{port}", "THREADS": "8"}
    environment |= {"CONVSTORE_URL": server.url, "CONVSTORE_METRICS": "true", "CONVSTORE_FIGURES": "true"}
    environment["INSTANCE"] = str(folder / "instance")
    command = [sys.executable, "-m", "gunicorn", "--config", "deploy/gunicorn.conf.py", "--worker-class", kind]
    command += ["--log-level", "critical", "tests.turn_app:create_app()"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        wait_for(lambda: process.poll() is not None or _answers(port), "the app does not come up")
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(60)


def samples(port: int) -> Samples:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/sessions/metrics") as answer:
        text = answer.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items() - {("store", "convstore")})): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found.get((f"convstore_{name}", frozenset(labels.items())), 0)


def _take_turns(port: int, name: str, failures: list[object]) -> None:
    """Take so many turns in a session of one's own. The last one is sent twice."""
    try:
        path = f"/sessions/{start(port)}/messages"
        client = Client(port)
        for number in [*range(TURNS), TURNS - 1]:
            key = {"Idempotency-Key": f"{name}-{number}"}
            status, answer = client.call("POST", path, {"content": f"{name}{number}"}, **key)
            if status != 201:
                failures.append(answer)
        client.close()
    except Exception as error:
        failures.append(error)


@pytest.mark.parametrize("kind", ["gthread", "gevent"])
def test_after_a_thousand_turns_the_counters_are_what_was_sent(valkey: Server, kind: str, tmp_path: Path) -> None:
    failures: list[object] = []
    with serving(valkey, kind, tmp_path) as (port, _):
        clients = [threading.Thread(target=_take_turns, args=(port, name, failures)) for name in "abcdefgh"]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        found = samples(port)
        again = [value(samples(port), "turn_duration_seconds_count", outcome="replied") for _ in range(4)]
    assert failures == []
    turns = CLIENTS * TURNS
    assert value(found, "operations_total", kind="begin_turn", outcome="ok") == turns == 1000
    assert value(found, "operations_total", kind="begin_turn", outcome="repeated") == CLIENTS
    assert value(found, "operations_total", kind="commit_turn", outcome="ok") == turns
    assert value(found, "operation_duration_seconds_count", kind="begin_turn") == turns + CLIENTS
    assert value(found, "turn_duration_seconds_count", outcome="replied") == turns
    assert value(found, "message_bytes_count") == 2 * turns
    assert value(found, "sessions_started_total") == CLIENTS
    # A worker's first write asks for its rights, and sends the text of a script. A new session is told to an index.
    assert turns <= value(found, "round_trips_total", kind="commit_turn") <= turns + 8
    assert value(found, "turns_in_progress") == value(found, "turns_waiting") == 0
    assert value(found, "up") == 1
    assert again == [turns] * 4, "each worker tells of all"
    with open_store(valkey.url) as store:  # the workers have ended, and sent the rest
        figures, minutes = store.figures(), store.timeline()
    assert (figures.alive, figures.started, figures.expired, figures.deleted) == (CLIENTS, CLIENTS, 0, 0)
    assert figures.messages == 2 * turns
    assert sum(minute.turns for minute in minutes) == turns
    assert sum(minute.started for minute in minutes) == CLIENTS
    assert sum(minute.operations for minute in minutes) >= 2 * turns
    assert sum(minute.failed_turns + minute.failed_operations for minute in minutes) == 0


def test_gauges_of_a_worker_that_died_are_gone(valkey: Server, tmp_path: Path) -> None:
    """A turn that died with its worker would be in progress for ever. Its counters stay."""
    with serving(valkey, "gthread", tmp_path) as (port, master):
        path = f"/sessions/{start(port)}/messages"

        def hang() -> None:
            with contextlib.suppress(OSError):
                Client(port).call("POST", path, {"content": "hang"})

        hanging = threading.Thread(target=hang, daemon=True)
        hanging.start()
        wait_for(lambda: value(samples(port), "turns_in_progress") == 1, "the turn does not begin")
        for pid in children(master):
            os.kill(pid, signal.SIGKILL)
        hanging.join()
        wait_for(lambda: _answers(port), "no worker comes back")
        found = samples(port)
    assert value(found, "turns_in_progress") == 0
    assert value(found, "operations_total", kind="begin_turn", outcome="ok") == 1
