"""Held values: references of somebody else are found, and nothing of ours is taken for one."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Any

import pytest

from flask_convstore.mapping.held import is_held
from flask_convstore.mapping.place import NO_VALUE


class Color(Enum):
    RED = "red"


class Box:
    def __init__(self, value: Any) -> None:
        self.value = value


@pytest.mark.parametrize("make", [lambda: {"a": [{}], "b": {}, "c": 1}, lambda: [{"a": []}, [], 1], dict, list])
def test_a_value_of_its_own_is_not_held(make: Any) -> None:
    box = Box(make())
    assert not is_held(box, is_object=False)


def test_a_value_or_a_part_near_its_top_that_somebody_has_is_held() -> None:
    box = Box({"messages": [], "n": 1})
    value = box.value
    assert is_held(box, is_object=False)
    del value
    messages = box.value["messages"]
    assert is_held(box, is_object=False)
    del messages
    assert not is_held(box, is_object=False)


@pytest.mark.parametrize("take", [lambda v: v["a"][1]["b"], lambda v: v["a"][1]["b"][0], lambda v: v["c"]["d"]])
def test_a_part_deep_in_a_value_that_somebody_has_is_held(take: Any) -> None:
    box = Box({"a": [{}, {"b": [{"e": []}]}], "c": {"d": {"n": 1}}})
    assert not is_held(box, is_object=False)
    part = take(box.value)
    assert is_held(box, is_object=False)
    del part
    assert not is_held(box, is_object=False)


def test_a_part_in_two_places_of_the_value_is_not_held() -> None:
    message: dict[str, Any] = {"content": "hi"}
    box = Box({"messages": [{}, message], "log": [{}, message]})
    assert is_held(box, is_object=False)
    del message
    assert not is_held(box, is_object=False)


SYSTEM = {"role": "system", "content": "You are kind."}


@pytest.mark.parametrize(
    ("make", "is_taken_for_held"),
    [
        (lambda: [SYSTEM], False),
        (lambda: {"messages": [SYSTEM, {"role": "user"}]}, False),
        (lambda: [{}, SYSTEM], True),
    ],
)
def test_a_constant_as_the_first_message_is_not_held(make: Any, is_taken_for_held: bool) -> None:
    box = Box(make())
    assert is_held(box, is_object=False) is is_taken_for_held


def test_an_object_of_the_app_s_class_is_asked_itself() -> None:
    box = Box(Box(1))
    assert not is_held(box, is_object=True)
    held = box.value
    assert is_held(box, is_object=True)
    assert not is_held(box, is_object=False)
    assert held is box.value


def test_no_value_is_held_by_nobody() -> None:
    assert not is_held(Box(NO_VALUE), is_object=True)


@pytest.mark.parametrize("value", ["text", 5, True, None, Color.RED, datetime(2026, 1, 1), 0.5])
def test_a_value_that_nobody_can_change_is_not_held(value: Any) -> None:
    """Python shares small numbers, texts and members of enums, so that they have many references."""
    assert not is_held(Box(value), is_object=True)


class Agent:
    """An object with references to itself, by bound methods, a closure and its parts."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.tools = {"search": self.search, "again": [self.search]}
        self.parts = [Box(self), Box([Box(self)])]

    def search(self) -> None: ...


def test_an_object_that_refers_to_itself_is_not_held() -> None:
    box = Box(Agent())
    assert not is_held(box, is_object=True)
    agent = box.value
    assert is_held(box, is_object=True)
    del agent
    assert not is_held(box, is_object=True)


def test_a_list_of_an_object_that_somebody_has_is_held() -> None:
    """A view may hand the list of messages of its conversation to a thread."""
    box = Box(Agent())
    messages = box.value.messages
    assert is_held(box, is_object=True)
    del messages
    assert not is_held(box, is_object=True)
