"""Figures of an app: what is there, what happened, and nothing twice, whatever becomes of processes and server."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_convstore import Figures, InvalidInput, PlaceFigures, StoreUnavailable, open_store
from flask_convstore.telemetry import portions
from flask_convstore.telemetry.portions import Portions

from ..clocks import Clock
from ..processes import wait_for
from ..servers import Server, running
from ..service import OwnedService, Service
from ..topologies import cluster, told

SUMS = "chat:session:figures:{sums}"


def counting(url: str, **config: Any) -> Service:
    return Service(url, FIGURES=True, FALLBACK="none", **config)


@pytest.fixture
def counted(url: str) -> Iterator[Service]:
    service = counting(url)
    service.convstore.reply(lambda turn: "yes" if turn.message["content"] != "fail" else str(1 / 0))
    with service.app.app_context():
        yield service


def happened(service: Service) -> tuple[int | None, ...]:
    found = service.convstore.figures()
    return found.alive, found.started, found.expired, found.deleted


@pytest.fixture(autouse=True)
def _no_thread_outlives_its_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """It would write to the server of another test."""
    monkeypatch.setattr(portions, "EVERY", 0.05)
    yield
    wait_for(lambda: not threads(), "a thread goes on")


def threads() -> int:
    return [thread.name for thread in threading.enumerate()].count("convstore-figures")


# ---- exact


def test_sessions_are_counted_as_they_come_and_go(counted: Service) -> None:
    store = counted.convstore
    notes = store.mapping("notes")
    assert happened(counted) == (0, None, None, None)
    for name in "abc":
        store.save_session(name, {"history": [{"role": "user", "content": name}], "n": 1}, owner="ada")
    store.save_session("a", {"history": [], "n": 2}, owner="ada")  # a replacement is no start
    store.save_message("room", "user", "hi")
    notes["z"] = [1, 2]
    assert happened(counted) == (5, 5, 0, 0)
    assert store.delete_session("a")
    assert not store.delete_session("a")
    store.save_session("short", {"n": 1}, ttl=1)
    assert happened(counted) == (5, 6, 0, 1)
    _expire(store, "short")
    found = store.figures()
    assert (found.alive, found.started, found.expired, found.deleted) == (4, 6, 1, 1)
    assert (found.is_exact, found.error) == (True, 0.0)
    assert {place: (one.alive, one.messages) for place, one in found.places.items()} == {
        "sessions": (2, 2),
        "chats": (1, 1),
        "mapping:notes": (1, 2),
    }
    assert found.messages == sum(one.messages for one in found.places.values())
    assert found.average_size == found.size / 4
    sessions = [store.get_session(name) for name in "bc"]
    assert found.places["sessions"].size == sum(session.size or 0 for session in sessions if session is not None)


def _expire(store: Any, session_id: str) -> None:
    """Let a session expire by the server, or in memory by its own time."""
    client = store.client
    if client:
        client.pexpire(f"chat:session:{{{session_id}}}", 1)
        client.pexpire(f"chat:session:{{{session_id}}}:receipts", 1)
        wait_for(lambda: not client.exists(f"chat:session:{{{session_id}}}"), "it does not expire")
    else:
        memory = store._state()._memories["chat:session:"]
        memory._sessions[session_id].expires_at_ms = 0


def test_an_owners_figures_have_that_owners_sessions_only(url: str) -> None:
    service = OwnedService(url, FIGURES=True)
    for owner, count in (("ada", 3), ("bob", 1), (None, 2)):
        for _ in range(count):
            assert service.call(owner, "POST", json={"data": {"n": 1}}).status_code == 201
    with service.app.app_context():
        store = service.convstore
        alive = {owner: store.figures(owner).alive for owner in ("ada", "bob", "eve", None)}
        assert alive == {"ada": 3, "bob": 1, "eve": 0, None: 2}
        assert store.figures().alive == 6
        found = store.figures("ada")
        assert (found.started, found.since_ms) == (None, None)
        assert found.places["sessions"] == PlaceFigures(3, 0, found.size)


def test_sessions_that_were_there_before_have_not_expired(url: str) -> None:
    with open_store(url) if url != "memory://" else contextlib.nullcontext() as before:
        if before:
            before.save_session("old", {"n": 1})
    service = counting(url)
    with service.app.app_context():
        service.convstore.save_session("new", {"n": 1})
        found = service.convstore.figures()
        assert (found.alive, found.started, found.expired) == (2 if before else 1, 1, 0)
        service.convstore.delete_session("new")
        assert happened(service) == (1 if before else 0, 1, 0, 1)


def test_a_wiped_server_begins_anew(valkey: Server) -> None:
    service = counting(valkey.url)
    with service.app.app_context():
        for name in "abc":
            service.convstore.save_session(name, {"n": 1})
        assert happened(service) == (3, 3, 0, 0)
        valkey.client.flushall()
        assert happened(service) == (0, None, None, None)
        service.convstore.save_session("d", {"n": 1})
        assert happened(service) == (1, 1, 0, 0)


def test_an_owner_has_a_name(counted: Service) -> None:
    with pytest.raises(InvalidInput, match="owner"):
        counted.convstore.figures("")


# ---- minutes


def test_a_minute_tells_what_happened(counted: Service) -> None:
    session_id = counted.start()
    counted.say(session_id)
    counted.client.post(f"/sessions/{session_id}/messages", json={"content": "fail"})
    counted.client.get("/sessions/none")
    minutes = counted.convstore.timeline(2)  # the minute may just have ended
    assert sum(minute.started for minute in minutes) == 1
    assert sum(minute.turns for minute in minutes) == 2
    assert sum(minute.failed_turns for minute in minutes) == 1
    assert sum(minute.operations for minute in minutes) >= 6
    assert sum(minute.failed_operations for minute in minutes) == 0
    assert [minute.alive for minute in minutes if minute.alive is not None] == [1]
    last = next(minute for minute in reversed(minutes) if minute.operations)
    assert last.p50_ms is not None
    assert last.p99_ms is not None
    assert 0 < last.p50_ms <= last.p99_ms < 5_000


def test_a_timeline_has_each_minute_oldest_first(counted: Service) -> None:
    minutes = counted.convstore.timeline()
    assert len(minutes) == 60
    starts = [minute.at_ms for minute in minutes]
    assert starts == list(range(starts[0], starts[0] + 60 * 60_000, 60_000))
    for wrong in (0, 1_441, True, "60", 1.5):
        with pytest.raises(InvalidInput):
            counted.convstore.timeline(wrong)  # type: ignore[arg-type]


def test_of_a_long_outage_the_last_hour_is_told_and_all_is_counted(clock: Clock) -> None:
    service = counting("memory://")
    sender = service.app.extensions["convstore"]["convstore"].measuring._portions
    with service.app.app_context(), pytest.MonkeyPatch.context() as patched:
        patched.setattr(sender.tally, "_tell", lambda: None)
        for number in range(70):
            service.convstore.save_session(f"s{number}", {"n": 1}, ttl=86_400)
            clock.now += 60_000
        figures, minutes = service.convstore.figures(), service.convstore.timeline(100)
    assert (figures.alive, figures.started, figures.expired) == (70, 70, 0)
    assert [minute.started for minute in minutes] == [0] * 39 + [1] * 60 + [0]


# ---- off


def test_nothing_is_counted_where_nobody_asks_for_it(valkey: Server) -> None:
    service = Service(valkey.url)
    with service.app.app_context():
        service.convstore.save_session("s", {"n": 1})
        found = service.convstore.figures()
        assert (found.alive, found.started, found.since_ms) == (1, None, None)
        assert type(service.app.extensions["convstore"]["convstore"].backend.store).__name__ == "ObservedStore"
    assert not valkey.client.keys("*figures*")
    assert not threads()


def test_an_idle_process_sends_nothing_and_has_no_thread(valkey: Server) -> None:
    service = counting(valkey.url)
    with service.app.app_context():
        assert not threads()
        service.convstore.save_session("s", {"n": 1})
        wait_for(lambda: valkey.client.hget(SUMS, "base") is not None, "nothing is sent")
        wait_for(lambda: not threads(), "the thread does not end")
        sent = valkey.client.hgetall(SUMS)
        service.convstore.delete_session("s")
        wait_for(lambda: valkey.client.hget(SUMS, "deleted") == b"1", "the thread does not come back")
    assert sent[b"started"] == b"1"


@pytest.mark.server
def test_an_app_that_is_gone_is_not_kept_by_what_waits_for_a_server() -> None:
    with running("valkey") as server:
        service = counting(server.url, BUDGET=0.3)
        with service.app.app_context():
            service.convstore.save_session("s", {"n": 1})
            server.kill()
            with contextlib.suppress(StoreUnavailable):
                service.convstore.save_session("t", {"n": 1})
        wait_for(lambda: threads() > 0, "there is no thread")
        app = weakref.ref(service.app)
        del service
        wait_for(lambda: gc.collect() >= 0 and app() is None and not threads(), "the thread keeps the app")


# ---- processes

SCRIPT = """
import os, signal, sys, time
from flask_convstore import open_store
from flask_convstore.telemetry import portions

url, names, end = sys.argv[1:]
portions.EVERY = 0.3
store = open_store(url, figures=True, fallback="none")
for name in names.split(","):
    if name == "wait":
        deadline = time.monotonic() + 20
        while store.client.hget("chat:session:figures:{sums}", "started") != b"2" and time.monotonic() < deadline:
            time.sleep(0.05)
    elif name == "fork":
        child = os.fork()
        if child == 0:
            store.save_session("child", {"n": 1})
            sys.exit()
        assert os.waitpid(child, 0)[1] == 0
    else:
        store.save_session(name, {"n": 1})
if end == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
"""


def run(url: str, names: str, end: str = "exit", before: str = "", status: int = 0) -> None:
    command = [sys.executable, "-W", "error", "-c", before + SCRIPT, url, names, end]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, check=False, timeout=60, capture_output=True
    )
    assert done.returncode == status, done.stderr
    assert not done.stderr


def started(server: Server) -> int:
    return int(server.client.hget(SUMS, "started") or 0)


def test_the_counts_of_two_processes_add_up(valkey: Server) -> None:
    run(valkey.url, "a,b")
    run(valkey.url, "c")
    assert started(valkey) == 3
    with open_store(valkey.url) as store:  # which counts nothing itself
        found = store.figures()
        assert (found.alive, found.started, found.expired) == (3, 3, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot fork here")
def test_a_forked_process_counts_its_own_only(valkey: Server) -> None:
    run(valkey.url, "a,fork,b")
    assert started(valkey) == 3
    assert len(valkey.client.keys(f"{SUMS}:of:*")) == 2


def test_a_killed_process_loses_no_more_than_its_last_seconds(valkey: Server) -> None:
    run(valkey.url, "a,b,wait,c", "kill", status=-signal.SIGKILL)
    assert started(valkey) == 2


def test_prometheus_is_not_needed(valkey: Server) -> None:
    run(valkey.url, "a", before="import sys; sys.modules['prometheus_client'] = None\n")
    assert started(valkey) == 1


def test_greenlets_count_too(valkey: Server) -> None:
    pytest.importorskip("gevent")
    patched = "import warnings; warnings.simplefilter('ignore')\nfrom gevent import monkey; monkey.patch_all()\n"
    run(valkey.url, "a,b,wait,c", before=patched)
    assert started(valkey) == 3


# ---- a server that is away


@pytest.mark.server
def test_what_happened_while_the_server_was_away_is_told_later_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portions, "EVERY", 2.0)  # the test sends by itself
    with running("valkey") as server:
        service = counting(server.url, COMMAND_TIMEOUT=0.2, BUDGET=0.5, CIRCUIT_FAILURES=100)
        sender = service.app.extensions["convstore"]["convstore"].measuring._portions
        assert isinstance(sender, Portions)
        with service.app.app_context():
            service.convstore.save_session("a", {"n": 1})
            os.kill(server.process.pid, signal.SIGSTOP)
            try:
                sender.send()  # arrives, and its answer does not
                assert sender._waiting
                with pytest.raises(StoreUnavailable):
                    service.convstore.save_session("b", {"n": 1})
                with pytest.raises(StoreUnavailable):
                    service.convstore.figures()
            finally:
                os.kill(server.process.pid, signal.SIGCONT)
            wait_for(lambda: started(server) == 1, "the portion does not arrive")
            sender.send()
            assert sender._waiting is None
            sender.send()
            service.convstore.save_session("c", {"n": 1})
            found = service.convstore.figures()
            minutes = service.convstore.timeline(2)
        assert found.started == 2
        assert sum(minute.degraded_seconds for minute in minutes) >= 1
        assert sum(minute.failed_operations for minute in minutes) == 1


@pytest.mark.server
def test_figures_open_no_circuit_and_close_one() -> None:
    with running("valkey") as server:
        service = Service(server.url, FALLBACK="none", CIRCUIT_FAILURES=2, RETRIES=0)
        circuit = service.app.extensions["convstore"]["convstore"].circuit
        with service.app.app_context():
            server.kill()
            for _ in range(3):
                with pytest.raises(StoreUnavailable, match="cannot reach the server"):
                    service.convstore.figures()
            assert not circuit.is_open
            for _ in range(2):
                with pytest.raises(StoreUnavailable):
                    service.convstore.get_session("s")
            assert circuit.is_open
            with pytest.raises(StoreUnavailable, match="is tried again"):
                service.convstore.figures()
            circuit.try_now()
            with pytest.raises(StoreUnavailable, match="cannot reach the server"):
                service.convstore.figures()
            server.start()
            circuit.try_now()
            assert service.convstore.figures().alive == 0
            assert not circuit.is_open


@pytest.mark.server
def test_a_cluster_counts_as_one_server() -> None:
    with cluster() as found:
        service = counting(found.url)
        with service.app.app_context():
            for number in range(30):
                service.convstore.save_session(f"s{number}", {"n": 1}, owner="ada")
            service.convstore.delete_session("s1")
            assert happened(service) == (29, 30, 0, 1)
            assert service.convstore.figures("ada").alive == 29
            assert sum(minute.started for minute in service.convstore.timeline()) == 30


@pytest.mark.server
def test_sessions_of_a_journal_are_counted_once() -> None:
    with running("valkey") as server:
        service = Service(server.url, FIGURES=True, COMMAND_TIMEOUT=0.2, BUDGET=0.5)
        with service.app.app_context():
            server.kill()
            service.convstore.save_session("a", {"n": 1})
            server.start()
            wait_for(lambda: service.convstore.health().pending == 0, "the journal is not handed over")
            wait_for(lambda: service.convstore.figures().started == 1, "nothing is sent")
            found = service.convstore.figures()
            assert (found.alive, found.started, found.expired) == (1, 1, 0)
            assert sum(minute.degraded_seconds for minute in service.convstore.timeline(2)) >= 1
            service.convstore.delete_session("a")
            assert happened(service) == (0, 1, 0, 1)


def test_the_page_of_the_metrics_has_them(url: str) -> None:
    service = counting(url, METRICS=True)
    assert "convstore_sessions{" not in Service(url, METRICS=True).client.get("/sessions/metrics").text
    service.start(data={"n": 1})
    told_of = dict(re.findall(r'^(convstore_s\w+){store="convstore"} (\S+)$', _page(service), re.MULTILINE))
    with service.app.app_context():
        found = service.convstore.figures()
    assert float(told_of["convstore_sessions"]) == 1
    assert float(told_of["convstore_sessions_expired"]) == 0
    assert float(told_of["convstore_stored_messages"]) == 0
    assert float(told_of["convstore_stored_bytes"]) == found.size > 0


def _page(service: Service) -> str:
    answer = service.client.get("/sessions/metrics")
    assert answer.status_code == 200
    return answer.text


def test_a_refusal_is_logged_and_fails_no_call(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    rights = ("reset", "on", ">p", "&*", "+@all")
    told(server, "ACL", "SETUSER", "u", *rights, "~chat:session:{*", "~chat:session:owner:*")
    service = counting(f"redis://u:p@{server.host}:{server.port}/0")
    with service.app.app_context():
        for name in "ab":
            service.convstore.save_session(name, {"n": 1})
            service.app.extensions["convstore"]["convstore"].measuring.send_figures()
        health = service.convstore.health()
        assert (health.degraded, health.problem) == (False, None)
        [line] = [record.getMessage() for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
        assert line.startswith("figures were not written, and wait: the server refuses us")
        told(server, "ACL", "SETUSER", "u", *rights, "~*")
        assert service.convstore.figures().started == 2


def test_figures_are_values(counted: Service) -> None:
    found = counted.convstore.figures()
    assert isinstance(found, Figures)
    assert found == counted.convstore.figures()
    assert found.average_size == 0.0
    with pytest.raises(AttributeError):
        found.alive = 3  # type: ignore[misc]
