"""Held values: whether anybody else, such as a thread, refers to a value or to a part of one."""

from __future__ import annotations

import gc
import sys
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, ModuleType, NoneType
from typing import Any, Protocol
from uuid import UUID

from .place import NO_VALUE

_MOST_PARTS = 100
"""Most parts of a value that are asked whether somebody holds them."""


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

    Lists and dicts near its top are asked too. Deeper parts are not.

    Args:
        is_object: The value is an object of the app's class.
    """
    if holder.value is NO_VALUE:
        return False
    if isinstance(holder.value, (dict, list)):
        return _references(holder) > _OWN_REFERENCES or _most_references_of_parts(holder) > _OWN_REFERENCES_OF_PARTS
    return is_object and not isinstance(holder.value, _UNCHANGING) and _is_object_held(holder)


def _is_object_held(holder: Holder) -> bool:
    others = _references(holder) - _OWN_REFERENCES
    if others > 0 and others > _to_itself(holder.value):
        return True
    return _most_references_of_parts(holder) > _OWN_REFERENCES_OF_PARTS


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


def _references(holder: Holder) -> int:
    return sys.getrefcount(holder.value)


def _most_references_of_parts(holder: Holder) -> int:
    if isinstance(holder.value, dict):
        parts = [part for part in list(holder.value.values()) if isinstance(part, (dict, list))]
    elif isinstance(holder.value, list):
        parts = [part for part in holder.value[-_MOST_PARTS:] if isinstance(part, (dict, list))]
    else:
        attributes = getattr(holder.value, "__dict__", {})
        parts = [part for part in list(attributes.values()) if isinstance(part, (dict, list))]
        del attributes
    return max(map(sys.getrefcount, parts[:_MOST_PARTS]), default=0)


class _Sample:
    """A value that nobody else holds."""

    def __init__(self) -> None:
        self.value: dict[str, list[object]] = {"part": []}


_OWN_REFERENCES = _references(_Sample())
_OWN_REFERENCES_OF_PARTS = _most_references_of_parts(_Sample())
