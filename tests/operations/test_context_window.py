"""Context window: whole groups within the limits, with the system's message."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from flask_convstore import InvalidInput
from flask_convstore.domain.pairs import are_plain
from flask_convstore.domain.parts import as_models_take
from flask_convstore.operations.context_window import newest, shown, window
from flask_convstore.operations.turns import begin

from ..domain.tool_talk import VENDORS, Talk, talk
from ..domain.vendor_rules import RULES
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


def anthropic_results(*ids: str) -> list[dict[str, Any]]:
    call, results = anthropic(*ids)
    return [call, {**results, "content": results["content"][:-1]}]


def responses(*ids: str) -> list[dict[str, Any]]:
    calls = [{"type": "function_call", "call_id": call, "name": "f", "arguments": "{}"} for call in ids]
    return [*calls, *({"type": "function_call_output", "call_id": call, "output": "42"} for call in ids)]


def legacy() -> list[dict[str, Any]]:
    return [
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "42"},
    ]


def cost(message: Any) -> int:
    return len(str(message.get("content")))


@given(
    vendor=st.sampled_from(VENDORS),
    seed=st.integers(0, 10**6),
    last=st.none() | st.integers(0, 12),
    tokens=st.none() | st.integers(0, 400),
)
def test_a_window_is_whole_and_within_its_limits(vendor: str, seed: int, last: int | None, tokens: int | None) -> None:
    history = talk(vendor, seed)
    history.append(Talk(vendor, random.Random(seed)).user())
    shown = window(history, last=last, tokens=tokens, count=cost)
    assert not RULES[vendor](shown)
    prompts = list(itertools.takewhile(lambda message: message.get("role") == "system", history))
    assert shown[: len(prompts)] == prompts, "the system's messages are there"
    assert shown[-1] == history[-1], "the newest message is there"
    fits = (last is None or len(shown) <= last) and (tokens is None or sum(map(cost, shown)) <= tokens)
    assert fits or shown == [*prompts, history[-1]], "the newest message is too long already"


BODIES = [SYSTEM, user(), {"role": "model", "content": None}, {"a": 1}, "text"]
ODD_BODIES = [user(""), {"role": "tool", "content": "42"}, {"role": "user", "content": ["part"]}, {"parts": []}]


@pytest.mark.parametrize("last", [None, 1, 2, 3, 9])
@pytest.mark.parametrize("cuts", [(), (0, 2)])
def test_the_short_way_shows_the_same(last: int | None, cuts: tuple[int, ...]) -> None:
    """A turn takes the short way where no message needs another one, wherever others were taken out."""
    for history in itertools.chain.from_iterable(itertools.product(BODIES, repeat=length) for length in range(5)):
        assert are_plain(history)
        assert newest(history, last) == shown(history, last, "drop", cuts)
        assert [*map(as_models_take, history)] == [*history]


@pytest.mark.parametrize("odd", ODD_BODIES)
def test_the_short_way_is_for_plain_histories(odd: dict[str, Any]) -> None:
    assert not are_plain([user(), odd, "text"])


def test_a_window_is_the_largest_that_fits() -> None:
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
def test_a_late_answer_comes_behind_its_call(make: Any) -> None:
    call, *answers = make("a")
    history = [user("one"), call, user("meanwhile"), *answers, user("two")]
    whole = [call, *answers, user("meanwhile"), user("two")]
    assert window(history) == [user("one"), *whole], "the answer stands behind its call"
    assert window(history, last=3) == whole[2:]
    assert window(history, last=4) == whole


def test_answers_whose_call_was_cut_off_are_left_out() -> None:
    """The turn was begun with last=, or the oldest messages were trimmed."""
    for group in (openai("a", "b"), anthropic_results("a"), responses("a"), legacy()):
        cut = group[1:] if group[0].get("type") != "function_call" else group[-1:]
        assert window([*cut, user("q")]) == [user("q")]
        assert window([SYSTEM, *cut, user("q")], last=9) == [SYSTEM, user("q")]
        assert window(cut) == []


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
        {"role": "assistant", "tool_calls": [None]},
        {"role": "tool", "content": [{"type": "tool-result", "toolCallId": "a"}]},
        {"role": "user", "content": [None, "x", {"type": ["tool_result"]}]},
        {"role": "user", "parts": "?"},
        {"type": "function_call", "call_id": [1]},
        {"type": ["function_call_output"]},
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


def test_a_window_of_a_turn_costs_no_round_trip(valkey: Server) -> None:
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
def test_a_bad_limit_is_named(options: Any, path: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        window(["a"], **options)
    assert caught.value.path == path
    assert reason in caught.value.reason
