"""Replies that another ends than their producer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flask_convstore.domain.commands import BeginTurn, FeedReply
from flask_convstore.domain.parts import Head, content_of, encoded
from flask_convstore.domain.types import ANY

from ..harness import SETTINGS, Harness, PlainConversations


@pytest.mark.parametrize(
    "part", [encoded("text", "x" * 1000), b"no JSON", b'{"part":1}'], ids=["long", "broken", "odd"]
)
def test_what_had_come_cannot_be_stored(harness: Harness, part: bytes) -> None:
    """The rest of a dead producer is too large by now, or not ours. The next turn begins all the same."""
    store = harness.store
    conversations = PlainConversations(store, replace(SETTINGS, max_message_bytes=300))
    conversations.save_session("s", {"history": []})
    begin = BeginTurn(session_id="s", owner=ANY, element=b'1{"at":1}\n{"role":"user","content":"hi"}', lease_ms=50_000)
    store.begin(begin)
    head = encoded("head", content_of(Head("msg-1", "t", 2, ())))
    feed = FeedReply(
        session_id="s", owner=ANY, turn=begin.attempt, lease_ms=0, reply="msg-2", epoch=7, first=1, parts=(head, part)
    )
    assert store.feed([feed]) == [2]
    with conversations.turn("s", "next") as turn:
        assert turn.reply("yes")
    session = conversations.get_session("s")
    assert session
    assert [message.status for message in session.messages] == ["failed", None, None]
