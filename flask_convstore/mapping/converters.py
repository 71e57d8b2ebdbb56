"""Converters between JSON and values of the app's own classes.

Dataclasses, attrs classes, pydantic models, marshmallow schemas, TypedDicts, named tuples and plain classes can be
converted, and so can the messages of vendors' SDKs, which are pydantic models. attrs and pydantic are not imported. Their
classes are known by their attributes.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import enum
import functools
import inspect
import operator
import sys
import types
import typing
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, MutableSequence, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin
from uuid import UUID

from ..domain import json_text
from ..domain.messages import Message
from ..domain.value_types import seconds_of

_NOT_PLAIN = (Mapping, list, tuple, set, frozenset, str, bytes, int, float, enum.Enum, BaseException)
"""Classes whose objects are more than their attributes."""


class Converter(NamedTuple):
    """A pair of functions between values and JSON.

    Attributes:
        load: Makes a value from JSON.
        dump: Turns a value into JSON, or into values that ``json_text`` writes as text.
        source: The ``load=``, ``dump=`` or ``messages=`` of the mapping.
        is_pair: Both are functions of the app.
        is_of_messages: Both take the key of the messages too, and convert these only.
        dump_tagged: As *dump*, where sets and tuples need not become lists. None: *dump* makes what comes back.
    """

    load: Callable[..., Any]
    dump: Callable[..., Any]
    source: tuple[Any, ...]
    is_pair: bool = False
    is_of_messages: bool = False
    dump_tagged: Callable[[Any], Any] | None = None


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
        used = given_dump or own_dump
        return Converter(own_load, used, (load, dump), dump_tagged=_tagging(used))
    if load is None or dump is None:
        raise TypeError("a mapping needs load= and dump= both, or load= a class or an annotation such as list[Message]")
    _check_callable_with_one_value(load, "load")
    return Converter(load, dump, (load, dump), is_pair=True)


def _tagging(dump: Callable[[Any], Any]) -> Callable[[Any], Any] | None:
    function: Any = dump
    is_ours = isinstance(function, functools.partial) and function.func is _take_apart
    return functools.partial(function, is_tagged=True) if is_ours else None


def converter_of_messages(kind: Any) -> Converter:
    """Make the converter for ``messages=`` of a mapping, the class of the messages in a list, or under the history's key.

    A message that does not fit the class stays as JSON has it.

    Raises:
        TypeError: *kind* is neither a class nor an annotation that can be converted.
    """
    known = _conversions(kind, may_be_plain=True)
    if known is None:
        raise TypeError(f"messages= must be the class of the messages, or an annotation of several, not {kind!r}")
    make, dump = known

    def load(message: Any) -> Any:
        try:
            return make(message)
        except (TypeError, ValueError, LookupError):
            return message

    are_dicts = not isinstance(kind, type) or typing.is_typeddict(kind)

    def dump_one(message: Any) -> Any:
        # JSON, and messages of other classes, may stand in the history too.
        if isinstance(message, str | list | Message) or (type(message) is dict and not are_dicts):
            return message
        return _dump_model(message) if _is_model(type(message)) else dump(message)

    return Converter(
        lambda content, key: _with_messages(content, key, load),
        lambda content, key: _with_messages(content, key, dump_one),
        (kind,),
        is_of_messages=True,
    )


def _with_messages(content: Any, key: str | None, convert: Callable[[Any], Any]) -> Any:
    """Convert the messages of a list, or those under *key*."""
    if isinstance(content, list):
        return [convert(message) for message in content]
    if isinstance(content, Mapping) and key is not None and isinstance(content.get(key), list):
        return {**content, key: [convert(message) for message in content[key]]}
    return content


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
    if is_class and _is_model(kind):
        return functools.partial(_build_model, kind), _dump_model
    adapter = _adapter_of(kind)
    if adapter:
        return (lambda plain: adapter.validate_json(json_text.dump(plain))), _take_apart
    if _has_known_parts(kind) or (may_be_plain and _is_plain(kind)):
        return functools.partial(_build, kind), _dumper_of(kind)
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


def _is_model(kind: Any) -> bool:
    """Tell whether *kind* is a class of pydantic's, by its methods."""
    return isinstance(kind, type) and hasattr(kind, "model_validate") and hasattr(kind, "model_dump")


def _dump_model(value: Any) -> Any:
    """Turn a model into JSON. The SDKs of OpenAI and Anthropic leave out what was not set, which their services refuse."""
    return value.to_dict() if hasattr(value, "to_dict") else value.model_dump(mode="json", by_alias=True)


def _build_model(kind: Any, plain: Any) -> Any:
    """Build a model by the rules for JSON, so that Base64 becomes bytes, and strict models take the text of a time."""
    kind = _subclass_of(kind, plain) if isinstance(plain, dict) else kind
    if hasattr(kind, "model_validate_json"):
        return kind.model_validate_json(json_text.dump(plain))
    return kind.model_validate(plain)


def _subclass_of(kind: Any, plain: dict[str, Any]) -> Any:
    """Choose the subclass whose literals *plain* has, such as a ``type`` that *kind* needs. *kind* if there is none."""
    needed = _needed_names(kind)
    subclasses = kind.__subclasses__() if needed else []
    for subclass in subclasses:
        literals = [plain.get(name) in values for name, values in _literals_of(subclass) if name in needed]
        if literals and all(literals):
            return subclass
        subclasses += subclass.__subclasses__()
    return kind


def _needed_names(kind: Any) -> set[str]:
    """List the fields of a model that have neither a default nor few values."""
    fields = getattr(kind, "model_fields", {}).items()
    return {name for name, field in fields if field.is_required()} - dict(_literals_of(kind)).keys()


@functools.lru_cache(maxsize=1000)
def _literals_of(kind: Any) -> list[tuple[str, tuple[Any, ...]]]:
    """List the fields of a model that may have few values only, with these."""
    fields = getattr(kind, "model_fields", {}).items()
    return [(name, get_args(field.annotation)) for name, field in fields if get_origin(field.annotation) is Literal]


def _adapter_of(kind: Any) -> Any:
    """Make pydantic's converter of an annotation with models, such as a union by a ``type``. None if it names no model."""
    pydantic = sys.modules.get("pydantic")
    return pydantic.TypeAdapter(kind) if pydantic and get_origin(kind) is not None and _names_model(kind) else None


def _names_model(kind: Any) -> bool:
    return _is_model(kind) or any(map(_names_model, get_args(kind)))


def _is_schema(kind: type) -> bool:
    """Tell whether a class is a schema of marshmallow. A schema that exists has imported marshmallow already."""
    marshmallow = sys.modules.get("marshmallow")
    return marshmallow is not None and issubclass(kind, marshmallow.Schema)


def _fields(kind: Any) -> dict[str, str | None] | None:
    """Map each field of a dataclass or attrs class to its name in ``__init__``. None if *kind* is no such class.

    A field with ``init=False`` has no name there. One that is not compared either is no state, such as a lock.
    """
    if not isinstance(kind, type):
        return None
    is_dataclass = dataclasses.is_dataclass(kind)
    fields = dataclasses.fields(kind) if is_dataclass else getattr(kind, "__attrs_attrs__", None)
    if fields is None:
        return None
    compared = operator.attrgetter("compare" if is_dataclass else "eq")
    return {one.name: _name_in_init(one) for one in fields if one.init or compared(one)}


def _name_in_init(field: Any) -> str | None:
    """Name the argument of a field. attrs leaves out leading underscores, or has an alias."""
    if not field.init:
        return None
    name: str = field.name if isinstance(field, dataclasses.Field) else field.name.lstrip("_")
    return getattr(field, "alias", None) or name


_WRITERS: dict[type, Callable[[Any], Any]] = {
    bytes: lambda value: base64.b64encode(value).decode(),
    timedelta: seconds_of,
    time: time.isoformat,
}
"""Functions to JSON for types that only an annotation brings back."""


def _dumper_of(kind: Any) -> Callable[[Any], Any]:
    """Make the function that takes values of *kind* apart."""
    named: set[Any] = set()
    _name_kinds(kind, named)
    return functools.partial(_take_apart, named=frozenset(named & _WRITERS.keys()))


def _name_kinds(kind: Any, named: set[Any]) -> None:
    """Add the classes that an annotation names, in the annotations of its classes too."""
    for part in get_args(kind):
        _name_kinds(part, named)
    if not isinstance(kind, type) or kind in named:
        return
    named.add(kind)
    if kind.__module__ not in ("builtins", "typing", "datetime") and not _is_model(kind):
        with contextlib.suppress(NameError, TypeError):
            for part in typing.get_type_hints(kind).values():
                _name_kinds(part, named)


def _take_apart(value: Any, named: frozenset[Any] = frozenset(), *, is_tagged: bool = False) -> Any:
    """Turn each object in *value* into a dict of its fields.

    Args:
        named: Types of ``_WRITERS`` that the annotations name. Others are left, and refused.
        is_tagged: Sets and tuples stay, since tags bring them back.
    """
    kind = type(value)
    if isinstance(value, str | int | float | None):
        return value
    if _is_model(kind):
        return _dump_model(value)
    parts = parts_of(value)
    if isinstance(parts, dict):
        return {name: _take_apart(part, named, is_tagged=is_tagged) for name, part in parts.items()}
    if parts is not None:
        apart = [_take_apart(part, named, is_tagged=is_tagged) for part in parts]
        return _as_before(kind, apart) if is_tagged and kind in (tuple, set, frozenset) else apart
    return _WRITERS[kind](value) if kind in named else value


def _as_before(kind: type, parts: list[Any]) -> Any:
    """Make the tuple or set again. A set of objects stays a list, since their dicts have no place in a set."""
    try:
        return kind(parts)
    except TypeError:
        return parts


def parts_of(value: Any) -> Any:
    """List the parts of an object by name, or those of a container. None if it has none.

    A deque with a length has none, so it is refused: JSON cannot hold the length.
    """
    names = _fields(type(value))
    if names is not None:
        return _values_of(value, names)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return value
    if isinstance(value, deque):
        return value if value.maxlen is None else None
    return vars(value) if _is_plain(type(value)) and type(value) not in _TEXTS else None


def _values_of(value: Any, names: dict[str, str | None]) -> dict[str, Any]:
    """List the values of fields. One that ``__init__`` does not take may have none yet."""
    return {name: getattr(value, name) for name, given in names.items() if given or hasattr(value, name)}


def _build(kind: Any, plain: Any) -> Any:
    """Build a value from JSON as an annotation says. JSON stays as it is where the annotation is not known.

    Raises:
        TypeError, ValueError: The JSON does not fit the annotation.
    """
    kind = getattr(kind, "__supertype__", kind)  # of a NewType
    if kind is None:
        return plain
    if get_origin(kind) in (Union, types.UnionType):
        return _build_one_of(get_args(kind), plain)
    if isinstance(plain, dict):
        return _build_from_dict(kind, plain)
    if isinstance(plain, (list, tuple, set, frozenset)):
        return _build_from_list(kind, list(plain))
    return _convert(kind, plain)


def _build_from_dict(kind: Any, plain: dict[Any, Any]) -> Any:
    """Build an object or a dict. Keys that are no fields of the object are left out."""
    names = _fields(kind)
    if names is not None:
        return _build_fields(kind, names, plain)
    if typing.is_typeddict(kind):
        hints = typing.get_type_hints(kind)
        return {key: _build(hints.get(key), part) for key, part in plain.items()}
    if _is_model(kind):
        return _build_model(kind, plain)
    if _is_plain(kind):
        return _build_plain(kind, plain)
    return (
        _build_mapping(get_origin(kind) or kind, get_args(kind), plain) if _is_mapping(kind) else _convert(kind, plain)
    )


def _build_fields(kind: Any, names: dict[str, str | None], plain: dict[Any, Any]) -> Any:
    """Build an object of a dataclass or attrs class. Fields that ``__init__`` does not take are set behind it."""
    hints = typing.get_type_hints(kind)
    parts = {name: _build(hints.get(name), plain[name]) for name in names if name in plain}
    built = kind(**{given: parts.pop(name) for name, given in names.items() if given and name in parts})
    for name, part in parts.items():
        object.__setattr__(built, name, part)  # of a frozen class too
    return built


def _is_mapping(kind: Any) -> bool:
    origin = get_origin(kind) or kind
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _build_mapping(origin: Any, arguments: tuple[Any, ...], plain: dict[Any, Any]) -> Any:
    """Build a dict, or one of its kin of ``collections``, whose annotation says what its values are."""
    if origin is Counter or not arguments:
        return origin(plain) if origin in (Counter, OrderedDict) else plain
    parts = {key: _build(arguments[1], part) for key, part in plain.items()}
    if origin is defaultdict:
        made = get_origin(arguments[1]) or arguments[1]
        return defaultdict(made if isinstance(made, type) else None, parts)
    return OrderedDict(parts) if origin is OrderedDict else parts


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
    if kind in (set, frozenset, tuple, deque):
        return kind(plain)
    return _convert(kind, plain)


def _build_parts(origin: Any, arguments: tuple[Any, ...], plain: list[Any]) -> Any:
    """Build a list, a set or a tuple whose annotation says what its parts are."""
    if origin in (list, set, frozenset, deque):
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
    bytes: base64.b64decode,
}


def _convert(kind: Any, plain: Any) -> Any:
    """Make a member of an enum, or a value that JSON holds as text."""
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(plain)
    if isinstance(plain, str) and kind in _TEXTS:
        return _TEXTS[kind](plain)
    return timedelta(seconds=plain) if kind is timedelta and isinstance(plain, int | float) else plain


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
