"""Tagged JSON: values of types that JSON lacks, written so that they come back as they went in.

A tag is an object of two keys, ``{"$convstore": "date", "value": "2026-01-31"}``. The list of tags is closed, and no tag
names anything to import. An object of the app that has the key ``$convstore`` is written as a tag too, ``dict``, so that no
data of a client or an app is ever taken for a tag.

| tag              | value                                                            | plain JSON             |
| ---------------- | ---------------------------------------------------------------- | ---------------------- |
| datetime         | ISO 8601, with its offset                                        | the same               |
| date, time       | ISO 8601                                                         | the same               |
| timedelta        | days, seconds, microseconds                                      | seconds                |
| uuid, decimal    | its text                                                         | the same               |
| bytes            | Base64                                                           | the same               |
| tuple            | its elements                                                     | a list                 |
| set, frozenset   | its elements in the order of their JSON texts                    | a list                 |
| dict             | an object whose names are the JSON texts of the dict's keys      | an object              |
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any
from uuid import UUID

import orjson

from . import json_types

KEY = "$convstore"
"""The key that tells a tag."""

MARK = b'{"$convstore":'
"""The beginning of a tag in JSON text."""

_VALUE = "value"
_LEAVES = frozenset({str, int, float, bool, NoneType})
_TEXTS = {str}
_SCALARS: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "datetime": (datetime, datetime.isoformat, datetime.fromisoformat),
    "date": (date, date.isoformat, date.fromisoformat),
    "time": (time, time.isoformat, time.fromisoformat),
    "timedelta": (timedelta, lambda value: [value.days, value.seconds, value.microseconds], lambda v: timedelta(*v)),
    "uuid": (UUID, str, UUID),
    "decimal": (Decimal, str, Decimal),
    "bytes": (
        bytes,
        lambda value: base64.b64encode(value).decode(),
        lambda text: base64.b64decode(text, validate=True),
    ),
}
"""Tags of values without parts: the type, the way to JSON and the way back."""

_CONTAINERS: dict[str, type] = {"tuple": tuple, "set": set, "frozenset": frozenset}
_TAGS = {kind: (name, write) for name, (kind, write, _) in _SCALARS.items()}
_NAMES = {kind: name for name, kind in _CONTAINERS.items()}

TAGGED_TYPES = (*_TAGS, *_NAMES)
"""The types that have a tag, beside dicts."""

Convert = Callable[[Any], Any]


def has_tags(text: bytes) -> bool:
    """Tell whether JSON text may hold tags. Most texts have no dollar, which is found in a fraction of the time."""
    return b"$" in text and MARK in text


def tag(value: Any, convert: Convert) -> Any:
    """Write *value* as tagged JSON. A part of an unknown type stays as it is, for the error that comes of it.

    Args:
        convert: Makes JSON of an object that knows how. TypeError if it does not.
    """
    kind = type(value)
    if kind in _LEAVES:
        return value
    if kind is dict:
        return _tagged_dict(value, convert)
    if kind is list:
        return [part if type(part) in _LEAVES else tag(part, convert) for part in value]
    if kind in _TAGS:
        name, write = _TAGS[kind]
        return {KEY: name, _VALUE: write(value)}
    if kind in _NAMES:
        parts = [tag(part, convert) for part in value]
        return {KEY: _NAMES[kind], _VALUE: parts if kind is tuple else in_order(parts)}
    return _tagged_other(value, convert)


def _tagged_other(value: Any, convert: Convert) -> Any:
    """Write a value of a class of the app, or of a subclass of a known type."""
    if isinstance(value, Enum):
        return tag(value.value, convert)
    parts = _parts_of_other(value)
    if isinstance(parts, dict):
        return _tagged_dict(parts, convert)
    if parts is not None:
        return [tag(part, convert) for part in parts]
    if isinstance(value, datetime | date | time):
        return value  # of a subclass, such as those of pandas
    try:
        converted = convert(value)
    except Exception:
        return value
    return tag(converted, convert) if type(converted) is not type(value) else converted


def _parts_of_other(value: Any) -> dict[Any, Any] | list[Any] | None:
    """List the parts of a dict or list of a class of its own, or of a dataclass. None if it has none."""
    parts = json_types.plain(value)
    return parts if type(parts) in (dict, list) else None


def _tagged_dict(value: dict[Any, Any], convert: Convert) -> Any:
    parts = {key: part if type(part) in _LEAVES else tag(part, convert) for key, part in list(value.items())}
    if KEY not in parts and set(map(type, parts)) <= _TEXTS:
        return parts
    return _with_text_keys(parts)


def _with_text_keys(parts: dict[Any, Any]) -> dict[str, Any]:
    """Write a dict whose keys are no plain texts, or of which one is the key of tags."""
    if KEY not in parts and all(isinstance(key, str) for key in parts):
        return {str.__str__(key): part for key, part in parts.items()}
    try:
        return {KEY: "dict", _VALUE: {_text_of_key(key): part for key, part in parts.items()}}
    except TypeError:
        return parts


def _text_of_key(key: Any) -> str:
    if isinstance(key, str):
        key = str.__str__(key)
    elif type(key) not in _LEAVES and type(key) not in TAGGED_TYPES:
        raise TypeError
    return orjson.dumps(tag(key, _no_key)).decode()


def _no_key(_: Any) -> Any:
    raise TypeError


def in_order(parts: list[Any]) -> list[Any]:
    """Sort the tagged elements of a set, so that equal sets have equal texts."""
    try:
        return sorted(parts, key=orjson.dumps)
    except TypeError:
        return parts


def escaped(json: Any) -> Any:
    """Write JSON that knows no tags as tagged JSON: objects with the key of a tag become tags."""
    return tag(json, _no_key)


def restore(json: Any) -> Any:
    """Make the value of tagged JSON, whose lists and dicts are changed.

    Raises:
        ValueError: It has a tag of an unknown name, or a bad value.
    """
    if type(json) is list:
        for index, part in enumerate(json):
            if type(part) not in _LEAVES:
                json[index] = restore(part)
    elif type(json) is dict:
        if KEY in json:
            return _restored_tag(json)
        for key, part in json.items():
            if type(part) not in _LEAVES:
                json[key] = restore(part)
    return json


def _restored_tag(json: dict[str, Any]) -> Any:
    try:
        name, value = json[KEY], json[_VALUE]
        if name in _SCALARS:
            return _SCALARS[name][2](value)
        if name == "dict":
            return {restore(orjson.loads(key)): restore(part) for key, part in value.items()}
        return _CONTAINERS[name](map(restore, value))
    except (LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"it has an unknown or bad type tag ({type(error).__name__})") from None


def plain(json: Any) -> Any:
    """Make plain JSON of tagged JSON, as it is written without tags."""
    if isinstance(json, list):
        return [part if type(part) in _LEAVES else plain(part) for part in json]
    if not isinstance(json, dict):
        return json
    if KEY in json:
        return _plain_of_tag(json[KEY], json[_VALUE])
    return {key: part if type(part) in _LEAVES else plain(part) for key, part in json.items()}


def _plain_of_tag(name: str, value: Any) -> Any:
    if name == "dict":
        return {_plain_key(key): plain(part) for key, part in value.items()}
    return seconds_of(timedelta(*value)) if name == "timedelta" else plain(value)


def _plain_key(text: str) -> str:
    key = plain(orjson.loads(text))
    return key if isinstance(key, str) else orjson.dumps(key).decode()


def seconds_of(value: timedelta) -> int | float:
    """Write a duration as a number of seconds, a whole one where it is."""
    seconds = value.total_seconds()
    return int(seconds) if seconds.is_integer() else seconds


# ---- parts of tagged JSON


def tag_of(json: Any) -> str | None:
    """Name the tag that *json* is. None if it is none."""
    return json.get(KEY) if isinstance(json, dict) else None


def value_in(json: Any) -> Any:
    """Give the JSON in a tag, or *json* itself if it is none."""
    return json[_VALUE] if tag_of(json) else json


def with_tag(name: str, value: Any) -> dict[str, Any]:
    """Put JSON into a tag."""
    return {KEY: name, _VALUE: value}


def keyed(json: dict[str, Any]) -> dict[str, Any]:
    """Map the JSON texts of a dict's keys to its values."""
    return json[_VALUE] if KEY in json else {orjson.dumps(name).decode(): part for name, part in json.items()}


def of_keyed(parts: dict[str, Any]) -> dict[str, Any]:
    """Make a dict of the JSON texts of its keys: a tag if a key is no text, or the key of a tag."""
    keys = list(map(orjson.loads, parts))
    if KEY not in map(_hashable, keys) and all(isinstance(key, str) for key in keys):
        return dict(zip(keys, parts.values(), strict=True))
    return with_tag("dict", parts)


def _hashable(key: Any) -> Any:
    return key if isinstance(key, str) else None


# ---- types that JSON changes


def changed_parts(value: Any, path: str, is_kept: Callable[[type], bool], most: int = 10_000) -> dict[type, str]:
    """Map each type in *value* that JSON changes to the path of its first part.

    Args:
        is_kept: Tells the types that come back as they went in.
        most: Most parts to look at.
    """
    found: dict[type, str] = {}
    stack = [(path, value)]
    while stack and most > 0:
        most -= 1
        place, part = stack.pop()
        kind = type(part)
        if kind in (dict, list) or is_kept(kind):
            stack += reversed(_children(part, place))
        elif kind not in _LEAVES:
            found.setdefault(kind, place)
    return found


def _children(value: Any, path: str) -> list[tuple[str, Any]]:
    """List the parts of a container, with their paths."""
    if isinstance(value, dict):
        return [(f"{path}.{key}" if path else str(key), part) for key, part in value.items()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [(f"{path}[{index}]", part) for index, part in enumerate(value)]
    return []
