"""Sessions as users see them. They come back exactly as saved, and only changes are written and merged."""

from __future__ import annotations

import copy
import enum
import pickle
from collections import UserDict, UserList, UserString
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_convstore.config import Settings
from flask_convstore.domain.clock import as_milliseconds, now_ms
from flask_convstore.domain.commands import Command, Merge, Touch
from flask_convstore.domain.messages import Message
from flask_convstore.domain.results import Receipt
from flask_convstore.domain.types import ANY
from flask_convstore.errors import (
    ConflictError,
    CorruptValue,
    InvalidInput,
    InvalidSessionId,
    NotSerializable,
    SessionNotFound,
    StoreUnavailable,
    TokenReused,
    TooLarge,
)
from flask_convstore.sessions.session import ListSession, Session, as_session, content_of_base, plain
from flask_convstore.stores.store import Store, StoreAround

from ..clocks import Moment
from ..domain.test_json_text import JSON, Word
from ..harness import Harness, MemoryHarness, PlainConversations, RedisHarness, in_memory

USER = {"role": "user", "content": "hello"}
BOT = {"role": "assistant", "content": "hi"}


def get(conversations: PlainConversations, session_id: str = "s", **options: Any) -> Any:
    session = conversations.get_session(session_id, **options)
    assert session is not None
    return session


class Recorder(StoreAround):
    """A store around a store that records its commands."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.commands: list[Command] = []

    def apply(self, command: Command) -> Receipt:
        self.commands.append(command)
        return super().apply(command)


# ---- saved and loaded


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"history": []},
        {"a": None, "b": [], "c": {}, "d": 0, "e": "", "f": False},
        {"history": [USER, BOT], "state": {"deep": [{"x": 1}]}},
        {"history": ["User: hi", 3, None, ["x"], {"query": "q", "response": "r"}, {"role": "user", "parts": [{}]}]},
        {"": "empty name", "d:x": 1, "version": 7, "ä ö": "☃"},
        {"history": [{"role": "user", "content": "line\nbreak \u0000 \u2028 🎉", "id": 5, "seq": "own"}]},
        [],
        [USER, BOT],
        ["plain", 1, None],
    ],
)
def test_a_session_comes_back_exactly_as_saved(conversations: PlainConversations, content: Any) -> None:
    saved = conversations.save_session("s", copy.deepcopy(content))
    loaded = get(conversations)
    assert saved == loaded == content
    assert type(loaded) is type(saved) is (ListSession if isinstance(content, list) else Session)
    assert ("history" in loaded) == ("history" in content)


def test_a_session_knows_its_facts(conversations: PlainConversations, harness: Harness) -> None:
    with harness.moment() as moment, Moment(now_ms) as ours:
        saved = conversations.save_session("s", {"history": [USER]}, ttl=600)
        conversations.append("s", BOT)
        loaded = get(conversations)
    for session in (saved, loaded):
        assert session.session_id == "s"
        assert session.title == "hello"
        assert as_milliseconds(session.updated_at) in moment
        assert as_milliseconds(session.expires_at) - 600_000 in moment
    assert (saved.version, get(conversations).version) == (1, 2)
    assert saved.created_at == get(conversations).created_at
    assert saved.created_at.tzinfo is UTC
    [first, second] = get(conversations).messages
    assert (first.seq, first.id, first.body, first["content"], first.get("x", 1)) == (1, "msg-1", USER, "hello", 1)
    assert (second.seq, second.body, second.metadata, second.status) == (2, BOT, None, None)
    assert as_milliseconds(first.created_at) in ours, "a message has the time of the process that wrote it"


def test_a_session_that_was_never_saved_knows_nothing() -> None:
    with pytest.raises(AttributeError, match="never saved or loaded"):
        _ = Session({"a": 1}).version
    with pytest.raises(AttributeError, match="no attribute 'versoin'"):
        _ = Session({"a": 1}).versoin  # type: ignore[attr-defined]
    assert not hasattr(Session(), "_base")


def test_sessions_can_be_copied_and_pickled(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"history": [USER]})
    session = get(conversations)
    for twin in (copy.copy(session), copy.deepcopy(session), pickle.loads(pickle.dumps(session))):
        assert twin == session
        assert twin.version == 1
    copied = copy.deepcopy(session)
    copied["history"].append(BOT)
    conversations.save_session("s", copied)
    assert get(conversations)["history"] == [USER, BOT]
    assert session["history"] == [USER]


def test_text_forms(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"at": datetime(2026, 1, 2, tzinfo=UTC), "price": Decimal("1.10"), "t": (1, 2)})
    assert get(conversations) == {"at": "2026-01-02T00:00:00+00:00", "price": "1.10", "t": [1, 2]}


def test_the_history_key_can_be_named(harness: Harness) -> None:
    conversations = PlainConversations(harness.store, Settings(history_key=("messages",)))
    conversations.save_session("s", {"messages": [USER], "history": "a field"})
    conversations.append("s", BOT, data={"history": "changed"})
    assert get(conversations) == {"messages": [USER, BOT], "history": "changed"}


def test_names_that_are_members_of_an_enum_come_back_as_texts(conversations: PlainConversations) -> None:
    """Also from memory, since JSON over HTTP has no other names."""
    conversations.save_session("s", {Word.RED: 1, "history": [{Word.RED: {Word.RED: 2}}]})
    session = get(conversations)
    session[Word.RED] = 3
    conversations.save_session("s", session)
    loaded = get(conversations)
    assert loaded == {"red": 3, "history": [{"red": {"red": 2}}]}
    assert {type(name) for name in loaded} == {str}


# ---- merging


def test_different_fields_of_two_readers_both_land(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"a": {"x": 1}, "b": [1], "c": 1})
    one, two = get(conversations), get(conversations)
    one["a"]["x"] = 2
    one["new"] = True
    del two["c"]
    two["b"].append(2)
    conversations.save_session("s", one)
    assert conversations.save_session("s", two) is two
    assert get(conversations) == {"a": {"x": 2}, "b": [1, 2], "new": True}


def test_two_changes_of_one_field_merge_at_any_depth(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"cart": {"items": ["a"], "cost": {"total": 10}}, "mood": "calm", "seen": 1})
    one, two = get(conversations), get(conversations)
    one["cart"]["items"].append("b")
    one["cart"]["cost"]["total"] += 5
    two["cart"]["items"].append("c")
    two["cart"]["cost"]["total"] += 7
    two["cart"]["note"] = "gift"
    one["seen"] += 1
    two["seen"] += 1
    conversations.save_session("s", one)
    conversations.save_session("s", two)
    cart = {"items": ["a", "b", "c"], "cost": {"total": 22}, "note": "gift"}
    assert get(conversations) == {"cart": cart, "mood": "calm", "seen": 3}
    assert two["cart"]["items"] == ["a", "c"], "what others wrote is not in it"
    two["cart"]["items"].append("d")
    two["seen"] += 1
    conversations.save_session("s", two)
    assert get(conversations) == {"cart": cart | {"items": ["a", "b", "c", "d"]}, "mood": "calm", "seen": 4}


def test_the_last_of_two_texts_wins_and_is_told(harness: Harness) -> None:
    recorder = Recorder(harness.store)
    conversations = PlainConversations(recorder)
    conversations.save_session("s", {"mood": {"now": "calm"}, "history": []})
    one, two = get(conversations), get(conversations)
    one["mood"]["now"], two["mood"]["now"] = "glad", "sad"
    two["history"].append(BOT)
    conversations.save_session("s", one)
    conversations.save_session("s", two)
    assert get(conversations) == {"mood": {"now": "sad"}, "history": [BOT]}
    last = recorder.commands[-1]
    assert isinstance(last, Merge)
    assert last.overwrites == ("mood.now",)


def test_a_merged_save_whose_reply_was_lost_happens_once(harness: Harness) -> None:
    store = LosesReplies(harness.store)
    conversations = PlainConversations(store)
    conversations.save_session("s", {"n": 0})
    one, two = get(conversations), get(conversations)
    one["n"] += 1
    two["n"] += 2
    conversations.save_session("s", one)
    store.lose = 1
    with pytest.raises(StoreUnavailable):
        conversations.save_session("s", two)
    two["n"] += 4
    conversations.save_session("s", two)
    assert get(conversations) == {"n": 7}


def test_a_collision_changes_nothing_where_the_settings_want_an_error(harness: Harness) -> None:
    conversations = PlainConversations(harness.store, Settings(conflict="raise"))
    conversations.save_session("s", {"a": 1, "b": 1, "history": [USER]})
    one, two = get(conversations), get(conversations)
    one["a"] = 2
    conversations.save_session("s", one)
    two["a"], two["b"] = 3, 3
    two["history"].append(BOT)
    with pytest.raises(ConflictError) as caught:
        conversations.save_session("s", two)
    assert (caught.value.what, caught.value.expected, caught.value.actual, caught.value.written) == ("a", 1, 2, False)
    assert get(conversations) == {"a": 2, "b": 1, "history": [USER]}
    with pytest.raises(ConflictError):
        conversations.save_session("s", two)
    latest = get(conversations)
    latest["b"] = 3
    conversations.save_session("s", latest)
    assert get(conversations) == {"a": 2, "b": 3, "history": [USER]}


def test_true_and_one_are_different(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"flag": 1, "n": 1})
    session = get(conversations)
    session["flag"], session["n"] = True, 1.0
    conversations.save_session("s", session)
    assert [repr(value) for value in get(conversations).values()] == ["True", "1.0"]


def test_appends_of_two_readers_both_land(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"history": [USER]})
    one, two = get(conversations), get(conversations)
    one["history"].append("one")
    two["history"] += ["two", "three"]
    conversations.save_session("s", one)
    conversations.save_session("s", two)
    assert get(conversations)["history"] == [USER, "one", "two", "three"]
    assert [message.seq for message in two.messages] == [1, 3, 4]


def test_dropping_the_oldest_merges(conversations: PlainConversations) -> None:
    conversations.save_session("s", list(range(20)))
    one, two = get(conversations), get(conversations)
    one.extend(["one", "one"])
    one[:] = one[-20:]
    two.pop(0)
    two.append("two")
    conversations.append("s", Message("three"))
    conversations.save_session("s", one)
    conversations.save_session("s", two)
    assert get(conversations) == [*range(2, 20), "three", "one", "one", "two"]
    assert get(conversations).messages[0].seq == 3


def test_slices_copies_and_sums_are_the_session(conversations: PlainConversations) -> None:
    """Half of all apps trim by ``session = session[-20:]``."""
    conversations.save_session("s", list(range(20)))
    one, two = get(conversations), get(conversations)
    conversations.save_session("s", (one + ["one"])[-20:])  # noqa: RUF005
    two = two.copy()[5:]
    two.append("two")
    conversations.save_session("s", two)
    assert get(conversations) == [*range(5, 20), "one", "two"]
    assert one[0] == 0
    conversations.save_session("d", {"a": 1})
    mine, theirs, others = (get(conversations, "d") for _ in range(3))
    conversations.save_session("d", theirs | {"theirs": 1})
    conversations.save_session("d", mine.copy() | {"mine": 1})
    conversations.save_session("d", {"a": 0, "default": 1} | others)
    assert get(conversations, "d") == {"a": 1, "theirs": 1, "mine": 1, "default": 1}
    assert (Session(a=1) | {"b": 2}) == {"a": 1, "b": 2}
    assert ({"b": 2, "a": 2} | Session(a=1)) == {"b": 2, "a": 1}


def test_dropping_all_is_a_rewrite(conversations: PlainConversations) -> None:
    """It begins the conversation anew, and would drop what was not seen."""
    conversations.save_session("s", ["a", "b"])
    session = get(conversations)
    conversations.append("s", Message("c"))
    session.clear()
    with pytest.raises(ConflictError):
        conversations.save_session("s", session)
    assert get(conversations) == ["a", "b", "c"]


@in_memory
@pytest.mark.parametrize(
    "rewritten",
    [["A", "b"], ["a"], ["x", "a", "b"], ["x", "y"], ["c"], ["a", "B"]],
)
def test_a_rewrite_lands_unless_the_history_moved(conversations: PlainConversations, rewritten: list[str]) -> None:
    conversations.save_session("s", ["a", "b"])
    one, two = get(conversations), get(conversations)
    one[:] = rewritten
    two[:] = rewritten
    conversations.save_session("s", one)
    assert get(conversations) == rewritten
    with pytest.raises(ConflictError) as caught:
        conversations.save_session("s", two)
    assert caught.value.what == "history"
    assert get(conversations) == rewritten


def test_a_rewrite_keeps_the_envelopes_of_kept_messages(conversations: PlainConversations) -> None:
    messages = [Message(f"m{number}", {"n": number}) for number in range(5)]
    conversations.save_session("s", {"history": []})
    conversations.append("s", *messages)
    session = get(conversations)
    session["history"][2] = "edited"
    conversations.save_session("s", session)
    assert [message.metadata for message in get(conversations).messages] == [{"n": number} for number in range(5)]
    del session["history"][2]
    conversations.save_session("s", session)
    stored = get(conversations).messages
    assert [(message.body, message.metadata) for message in stored] == [(f"m{n}", {"n": n}) for n in (0, 1, 3, 4)]
    assert [message.seq for message in stored] == [11, 12, 13, 14], "a seq is never used again"


def test_rewrites_one_after_the_other(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"history": ["a"]})
    session = get(conversations)
    for text in ("b", "c"):
        session["history"][0] = text
        conversations.save_session("s", session)
        session["history"].append(text)
        conversations.save_session("s", session)
    assert get(conversations)["history"] == ["c", "b", "c"]


def test_a_rewrite_does_not_remove_unseen_messages(conversations: PlainConversations) -> None:
    conversations.save_session("s", ["a"])
    session = get(conversations)
    conversations.append("s", Message("theirs"))
    session.append("mine")
    conversations.save_session("s", session)
    session[0] = "A"
    with pytest.raises(ConflictError):
        conversations.save_session("s", session)
    assert get(conversations) == ["a", "theirs", "mine"]


def test_dropping_never_removes_unseen_messages(conversations: PlainConversations) -> None:
    conversations.save_session("s", ["m1"])
    one, two = get(conversations), get(conversations)
    one.append("one")
    conversations.save_session("s", one)
    two.append("two")
    conversations.save_session("s", two)
    two.pop(0)
    conversations.save_session("s", two)
    assert get(conversations) == ["one", "two"], "m1 was seen, and dropped"
    two.clear()
    with pytest.raises(ConflictError):
        conversations.save_session("s", two)
    assert get(conversations) == ["one", "two"], "one was not seen"


def test_dropping_from_a_session_loaded_empty(conversations: PlainConversations) -> None:
    conversations.save_session("s", [])
    session = get(conversations)
    conversations.append("s", Message("theirs"))
    session.append("mine")
    conversations.save_session("s", session)
    session.pop()
    with pytest.raises(ConflictError):
        conversations.save_session("s", session)
    assert get(conversations) == ["theirs", "mine"]


def test_a_stale_session_does_not_reach_the_successor(conversations: PlainConversations) -> None:
    conversations.save_session("s", ["old1", "old2"])
    stale, unchanged = get(conversations), get(conversations)
    conversations.delete_session("s")
    conversations.save_session("s", ["new1", "new2"])
    stale[0] = "edited"
    for session in (stale, unchanged):
        with pytest.raises(SessionNotFound):
            conversations.save_session("s", session)
    assert get(conversations) == ["new1", "new2"]


def test_a_message_to_a_session_without_history_is_seen(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"x": 1, "history": ["m"]})
    one, two = get(conversations), get(conversations)
    del one["history"]
    conversations.save_session("s", one)
    two["history"].append("two")
    with pytest.raises(SessionNotFound):
        conversations.save_session("s", two)  # it was begun before the history went
    conversations.append("s", Message("three"))
    assert get(conversations) == {"x": 1, "history": ["three"]}


class LosesReplies(Recorder):
    """A store whose writes happen, but whose answers are lost so many times."""

    lose = 0

    def apply(self, command: Command) -> Any:
        receipt = super().apply(command)
        if self.lose:
            self.lose -= 1
            raise StoreUnavailable("the reply was lost", written=None)
        return receipt


def test_a_save_repeated_after_a_lost_reply_happens_once(harness: Harness) -> None:
    store = LosesReplies(harness.store)
    conversations = PlainConversations(store)
    conversations.save_session("s", {"n": 0, "history": []})
    session = get(conversations)
    session["n"] += 1
    session["history"].append("one")
    store.lose = 2
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            conversations.save_session("s", session)
    session["history"].append("two")  # changed again before the repeat
    session["n"] += 1
    conversations.save_session("s", session)
    assert get(conversations) == {"n": 2, "history": ["one", "two"]}
    conversations.save_session("s", session)
    assert get(conversations).version == 3


class Away(Recorder):
    """A store that is away. Its writes do not happen, and the caller cannot tell."""

    away = False

    def apply(self, command: Command) -> Any:
        if self.away:
            raise StoreUnavailable("away", written=None)
        return super().apply(command)


def test_a_pending_save_that_does_not_fit_any_more_is_given_up(harness: Harness) -> None:
    class Full(Away):
        def apply(self, command: Command) -> Any:
            large = isinstance(command, Merge) and any(change.name == "large" for change in command.fields)
            if large and not self.away:
                raise TooLarge("the data would be too large", limit=1, size=2)
            return super().apply(command)

    store = Full(harness.store)
    conversations = PlainConversations(store)
    conversations.save_session("s", {"n": 0})
    session = get(conversations)
    session["large"] = 1
    store.away = True
    with pytest.raises(StoreUnavailable):
        conversations.save_session("s", session)
    store.away = False
    with pytest.raises(TooLarge):
        conversations.save_session("s", session)
    del session["large"]
    session["n"] = 1
    conversations.save_session("s", session)
    assert get(conversations) == {"n": 1}


def test_a_message_is_found_by_its_number(conversations: PlainConversations) -> None:
    conversations.save_session("s", ["a", "b"])
    session = get(conversations)
    conversations.append("s", Message("theirs"))
    session.append("mine")
    conversations.save_session("s", session)
    found = [session.message(seq) for seq in range(6)]
    assert [message and (message.seq, message.body) for message in found] == [
        None,
        (1, "a"),
        (2, "b"),
        None,
        (4, "mine"),
        None,
    ]


def test_a_pending_save_that_conflicts_is_given_up(harness: Harness) -> None:
    store = Away(harness.store)
    conversations = PlainConversations(store)
    conversations.save_session("s", {"n": 0})
    session = get(conversations)
    session["n"] = 1
    store.away = True
    with pytest.raises(StoreUnavailable):
        conversations.save_session("s", session)
    store.away = False
    conversations.append("s", data={"n": 5})
    session["n"] = 0
    session["other"] = 1
    conversations.save_session("s", session)
    assert get(conversations) == {"n": 5, "other": 1}


def test_the_history_comes_and_goes(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"a": 1})
    session = get(conversations)
    for history in ([], None, ["x"], ["x", "y"], [], None):
        if history is None:
            del session["history"]
        else:
            session["history"] = history
        conversations.save_session("s", session)
        assert get(conversations) == session == ({"a": 1} if history is None else {"a": 1, "history": history})


def test_two_first_messages_merge(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"a": 1})
    one, two = get(conversations), get(conversations)
    one["history"], two["history"] = ["one"], ["two"]
    conversations.save_session("s", one)
    conversations.save_session("s", two)
    assert get(conversations)["history"] == ["one", "two"]


def test_only_the_difference_is_written(harness: Harness) -> None:
    recorder = Recorder(harness.store)
    conversations = PlainConversations(recorder)
    conversations.save_session("s", {"a": [1] * 1000, "b": 1, "history": [USER] * 1000})
    session = get(conversations)
    session["b"] = 2
    session["history"].append(BOT)
    conversations.save_session("s", session)
    command = recorder.commands[-1]
    assert isinstance(command, Merge)
    assert [(change.name, change.loaded, change.value) for change in command.fields] == [("b", b"1", b"2")]
    assert command.history
    assert len(command.history.elements or ()) == 1


def test_an_unchanged_session_is_only_touched(harness: Harness) -> None:
    recorder = Recorder(harness.store)
    conversations = PlainConversations(recorder)
    conversations.save_session("s", {"a": 1, "history": [USER]})
    with harness.moment() as moment:
        session = conversations.save_session("s", get(conversations), ttl=50)
        assert isinstance(recorder.commands[-1], Touch)
        loaded = get(conversations)
    assert loaded.version == session.version == 1
    assert all(as_milliseconds(one.expires_at) - 50_000 in moment for one in (session, loaded))


def test_saving_a_session_never_revives_a_deleted_one(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"a": 1})
    changed, unchanged = get(conversations), get(conversations)
    changed["a"] = 2
    conversations.delete_session("s")
    for session in (changed, unchanged):
        with pytest.raises(SessionNotFound):
            conversations.save_session("s", session)
    assert conversations.get_session("s") is None


def test_a_session_under_another_id_is_a_plain_dict(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"a": 1, "history": [USER]})
    copied = conversations.save_session("t", get(conversations))
    assert (copied.session_id, copied.version) == ("t", 1)
    conversations.delete_session("s")
    assert get(conversations, "t") == {"a": 1, "history": [USER]}


def test_a_plain_dict_replaces(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"a": 1, "history": [USER]})
    conversations.append("s", BOT)
    assert conversations.save_session("s", {"b": 2}).version == 3
    assert get(conversations) == {"b": 2}
    conversations.save_session("s", [USER])
    assert get(conversations) == [USER]


def test_a_session_with_its_last_messages_can_be_changed_too(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"a": 1, "history": list(range(10))})
    session = get(conversations, last=3)
    assert session["history"] == [7, 8, 9]
    assert session.message_count == 10
    session["history"].append(10)
    session["a"] = 2
    conversations.save_session("s", session)
    assert get(conversations) == {"a": 2, "history": list(range(11))}
    session["history"][0] = "x"
    with pytest.raises(InvalidInput, match="Load all"):
        conversations.save_session("s", session)
    for kept in (2, 0):
        session["history"] = session["history"][11 - kept :]
        with pytest.raises(InvalidInput, match="Load all"):
            conversations.save_session("s", session)
    assert get(conversations)["history"] == list(range(11))


CONTENT = st.one_of(
    st.dictionaries(st.sampled_from(["a", "b", "complete"]), JSON, max_size=3),
    st.builds(
        lambda fields, history: {**fields, "history": history},
        st.dictionaries(st.sampled_from(["a", "b"]), JSON, max_size=2),
        st.lists(st.sampled_from(["x", "y", 1, {"role": "user"}]), max_size=6),
    ),
)


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.lists(CONTENT, min_size=2, max_size=4))
def test_any_change_of_a_session_is_saved(conversations: PlainConversations, contents: list[dict[str, Any]]) -> None:
    session = conversations.save_session("s", contents[0])
    assert isinstance(session, Session)
    for content in contents[1:]:
        session.clear()
        session.update(copy.deepcopy(content))
        conversations.save_session("s", session)
        assert get(conversations) == content
        assert [message.body for message in session.messages] == content.get("history", [])
        assert [m.seq for m in session.messages] == [m.seq for m in get(conversations).messages]
        assert session.message_count == get(conversations).message_count


def test_threads_that_append_and_change_fields_lose_nothing(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"history": []})

    def work(name: str) -> None:
        for number in range(10):
            session = get(conversations)
            session["history"].append(f"{name}{number}")
            session[name] = number
            conversations.save_session("s", session)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, "abcdefgh"))
    session = get(conversations)
    assert sorted(session.pop("history")) == sorted(f"{name}{number}" for name in "abcdefgh" for number in range(10))
    assert session == dict.fromkeys("abcdefgh", 9)


# ---- append, touch, exists


def test_append_returns_a_receipt(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"history": [USER]})
    receipt = conversations.append("s", BOT, Message({"role": "user"}, {"tokens": 3}), data={"a": 1, "n": None})
    assert (receipt.version, receipt.first_seq, receipt.repeated) == (2, 2, False)
    assert receipt.level in ("memory", "primary")
    assert get(conversations) == {"a": 1, "n": None, "history": [USER, BOT, {"role": "user"}]}
    assert get(conversations).messages[2].metadata == {"tokens": 3}


def test_append_with_a_token_happens_once(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"history": []})
    first = conversations.append("s", USER, data={"a": 1}, token="T")
    again = conversations.append("s", USER, data={"a": 1}, token="T")
    assert (again.version, again.first_seq, again.repeated) == (first.version, first.first_seq, True)
    for other in ({"data": {"a": 2}}, {"data": None}):
        with pytest.raises(TokenReused):
            conversations.append("s", USER, token="T", **other)
    with pytest.raises(TokenReused):
        conversations.append("s", Message(USER, {"m": 1}), data={"a": 1}, token="T")
    assert get(conversations) == {"a": 1, "history": [USER]}


def test_append_needs_something(conversations: PlainConversations) -> None:
    conversations.save_session("s", {})
    with pytest.raises(InvalidInput):
        conversations.append("s")


def test_append_to_nothing(conversations: PlainConversations) -> None:
    with pytest.raises(SessionNotFound):
        conversations.append("s", USER)


def test_touch_and_exists(conversations: PlainConversations, harness: Harness) -> None:
    assert not conversations.exists("s")
    assert not conversations.touch("s")
    conversations.save_session("s", {})
    assert conversations.exists("s")
    with harness.moment() as moment:
        assert conversations.touch("s", ttl=50)
    assert all(end - 50_000 in moment for end in harness.ends("s"))
    assert conversations.delete_session("s")
    assert not conversations.delete_session("s")
    assert not conversations.exists("s")


def test_setdefault(conversations: PlainConversations) -> None:
    first = conversations.setdefault("s", {"history": []}, ttl=50)
    assert (first, first.version) == ({"history": []}, 1)
    conversations.append("s", USER)
    assert conversations.setdefault("s", {"history": []}) == {"history": [USER]}
    conversations.save_session("hers", {}, owner="alice")
    with pytest.raises(SessionNotFound):
        conversations.setdefault("hers", {}, owner="bob")
    with pytest.raises(InvalidInput):
        conversations.setdefault("new", "text")


def test_first_messages_at_once_all_land(conversations: PlainConversations) -> None:
    def work(name: str) -> None:
        session = conversations.setdefault(f"s{number}", {"history": []})
        session["history"] += [name, name]
        conversations.save_session(f"s{number}", session)

    for number in range(20):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, "abcd"))
        history = get(conversations, f"s{number}")["history"]
        assert sorted(history) == list("aabbccdd")
        assert history[::2] == history[1::2], "torn"


def test_owners(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"a": 1}, owner="alice")
    assert conversations.get_session("s", owner="bob") is None
    assert conversations.get_session("s", owner=None) is None
    assert conversations.get_session("s", owner="alice") == {"a": 1}
    assert conversations.get_session("s", owner=ANY) == conversations.get_session("s") == {"a": 1}
    assert not conversations.exists("s", owner="bob")
    assert not conversations.delete_session("s", owner="bob")
    with pytest.raises(SessionNotFound):
        conversations.append("s", USER, owner="bob")
    with pytest.raises(SessionNotFound):
        conversations.save_session("s", {"a": 2}, owner="bob")
    assert conversations.delete_session("s", owner="alice")


# ---- beginners' calls


@pytest.mark.parametrize("pair", [[USER, BOT], (USER, BOT), [Message(USER), BOT]])
def test_a_list_of_messages_is_taken_as_these_messages(conversations: PlainConversations, pair: Any) -> None:
    """``append(sid, [m1, m2])`` means two messages."""
    conversations.save_session("s", {"history": []})
    conversations.append("s", pair)
    assert get(conversations)["history"] == [USER, BOT]


def test_a_text_is_the_user_s_message(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"history": []})
    conversations.append("s", "hello", BOT, data={"a": 1}, token="T")
    assert conversations.append("s", USER, BOT, data={"a": 1}, token="T").repeated
    assert get(conversations) == {"history": [USER, BOT], "a": 1}
    assert get(conversations).title == "hello"


def test_a_history_of_texts_stays_one(conversations: PlainConversations) -> None:
    """The shape of a history is the app's own. Only ``append`` makes messages of texts, unless they are a ``Message``."""
    conversations.save_session("s", ["User: hi"])
    session = get(conversations)
    session.append("Bot: hello")
    conversations.save_session("s", session)
    conversations.append("s", Message("User: bye"), Message(None), Message(3), Message(["x"]))
    assert get(conversations) == ["User: hi", "Bot: hello", "User: bye", None, 3, ["x"]]


WRITE = r'write append\(session_id, {"role": "user", "content": …}\)'


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        (("user", "hi"), f"not a role and a text: {WRITE}"),
        (("hi", "user"), f"not a role and a text: {WRITE}"),
        ((None,), f"not None: {WRITE}"),
        ((3,), f"not one of type int: {WRITE}"),
        ((True,), f"not one of type bool: {WRITE}"),
        ((b"hi",), f"not one of type bytes: {WRITE}"),
        (([1, 2],), f"not one of type int: {WRITE}"),
        (([USER, None],), f"not None: {WRITE}"),
        (([USER], [BOT]), f"not one of type list: {WRITE}"),
        ((USER, [BOT]), f"not one of type list: {WRITE}"),
        ((["a", "b"],), r'not a list of texts: write append\(session_id, \*\({"role": "user", "content": text} for'),
        (([{"type": "text", "text": "a"}],), r'not the parts of one: write append\(session_id, .* "content": parts}\)'),
        (([],), "append needs a message or data"),
    ],
)
def test_what_is_no_message_is_refused_with_the_right_line(
    conversations: PlainConversations, messages: tuple[Any, ...], told: str
) -> None:
    conversations.save_session("s", {"history": []})
    with pytest.raises(InvalidInput, match=told) as caught:
        conversations.append("s", *messages)
    assert str(caught.value).endswith("Nothing was written.")
    assert get(conversations).version == 1


@pytest.mark.parametrize("message", [None, 3, ["a"], [USER]])
def test_what_is_no_message_begins_no_turn(conversations: PlainConversations, message: Any) -> None:
    conversations.save_session("s", {"history": []})
    with pytest.raises(InvalidInput, match=r"turn takes messages, .* write turn\(session_id, {"):
        conversations.turn("s", message)
    assert get(conversations).version == 1


def test_a_text_is_the_user_s_message_of_a_turn(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"history": []})
    with conversations.turn("s", "hi") as turn:
        turn.reply("yo")
    assert get(conversations)["history"] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yo"},
    ]


# ---- refusals write nothing


@in_memory
@pytest.mark.parametrize(
    ("content", "error", "path"),
    [
        ({"a": {"b": [object()]}}, NotSerializable, "a.b[0]"),
        ({"history": [USER, {"x": {1}}]}, NotSerializable, "history[1].x"),
        ({1: "a"}, NotSerializable, ""),
        ({"history": "no list"}, InvalidInput, "history"),
        ({"history": None}, InvalidInput, "history"),
        ("text", InvalidInput, ""),
        (None, InvalidInput, ""),
        ((USER,), InvalidInput, ""),
        ({"a": "x" * 2000}, TooLarge, ""),
        ({f"f{number}": 1 for number in range(1001)}, TooLarge, ""),
        ({"history": ["ok", "x" * 2000]}, TooLarge, "history[1]"),
        ([float("nan")], NotSerializable, "history[0]"),
    ],
)
def test_a_session_that_cannot_be_saved_is_refused_whole(
    harness: Harness, content: Any, error: type[InvalidInput], path: str
) -> None:
    conversations = PlainConversations(harness.store, Settings(max_message_bytes=1000, max_data_bytes=1000))
    conversations.save_session("s", {"kept": 1, "history": [BOT]})
    with pytest.raises(error) as caught:
        conversations.save_session("s", content)
    assert caught.value.path == path
    assert caught.value.written is False
    with pytest.raises(error):
        conversations.save_session("new", content)
    if isinstance(content, dict):
        session = get(conversations)
        session["kept"] = 2
        session.update(content)
        with pytest.raises(error):
            conversations.save_session("s", session)
    assert get(conversations) == {"kept": 1, "history": [BOT]}
    assert not conversations.exists("new")


def test_too_large_names_limit_and_size(harness: Harness) -> None:
    conversations = PlainConversations(harness.store, Settings(max_message_bytes=100))
    conversations.save_session("s", {})
    with pytest.raises(TooLarge) as caught:
        conversations.append("s", Message("ok"), Message("short", {"m": "x" * 200}))
    assert (caught.value.limit, caught.value.path) == (100, "history[1]")
    assert caught.value.size > 200
    assert get(conversations).version == 1


@in_memory
@pytest.mark.parametrize(
    "bad", ["", "x" * 201, "a\nb", "a\x00", "\x7f", "\ud800", "health", "openapi.json", 5, None, []]
)
def test_bad_ids_are_refused(conversations: PlainConversations, bad: Any) -> None:
    for call in (
        lambda: conversations.save_session(bad, {}),
        lambda: conversations.get_session(bad),
        lambda: conversations.append(bad, USER),
        lambda: conversations.exists(bad),
        lambda: conversations.delete_session(bad),
    ):
        with pytest.raises(InvalidSessionId):
            call()


def test_good_ids(conversations: PlainConversations) -> None:
    for good in ("x" * 200, "telegram:123", "ä/ö?#", "a b", "{curly}", "健"):
        conversations.save_session(good, {"id": good})
        assert get(conversations, good) == {"id": good}


@in_memory
@pytest.mark.parametrize("ttl", [0, -1, 0.5, 10**9, float("nan"), "60", True])
def test_bad_lifetimes_are_refused(conversations: PlainConversations, ttl: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        conversations.save_session("s", {}, ttl=ttl)
    assert caught.value.path == "ttl"
    assert not conversations.exists("s")


@in_memory
@pytest.mark.parametrize(
    "options",
    [
        {"owner": 5},
        {"owner": object()},
        {"expected_version": True},
        {"owner": ""},
        {"owner": "x" * 201},
        {"token": ""},
        {"token": "\n"},
    ],
)
def test_bad_names_are_refused(conversations: PlainConversations, options: dict[str, Any]) -> None:
    conversations.save_session("s", {})
    with pytest.raises(InvalidInput):
        conversations.append("s", USER, **options)


def test_a_negative_last_is_refused(conversations: PlainConversations) -> None:
    for last in (-1, 1.5, "5", True):
        with pytest.raises(InvalidInput):
            conversations.get_session("s", last=last)  # type: ignore[arg-type]


# ---- a session alone


@pytest.mark.parametrize("history", [{"history": [1, 2]}, [1, 2]])
def test_a_corrupt_envelope_names_its_key_and_message(history: Any) -> None:
    harness = MemoryHarness()
    conversations = PlainConversations(harness.store)
    conversations.save_session("s", history)
    harness.store._sessions["s"].elements[1] = b"1{broken\n2"
    session = get(conversations)
    assert session.message(1).body == 1
    reads: list[Callable[[], Any]] = [lambda: session.message(2), lambda: session.messages]
    for read in reads:
        with pytest.raises(CorruptValue) as caught:
            read()
        assert caught.value.key == "memory://s:history"
        assert "its message with seq 2 is corrupt" in str(caught.value)
    assert session.message(3) is None


def test_a_corrupt_value_is_named_with_its_reason() -> None:
    harness = MemoryHarness()
    conversations = PlainConversations(harness.store)
    conversations.save_session("s", {"a": 1, "history": ["m1", "m2", "m3"]})
    stored = harness.store._sessions["s"]
    stored.elements[1] = stored.elements[1][:-1]
    for last in (None, 2):
        with pytest.raises(CorruptValue, match=r"its message with seq 2 is corrupt \(\w+") as caught:
            conversations.get_session("s", last=last)
        assert caught.value.key == "memory://s:history"
    stored.fields["a"] = b"{"
    with pytest.raises(CorruptValue, match=r"its field d:a is not JSON \(\w+") as caught:
        conversations.get_session("s")
    assert caught.value.key == "memory://s"


@pytest.mark.parametrize("content", [{"a": 1}, {"history": [1], "a": [2]}, {"history": []}, [], [1, {"b": 2}]])
def test_a_baseline_holds_the_saved_content(content: Any) -> None:
    conversations = PlainConversations(MemoryHarness().store)
    conversations.save_session("s", content)
    known = content_of_base(get(conversations)._base, "history")
    assert known == content
    assert type(known) is type(content)


class Foreign:
    """A value with its own ``__radd__`` and the like."""

    def __ror__(self, other: Any) -> Any:
        return "foreign or", other

    def __radd__(self, other: Any) -> Any:
        return "foreign add", other


def test_an_unknown_operand_is_asked_itself() -> None:
    assert Session(a=1) | Foreign() == ("foreign or", {"a": 1})
    assert ListSession([1]) + Foreign() == ("foreign add", [1])
    with pytest.raises(TypeError):
        Session(a=1) | 5
    with pytest.raises(TypeError):
        ListSession([1]) + 5
    with pytest.raises(TypeError):
        5 | Session(a=1)
    assert ListSession([1]) + UserList([2]) == UserList([1, 2]), "as with a list"


@dataclass
class Part:
    text: str


class Role(enum.Enum):
    USER = "user"


@pytest.mark.parametrize(
    "body",
    [
        {"role": "user", "parts": [Part("hello")]},
        {"role": "user", "content": ({"text": "hello"},)},
        {"role": "user", "content": UserList(["hello"])},
        {"role": "user", "content": UserString("hello")},
        {"role": Role.USER, "content": "hello"},
        UserDict(role="user", content="hello"),
    ],
)
def test_a_conversation_is_called_by_what_is_stored(body: Any) -> None:
    """However its first message comes: appended, in a new session, in place of all others, and behind others."""
    conversations = PlainConversations(MemoryHarness().store)
    for message in (body, Message(body)):
        for name in ("appended", "behind", "replaced"):
            conversations.save_session(name, [{"role": "system"}])
        conversations.append("appended", message)
        session = get(conversations, "behind")
        session.append(message)
        conversations.save_session("behind", session)
        for name in ("new", "replaced"):
            conversations.save_session(name, {"history": [message]})
        for name in ("appended", "behind", "new", "replaced"):
            assert get(conversations, name).title == "hello", name
            conversations.delete_session(name)


class Headers(UserDict[str, Any]):
    """A mapping that finds its keys in small letters too, and lists them as they were given."""

    def __contains__(self, key: object) -> bool:
        return any(key in (name, name.lower()) for name in self.data)

    def __getitem__(self, key: str) -> Any:
        return next(value for name, value in self.data.items() if key in (name, name.lower()))


def test_a_mapping_that_finds_keys_by_other_names_is_saved() -> None:
    conversations = PlainConversations(MemoryHarness().store)
    conversations.save_session("s", Headers({"History": [USER], "a": 1}))
    session = get(conversations)
    assert (session["history"], session["a"]) == ([USER], 1)


def test_plain_content_belongs_to_no_session() -> None:
    conversations = PlainConversations(MemoryHarness().store)
    for content in ({"a": 1}, [1]):
        conversations.save_session("s", content)
        session = get(conversations)
        assert plain(session) == content
        assert type(plain(session)) is type(content)
    assert plain("text") == "text"


def test_a_session_belongs_to_its_id_and_its_store() -> None:
    conversations = PlainConversations(MemoryHarness().store)
    conversations.save_session("s", {"a": 1})
    session = get(conversations)
    origin = session._base.origin
    assert as_session(session, "s", origin) is session
    assert as_session(session, "t", origin) is None
    assert as_session(session, "s", "elsewhere") is None
    assert as_session(Session(a=1), "s", origin) is None
    assert as_session({"a": 1}, "s", origin) is None
    assert get(conversations).last_seq == 0


def test_a_session_tells_its_size(conversations: PlainConversations, harness: Harness) -> None:
    """Bytes of messages and data in the store: also where a part was read, and after a save of what was read whole."""
    conversations.save_session("s", {"topic": "tea", "history": [USER, BOT]})
    session = get(conversations)
    found = harness.store.load("s", ANY)
    assert found
    whole = sum(map(len, found.elements)) + len("topic") + len(found.fields["topic"])
    assert session.size == whole
    if isinstance(harness, RedisHarness):
        assert get(conversations, last=1).size == whole, "the server counts"
    session["topic"] = "coffee"
    saved = conversations.save_session("s", session)
    assert saved.size == whole + len("coffee") - len("tea") == get(conversations).size
    part = get(conversations, last=1)
    part["topic"] = "water"
    assert conversations.save_session("s", part).size is None, "others may have written to the rest"
