"""Replies that are streamed by a turn: what their readers get, and what is stored."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from flask_convstore.domain.commands import Closing, Command, CommitTurn
from flask_convstore.domain.parts import Part
from flask_convstore.domain.results import Receipt
from flask_convstore.errors import (
    InvalidInput,
    MessageNotFound,
    ReplyFailed,
    StoreUnavailable,
    StreamBehind,
    TurnInProgress,
    TurnLost,
)
from flask_convstore.operations.streamed import Event, StreamedReply
from flask_convstore.operations.turns import begin
from flask_convstore.stores.store import StoreAround

from ..harness import SETTINGS, Harness, MemoryHarness, PlainConversations, in_memory


def started(conversations: PlainConversations) -> PlainConversations:
    conversations.save_session("s", {"history": []})
    return conversations


def streamed(conversations: PlainConversations, chunks: Any, text: str = "hi") -> StreamedReply:
    with conversations.turn("s", text) as turn:
        return turn.stream(chunks)


def told(reply: StreamedReply) -> list[Event]:
    return [event for event in reply.events() if event]


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events]


def text_in(events: list[Event]) -> str:
    return "".join(event.value for event in events if event.kind == "delta")


def last_message(conversations: PlainConversations) -> Any:
    session = conversations.get_session("s")
    assert session
    return session.messages[-1]


def test_chunks_become_one_message(conversations: PlainConversations) -> None:
    """Readers get all of the text, and the id under which it is stored, from the beginning on."""
    reply = streamed(started(conversations), iter(["Hel", "", "lo", None, "!"]))
    events = told(reply)
    assert kinds(events)[0] == "message"
    assert events[0].value["content"] == "hi"
    assert text_in(events) == "Hello!"
    assert kinds(events)[-2:] == ["reply", "done"]
    stored = last_message(conversations)
    assert (stored.id, stored.body) == (reply.id, {"role": "assistant", "content": "Hello!"})
    assert events[-2].value == stored
    assert events[-1].value == "complete"


HARD = [
    "a\r",
    "\n\nid: 1\r\n",
    "data: x\n",
    "\ud83d",
    "\ude00",
    "👩\u200d",
    "👩",
    "\u2028",
    "e",
    "\u0301",
    "\x00",
    "\ud800",
]


def test_characters_that_are_cut_in_two(conversations: PlainConversations) -> None:
    """The text of the events is the stored one, wherever chunks end. A half character becomes U+FFFD."""
    events = told(streamed(started(conversations), iter(HARD)))
    expected = "".join(HARD[:3]) + "😀" + "".join(HARD[5:-1]) + "\ufffd"
    assert text_in(events) == expected
    assert last_message(conversations).body["content"] == expected


def test_parts(conversations: PlainConversations) -> None:
    """Parts beside the text stand in the message with their place in the text. Reasoning is joined."""

    def model() -> Iterator[Any]:
        yield Part("reasoning", "Let me ")
        yield Part("reasoning", "see.")
        yield Part("text", "It is ")
        yield Part("tool_call", {"name": "clock", "arguments": {}})
        yield Part("tool_result", {"name": "clock", "content": "noon"})
        yield "noon."
        yield Part("source", {"url": "https://clock.example"})
        yield Part("data", [1, 2])

    events = told(streamed(started(conversations), model()))
    assert last_message(conversations).body == {
        "role": "assistant",
        "content": "It is noon.",
        "parts": [
            {"kind": "reasoning", "at": 0, "content": "Let me see."},
            {"kind": "tool_call", "at": 6, "content": {"name": "clock", "arguments": {}}},
            {"kind": "tool_result", "at": 6, "content": {"name": "clock", "content": "noon"}},
            {"kind": "source", "at": 11, "content": {"url": "https://clock.example"}},
            {"kind": "data", "at": 11, "content": [1, 2]},
        ],
    }
    assert [event.value.kind for event in events if event.kind == "part"] == [
        "reasoning",
        "reasoning",
        "tool_call",
        "tool_result",
        "source",
        "data",
    ]


def test_the_same_message_without_a_stream(conversations: PlainConversations) -> None:
    """``turn.reply()`` makes the same message of the same parts."""
    started(conversations)
    with conversations.turn("s", "hi") as turn:
        turn.reply(iter(["a", Part("reasoning", "x"), "b", "\ud83d", "\ude00"]))
    assert last_message(conversations).body == {
        "role": "assistant",
        "content": "ab😀",
        "parts": [{"kind": "reasoning", "at": 1, "content": "x"}],
    }


def test_an_error_of_the_model_without_a_stream(conversations: PlainConversations) -> None:
    """The error names the session, and the turn has failed."""
    started(conversations)
    with pytest.raises(ReplyFailed, match=r"session 's': no tokens left"), conversations.turn("s", "hi") as turn:
        turn.reply(iter(["some", Part("error", "no tokens left")]))
    assert last_message(conversations).status == "failed"


@pytest.mark.parametrize("given", [("text", 1), ("reasoning", None), ("error", {}), ("nothing", "x")])
def test_a_part_that_is_none(given: tuple[Any, Any]) -> None:
    with pytest.raises(InvalidInput):
        Part(*given)


def test_an_async_generator(conversations: PlainConversations) -> None:
    async def model() -> AsyncIterator[str]:
        yield "a"
        yield "b"

    assert text_in(told(streamed(started(conversations), model()))) == "ab"


def test_a_function_runs_in_the_thread(conversations: PlainConversations) -> None:
    """A reply that is no stream is stored whole."""
    started(conversations)
    assert text_in(told(streamed(conversations, lambda: "text"))) == "text"
    events = told(streamed(conversations, lambda: {"content": "dict", "n": 1}))
    assert kinds(events) == ["message", "reply", "done"]
    assert last_message(conversations).body == {"role": "assistant", "content": "dict", "n": 1}


def test_a_reply_that_is_empty(conversations: PlainConversations) -> None:
    events = told(streamed(started(conversations), iter([])))
    assert (kinds(events), events[-1].value) == (["message", "done"], "unanswered")
    assert last_message(conversations).status == "unanswered"
    with conversations.turn("s", "next") as turn:
        turn.reply("yes")


def failing(*chunks: Any) -> Iterator[Any]:
    yield from chunks
    raise ValueError("secret")


@pytest.mark.parametrize("chunks", [lambda: failing("some"), lambda: iter(["some", Part("error", "no tokens left")])])
def test_a_reply_that_fails_keeps_what_had_come(conversations: PlainConversations, chunks: Callable[[], Any]) -> None:
    """The reader is told, and what was seen is not lost. The reason of an exception is for the log only."""
    reply = streamed(started(conversations), chunks())
    events = told(reply)
    assert kinds(events) == ["message", "delta", "reply", "error", "done"]
    assert "secret" not in str(events[-2].value)
    assert events[-1].value == "interrupted"
    stored = last_message(conversations)
    assert (stored.status, stored.body["content"], stored.id) == ("interrupted", "some", reply.id)
    with pytest.raises(ReplyFailed):
        list(reply)
    with conversations.turn("s", "next") as turn:
        assert turn.previous
        assert turn.previous.id == reply.id
        turn.reply("yes")


def test_a_reply_that_fails_at_once(conversations: PlainConversations) -> None:
    """Nothing had come, so that there is no reply, and the turn can be tried again with its token."""
    started(conversations)
    with conversations.turn("s", "hi", token="t") as turn:
        first = turn.stream(failing())
    assert kinds(told(first)) == ["message", "error", "done"]
    with pytest.raises(ReplyFailed):
        first.wait()
    assert last_message(conversations).status == "failed"
    with conversations.turn("s", "hi", token="t") as turn:
        again = turn.stream(iter(["yes"]))
    assert again.id == first.id
    assert again.wait()
    following = conversations.follow_reply("s", first.id, after="1-1")
    assert following
    assert kinds([event for event in following.events() if event]) == ["reset", "message", "delta", "reply", "done"]


class Hanging:
    """A model that gives one chunk, and then nothing until it is let go."""

    def __init__(self, *chunks: Any) -> None:
        self.chunks = chunks or ("some",)
        self.go_on = threading.Event()
        self.is_closed = threading.Event()

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self.chunks
            self.go_on.wait(30)
            yield "more"
            yield "and more"
        finally:
            self.is_closed.set()


def came(reply: StreamedReply, text: str) -> None:
    found = ""
    for event in reply.events():
        found += event.value if event and event.kind == "delta" else ""
        if found == text:
            return
    raise AssertionError(found)


def test_stopping_a_model_that_hangs(conversations: PlainConversations) -> None:
    """The reply is stored at once as far as it had come, and the next turn begins while the model still hangs."""
    model = Hanging()
    reply = streamed(started(conversations), model)
    came(reply, "some")
    ended = conversations.stop_reply("s")
    assert (ended.fate, ended.message and ended.message.body["content"]) == ("stopped", "some")
    assert kinds(told(reply)) == ["message", "delta", "reply", "done"]
    stored = last_message(conversations)
    assert (stored.status, stored.id) == ("stopped", reply.id)
    with conversations.turn("s", "next") as turn:
        turn.reply("yes")
    model.go_on.set()
    assert model.is_closed.wait(5)
    again = conversations.stop_reply("s", reply.id)
    assert (again.fate, again.message) == ("stopped", stored)
    session = conversations.get_session("s")
    assert session
    assert [message.get("content") for message in session.messages] == ["hi", "some", "next", "yes"]


def test_stopping_what_is_not_there(conversations: PlainConversations) -> None:
    started(conversations)
    with pytest.raises(MessageNotFound):
        conversations.stop_reply("s")
    with pytest.raises(MessageNotFound):
        conversations.stop_reply("s", "msg-7")
    assert conversations.follow_reply("s") is None


def test_another_turn_supersedes_a_stream(conversations: PlainConversations) -> None:
    """The first reply is kept as far as it had come, and its readers are told."""
    model = Hanging()
    first = streamed(started(conversations), model)
    came(first, "some")
    with pytest.raises(TurnInProgress), conversations.turn("s", "second"):
        pass
    with conversations.turn("s", "second", policy="supersede") as turn:
        turn.reply("yes")
    assert told(first)[-1].value == "interrupted"
    session = conversations.get_session("s")
    assert session
    assert [message.get("content") for message in session.messages] == ["hi", "some", "second", "yes"]
    model.go_on.set()


def test_messages_before_the_reply(conversations: PlainConversations) -> None:
    """Messages of ``turn.add()`` stand before the reply, whoever ends the turn."""
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f"}}]}
    answer = {"role": "tool", "tool_call_id": "1", "content": "42"}
    for stops in (False, True):
        conversations.save_session("s", {"history": []})
        has_answer, may_end = threading.Event(), threading.Event()

        def model(has_answer: threading.Event = has_answer, may_end: threading.Event = may_end) -> Iterator[str]:
            has_answer.wait(10)
            yield "It is "
            may_end.wait(10)
            yield "42"

        with conversations.turn("s", "hi") as turn:
            turn.add(call)
            reply = turn.stream(model())
            turn.add(answer)
        has_answer.set()
        came(reply, "It is ")
        if stops:
            conversations.stop_reply("s")
        may_end.set()
        reply.wait()
        session = conversations.get_session("s")
        assert session
        assert [message.get("role") for message in session.messages] == ["user", "assistant", "tool", "assistant"]
        assert session.messages[-1].id == reply.id
        assert session.messages[-1]["content"] == ("It is " if stops else "It is 42")


def test_data_is_written_with_the_reply(conversations: PlainConversations) -> None:
    started(conversations)
    with conversations.turn("s", "hi") as turn:

        def model() -> Iterator[str]:
            turn.data["count"] = 1
            yield "ok"

        reply = turn.stream(model())
    reply.wait()
    session = conversations.get_session("s")
    assert session
    assert session["count"] == 1


def test_a_turn_has_one_reply(conversations: PlainConversations) -> None:
    started(conversations)
    with conversations.turn("s", "hi") as turn:
        reply = turn.stream(iter(["a"]))
        for act in (lambda: turn.reply("b"), lambda: turn.stream(iter(["b"]))):
            with pytest.raises(InvalidInput):
                act()
    assert reply.wait()


def test_a_second_attempt_is_not_told_as_the_first_one(conversations: PlainConversations) -> None:
    """Also while somebody has not read the first one to its end."""
    started(conversations)
    with conversations.turn("s", "hi", token="T") as turn:
        first = turn.stream(failing())
    late = first.events()
    assert next(late)
    with pytest.raises(ReplyFailed):
        first.wait()
    with conversations.turn("s", "hi", token="T") as turn:
        second = turn.stream(iter(["yes"]))
    assert (second.id, text_in(told(second))) == (first.id, "yes")
    assert [event.value for event in late if event][-1] == "failed"


def test_limits_of_a_model(harness: Harness) -> None:
    """A reply that grows too large, is silent too long, or takes too long ends, and says why."""
    for limit, reason in (
        ({"max_message_bytes": 500}, "MAX_MESSAGE_BYTES"),
        ({"stream_idle": 1.0}, "STREAM_IDLE"),
        ({"turn_max": 1.0}, "TURN_MAX"),
    ):
        conversations = started(PlainConversations(harness.store, replace(SETTINGS, **limit)))
        is_large = "max_message_bytes" in limit
        reply = streamed(conversations, iter(["x" * 100] * 4) if is_large else Hanging())
        began = time.monotonic()
        events = told(reply)
        assert time.monotonic() - began < 6
        assert reason in str(events[-2].value)
        assert last_message(conversations).status == "interrupted"


def test_followers_from_any_position(conversations: PlainConversations) -> None:
    """Whoever comes back gets exactly what follows, during the reply and after it."""
    reply = streamed(started(conversations), iter([Part("data", number) for number in range(20)]))
    events = told(reply)
    for place, event in enumerate(events):
        found = conversations.follow_reply("s", reply.id, after=event.id)
        assert found
        assert [one for one in found.events() if one] == events[place + 1 :]


def test_a_reply_whose_stream_is_gone(conversations: PlainConversations) -> None:
    """It is replayed from the history. A message that is no reply is not."""
    started(conversations)
    with conversations.turn("s", "hi") as turn:
        turn.reply("yes")
    found = conversations.follow_reply("s", "msg-2", after="3-77")
    assert found
    assert kinds([event for event in found.events() if event]) == ["reset", "delta", "reply", "done"]
    with pytest.raises(MessageNotFound):
        conversations.follow_reply("s", "msg-1")


def test_a_session_that_is_deleted_ends_its_streams(conversations: PlainConversations) -> None:
    """Readers are told, and nothing comes back to life."""
    model = Hanging()
    reply = streamed(started(conversations), model)
    came(reply, "some")
    conversations.delete_session("s")
    events = told(reply)
    assert kinds(events)[-2:] == ["error", "done"]
    model.go_on.set()
    assert model.is_closed.wait(5)
    assert conversations.get_session("s") is None


@in_memory
@pytest.mark.parametrize(
    "error", [InvalidInput("no", "x"), TurnLost("other"), ReplyFailed("other", "x"), KeyboardInterrupt()]
)
def test_what_a_handler_raises_is_in_the_log(
    conversations: PlainConversations, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """The client is told to look there, also where the error is one of ours, and of another session."""

    def model() -> Iterator[str]:
        yield "some"
        raise error

    events = told(streamed(started(conversations), model()))
    assert kinds(events)[-2:] == ["error", "done"]
    assert "other" not in str(events[-2].value)
    assert [record.exc_info and record.exc_info[1] for record in caplog.records] == [error]


def test_a_model_is_not_shown_the_parts_of_earlier_replies(conversations: PlainConversations) -> None:
    """Its API refuses what it does not know. A message of Gemini keeps its own parts."""
    streamed(started(conversations), iter([Part("reasoning", "hm"), "yes"])).wait()
    conversations.append("s", {"role": "model", "parts": [{"text": "no"}]})
    streamed(conversations, iter([Part("data", 1)]), "again").wait()
    with conversations.turn("s", "more") as turn:
        contents = [body.get("content", body.get("parts")) for body in turn.history]
        assert contents == ["hi", "yes", [{"text": "no"}], "again", "more"]
        assert all("parts" not in body for body in turn.history if body["role"] == "assistant")
    session = conversations.get_session("s")
    assert session
    assert session["history"][1]["parts"] == [{"kind": "reasoning", "at": 0, "content": "hm"}]


def test_an_end_whose_answer_was_lost_is_made_anew_where_parts_are_missing() -> None:
    """It was sent for ever as it was, with the parts of before: a fail-over had taken others away."""
    sent: list[CommitTurn] = []

    class Lossy(StoreAround):
        def apply(self, command: Command) -> Receipt:
            if isinstance(command, CommitTurn):
                sent.append(command)
                if len(sent) == 1:
                    raise StoreUnavailable("no answer in time", written=None)
                if len(sent) == 2:
                    raise StreamBehind("s", 0)
            return super().apply(command)

    conversations = PlainConversations(Lossy(MemoryHarness().store))
    conversations.save_session("s", {"history": []})
    turn, _ = begin(conversations.access(), "s", {"role": "user", "content": "hi"})
    assert turn
    for error in (StoreUnavailable, StreamBehind):
        with pytest.raises(error):
            turn.end_stream(["hello"], "complete", lambda _: Closing("msg-2", 7, 3, (b"x",), 1_000))
    turn.end_stream(["hello"], "complete", lambda _: Closing("msg-2", 7, 1, (b"x",), 1_000))
    assert [command.closing.first for command in sent if command.closing] == [3, 3, 1]
