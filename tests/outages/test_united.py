"""The union of a field that two sides have changed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flask_convstore.outages.united import united

NONE: Any = object()


def text(value: Any) -> bytes | None:
    return None if value is NONE else json.dumps(value).encode()


@pytest.mark.parametrize(
    ("loaded", "ours", "theirs", "both", "is_whole"),
    [
        (NONE, {"a": 1}, {"b": 2}, {"b": 2, "a": 1}, True),
        (NONE, {}, {"b": 2}, {"b": 2}, True),
        (NONE, {"a": 1}, {"a": 1}, {"a": 1}, True),
        (NONE, {"a": 1, "c": 1}, {"a": 2}, {"a": 2, "c": 1}, False),
        ({"a": 1}, {"a": 2}, {"a": 1, "b": 1}, {"a": 2, "b": 1}, True),
        ({"a": 1}, {}, {"a": 1, "b": 1}, {"b": 1}, True),
        ({"a": 1}, {}, {"a": 2}, {"a": 2}, False),
        ({"a": 1, "b": 1}, {"a": 1, "b": 1}, {"b": 1}, {"b": 1}, True),
        (NONE, {"a": {"x": 1}}, {"a": {"y": 1}}, {"a": {"y": 1, "x": 1}}, True),
        ([], {"a": {"x": 1}}, {"a": 7}, {"a": 7}, False),
    ],
)
def test_dicts_have_the_keys_of_both(loaded: Any, ours: Any, theirs: Any, both: Any, is_whole: bool) -> None:
    found = united(text(loaded), text(ours), text(theirs))
    assert found
    assert (json.loads(found.text), found.is_whole) == (both, is_whole)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ([1], {"a": 1}),
        ({"a": 1}, [1]),
        (1, 2),
        (NONE, {}),
        ({}, NONE),
        ({"$convstore": "date", "value": "2026-01-31"}, {"a": 1}),
    ],
)
def test_nothing_else_is_united(ours: Any, theirs: Any) -> None:
    assert united(None, text(ours), text(theirs)) is None
