"""Values of an app as texts and messages: accepted ones, and limits to the last byte."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flask_convstore.domain.messages import Message, Usage
from flask_convstore.domain.titles import title_of
from flask_convstore.errors import InvalidInput, NotSerializable, TooLarge
from flask_convstore.sessions.content import (
    MAX_FIELDS,
    ContentLimits,
    added,
    check_data_size,
    check_element,
    check_facts,
    elements_of,
    encoded_fields,
    texts,
)

FORM = ContentLimits("history", max_message_bytes=1000, max_data_bytes=100, max_metadata_depth=3)


@pytest.mark.parametrize(
    ("body", "title"),
    [
        ({"role": "user", "content": "x" * 60}, "x" * 60),
        ({"role": "user", "content": "x" * 61}, "x" * 59 + "…"),
        ({"role": "user", "content": "x" * 58 + " y" * 3}, "x" * 58 + "…"),
        ({"role": "user", "content": " a\n\tb  "}, "a b"),
        ({"role": "user", "content": "x" + " " * 198 + "yz"}, "x y"),
        ({"role": "user", "parts": [{"text": "one"}, "two", {"image": 1}, 3]}, "one two"),
        ({"role": "user", "content": ["", {"text": "a"}]}, "a"),
        ({"role": "user", "content": None, "parts": "not looked at"}, ""),
        ({"role": "user", "content": {"text": "one part"}}, "one part"),
        ({"role": "user", "content": 5}, ""),
        ({"role": "user"}, ""),
        ({"role": "assistant", "content": "no"}, ""),
        ({"content": "no"}, ""),
        ("user", ""),
        (None, ""),
    ],
)
def test_how_a_conversation_is_called(body: Any, title: str) -> None:
    assert title_of(body) == title


def test_the_first_user_message_of_many_names_the_session() -> None:
    messages = [{"role": "system", "content": '"user"'}, {"role": "user", "content": ""}]
    messages += [{"role": "user", "content": "this"}, {"role": "user", "content": "not this"}]
    assert added(messages, FORM).first_title == "this"
    assert added([Message(body) for body in messages], FORM).first_title == "this"
    assert added(messages[:2], FORM).first_title == ""


def test_tokens_of_all_messages_are_summed() -> None:
    messages = [Message("a", tokens=Usage(1, 20)), Message("b"), Message("c", tokens=Usage(300, 4000))]
    assert added(messages, FORM).usage == Usage(301, 4020)
    assert added(["b"], FORM).usage is None


@pytest.mark.parametrize("tokens", [(0, 0), (2**50 - 1, 1)])
def test_tokens_that_may_be_told(tokens: Any) -> None:
    check_facts({"tokens": tokens}, "m", FORM)


@pytest.mark.parametrize("tokens", [(-1, 0), (0, 2**50), (True, 0), (0, 1.0), (0, "1")])
def test_tokens_that_may_not(tokens: Any) -> None:
    with pytest.raises(InvalidInput, match="whole numbers, 0 or more") as caught:
        check_facts({"tokens": tokens}, "m", FORM)
    assert caught.value.path == "m.tokens"


def test_tokens_that_may_not_be_told_are_named_by_their_message() -> None:
    history = ["a", Message("b", tokens=Usage(-1, 0))]
    _, _, given = texts({"history": history}, FORM)
    assert given
    for accept in (lambda: added(history, FORM), lambda: list(elements_of(given, FORM))):
        with pytest.raises(InvalidInput) as caught:
            accept()
        assert caught.value.path == "history[1].tokens"


def test_data_are_limited_to_the_byte() -> None:
    """Names count as UTF-8. A removed field does not count."""
    check_data_size([("ü", b"x" * 98), ("gone", None)], FORM)
    with pytest.raises(TooLarge) as caught:
        check_data_size([("ü", b"x" * 98), ("", b"1")], FORM)
    assert (caught.value.limit, caught.value.size) == (100, 101)


def test_fields_are_limited_to_a_number() -> None:
    form = replace(FORM, max_data_bytes=10**6)
    check_data_size([(str(number), b"1") for number in range(MAX_FIELDS)], form)
    with pytest.raises(TooLarge) as caught:
        check_data_size([(str(number), b"1") for number in range(MAX_FIELDS + 1)], form)
    assert (caught.value.limit, caught.value.size) == (MAX_FIELDS, MAX_FIELDS + 1)


def test_messages_are_limited_to_the_byte() -> None:
    (element,) = added(["x"], FORM).elements
    room = FORM.max_message_bytes - len(element)
    (fits,) = added(["x" * (room + 1)], FORM).elements
    assert len(fits) == FORM.max_message_bytes
    with pytest.raises(TooLarge) as caught:
        added(["ok", "x" * (room + 2)], FORM)
    assert (caught.value.limit, caught.value.size, caught.value.path) == (1000, 1001, "history[1]")
    check_element(fits, Message("x"), FORM)
    with pytest.raises(TooLarge) as caught:
        check_element(fits + b"x", Message("x"), FORM)
    assert caught.value.path == "history[0]"
    with pytest.raises(InvalidInput) as deep:
        check_element(fits, Message("x", {"a": [[[1]]]}), FORM)
    assert deep.value.path.startswith("message.metadata")


@pytest.mark.parametrize(
    ("content", "path", "reason"),
    [
        ({5: 1}, "", "the key 5 is no text"),
        ({"a": {"b": object()}}, "a.b", ""),
        ({"history": "text"}, "history", "a history is a list of messages, not a str"),
        ({"history": [1, object()]}, "history[1]", ""),
    ],
)
def test_what_is_refused_is_named(content: Any, path: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        texts(content, FORM)
    assert caught.value.path == path
    assert reason in caught.value.reason


def test_a_name_that_no_text_holds_is_refused() -> None:
    with pytest.raises(NotSerializable) as caught:
        encoded_fields({"\ud800": 1}, FORM, "data")
    assert caught.value.path == "data"
