"""JSON text for values: the one form in which the store keeps values of the app.

A value that is decoded and encoded again gives the same bytes. So a changed value is found. ``json_types`` has the rule
for what JSON makes of a type. There is no pickle.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Iterator
from typing import Any

import orjson

from ..errors import NotSerializable, TooDeep
from .json_types import dumps, plain

MAX_DEPTH = 100
"""Deepest nesting of arrays and objects. orjson's own limit is 254. An answer wraps a value in a few more levels."""


_OBJECTS = {dict}
_TOGETHER = 200
"""Number of texts that are decoded together. All of a long history would not fit into a processor's cache."""


def encode(value: object, path: str = "") -> bytes:
    """Encode *value* as JSON text.

    Raises:
        NotSerializable: JSON cannot hold it: NaN, an integer over 64 bits, a lone surrogate, a key that is no text, an
            object of unknown type. The error names the place, below *path*.
        TooDeep: It is nested deeper than ``MAX_DEPTH``, or contains itself.
    """
    try:
        text = dumps(value)
    except (TypeError, RecursionError) as error:
        text = _encoded_by_keys(value, path, error)
    # orjson writes null for NaN and Infinity. Only a text with a null, or with many brackets, is worth a closer look. A dict
    # of texts, as most messages are, is worth none.
    if not _is_of_texts(value) and (b"null" in text or text.count(b"[") + text.count(b"{") > MAX_DEPTH):
        _look_closely(value, path)
    return text


_TEXTS = {str}


def _is_of_texts(value: object) -> bool:
    if type(value) is not dict:
        return type(value) is str
    return set(map(type, value.values())) <= _TEXTS


def is_encoded(values: list[Any] | tuple[Any, ...], texts: list[bytes]) -> bool:
    """Tell whether *texts* are the JSON texts of *values*, in a tenth of the time that encoding takes.

    False also where that is not sure: a null may have been NaN, a dataclass may be a message of ours.
    """
    if len(values) != len(texts) or any(map(dataclasses.is_dataclass, set(map(type, values)))):
        return False
    for start in range(0, len(texts), _TOGETHER):
        together = b"[%b]" % b",".join(texts[start : start + _TOGETHER])
        try:
            if b"null" in together or dumps(values[start : start + _TOGETHER]) != together:
                return False
        except (TypeError, RecursionError):
            return False
    return True


def check_depth(value: object, path: str, deepest: int) -> None:
    """Refuse a *value* that is nested deeper than so many levels.

    Raises:
        TooDeep: It is.
    """
    for _ in _parts(value, path, deepest):
        pass


def dump(value: object) -> bytes:
    """Encode a value that was encoded or decoded before. It is not checked again."""
    return dumps(value)


def decode(text: bytes) -> Any:
    """Decode JSON *text*. ValueError if it is none."""
    return orjson.loads(text)


def decode_many(texts: list[bytes]) -> list[Any]:
    """Decode several JSON texts.

    Raises:
        ValueError: One is no JSON text. The second argument is the index of the first of these.
    """
    values: list[Any] = []
    for start in range(0, len(texts), _TOGETHER):
        part = texts[start : start + _TOGETHER]
        # One array decodes in a fraction of the time of many texts. Only objects count: "[1" and "2],3" give an array too.
        try:
            together = orjson.loads(b"[%b]" % b",".join(part))
        except ValueError:
            together = []
        if len(together) == len(part) and set(map(type, together)) <= _OBJECTS:
            values += together
        else:
            values += [_decoded(text, index) for index, text in enumerate(part, start)]
    return values


def _decoded(text: bytes, index: int) -> Any:
    try:
        return orjson.loads(text)
    except ValueError as error:
        raise ValueError(str(error), index) from None


def _encoded_by_keys(value: object, path: str, error: Exception) -> bytes:
    """Encode a *value* whose keys are texts of their own class, such as a StrEnum. orjson takes them only when told to.

    Raises:
        NotSerializable: It cannot be encoded at all. The error names the innermost part.
    """
    for place, part in _parts(value, path):
        reason = _reason(part)
        if reason:
            raise NotSerializable(f"{reason}. Nothing was written.", place) from None
    try:
        return dumps(value, orjson.OPT_NON_STR_KEYS)
    except (TypeError, RecursionError):
        raise NotSerializable(f"{error}. Nothing was written.", path) from None


def _look_closely(value: object, path: str) -> None:
    for place, part in _parts(value, path):
        if isinstance(part, float) and not math.isfinite(part):
            raise NotSerializable(f"JSON has no {part!r}. Nothing was written.", place)


def _parts(value: object, path: str, deepest: int = MAX_DEPTH) -> Iterator[tuple[str, object]]:
    """Iterate over every part of *value* with its path, itself first.

    Raises:
        TooDeep: It nests too deep, or contains itself.
    """
    stack = [(path, value, 1)]
    while stack:
        place, part, depth = stack.pop()
        yield place, part
        children = _children(part, place)
        if children is None:
            continue
        if depth > deepest:
            raise TooDeep(
                f"nested deeper than {deepest} levels, or contains itself. Nothing was written.", path
            ) from None
        stack.extend((place, child, depth + 1) for place, child in reversed(children))


def _children(value: object, path: str) -> list[tuple[str, object]] | None:
    """List the parts of *value*, with paths. None if it can contain nothing."""
    value = plain(value)
    if isinstance(value, dict):
        return [(f"{path}.{key}" if path else str(key), child) for key, child in list(value.items())]
    if isinstance(value, (list, tuple)):
        return [(f"{path}[{index}]", child) for index, child in enumerate(value)]
    if isinstance(value, enum.Enum):
        return [(path, value.value)]
    return None


def _reason(part: object) -> str | None:
    """Explain why JSON cannot hold *part* itself, whatever it contains. None if it can."""
    part = plain(part)
    if isinstance(part, dict):
        for key in part:
            if not isinstance(key, str):
                return f"the key {key!r} is no text"
            if _has_surrogate(key):
                return "a key holds a lone surrogate"
        return None
    if isinstance(part, str):
        return "the text holds a lone surrogate" if _has_surrogate(part) else None
    if isinstance(part, int) and not -(2**63) <= part < 2**64:
        return "the integer has more than 64 bits"
    if isinstance(part, list):
        return None
    try:
        dumps(part)
    except TypeError as error:
        return str(error.__cause__ or f"JSON cannot hold a {type(part).__name__}")
    return None


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
