"""The current session of an owner: exactly the one that was set, as long as it lives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from flask_convstore import ANY, Forbidden, Message, OwnerRequired, SessionNotFound

from ..harness import Harness, PlainConversations, RedisHarness
from ..servers import Server
from ..service import OwnedService, problem
from ..wire import Proxy


@pytest.fixture
def ada(conversations: PlainConversations) -> PlainConversations:
    for name in ("one", "two"):
        conversations.save_session(name, {"n": name, "history": ["a", "b"]}, owner="ada")
    return conversations


def current(conversations: PlainConversations, owner: str = "ada") -> Any:
    session = conversations.current_session(owner=owner)
    return session and session.session_id


def test_nothing_is_guessed(ada: PlainConversations) -> None:
    assert current(ada) is None
    ada.set_current_session("one", owner="ada")
    ada.append("two", Message("m"), owner="ada")
    ada.get_session("two", owner="ada")
    assert current(ada) == "one"
    assert current(ada, "bob") is None
    ada.set_current_session("two", owner="ada")
    assert current(ada) == "two"
    assert ada.current_session(last=1, owner="ada")["history"] == ["m"]  # type: ignore[index]
    ada.set_current_session(None, owner="ada")
    ada.set_current_session(None, owner="ada")
    assert current(ada) is None


def test_it_ends_with_its_session(ada: PlainConversations, harness: Harness) -> None:
    ada.set_current_session("one", owner="ada")
    ada.delete_session("one", owner="ada")
    assert current(ada) is None
    ada.save_session("one", {"n": "another", "history": []}, owner="ada")
    assert current(ada) is None, "another session of that id"
    ada.set_current_session("two", owner="ada")
    harness.expire("two")
    assert current(ada) is None


def test_its_successor_takes_its_place(ada: PlainConversations) -> None:
    ada.set_current_session("one", owner="ada")
    compacted = ada.compact("one", "a summary", keep=1, owner="ada")
    assert current(ada) == compacted.session_id
    rotated = ada.rotate_id(compacted.session_id, owner="ada")
    assert current(ada) == rotated.session_id
    ada.fork(rotated.session_id, owner="ada")
    assert current(ada) == rotated.session_id
    given = ada.rotate_id(rotated.session_id, new_owner="bob", owner="ada")
    assert given.session_id
    assert (current(ada), current(ada, "bob")) == (None, None)


def test_only_an_own_session_is_made_the_current_one(ada: PlainConversations) -> None:
    ada.share("one", "bob", owner="ada")
    with pytest.raises(Forbidden):
        ada.set_current_session("one", owner="bob")
    for name, owner in (("two", "bob"), ("none", "ada")):
        with pytest.raises(SessionNotFound):
            ada.set_current_session(name, owner=owner)
    for nobody in (None, ANY):
        with pytest.raises(OwnerRequired):
            ada.set_current_session("one", owner=nobody)
    assert (current(ada), current(ada, "bob")) == (None, None)


def test_it_is_no_alias_that_anybody_sees(ada: PlainConversations) -> None:
    ada.link("web:1", "one", owner="ada")
    ada.set_current_session("one", owner="ada")
    assert ada.aliases("one", owner="ada") == ["web:1"]


def test_it_goes_with_its_owner(url: str) -> None:
    service = OwnedService(url)
    with service.app.app_context():
        convstore = service.convstore
        convstore.save_session("s", {"history": []}, owner="ada")
        convstore.link("web:1", "s", owner="ada")
        convstore.set_current_session("s", owner="ada")
        assert convstore.owner_contents(owner="ada").aliases == ["web:1"]
        assert convstore.delete_owner(owner="ada").aliases in (0, 1)
        convstore.save_session("s", {"history": []}, owner="ada")
        assert convstore.current_session(owner="ada") is None


def test_it_costs_two_round_trips(server: Server) -> None:
    with Proxy(("127.0.0.1", server.port)) as proxy:
        conversations = PlainConversations(RedisHarness(redis.Redis.from_url(proxy.url)).store)
        conversations.save_session("s", {"history": []}, owner="ada")
        calls: list[Callable[[], object]] = [
            lambda: conversations.set_current_session("s", owner="ada"),
            lambda: conversations.current_session(last=0, owner="ada"),
        ]
        for call in calls:
            call()
            proxy.reset()
            call()
            assert proxy.round_trips == 2


def test_it_over_http(url: str) -> None:
    service = OwnedService(url)
    with service.app.app_context():
        service.convstore.save_session("s", {"a": 1, "b": 2, "history": ["m", "n"]}, owner="ada")

    def asked(method: str, path: str = "/current", **options: Any) -> Any:
        return service.call("ada", method, path, **options)

    problem(asked("GET"), 404, "not-found")
    assert service.json(asked("PUT", json={"session_id": "s"}), 200) == {"session_id": "s"}
    found = asked("GET", "/current?last=1")
    assert service.json(found, 200)["session_id"] == "s"
    assert len(found.get_json()["history"]) == 1
    assert asked("GET", headers={"If-None-Match": found.headers["ETag"]}).status_code == 304
    for query, data in (("", {"a": 1, "b": 2}), ("?fields=b,c", {"b": 2}), ("?fields=", {})):
        assert service.json(asked("GET", f"/current{query}"), 200)["data"] == data
    for body, status in (({"session_id": "none"}, 404), ({}, 422), ({"session_id": 1}, 422), ({"id": "s"}, 422)):
        assert asked("PUT", json=body).status_code == status
    assert service.json(asked("PUT", json={"session_id": None}), 200) == {"session_id": None}
    problem(asked("GET"), 404, "not-found")
    assert service.client.get("/sessions/current").status_code == 401
