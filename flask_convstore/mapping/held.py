"""Held values: whether anybody else, such as a thread, refers to a value or to a part of one."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, ModuleType, NoneType
from typing import Any, Protocol
from uuid import UUID

from .place import NO_VALUE

_MOST_PARTS = 10_000
"""Most parts of a value that are asked whether somebody holds them."""

_NEWEST = 200
"""Most elements of a list that are asked: its last ones."""

_LEAVES = frozenset({str, int, float, bool, type(None)})
_CONTAINERS = frozenset({dict, list, set})
"""Classes of most of the parts, known at a glance."""

_MOST_OWN_PARTS = 1000
"""Most parts of an object of the app's class that are searched for references to the object itself."""

_UNCHANGING = (str, bytes, int, float, complex, NoneType, Enum, date, time, timedelta, Decimal, UUID)
"""Types whose values nobody can change. Python shares some of them, so that their references tell nothing."""

_NO_PARTS = (*_UNCHANGING, type, ModuleType, FunctionType, BuiltinFunctionType, CodeType, FrameType)
"""Types whose references lead to all of the program."""


class Holder(Protocol):
    """An object with a value, to which its attribute is the only reference of ours."""

    value: Any


def is_held(holder: Holder, *, is_object: bool) -> bool:
    """Count the references to a value. More than ours: somebody else holds it too.

    The lists, dicts and sets in it are asked too. The first message of a list is not: a system prompt is often a constant
    of a module, which refers to it for ever.

    Args:
        is_object: The value is an object of the app's class.
    """
    if holder.value is NO_VALUE:
        return False
    if isinstance(holder.value, (dict, list)):
        return sys.getrefcount(holder.value) > _OWN_REFERENCES or _is_part_held(holder.value)
    return is_object and not isinstance(holder.value, _UNCHANGING) and _is_object_held(holder)


def _is_object_held(holder: Holder) -> bool:
    others = sys.getrefcount(holder.value) - _OWN_REFERENCES
    if others > 0 and others > _to_itself(holder.value):
        return True
    return _is_part_held(getattr(holder.value, "__dict__", None))


def _to_itself(value: Any) -> int:
    """Count the references of an object to itself, such as those of its bound methods, or of its parts to their parent."""
    seen, found, parts = {id(value)}, 0, gc.get_referents(value)
    for part in parts:
        if part is value:
            found += 1
        elif id(part) not in seen and not isinstance(part, _NO_PARTS) and len(parts) < _MOST_OWN_PARTS:
            seen.add(id(part))
            parts += gc.get_referents(part)
    return found


def _is_part_held(value: Any) -> bool:
    """Ask the parts level by level. Parts that stand in the value twice are told from held ones only if there are any."""
    if not isinstance(value, (dict, list)):
        return False
    level, count = _parts_of([value]), 0
    while level and count < _MOST_PARTS:
        if max(map(sys.getrefcount, level)) > _OWN_REFERENCES_OF_PARTS:
            level.clear()
            return _most_references_from_outside(value) > _NO_REFERENCES_FROM_OUTSIDE
        count += len(level)
        level = _parts_of(level) if any(map(gc.is_tracked, level)) else []
    return False


def _parts_of(containers: list[Any]) -> list[Any]:
    return [
        part
        for container in filter(
            gc.is_tracked, containers
        )  # a dict of nothing but texts and numbers is not: it has no parts
        if not isinstance(container, set)  # the parts of a set cannot change
        for part in (list(container.values()) if isinstance(container, dict) else container[-_NEWEST:])
        if part.__class__ in _CONTAINERS or (part.__class__ not in _LEAVES and isinstance(part, (dict, list, set)))
    ]


def _most_references_from_outside(value: Any) -> int:
    """Count the references to the parts of a value without those from the value itself."""
    known: dict[int, Any] = {}
    from_inside: Counter[int] = Counter()
    first_messages: set[int] = set()
    level = [value]
    while level and len(known) < _MOST_PARTS:
        first_messages.update(map(id, _first_messages(level)))
        parts = _parts_of(level)
        from_inside.update(map(id, parts))
        level = list({id(part): part for part in parts if id(part) not in known}.values())
        known.update((id(part), part) for part in level)
        parts.clear()
    level.clear()
    asked = [known.pop(key) for key in list(known) if key not in first_messages]
    counts = map(sys.getrefcount, asked)
    return max((count - from_inside[id(part)] for part, count in zip(asked, counts, strict=True)), default=0)


def _first_messages(containers: list[Any]) -> list[Any]:
    firsts = [found[0] for found in containers if isinstance(found, list) and found]
    return [first for first in firsts if isinstance(first, dict) and not _parts_of([first])]


class _Sample:
    """A value that nobody else holds."""

    def __init__(self) -> None:
        self.value: dict[str, list[object]] = {"part": []}


_SAMPLE = _Sample()
_OWN_REFERENCES = sys.getrefcount(_SAMPLE.value)
_OWN_REFERENCES_OF_PARTS = max(map(sys.getrefcount, _parts_of([_SAMPLE.value])))
_NO_REFERENCES_FROM_OUTSIDE = _most_references_from_outside(_SAMPLE.value)
