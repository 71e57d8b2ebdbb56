"""Held values: whether anybody else, such as a thread, refers to a value or to a part of one."""

from __future__ import annotations

import sys
from typing import Any, Protocol

from .place import NO_VALUE

_MOST_PARTS = 100
"""Most parts of a value that are asked whether somebody holds them."""


class Holder(Protocol):
    """An object with a value, to which its attribute is the only reference of ours."""

    value: Any


def is_held(holder: Holder, *, is_object: bool) -> bool:
    """Count the references to a value. More than ours: somebody else holds it too.

    Lists and dicts near its top are asked too. Deeper parts are not.

    Args:
        is_object: The value is an object of the app's class, whose parts are not known.
    """
    if holder.value is NO_VALUE:
        return False
    if is_object or isinstance(holder.value, (dict, list)):
        return _references(holder) > _OWN_REFERENCES or _most_references_of_parts(holder) > _OWN_REFERENCES_OF_PARTS
    return False


def _references(holder: Holder) -> int:
    return sys.getrefcount(holder.value)


def _most_references_of_parts(holder: Holder) -> int:
    if isinstance(holder.value, dict):
        parts = [part for part in holder.value.values() if isinstance(part, (dict, list))]
    elif isinstance(holder.value, list):
        parts = [part for part in holder.value[-_MOST_PARTS:] if isinstance(part, (dict, list))]
    else:
        return 0
    return max(map(sys.getrefcount, parts[:_MOST_PARTS]), default=0)


class _Sample:
    """A value that nobody else holds."""

    def __init__(self) -> None:
        self.value: dict[str, list[object]] = {"part": []}


_OWN_REFERENCES = _references(_Sample())
_OWN_REFERENCES_OF_PARTS = _most_references_of_parts(_Sample())
