"""A loaded value is brought up to what others wrote since, in place, and its own changes stay changes."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from flask_convstore.domain.commands import Extend, FieldChange, Merge, Rewrite
from flask_convstore.domain.json_text import encode
from flask_convstore.domain.types import ANY
from flask_convstore.errors import NotSerializable
from flask_convstore.sessions import diff
from flask_convstore.sessions.baseline import Baseline
from flask_convstore.sessions.content import ContentLimits
from flask_convstore.sessions.merge import Began, settled, take_over, with_written
from flask_convstore.sessions.session import plain

from ..harness import MemoryHarness, PlainConversations
from ..operations.test_sessions import get

FORM = ContentLimits("history", 10**6, 10**6, 10)
GONE = object()


class World:
    """A session as it was loaded, and as others have written it since."""

    def __init__(self, was: Any, theirs: Any) -> None:
        self.conversations = PlainConversations(MemoryHarness().store)
        self.conversations.save_session("s", was)
        stale = get(self.conversations)
        session = get(self.conversations)
        if isinstance(theirs, dict):
            for name in [name for name in session if name not in theirs]:
                del session[name]
            session.update(copy.deepcopy(theirs))
        else:
            session[:] = theirs
        self.conversations.save_session("s", session)
        self.before: Baseline = stale._base
        self.now = get(self.conversations)

    def taken_over(self, mine: Any, held: Any = None) -> Merge | None:
        """Bring *mine* up to date. The result is the part that is still to be written."""
        base = take_over(mine, self.before, self.now._base, plain(self.now), FORM, held)
        assert (base.snapshot.version, base.snapshot.created_at_ms) == (
            self.now.version,
            self.before.snapshot.created_at_ms,
        )
        assert len(base.seqs) == len(base.snapshot.elements)
        assert None not in base.snapshot.fields.values()
        return diff.difference(base, mine, FORM, ANY, None)


@pytest.mark.parametrize(
    ("was", "theirs", "mine", "value", "loaded"),
    [
        (1, 2, 1, 2, GONE),  # theirs only
        (1, GONE, 1, GONE, GONE),
        (GONE, 2, GONE, 2, GONE),
        ([1], {"a": 1}, [1], {"a": 1}, GONE),
        (1, 1, 3, 3, b"1"),  # mine only
        (1, 1, GONE, GONE, b"1"),
        (GONE, GONE, 3, 3, None),
        ("a", "b", "c", "c", b'"a"'),  # both: it will collide
        ("a", GONE, "c", "c", b'"a"'),
        ("a", "b", GONE, GONE, b'"a"'),
        (GONE, "b", "c", "c", None),
        ("a", "b", "b", "b", b'"a"'),  # both alike, but both may have taken the step
        ("a", GONE, GONE, GONE, b'"a"'),
        (1, 2, 2, 2, b"1"),  # both may have counted
        (-1, -2, -2, -2, b"-1"),
        (GONE, 1, 1, 1, None),
    ],
)
def test_fields(was: Any, theirs: Any, mine: Any, value: Any, loaded: Any) -> None:
    def content(field: Any) -> dict[str, Any]:
        return {"other": 0, "history": []} | ({} if field is GONE else {"f": field})

    own = content(mine)
    save = World(content(was), content(theirs)).taken_over(own)
    assert own == content(value)
    told = {change.name: change.loaded for change in save.fields} if save else {}
    assert told == ({} if loaded is GONE else {"f": loaded})
    assert save is None or save.history is None


def test_parts_that_the_app_holds_stay_the_same_objects() -> None:
    was: dict[str, Any] = {"d": {"a": 1, "b": {"x": 1}, "l": [1, 2]}, "l": [1], "kind": {}}
    theirs = {"d": {"b": {"x": 2}, "l": [1, 2, 3], "new": 5}, "l": [1, 2], "kind": []}
    mine = copy.deepcopy(was)
    parts: list[Any] = [mine["d"], mine["d"]["b"], mine["d"]["l"], mine["l"]]
    assert World(was, theirs).taken_over(mine) is None
    assert mine == theirs
    assert parts == [mine["d"], mine["d"]["b"], mine["d"]["l"], mine["l"]]
    assert all(
        one is other for one, other in zip(parts, [mine["d"], mine["d"]["b"], mine["d"]["l"], mine["l"]], strict=True)
    )


HISTORIES: list[tuple[str, str, str, str, Any]] = [
    ("ab", "abc", "ab", "abc", None),
    ("ab", "abc", "abx", "abcx", Extend),
    ("ab", "b", "ab", "b", None),
    ("ab", "abc", "b", "bc", Extend),
    ("abc", "abcd", "cxy", "cdxy", Extend),
    ("abc", "bc", "c", "c", Extend),
    ("abc", "c", "bc", "c", None),
    ("ab", "aB", "ab", "aB", None),
    ("ab", "aB", "abx", "aBx", Extend),
    ("", "c", "x", "cx", Extend),
    ("ab", "abc", "Ab", "Ab", Rewrite),
    ("ab", "b", "aB", "aB", Rewrite),
]


@pytest.mark.parametrize("shape", ["list", "full"])
@pytest.mark.parametrize(("was", "theirs", "mine", "value", "change"), HISTORIES)
def test_histories(shape: str, was: str, theirs: str, mine: str, value: str, change: Any) -> None:
    def content(letters: str) -> Any:
        messages = [{"letter": letter} for letter in letters]
        return messages if shape == "list" else {"a": 1, "history": messages}

    world, own = World(content(was), content(theirs)), content(mine)
    history = own if shape == "list" else own["history"]
    held = {message["letter"]: message for message in history}
    save = world.taken_over(own)
    assert own == content(value)
    assert (own if shape == "list" else own["history"]) is history
    assert all(message is held[message["letter"]] for message in history if message["letter"] in held)
    assert type(save and save.history) is (change or type(None))
    if save and isinstance(save.history, Rewrite):
        assert save.history.history_version == world.before.snapshot.history_version, "it collides"
    elif save:
        world.conversations.backend.store.apply(save)
        assert get(world.conversations) == content(value)


def test_a_history_that_came_or_went() -> None:
    with_one, without = {"a": 1, "history": ["m"]}, {"a": 1}
    mine: dict[str, Any] = dict(without)
    assert World(without, with_one).taken_over(mine) is None
    assert mine == with_one
    mine = copy.deepcopy(with_one)
    assert World(with_one, without).taken_over(mine) is None
    assert mine == without
    mine = {"a": 1, "history": ["m", "mine"]}
    world = World(with_one, without)
    save = world.taken_over(mine)
    assert mine == {"a": 1, "history": ["m", "mine"]}
    assert save
    assert isinstance(save.history, Extend)
    assert save.shape is None, "it is not begun anew: others have taken it away"
    mine = dict(without)
    save = (world := World(with_one, {"a": 1, "history": ["m", "theirs"]})).taken_over(mine)
    assert mine == without
    assert save
    assert save.history == Rewrite(world.before.snapshot.history_version, None, resets=True), "it collides"


def test_a_history_that_cannot_be_changed_stays_as_it_is() -> None:
    mine = {"history": ("m", "mine")}
    save = World({"history": ["m"]}, {"history": ["m", "theirs"]}).taken_over(mine)
    assert mine == {"history": ("m", "mine")}
    assert save
    assert isinstance(save.history, Extend)
    assert len(save.history.elements) == 1


def test_a_message_that_cannot_be_saved_is_named() -> None:
    with pytest.raises(NotSerializable, match=r"history\[1\]"):
        World(["m"], ["m", "theirs"]).taken_over(["m", object()])


def test_a_history_that_collides_is_compared_with_what_was_loaded() -> None:
    world = World({"history": ["a", "b", "c"]}, {"history": ["c", "d"]})
    base = take_over({"history": ["A", "b", "c"]}, world.before, world.now._base, plain(world.now), FORM)
    assert (list(base.seqs), base.snapshot.first_seq, base.snapshot.count) == ([1, 2, 3], 1, 3)


def test_a_history_that_is_shared_is_up_to_date_already() -> None:
    world = World({"history": ["a"]}, {"history": ["a", "b"]})
    held = {"history": ["a", "b"]}
    mine = {"history": held["history"]}
    assert world.taken_over(mine, held) is None
    assert mine == {"history": ["a", "b"]}


@pytest.mark.parametrize(
    ("loaded", "value", "stored", "settled_as", "is_merged", "collisions"),
    [
        (b"1", b"3", b"1", (b"1", b"3"), False, ()),
        (b"1", b"3", b"5", (b"5", b"7"), True, ()),
        (b"1", b"2", b"2", (b"2", b"3"), True, ()),
        (b'"a"', b'"b"', b'"c"', (b'"c"', b'"b"'), True, ("f",)),
        (b'"a"', b'"b"', b'"b"', (b'"b"', b'"b"'), False, ("f",)),
        (b"true", None, None, (None, None), False, ("f",)),
        (None, b"[]", b"[1]", (b"[1]", b"[1]"), False, ()),
        (b'{"a":1}', b'{"a":1,"b":2}', b'{"a":2}', (b'{"a":2}', b'{"a":2,"b":2}'), True, ()),
        (b'{"a":1}', None, b'{"a":2}', (b'{"a":2}', None), True, ("f",)),
        (b"1700000000", b"1700000005", b"1700000009", (b"1700000009", b"1700000009"), True, ()),
    ],
)
def test_a_field_that_both_have_written_is_merged(
    loaded: bytes | None, value: bytes, stored: bytes, settled_as: Any, is_merged: bool, collisions: Any
) -> None:
    """An app that wants conflicts raised is told of each field that both have changed."""
    found = settled(FieldChange("f", loaded, value), Began({"f": b"[]"}), stored)
    assert found == (FieldChange("f", *settled_as), is_merged, collisions)


@pytest.mark.parametrize(
    ("name", "begun", "is_default", "collisions"),
    [
        ("", b"1", False, ("",)),
        ("", b"1", True, ()),
        ("", b"0", False, ()),
        ("", b'"a"', False, ()),
        ("f", b"1", False, ()),
    ],
)
def test_a_value_that_two_have_counted_from_nothing_is_told(
    name: str, begun: bytes, is_default: bool, collisions: Any
) -> None:
    """``counts[key] = counts.get(key, 0) + 1``. The numbers with which two dicts begin are constants, as a rule."""
    found = settled(FieldChange(name, None, begun), Began({name: begun}, is_default=is_default), begun)
    assert found == (FieldChange(name, begun, begun), False, collisions)


@pytest.mark.parametrize(
    ("begun", "ours", "theirs", "merged", "collisions"),
    [
        # The first messages of both are there, although ours was there before it changed.
        ({"m": ["a"]}, {"m": ["a", "x"]}, {"m": ["b", "y"]}, {"m": ["b", "y", "a", "x"]}, ()),
        ({"m": ["a"], "n": 0}, {"m": ["a"], "n": 1}, {"m": ["b"], "n": 1}, {"m": ["b", "a"], "n": 2}, ()),
        ({"m": ["a"]}, {"m": ["a", "x"]}, {"m": ["a", "y"]}, {"m": ["a", "y", "x"]}, ()),
        ({"t": "a", "n": 0}, {"t": "a", "n": 1}, {"t": "b", "n": 0}, {"t": "a", "n": 1}, ("f.t",)),
        ({"t": "a", "n": 0}, {"t": "a", "n": 1}, {"t": "a", "n": 1}, {"t": "a", "n": 2}, ()),
        ({"t": "", "n": 0}, {"t": "", "n": 1}, {"t": "b", "n": 0}, {"t": "b", "n": 1}, ()),
        ({"o": 1, "n": 0}, {"o": 1, "n": 1}, {"n": 1}, {"n": 2, "o": 1}, ()),
        (["m", [], 1], ["m", ["x"], 1], ["m", ["y"], 1], ["m", ["y", "x"], 1], ()),
        (["m", [], 1], ["m", ["x"], 1], ["l", ["y"], 1], ["m", ["y", "x"], 1], ("f[0]",)),
    ],
)
def test_values_that_two_begin_at_once_lose_nothing_of_either(
    begun: Any, ours: Any, theirs: Any, merged: Any, collisions: Any
) -> None:
    found = settled(FieldChange("f", None, encode(ours)), Began({"f": encode(begun)}), encode(theirs))
    assert (found.change, found.collisions) == (FieldChange("f", encode(theirs), encode(merged)), collisions)


def test_a_default_yields_to_what_the_other_one_has_set() -> None:
    begun, ours, theirs = (encode({"m": messages}) for messages in (["a"], ["a", "x"], ["b"]))
    found = settled(FieldChange("f", None, ours), Began({"f": begun}, is_default=True), theirs)
    assert found == (FieldChange("f", theirs, encode({"m": ["b", "x"]})), True, ())


@pytest.mark.parametrize("key", ["m", "history"])
def test_parts_of_changed_lists_stay_the_same_objects(key: str) -> None:
    """The app may hold a list in a message. It stays in its message, also when others have changed a part of it."""
    was = {key: [{"n": number, "tags": [{"t": number}]} for number in range(5)]}
    theirs: dict[str, Any] = copy.deepcopy(was)
    del theirs[key][1]
    theirs[key][2]["tags"].append("theirs")
    theirs[key].append({"n": 5, "tags": []})
    world, mine = World(was, theirs), copy.deepcopy(was)
    messages = list(mine[key])
    tags = [message["tags"] for message in messages]
    assert world.taken_over(mine) is None
    assert mine == theirs
    for now, before in enumerate((0, 2, 3, 4)):
        assert mine[key][now] is messages[before]
        assert mine[key][now]["tags"] is tags[before]


@pytest.mark.parametrize(
    ("mine", "left", "fields"),
    [
        ({"a": 2, "history": ["m", "x"]}, None, {}),
        ({"a": 2, "history": ["m", "x", "y"]}, ["y"], {}),
        ({"a": 3, "history": ["m", "x"]}, None, {"a": b"1"}),
        ({"a": 2, "b": 1, "history": ["m", "x"]}, None, {"b": None}),
        ({"a": 1, "history": ["m"]}, None, {}),
        ({"a": 2, "history": ["m", "y"]}, ["y"], {}),
    ],
)
def test_what_was_written_of_a_copy_is_no_change_any_more(mine: Any, left: Any, fields: Any) -> None:
    conversations = PlainConversations(MemoryHarness().store)
    conversations.save_session("s", {"a": 1, "history": ["m"]})
    before = get(conversations)._base
    command = diff.difference(before, {"a": 2, "history": ["m", "x"]}, FORM, ANY, None)
    assert command
    receipt = conversations.backend.store.apply(command)
    base = with_written(mine, before, command, receipt, FORM)
    save = diff.difference(base, mine, FORM, ANY, None)
    told = {change.name: change.loaded for change in save.fields} if save else {}
    assert told == fields
    if left is None:
        assert save is None or save.history is None
    else:
        assert save
        assert isinstance(save.history, Extend)
        assert [element.partition(b"\n")[2].decode().strip('"') for element in save.history.elements] == left


def test_what_was_written_of_a_copy_that_dropped_the_oldest_is_not_written_again() -> None:
    conversations = PlainConversations(MemoryHarness().store)
    conversations.save_session("s", {"history": ["m", "n"]})
    before = get(conversations)._base
    mine = {"history": ["n", "x"]}
    command = diff.difference(before, mine, FORM, ANY, None)
    assert command
    receipt = conversations.backend.store.apply(command)
    save = diff.difference(with_written(mine, before, command, receipt, FORM), mine, FORM, ANY, None)
    assert not (save and save.history and save.history.elements)
    without_history = with_written({"a": 1}, before, command, receipt, FORM)
    assert without_history.snapshot.elements == before.snapshot.elements


def test_fields_that_were_added_and_removed_in_a_copy_are_no_change_any_more() -> None:
    conversations = PlainConversations(MemoryHarness().store)
    conversations.save_session("s", {"old": 1, "kept": 1, "history": ["m"]})
    before = get(conversations)._base
    command = diff.difference(before, {"new": 2, "kept": 1, "history": ["m", "x"]}, FORM, ANY, None)
    assert command
    receipt = conversations.backend.store.apply(command)
    base = with_written({"new": 2, "kept": 1, "history": ["m", "x"]}, before, command, receipt, FORM)
    read = get(conversations)._base
    assert base.snapshot.fields == read.snapshot.fields == {"new": b"2", "kept": b"1"}
    assert (list(base.seqs), base.snapshot.count, base.snapshot.elements) == (
        list(read.seqs),
        read.snapshot.count,
        read.snapshot.elements,
    )
    unlike = with_written({"old": 5, "new": 3, "kept": 1, "history": ["m"]}, before, command, receipt, FORM)
    assert unlike.snapshot.fields == {"old": b"1", "kept": b"1"}, (
        "what differs is still compared with what it was before"
    )


EDITED: dict[str, tuple[list[Any], list[Any], int, int | None]] = {
    "behind a removed one": ([{"id": 1}, {"id": 2, "tags": []}], [{"id": 2, "tags": ["x"]}], 1, 0),
    "before a removed one": ([{"id": 1, "tags": []}, {"id": 2}], [{"id": 1, "tags": ["x"]}], 0, 0),
    "between a removed and a new one": (
        [{"id": 1, "tags": []}, {"id": 2, "tags": [1]}], [{"id": 2, "tags": ["x"]}, {"id": 3, "tags": ["y"]}], 1, 0
    ),
    "and the others too": (
        [{"id": 1, "tags": []}, {"id": 2, "tags": [1]}], [{"id": 1, "tags": ["x"]}, {"id": 2, "tags": ["y"]}], 1, 1
    ),
    "beside a new one": ([{"id": 1, "tags": []}], [{"id": 0}, {"id": 1, "tags": ["x"]}], 0, 1),
    "in a list": ([["a", 1], ["b", 1]], [["b", 1, 2]], 1, 0),
    "removed": ([{"id": 1, "tags": []}, {"id": 2, "tags": []}], [{"id": 2, "tags": ["x"]}], 0, None),
}  # fmt: skip


@pytest.mark.parametrize("case", EDITED)
@pytest.mark.parametrize("key", ["items", "history"])
def test_an_edited_element_stays_the_same_object_beside_others_that_come_and_go(case: str, key: str) -> None:
    """A thread that holds it goes on with the right one."""
    old, new, was, now = EDITED[case]
    value = {key: copy.deepcopy(old)}
    held = value[key][was]
    assert World({key: old}, {key: new}).taken_over(value) is None
    assert value[key] == new
    assert [index for index, part in enumerate(value[key]) if part is held] == ([] if now is None else [now])
