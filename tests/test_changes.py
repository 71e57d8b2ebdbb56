"""What was changed: pure functions, told to the last byte and message. Their effect on a store is in test_sessions.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flask_convstore import changes
from flask_convstore.changes import MAX_FIELDS, Form, check_data_size, check_facts, dropped_of, title_of
from flask_convstore.commands import Extend, Rewrite
from flask_convstore.errors import InvalidInput, NotSerializable, TooLarge
from flask_convstore.messages import Message, Usage, bodies_of, message_of
from flask_convstore.models import ANY

from .harness import MemoryHarness, PlainConversations
from .test_sessions import get

FORM = Form("history", max_message_bytes=1000, max_data_bytes=100, max_metadata_depth=3)


@pytest.mark.parametrize(
    ("before", "after", "dropped"),
    [
        ("", "", 0),
        ("", "ab", 0),
        ("ab", "ab", 0),
        ("ab", "abc", 0),
        ("abc", "c", 2),
        ("abc", "bc", 1),
        ("abc", "cd", 2),
        ("abc", "", 3),
        ("aab", "ab", 1),
        ("aba", "a", 2),
        ("abc", "ac", None),
        ("abc", "bx", None),
        ("abc", "x", None),
        ("ab", "ba", 1),
    ],
)
def test_what_was_dropped(before: str, after: str, dropped: int | None) -> None:
    was, now = ([letter.encode() for letter in word] for word in (before, after))
    assert dropped_of(was, now) == dropped


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
    assert changes.added(messages, FORM).first_title == "this"
    assert changes.added([Message(body) for body in messages], FORM).first_title == "this"
    assert changes.added(messages[:2], FORM).first_title == ""


def test_tokens_of_all_messages_are_summed() -> None:
    messages = [Message("a", tokens=Usage(1, 20)), Message("b"), Message("c", tokens=Usage(300, 4000))]
    assert changes.added(messages, FORM).usage == Usage(301, 4020)
    assert changes.added(["b"], FORM).usage is None


@pytest.mark.parametrize("tokens", [(0, 0), (2**50 - 1, 1)])
def test_tokens_that_may_be_told(tokens: Any) -> None:
    check_facts({"tokens": tokens}, "m", FORM)


@pytest.mark.parametrize("tokens", [(-1, 0), (0, 2**50), (True, 0), (0, 1.0), (0, "1")])
def test_tokens_that_may_not(tokens: Any) -> None:
    with pytest.raises(InvalidInput, match="whole numbers, 0 or more") as caught:
        check_facts({"tokens": tokens}, "m", FORM)
    assert caught.value.path == "m.tokens"


def test_data_are_limited_to_the_byte() -> None:
    """Names count as UTF-8; what is removed does not count."""
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
    (element,) = changes.added(["x"], FORM).elements
    room = FORM.max_message_bytes - len(element)
    (fits,) = changes.added(["x" * (room + 1)], FORM).elements
    assert len(fits) == FORM.max_message_bytes
    with pytest.raises(TooLarge) as caught:
        changes.added(["ok", "x" * (room + 2)], FORM)
    assert (caught.value.limit, caught.value.size, caught.value.path) == (1000, 1001, "history[1]")
    changes.check_element(fits, Message("x"), FORM)
    with pytest.raises(TooLarge) as caught:
        changes.check_element(fits + b"x", Message("x"), FORM)
    assert caught.value.path == "history[0]"
    with pytest.raises(InvalidInput) as deep:
        changes.check_element(fits, Message("x", {"a": [[[1]]]}), FORM)
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
        changes.texts(content, FORM)
    assert caught.value.path == path
    assert reason in caught.value.reason


def test_the_history_is_no_field() -> None:
    with pytest.raises(InvalidInput, match="the key of the history") as caught:
        changes.changed_fields({}, {"history": []}, FORM)
    assert caught.value.path == "data.history"
    with pytest.raises(NotSerializable) as unnamed:
        changes.changed_fields({}, {5: 1}, FORM)  # type: ignore[dict-item]
    assert unnamed.value.path == "data"


@pytest.mark.parametrize(
    ("now", "kept"),
    [
        ("abcdX", "abcd"),
        ("abXd", "abXd"),  # edited in its place
        ("Xbcd", "Xbcd"),
        ("abd", "abd"),
        ("aXYd", "ad"),
        ("abXcd", "abcd"),
        ("aabcd", "abcd"),
        ("abcdd", "abcd"),
        ("XYZ", ""),
        ("dcba", "d"),  # abc dropped, cba added
    ],
)
def test_messages_that_were_not_changed_keep_their_envelopes(now: str, kept: str) -> None:
    """A rewrite writes anew what differs; a single edited message keeps its own, with the new text."""
    conversations = PlainConversations(MemoryHarness().store)
    conversations.save_session("s", {"history": [Message(letter, {"was": letter}) for letter in "abcd"]})
    session = get(conversations)
    session["history"][:] = list(now)
    conversations.save_session("s", session)
    assert get(conversations)["history"] == list(now)
    snapshot = conversations.backend.store.load("s", conversations.caller())
    assert snapshot
    elements = zip(snapshot.elements, now, strict=True)
    old = [letter for element, letter in elements if message_of(element, 1).metadata is not None]
    assert "".join(old) == kept
    assert [body.decode().strip('"') for body in bodies_of(snapshot.elements)] == list(now)


# ---- what an app was given is not all that is stored


def written(was: Any, given: Any, now: Any) -> tuple[dict[str, bytes | None], Any]:
    """The fields and the change of the history, where an app was *given* that of what *was* stored, and made *now* of it."""
    conversations = PlainConversations(MemoryHarness().store)
    conversations.save_session("s", was)
    base = get(conversations)._base
    save = changes.difference(base, now, FORM, ANY, None, given=changes.texts(given, FORM))
    return ({change.name: change.value for change in save.fields}, save.history) if save else ({}, None)


@pytest.mark.parametrize(
    ("given", "now", "fields"),
    [
        ({"a": 1}, {"a": 5}, {"a": b"5"}),  # what was hidden stays
        ({"a": 1, "default": 0}, {"a": 1, "default": 0}, {}),  # what was added by loading is no change
        ({"a": "one"}, {"a": "one"}, {}),  # nor is another form
        ({"a": "one"}, {"a": "two"}, {"a": b'"two"'}),
        ({"a": 1}, {}, {"a": None}),
        ({"a": 1}, {"a": 1, "c": 3}, {"c": b"3"}),
    ],
)
def test_fields_that_were_given_in_another_form(given: Any, now: Any, fields: Any) -> None:
    assert written({"a": 1, "hidden": 2}, given, now) == (fields, None)


@pytest.mark.parametrize(
    ("given", "now", "added"),
    [
        (["m1", "m2"], ["m1", "m2"], None),
        (["m1", "m2"], ["m1", "m2", "m3"], ["m3"]),
        (["M1", "M2"], ["M1", "M2"], None),
        (["M1", "M2"], ["M1", "M2", "m3"], ["m3"]),
        (["m2"], ["m2", "m3"], ["m3"]),
        ([], ["m3"], ["m3"]),
        ([], [], None),
    ],
)
def test_histories_that_were_given_in_another_form(given: Any, now: Any, added: Any) -> None:
    fields, change = written({"history": ["m1", "m2"]}, {"history": given}, {"history": now})
    assert fields == {}
    if added is None:
        assert change is None
    else:
        assert isinstance(change, Extend)
        assert change.drop_below == 0
        assert bodies_of(change.elements) == [b'"%s"' % text.encode() for text in added]


def test_a_history_in_another_form_that_was_rewritten_collides() -> None:
    _, change = written({"history": ["m1", "m2"]}, {"history": ["M1", "M2"]}, {"history": ["X", "M2"]})
    assert isinstance(change, Rewrite)
    assert change.history_version == -1


def test_the_place_of_a_message_that_is_too_large_is_told() -> None:
    for given in (["m1", "m2"], ["M1", "M2"]):
        with pytest.raises(TooLarge) as caught:
            written({"history": ["m1", "m2"]}, {"history": given}, {"history": [*given, "x" * 2000]})
        assert caught.value.path == "history[2]"


# ---- what is known after a save


def test_a_saved_session_knows_what_was_saved() -> None:
    conversations = PlainConversations(MemoryHarness().store)
    hello = Message({"role": "user", "content": "hello"}, tokens=Usage(1, 2))
    saved = conversations.save_session("s", {"history": [hello]}, ttl=50)
    assert (saved.title, saved.usage, saved._base.own_ttl_ms) == ("hello", Usage(1, 2), 50_000)
    read = get(conversations)
    assert (read.title, read.usage, read._base.own_ttl_ms) == ("hello", Usage(1, 2), 50_000)
    read["history"].append("more")
    conversations.save_session("s", read)
    assert read._base.own_ttl_ms == 50_000
    conversations.save_session("s", read | {"a": 1}, ttl=70)
    assert get(conversations)._base.own_ttl_ms == 70_000


def test_messages_that_are_merged_name_the_session_and_are_counted() -> None:
    conversations = PlainConversations(MemoryHarness().store)
    conversations.save_session("s", {"history": [{"role": "system", "content": "be kind"}]})
    session = get(conversations)
    session["history"].append(Message({"role": "user", "content": "hello"}, tokens=Usage(3, 4)))
    conversations.save_session("s", session)
    assert (get(conversations).title, get(conversations).usage) == ("hello", Usage(3, 4))


@pytest.mark.parametrize("history", [["x"], []])
def test_what_was_rewritten_can_be_dropped_from_or_rewritten_again(history: list[str]) -> None:
    """The base knows the numbers of the new messages: they go on behind the old ones."""
    conversations = PlainConversations(MemoryHarness().store)
    conversations.save_session("s", {"history": ["a", "b"]})
    session = get(conversations)
    session["history"][:] = history
    conversations.save_session("s", session)
    read = get(conversations)
    assert list(session._base.seqs) == list(read._base.seqs)
    assert (
        (session._base.first_seq, session._base.count) == (read._base.first_seq, read._base.count) == (3, len(history))
    )
    assert session._base.history_version == read._base.history_version
    session["history"] += ["c", "d"]
    conversations.save_session("s", session)
    del session["history"][0]
    conversations.save_session("s", session)
    assert get(conversations)["history"] == [*history, "c", "d"][1:]


def test_a_name_that_no_text_holds_is_refused() -> None:
    with pytest.raises(NotSerializable) as caught:
        changes.encoded_fields({"\ud800": 1}, FORM, "data")
    assert caught.value.path == "data"


def test_a_part_of_a_history_is_not_rewritten() -> None:
    conversations = PlainConversations(MemoryHarness().store)
    conversations.save_session("s", {"history": ["a", "b", "c"]})
    session = get(conversations, last=2)
    session["history"][0] = "B"
    with pytest.raises(InvalidInput, match="only its last 2 messages were loaded: load all") as caught:
        conversations.save_session("s", session)
    assert caught.value.path == "history"


def test_an_upsert_adds_what_there_is() -> None:
    def history(content: Any) -> Any:
        return changes.whole("s", content, FORM, ANY, None, "upsert").history

    assert history({"a": 1}) is None
    assert history({"history": []}) == Extend(0, ())
    added = history(["x"])
    assert isinstance(added, Extend)
    assert (added.drop_below, bodies_of(added.elements)) == (0, [b'"x"'])


def test_a_merged_session_knows_its_times_and_who_served_it() -> None:
    conversations = PlainConversations(MemoryHarness().store)
    conversations.save_session("s", {"a": 1, "history": ["m"]})
    base = get(conversations)._base
    save = changes.difference(base, {"a": 2, "history": ["m"]}, FORM, ANY, None)
    assert save
    receipt = conversations.backend.store.apply(save)
    receipt = replace(receipt, updated_at_ms=5, expires_at_ms=7, fallback="journal")
    merged = changes.base_merged(base, save, receipt)
    assert (merged.version, merged.updated_at_ms, merged.expires_at_ms, merged.fallback) == (2, 5, 7, "journal")
    assert (merged.fields, merged.elements, merged.history_version) == ({"a": b"2"}, base.elements, 1)
    whole = changes.whole("s", {"a": 2}, FORM, ANY, None)
    assert changes.base_created(whole, receipt, "here").fallback == "journal"
