"""Joined bodies: they are decoded as one by one, and no other value than the stored one is taken for it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import gc
import itertools
import sys
from collections import OrderedDict
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flask_convstore.domain import bodies, json_text
from flask_convstore.domain.bodies import Bodies
from flask_convstore.domain.messages import Message, Usage, bodies_of, join_element
from flask_convstore.errors import NotSerializable

from .test_json_text import JSON

AT = 1_800_000_000_000
NAN, INF = float("nan"), float("inf")
MANY = 450
"""More than two parts, of which the last one is shorter."""


class Word(enum.StrEnum):
    A = "a"


class OwnText(str):
    __slots__ = ()


class OwnFloat(float):
    __slots__ = ()


class AnyEqual:
    """An object that is equal to all."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = object.__hash__

    def to_dict(self) -> Any:
        return None


@dataclasses.dataclass
class Fields:
    a: Any = None


class Plain:
    def __init__(self, a: Any) -> None:
        self.a = a


class Joined(Bodies):
    """Bodies that tell whether they are those of all values."""

    def are_of(self, values: Any, *, is_tagged: bool = False) -> bool:
        return len(values) == self.count == self.count_same(values, is_tagged=is_tagged)


def joined(texts: list[bytes]) -> Joined:
    return Joined([join_element(AT, text) for text in texts])


@given(st.lists(JSON, max_size=5), st.lists(st.booleans(), min_size=5, max_size=5))
def test_many_are_decoded_as_one_by_one(values: list[object], have_facts: list[bool]) -> None:
    texts = [json_text.encode(value) for value in values]
    facts = [{"id": "x"} if has_facts else {} for has_facts in have_facts]
    elements = [join_element(AT, text, fact) for text, fact in zip(texts, facts, strict=False)]
    found = Bodies(elements)
    assert list(map(repr, found.decode())) == list(map(repr, map(json_text.decode, texts)))
    assert found.texts == bodies_of(elements) == texts
    assert found.count == len(texts)


def test_a_deep_text_among_many_is_decoded_too() -> None:
    """One level more, that of the array of all, is over orjson's limit."""
    deep = b"[" * 1024 + b"]" * 1024
    assert joined([deep, b"1"]).decode()[1] == 1


@pytest.mark.parametrize("bad", [b"", b"1,2", b"1],[2", b"{", b"\xff", b"nan", b"[1", b"2],3"])
@pytest.mark.parametrize("place", [1, 199, 200, MANY - 1])
def test_a_bad_text_among_many_is_found(bad: bytes, place: int) -> None:
    for others in (b"1", b"{}"):
        texts = [others] * MANY
        texts[place] = bad
        with pytest.raises(ValueError) as caught:
            joined(texts).decode()
        assert caught.value.args[1] == place


def test_texts_that_are_a_list_together_are_no_texts() -> None:
    with pytest.raises(ValueError):
        joined([b"[1", b"2],3"]).decode()
    with pytest.raises(ValueError):
        joined([b'{"a":[{}', b"{}]}", b"{}"]).decode()


@pytest.mark.parametrize("element", [b"", b"1", b'2{"at":1800000000000}\n{}', b'1{"at":1800000000000}{}'])
def test_an_element_that_is_none_of_ours_is_found(element: bytes) -> None:
    elements = [join_element(AT, b"{}")] * MANY
    elements[333] = element
    for asked in (
        Bodies(elements).decode,
        lambda: Bodies(elements).texts,
        lambda: Bodies(elements).count_same([{}] * MANY),
    ):
        with pytest.raises(ValueError, match="not a message of flask-convstore") as caught:
            asked()
        assert caught.value.args[1] == 333


# ---- the same values

ATOMS = st.sampled_from([None, True, False, 0, 1, 0.0, -0.0, 1.0, "", "a", "nan", "null", "2026-01-31"])
STRANGE: list[Any] = [
    NAN,
    INF,
    -INF,
    OwnFloat("nan"),
    Word.A,
    OwnText("a"),
    Decimal("1"),
    AnyEqual(),
    Fields(),
    Fields("a"),
    dt.date(2026, 1, 31),
]
NAMES = st.sampled_from(["a", "b"])
STORED = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=4,
)
NOW = st.recursive(
    ATOMS | st.sampled_from(STRANGE),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.lists(inner, max_size=2).map(tuple)
        | st.dictionaries(NAMES, inner, max_size=2)
        | st.dictionaries(NAMES, inner, max_size=2).map(OrderedDict)
        | inner.map(lambda value: vars(Plain(value)))
    ),
    max_leaves=4,
)


def alike(value: Any) -> Any:
    """Make a value of other types that JSON writes as *value*."""
    if isinstance(value, dict):
        return OrderedDict((name, alike(part)) for name, part in value.items())
    if isinstance(value, list):
        return tuple(map(alike, value))
    return {"a": Word.A, "2026-01-31": dt.date(2026, 1, 31)}.get(value, value) if isinstance(value, str) else value


def encoded(values: Any, *, is_tagged: bool) -> list[bytes] | None:
    try:
        return [json_text.encode(value, is_tagged=is_tagged) for value in values]
    except NotSerializable:
        return None


@given(st.lists(STORED, min_size=1, max_size=3), st.booleans(), st.data())
@example([{"a": None}], False, None)
def test_no_other_values_are_taken_for_the_stored_ones(stored: list[Any], is_tagged: bool, data: Any) -> None:
    """Not even behind a look at the right values, which may be remembered."""
    texts = [json_text.encode(value) for value in stored]
    found = joined(texts)
    assert found.are_of(stored)
    tracked = joined(texts)
    assert found.are_of(tuple(tracked.decode(is_tracked=True)))
    now = (
        data.draw(
            st.lists(NOW | st.sampled_from([*stored, *map(alike, stored)]), min_size=(n := len(stored)), max_size=n)
        )
        if data
        else [{"a": NAN}]
    )
    for asked in (found, tracked, joined(texts)):
        assert not asked.are_of(now, is_tagged=is_tagged) or encoded(now, is_tagged=is_tagged) == texts


@pytest.mark.parametrize("place", [0, 1, 199, 200, 399, 400, MANY - 1])
@pytest.mark.parametrize(
    ("was", "now"),
    [
        ({"role": "user", "content": "hello"}, {"role": "user", "content": "hullo"}),
        ({"role": "user", "content": "hello"}, {"content": "hello", "role": "user"}),
        ({"role": "user", "content": "hello"}, {"role": "user"}),
        ({"role": "user", "content": "hello"}, {"role": "user", "text": "hello"}),
        ({"n": 1}, {"n": True}),
        ({"n": 1}, {"n": 1.0}),
        ({"n": 0.0}, {"n": -0.0}),
        ({"n": None}, {"n": NAN}),
        ({"n": [{"m": None}]}, {"n": [{"m": INF}]}),
        ({"n": None, "at": 1.5}, {"n": OwnFloat("nan"), "at": 1.5}),
        ({"n": ["a", ["b"]]}, {"n": ["a", ["c"]]}),
        ("text", ["text"]),
        (None, NAN),
    ],
)
def test_a_change_is_found_in_each_part(place: int, was: Any, now: Any) -> None:
    """The change is made in the decoded values themselves, or by another object in their place."""
    for is_tracked, is_remembered in itertools.product((False, True), repeat=2):
        found = joined([json_text.encode(was)] * MANY)
        values = found.decode(is_tracked=is_tracked)
        assert not is_remembered or found.are_of(values)
        if isinstance(was, dict):
            values[place].clear()
            values[place].update(now)
        else:
            values[place] = now
        assert not found.are_of(values)
        values[place] = was
        assert found.are_of(values)


def test_more_or_fewer_values_are_others() -> None:
    found = joined([b"{}"] * 3)
    assert [found.are_of([{}] * count) for count in range(5)] == [False, False, False, True, False]
    assert joined([]).are_of([])


def test_a_nan_in_the_dict_of_an_object_is_seen() -> None:
    """From Python 3.13 on, the collector does not see the values of such a dict."""
    held = Plain(NAN)
    found = joined([b'{"a":null}', b'{"a":null}'])
    assert found.are_of([{"a": None}, vars(Plain(None))])
    assert not found.are_of([{"a": None}, vars(held)])


@pytest.mark.parametrize("parts_of", [gc.get_referents, bodies._values_of])
def test_all_parts_are_looked_at(parts_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the collector, and by Python where the collector does not see all."""
    assert bodies._parts_of is (bodies._values_of if sys.version_info >= (3, 13) else gc.get_referents)
    monkeypatch.setattr(bodies, "_parts_of", parts_of)
    value = {"a": [{"b": [None, "x"]}], "n": 1, "f": 0.5}
    assert bodies._kinds_in([value, "x"]) == {dict, list, type(None), str, int, float}
    assert bodies._kinds_in(["x", {"a": "y", "b": [{"c": "z"}]}]) == {dict, list, str}
    for strange in STRANGE:
        for nested in (strange, [strange], {"a": strange}, {"a": [{"b": [strange]}]}):
            assert bodies._kinds_in(["x", nested]) == set()
    found = joined([json_text.encode(value)])
    assert found.are_of([value])
    assert not found.are_of([{**value, "a": [{"b": [NAN, "x"]}]}])


def test_a_message_object_is_not_taken_for_its_fields() -> None:
    """A ``Message`` in a history means its body."""
    message = Message({"role": "user"}, {"k": "v"}, 5, AT, "failed", Usage(1, 2), 7, ("x",), "id")
    found = joined([json_text.encode(message)])
    assert found.are_of(found.decode())
    assert not found.are_of([message])


def test_a_dict_that_looks_like_a_tag_is_not_taken_for_a_value() -> None:
    text = json_text.encode({1, 2}, is_tagged=True)
    found = joined([text])
    assert found.are_of([{1, 2}])
    assert not found.are_of([{"$convstore": "set", "value": [1, 2]}])
    assert not found.are_of([{"$convstore": "set", "value": ["1", "2"]}])
    same = joined([b'{"$convstore":"decimal","value":"1"}'])
    assert same.are_of([Decimal("1")])
    assert not same.are_of([{"$convstore": "decimal", "value": "1"}])
    assert same.are_of([Decimal("1")])
    assert not same.are_of([Decimal("1.0")])


def test_values_of_other_types_are_known_too() -> None:
    """A session that was saved, and not read since, has the app's own values."""
    day, pair = dt.date(2026, 1, 31), ("a", Word.A)
    found = joined([json_text.encode(value) for value in (day, pair)])
    assert found.are_of([day, pair])
    assert not found.are_of([day, ("a", "b")])


def test_bodies_from_a_text_on() -> None:
    """The first of several alike."""
    found = joined([b'"a"', b'"b"', b'"c"', b'"b"'])
    left = found.from_text(b'"b"')
    assert left is not None
    assert left.texts == [b'"b"', b'"c"', b'"b"']
    assert found.from_text(b'"a"') is found.from_text(b'"d"') is None


@pytest.mark.parametrize("parts", [[], [""], ["a", "", "ü"], ["x" * 1000] * 500])
@pytest.mark.parametrize("other", [None, 1, NAN, True, [], {}, b""])
def test_texts_are_told_from_all_else(parts: list[Any], other: Any) -> None:
    assert bodies._are_texts(parts)
    assert not bodies._are_texts([*parts, other])
    assert not bodies._are_texts([other, *parts])
