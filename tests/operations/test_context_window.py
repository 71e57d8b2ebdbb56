"""The part of a history that a model sees: whole groups, within the limits, with the system's message."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from flask_convstore import InvalidInput
from flask_convstore.operations.context_window import window
from flask_convstore.operations.turns import begin

from ..harness import PlainConversations, RedisHarness
from ..servers import Server
from ..wire import Proxy

SYSTEM = {"role": "system", "content": "Be kind."}


def user(text: str = "hi") -> dict[str, Any]:
    return {"role": "user", "content": text}


def openai(*ids: str) -> list[dict[str, Any]]:
    calls = [{"id": call, "type": "function", "function": {"name": "f", "arguments": "{}"}} for call in ids]
    answers = [{"role": "tool", "tool_call_id": call, "content": "42"} for call in ids]
    return [{"role": "assistant", "content": None, "tool_calls": calls}, *answers]


def anthropic(*ids: str) -> list[dict[str, Any]]:
    calls = [{"type": "tool_use", "id": call, "name": "f", "input": {}} for call in ids]
    results = [{"type": "tool_result", "tool_use_id": call, "content": "42"} for call in ids]
    return [
        {"role": "assistant", "content": [{"type": "text", "text": "…"}, *calls]},
        {"role": "user", "content": [*results, {"type": "text", "text": "go on"}]},
    ]


def responses(*ids: str) -> list[dict[str, Any]]:
    calls = [{"type": "function_call", "call_id": call, "name": "f", "arguments": "{}"} for call in ids]
    return [*calls, *({"type": "function_call_output", "call_id": call, "output": "42"} for call in ids)]


def legacy() -> list[dict[str, Any]]:
    return [
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "42"},
    ]


def calls_in(message: dict[str, Any]) -> set[str]:
    content = message["content"] if isinstance(message.get("content"), list) else []
    found = {call["id"] for call in message.get("tool_calls", [])}
    found |= {part["id"] for part in content if part["type"] == "tool_use"}
    return found | ({message["call_id"]} if message.get("type") == "function_call" else set())


def answers_in(message: dict[str, Any]) -> set[str]:
    content = message["content"] if isinstance(message.get("content"), list) else []
    found = {message["tool_call_id"]} if "tool_call_id" in message else set()
    found |= {part["tool_use_id"] for part in content if part["type"] == "tool_result"}
    return found | ({message["call_id"]} if message.get("type") == "function_call_output" else set())


KINDS = st.sampled_from([openai, anthropic, responses])


@st.composite
def histories(draw: Any) -> tuple[list[Any], bool]:
    """A history, and whether its beginning was cut off."""
    found: list[Any] = draw(st.lists(st.just(SYSTEM), max_size=2))
    heads = len(found)
    for number in range(draw(st.integers(0, 6))):
        if draw(st.booleans()):
            found.append(user("x" * draw(st.integers(0, 9))))
        else:
            found += draw(KINDS)(*(f"{number}-{index}" for index in range(draw(st.integers(1, 3)))))
    if draw(st.booleans()) and len(found) > heads + 1:  # another message between a call and its answer
        found.insert(draw(st.integers(heads, len(found) - 1)), user("between"))
    cut = draw(st.integers(0, len(found)))
    return (found[cut:], True) if draw(st.booleans()) else (found, False)


def cost(message: Any) -> int:
    return len(str(message.get("content")))


@given(
    history=histories(),
    last=st.none() | st.integers(0, 12),
    tokens=st.none() | st.integers(0, 400),
    count=st.just(cost),
)
def test_a_window_is_whole_and_within_its_limits(
    history: tuple[list[Any], bool], last: int | None, tokens: int | None, count: Any
) -> None:
    messages, was_cut = history
    shown = window(messages, last=last, tokens=tokens, count=count)
    positions = [
        next(i for i, message in enumerate(messages) if message is given) for given in shown if given is not SYSTEM
    ]
    heads = next((index for index, message in enumerate(messages) if message is not SYSTEM), len(messages))
    body = shown[heads:]
    assert shown[:heads] == messages[:heads], "the system's messages are there"
    assert positions == list(range(len(messages) - len(body), len(messages))), "the newest, without a gap"
    if messages:
        assert shown[-1] is messages[-1], "the newest message is there"
    known: set[str] = set()
    for message in messages[: len(messages) - len(body)]:
        assert not (calls_in(message) & {a for later in body for a in answers_in(later)}), "a call without its answers"
    for message in body:
        known |= calls_in(message)
        assert was_cut or answers_in(message) <= known, "an answer without its call"
    nothing_else = all(answers_in(message) for message in messages[heads:])
    if body and not nothing_else:
        assert not answers_in(body[0]), "it begins with an answer"
    fits = (last is None or len(shown) <= last) and (tokens is None or sum(map(cost, shown)) <= tokens)
    if not fits:  # the newest group alone is too long already
        shorter = window(messages, last=0)
        assert shown == shorter


def test_the_most_that_fits_is_there() -> None:
    history = [SYSTEM, *(user(str(number)) for number in range(10))]
    assert window(history) == history
    assert window(history, last=4) == [SYSTEM, *history[-3:]]
    assert window(history, last=11) == history
    assert window(history, tokens=10, count=lambda body: len(body["content"])) == [SYSTEM, *history[-2:]]
    assert window(history, last=2, tokens=10**6, count=cost) == [SYSTEM, history[-1]]
    assert window([], last=5) == []
    assert window([SYSTEM], last=0) == [SYSTEM]


@pytest.mark.parametrize("group", [openai("a", "b"), anthropic("a", "b"), responses("a", "b"), legacy()])
def test_a_call_and_its_answers_stay_together(group: list[Any]) -> None:
    history = [SYSTEM, user("one"), *group, {"role": "assistant", "content": "done"}, user("two")]
    whole = 3 + len(group)
    assert window(history, last=whole) == [SYSTEM, *history[2:]]
    for last in range(3, whole):
        assert window(history, last=last) == [SYSTEM, *history[-2:]]
    assert window([*history[:2], *group], last=2) == [SYSTEM, *group], "the newest group, even if too long"


@pytest.mark.parametrize("make", [openai, responses])
def test_an_answer_that_came_late_keeps_what_lies_between(make: Any) -> None:
    call, *answers = make("a")
    history = [user("one"), call, user("meanwhile"), *answers, user("two")]
    assert window(history, last=3) == [user("two")]
    assert window(history, last=4) == history[1:]


def test_answers_whose_call_was_cut_off_are_left_out() -> None:
    """A turn was begun with last=, or the oldest were trimmed."""
    for group in (openai("a", "b"), anthropic("a"), responses("a"), legacy()):
        cut = group[1:] if group[0].get("type") != "function_call" else group[-1:]
        assert window([*cut, user("q")]) == [user("q")]
        assert window([SYSTEM, *cut, user("q")], last=9) == [SYSTEM, user("q")]
        assert window(cut) == cut, "there is nothing else"


@pytest.mark.parametrize(
    "odd",
    [
        "a bare text",
        None,
        7,
        ["a"],
        {},
        {"role": ["user"]},
        {"role": "assistant", "tool_calls": "?"},
        {"role": "assistant", "tool_calls": [None, {"id": {}}]},
        {"role": "tool", "tool_call_id": {"a": 1}},
        {"role": "user", "content": [None, "x", {"type": "tool_result"}]},
        {"type": "function_call", "call_id": [1]},
        {"type": "function_call_output"},
    ],
)
def test_bodies_of_any_form(odd: Any) -> None:
    history = [user("q"), odd, user("r")]
    assert window(history) == history
    assert window(history, last=1) == [user("r")]
    assert window([odd])[-1:] == [odd]


@pytest.mark.parametrize(
    "limits", [{"last": -1}, {"last": True}, {"last": 1.5}, {"tokens": 5}, {"tokens": "5", "count": len}]
)
def test_limits_are_checked(limits: Any) -> None:
    with pytest.raises(InvalidInput):
        window([user()], **limits)


def test_in_a_turn_it_costs_no_round_trip(valkey: Server) -> None:
    with Proxy(("127.0.0.1", valkey.port)) as proxy:
        client = redis.Redis.from_url(proxy.url)
        conversations = PlainConversations(RedisHarness(client).store)
        history = [SYSTEM, *(user(str(number)) for number in range(100))]
        conversations.save_session("s", {"history": history})
        conversations.save_session("warm", [])
        begin(conversations.access(), "warm", "x")
        proxy.reset()
        turn, _ = begin(conversations.access(), "s", user("new"))
        assert turn
        assert turn.window(last=3) == [SYSTEM, history[-1], user("new")]
        assert turn.window(tokens=20, count=lambda body: len(body["content"])) == [SYSTEM, *history[-4:], user("new")]
        assert proxy.round_trips == 1
        client.close()


@pytest.mark.parametrize(
    ("options", "path", "reason"),
    [
        ({"last": -1}, "last", "a whole number, 0 or more, not -1"),
        ({"last": True}, "last", "not True"),
        ({"tokens": "5", "count": len}, "tokens", "not '5'"),
        ({"tokens": 5}, "count", "count="),
    ],
)
def test_a_limit_that_is_none_is_named(options: Any, path: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        window(["a"], **options)
    assert caught.value.path == path
    assert reason in caught.value.reason
