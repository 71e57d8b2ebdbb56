"""Values of the app's own classes > JSON > values: dataclasses, attrs classes, pydantic models, marshmallow schemas.

None of the optional libraries is imported: their classes are known by what they carry.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, MutableSequence, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, NamedTuple, Union, get_args, get_origin
from uuid import UUID


class Converter(NamedTuple):
    """What turns a value into JSON's types (or what ``codecs`` knows as text), and back; *source* is what it was made of."""

    load: Callable[[Any], Any]
    dump: Callable[[Any], Any]
    source: tuple[Any, Any]


def converter_of(load: Any, dump: Callable[[Any], Any] | None) -> Converter | None:
    """The converter for ``load=`` and ``dump=`` of a mapping; None where there is neither.

    Args:
        load: A function from JSON to the value; or a dataclass, an attrs class, a pydantic model, a marshmallow schema
            (class or instance), which know how to dump too.
        dump: A function from the value to JSON; None: what *load* knows.

    Raises:
        TypeError: One of the two is missing.
    """
    if load is None and dump is None:
        return None
    source = (load, dump)
    if isinstance(load, type) and _is_schema(load):
        load = load()
    if _is_schema(type(load)):
        return Converter(load.load, dump or load.dump, source)
    if isinstance(load, type) and hasattr(load, "model_validate"):
        return Converter(
            load.model_validate, dump or (lambda value: value.model_dump(mode="json", by_alias=True)), source
        )
    if _fields(load) is not None:
        return Converter(lambda plain: _built(load, plain), dump or _unbuilt, source)
    if load is None or dump is None:
        raise TypeError("a mapping needs load= and dump= both, or load= a dataclass, attrs class, model or schema")
    return Converter(load, dump, source)


def _is_schema(kind: type) -> bool:
    """Tell whether a class is a schema of marshmallow. A schema that exists has imported marshmallow already."""
    marshmallow = sys.modules.get("marshmallow")
    return marshmallow is not None and issubclass(kind, marshmallow.Schema)


def _fields(kind: Any) -> dict[str, str] | None:
    """What a dataclass or attrs class is made of, with the name that its ``__init__`` takes it by."""
    if not isinstance(kind, type):
        return None
    if dataclasses.is_dataclass(kind):
        return {field.name: field.name for field in dataclasses.fields(kind) if field.init}
    attributes = getattr(kind, "__attrs_attrs__", None)
    if attributes is None:
        return None
    return {one.name: getattr(one, "alias", None) or one.name.lstrip("_") for one in attributes if one.init}


def _unbuilt(value: Any) -> Any:
    """*value* with every dataclass and attrs object in it as a dict of what makes it."""
    names = _fields(type(value))
    if names is not None:
        return {name: _unbuilt(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {key: _unbuilt(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_unbuilt(part) for part in value]
    return value


_TEXTS: dict[type, Callable[[str], Any]] = {
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
    time: time.fromisoformat,
    UUID: UUID,
    Decimal: Decimal,
}


def _built(kind: Any, plain: Any) -> Any:
    """*plain* as an annotation says; as it is where that says nothing that we know. Names that are no fields are left out.

    Raises:
        TypeError, ValueError: It does not fit.
    """
    kind = getattr(kind, "__supertype__", kind)  # of a NewType
    names = _fields(kind)
    if names is not None and isinstance(plain, Mapping):
        hints = typing.get_type_hints(kind)
        given = {names[name]: _built(hints.get(name), plain[name]) for name in names if name in plain}
        return kind(**given)
    if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields") and isinstance(plain, list):
        hints = typing.get_type_hints(kind)  # a NamedTuple
        return kind(*(_built(hints.get(name), part) for name, part in zip(kind._fields, plain, strict=False)))
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _built_as_one_of(arguments, plain)
    if origin in (list, set, frozenset) and isinstance(plain, list):
        return origin(_built(arguments[0], part) for part in plain)
    if origin in (Sequence, MutableSequence, Iterable, Collection) and isinstance(plain, list):
        return [_built(arguments[0], part) for part in plain]
    if origin is tuple and isinstance(plain, list):
        kinds = [arguments[0]] * len(plain) if arguments[1:] == (...,) else arguments
        return tuple(_built(part_kind, part) for part_kind, part in zip(kinds, plain, strict=True))
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(plain, Mapping):
        return {key: _built(arguments[1], part) for key, part in plain.items()}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(plain)
    if kind in (set, frozenset, tuple) and isinstance(plain, list):
        return kind(plain)
    if kind in _TEXTS and isinstance(plain, str):
        return _TEXTS[kind](plain)
    return plain


def _built_as_one_of(kinds: tuple[Any, ...], plain: Any) -> Any:
    """*plain* as the first kind that it fits, None aside."""
    if plain is None:
        return None

    def lacks_fields(kind: Any) -> bool:
        return isinstance(plain, Mapping) and not set(plain) <= set(_fields(kind) or ())

    for kind in sorted(kinds, key=lacks_fields):  # of several classes first those that have a place for all there is
        if kind is type(None):
            continue
        try:
            built = _built(kind, plain)
        except (TypeError, ValueError):
            continue
        expected = get_origin(kind) or kind
        if not isinstance(expected, type) or isinstance(built, expected):
            return built
    return plain
