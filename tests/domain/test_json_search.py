"""The first part that JSON cannot hold is found at any depth and in any kind of part, with its place."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_convstore.domain import json_text
from flask_convstore.domain.json_search import place_of
from flask_convstore.errors import NotSerializable, TooDeep

Path = list[str | int]


def leading_to(path: Path, part: Any, beside: int) -> Any:
    """A value with *part* at the end of *path*, and other parts around each step."""
    value = part
    for key in reversed(path):
        if isinstance(key, int):
            value = [*([[]] * key), value, *([0, {}, "x", [1]] * beside)]
        else:
            value = {**{f"before{n}": [n] for n in range(beside)}, key: value, "": {}, "behind": [None]}
    return value


PATHS = st.lists(st.integers(0, 2000) | st.sampled_from(["a", "b", "long name"]), max_size=6)


@given(PATHS, st.sampled_from([2**64, float("nan"), "\ud800", {1: 2}, object()]), st.integers(0, 3))
def test_the_place_is_found(path: Path, part: Any, beside: int) -> None:
    with pytest.raises(NotSerializable) as caught:
        json_text.encode(leading_to(path, part, beside), "data")
    assert caught.value.path == place_of("data", path)


class Box(enum.Enum):
    FULL = (1, float("inf"))


@dataclasses.dataclass
class Pair:
    left: Any
    right: Any


def test_parts_of_other_types_have_a_place_too() -> None:
    value = [0, Pair(1, ({"a": Box.FULL}, 2))]
    with pytest.raises(NotSerializable) as caught:
        json_text.encode(value)
    assert caught.value.path == "[1].right[0].a[1]"


def test_a_place_is_short() -> None:
    assert len(place_of("data", ["k" * 1_000_000] * 100)) < 500
    with pytest.raises(NotSerializable) as caught:
        json_text.encode({"k" * 1_000_000: [float("nan")]})
    assert len(str(caught.value)) < 500


def test_a_value_that_contains_its_parts_often_is_refused_in_time() -> None:
    value: Any = [object()]
    for _ in range(90):
        value = [value, value]
    with pytest.raises(NotSerializable):
        json_text.encode(value)
    loop: list[Any] = []
    loop += [loop, loop, 2**64]
    with pytest.raises(TooDeep):
        json_text.encode(loop)


@pytest.mark.parametrize("deepest", [1, 8, json_text.MAX_DEPTH])
def test_decoded_values_are_as_deep_as_is_allowed(deepest: int) -> None:
    value: Any = 0
    for _ in range(deepest):
        value = [value]
    assert json_text.encode_decoded(value, deepest)
    for deeper in ([value], {"a": value}):
        with pytest.raises(TooDeep):
            json_text.encode_decoded(deeper, deepest)
