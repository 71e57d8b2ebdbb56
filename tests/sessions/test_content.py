"""Values of an app as texts and messages: accepted ones, and limits to the last byte."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_convstore.domain import json_text
from flask_convstore.domain.bodies import Bodies
from flask_convstore.domain.messages import Message, Usage, join_element
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

from ..domain.test_bodies import AT, NOW, STORED, alike

FORM = ContentLimits("history", max_message_bytes=1000, max_data_bytes=100, max_metadata_depth=3)


# ---- messages that are known


def encoded(history: Any, limits: ContentLimits, known: Bodies | None) -> Any:
    try:
        return texts(history, limits, known)[2]
    except NotSerializable as error:
        return type(error), error.path


FILLING = st.sampled_from([0, 1, 199, 200, 300, 450])


@given(st.lists(STORED, min_size=1, max_size=4), FILLING, FILLING, st.booleans(), st.data())
def test_what_is_known_changes_no_text(
    stored: list[Any], before: int, between: int, is_tagged: bool, data: st.DataObject
) -> None:
    """However a loaded history is changed: its texts are those that it has where nothing is known of it."""
    filled = [*[{"role": "user", "content": "x"}] * before, *stored[:2], *["y"] * between, *stored[2:]]
    known = Bodies([join_element(AT, json_text.encode(message)) for message in filled])
    history = known.decode(is_tracked=data.draw(st.booleans()))
    places = st.sampled_from([0, before, before + 1, len(history) - 1, len(history)])
    for _ in range(data.draw(st.integers(0, 3))):
        start, end = data.draw(places), data.draw(places)
        history[start:end] = data.draw(st.lists(NOW | st.sampled_from(filled), max_size=2))
    if data.draw(st.booleans()) and history:
        place = data.draw(st.integers(0, len(history) - 1))
        history[place] = alike(history[place])
    if data.draw(st.booleans()):
        known.count_same(known.decode())  # perhaps something is remembered
    limits = replace(FORM, is_tagged=is_tagged)
    for given_history in (history, tuple(history)) if not is_tagged else (history,):
        assert encoded(given_history, limits, known) == encoded(given_history, limits, None)
        assert encoded({"history": given_history}, limits, known) == encoded({"history": given_history}, limits, None)


@pytest.mark.parametrize("facts", [{"id": "mine"}, {}])
def test_a_message_with_facts_is_not_taken_for_a_known_one(facts: dict[str, Any]) -> None:
    known = Bodies([join_element(AT, text) for text in (b'"a"', b'"b"', b'"c"')])
    history = [Message("b", **facts) if facts else "b", "c", "d"]
    _, _, found = texts(history, FORM, known)
    assert found == [(b'"b"', facts), (b'"c"', {}), (b'"d"', {})]


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
    check_data_size([("ü", b"x" * 98)], FORM)
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
