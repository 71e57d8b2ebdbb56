"""Readers of streamed replies who may not, or not any more, and the rest of a reply that has ended."""

from __future__ import annotations

import gc
import time
import weakref
from typing import Any

import pytest

from flask_convstore.config import limits_of
from flask_convstore.domain.messages import Message
from flask_convstore.domain.parts import Part
from flask_convstore.domain.results import StoredPart
from flask_convstore.errors import MessageNotFound, TurnLost
from flask_convstore.operations import streamed as module
from flask_convstore.operations.replies import Replier, streamed_exchange
from flask_convstore.operations.streamed import StoredReply
from flask_convstore.stores.memory import MemoryStore
from flask_convstore.streaming.listening import listening

from ..harness import SETTINGS, Harness, PlainConversations, RedisHarness, in_memory
from .test_producer import Hanging, came, kinds, started, streamed, text_in, told

USER = Message({"role": "user", "content": "hi"})


def streams_left(harness: Harness) -> list[bytes]:
    """List the keys of streams. Only a server has any."""
    if not isinstance(harness, RedisHarness):
        return []
    client: Any = harness.client
    return list(client.scan_iter(match="*:reply:*"))


def all_of(events: Any) -> list[Any]:
    return [event for event in events if event]


def test_a_stream_is_no_part_of_the_next_session(harness: Harness, conversations: PlainConversations) -> None:
    """A session expires, and another owner starts one of the same id: nothing of the old replies is told."""
    conversations.save_session("s", {"history": []}, owner="ann")
    with conversations.turn("s", "hi", owner="ann") as turn:
        reply = turn.stream(iter(["secret"]))
    assert reply.wait()
    harness.expire("s")
    conversations.save_session("s", {"history": []}, owner="bob")
    with pytest.raises(MessageNotFound):
        conversations.follow_reply("s", reply.id, owner="bob")
    with conversations.turn("s", "hello", owner="bob") as turn:
        again = turn.stream(iter(["bobs"]))
    assert again.id == reply.id
    assert text_in(told(again)) == "bobs"


def test_a_stream_does_not_outlive_its_session(harness: Harness, conversations: PlainConversations) -> None:
    conversations.save_session("s", {"history": []}, ttl=20)
    assert streamed(conversations, iter(["x"])).wait()
    for key in streams_left(harness):
        client: Any = harness.client  # type: ignore[attr-defined]
        assert client.pttl(key) <= 20_000


def test_streams_that_ended_at_once_are_known(harness: Harness, conversations: PlainConversations) -> None:
    """A reply may end before its first part was fed. A session keeps four streams then too, and an edit removes all."""
    started(conversations)
    for _ in range(8):
        streamed(conversations, iter(["secret"])).wait()
    assert len(streams_left(harness)) in (0, 4)
    session = conversations.get_session("s")
    assert session
    conversations.redact_message("s", session.messages[-1].id)
    assert not streams_left(harness)


def test_a_message_that_is_redacted_meanwhile(conversations: PlainConversations) -> None:
    """A reader from the beginning gets the user's message as it is by then."""
    started(conversations)
    model = Hanging()
    reply = streamed(conversations, model, "my password")
    came(reply, "some")
    session = conversations.get_session("s")
    assert session
    conversations.redact_message("s", session.messages[-1].id)
    model.go_on.set()
    assert reply.wait()
    found = conversations.follow_reply("s", reply.id)
    assert found
    events = all_of(found.events())
    assert kinds(events)[0] == "message"
    assert events[0].value.status == "redacted"
    assert "password" not in repr(events)


def test_a_reader_of_a_session_that_is_gone(conversations: PlainConversations) -> None:
    """A session is deleted, and another owner's has the same id. A reader of the old reply reads nothing of the new one."""
    conversations.save_session("s", {"history": []}, owner="ann")
    model = Hanging("anns")
    with conversations.turn("s", "hi", owner="ann") as turn:
        came(turn.stream(model), "anns")
    reply = conversations.follow_reply("s", "", owner="ann")
    assert reply
    reading = reply.events()
    assert [next(reading), next(reading)]
    conversations.delete_session("s", owner="ann")
    conversations.save_session("s", {"history": []}, owner="bob")
    with conversations.turn("s", "hi", owner="bob") as turn:
        bobs = turn.stream(iter(["bobs secret"]))
    assert bobs.wait()
    model.go_on.set()
    events = all_of(reading)
    assert kinds(events) == ["error", "done"]


def test_a_reader_of_another_process_of_a_session_that_is_gone(
    harness: Harness, conversations: PlainConversations
) -> None:
    """There the parts come from the store, under the same name."""
    conversations.save_session("s", {"history": []}, owner="ann")
    model = Hanging("anns")
    with conversations.turn("s", "hi", owner="ann") as turn:
        came(turn.stream(model), "anns")
    reply = conversations.follow_reply("s", "", owner="ann")
    assert reply
    reading = reply.events()
    first, second = next(reading), next(reading)
    assert first
    assert second
    channel = reply._channel  # type: ignore[union-attr]
    conversations.delete_session("s", owner="ann")
    conversations.save_session("s", {"history": []}, owner="bob")
    here = listening(conversations.backend.store)._followed[channel.key]
    here.extend(99, [StoredPart(1, b'{"text":"bobs secret"}')])  # type: ignore[attr-defined]
    assert "bobs" not in repr([next(reading), next(reading)])
    model.go_on.set()


def test_a_guest_who_is_sent_away_meanwhile(conversations: PlainConversations, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at every few seconds whether a reader may read on."""
    conversations.save_session("s", {"history": []}, owner="ann")
    conversations.share("s", "bob", role="reader", owner="ann")
    model = Hanging("one")
    with conversations.turn("s", "hi", owner="ann") as turn:
        anns = turn.stream(model)
    came(anns, "one")
    reply = conversations.follow_reply("s", "", owner="bob")
    assert reply
    reading = reply.events()
    assert [next(reading), next(reading)]
    conversations.unshare("s", "bob", owner="ann")
    monkeypatch.setattr(module, "_CHECKED_EVERY", -1.0)
    model.go_on.set()
    assert kinds(all_of(reading)) == ["error", "done"]
    assert anns.wait()


@in_memory
def test_a_hidden_reply_has_no_text(conversations: PlainConversations) -> None:
    """A handler may reply with a system message. A repeat tells no more of it than the first call."""
    access = started(conversations).access()
    replier = Replier(lambda turn: {"role": "system", "content": "hidden"})
    first = streamed_exchange(access, "s", USER, replier, token="t")
    assert kinds(told(first)) == ["message", "reply", "done"]  # type: ignore[arg-type]
    session = conversations.get_session("s")
    assert session
    assert kinds(all_of(StoredReply("s", "msg-2", session.messages[-1]).events())) == ["reply", "done"]


def test_a_repeat_gets_no_other_reply(conversations: PlainConversations) -> None:
    """The first turn has failed, and another one is in progress: its reply is not the answer to the first message."""
    access = started(conversations).access()

    def failing(turn: Any) -> str:
        raise ValueError

    told(streamed_exchange(access, "s", USER, Replier(failing), token="first"))  # type: ignore[arg-type]
    model = Hanging()
    other = streamed_exchange(access, "s", USER, Replier(lambda turn: model), token="second")
    came(other, "some")  # type: ignore[arg-type]
    with pytest.raises(TurnLost):
        streamed_exchange(access, "s", USER, Replier(failing), token="first")
    again = streamed_exchange(access, "s", USER, Replier(failing), token="second")
    model.go_on.set()
    assert again.wait() == other.wait()


def test_reasoning_counts_as_it_is_stored(conversations: PlainConversations) -> None:
    """Models reason in thousands of small pieces, which become one."""
    started(conversations)
    reply = streamed(conversations, (Part("reasoning", "abcd") for _ in range(25_000)))
    stored = reply.wait()
    assert stored
    assert stored.status is None
    assert len(stored["parts"][0]["content"]) == 100_000


def test_stores_do_not_stay() -> None:
    """All of an app goes with the app, also in a process that makes hundreds of apps, as tests do."""
    store = MemoryStore(limits_of(SETTINGS))
    conversations = started(PlainConversations(store))
    streamed(conversations, iter(["x"])).wait()
    left = weakref.ref(store)
    del store, conversations
    deadline = time.monotonic() + 10
    while left():
        assert time.monotonic() < deadline, "the store is still there"
        time.sleep(0.05)
        gc.collect()
