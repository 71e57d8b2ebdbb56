"""Habits of real apps, while Redis is away and the app goes on. Two workers take turns, and each message is there once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from flask import request

from flask_convstore import ConversationStore

from ..servers import Server
from ..service import OwnedService, Service
from . import test_outage
from .test_outage import contents, echo, handed_over, service_of

pytestmark = [pytest.mark.server, pytest.mark.slow]

redis_server = test_outage.redis_server

Habit = Callable[[ConversationStore, str, dict[str, Any]], object]


def get_or_new(store: ConversationStore, sid: str, message: dict[str, Any]) -> None:
    session = store.sessions.get(sid) or {"history": []}
    session["history"].append(message)
    store.sessions[sid] = session


def if_not_in(store: ConversationStore, sid: str, message: dict[str, Any]) -> None:
    if sid not in store.sessions:
        store.sessions[sid] = {"history": [], "step": 0, "profile": {}}
    store.sessions[sid]["history"].append(message)


def try_except(store: ConversationStore, sid: str, message: dict[str, Any]) -> None:
    try:
        session = store.sessions[sid]
    except KeyError:
        session = store.sessions[sid] = {"history": []}
    session["history"].extend([message])


def plain_copy(store: ConversationStore, sid: str, message: dict[str, Any]) -> None:
    found: Any = store.get_session(sid)
    session = {"history": []} if found is None else dict(found)
    session["history"] = [*session["history"], message]
    store.save_session(sid, session)


def get_and_save(store: ConversationStore, sid: str, message: dict[str, Any]) -> None:
    session: Any = store.get_session(sid)
    if session is None:
        session = {"history": []}
    session["history"].append(message)
    store.save_session(sid, session)


def newest_only(store: ConversationStore, sid: str, message: dict[str, Any]) -> None:
    session = store.sessions.setdefault(sid, {"history": []})
    session["history"].append(message)
    session["history"] = session["history"][-100:]


def new_list(store: ConversationStore, sid: str, message: dict[str, Any]) -> None:
    session = store.sessions.setdefault(sid, {"history": []})
    session["history"] = session["history"] + [message]


def only_a_list(store: ConversationStore, sid: str, message: dict[str, Any]) -> None:
    store.sessions.setdefault(sid, []).append(message)


def pop_and_put(store: ConversationStore, sid: str, message: dict[str, Any]) -> None:
    session = store.sessions.pop(sid, None) or {"history": []}
    session["history"].append(message)
    store.sessions[sid] = session


def a_turn(store: ConversationStore, sid: str, message: dict[str, Any]) -> None:
    store.setdefault(sid, {"history": []})
    with store.turn(sid, message["content"]):
        pass


def append(store: ConversationStore, sid: str, message: dict[str, Any]) -> None:
    store.append(sid, message, create=True)


def save_message(store: ConversationStore, sid: str, message: dict[str, Any]) -> None:
    store.save_message(sid, message["role"], message["content"])


HABITS: list[Habit] = [
    get_or_new,
    if_not_in,
    try_except,
    plain_copy,
    get_and_save,
    newest_only,
    new_list,
    only_a_list,
    pop_and_put,
    a_turn,
    append,
    save_message,
]


class App:
    """An app with a habit. It has two workers."""

    def __init__(self, habit: Habit, server: Server) -> None:
        self.workers = [self._worker(habit, server) for _ in range(2)]
        self.is_chat = habit is save_message
        self.said: list[str] = []

    def _worker(self, habit: Habit, server: Server) -> Service:
        service = service_of(server, OUTAGE="continue", CIRCUIT_FAILURES=1)

        def view() -> Any:
            habit(service.convstore, "x", request.get_json())
            return {}

        service.app.add_url_rule("/say", view_func=view, methods=["POST"])
        return service

    def say(self, count: int) -> None:
        for _ in range(count):
            text = f"message {len(self.said)}"
            answer = self.workers[len(self.said) % 2].client.post("/say", json={"role": "user", "content": text})
            assert answer.status_code == 200, answer.text
            self.said.append(text)

    def read(self) -> list[str]:
        worker = self.workers[0]
        with worker.app.app_context():
            session: Any = worker.convstore.get_conversation("x") if self.is_chat else worker.convstore.get_session("x")
        return contents(session if isinstance(session, dict) else {"history": session})


@pytest.mark.parametrize("before", [0, 3], ids=["from the start", "in the middle"])
@pytest.mark.parametrize("habit", HABITS, ids=lambda habit: habit.__name__)
def test_each_message_is_there_once_and_nothing_is_told_as_lost(
    habit: Habit, before: int, redis_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(habit, redis_server)
    app.say(before)
    redis_server.kill()
    app.say(20)
    assert app.read() == app.said[before:]
    redis_server.start()
    for worker in app.workers:
        handed_over(worker)
    app.say(3)
    assert app.read() == app.said
    lost = [record for record in caplog.records if record.levelno >= logging.ERROR and "set aside" in record.message]
    assert not lost


def test_owners_see_their_own_part_and_strangers_write_nothing(redis_server: Server) -> None:
    service = OwnedService(redis_server.url, RETRIES=0, OUTAGE="continue", CIRCUIT_FAILURES=1)
    service.convstore.reply(echo)
    session_id = service.call("ann", "POST", json={"message": {"content": "before"}}).get_json()["session_id"]
    path = f"/{session_id}"
    redis_server.kill()
    for owner in ("ann", "eve"):
        said = service.call(owner, "POST", f"{path}/messages", json={"content": f"of {owner}"})
        assert (said.status_code, said.get_json()["partial"]) == (201, True)
    for owner in ("ann", "eve"):
        shown = service.call(owner, "GET", path)
        assert (contents(shown.json), shown.headers["Convstore-Partial"]) == (
            [f"of {owner}", f"re: of {owner}"],
            "true",
        )
    redis_server.start()
    handed_over(service)
    shown = service.call("ann", "GET", path)
    assert contents(shown.json) == ["before", "re: before", "of ann", "re: of ann"]
    assert "Convstore-Partial" not in shown.headers
    assert service.call("eve", "GET", path).status_code == 404


def test_a_request_that_begins_before_an_outage_and_ends_behind_it_loses_nothing(redis_server: Server) -> None:
    service = service_of(redis_server, OUTAGE="continue", CIRCUIT_FAILURES=1)
    sessions = service.convstore.sessions

    def say(session: Any, text: str) -> None:
        session["history"].append({"role": "user", "content": text})
        session["profile"][text] = True
        sessions.flush()

    with service.app.test_request_context():
        sessions["x"] = {"history": [], "profile": {}}
        say(sessions["x"], "before")
    with service.app.test_request_context():
        old = sessions["x"]
        redis_server.kill()
        say(old, "meanwhile")
        with service.app.test_request_context():
            part = sessions["x"]
            say(part, "in another request")
            redis_server.start()
            handed_over(service)
            say(part, "and behind it")
        say(old, "at last")
    said = ["before", "meanwhile", "in another request", "and behind it", "at last"]
    assert contents(service.get("x")) == said
    assert service.get("x")["data"] == {"profile": dict.fromkeys(said, True)}


@pytest.mark.parametrize("before", [0, 2])
def test_a_turn_that_is_repeated_because_redis_went_away_has_one_reply(before: int, redis_server: Server) -> None:
    """The answer was lost, and the client asks again with the same key."""
    service = service_of(redis_server, OUTAGE="continue", CIRCUIT_FAILURES=1)
    replies = iter(["first", "second"])
    session_id = service.start()
    for _ in range(before):
        service.say(session_id)
    service.convstore.reply(lambda turn: next(replies))
    again: dict[str, Any] = {"json": {"content": "q"}, "headers": {"Idempotency-Key": "K"}}
    path = f"/sessions/{session_id}/messages"
    assert service.client.post(path, **again).status_code == 201
    redis_server.kill()
    assert service.client.post(path, **again).status_code == 201
    service.convstore.reply(echo)
    service.say(session_id, "next")
    redis_server.start()
    handed_over(service)
    assert contents(service.get(session_id))[2 * before :] == ["q", "first", "next", "re: next"]
    assert Service.json(service.client.post(path, **again), 201)["reply"]["content"] == "first"
