"""JSON text for values: what is written, what is refused, and that text comes back as the same text."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import uuid
from collections import ChainMap, OrderedDict, UserDict, UserList, UserString
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import CombinedMultiDict, MultiDict

from flask_convstore.domain import json_text
from flask_convstore.errors import NotSerializable, TooDeep

from ..service import Service

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


class Color(enum.Enum):
    RED = "red"


class Word(enum.StrEnum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: Any = None


class Pair(NamedTuple):
    left: Any
    right: Any


@given(JSON)
def test_a_text_decoded_and_encoded_is_the_same_text(value: object) -> None:
    """An unchanged value is known by its text."""
    text = json_text.encode(value)
    assert json_text.decode(text) == value
    assert json_text.encode(json_text.decode(text)) == text
    assert b"\n" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), b'"2026-01-02T03:04:05+00:00"'),
        (dt.date(2026, 1, 2), b'"2026-01-02"'),
        (uuid.UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        (Decimal("1.10"), b'"1.10"'),
        (Color.RED, b'"red"'),
        (Point(1, [Decimal(2)]), b'{"x":1,"y":["2"]}'),
        ({"a": {Word.RED: [Word.RED]}}, b'{"a":{"red":["red"]}}'),
        ((1, 2), b"[1,2]"),
        ([Pair(1, Pair(Decimal(2), None))], b'[[1,["2",null]]]'),
        (OrderedDict(b=1, a=2), b'{"b":1,"a":2}'),
        (True, b"true"),
        (-0.0, b"-0.0"),
    ],
)
def test_standard_text_forms(value: object, text: bytes) -> None:
    assert json_text.encode(value) == text


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        ({"a": [1, {"b": object()}]}, "a[1].b", "object"),
        ({"a": {1, 2}}, "a", "set"),
        ([b"x"], "[0]", "bytes"),
        ({"a": {1: 2}}, "a", "key 1"),
        ({"a": {"\ud800": 2}}, "a", "surrogate"),
        ({"a": ["x", "\udfff"]}, "a[1]", "surrogate"),
        ({"a": {Word.RED: {1}}}, "a.red", "set"),
        ({Word.RED: {1: 1}}, "red", "key 1"),
        ({"n": 2**64}, "n", "64 bits"),
        ({"n": -(2**63) - 1}, "n", "64 bits"),
        ({"n": [None, float("nan")]}, "n[1]", "nan"),
        ([float("inf")], "[0]", "inf"),
        (Point(1, float("-inf")), "y", "inf"),
        (Point(1, object()), "y", "object"),
        ({"a": Pair(1, [{2}])}, "a[1][0]", "set"),
        ([Pair(1, float("nan"))], "[0][1]", "nan"),
        (object, "", "type"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_its_path(value: object, path: str, reason: str) -> None:
    with pytest.raises(NotSerializable) as caught:
        json_text.encode(value)
    assert caught.value.path == path
    assert reason in caught.value.reason
    with pytest.raises(NotSerializable) as caught:
        json_text.encode(value, "data.field")
    assert caught.value.path.startswith("data.field")


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_depth_is_bounded() -> None:
    assert json_text.decode(json_text.encode(nested(json_text.MAX_DEPTH))) == nested(json_text.MAX_DEPTH)
    for depth in (json_text.MAX_DEPTH + 1, 300, 100_000):
        with pytest.raises(TooDeep):
            json_text.encode(nested(depth))
    flat = [[0]] * (json_text.MAX_DEPTH + 1)
    assert json_text.decode(json_text.encode(flat)) == flat, "many brackets are not deep"


def test_a_value_that_contains_itself_is_refused() -> None:
    value: dict[str, Any] = {}
    value["me"] = [value]
    with pytest.raises(TooDeep):
        json_text.encode(value)


def test_a_null_is_told_from_a_nan_without_a_walk() -> None:
    """Messages of SDKs are full of nulls."""
    text = b'{"a":[null],"b":1}'
    assert json_text.encode({"a": [None], "b": 1}) == text
    with pytest.raises(NotSerializable, match=r"a\[0\]: JSON has no nan"):
        json_text.encode({"a": [float("nan")], "b": 1})
    with pytest.raises(NotSerializable, match=r"a\[0\]: JSON has no inf"):
        json_text.encode({"a": (float("inf"),), "b": None})


# ---- one rule for every type


class OwnFloat(float):
    """As ``np.float64`` is."""


class OwnText(str):
    __slots__ = ()


class OwnWhole(int):
    """As the numbers of an ORM may be."""


class FakeDatetime(dt.datetime):
    """As freezegun and pendulum have one."""


class FakeDate(dt.date):
    """As freezegun has one."""


class FakeTime(dt.time):
    """As pendulum has one."""


class OwnItems(dict[str, Any]):
    """A dict whose content stands elsewhere, as a proxy's does."""

    def __init__(self, **own: Any) -> None:
        super().__init__()
        self.own = own

    def items(self) -> Any:
        return self.own.items()


class OwnOrder(list[Any]):
    def __iter__(self) -> Any:
        return iter(sorted(super().__iter__()))


@dataclasses.dataclass
class Private:
    _secret: int = 1
    shown: Any = 2


SEVERAL = MultiDict([("a", "1"), ("a", "2")])
ONE_RULE: list[tuple[Any, bytes]] = [
    (CombinedMultiDict([SEVERAL, MultiDict([("b", "3")])]), b'{"a":["1","2"],"b":["3"]}'),
    (SEVERAL, b'{"a":["1","2"]}'),
    (OwnItems(a=OwnItems(b=1)), b'{"a":{"b":1}}'),
    (OwnOrder([3, 1, 2]), b"[1,2,3]"),
    (UserDict(a=UserList([UserString("x")])), b'{"a":["x"]}'),
    (ChainMap({"a": 1}, {"b": 2}), b'{"b":2,"a":1}'),
    (MappingProxyType({"a": 1}), b'{"a":1}'),
    (OwnFloat(1.5), b"1.5"),
    (OwnText("x"), b'"x"'),
    (OwnWhole(7), b"7"),
    (FakeDatetime(2026, 1, 2, 3, tzinfo=dt.UTC), b'"2026-01-02T03:00:00+00:00"'),
    (FakeDate(2026, 1, 2), b'"2026-01-02"'),
    (FakeTime(1, 2), b'"01:02:00"'),
    (dt.time(1, 2, tzinfo=dt.UTC), b'"01:02:00+00:00"'),
    (Private(), b'{"_secret":1,"shown":2}'),
]


@pytest.mark.parametrize(("value", "text"), ONE_RULE)
def test_one_rule_in_every_door(value: Any, text: bytes) -> None:
    """Alone, deep in a value, beside what takes another way, in data, in a message, in a history, and in a mapping."""
    assert json_text.encode(value) == json_text.dump(value) == text
    assert json_text.encode({"a": [value]}) == b'{"a":[%b]}' % text
    assert json_text.encode({Word.RED: [value, None]}) == b'{"red":[%b,null]}' % text
    assert json_text.encode([value, dt.time(1, tzinfo=dt.UTC)]) == b'[%b,"01:00:00+00:00"]' % text
    same, service = json_text.decode(text), Service("memory://")
    with service.app.app_context():
        store = service.convstore
        store.save_session("s", {"f": value, "history": [{"role": "user", "content": value}]})
        store.append("s", {"role": "user", "content": value}, data={"g": value})
        store.sessions["m"] = {"f": value}
        session, held = store.get_session("s"), store.get_session("m")
    assert session == {"f": same, "g": same, "history": 2 * [{"role": "user", "content": same}]}
    assert held == {"f": same}


def test_content_is_taken_by_the_same_rule() -> None:
    service = Service("memory://")
    with service.app.app_context():
        assert service.convstore.save_session("s", SEVERAL) == {"a": ["1", "2"]}
        assert service.convstore.get_session("s") == {"a": ["1", "2"]}


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (OwnFloat("nan"), "a"),
        (OwnItems(b=[OwnFloat("inf")]), "a.b[0]"),
        (MultiDict([("b", 1), ("b", float("nan"))]), "a.b[1]"),
        (Private(shown={1}), "a.shown"),
        (UserDict(b=object()), "a.b"),
        (dt.time(1, tzinfo=ZoneInfo("Europe/Berlin")), "a"),
    ],
)
def test_what_no_rule_covers_is_refused_with_its_path(value: Any, path: str) -> None:
    with pytest.raises(NotSerializable) as caught:
        json_text.encode({"a": value})
    assert caught.value.path == path
