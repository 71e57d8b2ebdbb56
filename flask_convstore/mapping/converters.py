"""Converters between JSON and values of the app's own classes.

Dataclasses, attrs classes, pydantic models, marshmallow schemas, TypedDicts, named tuples and plain classes can be
converted. attrs and pydantic are not imported. Their classes are known by their attributes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, MutableSequence, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, NamedTuple, Union, get_args, get_origin
from uuid import UUID

_NOT_PLAIN = (Mapping, list, tuple, set, frozenset, str, bytes, int, float, enum.Enum, BaseException)
"""Classes whose objects are more than their attributes."""


class Converter(NamedTuple):
    """A pair of functions between values and JSON.

    Attributes:
        load: Makes a value from JSON.
        dump: Turns a value into JSON, or into values that ``json_text`` writes as text.
        source: The ``load=`` and ``dump=`` of the mapping.
    """

    load: Callable[[Any], Any]
    dump: Callable[[Any], Any]
    source: tuple[Any, Any]


def converter_of(load: Any, dump: Callable[[Any], Any] | None) -> Converter | None:
    """Make the converter for ``load=`` and ``dump=`` of a mapping. None if neither is given.

    Args:
        load: A function from JSON to the value. Or a class that can dump too: a dataclass, an attrs class, a pydantic model,
            a marshmallow schema (class or instance), a TypedDict, a named tuple, or a plain class, whose objects are made of
            their attributes without calling ``__init__``.
        dump: A function from the value to JSON. None, or ``vars``: as the class in *load* does.

    Raises:
        TypeError: One of the two functions is missing, or cannot be called with one value.
    """
    if load is None and dump is None:
        return None
    given_dump = None if dump is vars else dump
    if given_dump is not None:
        _check_callable_with_one_value(given_dump, "dump")
    known = _conversions(load, may_be_plain=given_dump is None)
    if known:
        own_load, own_dump = known
        return Converter(own_load, given_dump or own_dump, (load, dump))
    if load is None or dump is None:
        raise TypeError("a mapping needs load= and dump= both, or load= a class or an annotation such as list[Message]")
    _check_callable_with_one_value(load, "load")
    return Converter(load, dump, (load, dump))


def _check_callable_with_one_value(function: Any, name: str) -> None:
    if not callable(function):
        raise TypeError(f"{name}= must be a function of one value, not {function!r}")
    with contextlib.suppress(ValueError):  # some functions of C have no signature
        try:
            inspect.signature(function).bind(None)
        except TypeError as error:
            cure = (
                "for a plain class pass load= alone"
                if isinstance(function, type)
                else "pass one that takes the value alone"
            )
            raise TypeError(f"{name}={function!r} cannot be called with one value ({error}): {cure}") from None


def _conversions(kind: Any, *, may_be_plain: bool) -> tuple[Callable[[Any], Any], Callable[[Any], Any]] | None:
    """Find the functions by which a class, an annotation or a schema loads and dumps. None if *kind* is none of these."""
    is_class = isinstance(kind, type)
    schema = kind() if is_class and _is_schema(kind) else kind
    if _is_schema(type(schema)):
        return schema.load, schema.dump
    if is_class and hasattr(kind, "model_validate"):
        return kind.model_validate, _dump_model
    if _has_known_parts(kind) or (may_be_plain and _is_plain(kind)):
        return functools.partial(_build, kind), _take_apart
    return None


def _has_known_parts(kind: Any) -> bool:
    """Tell whether a class or an annotation says which parts its values have."""
    is_annotation = get_origin(kind) is not None or typing.is_typeddict(kind)
    return is_annotation or _fields(kind) is not None or _is_named_tuple(kind)


def _is_plain(kind: Any) -> bool:
    """Tell whether *kind* is a class of the app's own whose objects are their attributes."""
    if not isinstance(kind, type) or kind.__module__ in ("builtins", "typing"):
        return False
    return not issubclass(kind, _NOT_PLAIN) and kind.__dictoffset__ != 0


def _is_named_tuple(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def _dump_model(value: Any) -> Any:
    return value.model_dump(mode="json", by_alias=True)


def _is_schema(kind: type) -> bool:
    """Tell whether a class is a schema of marshmallow. A schema that exists has imported marshmallow already."""
    marshmallow = sys.modules.get("marshmallow")
    return marshmallow is not None and issubclass(kind, marshmallow.Schema)


def _fields(kind: Any) -> dict[str, str] | None:
    """Map each field of a dataclass or attrs class to its name in ``__init__``. None if *kind* is no such class."""
    if not isinstance(kind, type):
        return None
    if dataclasses.is_dataclass(kind):
        return {field.name: field.name for field in dataclasses.fields(kind) if field.init}
    attributes = getattr(kind, "__attrs_attrs__", None)
    if attributes is None:
        return None
    return {one.name: getattr(one, "alias", None) or one.name.lstrip("_") for one in attributes if one.init}


def _take_apart(value: Any) -> Any:
    """Turn each dataclass and attrs object in *value* into a dict of its fields."""
    names = _fields(type(value))
    if names is not None:
        return {name: _take_apart(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {key: _take_apart(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_take_apart(part) for part in value]
    if _is_plain(type(value)) and type(value) not in _TEXTS:
        return {name: _take_apart(part) for name, part in vars(value).items()}
    return value


def _build(kind: Any, plain: Any) -> Any:
    """Build a value from JSON as an annotation says. JSON stays as it is where the annotation is not known.

    Raises:
        TypeError, ValueError: The JSON does not fit the annotation.
    """
    kind = getattr(kind, "__supertype__", kind)  # of a NewType
    if get_origin(kind) in (Union, types.UnionType):
        return _build_one_of(get_args(kind), plain)
    if isinstance(plain, dict):
        return _build_from_dict(kind, plain)
    if isinstance(plain, list):
        return _build_from_list(kind, plain)
    return _convert(kind, plain)


def _build_from_dict(kind: Any, plain: dict[Any, Any]) -> Any:
    """Build an object or a dict. Keys that are no fields of the object are left out."""
    names = _fields(kind)
    if names is not None:
        hints = typing.get_type_hints(kind)
        given = {names[name]: _build(hints.get(name), plain[name]) for name in names if name in plain}
        return kind(**given)
    if typing.is_typeddict(kind):
        hints = typing.get_type_hints(kind)
        return {key: _build(hints.get(key), part) for key, part in plain.items()}
    if _is_plain(kind):
        return _build_plain(kind, plain)
    origin = get_origin(kind)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        part_kind = get_args(kind)[1]
        return {key: _build(part_kind, part) for key, part in plain.items()}
    return _convert(kind, plain)


def _build_plain(kind: Any, plain: dict[Any, Any]) -> Any:
    """Build an object of a plain class without calling its ``__init__``, which may do more than set attributes."""
    hints = typing.get_type_hints(kind)
    built = kind.__new__(kind)
    vars(built).update({name: _build(hints.get(name), part) for name, part in plain.items()})
    return built


def _build_from_list(kind: Any, plain: list[Any]) -> Any:
    """Build a list, a set or a tuple."""
    if _is_named_tuple(kind):
        hints = typing.get_type_hints(kind)  # of a NamedTuple
        return kind(*(_build(hints.get(name), part) for name, part in zip(kind._fields, plain, strict=False)))
    if get_origin(kind) is not None:
        return _build_parts(get_origin(kind), get_args(kind), plain)
    if kind in (set, frozenset, tuple):
        return kind(plain)
    return _convert(kind, plain)


def _build_parts(origin: Any, arguments: tuple[Any, ...], plain: list[Any]) -> Any:
    """Build a list, a set or a tuple whose annotation says what its parts are."""
    if origin in (list, set, frozenset):
        return origin(_build(arguments[0], part) for part in plain)
    if origin in (Sequence, MutableSequence, Iterable, Collection):
        return [_build(arguments[0], part) for part in plain]
    if origin is tuple:
        kinds = [arguments[0]] * len(plain) if arguments[1:] == (...,) else arguments
        return tuple(_build(part_kind, part) for part_kind, part in zip(kinds, plain, strict=True))
    return plain


_TEXTS: dict[type, Callable[[str], Any]] = {
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
    time: time.fromisoformat,
    UUID: UUID,
    Decimal: Decimal,
}


def _convert(kind: Any, plain: Any) -> Any:
    """Make a member of an enum, or a value that JSON holds as text."""
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(plain)
    if isinstance(plain, str) and kind in _TEXTS:
        return _TEXTS[kind](plain)
    return plain


def _build_one_of(kinds: tuple[Any, ...], plain: Any) -> Any:
    """Build a value of the first kind that fits. None stays None."""
    if plain is None:
        return None

    def lacks_fields(kind: Any) -> bool:
        return isinstance(plain, Mapping) and not set(plain) <= set(_fields(kind) or ())

    # Classes that have a field for each key come first.
    for kind in sorted(kinds, key=lacks_fields):
        if kind is type(None):
            continue
        try:
            built = _build(kind, plain)
        except (TypeError, ValueError):
            continue
        expected = get_origin(kind) or kind
        if not isinstance(expected, type) or isinstance(built, expected):
            return built
    return plain
