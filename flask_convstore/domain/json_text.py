"""JSON text for values: the one form in which the store keeps values of the app.

A value that is decoded and encoded again gives the same bytes. So a changed value is found. Besides JSON's own types these
are written: datetime, date, time (RFC 3339), UUID and Decimal (their text), Enum (its value), dataclass (an object), tuple
(an array). There is no pickle.

Tagged text brings types back (``value_types``). Reading knows tags in any text. No value of an app or a client becomes one.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections import deque
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import orjson

from ..errors import NotSerializable, TooDeep
from . import value_types

MAX_DEPTH = 100
"""Deepest nesting of arrays and objects. orjson's own limit is 254. An answer wraps a value in a few more levels."""


_OBJECTS = {dict}
_TOGETHER = 200
"""Number of texts that are decoded together. All of a long history would not fit into a processor's cache."""


def encode(value: object, path: str = "", *, is_tagged: bool = False) -> bytes:
    """Encode *value* as JSON text.

    Args:
        is_tagged: Write types that JSON lacks so that they come back.

    Raises:
        NotSerializable: JSON cannot hold it: NaN, an integer over 64 bits, a lone surrogate, a key that is no text, an
            object of unknown type. The error names the place, below *path*.
        TooDeep: It is nested deeper than ``MAX_DEPTH``, or contains itself.
    """
    if is_tagged:
        value = tagged(value, path)
    try:
        text = orjson.dumps(value, default=_as_json)
    except (TypeError, RecursionError) as error:
        text = _encoded_by_keys(value, path, error)
    # orjson writes null for NaN and Infinity. Only a text with such a null, or with many brackets, is worth a closer look. A
    # dict of texts, as most messages are, is worth none.
    if not is_of_texts(value) and (_may_hide_nan(value, text) or text.count(b"[") + text.count(b"{") > MAX_DEPTH):
        _look_closely(value, path)
    if is_tagged or b"$" not in text or _KEY not in text:
        return text
    return orjson.dumps(value_types.escaped(orjson.loads(text)))


_KEY = b'"%b":' % value_types.KEY.encode()


def tagged(value: object, path: str = "") -> Any:
    """Write *value* as tagged JSON. What JSON cannot hold at all stays as it is.

    Raises:
        TooDeep: It contains itself.
    """
    try:
        return value_types.tag(value, _as_json)
    except RecursionError:
        raise _too_deep(path, MAX_DEPTH) from None


_TEXTS = {str}


def is_of_texts(value: object) -> bool:
    """Tell a text, and a dict of nothing but texts, as most messages are."""
    if type(value) is not dict:
        return type(value) is str
    return set(map(type, value.values())) <= _TEXTS


def is_encoded(values: list[Any] | tuple[Any, ...], texts: list[bytes]) -> bool:
    """Tell whether *texts* are the JSON texts of *values*, in a tenth of the time that encoding takes.

    False also where that is not sure: a null beside other types may have been NaN, a dataclass may be a message of ours.
    """
    if len(values) != len(texts) or any(map(dataclasses.is_dataclass, set(map(type, values)))):
        return False
    for start in range(0, len(texts), _TOGETHER):
        together = b"[%b]" % b",".join(texts[start : start + _TOGETHER])
        part: Any = values[start : start + _TOGETHER]
        try:
            if value_types.has_tags(together):
                part = value_types.tag(list(part), _as_json)
            if orjson.dumps(part, default=_as_json) != together or _may_hide_nan(part, together):
                return False
        except (TypeError, RecursionError):
            return False
    return True


_STRICT = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS


def comes_back(value: object, *, is_tagged: bool) -> bool:
    """Tell whether reading gives *value* as it is now, with all its types. False also where that is not sure."""
    if is_of_texts(value) or value is None:
        return True
    try:
        text = orjson.dumps(value, default=_kept_by_tags if is_tagged else None, option=_STRICT)
        is_same = orjson.loads(text) == value
        return bool(is_same or (is_tagged and value_types.restore(tagged(value)) == value))
    except Exception:  # also of a comparison
        return False


def _kept_by_tags(value: Any) -> Any:
    """Give the parts of a value that has a tag, or nothing. TypeError if it has none."""
    if type(value) in (set, frozenset):
        return list(value)
    if type(value) in value_types.TAGGED_TYPES:
        return None
    raise TypeError


def _may_hide_nan(value: object, text: bytes) -> bool:
    """Tell whether a null in *text* may be a NaN in *value*, which equals nothing."""
    try:
        return b"null" in text and bool(orjson.loads(text) != value)
    except Exception:  # of a comparison
        return True


def check_depth(value: object, path: str, deepest: int) -> None:
    """Refuse a *value* that is nested deeper than so many levels.

    Raises:
        TooDeep: It is.
    """
    for _ in _parts(value, path, deepest):
        pass


def dump(value: object) -> bytes:
    """Write a value that was encoded or decoded before as plain JSON, without tags. It is not checked again."""
    try:
        return orjson.dumps(value, default=_as_json)
    except TypeError:
        return orjson.dumps(value_types.plain(value_types.tag(value, _as_json)))


def decode(text: bytes) -> Any:
    """Decode JSON *text*. ValueError if it is none."""
    value = orjson.loads(text)
    return value_types.restore(value) if value_types.has_tags(text) else value


def parse(text: bytes) -> Any:
    """Decode JSON *text*, and leave its tags as they are. ValueError if it is none."""
    return orjson.loads(text)


def write(json: object) -> bytes:
    """Encode JSON that was parsed before. Its tags are tags."""
    return orjson.dumps(json)


def decode_many(texts: list[bytes]) -> list[Any]:
    """Decode several JSON texts.

    Raises:
        ValueError: One is no JSON text. The second argument is the index of the first of these.
    """
    values: list[Any] = []
    for start in range(0, len(texts), _TOGETHER):
        part = texts[start : start + _TOGETHER]
        # One array decodes in a fraction of the time of many texts. Only objects count: "[1" and "2],3" give an array too.
        joined = b"[%b]" % b",".join(part)
        try:
            together = [] if value_types.has_tags(joined) else orjson.loads(joined)
        except ValueError:
            together = []
        if len(together) == len(part) and set(map(type, together)) <= _OBJECTS:
            values += together
        else:
            values += [_decoded(text, index) for index, text in enumerate(part, start)]
    return values


def _decoded(text: bytes, index: int) -> Any:
    try:
        return decode(text)
    except ValueError as error:
        raise ValueError(str(error), index) from None


def _as_json(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, tuple):  # a named one: orjson takes plain ones only
        return list(value)
    # Messages of the vendors' SDKs and models of pydantic know how they become JSON.
    if callable(getattr(value, "model_dump", None)) and not isinstance(value, type):
        return value.model_dump(mode="json")
    if callable(getattr(value, "to_dict", None)) and not isinstance(value, type):
        return value.to_dict()
    raise TypeError


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
        return orjson.dumps(value, default=_as_json, option=orjson.OPT_NON_STR_KEYS)
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
            raise _too_deep(path, deepest) from None
        stack.extend((place, child, depth + 1) for place, child in reversed(children))


def _too_deep(path: str, deepest: int) -> TooDeep:
    return TooDeep(f"nested deeper than {deepest} levels, or contains itself. Nothing was written.", path)


def _children(value: object, path: str) -> list[tuple[str, object]] | None:
    """List the parts of *value*, with paths. None if it can contain nothing."""
    if isinstance(value, dict):
        if value_types.KEY in value and len(value) == 2:  # of a tag
            return [(path, child) for child in value.values()]
        return [(f"{path}.{key}" if path else str(key), child) for key, child in list(value.items())]
    if isinstance(value, (list, tuple)):
        return [(f"{path}[{index}]", child) for index, child in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return [(f"{path}.{field.name}" if path else field.name, getattr(value, field.name)) for field in fields]
    if isinstance(value, enum.Enum):
        return [(path, value.value)]
    return None


def _reason(part: object) -> str | None:
    """Explain why JSON cannot hold *part* itself, whatever it contains. None if it can."""
    if isinstance(part, dict):
        for key in part:
            if not isinstance(key, str):
                return f"the key {key!r} is no text. {_CURE_OF_KEYS}"
            if _has_surrogate(key):
                return "a key holds a lone surrogate"
        return None
    if isinstance(part, str):
        return "the text holds a lone surrogate" if _has_surrogate(part) else None
    if isinstance(part, int) and not -(2**63) <= part < 2**64:
        return "the integer has more than 64 bits"
    if isinstance(part, (list, tuple)) or (dataclasses.is_dataclass(part) and not isinstance(part, type)):
        return None
    try:
        orjson.dumps(part, default=_as_json)
    except TypeError:
        if isinstance(part, deque):
            return f"JSON cannot hold a deque{_cure_of_deques(part.maxlen)}"
        cure = f". {_CURE}" if type(part) in value_types.TAGGED_TYPES else ""
        return f"JSON cannot hold a {type(part).__name__}{cure}"
    return None


def _cure_of_deques(length: int | None) -> str:
    if length is None:
        return ". Use a list, or give the mapping a load= with type hints"
    return f" with maxlen={length}. Use a list, and cut it with del last[:-{length}]"


_CURE_OF_KEYS = "Make it a text, or set CONVSTORE_TYPES=tagged, which keeps the keys of dicts inside fields"
_CURE = "Set CONVSTORE_TYPES=tagged, or give the mapping a load= with type hints"


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
