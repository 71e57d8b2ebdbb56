"""Pairs: whatever happens to a history, a model's API takes what is left."""

from __future__ import annotations

import random
from typing import Any

import pytest

from flask_convstore.domain.pairs import INTERRUPTED, whole, whole_start

from .tool_talk import VENDORS, Talk, redacted, talk
from .vendor_rules import RULES

USER = {"role": "user", "content": "q"}


def call(*ids: str) -> dict[str, Any]:
    calls = [{"id": one, "type": "function", "function": {"name": "f", "arguments": "{}"}} for one in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def tool(call_id: str, content: str = "42") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def parts_of(history: list[Any]) -> list[str]:
    """All that is said, in no order."""
    parts: list[Any] = []
    for message in history:
        content = message.get("content") or message.get("parts")
        parts += content if isinstance(content, list) else [message]
    return sorted(map(str, parts))


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("orphans", ["drop", "answer"])
def test_a_torn_history_is_whole_again(vendor: str, orphans: str) -> None:
    torn = 0
    for seed in range(150):
        chance = random.Random(seed)
        history = talk(vendor, seed)
        for _ in range(chance.choice((0, 0, 1, 2))):
            index = chance.randrange(len(history))
            history[index] = redacted(history[index])
        cut = chance.randrange(len(history)) if chance.random() < 0.4 else 0
        history = [*history[cut:], Talk(vendor, chance).user()]
        shown = whole(history, orphans, [0] * (cut > 0))
        assert not RULES[vendor](shown), seed
        assert shown[-1] is history[-1]
        prompts = [message for message in history if message.get("role") == "system" and message["content"]]
        assert [message for message in shown if message.get("role") == "system"] == prompts
        assert whole(shown, orphans) == shown, "what is whole stays as it is"
        said = [part for part in parts_of(history) if "user says" in part or "go on" in part]
        assert [part for part in parts_of(shown) if "user says" in part or "go on" in part] == said
        torn += shown != history
    assert torn > 30, "the histories are torn often enough"


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_whole_history_stays_as_it_is(vendor: str) -> None:
    found = 0
    for seed in range(300):
        history = talk(vendor, seed)
        if not RULES[vendor](history):
            found += 1
            shown = whole(history)
            assert parts_of(shown) == parts_of(history), seed
            assert shown == history or vendor in ("responses", "anthropic"), "results of one step come in one message"
    assert found > 50


def test_a_call_without_an_answer_is_left_out_or_answered() -> None:
    history = [USER, call("a", "b"), tool("b"), USER]
    assert whole(history) == [USER, call("b"), tool("b"), USER]
    assert whole(history, "answer") == [USER, call("a", "b"), tool("b"), tool("a", INTERRUPTED), USER]
    assert history[1] == call("a", "b"), "the stored message is not changed"
    said = {**call("a"), "content": "Let me see."}
    assert whole([said, USER]) == [{"role": "assistant", "content": "Let me see."}, USER]


def test_only_the_first_answer_counts_and_an_id_may_come_again() -> None:
    assert whole([call("a"), tool("a", "1"), tool("a", "2"), USER]) == [call("a"), tool("a", "1"), USER]
    assert whole([call("a"), USER, call("a"), tool("a"), USER]) == [USER, call("a"), tool("a"), USER]


def test_calls_without_ids_are_matched_by_name_and_order() -> None:
    def nameless(*names: str) -> dict[str, Any]:
        return {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": name}} for name in names]}

    history = [
        nameless("f", "g"),
        {"role": "tool", "tool_name": "f", "content": "1"},
        {"role": "tool", "content": "2"},
    ]
    assert whole([*history, USER]) == [*history, USER]
    assert whole([*history[1:], USER]) == [USER]
    legacy = [
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "1"},
    ]
    assert whole([*legacy, USER]) == [*legacy, USER]
    assert whole([legacy[0], USER]) == [USER]
    assert whole([legacy[1], USER]) == [USER]


@pytest.mark.parametrize(
    "odd",
    [
        "a bare text",
        None,
        7,
        ["a"],
        {},
        {"role": ["user"]},
        {"type": "ai", "data": {"content": "hi"}},
        {"role": "tool", "content": [{"type": "tool-result", "toolCallId": "a"}]},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "function_call", "call_id": [1]},
        {"role": "assistant", "tool_calls": []},
    ],
)
def test_other_forms_stay_untouched(odd: Any) -> None:
    assert whole([USER, odd, call("a"), USER]) == [USER, odd, USER]


def test_a_message_without_content_is_left_out_unless_it_is_the_newest() -> None:
    empty = {"role": "user", "content": ""}
    assert whole([USER, empty, {"role": "assistant", "content": "r"}, empty]) == [
        USER,
        {"role": "assistant", "content": "r"},
        empty,
    ]
    assert whole([]) == []


def test_a_copy_begins_with_no_half() -> None:
    history = [USER, call("a", "b"), tool("a"), tool("b"), USER]
    assert [whole_start(history, start) for start in range(6)] == [0, 1, 4, 4, 4, 5]
    items = [
        {"type": "reasoning", "id": "rs_1"},
        {"type": "function_call", "id": "fc_1", "call_id": "a"},
        {"type": "function_call_output", "call_id": "a"},
        USER,
    ]
    assert [whole_start(items, start) for start in range(4)] == [0, 3, 3, 3]
