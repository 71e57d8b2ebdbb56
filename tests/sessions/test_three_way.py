"""Three-way merge: the cases of its table, and what holds for every list, dict and number."""

from __future__ import annotations

import copy
import datetime as dt
import itertools
import json
import time
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_convstore.domain import json_text, value_types
from flask_convstore.sessions import three_way
from flask_convstore.sessions.three_way import MISSING, Effort, merge

from ..domain.test_value_types import VALUES

HI, YO, SYSTEM = ({"role": "user", "content": "hi"}, {"role": "user", "content": "yo"}, {"role": "system"})

CASES: dict[str, tuple[Any, Any, Any, Any]] = {
    "only ours changed": ({"a": 1}, {"a": "x"}, {"a": 1}, {"a": "x"}),
    "only theirs changed": ({"a": 1}, {"a": 1}, {"a": [1]}, {"a": [1]}),
    "both made the same key": ({}, {"a": "x"}, {"a": "x"}, {"a": "x"}),
    "both set the same time": (
        {"t": None}, {"t": "2026-01-01T00:00"}, {"t": "2026-01-01T00:00"}, {"t": "2026-01-01T00:00"}
    ),
    "different keys": ({}, {"a": 1}, {"b": 2}, {"b": 2, "a": 1}),
    "a key that we removed and one that they added": ({"a": 1}, {}, {"a": 1, "b": 2}, {"b": 2}),
    "a key that they removed": ({"a": 1, "b": 1}, {"a": 1, "b": 2}, {"b": 1}, {"b": 2}),
    "a counter three levels down": (
        {"a": {"b": {"n": 1}}}, {"a": {"b": {"n": 2}}}, {"a": {"b": {"n": 5}}}, {"a": {"b": {"n": 6}}}
    ),
    "the same step of a counter": ({"n": 1}, {"n": 2}, {"n": 2}, {"n": 3}),
    "a price": ({"n": 0.1}, {"n": 0.3}, {"n": 0.2}, {"n": 0.4}),
    "a counter that became a fraction": ({"n": 1}, {"n": 1.5}, {"n": 3}, {"n": 3.5}),
    "a counter below zero": ({"n": 0}, {"n": -2}, {"n": -3}, {"n": -5}),
    "seconds since 1970": ({"t": 1_700_000_000.5}, {"t": 1_700_000_001.5}, {"t": 1_700_000_003}, {"t": 1_700_000_003}),
    "milliseconds since 1970": (
        {"t": 1_700_000_000_000}, {"t": 1_700_000_000_009}, {"t": 1_700_000_000_001}, {"t": 1_700_000_000_009}
    ),
    "times as texts": (
        {"t": "2026-01-01T00:00:00"},
        {"t": "2026-01-01T00:00:02"},
        {"t": "2026-01-01T00:00:03.5"},
        {"t": "2026-01-01T00:00:03.5"},
    ),
    "both appended": ([HI], [HI, 1], [HI, 2], [HI, 2, 1]),
    "both appended the same": ([HI], [HI, YO], [HI, YO], [HI, YO, YO]),
    "we dropped the oldest": ([1, 2, 3], [2, 3, 4], [1, 2, 3, 5], [2, 3, 5, 4]),
    "both dropped the oldest": ([1, 2, 3], [2, 3, 4], [3, 5], [3, 5, 4]),
    "removed from the middle": ([1, 2, 3], [1, 3], [1, 2, 3, 4], [1, 3, 4]),
    "sorted beside an append": ([3, 1, 2], [1, 2, 3], [3, 1, 2, 4], [1, 2, 3, 4]),
    "turned around beside an edit": ([1, 2, [3]], [[3], 2, 1], [1, 2, [4]], [[4], 2, 1]),
    "turned around beside a removal": ([1, 2, 3, 4], [4, 3, 2, 1, 5], [1, 2, 4], [4, 2, 1, 5]),
    "appended beside a sort": ([3, 1, 2], [3, 1, 2, 4], [1, 2, 3], [1, 2, 3, 4]),
    "inserted at the beginning": ([1, 2], [0, 1, 2], [1, 2, 3], [0, 1, 2, 3]),
    "both dropped the oldest of a log": ({"log": [1, 2]}, {"log": [2, 3]}, {"log": [2, 4]}, {"log": [2, 4, 3]}),
    "both dropped the oldest message": (
        {"messages": [HI, YO]}, {"messages": [YO, 1]}, {"messages": [YO, 2]}, {"messages": [YO, 2, 1]}
    ),
    "names at the beginning": (["a"], ["b", "a"], ["c", "a"], ["c", "b", "a"]),
    "names in another order, and a new one": (["a", "b"], ["b", "a"], ["a", "b", "c"], ["b", "a", "c"]),
    "both put the same list in the place of nothing": ({"a": None}, {"a": []}, {"a": []}, {"a": []}),
    "both dropped the oldest behind a prompt": (
        {"messages": [SYSTEM, HI, YO]}, {"messages": [SYSTEM, YO, 1]}, {"messages": [SYSTEM, YO, 2]},
        {"messages": [SYSTEM, YO, 2, 1]},
    ),
    "both removed another name": (["a", "b", "c"], ["a", "b"], ["b", "c"], ["b"]),
    "cleared and appended": ([HI, HI], [], [HI, HI, YO], [YO]),
    "a record with a changed first element": (["t1", HI], ["t2", HI, 1], ["t1", HI, 2], ["t2", HI, 2, 1]),
    "an element that both changed": ([{"a": 1, "b": 1}], [{"a": 2, "b": 1}], [{"a": 1, "b": 2}], [{"a": 2, "b": 2}]),
    "counters in a list": ([0, 0], [1, 0], [1, 1], [2, 1]),
    "names as a set": (["ada"], ["ada", "bob"], ["ada", "eve"], ["ada", "eve", "bob"]),
    "a name removed from a set": (["ada", "bob"], ["bob"], ["ada", "bob", "eve"], ["bob", "eve"]),
    "users > conversations > messages": (
        {"ada": {"c1": [HI]}},
        {"ada": {"c1": [HI, YO], "c2": []}},
        {"ada": {"c1": [HI, HI]}, "bob": {}},
        {"ada": {"c1": [HI, HI, YO], "c2": []}, "bob": {}},
    ),
    "lists that both began with the same": (MISSING, [SYSTEM, HI], [SYSTEM, YO], [SYSTEM, YO, HI]),
    "a record": (["m", [1], 10**9], ["n", [1, 2], 10**9 + 1], ["m", [1, 3], 10**9 + 2], ["n", [1, 3, 2], 10**9 + 2]),
    "a record all of whose places changed": ([0, []], [1, ["a"]], [2, ["b"]], [3, ["b", "a"]]),
    "a record that both began": (MISSING, ["m", ["a"], 10**9], ["m", ["b"], 10**9], ["m", ["b", "a"], 10**9]),
    "a record with a value that is yet to come": ([None, []], [None, ["a"]], ["t", ["b"]], ["t", ["b", "a"]]),
    "a message of a type of its own is no record": ([HI], [HI, [1]], [HI, [2]], [HI, [2], [1]]),
    "lines of text, some alike": (
        {"log": []},
        {"log": ["User: a", "Bot: ok"]},
        {"log": ["User: b", "Bot: ok"]},
        {"log": ["User: b", "Bot: ok", "User: a", "Bot: ok"]},
    ),
    "names where messages are kept": (
        {"messages": ["hi"]}, {"messages": ["hi", "ok"]}, {"messages": ["hi", "ok"]}, {"messages": ["hi", "ok", "ok"]}
    ),
    "dicts that both began": (MISSING, {"a": 1}, {"b": 2}, {"b": 2, "a": 1}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_changes_that_merge(case: str) -> None:
    base, ours, theirs, merged = CASES[case]
    before = copy.deepcopy((base if base is not MISSING else None, ours, theirs))
    found = merge(base, ours, theirs)
    assert (found.value, found.collisions) == (merged, ())
    assert list(map(type, [found.value])) == [type(merged)]
    assert (base if base is not MISSING else None, ours, theirs) == before, "the arguments were changed"


def tagged(value: Any) -> Any:
    return json_text.tagged(value)


AT = dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.UTC)
TAGGED: dict[str, tuple[Any, Any, Any, Any]] = {
    "a set": ({1, "a"}, {1, "b"}, {1, "a", "c"}, {1, "b", "c"}),
    "a frozenset that both began": (MISSING, frozenset({1}), frozenset({2}), frozenset({1, 2})),
    "a set of tuples": ({(1, 2)}, {(1, 2), (3, 4)}, set(), {(3, 4)}),
    "a set that was a list": ([1], {1, 2}, {1, 3}, {1, 2, 3}),
    "a tuple at each place": (("a", 1, [HI]), ("b", 2, [HI]), ("a", 3, [HI, YO]), ("b", 4, [HI, YO])),
    "a tuple that grows": ((1,), (1, 2), (1, 3), (1, 3, 2)),
    "keys that are no texts": ({1: 1, None: 2}, {1: 2}, {1: 5, None: 2, ("q", 1): 3}, {1: 6, ("q", 1): 3}),
    "keys that get texts": ({1: 1}, {"1": 2, 1: 1}, {1: 2}, {"1": 2, 1: 2}),
    "keys that are all texts in the end": ({1: 1}, {}, {1: 1, "a": 2}, {"a": 2}),
    "times": ({"t": AT}, {"t": AT + dt.timedelta(1)}, {"t": AT + dt.timedelta(2)}, {"t": AT + dt.timedelta(2)}),
    "a time that was a text": ("2025-01-01T00:00:00Z", AT, "2025-02-01T00:00:00Z", AT),
    "a record with a time": (["m", [1], AT], ["n", [1, 2], AT], ["m", [1, 3], AT], ["n", [1, 3, 2], AT]),
    "a key of tags": ({"$convstore": 1}, {"$convstore": 2}, {"$convstore": 1, "a": 1}, {"$convstore": 2, "a": 1}),
}


@pytest.mark.parametrize("case", TAGGED)
def test_tagged_values_merge_by_their_types(case: str) -> None:
    base, ours, theirs, merged = (part if part is MISSING else tagged(part) for part in TAGGED[case])
    found = merge(base, ours, theirs)
    assert (value_types.restore(copy.deepcopy(found.value)), found.collisions) == (TAGGED[case][3], ())
    assert tagged(value_types.restore(copy.deepcopy(found.value))) == found.value, "its text is another one"
    assert json.dumps(merged, sort_keys=True) == json.dumps(found.value, sort_keys=True)


TAGGED_COLLISIONS: dict[str, tuple[Any, Any, Any]] = {
    "tuples of other lengths, where none was": (None, ("a", 1), ("b",)),
    "a price": (Decimal(1), Decimal(2), Decimal(3)),
    "an id": (uuid.UUID(int=1), uuid.UUID(int=2), uuid.UUID(int=3)),
    "a day and a text": (dt.date(2026, 1, 1), dt.date(2026, 1, 2), "tomorrow"),
    "a set and a list": ({1}, {1, 2}, [1]),
    "a tuple and a list": ((1,), (1, 2), [1]),
    "a set and a dict": ({1}, {1: 2}, {1, 2}),
}


@pytest.mark.parametrize("case", TAGGED_COLLISIONS)
def test_other_tagged_values_collide_as_a_whole(case: str) -> None:
    base, ours, theirs = map(tagged, TAGGED_COLLISIONS[case])
    assert merge({"a": base}, {"a": ours}, {"a": theirs}) == ({"a": ours}, ("a",))


@pytest.mark.parametrize("base", [None, MISSING])
def test_tuples_that_both_made_are_not_joined(base: Any) -> None:
    sides = {"at": base} if base is None else {}, {"at": tagged((1, "b"))}, {"at": tagged((3, "d"))}
    assert merge(*sides) == ({"at": tagged((1, "b"))}, ("at[0]", "at[1]"))


@given(VALUES, VALUES, VALUES)
def test_tagged_values_stay_tagged_values(base: Any, ours: Any, theirs: Any) -> None:
    """A merge never makes JSON that is no value, and its text is the text of the merged value."""
    merged = merge(*map(tagged, (base, ours, theirs))).value
    text = json_text.write(merged)
    assert json_text.encode(json_text.decode(text), is_tagged=True) == text
    assert merge(*map(tagged, (base, ours, base))) == (tagged(ours), ())


COLLISIONS: dict[str, tuple[Any, Any, Any, Any, list[str]]] = {
    "the same change": ({"a": None}, {"a": "x"}, {"a": "x"}, {"a": "x"}, ["a"]),
    "a flag that both turned": ({"a": False}, {"a": True}, {"a": True}, {"a": True}, ["a"]),
    "a key that both took": ({"a": {"k": 1, "l": 2}}, {"a": {"l": 2}}, {"a": {"l": 2}}, {"a": {"l": 2}}, ["a.k"]),
    "an element of a set that both took": (
        {"a": tagged({1, 2})}, {"a": tagged({2})}, {"a": tagged({2})}, {"a": tagged({2})}, ["a"]
    ),
    "a number key that both took": ({"a": tagged({1: 1})}, {"a": {}}, {"a": {}}, {"a": {}}, ["a.1"]),
    "lists that both set": ({"a": None}, {"a": ["x"]}, {"a": ["y"]}, {"a": ["y", "x"]}, ["a"]),
    "dicts that both set": ({"a": ""}, {"a": {"x": 1}}, {"a": {"y": 1}}, {"a": {"y": 1, "x": 1}}, ["a"]),
    "sets that both set": (
        {"a": None}, {"a": tagged({1})}, {"a": tagged({2})}, {"a": tagged({1, 2})}, ["a"]
    ),
    "a message that both took": (
        {"messages": [HI, YO]}, {"messages": [YO]}, {"messages": [YO]}, {"messages": [YO]}, ["messages[0]"]
    ),
    "an id that both added": ({"seen": [7]}, {"seen": [7, 8]}, {"seen": [7, 8]}, {"seen": [7, 8, 8]}, ["seen"]),
    "names that both replaced": ({"a": ["x"]}, {"a": ["y"]}, {"a": ["z"]}, {"a": ["z", "y"]}, ["a"]),
    "a name in the place of one": (
        {"a": ["x", "k"]}, {"a": ["y", "k"]}, {"a": ["z", "k"]}, {"a": ["y", "k"]}, ["a[0]"]
    ),
    "the same name at the beginning": (
        {"a": ["k"]}, {"a": ["y", "k"]}, {"a": ["y", "k"]}, {"a": ["y", "y", "k"]}, ["a"]
    ),
    "names that both turned": ({"q": ["a", "b"]}, {"q": ["b", "a"]}, {"q": ["b", "a"]}, {"q": ["b", "a"]}, ["q"]),
    "texts": ({"a": {"b": "x"}}, {"a": {"b": "y"}}, {"a": {"b": "z"}}, {"a": {"b": "y"}}, ["a.b"]),
    "true is no number": ({"a": 1}, {"a": True}, {"a": 2}, {"a": True}, ["a"]),
    "changed and removed": ({"a": "x"}, {"a": "y"}, {}, {"a": "y"}, ["a"]),
    "removed and changed": ({"a": "x"}, {}, {"a": "y"}, {}, ["a"]),
    "another type": ({"a": []}, {"a": {}}, {"a": [1]}, {"a": {}}, ["a"]),
    "numbers that both set first": ({}, {"n": 1}, {"n": 1}, {"n": 1}, ["n"]),
    "a sum of over 64 bits": ({"n": 0}, {"n": 2**63}, {"n": 2**63 + 1}, {"n": 2**63}, ["n"]),
    "a sum that is infinite": ({"n": 0.0}, {"n": 1e308}, {"n": 1.5e308}, {"n": 1e308}, ["n"]),
    "an element": ([{"t": "x"}], [{"t": "y"}], [{"t": "z"}], [{"t": "y"}], ["[0].t"]),
    "lists that both replaced": ({"a": [1, 2, 3]}, {"a": [7, 8, 9]}, {"a": [4, 5, 6]}, {"a": [7, 8, 9]}, ["a"]),
    "a task that both took": ({"q": [HI, YO]}, {"q": [YO]}, {"q": [YO]}, {"q": [YO]}, ["q[0]"]),
    "the newest message that both took back": (
        {"messages": [HI, YO]}, {"messages": [HI]}, {"messages": [HI]}, {"messages": [HI]}, ["messages[1]"]
    ),
    "a name that both took": (
        {"deck": ["a", "b", "c"]}, {"deck": ["a"]}, {"deck": ["a", "b"]}, {"deck": ["a"]}, ["deck[2]"]
    ),
    "a name that both added": ({"votes": []}, {"votes": ["ok"]}, {"votes": ["ok"]}, {"votes": ["ok"]}, ["votes"]),
    "a queue that both turned": ({"q": [1, 2, 3]}, {"q": [2, 3, 1]}, {"q": [2, 3, 1]}, {"q": [2, 3, 1]}, ["q"]),
    "moved, removed, edited": ({"q": [1, 2, [3]]}, {"q": [2, 1]}, {"q": [1, 2, [4]]}, {"q": [2, 1, [4]]}, ["q[2]"]),
    "moved by both": ({"q": [1, 2, 3]}, {"q": [3, 2, 1]}, {"q": [2, 3, 1, 4]}, {"q": [3, 2, 1, 4]}, ["q"]),
    "a pair that both made": ({"best": None}, {"best": ["a", 1]}, {"best": ["b", 1]}, {"best": ["a", 1]}, ["best"]),
    "a text and a flag that both made": ({}, {"last": ["a", True]}, {"last": ["b", True]}, {"last": ["a", True]}, ["last"]),
    "lists that both made alike": ({}, {"log": [HI]}, {"log": [HI]}, {"log": [HI]}, ["log"]),
    "lists that both began alike": ({}, {"log": [HI, YO]}, {"log": [HI, SYSTEM]}, {"log": [HI, SYSTEM, YO]}, ["log"]),
    "names that both made alike": ({}, {"votes": ["ok"]}, {"votes": ["ok"]}, {"votes": ["ok"]}, ["votes"]),
    "a time with a zone and one without": (
        {"t": ""}, {"t": "2026-01-01T00:00:00"}, {"t": "2026-01-01T00:00:00Z"}, {"t": "2026-01-01T00:00:00"}, ["t"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", COLLISIONS)
def test_the_last_one_wins_a_collision_which_is_told(case: str) -> None:
    base, ours, theirs, merged, paths = COLLISIONS[case]
    found = merge(base, ours, theirs)
    assert (found.value, list(found.collisions)) == (merged, paths)
    assert found.value is not theirs or found.value == ours


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=2),
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(st.text("abc", max_size=1), parts, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON)
def test_a_change_of_one_side_is_taken_as_it_is(base: Any, changed: Any) -> None:
    assert merge(base, changed, base) == (changed, ())
    assert merge(base, base, changed) == (changed, ())


@given(JSON, JSON, JSON)
def test_any_values_merge_and_a_merge_repeated_changes_nothing(base: Any, ours: Any, theirs: Any) -> None:
    merged = merge(base, ours, theirs).value
    assert merge(theirs, merged, theirs) == (merged, ())
    assert merge(merged, merged, merged) == (merged, ())


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(-9, 9)), st.data())
def test_counters_add_up_whoever_comes_first(base: dict[str, int], data: st.DataObject) -> None:
    steps = st.fixed_dictionaries({name: st.integers(-5, 5) for name in base})
    ours, theirs = data.draw(steps), data.draw(steps)
    sides = [{name: base[name] + side[name] for name in base} for side in (ours, theirs)]
    total = {name: base[name] + ours[name] + theirs[name] for name in base}
    assert merge(base, sides[0], sides[1]) == (total, ())
    assert merge(base, sides[1], sides[0]) == (total, ())


@given(st.lists(st.integers(0, 99).map(str), unique=True), st.data())
def test_a_set_of_texts_has_what_both_added_without_what_either_removed(base: list[str], data: st.DataObject) -> None:
    removals = st.sets(st.sampled_from(base)) if base else st.just(set[str]())
    additions = st.lists(st.integers(100, 120).map(str), unique=True)
    removed = data.draw(removals), data.draw(removals)
    added = data.draw(additions), data.draw(additions)
    sides = [[text for text in base if text not in gone] + new for gone, new in zip(removed, added, strict=True)]
    found = merge(base, sides[0], sides[1])
    assert sorted(found.value) == sorted({*base, *added[0], *added[1]} - removed[0] - removed[1])
    assert sorted(merge(base, sides[1], sides[0]).value) == sorted(found.value)


@given(st.integers(0, 8), st.integers(0, 8), st.integers(0, 8), st.integers(0, 3), st.integers(0, 3))
def test_a_list_keeps_what_nobody_dropped_and_all_that_was_appended(
    length: int, our_drop: int, their_drop: int, our_added: int, their_added: int
) -> None:
    base = [{"n": number} for number in range(length)]
    ours = base[our_drop:] + [{"ours": number} for number in range(our_added)]
    theirs = base[their_drop:] + [{"theirs": number} for number in range(their_added)]
    both_replaced = our_drop >= length <= their_drop and our_added and their_added
    if not both_replaced:
        merged = merge(base, ours, theirs).value
        expected = base[max(our_drop, their_drop) :] + theirs[max(0, length - their_drop) :]
        assert sorted(map(str, merged)) == sorted(map(str, expected + ours[max(0, length - our_drop) :]))


def test_very_long_lists_are_not_aligned_one_by_one() -> None:
    """Appending to a long list costs nothing. Two long lists in another order collide instead of taking minutes."""
    long = list(range(30_000))
    assert merge(long, [*long, -1], [*long, -2]).value == [*long, -2, -1]
    found = merge(long, long[::-1], [*long, 1])
    assert found.collisions == ("",)


HOSTILE: dict[str, tuple[Any, Any, Any]] = {
    "lists of few different elements": ([0] * 1000, [1, 0] * 500, [0, 1] * 500),
    "many such lists": ([[0] * 100] * 500, [[1, 0] * 50] * 500, [[0, 1] * 50] * 500),
    "a large set": (list(map(str, range(50_000))), list(map(str, range(1, 50_000))), list(map(str, range(50_001)))),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_lists_of_a_megabyte_occupy_a_worker_for_long(name: str) -> None:
    """A client may choose what is stored. The second write takes about a second, not minutes."""
    base, ours, theirs = HOSTILE[name]
    began = time.process_time()
    merge(base, ours, theirs)
    assert time.process_time() - began < 5


def test_paths_of_collisions_are_bounded() -> None:
    """A long key above many parts must not stand in the path of each."""
    base, ours, theirs = (
        {"k" * 30_000: {str(number): side for number in range(1000)}} for side in ("base", "ours", "theirs")
    )
    collisions = merge(base, ours, theirs, "field").collisions
    assert len(collisions) == 1000
    assert all(path.startswith("field.kkk") and len(path) < 250 for path in collisions)


def test_the_merges_of_one_write_share_their_effort() -> None:
    """Many fields, each with a list that takes long, take no longer together than one."""
    base = list(range(900))
    ours, theirs = [*reversed(base), "ours"], [*base[450:], *base[:450], "theirs"]
    effort = Effort()
    found = [merge(base, ours, theirs, "f", effort) for _ in range(8)]
    assert ["theirs" in merged.value for merged in (found[0], found[-1])] == [True, False]
    assert found[-1] == (ours, ("f",))


@pytest.mark.parametrize("kind", ["dicts", "lists"])
def test_a_merge_looks_at_each_part_once_however_deep_it_lies(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """The same change under 90 levels costs the levels more than under 10, and not the content once for each level."""
    compare = three_way._Merge._same
    counts: list[int] = []

    def deep(value: Any, levels: int) -> Any:
        for _ in range(levels):
            value = {"d": value} if kind == "dicts" else [value]
        return value

    def counted(self: Any, one: Any, other: Any) -> bool:
        counts[-1] += 1
        return compare(self, one, other)

    def written(value: Any) -> str:
        raise AssertionError("one changed element needs no aligning")

    monkeypatch.setattr(three_way._Merge, "_same", counted)
    monkeypatch.setattr(three_way, "text_of", written)
    for levels in (10, 90):
        counts.append(0)
        base, ours, theirs = (deep({"m": ["x"] * 1000, "n": n}, levels) for n in (0, 1, 2))
        assert merge(base, ours, theirs).value == deep({"m": ["x"] * 1000, "n": 3}, levels)
    assert counts[1] - counts[0] <= 80 * 10 < counts[0]


def test_equal_numbers_of_two_types_are_not_the_same() -> None:
    for one, other in itertools.permutations([1, 1.0, True], 2):
        assert merge({"a": [one]}, {"a": [other]}, {"a": [one]}).value["a"][0] is other
    assert repr(merge([0.0], [-0.0], [0.0]).value) == "[-0.0]"
