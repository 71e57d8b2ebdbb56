"""JSON text for values: the one form in which the store keeps values of the app.

A value that is decoded and encoded again gives the same bytes. So a changed value is found. ``json_types`` has the rule
for what JSON makes of a type. There is no pickle.

Tagged text brings types back (``value_types``). Reading knows tags in any text. No value of an app or a client becomes one.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections import deque
from collections.abc import Sequence
from itertools import chain
from typing import Any

import orjson

from ..errors import NotSerializable, TooDeep
from . import value_types
from .json_search import Key, Search, place_of, shortened
from .json_types import as_json, dumps, plain

MAX_DEPTH = 100
"""Deepest nesting of arrays and objects. orjson's own limit is 254. An answer wraps a value in a few more levels."""


_OBJECTS = frozenset({dict})
_TEXTS = frozenset({str})


def encode(value: object, path: str = "", *, is_tagged: bool = False) -> bytes:
    """Encode *value* as JSON text.

    Args:
        is_tagged: Write types that JSON lacks so that they come back.

    Raises:
        NotSerializable: JSON cannot hold it: NaN, an integer over 64 bits, a lone surrogate, a key that is no text, an
            object of unknown type. The error names the place, below *path*.
        TooDeep: It is nested deeper than ``MAX_DEPTH``, or contains itself.
    """
    kind = type(value)
    if kind is str or (kind is dict and _TEXTS.issuperset(map(type, value.values()))):  # type: ignore[attr-defined]
        # A text, and a dict of texts, as most messages are, need no closer look.
        try:
            text = orjson.dumps(value)
        except TypeError:
            return _encode(value, path, is_tagged)
        if b"$" not in text:
            return text
    return _encode(value, path, is_tagged)


def _encode(value: object, path: str, is_tagged: bool) -> bytes:
    if is_tagged:
        value = tagged(value, path)
    try:
        text = dumps(value)
    except (TypeError, RecursionError) as error:
        text = _encoded_by_keys(value, path, error)
    # orjson writes null for NaN and Infinity. Only a text with such a null, or with many brackets, is worth a closer look.
    if not _is_known(value) and (_may_hide_nan(value, text) or text.count(b"[") + text.count(b"{") > MAX_DEPTH):
        _look_closely(value, path)
    return text if is_tagged or b"$" not in text else _escaped(text)


def encode_texts(value: dict[Any, str] | str) -> bytes:
    """Encode a value that ``is_of_texts``, as ``encode`` does, tagged or not. b"" for one that JSON cannot hold."""
    try:
        text = orjson.dumps(value)
    except TypeError:
        return b""
    return text if b"$" not in text else _escaped(text)


def _escaped(text: bytes) -> bytes:
    """Write an object that looks like a tag so that it comes back as it is."""
    return text if _KEY not in text else orjson.dumps(value_types.escaped(orjson.loads(text)))


_KEY = b'"%b":' % value_types.KEY.encode()


def tagged(value: object, path: str = "") -> Any:
    """Write *value* as tagged JSON. What JSON cannot hold at all stays as it is.

    Raises:
        TooDeep: It contains itself.
    """
    try:
        return value_types.tag(value, as_json)
    except RecursionError:
        raise _too_deep(MAX_DEPTH, path) from None


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


def encode_known(value: object) -> bytes:
    """Encode a value of an object that is ``Decoded``."""
    return _escaped(orjson.dumps(value))


def check_finite(value: object, deepest: int = MAX_DEPTH) -> None:
    """Refuse a *value* with a NaN or an infinite number.

    Raises:
        NotSerializable: It has one. The error names the place.
    """
    _look_closely(value, "", deepest)


def _is_known(value: object) -> bool:
    """Tell whether *value* is neither deep nor has a number, or was looked at before."""
    return type(value) is Decoded or is_of_texts(value)


def is_of_texts(value: object) -> bool:
    """Tell a text, and a dict of nothing but texts, as most messages are."""
    return type(value) is str or (type(value) is dict and _TEXTS.issuperset(map(type, value.values())))


def is_encoded(values: Sequence[Any], text: bytes, *, is_tagged: bool = False) -> bool:
    """Tell whether *text* is what ``encode`` makes of *values*, as a JSON list. A text with tags is known by itself.

    False also where that is not sure: a null beside other types may have been NaN, a dataclass may be a message of ours.
    """
    if any(map(dataclasses.is_dataclass, set(map(type, values)))):
        return False
    part: Any = values
    try:
        if is_tagged or value_types.has_tags(text):
            part = value_types.tag(list(values), as_json)
        return dumps(part) == text and not _may_hide_nan(part, text)
    except (TypeError, RecursionError):
        return False


_STRICT = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS


def comes_back(value: object, *, is_tagged: bool) -> bool:
    """Tell whether reading gives *value* as it is now, with all its types. False also where that is not sure."""
    if _is_known(value) or value is None:
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
        return not _is_list_of_texts(value) and b"null" in text and bool(orjson.loads(text) != value)
    except Exception:  # of a comparison
        return True


def _is_list_of_texts(value: object) -> bool:
    """Tell a list of dicts of nothing but texts, as most histories are. That takes a tenth of a search in their text."""
    if type(value) is not list or not set(map(type, value)) <= _OBJECTS:
        return False
    return set(map(type, chain.from_iterable(map(dict.values, value)))) <= _TEXTS


def check_depth(value: object, path: str, deepest: int) -> None:
    """Refuse a *value* that is nested deeper than so many levels.

    Raises:
        TooDeep: It is.
    """
    _find(_NOTHING._replace(deepest=deepest), value, path)


def dump(value: object) -> bytes:
    """Write a value that was encoded or decoded before as plain JSON, without tags. It is not checked again."""
    try:
        return dumps(value)
    except TypeError:
        return dumps(value_types.plain(value_types.tag(value, as_json)))


def decode(text: bytes) -> Any:
    """Decode JSON *text*. ValueError if it is none."""
    value = orjson.loads(text)
    return value_types.restore(value) if b"$" in text and value_types.has_tags(text) else value


def parse(text: bytes) -> Any:
    """Decode JSON *text*, and leave its tags as they are. ValueError if it is none."""
    return orjson.loads(text)


def write(json: object) -> bytes:
    """Encode JSON that was parsed before. Its tags are tags."""
    return orjson.dumps(json)


def decode_together(joined: bytes, count: int) -> list[Any] | None:
    """Decode a JSON list of so many objects, in a fraction of the time of many texts. None if it is none, or may have tags.

    Only objects count: ``1],[2`` gives a list too.
    """
    try:
        values = None if b"$" in joined and value_types.has_tags(joined) else orjson.loads(joined)
    except ValueError:
        return None
    is_good = type(values) is list and len(values) == count and _OBJECTS.issuperset(map(type, values))
    return values if is_good else None


def decode_each(texts: Sequence[bytes], first_index: int) -> list[Any]:
    """Decode several JSON texts.

    Raises:
        ValueError: One is no JSON text. The second argument is its index, counted from *first_index*.
    """
    return [_decoded(text, index) for index, text in enumerate(texts, first_index)]


def _decoded(text: bytes, index: int) -> Any:
    try:
        return decode(text)
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
    return (place_of(path, _without_tags(value, found[0])), found[1]) if found else None


def _without_tags(value: Any, keys: list[Key]) -> list[Key]:
    """Leave out the steps from a tag to its value. The app's value has none."""
    kept = []
    for number, key in enumerate(keys):
        is_tag = isinstance(value, dict) and len(value) == 2 and value_types.KEY in value
        kept += [] if is_tag else [key]
        if not isinstance(value, (dict, list, tuple)):
            return kept + keys[number + 1 :]
        is_there = key in value if isinstance(value, dict) else isinstance(key, int)
        value = value[key] if is_there else None  # type: ignore[index]
    return kept


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
                return f"the key {shortened(repr(key))} is no text. {_CURE_OF_KEYS}"
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
        if isinstance(part, deque):
            return f"JSON cannot hold a deque{_cure_of_deques(part.maxlen)}"
        cure = f". {_CURE}" if type(part) in value_types.TAGGED_TYPES else ""
        return f"{error.__cause__ or f'JSON cannot hold a {type(part).__name__}'}{cure}"
    return None


def _cure_of_deques(length: int | None) -> str:
    if length is None:
        return ". Use a list, or give the mapping a load= with type hints"
    return f" with maxlen={length}. Use a list, and cut it with del last[:-{length}]"


_CURE_OF_KEYS = "Make it a text, or set CONVSTORE_TYPES=tagged, which keeps the keys of dicts inside fields"
_CURE = "Set CONVSTORE_TYPES=tagged, or give the mapping a load= with type hints"


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


_NOTHING = Search(MAX_DEPTH, lambda leaves: [], lambda part: False, _children, has_keys=False)
_NOT_FINITE = _NOTHING._replace(leaves=_not_finite, is_refused=_is_infinite)
_REFUSED = Search(MAX_DEPTH, _refused_leaves, _is_refused, _children)
