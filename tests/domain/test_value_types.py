"""Tagged JSON: each value comes back as it went in, plain readers see plain JSON, and no data becomes a tag."""

from __future__ import annotations

import collections
import datetime as dt
import enum
import uuid
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_convstore.domain import json_text, value_types
from flask_convstore.domain.bodies import Bodies
from flask_convstore.domain.messages import join_element
from flask_convstore.domain.value_types import KEY
from flask_convstore.errors import NotSerializable, TooDeep

AT = 1_800_000_000_000
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    [KEY, "value", "datetime", "set"]
)
OFFSETS = st.sampled_from([None, dt.UTC, dt.timezone(dt.timedelta(hours=-5, minutes=30))])
DATETIMES = st.datetimes(timezones=OFFSETS).map(lambda at: at.replace(fold=0))
TIMES = st.builds(dt.time, st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.sampled_from([0, 123_456]))
JSON_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
SCALARS = (
    JSON_SCALARS
    | DATETIMES
    | st.dates()
    | TIMES
    | st.timedeltas()
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.binary(max_size=8)
)
HASHABLE = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(TEXTS, inner, max_size=4)
        | st.dictionaries(HASHABLE, inner, max_size=3)
        | st.sets(HASHABLE, max_size=3)
        | st.frozensets(HASHABLE, max_size=3)
    ),
    max_leaves=12,
)


def typed(value: Any) -> Any:
    """Describe a value so that equal descriptions are the same value of the same types: 1, 1.0 and True differ."""
    kind = type(value).__name__
    if isinstance(value, dict):
        return kind, {typed(key): typed(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return kind, tuple(map(typed, value))
    if isinstance(value, (set, frozenset)):
        return kind, frozenset(map(typed, value))
    return kind, repr(value)


def tagged(value: Any) -> bytes:
    return json_text.encode(value, is_tagged=True)


@given(VALUES)
def test_a_value_comes_back_as_it_went_in(value: Any) -> None:
    text = tagged(value)
    assert typed(json_text.decode(text)) == typed(value)
    assert [typed(one) for one in Bodies([join_element(AT, text)] * 2).decode()] == [typed(value)] * 2


@given(VALUES)
def test_a_text_decoded_and_encoded_is_the_same_text(value: Any) -> None:
    text = tagged(value)
    assert tagged(json_text.decode(text)) == text
    assert Bodies([join_element(AT, text)] * 3).count_same([json_text.decode(text)] * 3) == 3 or b"null" in text


PLAIN = st.recursive(
    DATETIMES | st.dates() | TIMES | st.uuids() | st.decimals(allow_nan=False) | JSON_SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple) | st.dictionaries(TEXTS, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(PLAIN)
def test_other_readers_see_what_a_plain_store_holds(value: Any) -> None:
    plain_text = json_text.encode(value)
    assert json_text.dump(json_text.decode(tagged(value))) == json_text.dump(json_text.decode(plain_text))
    assert value_types.plain(json_text.parse(tagged(value))) == json_text.decode(plain_text)


JSON = st.recursive(
    JSON_SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_json_never_becomes_a_tag(value: Any) -> None:
    """Data of a client may look like a tag."""
    for text in (json_text.encode(value), tagged(value)):
        assert typed(json_text.decode(text)) == typed(value)
    assert json_text.encode(value) == tagged(value)


@pytest.mark.parametrize(
    "value",
    [
        {KEY: "datetime", "value": "2026-01-01"},
        {KEY: "dict", "value": {"1": 2}},
        [{KEY: "set"}],
        {"value": {KEY: {KEY: "uuid", "value": "x"}}},
    ],
)
def test_data_that_looks_like_a_tag_survives(value: Any) -> None:
    for text in (json_text.encode(value), tagged(value)):
        assert json_text.decode(text) == value
        assert json_text.dump(json_text.decode(text)) == json_text.dump(value)


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (dt.timedelta(minutes=1), 60),
        (dt.timedelta(milliseconds=1500), 1.5),
        (b"\xff", "/w=="),
        ({2, 1}, [1, 2]),
        (frozenset({"b", "a"}), ["a", "b"]),
        ({1: "a", None: "b", 2.5: "d"}, {"1": "a", "null": "b", "2.5": "d"}),
        ({("q", 1): {uuid.UUID(int=1)}}, {'["q",1]': ["00000000-0000-0000-0000-000000000001"]}),
        ({dt.date(2026, 1, 2): 1}, {"2026-01-02": 1}),
    ],
)
def test_plain_form_of_what_a_plain_store_refuses(value: Any, seen: Any) -> None:
    assert value_types.plain(json_text.parse(tagged(value))) == seen
    assert json_text.decode(json_text.dump(value)) == seen


class Color(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    left: Any
    right: Any


class Reply:
    """An object of an SDK."""

    def model_dump(self, mode: str) -> dict[str, Any]:
        return {"content": {KEY: "datetime", "value": "no tag"}}


def test_types_without_a_tag_are_written_as_in_a_plain_store() -> None:
    value = [Color.RED, Pair(1, Color.RED), collections.Counter("aab"), collections.OrderedDict(a=1)]
    assert tagged(value) == json_text.encode(value)
    assert json_text.decode(tagged([Reply()])) == [{"content": {KEY: "datetime", "value": "no tag"}}]


@pytest.mark.parametrize(
    "text",
    [
        b'{"$convstore":"module","value":"os"}',
        b'{"$convstore":"datetime","value":"yesterday"}',
        b'{"$convstore":"datetime","value":1}',
        b'{"$convstore":"decimal","value":"x"}',
        b'{"$convstore":"uuid","value":{}}',
        b'{"$convstore":"set","value":[[]]}',
        b'{"$convstore":"set"}',
        b'{"$convstore":["set"],"value":[]}',
        b'{"$convstore":"dict","value":{"x":1}}',
        b'{"$convstore":"dict","value":{"{}":1}}',
        b'{"$convstore":"bytes","value":"\xc3\xa4"}',
        b'{"$convstore":"timedelta","value":[1e99,0,0]}',
    ],
)
def test_a_bad_tag_is_an_error(text: bytes) -> None:
    with pytest.raises(ValueError):
        json_text.decode(text)
    with pytest.raises(ValueError):
        Bodies([join_element(AT, b"{}"), join_element(AT, text)]).decode()


def test_what_no_tag_can_hold_is_refused_with_its_place() -> None:
    def refused(value: Any) -> str:
        with pytest.raises(NotSerializable) as caught:
            tagged(value)
        return str(caught.value)

    assert refused({"a": ({"b": object()},)}).startswith("a[0].b: JSON cannot hold a object")
    assert "nan" in refused({"a": {float("nan")}})
    assert "the key <object" in refused({"a": {object(): 1}})
    assert "surrogate" in refused({"a": {1: ("\ud800",)}})
    endless: list[Any] = []
    endless.append((endless,))
    with pytest.raises(TooDeep):
        tagged(endless)


@pytest.mark.parametrize("value", [{1}, frozenset(), b"x", dt.timedelta(1), {"a": {1: 2}}])
def test_a_refusal_names_the_cure(value: Any) -> None:
    with pytest.raises(NotSerializable, match="CONVSTORE_TYPES=tagged"):
        json_text.encode({"v": value})
