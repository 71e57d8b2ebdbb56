"""JSON text for values: the one form in which the store keeps values of the app.

A value that is decoded and encoded again gives the same bytes. So a changed value is found. ``json_types`` has the rule
for what JSON makes of a type. There is no pickle.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import Any

import orjson

from ..errors import NotSerializable, TooDeep
from .json_search import Key, Search, place_of, shortened
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
    if not _is_known(value) and (b"null" in text or text.count(b"[") + text.count(b"{") > MAX_DEPTH):
        _look_closely(value, path)
    return text


class Decoded(dict[str, Any]):
    """An object that ``encode_decoded`` has taken, or a copy of it. Its values need no closer look."""

    __slots__ = ()


_MOST_LEVELS = 254
"""Deepest nesting that orjson encodes."""


def encode_decoded(value: object, deepest: int = MAX_DEPTH, *, is_placed: bool = True) -> bytes:
    """Encode what JSON text was decoded to, in C alone, also the check that it is not deeper than so many levels.

    Args:
        is_placed: The error names the place.

    Returns:
        The text in brackets.

    Raises:
        TooDeep: It is nested deeper.
        NotSerializable: As ``encode``.
    """
    boxed = value
    for _ in range(_MOST_LEVELS - deepest):
        boxed = [boxed]
    try:
        return orjson.dumps(boxed)
    except (TypeError, RecursionError) as error:
        if _is_about_depth(error):
            raise _too_deep(deepest, "") from None
        if not is_placed:
            raise NotSerializable(f"{error}. Nothing was written.") from None
        return encode(value)


def encode_known(value: object, path: str = "") -> bytes:
    """Encode a value of an object that is ``Decoded``."""
    return orjson.dumps(value)


def check_finite(value: object, deepest: int = MAX_DEPTH) -> None:
    """Refuse a *value* with a NaN or an infinite number.

    Raises:
        NotSerializable: It has one. The error names the place.
    """
    _look_closely(value, "", deepest)


_TEXTS = {str}


def _is_known(value: object) -> bool:
    """Tell whether *value* is neither deep nor has a number, or was looked at before."""
    if type(value) is not dict:
        return type(value) in (str, Decoded)
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
    _find(_NOTHING._replace(deepest=deepest), value, path)


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
    if _is_about_depth(error):
        raise _too_deep(MAX_DEPTH, path) from None
    found = _find(_REFUSED, value, path)
    if found:
        place, part = found
        raise NotSerializable(f"{_reason(part)}. Nothing was written.", place) from None
    try:
        return dumps(value, orjson.OPT_NON_STR_KEYS)
    except (TypeError, RecursionError):
        raise NotSerializable(f"{error}. Nothing was written.", path) from None


def _look_closely(value: object, path: str, deepest: int = MAX_DEPTH) -> None:
    found = _find(_NOT_FINITE._replace(deepest=deepest), value, path)
    if found:
        place, part = found
        raise NotSerializable(f"JSON has no {part!r}. Nothing was written.", place)


def _find(search: Search, value: object, path: str) -> tuple[str, object] | None:
    """Find the first part of *value* that *search* refuses, with its place.

    Raises:
        TooDeep: The value nests too deep, or contains itself.
    """
    try:
        found = search.find(value)
    except RecursionError:
        raise _too_deep(search.deepest, path) from None
    return (place_of(path, found[0]), found[1]) if found else None


def _is_about_depth(error: Exception) -> bool:
    return "ecursion limit" in str(error)


def _too_deep(deepest: int, path: str) -> TooDeep:
    return TooDeep(f"nested deeper than {deepest} levels, or contains itself. Nothing was written.", path)


def _children(value: object) -> list[tuple[Key, object]]:
    """List the parts of *value*, with their keys."""
    value = plain(value)
    if isinstance(value, dict):
        return [(str(key), child) for key, child in list(value.items())]
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    if isinstance(value, enum.Enum):
        return [(None, value.value)]
    return []


def _refused_leaves(leaves: list[object]) -> list[object]:
    try:
        orjson.dumps(leaves)
    except TypeError:
        return [leaf for leaf in leaves if _reason(leaf)]
    return []


def _not_finite(leaves: list[object]) -> list[object]:
    return [leaf for leaf in leaves if isinstance(leaf, float) and not math.isfinite(leaf)]


def _is_infinite(part: object) -> bool:
    """Tell whether *part* is a float, be it of a subclass, that JSON has no number for."""
    return isinstance(part, float) and not math.isfinite(part)


def _is_refused(part: object) -> bool:
    return _reason(part) is not None


def _reason(part: object) -> str | None:
    """Explain why JSON cannot hold *part* itself, whatever it contains. None if it can."""
    part = plain(part)
    if isinstance(part, dict):
        for key in part:
            if not isinstance(key, str):
                return f"the key {shortened(repr(key))} is no text"
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
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


_NOTHING = Search(MAX_DEPTH, lambda leaves: [], lambda part: False, _children, has_keys=False)
_NOT_FINITE = _NOTHING._replace(leaves=_not_finite, is_refused=_is_infinite)
_REFUSED = Search(MAX_DEPTH, _refused_leaves, _is_refused, _children)
