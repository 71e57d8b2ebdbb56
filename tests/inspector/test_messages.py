"""Messages of every shape that apps store, as a person reads them."""

from __future__ import annotations

from typing import Any

import pytest

from flask_convstore.inspector.messages import MOST_CHARACTERS, ShownMessage, shown_message


def shown(body: Any, **more: Any) -> ShownMessage:
    return shown_message({"seq": 1, "created_at_ms": 0, "body": body, **more}, hide_text=False)


@pytest.mark.parametrize(
    ("body", "role", "texts"),
    [
        ("plain", "message", ["plain"]),
        ({"role": "user", "content": "hi"}, "user", ["hi"]),
        (
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}]},
            "user",
            ["a", "b"],
        ),
        ({"role": "model", "parts": [{"text": "a"}, "b"]}, "model", ["a", "b"]),
        ({"role": 7, "content": "hi"}, "message", ["hi"]),
        ({"role": "user", "content": None}, "user", []),
        ({}, "message", []),
        (7, "message", ["7"]),
        (None, "message", ["null"]),
        (["a"], "message", ['[\n  "a"\n]']),
    ],
)
def test_text_is_shown(body: Any, role: str, texts: list[str]) -> None:
    message = shown(body)
    assert message.role == role
    assert [part.text for part in message.parts if not part.label] == texts


@pytest.mark.parametrize(
    ("body", "label"),
    [
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}, "Calls f"),
        ({"role": "assistant", "tool_calls": {"name": "f"}}, "Calls f"),
        ({"role": "assistant", "tool_calls": ["?"]}, "Calls a tool"),
        ({"role": "tool", "content": "42", "tool_call_id": "c"}, "Answer of c"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, "image_url"),
        ({"role": "user", "content": {"a": 1}}, "Content"),
        ({"role": "user", "content": "hi", "mood": "good", "at": 7}, "mood, at"),
    ],
)
def test_everything_else_is_folded(body: Any, label: str) -> None:
    assert [part.label for part in shown(body).parts if part.label] == [label]


def test_metadata_and_earlier_texts_are_folded() -> None:
    message = shown("hi", metadata={"model": "m"}, edits=["ho"], tokens={"input": 1200, "output": 3}, status="stopped")
    assert [part.label for part in message.parts] == ["", "Metadata", "Earlier texts"]
    assert message.facts == [("tokens", "1,200 in, 3 out")]
    assert message.status == "stopped"


def test_a_long_text_is_cut() -> None:
    [part] = shown("x" * (MOST_CHARACTERS + 7)).parts
    assert part.text.endswith("7 more characters: the export has them.")
    assert len(part.text) < MOST_CHARACTERS + 100


@pytest.mark.parametrize("hide_text", [True, False])
@pytest.mark.parametrize(
    "content", [["a"] * 5000, [{"type": "text", "text": "b" * 1000}] * 5000, [[7] * 5000], {"c": ["d" * 9] * 100_000}]
)
def test_a_page_has_no_more_of_a_message_than_a_person_reads(content: Any, hide_text: bool) -> None:
    line = {"seq": 1, "created_at_ms": 0, "body": {"role": "user", "content": content, "e": ["f"] * 100_000}}
    parts = shown_message(line, hide_text=hide_text).parts
    assert len(parts) <= 101
    assert sum(len(part.text) for part in parts) < MOST_CHARACTERS + 200
    assert hide_text or "the rest" in parts[-2].text + parts[-1].text or "export has all" in parts[-1].text


def test_hidden_parts_tell_their_size_only() -> None:
    line = {
        "seq": 1,
        "created_at_ms": 0,
        "body": {"role": "tool", "name": "Zebra", "content": "Zebra"},
        "edits": ["Zebra"],
    }
    message = shown_message(line, hide_text=True)
    assert [part.text for part in message.parts] == ["5 characters hidden", "9 characters hidden"]
    assert [part.label for part in message.parts] == ["", ""]
