"""One rule for what JSON makes of a type, wherever a value comes from.

| type                                      | JSON                                                            |
| ----------------------------------------- | --------------------------------------------------------------- |
| dict, list, str, int, float, bool, None   | as they are                                                     |
| subclass of one, such as ``np.float64``   | as its base: a dict by its ``items()``, a list by its iteration |
| MultiDict, also ``request.values``        | object of arrays, since a key may have several values           |
| UserDict, ChainMap, mappingproxy          | object                                                          |
| tuple, named tuple, UserList              | array                                                           |
| UserString                                | text                                                            |
| datetime, date, time, and subclasses      | text (RFC 3339). A time's zone needs a fixed offset             |
| UUID, Decimal                             | text                                                            |
| Enum                                      | its value                                                       |
| dataclass                                 | object of all its fields, also those that begin with ``_``      |
| object with ``model_dump`` or ``to_dict`` | the object that this returns                                    |
| any other                                 | refused                                                         |

A class is found by its names, since tests with a frozen clock put classes of their own in the place of datetime's.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any

import orjson

_OPTIONS = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS


def dumps(value: object, options: int = 0) -> bytes:
    """Encode *value*. Plain values are encoded in C alone.

    Raises:
        TypeError, RecursionError: It cannot be encoded.
    """
    try:
        return orjson.dumps(value, as_json, _OPTIONS | options)
    except TypeError as error:
        if "tzinfo" not in str(error):
            raise
        return orjson.dumps(value, as_json, _OPTIONS | options | orjson.OPT_PASSTHROUGH_DATETIME)


def plain(value: Any) -> Any:
    """Make a dict or a list of what becomes an object or an array. Any other value stays."""
    if type(value) in _PLAIN:
        return value
    kind: Any = type(value)
    form = _form_of(kind)
    return form(value) if form and (form in _CONTAINERS or dataclasses.is_dataclass(kind)) else value


def as_json(value: Any) -> Any:
    """Make a value that is nearer to JSON. TypeError if there is no rule for its type."""
    kind: Any = type(value)
    form = _form_of(kind)
    if form is None:
        raise TypeError(f"JSON cannot hold a {kind.__name__}")
    return form(value)


def _object(value: Any) -> dict[Any, Any]:
    return dict(value.items())


def _multiple(value: Any) -> dict[Any, Any]:
    return dict(value.to_dict(flat=False))


def _fields_of(kind: Any) -> Callable[[Any], dict[str, Any]]:
    """Make the function that makes an object of a dataclass of that *kind*."""
    names = [field.name for field in dataclasses.fields(kind)]
    if len(names) < 2:
        return lambda value: {name: getattr(value, name) for name in names}
    values = operator.attrgetter(*names)
    return lambda value: dict(zip(names, values(value), strict=True))


def _time(value: Any) -> str:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise TypeError("a time's zone needs a fixed offset")
    return str(value.isoformat())


def _model(value: Any) -> Any:
    return value.model_dump(mode="json")


def _dict_of(value: Any) -> Any:
    return value.to_dict()


_FORMS: dict[str, Callable[[Any], Any]] = {
    "werkzeug.datastructures.structures.MultiDict": _multiple,
    "builtins.dict": _object,
    "collections.UserDict": _object,
    "collections.ChainMap": _object,
    "builtins.mappingproxy": _object,
    "builtins.list": list,
    "builtins.tuple": list,
    "collections.UserList": list,
    "collections.UserString": str,
    "builtins.str": str.__str__,
    "builtins.int": int.__int__,
    "builtins.float": float.__float__,
    "datetime.datetime": lambda value: value.isoformat("T"),
    "datetime.date": lambda value: value.isoformat(),
    "datetime.time": _time,
    "decimal.Decimal": str,
}
_CONTAINERS: set[Callable[[Any], Any]] = {_multiple, _object, list}
_PLAIN = {dict, list, str, int, float, bool, type(None)}


@functools.lru_cache(maxsize=1000)
def _form_of(kind: Any) -> Callable[[Any], Any] | None:
    """Choose what makes a plain value of an instance of *kind*. None if there is no rule."""
    if dataclasses.is_dataclass(kind):
        return _fields_of(kind)
    for base in kind.__mro__:
        form = _FORMS.get(f"{base.__module__}.{base.__qualname__}")
        if form:
            return form
    if callable(getattr(kind, "model_dump", None)):
        return _model
    return _dict_of if callable(getattr(kind, "to_dict", None)) else None
