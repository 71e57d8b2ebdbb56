"""``mapping(messages=…)``: messages come back as objects of their class, and two requests that append keep both."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import functools
import types
from typing import Annotated, Any, Literal, TypedDict

import attrs
import pydantic
import pytest

from flask_convstore import Message
from flask_convstore.mapping.converters import converter_of, converter_of_messages

from ..service import in_memory
from .test_mapping import Site
from .test_overlaps import does, overlap

AT = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
USER = {"role": "user", "content": "hi"}


@dataclasses.dataclass
class Said:
    text: str
    at: dt.datetime = AT
    tags: set[str] = dataclasses.field(default_factory=set)


@attrs.define
class Line:
    text: str
    at: dt.datetime = AT


class Plain:
    at: dt.datetime

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = AT

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(self.text)


class Dated(TypedDict):
    role: str
    at: dt.datetime


class Base(pydantic.BaseModel):
    """As the base of LangChain's messages."""

    content: str
    type: str


class Human(Base):
    type: Literal["human"] = "human"


class Ai(Base):
    type: Literal["ai"] = "ai"
    usage: dict[str, int] | None = None


AnyMessage = Annotated[Human | Ai, pydantic.Field(discriminator="type")]


class Completion(pydantic.BaseModel):
    """As a message of OpenAI's SDK, whose services refuse a null where nothing was set."""

    model_config = pydantic.ConfigDict(extra="allow")
    role: Literal["assistant"]
    content: str | None = None
    audio: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_unset=True)


class Blob(pydantic.BaseModel):
    """As a part of Gemini's content."""

    model_config = pydantic.ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    data: bytes


class TextBlock(pydantic.BaseModel):
    type: Literal["text"]
    text: str


class ToolBlock(pydantic.BaseModel):
    type: Literal["tool_use"]
    input: dict[str, Any]


class Answer(TypedDict):
    role: str
    content: str | list[TextBlock | ToolBlock]


BLOCKS = [TextBlock(type="text", text="yo"), ToolBlock(type="tool_use", input={"a": 1})]

KINDS: dict[str, tuple[Any, list[Any]]] = {
    "a dataclass": (Said, [Said("a", tags={"x"}), Said("b")]),
    "an attrs class": (Line, [Line("a"), Line("b")]),
    "a plain class": (Plain, [Plain("a"), Plain("b")]),
    "a TypedDict": (Dated, [{"role": "user", "at": AT}, {"role": "assistant", "at": AT}]),
    "a pydantic model beside dicts": (Completion, [USER, Completion(role="assistant", content="yo"), "text"]),
    "a model with bytes": (Blob, [Blob(data=b"\x00\xff")]),
    "a union by a type": (AnyMessage, [Human(content="hi"), Ai(content="yo", usage={"in": 1})]),
    "a base class": (Base, [Human(content="hi"), Ai(content="yo"), Base(content="?", type="other")]),
    "a union of dataclasses": (Said | Line, [Said("a", tags={"x"}), USER]),
    "models in a TypedDict": (Answer, [{"role": "user", "content": "hi"}, {"role": "assistant", "content": BLOCKS}]),
    "a tuple": (tuple[str, dt.datetime], [("hi", AT), ("yo", AT)]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", ["list", "history", "messages"])
def test_messages_come_back_as_they_went_in(url: str, kind: str, shape: str, caplog: pytest.LogCaptureFixture) -> None:
    of, messages = KINDS[kind]
    site = Site(url)
    chats = site.convstore.mapping("chats", messages=of)
    beside = {"s": copy.deepcopy(messages if shape == "list" else {shape: messages, "n": 1})}

    def history(value: Any) -> list[Any]:
        found: list[Any] = value if shape == "list" else value[shape]
        return found

    def is_same() -> None:
        assert [(type(one), one) for one in history(chats["s"])] == [(type(one), one) for one in history(beside["s"])]

    def grow(chats: Any) -> None:
        history(chats["s"]).append(copy.deepcopy(messages[-1]))

    site.ok(lambda: chats.update(copy.deepcopy(beside)))
    for _ in range(3):
        site.ok(is_same)
        site.ok(lambda: grow(chats))
        grow(beside)
    site.ok(is_same)
    assert not caplog.records
    changes = [
        does(functools.partial(lambda one, value: history(value).append(one), one))
        for one in (messages[0], messages[-1])
    ]
    overlap(chats, changes, site)
    beside_history = history(beside["s"])
    beside_history += [messages[0], messages[-1]]
    site.ok(is_same)


@in_memory
def test_a_request_that_reads_writes_nothing(url: str) -> None:
    site = Site(url)
    chats = site.convstore.mapping("chats", messages=Completion)
    site.ok(
        lambda: chats.update(
            s={"history": [USER, Completion.model_validate({"role": "assistant", "content": "yo", "extra": 1})]}
        )
    )
    site.ok(lambda: chats["s"])
    with site.app.app_context():
        access = chats._access()
        snapshot = access.load("s")
        assert snapshot is not None
        assert snapshot.version == 1
        assert b"audio" not in snapshot.elements[1]


@in_memory
def test_another_history_key_and_messages_with_an_envelope(url: str) -> None:
    site = Site(url)
    chats = site.convstore.mapping("chats", messages=Said, history_key="messages")
    site.ok(
        lambda: chats.update(s={"messages": [Said("a"), Message({"text": "b"}, metadata={"m": 1})], "history": ["x"]})
    )
    site.ok(lambda: chats["s"]["messages"].append(Said("c")))

    def view() -> None:
        assert chats["s"] == {"messages": [Said("a"), Said("b"), Said("c")], "history": ["x"]}

    site.ok(view)


@in_memory
def test_fields_beside_the_messages_are_told_or_tagged(url: str, caplog: pytest.LogCaptureFixture) -> None:
    site = Site(url)
    site.ok(lambda: site.convstore.mapping("chats", messages=Said).update(s={"history": [Said("a")], "at": AT}))
    assert [record.getMessage().partition(" which")[0] for record in caplog.records] == [
        "the mapping 'chats' of the store 'convstore': at holds a datetime,"
    ]
    tagged = Site(url, TYPES="tagged")
    chats = tagged.convstore.mapping("chats", messages=Said)
    value = {"history": [Said("a", tags={"x"})], "at": AT, "n": {1: {2}}}
    tagged.ok(lambda: chats.update(s=copy.deepcopy(value)))

    def view() -> None:
        assert chats["s"] == value

    tagged.ok(view)


def test_wrong_options_are_refused() -> None:
    site = Site("memory://")
    with pytest.raises(TypeError, match="messages= must be the class"):
        site.convstore.mapping("a", messages=lambda value: value)
    with pytest.raises(TypeError, match="messages= is for values without load="):
        site.convstore.mapping("a", messages=Said, load=Said)


@pytest.mark.parametrize(
    "value", [Said("a", tags={"x"}), Ai(content="yo"), Blob(data=b"\xff")], ids=lambda value: type(value).__name__
)
def test_models_inside_of_other_hints(value: Any) -> None:
    kind: Any = types.GenericAlias(dict, (str, types.GenericAlias(list, (type(value),))))
    converter = converter_of(kind, None)
    assert converter is not None
    assert converter.load(converter.dump({"a": [value]})) == {"a": [value]}
    assert converter_of_messages(kind).load({"history": [{"a": [value]}]}, "history") == {"history": [{"a": [value]}]}
