"""Metrics: the page says what was done, in words of the code only, and nothing is measured where nobody asks for it."""

from __future__ import annotations

import builtins
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, abort, request
from prometheus_client.parser import text_string_to_metric_families

from flask_convstore import ConfigurationError, ConversationStore, StoreUnavailable, TurnLost
from flask_convstore.app import measuring
from flask_convstore.domain.repeats import Repeats
from flask_convstore.telemetry import metrics
from flask_convstore.telemetry.held_turns import HeldTurns
from flask_convstore.telemetry.observed_store import ObservedStore
from flask_convstore.telemetry.updates import UPDATES, Updates

from ..processes import wait_for
from ..servers import free_port
from ..service import Service, in_memory

ROOT = Path(__file__).parents[2]


class Figures:
    """The samples of a page, less those of a page before: all tests share the process."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._before = self.now()

    def now(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        answer = self._service.client.get("/sessions/metrics")
        assert answer.status_code == 200
        assert answer.mimetype == "text/plain"
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        key = f"convstore_{name}", frozenset({"store": "convstore", **labels}.items())
        return self.now().get(key, 0) - self._before.get(key, 0)

    def level(self, name: str) -> float:
        return self.now()[f"convstore_{name}", frozenset({("store", "convstore")})]


@pytest.fixture
def metered(url: str) -> Service:
    service = Service(url, METRICS=True, FALLBACK="none")
    service.convstore.reply(lambda turn: "yes" if turn.message["content"] != "fail" else str(1 / 0))
    return service


def test_operations_are_counted_by_kind_and_outcome(metered: Service) -> None:
    figures = Figures(metered)
    session_id = metered.start()
    key = {"Idempotency-Key": "once"}
    for _ in range(2):
        metered.client.post(f"/sessions/{session_id}/messages", json={"content": "hi"}, headers=key)
    metered.get(session_id)
    metered.client.get("/sessions/none")
    metered.client.delete(f"/sessions/{session_id}")
    metered.client.delete(f"/sessions/{session_id}")
    operations = "operations_total"
    assert figures(operations, kind="put", outcome="ok") == 1
    assert figures(operations, kind="begin_turn", outcome="ok") == 1
    assert figures(operations, kind="begin_turn", outcome="repeated") == 1
    assert figures(operations, kind="commit_turn", outcome="ok") == 1
    assert figures(operations, kind="load", outcome="session_not_found") == 1
    assert figures(operations, kind="delete", outcome="ok") == 1
    assert figures(operations, kind="delete", outcome="session_not_found") == 1
    assert figures("operation_duration_seconds_count", kind="delete") == 2
    assert figures("sessions_started_total") == figures("sessions_deleted_total") == 1
    assert figures("message_bytes_count") == 2
    assert figures("session_bytes_count") > 0
    is_on_server = metered.app.config["CONVSTORE_URL"] != "memory://"
    assert (figures("round_trips_total", kind="commit_turn") > 0) == is_on_server


def test_a_batch_counts_each_of_its_writes(metered: Service) -> None:
    figures = Figures(metered)
    with metered.app.app_context():
        metered.convstore.save_session("a", {"history": []})
        metered.convstore.append_many({"a": ["one", "two"], "none": ["three"]})
    assert figures("operations_total", kind="append", outcome="ok") == 1
    assert figures("operations_total", kind="append", outcome="session_not_found") == 1
    assert figures("operation_duration_seconds_count", kind="apply_each") == 1
    assert figures("message_bytes_count") == 2


def test_turns_are_in_progress_until_their_end(metered: Service) -> None:
    figures = Figures(metered)
    session_id = metered.start()
    with metered.app.app_context():
        with metered.convstore.turn(session_id, "hi"):
            assert figures.level("turns_in_progress") == 1
        assert figures.level("turns_in_progress") == 0
        with pytest.raises(TurnLost), metered.convstore.turn(session_id, "hi") as lost:
            with metered.convstore.turn(session_id, "hi", policy="supersede") as turn:
                turn.reply("mine")
            lost.reply("late")
    metered.client.post(f"/sessions/{session_id}/messages", json={"content": "fail"})
    for outcome, count in (("unanswered", 1), ("replied", 1), ("lost", 1), ("failed", 1)):
        assert figures("turn_duration_seconds_count", outcome=outcome) == count, outcome
    assert figures("leases_lost_total") == 1
    assert figures.level("turns_in_progress") == 0


def test_a_turn_that_stands_in_line_is_told(metered: Service) -> None:
    figures = Figures(metered)
    session_id, store = metered.start(), metered.convstore.on(metered.app)
    taken: list[int] = []

    def wait() -> None:
        with store.turn(session_id, "second", policy="wait"):
            taken.append(1)

    waiting = threading.Thread(target=wait)
    with store.turn(session_id, "first"):
        waiting.start()
        wait_for(lambda: figures.level("turns_waiting") == 1, "nobody waits")
    waiting.join()
    assert taken == [1]
    assert figures.level("turns_waiting") == 0
    assert figures("turn_wait_seconds_count") == 1


def test_streams_followers_and_stops(metered: Service) -> None:
    figures = Figures(metered)
    session_id, store = metered.start(), metered.convstore.on(metered.app)
    go_on = threading.Event()

    def chunks() -> Iterator[str]:
        yield "begun "
        go_on.wait(20)
        yield "never"

    with store.turn(session_id, "hi") as turn:
        reply = turn.stream(chunks())
    events = reply.events()
    assert next(events)
    assert (figures.level("streams_open"), figures.level("followers")) == (1, 1)
    store.stop_reply(session_id, reply.id)
    go_on.set()
    assert list(events)
    wait_for(lambda: figures.level("streams_open") == figures.level("followers") == 0, "it does not end")
    assert figures("stops_total") == 1
    wait_for(lambda: figures.level("turns_in_progress") == 0, "the turn does not end")


def test_a_session_above_a_mebibyte_counts_once(metered: Service) -> None:
    figures = Figures(metered)
    with metered.app.app_context():
        metered.convstore.save_session("large", {"history": [{"content": "x" * 600_000}] * 2})
        metered.convstore.save_session("small", {"history": ["x"]})
        for name in ("large", "large", "small"):
            metered.convstore.get_session(name, last=1 if metered.app.config["CONVSTORE_URL"] != "memory://" else None)
    assert figures("large_sessions_total") == 1


def test_an_outage_shows(tmp_path: Path) -> None:
    """The server is away, a session goes to the journal, and the circuit opens."""
    service = Service(f"redis://127.0.0.1:{free_port()}/0", METRICS=True, RETRIES=0, CIRCUIT_FAILURES=2)
    figures = Figures(service)
    session_id = service.start()
    with service.app.app_context(), pytest.raises(StoreUnavailable):
        service.convstore.get_session("unknown")
    assert (figures.level("up"), figures.level("degraded"), figures.level("circuit_open")) == (0, 1, 1)
    assert figures("fallback_answers_total", kind="put", fallback="journal") == 1
    assert figures("operations_total", kind="load", outcome="store_unavailable") == 1
    assert figures.level("journal_commands") == 1
    assert figures.level("journal_bytes") > 0
    assert figures.level("journal_oldest_age_seconds") >= 0
    assert session_id not in service.client.get("/sessions/metrics").text


@in_memory
def test_no_label_has_an_id_an_owner_or_a_text(metered: Service) -> None:
    metered.convstore.owner_loader(lambda: "very-secret-owner")
    session_id = metered.start(message={"content": "very-secret-text"}, data={"very-secret-field": 1})
    metered.client.get("/sessions")
    with metered.app.app_context():
        metered.convstore.delete_owner(owner="very-secret-owner")
    text = metered.client.get("/sessions/metrics").text
    assert "very-secret" not in text
    assert session_id not in text
    assert set(re.findall(r'[{,](\w+)="', text)) == {"store", "kind", "outcome", "fallback", "le"} & set(
        re.findall(r'[{,](\w+)="', text)
    )


# ---- the route


@in_memory
def test_the_page_is_off_by_default_and_not_in_the_document(url: str) -> None:
    service = Service(url)
    answer = service.client.get("/sessions/metrics")
    assert (answer.status_code, answer.mimetype) == (404, "text/html")
    assert "/sessions/metrics" not in service.json(service.client.get("/sessions/openapi.json"), 200)["paths"]


@in_memory
def test_an_app_can_guard_the_page(url: str) -> None:
    """As docs/monitoring.md shows it."""
    service = Service(url, METRICS=True)

    @service.app.before_request
    def guard() -> None:
        if request.endpoint == "convstore.metrics" and request.headers.get("Authorization") != "Bearer right":
            abort(403)

    assert service.client.get("/sessions/metrics").status_code == 403
    right = {"Authorization": "Bearer right"}
    assert service.client.get("/sessions/metrics", headers=right).status_code == 200
    assert service.client.get("/sessions/health").status_code == 200


def test_two_stores_of_an_app_are_told_apart() -> None:
    app = Flask("two")
    app.config.update(CONVSTORE_URL="memory://", CONVSTORE_METRICS=True, NOTES_METRICS=True)
    chats, notes = ConversationStore(app), ConversationStore(app, name="notes", config_prefix="NOTES")
    app.register_blueprint(chats.blueprint)
    with app.app_context():
        notes.save_session("n", {"history": []})
    text = app.test_client().get("/sessions/metrics").text
    assert 'convstore_operations_total{kind="put",outcome="ok",store="notes"} 1.0' in text
    assert 'convstore_up{store="convstore"} 1.0' in text
    assert 'convstore_up{store="notes"} 1.0' in text


# ---- where it is off


@pytest.mark.parametrize(
    ("setting", "package", "extra"),
    [("METRICS", "prometheus_client", "metrics"), ("TRACING", "opentelemetry", "tracing")],
)
def test_a_missing_package_is_told_at_the_start(
    monkeypatch: pytest.MonkeyPatch, setting: str, package: str, extra: str
) -> None:
    monkeypatch.setattr(measuring, "_is_there", lambda name: not name.startswith(package))
    with pytest.raises(ConfigurationError) as caught:
        Service("memory://", **{setting: True})
    assert str(caught.value) == f"CONVSTORE_{setting} needs {package}: install the extra [{extra}] of flask-convstore"
    Service("memory://")


def test_whether_a_package_is_there() -> None:
    assert measuring._is_there("prometheus_client")
    assert not measuring._is_there("no_such_package")
    assert not measuring._is_there("no_such_package.inside")


def test_a_folder_of_the_workers_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="PROMETHEUS_MULTIPROC_DIR names no folder"):
        Service("memory://", METRICS=True)


def test_without_the_settings_nothing_stands_around_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a package imported that they need."""
    imported, load = [], builtins.__import__

    def noted(name: str, *more: Any, **options: Any) -> Any:
        imported.append(name)
        return load(name, *more, **options)

    monkeypatch.setattr(builtins, "__import__", noted)
    service = Service("memory://")
    service.start()
    backend = service.app.extensions["convstore"]["convstore"].backend
    assert type(backend.store) is ObservedStore
    assert backend.inside_turn is None
    assert not [name for name in imported if name.startswith(("prometheus_client", "opentelemetry"))]


# ---- the parts


def test_the_page_of_the_docs_has_every_metric() -> None:
    table = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
    told = dict(re.findall(r"^\| `(convstore_\w+)` \| (\w+) \|", table, re.MULTILINE))
    kinds = {"counter": "_total", "gauge": "", "histogram": ""}
    found = {f"{metric._name}{kinds[metric._type]}": metric._type for metric in metrics.OF_PROCESSES}
    assert told == {**found, **dict.fromkeys(metrics.OF_HOST, "gauge")}
    labels = {
        name: re.findall(r"`(\w+)`", cell)
        for name, cell in re.findall(r"^\| `(convstore_\w+)` \| \w+ \| ([^|]*)\|", table, re.MULTILINE)
    }
    for metric in metrics.OF_PROCESSES:
        assert labels[f"{metric._name}{kinds[metric._type]}"] == list(metric._labelnames[1:]), metric._name


def test_a_turn_whose_end_nobody_writes_is_forgotten_with_its_lease() -> None:
    now = [100.0]
    held: HeldTurns[str] = HeldTurns(lambda: now[0])
    held.add("a", 30, "first")
    held.add("b", 30, "second")
    now[0] += 20
    held.renew("b", 30)
    held.renew("unknown", 30)
    now[0] += 20
    assert held.take_expired() == ["first"]
    assert held.take_expired() == []
    assert (held.get("a"), held.get("b"), len(held)) == (None, "second", 1)
    held.in_child()
    assert len(held) == 0


def test_an_update_in_the_midst_of_another_comes_behind_it() -> None:
    """Garbage that is collected there may end a turn. prometheus-client's lock would wait for its own thread."""
    updates = Updates()
    done: list[str] = []

    def outer() -> None:
        updates.do(done.append, "inner")
        done.append("outer")

    updates.do(outer)
    assert done == ["outer", "inner"]


def test_an_update_that_fails_fails_no_operation(
    metered: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk of the metrics may be full. The write is done, and has its answer."""
    meter = metered.app.extensions["convstore"]["convstore"].measuring._meter

    def full(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(UPDATES, "_told", Repeats())
    monkeypatch.setattr(meter, "_show", full)
    metered.say(metered.start())
    [error] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert error.getMessage().startswith("a metric was not updated")
    assert error.exc_info
