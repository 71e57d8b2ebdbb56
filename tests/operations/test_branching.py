"""compact and fork: sessions made from sessions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from flask_convstore import (
    ConflictError,
    CorruptValue,
    InvalidInput,
    NotSerializable,
    SessionMoved,
    SessionNotFound,
    StoreUnavailable,
    TooSlow,
    TurnInProgress,
    TurnLost,
)
from flask_convstore.domain.commands import LinkAlias, MoveConversation
from flask_convstore.domain.messages import Message, Usage
from flask_convstore.domain.types import ANY
from flask_convstore.operations import aliases, branching, messages, rotation, sessions, updates
from flask_convstore.operations.turns import begin
from flask_convstore.stores.store import Store, StoreAround

from ..harness import Harness, PlainConversations, RedisHarness, in_memory
from ..service import Service, problem

TALK = [{"role": "user" if number % 2 == 0 else "assistant", "content": str(number)} for number in range(8)]


@pytest.fixture
def talk(conversations: PlainConversations) -> PlainConversations:
    conversations.save_session("s", {"name": "Ada", "history": TALK}, owner="alice", ttl=5000)
    return conversations


def get(conversations: PlainConversations, session_id: str, **options: Any) -> Any:
    session = conversations.get_session(session_id, **options)
    assert session is not None
    return session


def test_compact_goes_on_with_a_summary_and_the_last_messages(talk: PlainConversations) -> None:
    aliases.link(talk.access("alice"), "web:1", "s")
    new = branching.compact(talk.access("alice"), "s", "They counted.", keep=3)
    assert new == {"name": "Ada", "history": [{"role": "system", "content": "They counted."}, *TALK[-3:]]}
    assert new.session_id != "s"
    assert talk.get_session(new.session_id, owner="bob") is None
    assert round((new.expires_at - new.updated_at).total_seconds(), -1) == 5000
    assert aliases.aliases(talk.access("alice"), new.session_id) == ["web:1"]
    led = aliases.resolve(talk.access("alice"), "web:1")
    assert led is not None
    assert led.session_id == new.session_id


def test_the_old_session_stays_readable_and_refuses_messages(talk: PlainConversations) -> None:
    new = branching.compact(talk.access(), "s", "They counted.", keep=2)
    old = get(talk, "s")
    assert old["history"] == TALK
    assert old.moved_to == new.session_id
    for call in (
        lambda: talk.append("s", Message("x")),
        lambda: begin(talk.access(), "s", "x"),
        lambda: branching.compact(talk.access(), "s", "again"),
    ):
        with pytest.raises(SessionMoved) as caught:
            call()
        assert (caught.value.moved_to, caught.value.written) == (new.session_id, False)
    assert get(talk, "s")["history"] == TALK
    talk.append("s", data={"read": True})
    assert talk.delete_session("s")


def test_messages_keep_their_envelopes(conversations: PlainConversations) -> None:
    conversations.save_session("s", [])
    for number in range(3):
        conversations.append("s", Message(f"m{number}", {"n": number}))
    before = get(conversations, "s").messages
    new = branching.compact(conversations.access(), "s", {"role": "user", "content": "so far"}, keep=1)
    assert new == [{"role": "user", "content": "so far"}, "m2"]
    summary, kept = get(conversations, new.session_id).messages
    assert (kept.metadata, kept.created_at, kept.seq, kept.id) == ({"n": 2}, before[2].created_at, 3, "msg-3")
    assert summary.seq == 2
    assert re.fullmatch("msg-2-[0-9a-f]{4}", summary.id)


def test_a_function_summarises_the_messages_that_are_left_out(talk: PlainConversations) -> None:
    seen = []

    def summary(history: list[Any]) -> str:
        seen.append(history)
        with pytest.raises(TurnInProgress):  # no message can be added and lost meanwhile
            begin(talk.access(), "s", "meanwhile")
        return f"{len(history)} messages"

    assert branching.compact(talk.access(), "s", summary, keep=0)["history"] == [
        {"role": "system", "content": "8 messages"}
    ]
    assert seen == [TALK]


def test_a_failed_summary_leaves_all_as_it_was(talk: PlainConversations) -> None:
    def fails(history: list[Any]) -> str:
        raise RuntimeError("no model")

    for summary, error in ((fails, RuntimeError), (7, InvalidInput), ({"role": {1}}, NotSerializable)):
        with pytest.raises(error):
            branching.compact(talk.access(), "s", summary)  # type: ignore[arg-type]
    old = get(talk, "s")
    assert (old["history"], old.moved_to) == (TALK, None)
    turn, _ = begin(talk.access(), "s", "goes on")
    assert turn


def test_a_turn_in_progress_is_not_compacted(talk: PlainConversations) -> None:
    turn, _ = begin(talk.access(), "s", "thinking")
    assert turn
    with turn:
        with pytest.raises(TurnInProgress):
            branching.compact(talk.access(), "s", "x")
        turn.reply("done")
    assert branching.compact(talk.access(), "s", "x", keep=1)["history"][-1]["content"] == "done"


def test_a_compaction_that_lost_its_turn_leaves_nothing_behind(talk: PlainConversations) -> None:
    before = {summary.session_id for summary in sessions.summaries(talk.access())}

    def slow(history: list[Any]) -> str:
        turn, _ = begin(talk.access(), "s", "impatient", policy="supersede")
        assert turn
        turn.reply("hi")
        return "late"

    with pytest.raises(TurnLost):
        branching.compact(talk.access(), "s", slow)
    assert {summary.session_id for summary in sessions.summaries(talk.access())} == before
    assert get(talk, "s").moved_to is None


@pytest.mark.parametrize("shape", [{"a": 1}, {"a": 1, "history": []}, []])
def test_a_session_without_messages_can_be_compacted_and_forked(conversations: PlainConversations, shape: Any) -> None:
    conversations.save_session("s", shape)
    assert branching.fork(conversations.access(), "s") == shape
    new = branching.compact(conversations.access(), "s", "x")
    said = [{"role": "system", "content": "x"}]
    assert new == (said if shape == [] else {"a": 1, "history": said})


def test_a_fork_is_a_second_conversation(talk: PlainConversations) -> None:
    aliases.link(talk.access("alice"), "web:1", "s")
    whole, part = branching.fork(talk.access(), "s"), branching.fork(talk.access(), "s", 3)
    assert whole == {"name": "Ada", "history": TALK}
    assert part == {"name": "Ada", "history": TALK[:3]}
    assert len({"s", whole.session_id, part.session_id}) == 3
    talk.append(part.session_id, Message("another way"))
    assert get(talk, "s")["history"] == TALK
    assert aliases.aliases(talk.access(), whole.session_id) == []
    assert talk.get_session(part.session_id, owner="bob") is None
    assert branching.fork(talk.access(), "s", 0)["history"] == []


def test_nobody_forks_or_compacts_another_owners_session(talk: PlainConversations) -> None:
    with pytest.raises(SessionNotFound):
        branching.fork(talk.access("bob"), "s")
    with pytest.raises(SessionNotFound):
        branching.compact(talk.access("bob"), "s", "x")
    with pytest.raises(InvalidInput):
        branching.fork(talk.access(), "s", -1)
    with pytest.raises(InvalidInput):
        branching.compact(talk.access(), "s", "x", keep=1.5)  # type: ignore[arg-type]


def test_fork_counts_by_seq_after_a_drop(conversations: PlainConversations) -> None:
    conversations.save_session("s", ["1", "2", "3", "4"])
    conversations.save_session("s", get(conversations, "s")[-2:])
    assert branching.fork(conversations.access(), "s", 3) == ["3"]
    assert branching.fork(conversations.access(), "s", 1) == []


@pytest.mark.parametrize("replies", [True, False])
def test_http_names_the_new_session(url: str, replies: bool) -> None:
    service = Service(url)
    if replies:
        service.convstore.reply(lambda turn: "hi")
    session_id = service.start()
    service.say(session_id)
    with service.app.app_context():
        new = service.convstore.compact(session_id, "x")
    refused = problem(service.client.post(f"/sessions/{session_id}/messages", json={"content": "x"}), 409, "moved")
    assert (refused["session_id"], refused["written"]) == (new.session_id, False)
    assert service.get(session_id)["moved_to"] == new.session_id
    assert "moved_to" not in service.get(new.session_id)
    assert service.say(new.session_id)["message"]["seq"] == new.last_seq + 1


def test_a_lease_without_a_message_writes_none(harness: Harness) -> None:
    conversations = PlainConversations(harness.store)
    conversations.save_session("s", {"history": ["a"]})
    conversations.get_session("s")
    branching.compact(conversations.access(), "s", "x")
    old = get(conversations, "s")
    assert [message.status for message in old.messages] == [None]
    assert old["history"] == ["a"]


# ---- other writes meanwhile


class Meddling(StoreAround):
    """Others write at the last moment before a conversation is moved."""

    def __init__(self, store: Store, meddle: Callable[[], object], times: int = 1) -> None:
        super().__init__(store)
        self.meddle, self.times = meddle, times

    def apply(self, command: Any) -> Any:
        if isinstance(command, MoveConversation) and self.times:
            self.times -= 1
            self.meddle()
        return super().apply(command)


def test_writes_during_a_compaction_are_taken_along(talk: PlainConversations) -> None:
    talk.append("s", Message({"role": "user", "content": "8"}, tokens=Usage(1, 2)))
    updates.share(talk.access(), "s", "bob", "reader")
    updates.share(talk.access(), "s", "eve", "reader")
    before = len(get(talk, "s")["history"])

    def meddle() -> None:
        talk.append("s", Message("late", tokens=Usage(30, 400)), data={"new": 1})
        updates.update(talk.access(), "s", title="renamed", removed=("name",))
        updates.share(talk.access(), "s", "bob", "writer")
        updates.share(talk.access(), "s", "eve", None)
        updates.share(talk.access(), "s", "dan", "reader")
        aliases.link(talk.access("alice"), "web:1", "s")

    on = PlainConversations(Meddling(talk._access().backend.store, meddle))
    new = branching.compact(on.access(), "s", "summary", keep=1)
    assert new == {
        "new": 1,
        "history": [{"role": "system", "content": "summary"}, {"role": "user", "content": "8"}, "late"],
    }
    assert (new.title, new.usage) == ("renamed", Usage(31, 402))
    snapshot = talk._access().backend.store.load(new.session_id, ANY)
    assert snapshot
    assert dict(snapshot.shared) == {"bob": "writer", "dan": "reader"}
    assert snapshot.owner == "alice"
    led = aliases.resolve(talk.access("alice"), "web:1")
    assert led
    assert led.session_id == new.session_id
    assert len(get(talk, "s")["history"]) == before + 1


@pytest.mark.parametrize("shape", ["edited", "dropped", "deleted", "another"])
def test_a_write_that_cannot_be_taken_along_stops_the_compaction(talk: PlainConversations, shape: str) -> None:
    def meddle() -> None:
        if shape == "edited":
            messages.edit(talk.access(), "s", 2, "edited")
        elif shape == "dropped":
            session = get(talk, "s")
            del session["history"][0]
            talk.save_session("s", session)
        else:
            talk.delete_session("s")
            if shape == "another":
                talk.save_session("s", {"another": 1, "history": TALK}, owner="alice")

    on = PlainConversations(Meddling(talk._access().backend.store, meddle))
    error = ConflictError if shape in ("edited", "dropped") else (SessionNotFound, TurnLost)
    with pytest.raises(error):
        branching.compact(on.access(), "s", "summary")
    left = [summary.session_id for summary in talk._access().backend.store.page(ANY).sessions]
    assert left in ([], ["s"]), "the new one is gone again"
    if shape != "deleted":
        assert get(talk, "s").moved_to is None


def test_constant_writes_stop_a_compaction(talk: PlainConversations) -> None:
    meddling = Meddling(talk._access().backend.store, lambda: talk.append("s", Message("more")), times=100)
    with pytest.raises(ConflictError) as caught:
        branching.compact(PlainConversations(meddling).access(), "s", "summary")
    assert (caught.value.what, 100 - meddling.times) == ("version", 20)
    assert [summary.session_id for summary in talk._access().backend.store.page(ANY).sessions] == ["s"]


@in_memory
@pytest.mark.parametrize(
    ("call", "path", "reason"),
    [
        (lambda on: branching.compact(on.access(), "s", "x", keep=-1), "keep", "a whole number, 0 or more, not -1"),
        (lambda on: branching.compact(on.access(), "s", "x", keep=True), "keep", "not True"),
        (lambda on: branching.compact(on.access(), "s", 5), "summary", "a text or a message, not a int"),  # type: ignore[arg-type]
        (lambda on: branching.fork(on.access(), "s", -1), "seq", "not -1"),
        (lambda on: branching.fork(on.access(), "s", "1"), "seq", "not '1'"),  # type: ignore[arg-type]
    ],
)
def test_a_refusal_names_its_argument(talk: PlainConversations, call: Any, path: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        call(talk)
    assert caught.value.path == path
    assert reason in caught.value.reason


def test_a_branch_has_all_facts_of_its_session(talk: PlainConversations) -> None:
    updates.update(talk.access(), "s", title="called so")
    talk.append("s", Message("m", tokens=Usage(5, 6)))
    for new, usage in (
        (branching.fork(talk.access(), "s"), Usage()),
        (branching.compact(talk.access(), "s", "x", keep=0), Usage(5, 6)),
    ):
        snapshot = talk._access().backend.store.load(new.session_id, ANY)
        assert snapshot
        assert (snapshot.owner, snapshot.title, snapshot.own_ttl_ms) == ("alice", "called so", 5_000_000)
        assert (snapshot.usage, snapshot.shape, new["name"]) == (usage, "full:history", "Ada")
    assert new["history"] == [{"role": "system", "content": "x"}]
    for seq, count in ((0, 0), (1, 1), (8, 8), (99, 9)):
        assert len(branching.fork(talk.access(), "s", seq)["history"]) == count
    calls: list[Callable[[], object]] = [
        lambda: branching.fork(talk.access(), "gone"),
        lambda: branching.compact(talk.access(), "gone", "x"),
    ]
    for call in calls:
        with pytest.raises(SessionNotFound) as caught:
            call()
        assert caught.value.session_id == "gone"


def test_a_compaction_may_take_over_a_turn_in_progress(talk: PlainConversations) -> None:
    turn, _ = begin(talk.access(), "s", "asked")
    assert turn
    with pytest.raises(TurnInProgress):
        branching.compact(talk.access(), "s", "x", policy="reject")
    new = branching.compact(talk.access(), "s", "x", keep=1, policy="supersede")
    assert new["history"] == [{"role": "system", "content": "x"}, "asked"]
    with pytest.raises(TurnLost):
        turn.reply("too late")


@pytest.mark.parametrize("what", ["a message", "a field", "a title", "no title"])
def test_each_write_during_a_compaction_is_taken_along_alone(talk: PlainConversations, what: str) -> None:
    updates.update(talk.access(), "s", title="before")
    meddle: dict[str, Callable[[], object]] = {
        "a message": lambda: talk.append("s", Message("late")),
        "a field": lambda: talk.append("s", data={"name": "Bob"}),
        "a title": lambda: updates.update(talk.access(), "s", title="after"),
        "no title": lambda: updates.update(talk.access(), "s", title=""),
    }
    new = branching.compact(
        PlainConversations(Meddling(talk._access().backend.store, meddle[what])).access(), "s", "x", keep=0
    )
    assert new["history"][1:] == (["late"] if what == "a message" else [])
    assert new["name"] == ("Bob" if what == "a field" else "Ada")
    assert new.title == {"a title": "after", "no title": None}.get(what, "before")


class Aliasless(StoreAround):
    """The store goes away before an alias is led elsewhere."""

    def link_all(self, commands: Sequence[LinkAlias]) -> list[str | None]:
        raise StoreUnavailable("no answer in time", written=False)


@pytest.mark.parametrize(
    "move",
    [
        lambda talk: branching.compact(talk.access(), "s", "x"),
        lambda talk: rotation.rotate_id(talk.access("alice"), "s"),
    ],
    ids=["compact", "rotate_id"],
)
def test_an_alias_left_behind_does_not_hide_that_the_session_was_written(
    talk: PlainConversations, move: Callable[[PlainConversations], object]
) -> None:
    aliases.link(talk.access("alice"), "web:1", "s")
    with pytest.raises(StoreUnavailable) as caught:
        move(PlainConversations(Aliasless(talk._access().backend.store)))
    assert caught.value.written is True


@pytest.mark.parametrize(
    "copy",
    [
        lambda access: branching.fork(access, "s", seconds=-1),
        lambda access: branching.compact(access, "s", "They counted.", seconds=-1),
    ],
)
def test_what_takes_too_long_to_read_is_not_copied(talk: PlainConversations, copy: Callable[[Any], Any]) -> None:
    """Nothing is left behind, and the turn is free."""
    with pytest.raises(TooSlow) as caught:
        copy(talk.access("alice"))
    assert caught.value.written is False
    assert [found.session_id for found in talk.list_sessions(owner="alice").sessions] == ["s"]
    assert begin(talk.access("alice"), "s", Message(TALK[0]))


def test_a_damaged_message_is_reported(talk: PlainConversations, harness: Harness) -> None:
    """A damaged message cannot be summarised, nor copied. Elsewhere it is left out. Nothing is left behind."""
    store: Any = harness.store
    if isinstance(harness, RedisHarness):
        harness.client.lset(harness.keys("s")[1], 1, "none of ours")
    else:
        store._sessions["s"].elements[1] = b"none of ours"
    with pytest.raises(CorruptValue, match="seq 2") as caught:
        branching.compact(talk.access(), "s", lambda bodies: f"{len(bodies)} messages", keep=3)
    assert caught.value.written is False
    with pytest.raises(CorruptValue, match="seq 2") as caught:
        branching.fork(talk.access(), "s")
    assert caught.value.written is False
    assert [found.session_id for found in talk.list_sessions(owner="alice").sessions] == ["s"]
    assert branching.compact(talk.access(), "s", "They counted.", keep=6)["history"][1:] == TALK[2:]
