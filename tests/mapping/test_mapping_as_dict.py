"""The mappings as dicts: what Python documents of ``dict`` and ``MutableMapping``, in a request, a scope, or outside.

Where they differ on purpose, the last section says so."""

from __future__ import annotations

import collections
import contextlib
import copy
import enum
import json
import pickle
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from operator import contains, delitem, setitem
from types import MappingProxyType
from typing import Any

import pytest
from flask import Flask
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flask_convstore import ConversationStore, InvalidSessionId, NotSerializable, SessionMapping
from flask_convstore.domain.keys import id_of, key_of
from flask_convstore.errors import InvalidInput

from ..domain.test_json_text import JSON

SITUATIONS = ["request", "scope", "outside"]
WORLDS = [*SITUATIONS, "valkey"]
"""Each situation in memory, and a request on a real server. What a store answers in each, ``test_store`` tests."""
CONTENT: dict[str, Any] = {"a": {"n": 1}, "b": ["one", {"two": 2}], "c": {}}
"""Values that sessions may have too."""


class World:
    """An app in a request, in a scope, or outside of both. ``next()`` ends the request or the scope and begins another."""

    def __init__(self, url: str = "memory://", situation: str = "request") -> None:
        self.app = Flask("world")
        self.app.config.update(CONVSTORE_URL=url)
        self.convstore = ConversationStore(self.app)
        self.situation = situation
        self._now = self._situation()
        self._now.__enter__()

    @contextlib.contextmanager
    def _situation(self) -> Iterator[None]:
        if self.situation == "request":
            with self.app.test_request_context():
                yield
                response = self.app.process_response(self.app.make_response("ok"))
                assert response.status_code == 200, response.data
        elif self.situation == "scope":
            with self.app.app_context(), self.convstore.sessions.scope():
                yield
        else:
            with self.app.app_context():
                yield

    def next(self) -> None:
        self._now.__exit__(None, None, None)
        self._now = self._situation()
        self._now.__enter__()

    def end(self) -> None:
        self._now.__exit__(None, None, None)
        with self.app.app_context():
            self.convstore.close()

    def age(self, d: SessionMapping) -> None:
        """Let two minutes go by for the order of a mapping's sessions."""
        client: Any = self.convstore.client
        if client is None:
            observed: Any = d._access().store
            now = observed._store._clock() + 120_000
            observed._store._clock = lambda: now
            return
        for key in client.scan_iter(_type="zset"):
            for member, score in client.zrange(key, 0, -1, withscores=True):
                client.zadd(key, {member: score - 120_000})
        for key in client.scan_iter(_type="hash"):
            if client.hexists(key, "indexed"):
                client.hincrby(key, "indexed", -120_000)


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    is_on_a_server = request.param == "valkey"
    url = request.getfixturevalue("valkey").url if is_on_a_server else "memory://"
    world = World(url, "request" if is_on_a_server else request.param)
    yield world
    world.end()


with_an_end = pytest.mark.parametrize("world", ["request", "scope", "valkey"], indirect=True)
"""Worlds that write a change later, at an end."""


@pytest.fixture(params=["sessions", "named"])
def d(request: pytest.FixtureRequest, world: World) -> SessionMapping:
    """An empty mapping of either kind."""
    return world.convstore.sessions if request.param == "sessions" else world.convstore.mapping("notes")


@pytest.fixture
def named(world: World) -> SessionMapping:
    """An empty mapping that takes any JSON value."""
    return world.convstore.mapping("notes")


# ---- the same operation on a dict and on a mapping

Operation = Callable[[Any], Any]


def in_order(items: Any) -> list[Any]:
    return sorted(items, key=repr)


def ored(d: Any, other: Any) -> Any:
    d |= other
    return d


def matched(d: Any) -> Any:
    match d:
        case {"a": {"n": number}, **rest}:
            return number, rest
    raise AssertionError


class Readable:
    """A mapping in the eyes of ``update``: it has ``keys()`` and can be indexed."""

    def keys(self) -> list[str]:
        return ["a", "x"]

    def __getitem__(self, key: str) -> list[str]:
        return [key]


OPERATIONS: dict[str, Operation] = {
    "d[key]": lambda d: [d["a"], d["b"], d["c"]],
    "d[absent]": lambda d: d["x"],
    "d[key] = value": lambda d: setitem(d, "a", ["new"]),
    "d[absent] = value": lambda d: setitem(d, "x", {"history": [1, None]}),
    "del d[key]": lambda d: delitem(d, "a"),
    "del d[absent]": lambda d: delitem(d, "x"),
    "in": lambda d: ["a" in d, "x" in d, "A" in d, None in d, 5 in d, ("a",) in d],
    "len": len,
    "bool": bool,
    "iter": lambda d: in_order(iter(d)),
    "reversed": lambda d: in_order(reversed(d)),
    "list": lambda d: in_order([*d]),
    "dict": dict,
    "{**d}": lambda d: {**d},
    "f(**d)": lambda d: dict(**d),
    "format_map": "{c}".format_map,
    "match": matched,
    "ChainMap": lambda d: collections.ChainMap({"a": 5}, d)["c"],
    "get": lambda d: [d.get("a"), d.get("x"), d.get("a", 5), d.get("x", 5)],
    "get without key": lambda d: d.get(),
    "get with too many": lambda d: d.get("a", 1, 2),
    "setdefault": lambda d: [d.setdefault("a", ["new"]), d.setdefault("x", ["new"]), d.setdefault("x", ["other"])],
    "setdefault that is there": lambda d: d.setdefault("a"),
    "setdefault without key": lambda d: d.setdefault(),
    "pop": lambda d: [d.pop("a"), d.pop("b", 5), d.pop("x", 5), d.pop("x", None)],
    "pop absent": lambda d: d.pop("x"),
    "pop twice": lambda d: [d.pop("a"), d.pop("a")],
    "pop without key": lambda d: d.pop(),
    "pop with too many": lambda d: d.pop("a", 1, 2),
    "pop of an absent with too many": lambda d: d.pop("x", 1, 2),
    "popitem": lambda d: in_order(d.popitem() for _ in range(3)),
    "popitem of an empty one": lambda d: [d.popitem() for _ in range(4)],
    "popitem with an argument": lambda d: d.popitem("a"),
    "update from a mapping": lambda d: d.update({"a": [1], "x": [2]}),
    "update from a mapping that is no dict": lambda d: d.update(MappingProxyType({"x": [2]})),
    "update from keys() and []": lambda d: d.update(Readable()),
    "update from pairs": lambda d: d.update([("a", [1]), ["x", [2]]]),
    "update from an iterator of pairs": lambda d: d.update((key, [key]) for key in "axy"),
    "update from keywords": lambda d: d.update(a=[1], x=[2], self=[3], other=[4]),
    "update from both": lambda d: d.update({"a": [1], "y": [3]}, a=[2]),
    "update from nothing": lambda d: d.update(),
    "update from itself": lambda d: d.update(d),
    "update from a number": lambda d: d.update(1),
    "update from numbers": lambda d: d.update([1]),
    "update from no pairs": lambda d: d.update([("a",)]),
    "update from two": lambda d: d.update({}, {}),
    "|=": lambda d: ored(d, {"a": [1], "x": [2]}),
    "|= pairs": lambda d: ored(d, [("a", [1]), ("x", [2])]),
    "|= None": lambda d: ored(d, None),
    "|": lambda d: d | {"a": [1], "x": [2]},
    "| reflected": lambda d: {"a": [1], "x": [2]} | d,
    "| itself": lambda d: d | d,
    "| pairs": lambda d: d | [("a", [1])],
    "| reflected pairs": lambda d: [("a", [1])] | d,
    "==": lambda d: [d == CONTENT, d == CONTENT | {"x": {}}, d == {**CONTENT, "a": {}}, d == {}, d == CONTENT],
    "!=": lambda d: [d != CONTENT, d != CONTENT | {"x": {}}, d != {**CONTENT, "a": {}}, d != {}, d != CONTENT],
    "== itself": lambda d: [d == d, d != d],
    "== no mapping": lambda d: [d == 5, d == [*CONTENT.items()], d == None, d != 5, d != "a"],  # noqa: E711
    "<": lambda d: d < d,
    "hash": hash,
    "copy": lambda d: d.copy(),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "keys": lambda d: [
        len(d.keys()),
        in_order(d.keys()),
        in_order(reversed(d.keys())),
        contains(d.keys(), "a"),
        contains(d.keys(), "x"),
    ],
    "keys & | - ^": lambda d: [d.keys() & {"a", "x"}, d.keys() | ["x"], d.keys() - ["a"], d.keys() ^ iter(["a", "x"])],
    "keys & | - ^ reflected": lambda d: [
        {"a", "x"} & d.keys(),
        {"x"} | d.keys(),
        {"a", "x"} - d.keys(),
        {"a"} ^ d.keys(),
    ],
    "keys & a number": lambda d: d.keys() & 5,
    "keys isdisjoint": lambda d: [d.keys().isdisjoint(["x", "a"]), d.keys().isdisjoint({"x"}), d.keys().isdisjoint([])],
    "keys compared": lambda d: [
        d.keys() == {"a", "b", "c"},
        d.keys() == CONTENT.keys(),
        d.keys() != {"a"},
        d.keys() == ["a", "b", "c"],
        d.keys() <= {"a", "b", "c"},
        d.keys() < {"a", "b", "c"},
        d.keys() >= {"a"},
        d.keys() > {"a"},
        {"a"} < d.keys(),
    ],
    "keys < list": lambda d: d.keys() < ["a"],
    "hash of keys": lambda d: hash(d.keys()),
    "values": lambda d: [
        len(d.values()),
        in_order(d.values()),
        in_order(reversed(d.values())),
        {"n": 1} in d.values(),
        5 in d.values(),
        [] in d.values(),
    ],
    "items": lambda d: [
        len(d.items()),
        in_order(d.items()),
        in_order(reversed(d.items())),
        ("a", {"n": 1}) in d.items(),
        ("a", {"n": 2}) in d.items(),
        ("x", {}) in d.items(),
        ("a",) in d.items(),
        "a" in d.items(),
        5 in d.items(),
    ],
    "items compared": lambda d: [
        d.items() == CONTENT.items(),
        d.items() == {**CONTENT, "a": {}}.items(),
        d.items() <= CONTENT.items(),
        d.items() < CONTENT.items(),
        d.items() >= {"a": {"n": 1}}.items(),
    ],
    "items & with values that have no hash": lambda d: d.items() & d.items(),
    "hash of items": lambda d: hash(d.items()),
    **{
        f"no hash: {name}": operation
        for name, operation in {
            "d[key]": lambda d: d[[]],
            "d[key] = value": lambda d: setitem(d, {}, {}),
            "d[tuple] = value": lambda d: setitem(d, ("a", []), {}),
            "del d[key]": lambda d: delitem(d, []),
            "in": lambda d: [] in d,
            "get": lambda d: d.get(set(), 5),
            "setdefault": lambda d: d.setdefault([], []),
            "pop": lambda d: d.pop([], 5),
            "update": lambda d: d.update([([], [])]),
            "in keys": lambda d: [] in d.keys(),  # noqa: SIM118
            "in items": lambda d: ([], 1) in d.items(),
        }.items()
    },
}


def outcome(operation: Operation, d: Any) -> tuple[str, Any]:
    """The result, or the error's type, and for a KeyError its key."""
    try:
        result = operation(d)
    except Exception as error:
        kind = next(kind for kind in (KeyError, TypeError, ValueError, Exception) if isinstance(error, kind))
        return kind.__name__, error.args if kind is KeyError and error.args[0] == "x" else None
    return "returns", dict(result.items()) if result is d else result


def test_what_a_dict_answers(world: World, d: SessionMapping) -> None:
    """Same result or error, same effect, at once and in the next request, with new values and with stored ones."""
    for name, operation in OPERATIONS.items():
        check_as_dict(world, d, name, operation, CONTENT)


def check_as_dict(world: World, d: SessionMapping, name: str, operation: Operation, content: dict[str, Any]) -> None:
    for is_stored in (False, True):
        reference = copy.deepcopy(content)
        d.update(copy.deepcopy(content))
        if is_stored:
            world.next()
        assert outcome(operation, d) == outcome(operation, reference), name
        assert (dict(d.items()), len(d)) == (reference, len(reference)), name
        world.next()
        assert (dict(d.items()), len(d)) == (reference, len(reference)), name
        d.clear(confirm=True)
        world.next()


ITEMS: dict[str, Operation] = {
    "setdefault without default": lambda d: [d.setdefault("x"), d.setdefault("x", 5), d["x"], "x" in d],
    "a value that is None": lambda d: [setitem(d, "a", None), d["a"], d.get("a", 5), "a" in d, d.pop("a", 5)],
    "items & | - ^": lambda d: [
        d.items() & {("a", 1), ("b", 1)},
        d.items() | [("x", 1)],
        d.items() - [("a", 1)],
        d.items() ^ {("a", 1), ("x", 1)},
    ],
    "items & | - ^ reflected": lambda d: [
        {("a", 1), ("b", 1)} & d.items(),
        {("x", 1)} | d.items(),
        {("a", 1), ("x", 1)} - d.items(),
        {("a", 1)} ^ d.items(),
    ],
    "items isdisjoint": lambda d: [d.items().isdisjoint({("a", 2)}), d.items().isdisjoint([("a", 1)])],
    "items compared": lambda d: [d.items() == {("a", 1), ("b", "two"), ("c", None)}, d.items() > {("a", 1)}],
    "values": lambda d: [in_order(d.values()), None in d.values(), True in d.values(), d.values() == d.values()],
}


def test_what_a_dict_of_hashable_values_answers(world: World, named: SessionMapping) -> None:
    for name, operation in ITEMS.items():
        check_as_dict(world, named, name, operation, {"a": 1, "b": "two", "c": None})


def test_a_named_mapping_holds_any_json_value(world: World, named: SessionMapping) -> None:
    values: list[Any] = [None, True, 0, -5, 2**64 - 1, 1.5, "", "text", [], [[1], None], {}, {"": 1}, {"a": [{}]}]
    for value in values:
        named["key"] = value
        assert named["key"] == value
        world.next()
        assert (named["key"], named.get("key", "absent"), list(named.values())) == (value, value, [value])
        assert isinstance(named["key"], type(value))


def test_one_kind_of_value_can_follow_another(world: World, named: SessionMapping) -> None:
    """Each assignment over what a request has loaded, as each over what it has not, leaves what was assigned."""
    values: list[Any] = [5, "text", None, [], [1], {}, {"a": 1}, {"a": 1, "history": [1]}, {"history": [2]}, True]
    for before in values:
        for after in values:
            for is_loaded in (False, True):
                named["key"] = before
                world.next()
                assert not is_loaded or named["key"] == before
                named["key"] = after
                world.next()
                assert named["key"] == after, (before, is_loaded)
                assert type(named["key"]) is not bool or after is True


@pytest.mark.parametrize(
    ("before", "after"), [([1], {"history": [1]}), ({"history": [1]}, [1]), (5, {"": 5}), ({"": 5}, 5)]
)
@with_an_end
def test_the_same_messages_in_another_shape(world: World, named: SessionMapping, before: Any, after: Any) -> None:
    """``d[sid] = {"history": d[sid]}``, and back."""
    named["key"] = before
    world.next()
    assert named["key"] == before
    named["key"] = after
    world.next()
    assert named["key"] == after


PUT_BACK: dict[str, Operation] = {
    "d[key] = d.pop(key)": lambda d: setitem(d, "a", d.pop("a")),
    "restored from a copy": lambda d: [saved := d.copy(), d.clear(**_confirm(d)), d.update(saved)],
    "popped and pushed": lambda d: d.update([d.popitem() for _ in range(3)]),
    "an older value": lambda d: [old := d["a"], setitem(d, "a", {"n": 2}), setitem(d, "a", old)],
    "two swapped": lambda d: d.update(a=d["b"], b=d["a"]),
    "one under two keys": lambda d: [setitem(d, "x", d["a"]), delitem(d, "a")],
    "renamed": lambda d: setitem(d, "x", d.pop("a")),
}


def _confirm(d: Any) -> dict[str, bool]:
    return {"confirm": True} if isinstance(d, SessionMapping) else {}


@pytest.mark.parametrize("steps", ["at once", "flushes between", "requests between"])
def test_a_value_that_was_taken_out_can_be_put_back(world: World, named: SessionMapping, steps: str) -> None:
    """An assigned value is there from then on, wherever its object was loaded from."""
    for name, put_back in PUT_BACK.items():
        reference = copy.deepcopy(CONTENT)
        named.clear(confirm=True)
        named.update(copy.deepcopy(CONTENT))
        world.next()
        with pytest.MonkeyPatch.context() as patched:
            if steps != "at once":
                for method in ("__setitem__", "pop", "clear"):
                    _do_after(patched, method, named.flush if steps == "flushes between" else world.next)
            put_back(reference)
            put_back(named)
        world.next()
        assert dict(named.items()) == reference, name


def _do_after(monkeypatch: pytest.MonkeyPatch, name: str, do: Callable[[], None]) -> None:
    method = getattr(SessionMapping, name)

    def doing(d: SessionMapping, *arguments: Any, **options: Any) -> Any:
        try:
            return method(d, *arguments, **options)
        finally:
            do()

    monkeypatch.setattr(SessionMapping, name, doing)


# ---- views, copies, order


def test_views_are_live(world: World, d: SessionMapping) -> None:
    views: tuple[Any, Any, Any] = d.keys(), d.values(), d.items()
    keys, values, items = views
    assert (len(keys), len(values), len(items), list(keys), list(values), list(items)) == (0, 0, 0, [], [], [])
    d["a"] = {"n": 1}
    assert (list(keys), list(values), list(items)) == (["a"], [{"n": 1}], [("a", {"n": 1})])
    world.next()
    d["a"] = {"n": 2}
    assert (list(values), ("a", {"n": 2}) in items, ("a", {"n": 1}) in items) == ([{"n": 2}], True, False)
    del d["a"]
    assert (len(keys), "a" in keys, list(reversed(values)), list(reversed(items))) == (0, False, [], [])


def test_values_of_views_are_the_objects_themselves(world: World, d: SessionMapping) -> None:
    """As in a dict, a loop over the values can change them."""
    d.update(copy.deepcopy(CONTENT))
    world.next()
    for value in d.values():
        value.update(seen=True) if isinstance(value, dict) else value.append("seen")
    world.next()
    seen = {"a": {"n": 1, "seen": True}, "b": ["one", {"two": 2}, "seen"], "c": {"seen": True}}
    assert dict(d.items()) == seen


def test_copies_are_dicts_of_their_own(world: World, d: SessionMapping) -> None:
    d.update(copy.deepcopy(CONTENT))
    world.next()
    copies: list[Any] = [d.copy(), copy.copy(d), copy.deepcopy(d)]
    shallow, also, deep = copies
    assert type(shallow) is type(also) is type(deep) is dict
    del shallow["a"]
    also["x"] = {}
    deep["a"]["n"] = 2
    assert dict(d.items()) == CONTENT
    if world.situation != "outside":
        assert also["b"] is d["b"]
        assert deep["b"] is not d["b"]
    d["a"] = {"n": 3}
    assert (also["a"], deep["a"]) == ({"n": 1}, {"n": 2})


def test_a_union_is_a_dict(d: SessionMapping) -> None:
    d["a"] = {}
    assert type(d | {}) is type({} | d) is type(d | d) is dict
    assert (d | MappingProxyType({"b": 1}), MappingProxyType({"b": 1}) | d) == ({"a": {}, "b": 1}, {"b": 1, "a": {}})


def test_or_assignment_keeps_the_mapping(d: SessionMapping) -> None:
    before = d
    d |= {"a": {}}
    assert d is before
    assert list(d) == ["a"]


def test_it_is_a_mutable_mapping(d: SessionMapping) -> None:
    assert isinstance(d, MutableMapping)
    assert not isinstance(d, dict)


def test_no_text_of_a_session_is_shown(d: SessionMapping) -> None:
    """A repr ends up in logs."""
    d["secret-id"] = {"text": "secret"}
    for shown in (d, d.keys(), d.values(), d.items()):
        assert "secret" not in repr(shown) + str(shown)
        assert "SessionMapping" in repr(shown)


def test_it_is_not_pickled(d: SessionMapping) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match=r"SessionMapping cannot be pickled.*copy\(\)"):
            pickle.dumps(d, protocol)


def test_the_order_is_that_of_the_last_interaction(world: World, d: SessionMapping) -> None:
    """popitem takes the newest."""
    for key in ("a", "b", "c"):
        d[key] = {"key": key}
        world.next()
        world.age(d)
    assert d["a"] == {"key": "a"}
    order = ["b", "c", "a"]
    keys, values, items = (list(view) for view in (d.keys(), d.values(), d.items()))
    assert (list(d), keys, values, items) == (
        order,
        order,
        [{"key": key} for key in order],
        [*zip(keys, values, strict=True)],
    )
    views: list[Any] = [d, d.keys(), d.values(), d.items()]
    assert [list(reversed(view)) for view in views] == [order[::-1], order[::-1], values[::-1], items[::-1]]
    assert [d.popitem() for _ in range(2)] == [("a", {"key": "a"}), ("c", {"key": "c"})]
    world.next()
    assert list(d) == ["b"]


@with_an_end
def test_what_is_not_yet_written_comes_last_in_the_order_of_assignment(world: World, d: SessionMapping) -> None:
    d["stored"] = {}
    world.next()
    for key in ("y", "z", "x"):
        d[key] = {}
    d["y"] = {"again": True}
    keys = ["stored", "y", "z", "x"]
    assert (list(d), list(reversed(d))) == (keys, keys[::-1])
    assert (d.popitem(), list(d)) == (("x", {}), keys[:-1])


# ---- default=, as in a defaultdict


def test_a_default_is_made_by_indexing_only(world: World) -> None:
    made: list[list[Any]] = []
    d = world.convstore.mapping("lists", default=lambda: made.append([]) or made[-1])  # type: ignore[func-returns-value]
    assert (d.get("a"), d.get("a", 5), "a" in d, d.pop("a", 5), len(d), list(d), made) == (None, 5, False, 5, 0, [], [])
    for absent in (lambda: d.pop("a"), lambda: delitem(d, "a"), d.popitem):
        with pytest.raises(KeyError):
            absent()
    assert d.setdefault("b", [5]) == [5]
    assert made == []
    assert d["a"] == []
    assert ("a" in d, len(d), sorted(d), sorted(d.values()), d.get("a")) == (True, 2, ["a", "b"], [[], [5]], [])
    world.next()
    assert ("a" in d, d["a"], d["b"], d == {"a": [], "b": [5]}, made) == (True, [], [5], True, [[]])
    del d["a"]
    assert (d["a"], len(made)) == ([], 2)


@with_an_end
def test_a_default_may_be_filled_at_once(world: World) -> None:
    """``d[sid].append(message)``."""
    d, numbers = world.convstore.mapping("lists", default=list), world.convstore.mapping("numbers", default=int)
    for number in range(3):
        d["a"].append(number)
        numbers["a"] += 1
        world.next()
    assert (d.copy(), numbers.copy()) == ({"a": [0, 1, 2]}, {"a": 3})


def test_a_default_that_raises_creates_nothing(world: World) -> None:
    d = world.convstore.mapping("lists", default=lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        d["a"]
    assert "a" not in d
    with pytest.raises(TypeError):
        d[[]]
    world.next()
    assert len(d) == 0


# ---- keys

KEYS: list[Any] = [
    *(
        "",
        "a",
        " ",
        "health",
        "json:",
        "json:5",
        'json:"a"',
        "a\n\x00\x7f\x9f",
        "ä ö ☃ 🎉",
        "\ud800",
        "a{b}:history",
        "%7B",
    ),
    *("5", "None", "x" * 200, '["a","b"]'),
    *(0, 5, -5, 10**30, None, (), ("a", "b"), ("a", ("b", (None, -1))), ("a,b",), (5,), ("5",), (None,), ((),)),
]


def test_a_key_comes_back_as_it_was(world: World, named: SessionMapping) -> None:
    d = named
    for key in KEYS:
        d[key] = ["value"]
        world.next()
        [found] = d
        assert (found, type(found), repr(found)) == (key, type(key), repr(key))
        assert (key in d, d[key], d.get(key), list(d.items())) == (True, ["value"], ["value"], [(key, ["value"])])
        assert d.pop(key) == ["value"]
        world.next()
        assert (key in d, len(d)) == (False, 0), key


def test_keys_that_differ_stay_distinct(world: World, d: SessionMapping) -> None:
    d.update((key, [repr(key)]) for key in KEYS)
    world.next()
    assert len(d) == len(KEYS)
    assert {key: d[key] for key in d} == {key: [repr(key)] for key in KEYS}


def test_keys_that_are_equal_are_one(world: World, d: SessionMapping) -> None:
    equal: list[tuple[Any, ...]] = [(1, True, 1.0), (0, False, -0.0), ((1, "a"), (True, "a"), (1.0, "a"))]
    for keys in equal:
        for number, key in enumerate(keys):
            d[key] = {"number": number}
            world.next()
            assert [d[same] for same in keys] == [{"number": number}] * 3
            assert (len(d), list(d)) == (1, [keys[0]])
        del d[keys[1]]
        assert keys[2] not in d


class Name(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "shown"


class Color(str, enum.Enum):  # noqa: UP042
    RED = "red"


def test_a_text_of_another_class_is_that_text(world: World, d: SessionMapping) -> None:
    """As in a dict: they are equal, and have one hash."""
    texts: list[tuple[Any, Any]] = [(Name("a"), "a"), (Color.RED, "red"), ((Name("a"),), ("a",))]
    for key, same in texts:
        d[key] = {}
        assert same in d
        world.next()
        assert (key in d, list(d)) == (True, [same])
        del d[key]


TOO_LONG: list[Any] = ["x" * 201, "\n" * 200, ("x" * 200,), 10**200, ("ä" * 40,)]
UNSUPPORTED: list[Any] = [1.5, float("inf"), float("nan"), frozenset(), b"a", Decimal(1), 1 + 0j, Fraction(1, 2)]
UNSUPPORTED += [datetime(2026, 1, 1, tzinfo=UTC), ("a", 1.5), object(), list, (b"a",)]


def test_a_key_that_cannot_be_stored_is_absent(world: World, d: SessionMapping) -> None:
    """Any key of a client can be looked up without harm. Writing it is refused at once."""
    for key in TOO_LONG:
        check_absent(d, key, InvalidSessionId)
    for key in UNSUPPORTED:
        check_absent(d, key, NotSerializable)
    world.next()
    assert len(d) == 0


def check_absent(d: SessionMapping, key: Any, error: type[InvalidInput]) -> None:
    assert (key in d, d.get(key, 5), d.pop(key, 5), contains(d.keys(), key), (key, {}) in d.items()) == (
        False,
        5,
        5,
        False,
        False,
    )
    for read in (lambda: d[key], lambda: d.pop(key), lambda: delitem(d, key)):
        with pytest.raises(KeyError) as caught:
            read()
        assert caught.value.args[0] is key
    for write in (lambda: setitem(d, key, {}), lambda: d.setdefault(key, {}), lambda: d.update([(key, {})])):
        with pytest.raises(error, match=r"(?i)nothing was written"):
            write()


def test_a_number_of_too_many_digits_is_too_long() -> None:
    with pytest.raises(InvalidSessionId):
        id_of(10**5000)


@pytest.mark.parametrize("session_id", ["json:oops", "json: 5", "json:{}", "json:1.5"])
@pytest.mark.parametrize("world", ["request"], indirect=True)
def test_no_id_spoils_a_loop(world: World, session_id: str) -> None:
    """``save_session`` takes any id, from clients too: each key that a loop gives is there, and no id ends it."""
    sessions = world.convstore.sessions
    with contextlib.suppress(InvalidSessionId):
        world.convstore.save_session(session_id, {})
    sessions["other"] = {}
    assert "other" in list(sessions)
    assert all(key in sessions for key in sessions)


key_texts = st.text(max_size=20) | st.text(alphabet='json:"[]5\\\x00', max_size=12)
key_atoms = key_texts | st.integers(-(10**20), 10**20) | st.none()
keys = st.recursive(key_atoms, lambda inner: st.tuples(inner) | st.tuples(inner, inner))


@given(keys, keys)
@example("json:5", 5)
@example('["a"]', ("a",))
def test_ids_and_keys_are_one_to_one(one: Any, other: Any) -> None:
    with contextlib.suppress(InvalidSessionId):
        assert key_of(id_of(one)) == one
        assert (id_of(one) == id_of(other)) == (one == other)


def test_an_ordered_dict_s_ways_to_evict(world: World, named: SessionMapping) -> None:
    """``popitem(last=False)`` takes the oldest, ``move_to_end`` is an interaction."""
    named["a"] = 1
    with pytest.raises(KeyError):
        named.move_to_end("none")
    with pytest.raises(TypeError, match="last interaction"):
        named.move_to_end("a", last=False)
    named.move_to_end("a")
    assert named.popitem(last=False) == ("a", 1)
    with pytest.raises(KeyError):
        named.popitem(last=False)


# ---- any sequence of operations

SMALL: list[Any] = [None, 5, "text", [], [1], {}, {"": 5}, {"a": []}, {"a": {"b": [1]}}, {"history": [1]}]
SMALL += [{"history": [1, {}], "a": 1}, [[]]]
VALUES = st.one_of(*[st.sampled_from(SMALL)] * 5, JSON)
KEY = st.sampled_from(["a", ("b", None)])
READS = ["items", "len", "copy", "get", "index", "in", "or"]
WRITES = ["popitem", "clear", "put all back", "pop", "pop or", "del", "setdefault", "update", "assign a"]
HOLDS = ["assign held", "append to held", "set in held", "drop from held"]
ALWAYS = ["set", "next", "hold", "flush"]
# Few kinds of steps at a time meet each other more often than all of them would.
STEPS = st.tuples(*(st.lists(st.sampled_from(names), max_size=2) for names in (READS, WRITES, HOLDS))).flatmap(
    lambda chosen: st.lists(st.tuples(st.sampled_from(sum(chosen, ALWAYS)), KEY, VALUES), min_size=8, max_size=20)
)
Step = tuple[str, Any, Any]


class Player:
    """Plays steps on a dict or on a mapping, and holds one value as an app's local variable does."""

    def __init__(self, d: Any) -> None:
        self.d = d
        self.held: Any = None

    def play(self, name: str, key: Any, value: Any) -> Any:
        return outcome(lambda d: self._step(d, name, key, copy.deepcopy(value)), self.d)

    def _step(self, d: Any, name: str, key: Any, value: Any) -> Any:
        plain: dict[str, Callable[[], Any]] = {
            "items": lambda: in_order(d.items()),
            "len": lambda: (len(d), bool(d)),
            "copy": d.copy,
            "popitem": self._popitem,
            "clear": lambda: d.clear(**_confirm(d)),
            "put all back": lambda: d.update([(key, d.pop(key)) for key in list(d)]),
            "get": lambda: (d.get(key), d.get(key, "absent")),
            "index": lambda: d[key],
            "in": lambda: (key in d, key in d.keys(), key in d.values()),  # noqa: SIM118
            "pop": lambda: d.pop(key),
            "pop or": lambda: d.pop(key, None),
            "del": lambda: delitem(d, key),
            "set": lambda: setitem(d, key, value),
            "setdefault": lambda: d.setdefault(key, value),
            "update": lambda: d.update({key: value, "b": ["updated"]}),
            "or": lambda: (d | {key: value}, {key: value} | d),
            "assign a": lambda: setitem(d, key, d["a"]),
        }
        if name in plain:
            return plain[name]()
        if name == "hold":
            self.held = d.get(key)
            return self.held
        if name == "assign held":
            d[key] = self.held
            return None
        return _change(_inner(self.held, name), name, value)

    def _popitem(self) -> Any:
        """Whichever it is: all of them, and put back."""
        pairs = [self.d.popitem() for _ in range(len(self.d))]
        self.d.update(pairs)
        return in_order(pairs)


def _inner(held: Any, name: str) -> Any:
    """The deepest list or dict of a kind in *held*, on a way that does not depend on an order of keys."""
    kind = dict if name == "set in held" else list
    children = [held[key] for key in sorted(held)] if isinstance(held, dict) else held if isinstance(held, list) else []
    for child in children:
        found = _inner(child, name)
        if found is not None:
            return found
    return held if isinstance(held, kind) else None


def _change(inner: Any, name: str, value: Any) -> Any:
    if inner is None:
        return None
    if name == "append to held":
        return inner.append(value)
    if name == "drop from held":
        return inner.pop(0)
    return setitem(inner, "new", value)


def check_steps(world: World, steps: list[Step]) -> None:
    reference, d = Player({}), Player(world.convstore.mapping("notes"))
    for name, key, value in steps:
        if name == "next":
            # What is held from the last request is a stranger to the next one; each value is one of its own.
            reference.d = {key: json.loads(json.dumps(value)) for key, value in reference.d.items()}
            reference.held = d.held = None
            world.next()
        elif name == "flush":
            d.d.flush()
        else:
            assert d.play(name, key, value) == reference.play(name, key, value), name
    world.next()
    assert dict(d.d.items()) == reference.d


@pytest.mark.slow
@pytest.mark.parametrize("situation", SITUATIONS)
@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_any_sequence_of_operations(situation: str, steps: list[Step]) -> None:
    """A dict and a mapping give the same results, the same errors, and in the end the same content."""
    world = World(situation=situation)
    check_steps(world, steps)
    world.end()


def replaced(before: Any, after: Any) -> list[Step]:
    """A value is held, another one written in its place, and it is put back."""
    begin: list[Step] = [("set", "a", before), ("next", "a", None), ("hold", "a", None)]
    return [*begin, ("set", "a", after), ("flush", "a", None), ("assign held", "a", None)]


def grown(value: Any) -> list[Step]:
    """A session begins without a history, gets one, and loses it."""
    begin: list[Step] = [("get", "a", None), ("set", "a", value), ("flush", "a", None)]
    return [*begin, ("set", "a", {"history": [1]}), ("flush", "a", None), ("set", "a", value)]


@pytest.mark.parametrize(
    "steps", [replaced({"a": 1}, {"a": 2}), replaced({}, [1]), replaced([1], [1, 2]), grown({}), grown(None)]
)
@with_an_end
def test_sequences_with_flushes(world: World, steps: list[Step]) -> None:
    check_steps(world, steps)


# ---- unlike a dict


def test_clearing_must_be_confirmed(world: World, d: SessionMapping) -> None:
    """A dict's clear() empties a process. This one would empty a database."""
    d.update(copy.deepcopy(CONTENT))
    world.next()
    d["new"] = {}
    for unconfirmed in ({}, {"confirm": False}, {"confirm": 1}):
        with pytest.raises(TypeError, match="confirm=True"):
            d.clear(**unconfirmed)
    assert len(d) == 4
    d.clear(confirm=True)
    assert (len(d), list(d), bool(d), "a" in d) == (0, [], False, False)
    world.next()
    assert (len(d), "a" in d) == (0, False)


def test_sessions_hold_dicts_and_lists_only(world: World) -> None:
    """The line that assigns what no session can be raises, not the end of the request."""
    sessions = world.convstore.sessions
    for value in (None, 5, "text", (1,), {1}, object()):
        for write in (sessions.__setitem__, sessions.setdefault):
            with pytest.raises(NotSerializable, match="a session is a dict or a list"):
                write("a", value)
    sessions["a"] = collections.OrderedDict(b=1)
    sessions["b"] = collections.defaultdict(list, {"b": [1]})
    world.next()
    assert dict(sessions.items()) == {"a": {"b": 1}, "b": {"b": [1]}}


@pytest.mark.parametrize("world", ["outside"], indirect=True)
def test_outside_a_request_each_assignment_is_written_at_once(world: World) -> None:
    """Changes within a value are written when the app context ends."""
    sessions, get = world.convstore.sessions, world.convstore.get_session
    sessions["a"] = value = {"n": 1, "deep": {}}
    assert get("a") == value
    sessions["a"]["deep"]["x"] = 3
    sessions.setdefault("a", {})["n"] = 4
    assert get("a") == {"n": 1, "deep": {}}
    assert sessions["a"] is sessions["a"]
    changed = sessions["a"]
    changed["n"] = 5
    sessions["a"] = changed
    assert get("a") == {"n": 5, "deep": {"x": 3}}
    world.convstore.mapping("lists", default=list)["a"].append(1)
    changed["n"] = 6
    world.next()
    assert get("a") == {"n": 6, "deep": {"x": 3}}
    assert world.convstore.mapping("lists")["a"] == [1]
    del sessions["a"]
    assert get("a") is None


def test_what_json_has_not_comes_back_as_what_it_has(world: World, named: SessionMapping) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    named["a"] = {"tuple": (1, (2,)), "at": at, "price": Decimal("1.10")}
    named["b"] = (1, 2)
    if world.situation != "outside":
        assert (type(named["b"]), named["a"]["at"]) == (tuple, at)
    world.next()
    assert named["a"] == {"tuple": [1, [2]], "at": "2026-01-02T03:04:05+00:00", "price": "1.10"}
    assert (named["b"], type(named["b"]) is not tuple) == ([1, 2], True)


def test_what_cannot_be_stored_raises_where_it_is_written(world: World, d: SessionMapping) -> None:
    """Outside by the assignment. Else by flush() or the end, since it may be changed until then."""
    values: list[Any] = [{"a": {1}}, {1: "a"}, [object()], {"a": float("nan")}, {"history": "text"}, {"history": None}]
    d["x"] = {}
    world.next()
    for value in values:
        with pytest.raises(InvalidInput, match=r"(?i)nothing was written"):
            d["a"] = value
            d.flush()
        d.pop("a", None)
        world.next()
        assert dict(d.items()) == {"x": {}}, value


@with_an_end
def test_an_assignment_that_raises_sets_nothing(world: World, d: SessionMapping) -> None:
    """Catching the error is all that is left to do."""
    for write in (d.__setitem__, d.setdefault):
        assert "a" not in d
        with pytest.raises(NotSerializable):
            write("a", {"x": {1}})
        found = d.pop("a", None)
        assert found is None


def test_a_loop_may_change_the_mapping(world: World, d: SessionMapping) -> None:
    """A dict raises RuntimeError. Here others may change it at any time anyway."""
    d.update((str(number), []) for number in range(5))
    world.next()
    for key in d:
        del d[key]
    assert len(d) == 0
    d.update((str(number), []) for number in range(5))
    for key in reversed(d):
        d[f"copy of {key}"] = d.pop(key)
    assert {key for key in d if not key.startswith("copy of")} == set()


def test_a_key_is_changed_to_the_plain_one_that_equals_it(world: World, d: SessionMapping) -> None:
    """A dict keeps the key that came first."""
    d[True] = {}
    d[2.0, False] = {}
    world.next()
    assert sorted(map(repr, d)) == ["(2, 0)", "1"]


def test_other_numbers_that_equal_a_key_are_not_that_key(d: SessionMapping) -> None:
    d[1] = {}
    assert {Decimal(1), Fraction(1), 1 + 0j} & {1}
    assert all(key not in d for key in (Decimal(1), Fraction(1), 1 + 0j))


def test_views_do_not_lead_to_the_mapping(d: SessionMapping) -> None:
    """``dict.keys().mapping`` has no like here."""
    assert all(not hasattr(view, "mapping") for view in (d.keys(), d.values(), d.items()))
    assert isinstance({}.keys().mapping, Mapping)


def test_there_is_no_fromkeys_and_json_does_not_take_it_for_a_dict(d: SessionMapping) -> None:
    assert not hasattr(d, "fromkeys")
    with pytest.raises(TypeError):
        json.dumps(d)
    assert json.dumps(d.copy()) == "{}"
