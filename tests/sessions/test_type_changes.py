"""Warnings of types that JSON changes: told once, with place and cure, and never where the type comes back."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import logging
import uuid
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from flask_convstore import Message
from flask_convstore.domain import json_text
from flask_convstore.mapping.returning import losses
from flask_convstore.sessions.type_changes import TypeChanges

from ..mapping.test_mapping import Site
from ..service import in_memory

AT = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


class Color(enum.Enum):
    RED = "red"


class Word(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Point:
    x: int


class Pair(NamedTuple):
    left: int


class SdkMessage:
    """A message of an SDK, which knows how it becomes JSON."""

    content = "yo"

    def model_dump(self, mode: str) -> dict[str, Any]:
        return {"role": "assistant", "content": "yo"}


CHANGED: dict[str, tuple[Any, str, str]] = {
    "a datetime": ({"a": [{"at": AT}]}, "f.a[0].at holds a datetime", "tagged"),
    "a date": (AT.date(), "f holds a date", "tagged"),
    "a tuple": ([("q", 1)], "f[0] holds a tuple", "tagged"),
    "a UUID": ({"id": uuid.UUID(int=1)}, "f.id holds a UUID", "tagged"),
    "a Decimal": ([1, Decimal(1)], "f[1] holds a Decimal", "tagged"),
    "an enum": ({"color": Color.RED}, "f.color holds a Color", ""),
    "a dataclass": ([Point(1)], "f[0] holds a Point", ""),
    "a named tuple": ({"pair": Pair(1)}, "f.pair holds a Pair", ""),
    "a counter": ({"n": collections.Counter("aab")}, "f.n holds a Counter", ""),
    "a defaultdict": (collections.defaultdict(int, a=1), "f holds a defaultdict", ""),
    "an SDK's object": ([SdkMessage()], "f[0] holds a SdkMessage", ""),
}


@pytest.mark.parametrize("kind", CHANGED)
def test_a_changed_type_is_told_with_place_and_cure(caplog: pytest.LogCaptureFixture, kind: str) -> None:
    value, told, cure = CHANGED[kind]
    site = Site("memory://")
    site.put("s", {"f": value})
    site.put("s", {"f": value})
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"the store 'convstore': {told}, which JSON does not bring back")
    assert "load=" in line
    assert ("CONVSTORE_TYPES=tagged" in line) == bool(cure)
    caplog.clear()
    tagged = Site("memory://", TYPES="tagged")
    tagged.put("s", {"f": value})
    assert bool(caplog.records) != bool(cure)


QUIET: dict[str, Any] = {
    "texts": {"role": "user", "content": "hi"},
    "JSON": {"a": [1, 2.5, None, True, {"b": "c"}], "n": 10**18, "long": ["x"] * 999},
    "enums that are texts or numbers": {"word": Word.RED, "level": Level.LOW},
    "None": None,
}


@pytest.mark.parametrize("kind", QUIET)
@pytest.mark.parametrize("types", ["plain", "tagged"])
def test_what_comes_back_is_not_told(caplog: pytest.LogCaptureFixture, kind: str, types: str) -> None:
    site = Site("memory://", TYPES=types)
    site.put("s", {"f": QUIET[kind], "history": [QUIET[kind]]})
    site.ok(lambda: site.sessions["s"].update(f=[QUIET[kind]]))
    assert not caplog.records


@in_memory
def test_each_door_tells(url: str, caplog: pytest.LogCaptureFixture) -> None:
    site = Site(url)
    convstore = site.convstore

    def lines() -> list[str]:
        found = [record.getMessage().partition(" which")[0] for record in caplog.records]
        caplog.clear()
        return found

    def grow() -> None:
        site.sessions["s"]["history"].append({"at": AT})
        site.sessions["s"]["seen"] = {"ada": AT}

    def note() -> None:
        convstore.mapping("notes")["a"] = AT

    site.put("s", {"history": [{"role": "user", "content": "hi"}]})
    site.ok(grow)
    assert lines() == [
        "the store 'convstore': seen.ada holds a datetime,",
        "the store 'convstore': history[1].at holds a datetime,",
    ]
    site.ok(note)
    assert lines() == ["the mapping 'notes' of the store 'convstore': a value holds a datetime,"]
    with site.app.app_context():
        convstore.append("s", SdkMessage(), {"at": AT.date()}, Message({"n": (1,)}), data={"id": uuid.UUID(int=1)})
        assert [line.partition(": ")[2] for line in lines()] == [
            "history[1].at holds a date,",
            "id holds a UUID,",
        ]
        convstore.update_session("s", data={"day": AT.date()})
        with convstore.turn("s", "hi") as turn:
            turn.data["tuple"] = (1,)
            turn.reply(SdkMessage())
        assert [line.partition(": ")[2] for line in lines()] == ["day holds a date,", "tuple holds a tuple,"]


class Note:
    at: dt.datetime
    pair: tuple[str, int]

    def __init__(self) -> None:
        self.at = AT
        self.pair = ("q", 1)
        self.word = Word.RED
        self.level = Level.LOW


class Chat:
    def __init__(self, value: Any) -> None:
        self.value = value
        self.note = "x"


class Bigger(Chat):
    pass


LOST: dict[str, tuple[Any, str]] = {
    "a datetime": (
        AT,
        "value holds a datetime, which comes back as a str. Annotate it with its type in its class, or set",
    ),
    "a datetime in a list": ([{"at": AT}], "value[0].at holds a datetime, which comes back as a str"),
    "an enum": (Color.RED, "value holds a Color, which comes back as a str. Annotate it with its type in its class."),
    "a set": ({"a"}, "value holds a set, which comes back as a list"),
    "a tuple": ((1, 2), "value holds a tuple, which comes back as a list"),
    "a UUID": (uuid.UUID(int=1), "value holds a UUID, which comes back as a str"),
    "a Counter": (collections.Counter("aa"), "value holds a Counter, which comes back as a dict"),
    "an object": ([Note()], "value[0] holds a Note, which comes back as a dict"),
    "a dataclass": (Point(1), "value holds a Point, which comes back as a dict"),
}


@pytest.mark.parametrize("case", LOST)
def test_attributes_of_a_plain_class_are_told_once(case: str, caplog: pytest.LogCaptureFixture) -> None:
    site = Site("memory://")
    value, told = LOST[case]
    chats = site.convstore.mapping("chats", load=Chat)
    site.ok(lambda: chats.update(a=Chat(value)))
    site.ok(lambda: chats.update(b=Chat(value)))
    site.ok(lambda: setattr(chats["b"], "note", "y"))
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"the mapping 'chats' of the store 'convstore': {told}")


def test_an_object_of_a_subclass_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    site = Site("memory://")
    chats, both = site.convstore.mapping("chats", load=Chat), site.convstore.mapping("both", load=Bigger | Chat)
    site.ok(lambda: (chats.update(a=Bigger("x")), both.update(a=Bigger("x"))))
    site.ok(lambda: chats.update(b=Bigger("x")))
    [line] = [record.getMessage() for record in caplog.records]
    assert line.endswith("a value holds a Bigger, which comes back as a Chat. Name both: load=Chat | ….")


@pytest.mark.parametrize(("types", "value"), [("plain", Note()), ("plain", "x"), ("tagged", (AT, {uuid.UUID(int=1)}))])
def test_objects_that_come_back_are_not_told(types: str, value: Any, caplog: pytest.LogCaptureFixture) -> None:
    site = Site("memory://", TYPES=types)
    is_note = isinstance(value, Note)
    chats: Any = site.convstore.mapping("chats", load=Note if is_note else Chat)
    site.ok(lambda: chats.update(a=value if is_note else Chat(value)))
    assert not caplog.records
    if not is_note:
        with site.app.app_context():
            assert chats["a"].value == value


def test_a_loss_is_found_in_sets_and_beside_attributes_that_are_gone() -> None:
    mine, other = Chat({"a": [frozenset({AT})]}), Chat({"a": [frozenset({AT.isoformat()})]})
    del other.note
    assert losses(mine, other) == {dt.datetime: ("value.a[0]", type(None))}


@in_memory
def test_a_converted_value_is_not_told(url: str, caplog: pytest.LogCaptureFixture) -> None:
    site = Site(url)
    typed = site.convstore.mapping("typed", load=dict[str, dt.datetime])
    pair = site.convstore.mapping("pair", load=dict, dump=lambda value: value)
    site.ok(lambda: (typed.update(a={"at": AT}), pair.update(a={"at": AT})))
    assert not caplog.records


def test_warnings_are_few_and_soon_cost_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = TypeChanges("the store 's'", is_tagged=False)
    looks: list[type] = []
    look = changes._is_kept

    def counted(kind: type) -> bool:
        looks.append(kind)
        return look(kind)

    monkeypatch.setattr(changes, "_is_kept", counted)
    for _ in range(1000):
        changes.look_at({"at": AT}, "f")
    assert len(caplog.records) == 1
    assert len(looks) == 10
    for number in range(1000):
        changes.look_at({"at": AT}, f"f{number}")
    assert len(caplog.records) == 20
    assert len(looks) < 300
    assert not any("2026" in record.getMessage() for record in caplog.records)


def test_a_second_type_under_the_same_name_is_told_in_time(caplog: pytest.LogCaptureFixture) -> None:
    changes = TypeChanges("the store 's'", is_tagged=False)
    for _ in range(4):
        changes.look_at([AT], "f")
    for _ in range(4):
        changes.look_at([Color.RED], "f")
    kinds = [record.getMessage().split(" holds a ")[1].split(",")[0] for record in caplog.records]
    assert kinds == ["datetime", "Color"]


@pytest.mark.parametrize("value", [{"a": object()}, [1] * 3, {"a": {1: 2}}])
def test_asking_never_fails(value: Any) -> None:
    assert isinstance(json_text.comes_back(value, is_tagged=False), bool)


@pytest.fixture(autouse=True)
def _warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "flask_convstore")
