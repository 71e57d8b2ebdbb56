"""The baseline of a session after a save."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from flask_convstore.domain.messages import Message, Usage
from flask_convstore.domain.results import ANY, Alias, Snapshot
from flask_convstore.sessions import diff
from flask_convstore.sessions.baseline import Base, base_created, base_merged, base_read
from flask_convstore.sessions.content import ContentLimits

from ..harness import MemoryHarness, PlainConversations
from ..operations.test_sessions import get

FORM = ContentLimits("history", max_message_bytes=1000, max_data_bytes=100, max_metadata_depth=3)


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


def test_a_merged_session_knows_its_times_and_who_served_it() -> None:
    conversations = PlainConversations(MemoryHarness().store)
    conversations.save_session("s", {"a": 1, "history": ["m"]})
    base = get(conversations)._base
    save = diff.difference(base, {"a": 2, "history": ["m"]}, FORM, ANY, None)
    assert save
    receipt = conversations.backend.store.apply(save)
    receipt = replace(receipt, updated_at_ms=5, expires_at_ms=7, fallback="journal")
    merged = base_merged(base, save, receipt)
    assert (merged.version, merged.updated_at_ms, merged.expires_at_ms, merged.fallback) == (2, 5, 7, "journal")
    assert (merged.fields, merged.elements, merged.history_version) == ({"a": b"2"}, base.elements, 1)
    whole = diff.whole("s", {"a": 2}, FORM, ANY, None)
    assert base_created(whole, receipt, "here").fallback == "journal"


def test_a_history_that_was_taken_away_goes_on_behind_what_it_was() -> None:
    conversations = PlainConversations(MemoryHarness().store)
    conversations.save_session("s", {"history": ["a", "b"]})
    session = get(conversations)
    del session["history"]
    conversations.save_session("s", session)
    assert session._base.first_seq == get(conversations)._base.first_seq == 3


def test_all_that_was_read_is_known() -> None:
    """A fact has the same name in baseline and snapshot, except the place and the numbers of messages."""
    snapshot = Snapshot(
        session_id="s",
        version=4,
        shape="list",
        created_at_ms=1,
        updated_at_ms=2,
        expires_at_ms=3,
        title="title",
        fields={"a": b"1"},
        elements=[b"x", b"y"],
        next_seq=9,
        count=5,
        history_version=2,
        key="key",
        history_key="history key",
        own_ttl_ms=70,
        moved_to="another",
        aliases=(Alias("ada", "alias"),),
        usage=Usage(1, 2),
        fallback="journal",
    )
    base = base_read(snapshot, "here")
    assert (base.origin, base.first_seq, list(base.seqs), base.pending) == ("here", 4, [7, 8], None)
    for name in {field.name for field in fields(Base)} - {"origin", "first_seq", "seqs", "pending"}:
        assert getattr(base, name) == getattr(snapshot, name), name
