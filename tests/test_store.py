"""What every store promises, in the words of the commands."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from flask_convstore.commands import Append, Command, Delete, Extend, FieldChange, Rewrite, Save, Touch
from flask_convstore.errors import ConflictError, SessionExists, SessionNotFound, TokenReused
from flask_convstore.models import ANY, Owner, Receipt, Shape, Snapshot

from .harness import SETTINGS, TTL, TTL_COMPLETE, Harness


def save(
    session_id: str = "s", *elements: bytes, owner: Owner = ANY, ttl_ms: int | None = None, **fields: bytes
) -> Save:
    return Save(
        session_id=session_id,
        owner=owner,
        mode="replace",
        shape="full",
        fields=tuple(FieldChange(name, None, text) for name, text in fields.items()),
        history=Rewrite(0, elements),
        ttl_ms=ttl_ms,
    )


def merge(
    session_id: str = "s",
    *fields: tuple[str, bytes | None, bytes | None],
    history: Extend | Rewrite | None = None,
    owner: Owner = ANY,
    shape: Shape | None = None,
) -> Save:
    changes = tuple(FieldChange(*field) for field in fields)
    return Save(session_id=session_id, owner=owner, mode="merge", shape=shape, fields=changes, history=history)


def append(session_id: str = "s", *elements: bytes, owner: Owner = ANY, **fields: bytes | None) -> Append:
    return Append(session_id=session_id, owner=owner, elements=elements, fields=tuple(fields.items()))


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


def test_append_sets_and_removes_fields(harness: Harness) -> None:
    harness.store.apply(save("s", a=b"1", b=b"2"))
    receipt = harness.store.apply(append("s", a=b"3", b=None, c=b"4"))
    assert receipt.first_seq is None
    assert contents(load(harness)) == ({"a": b"3", "c": b"4"}, [], 2, 1)


def test_append_gives_a_session_without_history_one(harness: Harness) -> None:
    harness.store.apply(replace(save("s"), shape="data", history=Rewrite(0, None)))
    harness.store.apply(append("s", a=b"1"))
    assert load(harness).shape == "data"
    harness.store.apply(append("s", b"m1"))
    assert load(harness).shape == "full"


def test_a_list_with_a_field_is_a_dict(harness: Harness) -> None:
    harness.store.apply(replace(save("s", b"m1"), shape="list"))
    harness.store.apply(append("s", b"m2"))
    assert load(harness).shape == "list"
    harness.store.apply(append("s", a=b"1"))
    assert load(harness).shape == "full"


@pytest.mark.parametrize(("last", "expected"), [(0, []), (1, [b"m3"]), (2, [b"m2", b"m3"]), (3, None), (99, None)])
def test_load_gives_the_last_messages(harness: Harness, last: int, expected: list[bytes] | None) -> None:
    harness.store.apply(save("s", b"m1", b"m2", b"m3"))
    snapshot = load(harness, last=last)
    assert snapshot.elements == ([b"m1", b"m2", b"m3"] if expected is None else expected)
    assert (snapshot.count, snapshot.next_seq) == (3, 4)


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
        merge("s", ("a", None, b"1")),
        Delete(session_id="s", owner=ANY),
        Touch(session_id="s", owner=ANY),
    ],
    ids=lambda command: type(command).__name__,
)
def test_only_a_whole_save_creates(harness: Harness, command: Append | Save | Delete | Touch) -> None:
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
    harness.store.apply(replace(save("s", a=b"1"), shape="data", history=Rewrite(0, None)))
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


def test_the_same_value_is_no_collision(harness: Harness) -> None:
    harness.store.apply(save("s", a=b"false", b=b"1"))
    for _ in range(2):
        harness.store.apply(merge("s", ("a", b"false", b"true"), ("b", b"1", None)))
    assert load(harness).fields == {"a": b"true"}


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
    harness.store.apply(replace(save("s", a=b"1"), shape="data", history=Rewrite(0, None)))
    harness.store.apply(merge("s", history=Extend(0, (b"m1",))))
    assert load(harness).shape == "full"
    harness.store.apply(replace(save("s", b"m1"), shape="list"))
    harness.store.apply(merge("s", ("a", None, b"1")))
    assert load(harness).shape == "full"


def test_a_late_write_does_not_reach_the_successor(harness: Harness) -> None:
    """Version, seqs and history version start anew: only the time of creation tells them apart."""
    first = harness.store.apply(save("s", b"m1", a=b"1")).created_at_ms
    harness.store.apply(Delete(session_id="s", owner=ANY))
    second = harness.store.apply(save("s", b"m1", a=b"1")).created_at_ms
    late: list[Save | Append | Touch] = [
        replace(merge("s", ("a", b"1", b"2"), history=Rewrite(1, (b"x",))), created_at_ms=first),
        replace(merge("s", history=Extend(2, (b"x",))), created_at_ms=first),
        replace(append("s", b"x"), created_at_ms=first),
        Touch(session_id="s", owner=ANY, created_at_ms=first, ttl_ms=5_000),
    ]
    for command in late:
        with pytest.raises(SessionNotFound):
            harness.store.apply(command)
    assert contents(load(harness)) == ({"a": b"1"}, [b"m1"], 1, 2)
    assert max(harness.lifetimes("s")) > TTL - 1000
    for command in late:
        harness.store.apply(replace(command, created_at_ms=None if isinstance(command, Save) else second))
        if isinstance(command, Save) and isinstance(command.history, Rewrite):
            assert load(harness).elements == [b"x"]


def test_appends_and_drops_merge(harness: Harness) -> None:
    harness.store.apply(save("s", b"m1", b"m2", b"m3"))
    harness.store.apply(append("s", b"m4"))
    receipt = harness.store.apply(merge("s", history=Extend(3, (b"m5",))))
    assert (receipt.first_seq, receipt.history_version_before) == (5, 2)
    harness.store.apply(merge("s", history=Extend(2, (b"m6",))))
    snapshot = load(harness)
    assert (snapshot.elements, snapshot.next_seq, snapshot.count) == ([b"m3", b"m4", b"m5", b"m6"], 7, 4)


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
    harness.store.apply(save("s"))
    harness.store.apply(replace(append("s", b"m1"), expected="1"))
    with pytest.raises(ConflictError) as caught:
        harness.store.apply(replace(append("s", b"m2"), expected="1"))
    assert (caught.value.expected, caught.value.actual) == (1, 2)
    assert load(harness).elements == [b"m1"]


# ---- once


COMMANDS: dict[str, Callable[[], Command]] = {
    "save": lambda: save("s", b"x", a=b"2"),
    "merge": lambda: merge("s", ("a", b"1", b"2"), history=Extend(0, (b"x",))),
    "append": lambda: append("s", b"x", a=b"2"),
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
    late = append("s", b"m2")
    harness.store.apply(start)
    harness.store.apply(late)
    harness.store.apply(Delete(session_id="s", owner=ANY))
    assert harness.store.apply(start).repeated
    assert harness.store.apply(late).repeated
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
    with pytest.raises(TokenReused):
        harness.store.apply(replace(append("s", b"m2"), token="T", digest="d2"))
    assert load(harness).elements == [b"m1"]


def test_only_the_last_tokens_are_kept(harness: Harness) -> None:
    most = SETTINGS.max_tokens
    commands: list[Command] = [save("s"), *(append("s", b"m") for _ in range(most * 5 // 4 - 1))]
    for command in commands:
        harness.store.apply(command)
    assert all(harness.store.apply(command).repeated for command in commands[-most:])
    assert not harness.store.apply(commands[0]).repeated, "the oldest is forgotten: the session is saved anew"


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
    command = replace(append("s", b"m1", owner="alice"), token="T")
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


def test_every_interaction_moves_the_one_lifetime(harness: Harness) -> None:
    first = save("s", b"m1")
    harness.store.apply(first)
    actions: list[Callable[[], object]] = [
        lambda: load(harness),
        lambda: load(harness, last=0),
        lambda: harness.store.apply(append("s", b"m")),
        lambda: harness.store.apply(merge("s", ("a", None, b"1"))),
        lambda: harness.store.apply(save("s", b"m")),
        lambda: harness.store.apply(Touch(session_id="s", owner=ANY)),
        lambda: harness.store.apply(first),
    ]
    for action in actions:
        harness.age(600_000)
        assert all(TTL - 601_000 < lifetime <= TTL - 600_000 for lifetime in harness.lifetimes("s"))
        action()
        assert all(TTL - 1_000 < lifetime <= TTL for lifetime in harness.lifetimes("s"))
        assert len(set(harness.lifetimes("s"))) == 1


def test_a_touch_is_no_write(harness: Harness) -> None:
    harness.store.apply(save("s", b"m1"))
    before = load(harness)
    receipt = harness.store.apply(Touch(session_id="s", owner=ANY))
    assert (receipt.version, receipt.updated_at_ms) == (before.version, before.updated_at_ms)


def lifetime(receipt: Receipt) -> int:
    return receipt.expires_at_ms - receipt.updated_at_ms


def test_a_complete_session_lives_longer(harness: Harness) -> None:
    assert lifetime(harness.store.apply(save("s", complete=b"false"))) == TTL
    assert lifetime(harness.store.apply(append("s", complete=b"true"))) == TTL_COMPLETE
    assert max(harness.lifetimes("s")) > TTL_COMPLETE - 1_000
    load(harness)
    assert max(harness.lifetimes("s")) > TTL_COMPLETE - 1_000
    assert lifetime(harness.store.apply(merge("s", ("complete", b"true", None)))) == TTL


def test_a_lifetime_of_its_own_wins_and_stays(harness: Harness) -> None:
    harness.store.apply(save("s", ttl_ms=50_000, complete=b"true"))
    load(harness)
    assert 49_000 < max(harness.lifetimes("s")) <= 50_000
    assert lifetime(harness.store.apply(save("s", b"m1"))) == 50_000
    harness.store.apply(Touch(session_id="s", owner=ANY, ttl_ms=70_000))
    assert lifetime(harness.store.apply(append("s", b"m2"))) == 70_000


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
