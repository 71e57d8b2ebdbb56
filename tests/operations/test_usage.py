"""Tokens of messages: each is counted once, whatever is saved again."""

from __future__ import annotations

from typing import Any

import pytest

from flask_convstore import InvalidInput, Message
from flask_convstore.domain.messages import Usage

from ..harness import PlainConversations
from ..service import Service, problem


def told(text: str, *tokens: int) -> Message:
    return Message({"role": "user", "content": text}, tokens=Usage(*tokens) if tokens else None)


def usage(conversations: PlainConversations, session_id: str = "s") -> Any:
    session = conversations.get_session(session_id)
    assert session is not None
    return tuple(session.usage)


def test_a_whole_conversation_saved_again_is_counted_once(conversations: PlainConversations) -> None:
    talk: list[Any] = []
    for number in range(1, 4):
        talk.append(told(f"message {number}", 10, number))
        conversations.save_session("s", {"history": talk})
        conversations.save_session("s", {"history": talk})
    assert usage(conversations) == (30, 6)
    conversations.save_session("s", {"history": talk[-1:]})
    assert usage(conversations) == (30, 6), "those that are gone were paid for too"
    conversations.save_session("s", {"history": [{"role": "user", "content": "no tokens told"}]})
    assert usage(conversations) == (30, 6)


def test_tokens_that_are_told_anew_replace_those_before(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"history": [told("a", 10, 1), told("b", 5, 5), told("a", 3, 3)]})
    conversations.save_session("s", {"history": [told("a", 4, 0), told("b", 50, 5), told("a", 3, 3), told("c")]})
    assert usage(conversations) == (57, 8)
    conversations.save_session("s", [told("a", 1, 1)])
    assert usage(conversations) == (54, 9)


def test_metadata_are_no_tokens(conversations: PlainConversations) -> None:
    told_inside = Message("x", {"tokens": [100, 100], "n": '"tokens":[7,7]'}, tokens=Usage(1, 2))
    for _ in range(3):
        conversations.save_session("s", [told_inside, Message("y", {"tokens": [5, 5]})])
    assert usage(conversations) == (1, 2)


def test_a_conversation_that_begins_anew_is_counted_anew(conversations: PlainConversations) -> None:
    conversations.save_session("s", [told("a", 10, 1)])
    conversations.delete_session("s")
    conversations.save_session("s", [told("a", 10, 1)])
    assert usage(conversations) == (10, 1)


def test_an_edited_message_has_its_new_tokens(conversations: PlainConversations) -> None:
    conversations.save_session("s", [told("a", 10, 1), told("b", 1, 1)])
    for _ in range(2):
        edited = conversations.edit_message("s", 1, told("A", 4, 2))
        assert edited.tokens == Usage(4, 2)
    assert usage(conversations) == (5, 3)
    conversations.edit_message("s", 2, {"role": "user", "content": "B"})
    assert usage(conversations) == (5, 3), "the tokens stay where none are told"
    conversations.edit_message("s", 2, told("B", 0, 0))
    assert usage(conversations) == (4, 2)
    with pytest.raises(InvalidInput, match="tokens are counted"):
        conversations.edit_message("s", 2, told("B", -1, 0))


def test_clients_tell_tokens_where_they_may(url: str) -> None:
    service = Service(url, CLIENT_USAGE=True)
    message = {"content": "hi", "tokens": {"input": 12, "output": 30}}
    session_id = service.start(message=message)
    service.json(service.client.post(f"/sessions/{session_id}/messages", json=message), 201)
    service.json(service.client.post(f"/sessions/{session_id}/messages", json={"content": "x", "tokens": None}), 201)
    found = service.json(service.client.get(f"/sessions/{session_id}"), 200)
    assert found["tokens"] == {"input": 24, "output": 60}
    assert found["history"][0]["tokens"] == {"input": 12, "output": 30}
    for tokens in ({"input": -1}, {"input": "x"}, {"other": 1}, 7, {"input": 10**9 + 1}):
        sent = {"content": "x", "tokens": tokens}
        problem(service.client.post(f"/sessions/{session_id}/messages", json=sent), 422, "invalid")


def test_clients_tell_no_tokens_by_default(url: str) -> None:
    service = Service(url)
    session_id = service.start()
    sent = {"content": "x", "tokens": {"input": 1, "output": 1}}
    problem(service.client.post(f"/sessions/{session_id}/messages", json=sent), 422, "invalid")
