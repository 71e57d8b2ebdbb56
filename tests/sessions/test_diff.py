"""The diff of a session, to the last byte and message. Its effect on a store is in operations/test_sessions.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flask_convstore.domain.commands import Extend, FieldChange, Rewrite
from flask_convstore.domain.messages import Message, Usage, bodies_of, message_of
from flask_convstore.domain.types import ANY
from flask_convstore.errors import InvalidInput, NotSerializable, TooLarge
from flask_convstore.sessions import content, diff
from flask_convstore.sessions.content import ContentLimits
from flask_convstore.sessions.diff import dropped_of

from ..harness import MemoryHarness, PlainConversations
from ..operations.test_sessions import get

FORM = ContentLimits("history", max_message_bytes=1000, max_data_bytes=100, max_metadata_depth=3)


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


def test_the_history_is_no_field() -> None:
    with pytest.raises(InvalidInput, match="the key of the history") as caught:
        diff.changed_fields({}, {"history": []}, FORM)
    assert caught.value.path == "data.history"
    with pytest.raises(NotSerializable) as unnamed:
        diff.changed_fields({}, {5: 1}, FORM)  # type: ignore[dict-item]
    assert unnamed.value.path == "data"


def test_only_fields_that_are_set_have_a_size() -> None:
    changes = diff.changed_fields({"gone" * 100: b"1", "same": b"2"}, {"ü": "x" * 96, "same": 2}, FORM)
    assert changes == (FieldChange("ü", None, b'"%b"' % (b"x" * 96)), FieldChange("gone" * 100, b"1", None))
    with pytest.raises(TooLarge):
        diff.changed_fields({}, {"ü": "x" * 97}, FORM)


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
        ("dcba", "dcba"),
        ("bcda", "bcda"),
        ("cdbX", "cd"),  # b is said again
        ("cdba", "cdba"),
    ],
)
def test_messages_that_were_not_changed_keep_their_envelopes(now: str, kept: str) -> None:
    """A rewrite writes other messages anew. A single edited message keeps its envelope, with the new text."""
    conversations = PlainConversations(MemoryHarness().store)
    conversations.save_session("s", {"history": [Message(letter, {"was": letter}) for letter in "abcd"]})
    session = get(conversations)
    session["history"][:] = list(now)
    conversations.save_session("s", session)
    assert get(conversations)["history"] == list(now)
    snapshot = conversations.access().load("s")
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
    save = diff.difference(base, now, FORM, ANY, None, given=content.texts(given, FORM))
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


def test_a_history_that_was_not_given_is_changed_as_it_is_stored() -> None:
    _, change = written({"history": ["m1", "m2"]}, {}, {"history": ["m1", "m2", "m3"]})
    assert isinstance(change, Extend)
    assert (change.drop_below, bodies_of(change.elements)) == (0, [b'"m3"'])
    _, change = written({"history": ["m1", "m2"]}, {"history": ["M1", "M2"]}, {"history": []})
    assert change == Rewrite(1, (), resets=True)


def test_the_place_of_a_message_that_is_too_large_is_told() -> None:
    for given in (["m1", "m2"], ["M1", "M2"]):
        with pytest.raises(TooLarge) as caught:
            written({"history": ["m1", "m2"]}, {"history": given}, {"history": [*given, "x" * 2000]})
        assert caught.value.path == "history[2]"


def test_a_part_of_a_history_is_not_rewritten() -> None:
    conversations = PlainConversations(MemoryHarness().store)
    conversations.save_session("s", {"history": ["a", "b", "c"]})
    session = get(conversations, last=2)
    session["history"][0] = "B"
    with pytest.raises(InvalidInput, match=r"only its last 2 messages were loaded\. Load all") as caught:
        conversations.save_session("s", session)
    assert caught.value.path == "history"


def test_an_upsert_adds_what_there_is() -> None:
    def history(content: Any) -> Any:
        return diff.joining("s", content, FORM, ANY, None).history

    assert history({"a": 1}) is None
    assert history({"history": []}) == Extend(0, ())
    added = history(["x"])
    assert isinstance(added, Extend)
    assert (added.drop_below, bodies_of(added.elements)) == (0, [b'"x"'])


def test_a_copy_has_all_but_the_messages() -> None:
    conversations = PlainConversations(MemoryHarness().store)
    hello = {"role": "user", "content": "hello"}
    conversations.save_session("s", {"a": 1, "history": [hello]}, ttl=50)
    snapshot = conversations.backend.store.load("s", ANY)
    assert snapshot
    save = diff.copied(snapshot, "t", "ada", (), Usage(1, 2), seqs=(), next_seq=4)
    assert (save.session_id, save.owner, save.mode, save.shape) == ("t", "ada", "create", "full:history")
    assert (save.fields, save.elements) == ((("a", b"1"),), ())
    assert (save.first_seq, save.gaps) == (4, ())
    assert (save.ttl_ms, save.first_title, save.usage) == (50_000, "hello", Usage(1, 2))


# ---- the messages are as they were loaded


@pytest.mark.parametrize(
    ("change", "fields", "added", "shape"),
    [
        (lambda session: None, {}, None, None),
        (lambda session: session.update(a=2), {"a": b"2"}, None, None),
        (lambda session: session.update(a=True), {"a": b"true"}, None, None),
        (lambda session: session.update(b="x"), {"b": b'"x"'}, None, None),
        (lambda session: session.pop("a"), {"a": None}, None, None),
        (lambda session: session["history"].append("m3"), {}, [b'"m3"'], None),
        (lambda session: session.update(a=2, history=["m1", "m2", "m3", "m4"]), {"a": b"2"}, [b'"m3"', b'"m4"'], None),
        (lambda session: session.update(messages=session.pop("history")), {}, None, "full:messages"),
    ],
)
def test_only_what_has_changed_is_written(change: Any, fields: Any, added: Any, shape: str | None) -> None:
    conversations = PlainConversations(MemoryHarness().store)
    conversations.save_session("s", {"a": 1, "history": ["m1", "m2"]})
    session = get(conversations)
    change(session)
    form = replace(FORM, other_keys=("messages",))
    save = diff.difference(session._base, session, form, ANY, None)
    if not (fields or added or shape):
        assert save is None
        return
    assert save is not None
    assert ({name: value for name, _, value in save.fields}, save.shape) == (fields, shape)
    if added is None:
        assert save.history is None
    else:
        assert isinstance(save.history, Extend)
        assert (save.history.drop_below, bodies_of(save.history.elements)) == (0, added)
