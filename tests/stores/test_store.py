"""Promises of every store, in the words of the commands."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from flask_convstore.config import limits_of
from flask_convstore.domain.commands import (
    BEHIND,
    Append,
    BeginTurn,
    Command,
    CommitTurn,
    Delete,
    Edit,
    Extend,
    FieldChange,
    LinkAlias,
    Merge,
    MoveConversation,
    NoteAlias,
    Put,
    RenewTurn,
    Rewrite,
    Share,
    Touch,
    Update,
)
from flask_convstore.domain.messages import Usage
from flask_convstore.domain.results import Lease, Receipt, Snapshot
from flask_convstore.domain.shapes import Shape
from flask_convstore.domain.types import ANY, Alias, Owner
from flask_convstore.errors import (
    ConflictError,
    CorruptValue,
    InvalidInput,
    MessageNotFound,
    SessionExists,
    SessionMoved,
    SessionNotFound,
    TokenReused,
    TooLarge,
    TooManySessions,
    TurnInProgress,
    TurnLost,
)
from flask_convstore.stores.memory import MemoryStore
from flask_convstore.stores.redis.store import RedisStore
from flask_convstore.stores.store import Store

from ..clocks import Clock, Moment
from ..harness import SETTINGS, TTL, TTL_COMPLETE, Harness, MemoryHarness, RedisHarness, limits_for
from ..servers import Server


def save(
    session_id: str = "s", *elements: bytes, owner: Owner = ANY, ttl_ms: int | None = None, **fields: bytes
) -> Put:
    return Put(
        session_id=session_id,
        owner=owner,
        mode="replace",
        shape="full",
        fields=tuple(fields.items()),
        elements=elements,
        ttl_ms=ttl_ms,
    )


def merge(
    session_id: str = "s",
    *fields: tuple[str, bytes | None, bytes | None],
    history: Extend | Rewrite | None = None,
    owner: Owner = ANY,
    shape: Shape | None = None,
) -> Merge:
    changes = tuple(FieldChange(*field) for field in fields)
    return Merge(session_id=session_id, owner=owner, shape=shape, fields=changes, history=history)


def upsert(session_id: str = "s", *elements: bytes, shape: Shape = "full", **fields: bytes) -> Merge:
    changes = tuple(FieldChange(name, None, text) for name, text in fields.items())
    history = Extend(0, elements)
    return Merge(session_id=session_id, owner=ANY, shape=shape, fields=changes, history=history, creates=True)


def append(session_id: str = "s", *elements: bytes, owner: Owner = ANY, **fields: bytes | None) -> Append:
    return Append(session_id=session_id, owner=owner, elements=elements, fields=tuple(fields.items()))


def edit(seq: int, loaded: bytes, element: bytes, session_id: str = "s") -> Edit:
    return Edit(session_id=session_id, owner=ANY, seq=seq, loaded=loaded, element=element)


def take(element: bytes | None = b"{}\nhi", *, lease_ms: int = 60_000, supersede: bool = False) -> BeginTurn:
    return BeginTurn(session_id="s", owner=ANY, element=element, lease_ms=lease_ms, supersede=supersede)


def update(session_id: str = "s", *, owner: Owner = ANY, ttl_ms: int | None = None, **fields: bytes | None) -> Update:
    return Update(session_id=session_id, owner=owner, fields=tuple(fields.items()), ttl_ms=ttl_ms)


def note(alias: Alias, *, leads_here: bool = True, owner: Owner = ANY) -> NoteAlias:
    return NoteAlias(session_id="s", owner=owner, alias=alias, leads_here=leads_here)


def end(begun: BeginTurn, *elements: bytes, fields: tuple[FieldChange, ...] = ()) -> CommitTurn:
    return CommitTurn(session_id="s", owner=ANY, turn=begun.attempt, elements=elements, fields=fields)


def move(begun: BeginTurn, moved_to: str = "t", *, expected: str = "") -> MoveConversation:
    return MoveConversation(session_id="s", owner=ANY, turn=begun.attempt, moved_to=moved_to, expected=expected)


def load(harness: Harness, session_id: str = "s", last: int | None = None, owner: Owner = ANY) -> Snapshot:
    snapshot = harness.store.load(session_id, owner, last)
    assert snapshot
    return snapshot


def contents(snapshot: Snapshot) -> tuple[dict[str, bytes], list[bytes], int, int]:
    return snapshot.fields, snapshot.elements, snapshot.version, snapshot.next_seq


# ---- save, append, load, delete


def test_what_was_saved_is_loaded(harness: Harness) -> None:
    receipt = harness.store.apply(save("s", b"m1", b"m2", a=b"1", b=b"null"))
    snapshot = load(harness)
    assert (receipt.version, receipt.first_seq, receipt.repeated) == (1, 1, False)
    assert contents(snapshot) == ({"a": b"1", "b": b"null"}, [b"m1", b"m2"], 1, 3)
    assert (snapshot.shape, snapshot.count, snapshot.history_version, snapshot.title) == ("full", 2, 1, None)
    assert snapshot.created_at_ms == snapshot.updated_at_ms == receipt.created_at_ms


def test_nothing_is_loaded_where_nothing_is(harness: Harness) -> None:
    assert harness.store.load("s", ANY) is None


def test_append_numbers_messages_on(harness: Harness) -> None:
    harness.store.apply(save("s", b"m1"))
    assert harness.store.apply(append("s", b"m2", b"m3")).first_seq == 2
    assert harness.store.apply(append("s", b"m4")).first_seq == 4
    assert contents(load(harness)) == ({}, [b"m1", b"m2", b"m3", b"m4"], 3, 5)


def test_a_save_without_messages_has_no_seq(harness: Harness) -> None:
    saves: list[Command] = [
        save("s", a=b"1"),
        merge("s", ("a", b"1", b"2")),
        merge("s", history=Extend(0, ()), shape="full"),
    ]
    assert [harness.store.apply(command).first_seq for command in saves] == [None, None, None]
    assert harness.store.apply(merge("s", history=Extend(0, (b"m1",)))).first_seq == 1


def test_append_sets_and_removes_fields(harness: Harness) -> None:
    harness.store.apply(save("s", a=b"1", b=b"2"))
    receipt = harness.store.apply(append("s", a=b"3", b=None, c=b"4"))
    assert receipt.first_seq is None
    assert contents(load(harness)) == ({"a": b"3", "c": b"4"}, [], 2, 1)


def test_append_gives_a_session_without_history_one(harness: Harness) -> None:
    harness.store.apply(replace(save("s"), shape="data"))
    harness.store.apply(append("s", a=b"1"))
    assert load(harness).shape == "data"
    harness.store.apply(append("s", b"m1"))
    assert load(harness).shape == "full:history"


def test_a_list_with_a_field_is_a_dict(harness: Harness) -> None:
    harness.store.apply(replace(save("s", b"m1"), shape="list"))
    harness.store.apply(append("s", b"m2"))
    assert load(harness).shape == "list"
    harness.store.apply(append("s", a=b"1"))
    assert load(harness).shape == "full:history"


@pytest.mark.parametrize(("last", "expected"), [(0, []), (1, [b"m3"]), (2, [b"m2", b"m3"]), (3, None), (99, None)])
def test_load_gives_the_last_messages(harness: Harness, last: int, expected: list[bytes] | None) -> None:
    harness.store.apply(save("s", b"m1", b"m2", b"m3"))
    snapshot = load(harness, last=last)
    assert snapshot.elements == ([b"m1", b"m2", b"m3"] if expected is None else expected)
    assert (snapshot.count, snapshot.next_seq) == (3, 4)


def test_a_turn_moves_the_history_at_both_ends(harness: Harness) -> None:
    """Whoever loaded it before its reply does not rewrite that away."""
    harness.store.apply(save("s", b"m1"))
    begun = take()
    harness.store.begin(begun)
    assert load(harness).history_version == load(harness).version == 2
    harness.store.apply(end(begun, b"{}\nreply"))
    assert load(harness).history_version == load(harness).version == 3
    with pytest.raises(ConflictError):
        harness.store.apply(merge("s", history=Rewrite(2, (b"m1",))))


def test_a_renewed_turn_tells_when_its_session_ends(harness: Harness) -> None:
    harness.store.apply(save("s"))
    begun = take()
    harness.store.begin(begun)
    receipt = harness.store.apply(RenewTurn(session_id="s", owner=ANY, turn=begun.attempt, lease_ms=60_000))
    assert receipt.expires_at_ms == max(harness.ends("s"))


def test_what_a_turn_begun_again_is_told_of_its_end(harness: Harness) -> None:
    harness.store.apply(save("s"))
    begun = take()
    version = harness.store.begin(begun).receipt.version
    ended = harness.store.apply(replace(end(begun, b"{}\nreply"), token=f"{begun.token}\n{version}"))
    again = harness.store.begin(begun).reply
    assert again
    assert again.repeated
    assert (again.version, again.first_seq, again.level) == (ended.version, ended.first_seq, ended.level)


def test_a_list_that_is_given_fields_by_an_upsert_is_a_dict(harness: Harness) -> None:
    harness.store.apply(replace(save("s", b"m1"), shape="list"))
    assert load(harness).shape == "list"
    harness.store.apply(upsert("s", b"m2", a=b"1"))
    assert (load(harness).shape, load(harness).elements) == ("full:history", [b"m1", b"m2"])


def test_delete_removes_once(harness: Harness) -> None:
    harness.store.apply(save("s", b"m1"))
    assert harness.store.apply(Delete(session_id="s", owner=ANY)).version == 1
    assert harness.store.load("s", ANY) is None
    with pytest.raises(SessionNotFound):
        harness.store.apply(Delete(session_id="s", owner=ANY))


@pytest.mark.parametrize(
    "command",
    [
        append("s", b"m"),
        update("s", a=b"1"),
        merge("s", ("a", None, b"1")),
        Delete(session_id="s", owner=ANY),
        Touch(session_id="s", owner=ANY),
        note(Alias(None, "x")),
    ],
    ids=lambda command: type(command).__name__,
)
def test_only_what_may_create_creates(harness: Harness, command: Command) -> None:
    with pytest.raises(SessionNotFound):
        harness.store.apply(command)
    assert harness.store.load("s", ANY) is None


def test_many_messages_at_once(harness: Harness) -> None:
    """Lua's unpack fails at 8,000 elements."""
    many = tuple(b"%d" % number for number in range(9_000))
    harness.store.apply(save("s", *many))
    assert harness.store.apply(append("s", *many)).first_seq == 9_001
    assert load(harness).elements == [*many, *many]


def test_sessions_do_not_touch_each_other(harness: Harness) -> None:
    names = ["a", "a:history", "a}:history", "{a}", "}", "a:tokens", "ä b", "%7B", "*"]
    for name in names:
        harness.store.apply(save(name, name.encode(), id=b"1"))
    for name in names:
        assert load(harness, name).elements == [name.encode()]
    harness.store.apply(Delete(session_id="a", owner=ANY))
    assert all(harness.store.load(name, ANY) for name in names if name != "a")


# ---- replace


def test_replace_leaves_nothing_of_before(harness: Harness) -> None:
    harness.store.apply(save("s", b"m1", b"m2", a=b"1", complete=b"true"))
    first = load(harness)
    receipt = harness.store.apply(save("s", b"n1", b=b"2"))
    assert receipt.first_seq == 3, "a seq is never used again"
    snapshot = load(harness)
    assert contents(snapshot) == ({"b": b"2"}, [b"n1"], 2, 4)
    assert snapshot.created_at_ms == first.created_at_ms
    assert receipt.expires_at_ms - receipt.updated_at_ms == TTL


def test_replace_without_history(harness: Harness) -> None:
    harness.store.apply(save("s", b"m1"))
    harness.store.apply(replace(save("s", a=b"1"), shape="data"))
    snapshot = load(harness)
    assert (snapshot.shape, snapshot.elements, snapshot.next_seq) == ("data", [], 2)


# ---- merge


def test_different_fields_both_land(harness: Harness) -> None:
    harness.store.apply(save("s", a=b"1", b=b"1"))
    harness.store.apply(merge("s", ("a", b"1", b"2")))
    harness.store.apply(merge("s", ("b", b"1", None), ("c", None, b"3")))
    assert load(harness).fields == {"a": b"2", "c": b"3"}


def test_create_leaves_what_exists(harness: Harness) -> None:
    harness.store.apply(replace(save("s", b"m1", a=b"1"), mode="create"))
    with pytest.raises(SessionExists):
        harness.store.apply(replace(save("s", b"m2"), mode="create"))
    with pytest.raises(SessionNotFound):
        harness.store.apply(replace(save("s", b"m2", owner="alice"), mode="create"))
    assert contents(load(harness)) == ({"a": b"1"}, [b"m1"], 1, 2)
    harness.expire("s")
    assert harness.store.apply(replace(save("s", b"m2"), mode="create")).version == 1


@pytest.mark.parametrize("value", [b"3", None])
def test_the_same_field_collides(harness: Harness, value: bytes | None) -> None:
    harness.store.apply(save("s", b"m1", a=b"1", b=b"1"))
    harness.store.apply(merge("s", ("a", b"1", b"2")))
    with pytest.raises(ConflictError) as caught:
        harness.store.apply(replace(merge("s", ("b", b"1", b"9"), ("a", b"1", value)), loaded_version=1))
    assert (caught.value.what, caught.value.expected, caught.value.actual) == ("a", 1, 2)
    assert contents(load(harness)) == ({"a": b"2", "b": b"1"}, [b"m1"], 2, 2), "nothing was written"


@pytest.mark.parametrize("value", [b"true", b"null", b'"x"', None])
def test_the_same_change_collides(harness: Harness, value: bytes | None) -> None:
    """Both may have taken a thing, or a step."""
    harness.store.apply(save("s", a=b"false"))
    harness.store.apply(merge("s", ("a", b"false", value)))
    with pytest.raises(ConflictError) as caught:
        harness.store.apply(merge("s", ("a", b"false", value)))
    assert (caught.value.what, caught.value.is_field) == ("a", True)


def test_the_same_new_value_is_no_collision(harness: Harness) -> None:
    harness.store.apply(save("s"))
    for _ in range(2):
        harness.store.apply(merge("s", ("a", None, b"true"), ("b", None, b'"x"'), ("c", None, None)))
    assert load(harness).fields == {"a": b"true", "b": b'"x"'}


@pytest.mark.parametrize(("loaded", "value"), [(b"0", b"1"), (None, b"-1"), (b"1", b"2.5")])
def test_the_same_number_collides(harness: Harness, loaded: bytes | None, value: bytes) -> None:
    """Two that count from the same number: one would be lost."""
    harness.store.apply(save("s", n=loaded) if loaded else save("s"))
    harness.store.apply(merge("s", ("n", loaded, value)))
    with pytest.raises(ConflictError):
        harness.store.apply(merge("s", ("n", loaded, value)))


@pytest.mark.parametrize("value", [b"[1]", b'{"n":1}'])
def test_the_same_array_or_object_collides(harness: Harness, value: bytes) -> None:
    """Both may have appended the same to it."""
    harness.store.apply(save("s"))
    harness.store.apply(merge("s", ("a", None, value)))
    with pytest.raises(ConflictError):
        harness.store.apply(merge("s", ("a", None, value)))


def test_a_merge_into_another_shape_hides_nothing(harness: Harness) -> None:
    harness.store.apply(replace(save("s", a=b"1"), shape="data"))
    harness.store.apply(merge("s", history=Extend(0, (b"m1",))))
    assert load(harness).shape == "full:history"
    harness.store.apply(replace(save("s", b"m1"), shape="list"))
    harness.store.apply(merge("s", ("a", None, b"1")))
    assert load(harness).shape == "full:history"


def test_a_late_write_does_not_reach_the_successor(harness: Harness) -> None:
    """Version, seqs and history version start anew: only the time of creation tells them apart."""
    first = harness.store.apply(save("s", b"m1", a=b"1")).created_at_ms
    harness.store.apply(Delete(session_id="s", owner=ANY))
    successor = harness.store.apply(save("s", b"m1", a=b"1"))
    second, alive = successor.created_at_ms, successor.expires_at_ms
    late: list[Merge | Append | Touch] = [
        replace(merge("s", ("a", b"1", b"2"), history=Rewrite(1, (b"x",))), created_at_ms=first),
        replace(merge("s", history=Extend(2, (b"x",))), created_at_ms=first),
        replace(append("s", b"x"), created_at_ms=first),
        Touch(session_id="s", owner=ANY, created_at_ms=first, ttl_ms=5_000),
    ]
    for command in late:
        with pytest.raises(SessionNotFound):
            harness.store.apply(command)
    assert set(harness.ends("s")) == {alive}, "none has moved the lifetime"
    assert contents(load(harness)) == ({"a": b"1"}, [b"m1"], 1, 2)
    for command in late:
        harness.store.apply(replace(command, created_at_ms=None if isinstance(command, Merge) else second))
        if isinstance(command, Merge) and isinstance(command.history, Rewrite):
            assert load(harness).elements == [b"x"]


def test_appends_and_drops_merge(harness: Harness) -> None:
    harness.store.apply(save("s", b"m1", b"m2", b"m3"))
    harness.store.apply(append("s", b"m4"))
    receipt = harness.store.apply(merge("s", history=Extend(3, (b"m5",))))
    assert (receipt.first_seq, receipt.history_version_before) == (5, 2)
    harness.store.apply(merge("s", history=Extend(2, (b"m6",))))
    snapshot = load(harness)
    assert (snapshot.elements, snapshot.next_seq, snapshot.count) == ([b"m3", b"m4", b"m5", b"m6"], 7, 4)


def test_the_oldest_is_taken_once(harness: Harness) -> None:
    """Two that take the oldest message of a queue: the second one has to look again. Appending does not matter."""
    take = merge("s", history=Extend(3, (), oldest_seq=2))
    harness.store.apply(save("s", b"m1", b"m2", b"m3"))
    with pytest.raises(ConflictError) as caught:
        harness.store.apply(take)
    assert (caught.value.what, caught.value.is_field) == ("history", False)
    harness.store.apply(merge("s", history=Extend(2, (b"m4",), oldest_seq=1)))
    harness.store.apply(take)
    assert contents(load(harness)) == ({}, [b"m3", b"m4"], 3, 5)
    with pytest.raises(ConflictError):
        harness.store.apply(replace(take, token="T2"))
    assert contents(load(harness)) == ({}, [b"m3", b"m4"], 3, 5), "nothing was written"


def test_drop_never_reaches_what_its_writer_gave(harness: Harness) -> None:
    harness.store.apply(save("s", b"m1"))
    harness.store.apply(merge("s", history=Extend(99, (b"m2",))))
    assert load(harness).elements == [b"m2"]


def test_a_rewrite_collides_if_the_history_moved(harness: Harness) -> None:
    harness.store.apply(save("s", b"m1"))
    harness.store.apply(merge("s", ("a", None, b"1")))
    receipt = harness.store.apply(merge("s", history=Rewrite(1, (b"n1", b"n2"))))
    assert receipt.first_seq == 2
    for late in (Rewrite(1, (b"x",)), Rewrite(1, None)):
        with pytest.raises(ConflictError) as caught:
            harness.store.apply(merge("s", ("a", b"1", b"2"), history=late))
        assert caught.value.what == "history"
    assert contents(load(harness)) == ({"a": b"1"}, [b"n1", b"n2"], 3, 4)


def test_the_history_can_be_removed(harness: Harness) -> None:
    harness.store.apply(save("s", b"m1"))
    harness.store.apply(merge("s", history=Rewrite(1, None), shape="data"))
    assert (load(harness).shape, load(harness).elements) == ("data", [])
    assert harness.store.apply(append("s", b"m2")).first_seq == 2


def test_an_expected_version_is_checked(harness: Harness) -> None:
    created = harness.store.apply(save("s")).created_at_ms
    harness.store.apply(replace(append("s", b"m1"), expected="1"))
    late: list[Append | Update] = [append("s", b"m2"), update("s", a=b"1")]
    for command in late:
        for expected in ("1", f"{created}-1", f"{created - 1}-2"):
            with pytest.raises(ConflictError) as caught:
                harness.store.apply(replace(command, expected=expected))
            assert (caught.value.expected, caught.value.actual) == (int(expected[-1]), 2)
    assert contents(load(harness)) == ({}, [b"m1"], 2, 2)
    for version, command in enumerate(late, 2):
        harness.store.apply(replace(command, expected=f"{created}-{version}"))
    assert contents(load(harness)) == ({"a": b"1"}, [b"m1", b"m2"], 4, 3)


def test_an_update_changes_what_lies_beside_the_messages(harness: Harness) -> None:
    harness.store.apply(save("s", b"m1", a=b"1", b=b"2"))
    receipt = harness.store.apply(replace(update("s", a=b"3", b=None, ttl_ms=50_000), title="ä title"))
    assert (receipt.first_seq, receipt.history_version_before, receipt.lifetime_ms) == (None, 1, 50_000)
    snapshot = load(harness)
    assert contents(snapshot) == ({"a": b"3"}, [b"m1"], 2, 2)
    assert (snapshot.title, snapshot.own_ttl_ms, snapshot.history_version) == ("ä title", 50_000, 1)
    harness.store.apply(update("s", a=None))
    assert (load(harness).title, load(harness).own_ttl_ms) == ("ä title", 50_000), "as they were"
    harness.store.apply(replace(update("s"), title=""))
    assert load(harness).title is None
    harness.store.apply(replace(save("s", b"m1"), shape="list"))
    harness.store.apply(replace(update("s"), title="t"))
    assert load(harness).shape == "list"
    harness.store.apply(update("s", a=b"1"))
    assert load(harness).shape == "full:history"


def test_an_update_is_for_a_whole_session(harness: Harness) -> None:
    harness.store.apply(save("s", b"m1"))
    if isinstance(harness, RedisHarness):
        harness.client.lpop(harness.keys("s")[1])
        with pytest.raises(CorruptValue):
            harness.store.apply(update("s", a=b"1"))
        with pytest.raises(CorruptValue):
            load(harness)


# ---- once


COMMANDS: dict[str, Callable[[], Command]] = {
    "save": lambda: save("s", b"x", a=b"2"),
    "merge": lambda: merge("s", ("a", b"1", b"2"), history=Extend(0, (b"x",))),
    "upsert": lambda: upsert("s", b"x", b=b"2"),
    "append": lambda: append("s", b"x", a=b"2"),
    "update": lambda: update("s", a=b"2", ttl_ms=50_000),
    "delete": lambda: Delete(session_id="s", owner=ANY),
}


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_repeat_changes_nothing_and_gets_the_first_receipt(harness: Harness, kind: str) -> None:
    harness.store.apply(save("s", b"m1", a=b"1"))
    command = COMMANDS[kind]()
    first = harness.store.apply(command)
    state = harness.store.load("s", ANY)
    for _ in range(3):
        again = harness.store.apply(command)
        assert again.repeated
        assert (again.version, again.first_seq, again.history_version_before) == (
            first.version,
            first.first_seq,
            first.history_version_before,
        )
    after = harness.store.load("s", ANY)
    assert (after and contents(after)) == (state and contents(state))


def test_a_repeat_never_revives(harness: Harness) -> None:
    start = save("s", b"m1")
    clients, ours = replace(append("s", b"m2"), token="T", digest="d1"), append("s", b"m2")
    for command in (start, clients, ours):
        harness.store.apply(command)
    harness.store.apply(Delete(session_id="s", owner=ANY))
    assert harness.store.apply(start).repeated
    assert harness.store.apply(clients).repeated
    with pytest.raises(SessionNotFound):
        harness.store.apply(ours)
    with pytest.raises(SessionNotFound):
        harness.store.apply(append("s", b"m3"))
    assert harness.store.load("s", ANY) is None


def test_an_expired_session_is_not_revived(harness: Harness) -> None:
    start = save("s", b"m1")
    harness.store.apply(start)
    harness.expire("s")
    assert harness.store.apply(start).repeated
    with pytest.raises(SessionNotFound):
        harness.store.apply(merge("s", ("a", None, b"1")))
    assert harness.store.load("s", ANY) is None


def test_a_token_comes_with_one_request_only(harness: Harness) -> None:
    harness.store.apply(save("s"))
    harness.store.apply(replace(append("s", b"m1"), token="T", digest="d1"))
    assert harness.store.apply(replace(append("s", b"m1"), token="T", digest="d1")).repeated
    with pytest.raises(TokenReused, match="came before with another request") as caught:
        harness.store.apply(replace(append("s", b"m2"), token="T", digest="d2"))
    assert caught.value.path == "token"
    assert load(harness).elements == [b"m1"]


def test_only_the_last_tokens_are_kept(harness: Harness) -> None:
    most = SETTINGS.max_tokens
    commands: list[Command] = [save("s"), *(append("s", b"m") for _ in range(most * 5 // 4 - 1))]
    for command in commands:
        harness.store.apply(command)
    assert all(harness.store.apply(command).repeated for command in commands[-most:])
    assert not harness.store.apply(commands[0]).repeated, "the oldest is forgotten: the session is saved anew"


def test_a_receipt_outlives_every_retry_however_many_come_behind_it(harness: Harness) -> None:
    limits = limits_of(SETTINGS)
    if isinstance(harness.store, MemoryStore):
        store: Store = MemoryStore(limits, harness.store._clock)
    else:
        assert isinstance(harness.store, RedisStore)
        store = RedisStore(harness.store._calls._client, "hot:", limits)
    commands: list[Command] = [save("s"), *(append("s", b"m") for _ in range(7 * SETTINGS.max_tokens))]
    for command in commands:
        store.apply(command)
    assert all(store.apply(command).repeated for command in commands)
    assert limits.receipt_ms == 60_000, "twelve times the budget"


def test_receipts_that_no_retry_needs_any_more_are_dropped_from_a_hot_session() -> None:
    clock = Clock()
    store, most = MemoryStore(limits_of(SETTINGS), clock), SETTINGS.max_tokens
    store.apply(save("s"))
    for _ in range(100 * most):
        clock.now += 500
        store.apply(append("s", b"m"))
        assert len(store._tokens["s"].receipts) <= 2 * (most + 120)  # a minute has 120 of them


def test_a_successor_starts_anew_and_later(harness: Harness) -> None:
    """A version with a time of creation names one state for ever: the ETag."""
    seen = set()
    for _ in range(3):
        receipt = harness.store.apply(save("s", b"m1"))
        assert (receipt.version, receipt.first_seq) == (1, 1)
        seen.add(receipt.created_at_ms)
        harness.store.apply(Delete(session_id="s", owner=ANY))
    assert len(seen) == 3


# ---- owners


def test_a_stranger_sees_and_changes_nothing(harness: Harness) -> None:
    harness.store.apply(save("s", b"m1", owner="alice", a=b"1"))
    for stranger in ("bob", None, "", "*", "alic"):
        assert harness.store.load("s", stranger) is None
        commands: list[Command] = [
            save("s", b"x", owner=stranger),
            append("s", b"x", owner=stranger),
            update("s", owner=stranger, a=b"2"),
            replace(upsert("s", b"x"), owner=stranger),
            note(Alias(None, "x"), owner=stranger),
            merge("s", ("a", b"1", b"2"), owner=stranger),
            Delete(session_id="s", owner=stranger),
            Touch(session_id="s", owner=stranger),
        ]
        for command in commands:
            with pytest.raises(SessionNotFound):
                harness.store.apply(command)
    for friend in ("alice", ANY):
        assert contents(load(harness, owner=friend)) == ({"a": b"1"}, [b"m1"], 1, 2)


def test_a_named_owner_does_not_see_nobodys_session(harness: Harness) -> None:
    harness.store.apply(save("s", owner=None))
    assert harness.store.load("s", "alice") is None
    assert harness.store.load("s", None)


def test_the_server_keeps_the_owner(harness: Harness) -> None:
    harness.store.apply(save("s", owner="alice"))
    harness.store.apply(save("s", b"m1", owner=ANY))
    assert harness.store.load("s", "alice")
    assert harness.store.load("s", None) is None


def test_a_strangers_token_tells_nothing(harness: Harness) -> None:
    command = replace(append("s", b"m1", owner="alice"), token="T", digest="d1")
    harness.store.apply(save("s", owner="alice"))
    harness.store.apply(command)
    theirs = replace(command, owner="bob")
    with pytest.raises(SessionNotFound):
        harness.store.apply(theirs)
    harness.store.apply(Delete(session_id="s", owner="alice"))
    with pytest.raises(SessionNotFound):
        harness.store.apply(theirs)
    assert harness.store.apply(command).repeated


def test_tokens_do_not_cross_owners(harness: Harness) -> None:
    hers = replace(append("s", b"hers", owner="alice"), token="T", digest="d1")
    harness.store.apply(save("s", owner="alice"))
    harness.store.apply(hers)
    harness.store.apply(Delete(session_id="s", owner="alice"))
    harness.store.apply(replace(save("s", owner="bob"), token="T"))
    harness.store.apply(replace(append("s", b"his", owner="bob"), token="U", digest="d2"))
    assert load(harness).elements == [b"his"]
    with pytest.raises(SessionNotFound):
        harness.store.apply(hers)


# ---- lifetimes


def lives(harness: Harness, ttl_ms: int, moment: Moment) -> bool:
    """True if all keys of the session end in one millisecond, *ttl_ms* after a time in the moment."""
    [end] = set(harness.ends("s"))
    return end - ttl_ms in moment


def test_every_interaction_moves_the_one_lifetime(harness: Harness) -> None:
    first = save("s", b"m1")
    harness.store.apply(first)
    actions: list[Callable[[], object]] = [
        lambda: load(harness),
        lambda: load(harness, last=0),
        lambda: harness.store.apply(append("s", b"m")),
        lambda: harness.store.apply(update("s", b=b"1")),
        lambda: harness.store.apply(note(Alias(None, "x"))),
        lambda: harness.store.apply(note(Alias(None, "x"), leads_here=False)),
        lambda: harness.store.apply(merge("s", ("a", None, b"1"))),
        lambda: harness.store.apply(save("s", b"m")),
        lambda: harness.store.apply(Touch(session_id="s", owner=ANY)),
        lambda: harness.store.apply(first),
    ]
    for action in actions:
        harness.age(600_000)
        with harness.moment() as moment:
            action()
        assert lives(harness, TTL, moment)


def test_a_touch_is_no_write(harness: Harness) -> None:
    harness.store.apply(save("s", b"m1"))
    before = load(harness)
    receipt = harness.store.apply(Touch(session_id="s", owner=ANY))
    assert (receipt.version, receipt.updated_at_ms) == (before.version, before.updated_at_ms)
    assert (receipt.first_seq, receipt.repeated, receipt.history_version_before) == (None, False, None)


def lifetime(receipt: Receipt) -> int:
    return receipt.expires_at_ms - receipt.updated_at_ms


def test_a_complete_session_lives_longer(harness: Harness) -> None:
    assert lifetime(harness.store.apply(save("s", complete=b"false"))) == TTL
    with harness.moment() as moment:
        assert lifetime(harness.store.apply(append("s", complete=b"true"))) == TTL_COMPLETE
    assert lives(harness, TTL_COMPLETE, moment)
    with harness.moment() as moment:
        load(harness)
    assert lives(harness, TTL_COMPLETE, moment)
    assert lifetime(harness.store.apply(merge("s", ("complete", b"true", None)))) == TTL


def test_a_lifetime_of_its_own_wins_and_stays(harness: Harness) -> None:
    harness.store.apply(save("s", ttl_ms=50_000, complete=b"true"))
    with harness.moment() as moment:
        load(harness)
    assert lives(harness, 50_000, moment)
    assert lifetime(harness.store.apply(save("s", b"m1"))) == 50_000
    harness.store.apply(Touch(session_id="s", owner=ANY, ttl_ms=70_000))
    assert lifetime(harness.store.apply(append("s", b"m2"))) == 70_000
    assert lifetime(harness.store.apply(update("s", ttl_ms=80_000))) == 80_000
    assert lifetime(harness.store.apply(append("s", b"m3"))) == 80_000


# ---- what an error, a receipt and a page tell


def test_an_error_names_the_session(harness: Harness) -> None:
    harness.store.apply(save("s", b"m1", owner="alice"))
    commands: list[Command] = [
        append("gone", b"x"),
        merge("gone", ("a", None, b"1")),
        Delete(session_id="gone", owner=ANY),
        Touch(session_id="gone", owner=ANY),
        update("gone", a=b"1"),
        replace(note(Alias(None, "x")), session_id="gone"),
        MoveConversation(session_id="gone", owner=ANY, turn="t", moved_to="u"),
        edit(1, b"m1", b"x", "gone"),
        Share(session_id="gone", owner=ANY, name="bob", role="reader"),
        RenewTurn(session_id="gone", owner=ANY, turn="t", lease_ms=1_000),
        CommitTurn(session_id="gone", owner=ANY, turn="t"),
    ]
    for command in commands:
        with pytest.raises(SessionNotFound) as caught:
            harness.store.apply(command)
        assert caught.value.session_id == "gone"
    for strangers in (save("s", owner="bob"), append("s", owner="bob")):
        with pytest.raises(SessionNotFound) as caught:
            harness.store.apply(strangers)
        assert caught.value.session_id == "s"
    with pytest.raises(SessionNotFound) as caught:
        harness.store.apply(replace(append("s", b"x"), created_at_ms=1))
    assert caught.value.session_id == "s"
    with pytest.raises(SessionNotFound) as caught:
        harness.store.turn_lease("gone", ANY)
    assert caught.value.session_id == "gone"


def test_the_receipt_of_what_is_gone_has_no_times(harness: Harness) -> None:
    first = harness.store.apply(start := save("s", b"m1"))
    harness.store.apply(end_ := Delete(session_id="s", owner=ANY))
    for command in (start, end_):
        again = harness.store.apply(command)
        assert (again.repeated, again.created_at_ms, again.expires_at_ms) == (True, 0, 0)
    assert harness.store.apply(start).updated_at_ms == first.updated_at_ms


def test_a_repeat_tells_when_the_session_began_and_will_end(harness: Harness) -> None:
    first = harness.store.apply(start := save("s", b"m1"))
    harness.store.apply(append("s", b"m2"))
    harness.age(600_000)
    with harness.moment() as moment:
        again = harness.store.apply(start)
    assert (again.created_at_ms, again.level) == (first.created_at_ms, first.level)
    assert lives(harness, TTL, moment)
    assert {again.expires_at_ms} == set(harness.ends("s"))


def test_a_receipt_tells_what_it_is_worth(harness: Harness) -> None:
    level = "memory" if isinstance(harness, MemoryHarness) else "primary"
    commands: list[Command] = [
        save("s"),
        append("s", b"m"),
        Touch(session_id="s", owner=ANY),
        Delete(session_id="s", owner=ANY),
    ]
    for command in commands:
        receipt = harness.store.apply(command)
        assert (receipt.level, receipt.repeated, receipt.fallback) == (level, False, None)
        if not isinstance(command, Delete):
            assert receipt.lifetime_ms == TTL


def test_every_write_tells_the_times_that_are_stored(harness: Harness) -> None:
    def told(receipt: Receipt) -> None:
        with harness.moment() as moment:
            snapshot = harness.store.load("s", ANY, is_interaction=False)
        assert snapshot
        assert (receipt.version, receipt.created_at_ms) == (snapshot.version, snapshot.created_at_ms)
        assert receipt.updated_at_ms == snapshot.updated_at_ms
        assert {receipt.expires_at_ms} == set(harness.ends("s"))
        # Read as the time that is left, which is asked for a moment after the time of day.
        assert abs(receipt.expires_at_ms - snapshot.expires_at_ms) <= moment.length + 1
        assert receipt.expires_at_ms - receipt.updated_at_ms == receipt.lifetime_ms == TTL

    told(harness.store.apply(save("s", b"m1")))
    told(harness.store.apply(append("s", b"m2")))
    told(harness.store.apply(update("s", b=b"1")))
    told(harness.store.apply(merge("s", ("a", None, b"1"), history=Extend(2, (b"m3",)))))
    told(harness.store.apply(edit(2, b"m2", b"n2")))
    told(harness.store.begin(begun := take()).receipt)
    told(harness.store.apply(end(begun, b"{}\nhi")))
    told(harness.store.begin(begun := take(None)).receipt)
    told(harness.store.apply(move(begun)))


def test_a_summary_tells_what_is_known_without_reading_a_message(harness: Harness) -> None:
    receipt = harness.store.apply(replace(save("s", b"m1", b"m2", owner="alice"), first_title="t", usage=Usage(3, 4)))
    [summary] = harness.store.page("alice").sessions
    assert (summary.session_id, summary.owner, summary.version) == ("s", "alice", 1)
    assert (summary.message_count, summary.title, summary.usage) == (2, "t", Usage(3, 4))
    assert (summary.created_at_ms, summary.updated_at_ms) == (receipt.created_at_ms, receipt.updated_at_ms)
    assert abs(summary.active_at_ms - receipt.updated_at_ms) <= 60_000
    assert abs(summary.expires_at_ms - receipt.expires_at_ms) <= 60_000


def test_a_cursor_that_is_none_is_named(harness: Harness) -> None:
    harness.store.apply(save("s", owner="alice"))
    with pytest.raises(InvalidInput) as caught:
        harness.store.page("alice", "no cursor")
    assert caught.value.path == "cursor"


def test_aliases_are_in_order(harness: Harness) -> None:
    """Nobody's first."""
    harness.store.apply(save("s"))
    aliases = [Alias("bob", "1"), Alias(None, "2"), Alias("alice", "2"), Alias(None, "1"), Alias("alice", "1")]
    for alias in aliases:
        harness.store.apply(note(alias))
    assert load(harness).aliases == tuple(aliases[index] for index in (3, 1, 4, 2, 0))
    harness.store.apply(note(aliases[0], leads_here=False))
    receipt = harness.store.apply(note(aliases[1]))
    assert load(harness).aliases == tuple(aliases[index] for index in (3, 1, 4, 2))
    assert receipt.version == 1, "it is no write"


def test_an_alias_is_linked_if_it_leads_where_it_was_seen(harness: Harness) -> None:
    alias = Alias("alice", "telegram:1")

    def link(session_id: str | None, expected: Owner) -> str | None:
        return harness.store.link(LinkAlias(alias=alias, session_id=session_id, expected=expected, lifetime_ms=60_000))

    assert link("a", "b") is None
    assert link("a", None) == "a"
    assert link("b", None) == "a"
    assert link("b", "a") == "b"
    assert link("c", ANY) == "c"
    assert harness.store.follow(alias, 90_000) == "c"
    harness.age(70_000)
    assert harness.store.follow(alias, 1_000) == "c"
    harness.age(10_000)
    assert harness.store.follow(alias, 1_000) == "c", "a shorter lifetime does not take away from a longer one"
    assert link(None, "c") is None
    assert harness.store.follow(alias, 1_000) is None


# ---- how a session comes and goes


def test_an_upsert_merges_or_creates(harness: Harness) -> None:
    assert harness.store.apply(upsert("s", b"m1", a=b"1")).version == 1
    assert harness.store.apply(upsert("s", b"m2", shape="data", b=b"2")).version == 2
    snapshot = load(harness)
    assert contents(snapshot) == ({"a": b"1", "b": b"2"}, [b"m1", b"m2"], 2, 3)
    assert snapshot.shape == "full", "that of the session that is there"
    harness.store.apply(replace(merge("s", ("b", b"2", b"3")), creates=True, shape="data"))
    assert load(harness).shape == "full"


def test_an_upsert_that_creates_is_measured_from_its_beginning(harness: Harness) -> None:
    """Whatever it was given: a later rewrite must fit what is there."""
    for history in (None, Extend(0, ()), Extend(0, (b"m1",))):
        shape: Shape = "full" if history else "data"
        created = replace(upsert("s"), history=history, shape=shape)
        assert harness.store.apply(created).version == 1
        assert (load(harness).history_version, load(harness).shape) == (1, shape)
        harness.store.apply(merge("s", history=Rewrite(1, (b"n1",)), shape="full"))
        assert load(harness).elements == [b"n1"]
        harness.store.apply(Delete(session_id="s", owner=ANY))


def test_an_upsert_changes_nothing_where_it_collides(harness: Harness) -> None:
    harness.store.apply(save("s", b"m1", a=b"1"))
    with pytest.raises(ConflictError) as caught:
        harness.store.apply(upsert("s", b"m2", a=b"2"))
    assert (caught.value.what, caught.value.is_field) == ("a", True)
    assert contents(load(harness)) == ({"a": b"1"}, [b"m1"], 1, 2)


def test_what_started_elsewhere_ends_what_is_there(harness: Harness) -> None:
    """As if it had been deleted first: a later time of creation, no message or field, the same owner."""
    harness.store.apply(save("s", b"m1", owner="alice", a=b"1"))
    last = harness.store.apply(append("s", b"m2"))
    for started in (1, last.updated_at_ms, last.updated_at_ms + 5_000):
        before = load(harness)
        receipt = harness.store.apply(replace(save("s", b"n1"), started_at_ms=started))
        snapshot = load(harness)
        assert contents(snapshot) == ({}, [b"n1"], 1, 2)
        assert snapshot.owner == "alice"
        assert receipt.created_at_ms == snapshot.created_at_ms
        ended = max(before.created_at_ms, before.updated_at_ms)
        assert snapshot.created_at_ms == max(started, ended + 1)
    assert load(harness).created_at_ms == last.updated_at_ms + 5_000


def test_a_repeat_tells_the_first_end_also_where_the_clock_of_elsewhere_went_ahead(harness: Harness) -> None:
    now = harness.store.apply(save("t")).created_at_ms
    for command in (replace(save("s"), started_at_ms=now + 600_000), append("s", b"m1")):
        first = harness.store.apply(command)
        again = harness.store.apply(command)
        for receipt in (first, again):
            assert receipt.updated_at_ms == now + 600_000
            assert receipt.updated_at_ms + receipt.lifetime_ms == first.expires_at_ms


def test_first_is_refused_where_one_has_ended(harness: Harness) -> None:
    first = replace(save("s", b"m1"), mode="first")
    harness.store.apply(first)
    with pytest.raises(SessionExists):
        harness.store.apply(replace(save("s"), mode="first"))
    harness.store.apply(Delete(session_id="s", owner=ANY))
    with pytest.raises(SessionNotFound):
        harness.store.apply(replace(save("s"), mode="first"))
    assert harness.store.apply(save("s")).version == 1


def test_a_session_that_was_written_since_is_not_replaced(harness: Harness) -> None:
    harness.store.apply(save("s", b"theirs"))
    at_ms = load(harness).updated_at_ms
    waited = replace(save("s", b"ours"), started_at_ms=at_ms - 5, unchanged_since_ms=at_ms - 1)
    with pytest.raises(ConflictError) as caught:
        harness.store.apply(waited)
    assert (caught.value.what, caught.value.actual) == ("version", 1)
    assert load(harness).elements == [b"theirs"]
    assert not harness.store.apply(replace(waited, unchanged_since_ms=at_ms)).repeated
    assert load(harness).elements == [b"ours"]


def test_the_time_is_the_stores(harness: Harness) -> None:
    assert harness.store.time_ms() <= harness.store.apply(save("s")).updated_at_ms <= harness.store.time_ms()


def test_whoever_asks_can_tell_an_end_from_nothing(harness: Harness) -> None:
    assert not harness.store.has_ended("s", ANY)
    harness.store.apply(save("s", owner="alice"))
    assert not harness.store.has_ended("s", "alice"), "it is there"
    harness.store.apply(Delete(session_id="s", owner="alice"))
    assert harness.store.has_ended("s", "alice")
    assert harness.store.has_ended("s", ANY)
    assert not harness.store.has_ended("s", "bob")
    assert not harness.store.has_ended("s", None)
    harness.age(24 * 3_600_000 + 1_000)
    assert not harness.store.has_ended("s", ANY)


def test_every_interaction_lets_the_tombstone_live_longer(harness: Harness) -> None:
    actions: list[Callable[[], object]] = [
        lambda: load(harness),
        lambda: harness.store.messages("s", ANY, None, 1),
        lambda: harness.store.apply(Touch(session_id="s", owner=ANY)),
        lambda: harness.store.apply(start),
        lambda: harness.store.apply(append("s", b"m")),
    ]
    for action in actions:
        harness.store.apply(start := save("s", b"m1"))
        harness.age(TTL // 2)
        action()
        harness.expire("s")
        harness.age(TTL + 24 * 3_600_000 - 5_000)
        assert harness.store.apply(start).repeated
        harness.age(120_000)
        assert not harness.store.apply(start).repeated, "and no longer than a day behind its session"
        harness.store.apply(Delete(session_id="s", owner=ANY))


def test_a_successor_does_not_prolong_a_tombstone_that_is_over(harness: Harness) -> None:
    harness.store.apply(start := save("s", b"m1"))
    harness.expire("s")
    harness.age(TTL + 24 * 3_600_000 - 20_000)
    harness.store.apply(save("t"))
    harness.age(30_000)
    harness.store.apply(save("s", b"m2"))
    assert not harness.store.apply(start).repeated


def test_an_interaction_that_is_none_moves_no_lifetime(harness: Harness) -> None:
    harness.store.apply(save("s"))
    before = harness.ends("s")
    assert harness.store.load("s", ANY, is_interaction=False)
    assert harness.ends("s") == before


# ---- edits


def test_an_edit_reaches_the_message_it_means_or_none(harness: Harness) -> None:
    harness.store.apply(save("s", b"m1", b"m2"))
    for seq in (0, 3):
        with pytest.raises(MessageNotFound) as missing:
            harness.store.apply(edit(seq, b"m2", b"x"))
        assert (missing.value.session_id, missing.value.seq) == ("s", seq)
    with pytest.raises(ConflictError) as caught:
        harness.store.apply(edit(2, b"m1", b"x"))
    assert (caught.value.what, caught.value.actual) == ("message", 1)
    receipt = harness.store.apply(edit(2, b"m2", b"n2"))
    assert (receipt.version, receipt.first_seq, receipt.history_version_before) == (2, 2, 1)
    snapshot = load(harness)
    assert (snapshot.elements, snapshot.history_version) == ([b"m1", b"n2"], 2)
    with pytest.raises(ConflictError):
        harness.store.apply(merge("s", history=Rewrite(1, ())))


def test_a_late_edit_or_delete_does_not_reach_the_successor(harness: Harness) -> None:
    first = harness.store.apply(save("s", b"m1")).created_at_ms
    harness.store.apply(Delete(session_id="s", owner=ANY))
    harness.store.apply(save("s", b"m1"))
    late = (edit(1, b"m1", b"x"), Delete(session_id="s", owner=ANY))
    for command in late:
        with pytest.raises(SessionNotFound):
            harness.store.apply(replace(command, created_at_ms=first))
    assert load(harness).elements == [b"m1"]
    for command in late:
        with pytest.raises(ConflictError) as caught:
            harness.store.apply(replace(command, expected=f"{first}-1"))
        assert (caught.value.what, caught.value.expected, caught.value.actual) == ("version", 1, 1)


# ---- turns, as the store sees them


def test_a_turn_ends_with_its_lease(harness: Harness) -> None:
    harness.store.apply(save("s"))
    assert harness.store.turn_lease("s", ANY) == Lease("", 0)
    with harness.moment() as moment:
        harness.store.begin(begun := take(lease_ms=60_000))
        holder, remaining = harness.store.turn_lease("s", ANY)
        with pytest.raises(TurnInProgress) as caught:
            harness.store.begin(take())
    assert (holder, caught.value.session_id) == (begun.attempt, "s")
    for left in (remaining, caught.value.retry_after_ms):
        assert 60_000 - moment.length <= left <= 60_000
    assert load(harness).version == 2


def test_a_renewed_turn_is_leased_anew(harness: Harness) -> None:
    harness.store.apply(save("s"))
    harness.store.begin(begun := take(lease_ms=1_000))
    with pytest.raises(TurnLost):
        harness.store.apply(RenewTurn(session_id="s", owner=ANY, turn="another", lease_ms=90_000))
    with harness.moment() as moment:
        receipt = harness.store.apply(RenewTurn(session_id="s", owner=ANY, turn=begun.attempt, lease_ms=90_000))
        remaining = harness.store.turn_lease("s", ANY).remaining_ms
    assert receipt.version == 2, "no write"
    assert 90_000 - moment.length <= remaining <= 90_000


def test_a_turn_taken_anew_is_leased_again(harness: Harness) -> None:
    harness.store.apply(save("s"))
    begun = take(lease_ms=0)
    assert harness.store.begin(begun).receipt.first_seq == 1
    anew = replace(begun, attempt="another", lease_ms=60_000)
    with harness.moment() as moment:
        assert harness.store.begin(anew).receipt.repeated
        holder, remaining = harness.store.turn_lease("s", ANY)
    assert holder == "another"
    assert 60_000 - moment.length <= remaining <= 60_000
    with pytest.raises(TurnLost):
        harness.store.apply(end(begun, b"{}\nx"))
    harness.store.apply(end(anew, b"{}\ny"))
    assert [element.partition(b"\n")[2] for element in load(harness).elements] == [b"hi", b"y"]
    assert harness.store.turn_lease("s", ANY).remaining_ms <= 0


def test_a_turn_that_was_ended_is_told_with_its_end(harness: Harness) -> None:
    created = harness.store.apply(save("s")).created_at_ms
    harness.store.begin(begun := replace(take(), digest="d1"))
    harness.store.apply(replace(end(begun, b"{}\nhi"), token=f"{begun.token}\n2"))
    with harness.moment() as moment:
        again = harness.store.begin(begun)
    assert again.reply
    for receipt, version, seq in ((again.receipt, 2, 1), (again.reply, 3, 2)):
        assert (receipt.repeated, receipt.version, receipt.first_seq) == (True, version, seq)
        assert receipt.created_at_ms == created
        assert receipt.expires_at_ms - TTL in moment
    harness.store.apply(Delete(session_id="s", owner=ANY))
    again = harness.store.begin(begun)
    assert (again.reply, again.snapshot) == (None, None)
    receipt = again.receipt
    assert (receipt.repeated, receipt.created_at_ms, receipt.expires_at_ms) == (True, 0, 0)


def test_a_turn_without_a_message_is_taken_anew_while_there_is_none(harness: Harness) -> None:
    """As one with a message is, while that is the last."""
    harness.store.apply(save("s"))
    harness.store.begin(begun := take(None, lease_ms=0))
    assert harness.store.begin(replace(begun, attempt="another")).receipt.repeated
    harness.store.apply(append("s", b"m1"))
    with pytest.raises(TurnLost) as caught:
        harness.store.begin(replace(begun, attempt="a third"))
    assert caught.value.written is False


def test_a_turn_begun_again_in_vain_tells_that_its_message_is_stored(harness: Harness) -> None:
    """Such as the second try of a call, whose first one has landed unheard. Its lease has ended meanwhile."""
    harness.store.apply(save("s"))
    harness.store.begin(begun := take(lease_ms=0))
    harness.store.begin(other := take(lease_ms=60_000))
    with pytest.raises(TurnLost, match=r"The message was stored") as late:
        harness.store.begin(replace(begun, attempt="another"))
    assert late.value.written is True
    with pytest.raises(TurnInProgress, match=r"Nothing was written\.$") as unknown:
        harness.store.begin(take())
    assert unknown.value.written is False
    with pytest.raises(TurnInProgress) as empty:
        harness.store.begin(take(None))
    assert empty.value.written is False
    harness.store.apply(end(other, b"{}\nhi"))
    with pytest.raises(TurnLost, match=r"The message was stored") as lost:
        harness.store.begin(begun)
    assert lost.value.written is True


def test_a_move_may_expect_a_version(harness: Harness) -> None:
    harness.store.apply(save("s"))
    harness.store.begin(begun := take())
    harness.store.apply(append("s", b"{}\nbetween"))
    with pytest.raises(ConflictError) as caught:
        harness.store.apply(move(begun, expected="2"))
    assert (caught.value.what, caught.value.expected, caught.value.actual) == ("version", 2, 3)
    assert load(harness).moved_to is None
    assert harness.store.apply(move(begun, expected="3")).version == 4


def test_a_move_is_its_own_attempts_once(harness: Harness) -> None:
    harness.store.apply(save("s", b"m1"))
    harness.store.begin(begun := take(None))
    with pytest.raises(TurnLost):
        harness.store.apply(replace(move(begun), turn="another"))
    moved = replace(move(begun), token="T", digest=begun.attempt)
    first = harness.store.apply(moved)
    assert (first.version, first.first_seq, first.history_version_before) == (3, None, 1)
    assert harness.store.turn_lease("s", ANY).remaining_ms <= 0
    again = harness.store.apply(moved)
    assert (again.repeated, again.version) == (True, 3)
    with pytest.raises(TurnLost):  # another attempt has ended this turn
        harness.store.apply(replace(moved, turn="another", digest="another"))
    assert (load(harness).elements, load(harness).history_version) == ([b"m1"], 1)


def test_fields_of_a_turn_that_others_changed_collide(harness: Harness) -> None:
    harness.store.apply(save("s", a=b"1"))
    harness.store.begin(begun := take())
    harness.store.apply(append("s", a=b"2"))
    with pytest.raises(ConflictError) as caught:
        harness.store.apply(end(begun, b"{}\nx", fields=(FieldChange("a", b"1", b"3"),)))
    assert (caught.value.what, caught.value.actual, caught.value.is_field) == ("a", 3, True)
    assert (load(harness).count, load(harness).version) == (1, 3), "nothing was written"


def test_a_session_that_was_moved_takes_no_messages(harness: Harness) -> None:
    harness.store.apply(save("s", b"m1", a=b"1"))
    harness.store.begin(begun := take())
    harness.store.apply(move(begun))
    assert load(harness).moved_to == "t"
    calls: list[Callable[[], object]] = [
        lambda: harness.store.begin(take()),
        lambda: harness.store.apply(append("s", b"x")),
        lambda: harness.store.apply(merge("s", history=Extend(0, (b"x",)))),
        lambda: harness.store.apply(upsert("s", b"x")),
    ]
    for call in calls:
        with pytest.raises(SessionMoved) as caught:
            call()
        assert (caught.value.session_id, caught.value.moved_to) == ("s", "t")
    with pytest.raises(SessionNotFound):
        harness.store.apply(replace(merge("s", history=Extend(0, (b"x",))), created_at_ms=1))
    harness.store.apply(append("s", a=b"2"))
    harness.store.apply(merge("s", ("a", b"2", b"3")))
    assert contents(load(harness)) == ({"a": b"3"}, [b"m1", b"{}\nhi"], 5, 4)


# ---- limits that came later


def limited(harness: Harness, **limits: Any) -> Store:
    """The same sessions, under other limits."""
    chosen = replace(limits_for(SETTINGS), **limits)
    if isinstance(harness, MemoryHarness):
        harness.store._limits = chosen
        return harness.store
    assert isinstance(harness, RedisHarness)
    return RedisStore(harness.client, SETTINGS.prefix, chosen)


def test_data_over_the_limit_may_shrink_or_stay(harness: Harness) -> None:
    harness.store.apply(save("s", a=b"x" * 99))
    store = limited(harness, max_data_bytes=50)
    store.apply(append("s", b"m1"))
    store.apply(append("s", a=b"y" * 99))
    store.apply(append("s", a=b"z" * 80))
    growing: list[Command] = [append("s", b=b"1"), append("s", a=b"z" * 81), merge("s", ("b", None, b"1"))]
    for grown in (*growing, update("s", b=b"1"), update("s", a=b"z" * 81)):
        with pytest.raises(TooLarge) as caught:
            store.apply(grown)
        assert (caught.value.limit, caught.value.size > 81) == (50, True)
    store.apply(update("s", a=b"z" * 79))
    store.apply(append("s", a=b"z" * 49))
    with pytest.raises(TooLarge) as caught:
        store.apply(append("s", a=b"z" * 50))
    assert (caught.value.limit, caught.value.size) == (50, 51)
    assert load(harness).fields == {"a": b"z" * 49}


def test_a_session_over_the_limit_may_shrink_or_stay(harness: Harness) -> None:
    harness.store.apply(save("s", b"m" * 60, b"n" * 40, a=b"1" * 9))
    store = limited(harness, max_session_bytes=50)
    store.apply(append("s", a=b"2" * 9))
    store.apply(merge("s", history=Extend(2, ())))
    with pytest.raises(TooLarge) as caught:
        store.apply(append("s", b"x"))
    assert (caught.value.limit, caught.value.size) == (50, 51)
    for larger in (append("s", a=b"2" * 10), update("s", a=b"2" * 10)):
        with pytest.raises(TooLarge):
            store.apply(larger)
    with pytest.raises(TooLarge) as caught:
        store.apply(edit(2, b"n" * 40, b"n" * 41))
    assert (caught.value.limit, caught.value.size) == (50, 51)
    store.apply(edit(2, b"n" * 40, b"k" * 40))
    store.apply(append("s", b"x", a=b"2" * 8))
    assert load(harness).elements == [b"k" * 40, b"x"]
    limited(harness).apply(save("s", b"m" * 60))
    limited(harness, max_session_bytes=50).apply(edit(load(harness).next_seq - 1, b"m" * 60, b"m" * 59))


def test_a_history_over_the_limit_may_shrink_or_stay(harness: Harness) -> None:
    harness.store.apply(save("s", b"1", b"2", b"3", b"4"))
    store = limited(harness, max_history=2)
    store.apply(append("s", a=b"1"))
    store.apply(merge("s", history=Extend(2, ())))
    calls: list[Callable[[], object]] = [
        lambda: store.apply(append("s", b"5")),
        lambda: store.apply(merge("s", history=Extend(3, (b"5",)))),
        lambda: store.begin(take()),
    ]
    for call in calls:
        with pytest.raises(TooLarge) as caught:
            call()
        assert caught.value.limit == 2
    assert caught.value.size == 5, "the message and its reply"
    store.begin(take(None))
    assert load(harness).elements == [b"2", b"3", b"4"]
    store.apply(merge("s", history=Extend(4, (b"5",))))
    assert load(harness).elements == [b"4", b"5"]


@pytest.mark.parametrize("status", ["failed", "unanswered"])
def test_a_full_session_does_not_keep_a_turn_from_ending(harness: Harness, status: Any) -> None:
    """The mark in its message is ours, and does not count against the app."""
    harness.store.apply(save("s"))
    harness.store.begin(begun := take())
    store = limited(harness, max_session_bytes=5)
    store.apply(replace(end(begun), status=status))
    assert status.encode() in load(harness).elements[0]
    limited(harness).begin(take(b"{}\nhi", lease_ms=60_000))
    store.begin(take(None, supersede=True))
    assert b"superseded" in load(harness).elements[1]


def test_a_session_past_its_greatest_age_is_none(harness: Harness) -> None:
    """Whoever asks, and though the server has not noticed yet."""
    harness.store.apply(save("s", b"m1", owner="alice"))
    harness.store.apply(Share(session_id="s", owner="alice", name="bob", role="writer"))
    harness.store.begin(replace(take(), owner="alice"))
    store = limited(harness, max_age_ms=0)
    for owner in ("alice", "bob", ANY):
        calls: list[Callable[[], object]] = [
            lambda owner=owner: store.turn_lease("s", owner),  # type: ignore[misc]
            lambda owner=owner: store.begin(replace(take(), owner=owner)),  # type: ignore[misc]
        ]
        for command in (
            append("s", b"m2", owner=owner),
            Delete(session_id="s", owner=owner),
            Touch(session_id="s", owner=owner),
            Touch(session_id="s", owner=owner, ttl_ms=60_000),
            update("s", owner=owner, a=b"1"),
            note(Alias(None, "x"), owner=owner),
            RenewTurn(session_id="s", owner=owner, turn="another", lease_ms=60_000),
            Share(session_id="s", owner=owner, name="carol", role="reader"),
        ):
            calls.append(lambda command=command: store.apply(command))  # type: ignore[misc]
        for call in calls:
            with pytest.raises(SessionNotFound):
                call()
        assert store.load("s", owner) is None
        assert store.load("s", owner, is_interaction=False) is None
        assert store.messages("s", owner, None, 1) is None
        assert store.page(owner).sessions == []


# ---- many at once


def test_concurrent_appends_all_land_in_one_piece(harness: Harness) -> None:
    harness.store.apply(save("s"))

    def write(writer: int) -> None:
        for number in range(25):
            harness.store.apply(append("s", b"%d:%d:a" % (writer, number), b"%d:%d:b" % (writer, number)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    elements = load(harness).elements
    assert len(elements) == 400
    for first, second in zip(elements[::2], elements[1::2], strict=True):
        assert (first[:-1], first[-1:], second[-1:]) == (second[:-1], b"a", b"b"), "torn"
    for writer in range(8):
        mine = [element for element in elements if element.startswith(b"%d:" % writer)]
        assert mine == sorted(mine, key=lambda element: int(element.split(b":")[1])), "out of order"


def test_ping_answers(harness: Harness) -> None:
    assert harness.store.ping() >= 0
    harness.store.close()
    assert harness.store.ping() >= 0, "a closed store opens again"


def test_a_conflict_names_an_expected_version_only_where_the_version_is_another(harness: Harness) -> None:
    harness.store.apply(save("s", b"m"))
    with pytest.raises(ConflictError) as conflict:
        harness.store.apply(replace(edit(1, b"another", b"new"), expected="1"))
    assert (conflict.value.what, conflict.value.expected, conflict.value.actual) == ("message", None, 1)


def test_several_sessions_are_read_together(harness: Harness) -> None:
    """In order, with None for those that this owner does not have."""
    for name in ("a", "b"):
        harness.store.apply(replace(save(name, name.encode()), owner="ada"))
    harness.store.apply(replace(save("c", b"c"), owner="bob"))
    found: list[Any] = harness.store.load_many(["b", "none", "c", "a"], "ada", is_interaction=False)
    assert [one and one.session_id for one in found] == ["b", None, None, "a"]
    assert [one.elements for one in (found[0], found[3])] == [[b"b"], [b"a"]]
    alone = harness.store.load("b", "ada", is_interaction=False)
    assert alone
    assert replace(found[0], expires_at_ms=0) == replace(alone, expires_at_ms=0)
    assert harness.store.load_many([], "ada") == []


def test_reading_several_sessions_together_moves_their_lifetimes_if_wanted(harness: Harness) -> None:
    harness.store.apply(save("s", b"m"))
    harness.age(60_000)
    before = harness.ends("s")
    harness.store.load_many(["s"], ANY, is_interaction=False)
    assert harness.ends("s") == before
    harness.store.load_many(["s"], ANY)
    assert min(harness.ends("s")) > max(before)


def test_a_corrupt_session_among_several_spoils_no_other(server: Server) -> None:
    harness = RedisHarness(server.client)
    for name in ("a", "b", "c"):
        harness.store.apply(save(name, b"m"))
    server.client.hset(harness.keys("b")[0], "version", "none of ours")
    first, corrupt, last = harness.store.load_many(["a", "b", "c"], ANY)
    assert isinstance(corrupt, CorruptValue)
    assert isinstance(first, Snapshot)
    assert isinstance(last, Snapshot)


# ---- several commands at once


def test_several_commands_are_each_done_or_refused_for_itself(harness: Harness) -> None:
    store = harness.store
    store.apply(save("s", b"a"))
    begun = take(b"{}\nhi")
    asked: list[Command | BeginTurn] = [
        save("new", b"m", owner="ann"),
        upsert("other", b"m"),
        append("missing", b"m"),
        begun,
        Touch(session_id="s", owner=ANY),
        Touch(session_id="missing", owner=ANY),
        Delete(session_id="other", owner=ANY, expected="7"),
    ]
    answers = store.apply_each(asked)
    found = [answer if isinstance(answer, Receipt) else type(answer) for answer in answers]
    assert found[2] is found[5] is SessionNotFound
    assert found[6] in (ConflictError, SessionNotFound)
    assert all(isinstance(found[place], Receipt) for place in (0, 1, 3, 4))
    assert [one.elements for name in ("new", "s") if (one := load(harness, name))] == [[b"m"], [b"a", b"{}\nhi"]]
    assert [one.session_id for one in store.page("ann").sessions] == ["new"]
    again = store.apply_each([asked[0], begun])
    assert [isinstance(answer, Receipt) and answer.repeated for answer in again] == [True, True]
    store.apply(end(begun, b"{}\nre"))


def test_sessions_that_need_one_of_their_owners_places_get_it_among_others(server: Server) -> None:
    limits = replace(limits_for(SETTINGS), max_sessions=1, evict=False)
    store = RedisStore(server.client, "places:", limits)
    answers = store.apply_each([save("one", owner="ann"), save("two", owner="bob"), save("three", owner="ann")])
    assert [isinstance(answer, Receipt) for answer in answers] == [True, True, False]
    assert isinstance(answers[2], TooManySessions)


def test_a_command_is_refused_before_the_one_behind_which_it_belongs(harness: Harness) -> None:
    store = harness.store
    store.apply(save("s", b"a"))
    first = append("s", b"b")
    for command in (append("s", b"c"), update("s", a=b"1"), take(b"{}\nhi")):
        behind = replace(command, expected=f"{BEHIND}{first.token}")
        (answer,) = store.apply_each([behind])
        assert isinstance(answer, ConflictError)
        assert not answer.written
    assert load(harness).version == 1
    store.apply(first)
    store.apply(append("s", b"theirs"))
    second = replace(append("s", b"c"), expected=f"{BEHIND}{first.token}")
    for is_repeat in (False, True):
        (done,) = store.apply_each([second])
        assert isinstance(done, Receipt)
        assert done.repeated == is_repeat
    assert load(harness).elements == [b"a", b"b", b"theirs", b"c"]
