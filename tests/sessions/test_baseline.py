"""The baseline of a session after a save."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flask_convstore.domain.messages import Message, Usage
from flask_convstore.domain.results import Snapshot
from flask_convstore.domain.types import ANY
from flask_convstore.sessions import diff
from flask_convstore.sessions.baseline import base_created, base_merged, base_read
from flask_convstore.sessions.content import ContentLimits

from ..harness import MemoryHarness, PlainConversations
from ..operations.test_sessions import get

FORM = ContentLimits("history", max_message_bytes=1000, max_data_bytes=100, max_metadata_depth=3)


def test_a_saved_session_knows_what_was_saved() -> None:
    conversations = PlainConversations(MemoryHarness().store)
    hello = Message({"role": "user", "content": "hello"}, tokens=Usage(1, 2))
    saved = conversations.save_session("s", {"history": [hello]}, ttl=50)
    assert (saved.title, saved.usage, saved._base.snapshot.own_ttl_ms) == ("hello", Usage(1, 2), 50_000)
    read = get(conversations)
    assert (read.title, read.usage, read._base.snapshot.own_ttl_ms) == ("hello", Usage(1, 2), 50_000)
    read["history"].append("more")
    conversations.save_session("s", read)
    assert read._base.snapshot.own_ttl_ms == 50_000
    conversations.save_session("s", read | {"a": 1}, ttl=70)
    assert get(conversations)._base.snapshot.own_ttl_ms == 70_000


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
    known, stored = session._base.snapshot, read._base.snapshot
    assert (known.first_seq, known.count) == (stored.first_seq, stored.count) == (3, len(history))
    assert known.history_version == stored.history_version
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
    merged = base_merged(base, save, receipt, save.token).snapshot
    assert (merged.version, merged.updated_at_ms, merged.expires_at_ms, merged.fallback) == (2, 5, 7, "journal")
    assert (merged.fields, merged.elements, merged.history_version) == (
        {"a": b"2"},
        base.snapshot.elements,
        1,
    )
    whole = diff.whole("s", {"a": 2}, FORM, ANY, None)
    assert base_created(whole, receipt, "here").snapshot.fallback == "journal"


def test_a_history_that_was_taken_away_goes_on_behind_what_it_was() -> None:
    conversations = PlainConversations(MemoryHarness().store)
    conversations.save_session("s", {"history": ["a", "b"]})
    session = get(conversations)
    del session["history"]
    conversations.save_session("s", session)
    assert session._base.snapshot.first_seq == get(conversations)._base.snapshot.first_seq == 3


@pytest.mark.parametrize(("loaded", "seqs"), [(2, [7, 8]), (0, [])])
def test_all_that_was_read_is_known(loaded: int, seqs: list[int]) -> None:
    snapshot = Snapshot(
        session_id="s",
        version=4,
        created_at_ms=1,
        first_seq=4,
        count=5,
        elements=[b"x", b"y"][:loaded],
        history_version=2,
    )
    base = base_read(snapshot, "here")
    assert base.snapshot is snapshot
    assert (base.origin, list(base.seqs), base.pending, base.is_partial) == ("here", seqs, None, True)
    assert base.state == (1, 4)
    assert base_read(replace(snapshot, count=loaded), "here").is_partial is False


def test_a_session_that_was_started_under_another_id_knows_it() -> None:
    conversations = PlainConversations(MemoryHarness().store)
    whole = diff.whole("asked for", {"a": 1}, FORM, ANY, None)
    receipt = replace(conversations.backend.store.apply(whole), session_id="another")
    assert base_created(whole, receipt, "here").snapshot.session_id == "another"
