"""Sessions that are read in part: some of their data fields, whatever else there is."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from flask_convstore import ConflictError, InvalidInput

from ..harness import Harness, PlainConversations, RedisHarness, in_memory
from ..servers import Server
from ..service import Service, problem
from ..wire import Proxy


@pytest.fixture
def talk(conversations: PlainConversations) -> PlainConversations:
    data = {"plan": {"step": 1}, "lang": "de", "large": "x" * 1000, "history": [{"role": "user", "content": "hi"}]}
    conversations.save_session("s", data, owner="ada")
    return conversations


def part(conversations: PlainConversations, *fields: str, last: int | None = None) -> Any:
    session = conversations.get_session("s", fields=fields, last=last, owner="ada")
    assert session is not None
    return session


def whole(conversations: PlainConversations) -> Any:
    session = conversations.get_session("s", owner="ada")
    assert session is not None
    return session


def test_only_the_fields_that_are_asked_for_are_read(talk: PlainConversations) -> None:
    assert part(talk, "plan", "none", "plan", last=0) == {"plan": {"step": 1}, "history": []}
    session = part(talk)
    assert session == {"history": [{"role": "user", "content": "hi"}]}
    assert (session.version, session.message_count, session.title) == (1, 1, "hi")
    assert talk.get_session("s", fields=["plan"], owner="bob") is None
    assert talk.get_session("other", fields=["plan"], owner="ada") is None


def test_a_part_is_saved_as_a_part(talk: PlainConversations) -> None:
    session = part(talk, "plan", "none")
    session["plan"]["step"] = 2
    session["none"] = "now"
    session["history"].append({"role": "user", "content": "and"})
    talk.append("s", data={"lang": "en"}, owner="ada")
    saved = talk.save_session("s", session, owner="ada")
    assert saved is session
    found = whole(talk)
    assert (found["plan"], found["none"], found["lang"], found["large"]) == ({"step": 2}, "now", "en", "x" * 1000)
    assert len(found["history"]) == 2
    del session["plan"]
    talk.save_session("s", session, owner="ada")
    assert set(whole(talk)) == {"lang", "large", "none", "history"}


def test_a_part_that_others_have_changed_collides(talk: PlainConversations) -> None:
    session = part(talk, "none", last=0)
    talk.append("s", data={"none": "theirs"}, owner="ada")
    session["none"] = "ours"
    talk.save_session("s", session, owner="ada")  # the last wins, as CONVSTORE_CONFLICT says
    assert whole(talk)["none"] == "ours"


def test_what_was_not_read_is_not_set(talk: PlainConversations) -> None:
    session = part(talk, "plan")
    session["lang"] = "fr"
    session["plan"] = 3
    with pytest.raises(InvalidInput, match=r"update_session\(\)\. Nothing was written") as raised:
        talk.save_session("s", session, owner="ada")
    assert "lang" in str(raised.value)
    assert (whole(talk)["lang"], whole(talk).version) == ("de", 1)


def test_a_part_is_no_whole_session_elsewhere(talk: PlainConversations) -> None:
    session = part(talk, "plan")
    for save in (talk.save_session, talk.setdefault):
        with pytest.raises(InvalidInput, match=r"read with fields="):
            save("other", session, owner="ada")
    assert talk.get_session("other", owner="ada") is None


def test_a_bare_list_has_no_fields(conversations: PlainConversations) -> None:
    conversations.save_session("list", ["a", "b"])
    assert conversations.get_session("list", fields=["x"], last=1) == ["b"]


@in_memory
@pytest.mark.parametrize("fields", ["plan", b"plan", [1], [None]])
def test_fields_are_names(talk: PlainConversations, fields: Any) -> None:
    with pytest.raises(InvalidInput, match="names of fields"):
        talk.get_session("s", fields=fields)


def test_a_part_costs_one_round_trip_and_only_its_bytes(server: Server) -> None:
    with Proxy(("127.0.0.1", server.port)) as proxy:
        conversations = PlainConversations(RedisHarness(redis.Redis.from_url(proxy.url)).store)
        conversations.save_session("s", {f"field {number}": "x" * 3000 for number in range(300)} | {"a": 1})
        conversations.get_session("s", last=0)
        for fields, most in (((), 500), (("a",), 500), (("field 7",), 4000)):
            proxy.reset()
            session: Any = conversations.get_session("s", last=0, fields=fields)
            assert len(session) == len(fields)
            assert (proxy.round_trips, proxy.received < most) == (1, True)


def test_a_part_of_a_session_that_was_deleted_and_begun_anew(harness: Harness, talk: PlainConversations) -> None:
    session = part(talk, "plan")
    talk.delete_session("s", owner="ada")
    talk.save_session("s", {"plan": 9}, owner="ada")
    session["plan"] = 2
    with pytest.raises((ConflictError, LookupError)):
        talk.save_session("s", session, owner="ada")


def test_parts_over_http(url: str) -> None:
    service = Service(url)
    session_id = service.start()
    with service.app.app_context():
        service.convstore.update_session(session_id, {"a": 1, "b": [2], "c": "x" * 99})
    path = f"/sessions/{session_id}"
    for query, shown in (
        ("?fields=a,b", {"a": 1, "b": [2]}),
        ("?fields=", {}),
        ("?fields=d", {}),
        ("?fields=c,&last=0", {"c": "x" * 99}),
    ):
        response = service.client.get(path + query)
        assert service.json(response, 200)["data"] == shown
        state = response.headers["ETag"]
        assert state == service.client.get(path).headers["ETag"]
        assert service.client.get(path + query, headers={"If-None-Match": state}).status_code == 304
    problem(service.client.get(f"{path}?fields={'a' * 8001}"), 422, "invalid")
