"""The log: where the sessions are, what was done to them, an outage summed up. Never a text, a password or a forged line."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from flask import Flask

from flask_convstore import ConversationStore
from flask_convstore.domain.commands import CommitTurn, MoveConversation
from flask_convstore.domain.operation_names import end_of, outcome_of
from flask_convstore.domain.repeats import Repeats
from flask_convstore.errors import NothingKnown, StoreUnavailable, TurnLost
from flask_convstore.operations.replies import Exchange, TurnEnded
from flask_convstore.outages import outage_watch
from flask_convstore.outages.outage_watch import OutageWatch

from ..servers import free_port
from ..service import Service, in_memory, problem

DOWN = StoreUnavailable("it is gone", written=False, is_down=True)
LATE = StoreUnavailable("no time is left", written=False, is_down=None)


class World:
    """A watch of a store, with a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(outage_watch, "monotonic", lambda: self.now)
        self.watch = OutageWatch(lambda *_, **__: None, "redis://host/0", "journal")
        self.watch._alone = Repeats(clock=lambda: self.now)


# ---- at the start


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "is at redis://someone:***@host/0, with the durability primary and the fallback journal"),
        ({"FALLBACK": "none", "DURABILITY": "fsync"}, "with the durability fsync and the fallback none"),
        ({"URL": "memory://"}, "is at memory://, with the durability memory and the fallback none"),
    ],
)
def test_one_line_at_the_start_says_where_the_sessions_are(
    caplog: pytest.LogCaptureFixture, config: dict[str, Any], told: str
) -> None:
    with caplog.at_level(logging.INFO, "flask_convstore"):
        app = Flask("start")
        app.config["CONVSTORE_URL"] = "redis://someone:very-secret@host/0"
        app.config.update({f"CONVSTORE_{name}": value for name, value in config.items()})
        ConversationStore(app)
    [record] = [record for record in caplog.records if record.levelno == logging.INFO]
    assert told in record.getMessage()
    assert record.convstore_store == "convstore"  # type: ignore[attr-defined]
    assert "very-secret" not in repr(vars(record))


@pytest.mark.parametrize(
    ("config", "count"), [({}, 1), ({"TESTING": True}, 0), ({"DEBUG": True}, 0), ({"CONVSTORE_URL": "redis://h/0"}, 0)]
)
def test_memory_warns_at_the_first_request_outside_of_tests(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], count: int
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    app = Flask("memory")
    app.config["CONVSTORE_URL"] = config.get("CONVSTORE_URL", "memory://")
    ConversationStore(app)
    app.add_url_rule("/", view_func=lambda: "hello")
    app.config.update(config)  # apps set TESTING late
    assert not caplog.messages
    for _ in range(2):
        app.test_client().get("/")
    warned = [text for text in caplog.messages if "keeps its sessions in the memory of this process" in text]
    assert len(warned) == count
    assert all("CONVSTORE_URL" in text for text in warned)


# ---- at the level DEBUG


@in_memory
def test_what_is_done_to_a_session_is_told_by_its_id(url: str, caplog: pytest.LogCaptureFixture) -> None:
    service = Service(url)
    store = service.convstore
    with caplog.at_level(logging.DEBUG, "flask_convstore"), service.app.app_context():
        store.save_session("a", {"history": ["very-secret"]}, owner="ada")
        session: Any = store.get_session("a", owner="ada")
        session["history"].append("very-secret")
        store.save_session("a", session, owner="ada")
        store.append("a", "very-secret", owner="ada")
        store.delete_session("a", owner="ada")
        store.get_session("a", owner="ada")
    assert caplog.messages == [
        "session 'a': created, version 1",
        "session 'a': loaded, version 1",
        "session 'a': saved, version 2",
        "session 'a': append, version 3",
        "session 'a': deleted, version 3",
        "session 'a': not found",
    ]
    caplog.clear()
    with service.app.app_context():
        store.get_session("a")
    assert not caplog.messages


# ---- failures


def test_an_outage_is_told_when_it_begins_each_minute_and_when_it_ends(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(monkeypatch)
    for _ in range(100):
        world.watch.failed(DOWN, "append")
        world.now += 1
    world.watch.answered(None)
    first, lasting, end = caplog.records
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert first.getMessage() == "the store at redis://host/0 does not answer: it is gone. Fallback: journal"
    assert first.convstore_operation == "append"  # type: ignore[attr-defined]
    assert "still does not answer: 61 calls have failed in 60 s" in lasting.getMessage()
    assert "answers again: 100 calls have failed in 100.0 s" in end.getMessage()
    assert (end.convstore_failures, end.convstore_seconds) == (100, 100.0)  # type: ignore[attr-defined]


def test_a_call_that_fails_by_itself_is_told_once_in_ten_seconds(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(monkeypatch)
    for _ in range(25):
        world.watch.failed(LATE, "load")
        world.now += 1
    world.watch.failed(LATE, "append")
    first, *later, other = caplog.messages
    assert first == "load failed at the store at redis://host/0: no time is left"
    assert [text.partition(". ")[2] for text in later] == ["9 more failed before this one"] * 2
    assert other.startswith("append failed")
    assert not world.watch.is_out


# ---- names


def test_outcomes_are_words_of_the_code() -> None:
    class Own(NothingKnown):
        pass

    assert outcome_of(DOWN) == "store_unavailable"
    assert outcome_of(Own("nothing", fallback="journal")) == "nothing_known"
    assert outcome_of(TurnEnded("s", Exchange(None, None, None))) == "turn_lost"  # type: ignore[arg-type]
    assert outcome_of(TurnLost("s")) == "turn_lost"
    assert outcome_of(KeyboardInterrupt()) == "error"


@pytest.mark.parametrize(
    ("elements", "status", "end"),
    [
        ((b'{"at":1}\n"a"',), "", "replied"),
        ((b'{"at":1}\n"a"', b'{"at":1,"status":"stopped"}\n"b"'), "", "stopped"),
        ((b'{"at":1,"status":"interrupted"}\n"b"',), "", "interrupted"),
        ((b'{"at":1}\n"a"',), "unanswered", "unanswered"),
        ((), "failed", "failed"),
        ((), "", "unanswered"),
    ],
)
def test_the_end_of_a_turn_has_a_name(elements: tuple[bytes, ...], status: Any, end: str) -> None:
    assert end_of(CommitTurn(session_id="s", owner=None, turn="t", elements=elements, status=status)) == end
    assert end_of(MoveConversation(session_id="s", owner=None, turn="t", moved_to="u")) == "moved"


def test_the_requests_of_an_outage_are_not_logged_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    service = Service(f"redis://127.0.0.1:{free_port()}/0", RETRIES=0, FALLBACK="none")
    for _ in range(3):
        problem(service.client.get("/sessions/a"), 503, "unavailable")
    problem(service.client.delete("/sessions/a"), 503, "unavailable")
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert [text.split(":")[0] for text in errors] == [
        "GET convstore.get_session",
        "DELETE convstore.delete_session",
    ]
