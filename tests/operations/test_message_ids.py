"""Ids of messages: given, kept for the reply, repeated, and the same through all that happens to the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flask_convstore import (
    ConflictError,
    InvalidInput,
    Message,
    MessageIdReused,
    MessageNotFound,
    Receipt,
    SessionNotFound,
    TurnLost,
    Usage,
    signals,
)
from flask_convstore.config import Settings, limits_of
from flask_convstore.operations import branching, transfer
from flask_convstore.operations.replies import TurnEnded
from flask_convstore.stores.connect import connect, patience_of
from flask_convstore.stores.redis.store import RedisStore

from ..harness import PlainConversations
from ..servers import Server
from ..service import Service, heard, problem
from ..wire import Proxy


def said(text: str, **facts: Any) -> Message:
    return Message({"role": "user", "content": text}, **facts)


@pytest.fixture
def talk(conversations: PlainConversations) -> PlainConversations:
    """Five messages, the third with an id of its own."""
    conversations.append("s", said("a"), said("b"), said("c", id="mine"), said("d"), said("e"), create=True)
    return conversations


def texts(conversations: PlainConversations, session_id: str = "s") -> dict[str, str]:
    """The content of each message by its id, in order."""
    session: Any = conversations.get_session(session_id)
    assert session is not None
    return {message.id: message["content"] for message in session.messages}


def test_an_append_creates_where_there_is_none(conversations: PlainConversations) -> None:
    with pytest.raises(SessionNotFound):
        conversations.append("s", said("a"))
    receipt = conversations.append("s", said("a"), data={"n": 1}, create=True, ttl=60, token="T")
    assert (receipt.version, receipt.first_seq, receipt.lifetime_ms) == (1, 1, 60_000)
    assert conversations.append("s", said("a"), data={"n": 1}, create=True, ttl=60, token="T").repeated
    conversations.append("s", said("b"), data={"n": 2}, create=True)
    session: Any = conversations.get_session("s")
    assert session == {"n": 2, "history": [said("a").body, said("b").body]}
    conversations.append("fields", data={"only": 1}, create=True)
    assert conversations.get_session("fields") == {"only": 1}
    wrongs: list[dict[str, Any]] = [{"ttl": 60}, {"create": True, "expected_version": 1}]
    for wrong in wrongs:
        with pytest.raises(InvalidInput):
            conversations.append("s", said("c"), **wrong)


def test_an_append_that_creates_keeps_the_shape_that_is_there(conversations: PlainConversations) -> None:
    conversations.save_session("s", [said("a").body])
    conversations.append("s", said("b"), create=True)
    assert conversations.get_session("s") == [said("a").body, said("b").body]


def test_one_message_is_read_by_its_seq_or_its_id(talk: PlainConversations) -> None:
    for target in (3, "mine"):
        found = talk.get_message("s", target)
        assert found is not None
        assert (found.seq, found.id, found["content"]) == (3, "mine", "c")
    talk.drop("s", message="msg-2")
    for absent in (2, "msg-2", 99, "other"):
        assert talk.get_message("s", absent) is None
    assert talk.get_message("none", 1) is None
    wrongs: tuple[Any, ...] = (0, "3", "", None)
    for wrong in wrongs:
        with pytest.raises(InvalidInput):
            talk.get_message("s", wrong)


def test_pages_begin_and_end_at_ids(talk: PlainConversations) -> None:
    def contents(**bounds: Any) -> str:
        return "".join(message["content"] for message in talk.messages("s", **bounds).messages)

    assert (contents(after="mine"), contents(before="mine"), contents(after="msg-1", before="mine")) == (
        "de",
        "ab",
        "b",
    )
    talk.drop("s", message="msg-4")
    assert (contents(after="msg-4"), contents(after="mine", limit=1)) == ("e", "e"), "ids of ours are numbers"
    with pytest.raises(MessageNotFound):
        contents(after="other")
    with pytest.raises(InvalidInput):
        contents(before="")
    with pytest.raises(SessionNotFound):
        talk.messages("none", after="mine")


def test_an_id_that_is_known_is_the_repeat_of_its_write(talk: PlainConversations) -> None:
    again = talk.append("s", said("c", id="mine"))
    assert (again.repeated, again.first_seq, again.version) == (True, 1, 1)
    mixed = talk.append("s", said("c", id="mine"), said("f", id="new"))
    assert (mixed.repeated, mixed.first_seq) == (False, 6)
    assert texts(talk) == {"msg-1": "a", "msg-2": "b", "mine": "c", "msg-4": "d", "msg-5": "e", "new": "f"}
    for call in (
        lambda: talk.append("s", said("other", id="mine")),
        lambda: talk.append("s", said("x", id="twice"), said("y", id="twice")),
        lambda: talk.turn("s", said("other", id="mine")),
    ):
        with pytest.raises(MessageIdReused) as caught:
            call()
        assert caught.value.written is False
    talk.edit_message("s", "mine", {"role": "user", "content": "C"})
    assert talk.append("s", said("c", id="mine")).repeated, "a late repeat of what was edited since"


@pytest.mark.parametrize("bad", ["", "msg-7", "7", 'a"b', "a\\b", "a/b", ".a", "x" * 201, "a\nb", 7])
def test_an_id_must_be_one_that_can_be_asked_for(conversations: PlainConversations, bad: Any) -> None:
    if bad != "":
        with pytest.raises(InvalidInput):
            conversations.append("s", said("a", id=bad), create=True)
        assert conversations.get_session("s") is None


def test_a_message_of_another_session_gets_the_next_number(talk: PlainConversations) -> None:
    session: Any = talk.get_session("s")
    talk.append("t", *session.messages[1:], create=True)
    assert list(texts(talk, "t")) == ["msg-1", "mine", "msg-3", "msg-4"]


def test_dropped_messages_leave_the_others_as_they_are(talk: PlainConversations) -> None:
    assert talk.drop("s", message="msg-2").first_seq == 2
    assert texts(talk) == {"msg-1": "a", "mine": "c", "msg-4": "d", "msg-5": "e"}
    assert talk.drop("s", newest=1).first_seq == 5
    receipt = talk.append("s", said("f"))
    assert receipt.first_seq == 6
    assert texts(talk) == {"msg-1": "a", "mine": "c", "msg-4": "d", "msg-6": "f"}
    assert talk.drop("s", after="mine", token="T").first_seq == 4
    assert talk.drop("s", after="mine", token="T").repeated
    assert texts(talk) == {"msg-1": "a", "mine": "c"}
    assert talk.drop("s", after="mine").first_seq is None
    assert talk.drop("s", after=0).first_seq == 1
    assert talk.get_session("s") == {"history": []}
    assert talk.append("s", said("g")).first_seq == 7
    page = talk.messages("s", before=8)
    assert [message.seq for message in page.messages] == [7]


def test_what_is_dropped_is_named_well(talk: PlainConversations) -> None:
    for wrong in ({}, {"newest": 1, "after": 1}, {"newest": 0}, {"message": 0}, {"after": -1}, {"message": ""}):
        with pytest.raises(InvalidInput):
            talk.drop("s", **wrong)
    for missing in (9, "none", "msg-3", "msg-9"):
        with pytest.raises(MessageNotFound):
            talk.drop("s", message=missing)
        with pytest.raises(MessageNotFound):
            talk.edit_message("s", missing, "x")
    with pytest.raises(ConflictError):
        talk.drop("s", newest=1, expected_version=9)
    with pytest.raises(SessionNotFound):
        talk.drop("none", newest=1)
    assert len(texts(talk)) == 5


def test_messages_are_popped_one_by_one(talk: PlainConversations) -> None:
    popped = [talk.pop_message("s") for _ in range(6)]
    assert [message and message["content"] for message in popped] == ["e", "d", "c", "b", "a", None]
    with pytest.raises(SessionNotFound):
        talk.pop_message("none")


def test_a_turn_knows_the_id_of_its_reply(talk: PlainConversations) -> None:
    with talk.turn("s", "q") as turn:
        assert turn.reply_id == "msg-7"
        reply = turn.reply("r")
    assert reply
    assert (reply.id, reply.seq) == ("msg-7", 7)
    with talk.turn("s", "q2") as turn:
        talk.append("s", said("meanwhile"))
        reply = turn.reply("r2")
    assert reply
    assert (reply.id, reply.seq, turn.reply_id) == ("msg-9", 11, "msg-9")
    assert list(texts(talk))[-4:] == ["msg-7", "msg-8", "msg-10", "msg-9"]
    assert talk.edit_message("s", "msg-9", "R2").seq == 11


def test_the_id_of_a_reply_that_never_came_is_nobody_elses(talk: PlainConversations) -> None:
    with pytest.raises(ZeroDivisionError), talk.turn("s", "q", token="T") as turn:
        assert turn.reply_id == "msg-7"
        1 / 0  # noqa: B018
    with pytest.raises(ZeroDivisionError), talk.turn("s", "q", token="T") as turn:
        assert turn.reply_id == "msg-7", "the same turn, tried again"
        1 / 0  # noqa: B018
    with talk.turn("s", "q2") as turn:
        assert (turn.message.id, turn.reply_id) == ("msg-8", "msg-9")
        turn.reply(Message({"role": "assistant", "content": "r"}, id="own"))
    assert list(texts(talk))[-3:] == ["msg-6", "msg-8", "own"]


def test_a_turn_that_needs_no_reply_gives_its_seq_back(talk: PlainConversations) -> None:
    with talk.turn("s", "thanks"):
        pass
    assert talk.append("s", said("f")).first_seq == 7
    assert list(texts(talk)) == ["msg-1", "msg-2", "mine", "msg-4", "msg-5", "msg-6", "msg-7"]


def test_a_turn_repeated_by_the_id_of_its_message_has_the_first_answer(talk: PlainConversations) -> None:
    with talk.turn("s", said("q", id="q1")) as turn:
        first = turn.reply("r")
    with pytest.raises(TurnEnded) as ended:
        talk.turn("s", said("q", id="q1"))
    assert (ended.value.message.id, ended.value.reply) == ("q1", first)  # type: ignore[union-attr]
    with pytest.raises(ZeroDivisionError), talk.turn("s", said("p", id="p1")):
        1 / 0  # noqa: B018
    with talk.turn("s", said("p", id="p1")) as turn:
        second = turn.reply("s")
    with pytest.raises(TurnEnded) as ended:
        talk.turn("s", said("p", id="p1"))
    assert ended.value.reply == second


def test_a_turn_takes_the_place_of_what_was_said(talk: PlainConversations) -> None:
    with talk.turn("s", said("B"), replaces="msg-2") as turn:
        assert [body["content"] for body in turn.history] == ["a", "B"]
        turn.reply("r")
    assert texts(talk) == {"msg-1": "a", "msg-6": "B", "msg-7": "r"}
    with pytest.raises(MessageNotFound):
        talk.turn("s", said("x"), replaces="msg-2")


def test_a_repeat_of_what_replaces_has_the_first_answer(talk: PlainConversations) -> None:
    with talk.turn("s", said("B", id="new"), replaces="msg-2", token="T") as turn:
        first = turn.reply("r")
    for token in ("T", "another", None):
        with pytest.raises(TurnEnded) as ended:
            talk.turn("s", said("B", id="new"), replaces="msg-2", token=token)
        assert ended.value.reply == first
    assert texts(talk) == {"msg-1": "a", "new": "B", "msg-7": "r"}
    with pytest.raises(MessageNotFound):
        talk.turn("s", said("x"), replaces="msg-2")


def test_a_known_message_is_counted_and_told_once(url: str) -> None:
    service = Service(url)
    store = service.convstore
    with (
        service.app.app_context(),
        heard(signals.messages_appended, service.app) as added,
        heard(signals.messages_dropped, service.app) as dropped,
    ):
        a, b = said("a", id="a", tokens=Usage(5, 1)), said("b", id="b", tokens=Usage(1, 2))
        store.append("s", a, create=True)
        assert store.append("s", a).repeated
        assert store.append("s", a, create=True).repeated
        mixed = store.append("s", a, b)
        assert (mixed.repeated, mixed.left_out, mixed.first_seq) == (False, 1, 2)
        assert store.append("s", a, b, data={"x": 1}, create=True).left_out == 2
        session: Any = store.get_session("s")
        assert (session.usage, session["x"]) == (Usage(6, 3), 1)
        assert [facts["count"] for facts in added] == [1, 1]
        store.drop("s", newest=1)
        store.drop("s", after="a")
        with store.turn("s", "q", replaces="a"):
            pass
        assert [(facts["receipt"].first_seq, facts["replaced"]) for facts in dropped] == [(2, None), (3, "a")]


def test_a_turn_whose_message_is_taken_out_is_lost(talk: PlainConversations) -> None:
    turn = talk.turn("s", "q")
    talk.drop("s", newest=1)
    with pytest.raises(TurnLost), turn:
        turn.reply("r")
    assert len(texts(talk)) == 5


def test_ids_stay_where_a_session_is_saved_without_a_message(talk: PlainConversations) -> None:
    session: Any = talk.get_session("s")
    del session["history"][1]
    session["history"].insert(3, {"role": "user", "content": "new"})
    session["history"][0]["content"] = "A"
    saved: Any = talk.save_session("s", session)
    assert texts(talk) == {message.id: message["content"] for message in saved.messages}
    kept = {name: text for name, text in texts(talk).items() if text not in ("A", "new")}
    assert kept == {"mine": "c", "msg-4": "d", "msg-5": "e"}
    session = talk.get_session("s")
    session["history"][0] = said("x", id="mine")
    with pytest.raises(MessageIdReused):
        talk.save_session("s", session)
    session = talk.get_session("s")
    del session["history"][2]
    talk.save_session("s", session)
    assert texts(talk)["msg-5"] == "e"


def test_ids_stay_in_other_sessions(talk: PlainConversations) -> None:
    talk.drop("s", message=2)
    before = texts(talk)
    fork = branching.fork(talk.access(), "s").session_id
    assert texts(talk, fork) == before
    assert texts(talk, branching.fork(talk.access(), "s", 4).session_id) == {
        name: text for name, text in before.items() if name != "msg-5"
    }
    new = branching.compact(talk.access(), "s", "so far", keep=2).session_id
    summary, *kept = texts(talk, new).items()
    assert dict(kept) == {"msg-4": "d", "msg-5": "e"}
    assert summary[1] == "so far"
    assert talk.append(new, said("f")).first_seq == 6
    rotated: Any = talk.rotate_id(fork)
    assert texts(talk, rotated.session_id) == before


def test_ids_stay_through_export_and_import(conversations: PlainConversations) -> None:
    conversations.append("s", said("a"), said("b"), said("c", id="mine"), said("d"), create=True, owner="ada")
    conversations.drop("s", message=2)
    conversations.drop("s", newest=1)
    (line,) = transfer.export(conversations.access("ada"))
    transfer.take_in(conversations.access("ada"), [{**line, "session_id": "t"}])
    assert texts(conversations, "t") == texts(conversations) == {"msg-1": "a", "mine": "c"}
    assert conversations.append("t", said("e")).first_seq == 5
    assert conversations.append("t", said("c", id="mine")).repeated
    messages = line["messages"]
    for wrong in (
        [messages[0], {**messages[1], "id": "msg-1"}],
        [{**messages[0], "id": "msg-5"}],
        [{**messages[0], "id": "/"}],
    ):
        with pytest.raises(InvalidInput):
            transfer.take_in(conversations.access("ada"), [{**line, "session_id": "u", "messages": wrong}])
    older = [{name: value for name, value in message.items() if name != "seq"} for message in messages]
    older_line = {name: value for name, value in line.items() if name != "next_seq"}
    transfer.take_in(conversations.access("ada"), [{**older_line, "session_id": "u", "messages": older}])
    assert texts(conversations, "u") == {"msg-1": "a", "mine": "c"}


def test_many_sessions_are_written_at_once(talk: PlainConversations) -> None:
    talk.append("t", said("x"), create=True)
    answers = talk.append_many({"s": [said("f")], "none": [said("g")], "t": [said("h"), said("i")]}, tokens={"s": "T"})
    assert list(answers) == ["s", "none", "t"]
    assert isinstance(answers["none"], SessionNotFound)
    assert [answer.first_seq for answer in answers.values() if isinstance(answer, Receipt)] == [6, 2]
    again = talk.append_many({"s": [said("f")]}, tokens={"s": "T"})["s"]
    assert isinstance(again, Receipt)
    assert again.repeated
    assert talk.append_many({}) == {}
    with pytest.raises(InvalidInput):
        talk.append_many({"s": [said("j")], "t": [object()]})
    assert len(texts(talk)) == 6


@pytest.mark.server
def test_fifty_sessions_take_one_round_trip(server: Server) -> None:
    """A script that the server does not know yet takes three more, however many sessions there are."""
    with Proxy(("127.0.0.1", server.port)) as proxy:
        settings = Settings(url=proxy.url)
        store = RedisStore(connect(settings, Path()), settings.prefix, limits_of(settings), patience_of(settings))
        conversations = PlainConversations(store)
        for number in range(50):
            conversations.append(f"s{number}", said("a"), create=True)
        server.client.script_flush()
        for trips, text in ((4, "b"), (1, "c")):
            proxy.reset()
            answers = conversations.append_many({f"s{number}": [said(text)] for number in range(50)})
            assert proxy.round_trips == trips
            assert all(isinstance(answer, Receipt) for answer in answers.values())
        assert list(texts(conversations, "s49").values()) == ["a", "b", "c"]


def test_over_http_messages_have_names(url: str) -> None:
    service = Service(url)
    service.convstore.reply(lambda turn: turn.reply_id)
    session_id = service.start()
    path = f"/sessions/{session_id}/messages"
    first = service.client.post(path, json={"content": "q", "id": "mine"}).json
    assert first
    assert (first["message"]["id"], first["reply"]["id"], first["reply"]["content"]) == ("mine", "msg-2", "msg-2")
    assert service.client.post(path, json={"content": "q", "id": "mine"}).json == first
    problem(service.client.post(path, json={"content": "other", "id": "mine"}), 409, "id-reused")
    problem(service.client.post(path, json={"content": "q", "id": "msg-9"}), 422, "invalid")
    edited = service.client.patch(f"{path}/mine", json={"content": "edited"}).json
    assert edited
    assert edited["message"]["seq"] == 1
    again = service.client.post(path, json={"content": "again", "replaces": "mine"}).json
    assert again
    assert [message["id"] for message in service.get(session_id)["history"]] == ["msg-3", "msg-4"]
    dropped = service.client.delete(f"{path}?after=msg-3").json
    assert dropped
    assert dropped["first_seq"] == 4
    assert [message["id"] for message in service.get(session_id)["history"]] == ["msg-3"]
    problem(service.client.delete(f"{path}?after=msg-4"), 404, "not-found")
    problem(service.client.delete(path), 422, "invalid")


def test_clients_name_no_message_that_they_do_not_see(url: str) -> None:
    service = Service(url)
    session_id = service.start()
    with service.app.app_context():
        service.convstore.append(session_id, {"role": "system", "content": "secret"}, {"role": "user", "content": "q"})
    path = f"/sessions/{session_id}/messages"
    problem(service.client.delete(f"{path}?after=1"), 404, "not-found")
    problem(service.client.post(path, json={"content": "x", "replaces": 1}), 409, "conflict")
    assert service.get(session_id)["message_count"] == 2
