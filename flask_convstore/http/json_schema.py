"""Python types > JSON Schema, for the OpenAPI document.

``Annotated`` adds to a type what JSON Schema knows beyond Python: a text is the description, a dict holds keywords.

>>> schema(int | None, "How many there are.", minimum=1)
{'type': ['integer', 'null'], 'description': 'How many there are.', 'minimum': 1}
"""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

Json = dict[str, Any]

CONTROL = "\\u0000-\\u001f\\u007f-\\u009f"
"""Control characters, as a class of characters in a pattern."""

TARGET = f'^[^./"\\\\{CONTROL}][^/"\\\\{CONTROL}]*$'
"""Pattern of whatever names a message: an id, or a seq as a text."""

Whole = Annotated[int, {"minimum": 0}]
Positive = Annotated[int, {"minimum": 1}]
Time = Annotated[str, {"format": "date-time", "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$"}]
"""RFC 3339, UTC, milliseconds."""

_NAMES = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def ref(name: str) -> Json:
    """Refer to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def component_name(shape: type) -> str:
    """Name of the component that a ``TypedDict`` becomes: ``SessionJson`` is ``Session``."""
    return shape.__name__.removesuffix("Json")


def component(shape: type, *, is_open: bool = False) -> Json:
    """Make the component of a ``TypedDict``, described by its docstring.

    Args:
        is_open: The object may have other properties too.
    """
    hints = get_type_hints(shape, include_extras=True)
    properties = {name: schema(hint) for name, hint in hints.items()}
    # __required_keys__ does not see NotRequired in an annotation that is a text.
    required = [name for name, hint in hints.items() if get_origin(hint) is not NotRequired]
    described = {"description": shape.__doc__} if shape.__doc__ else {}
    return {
        "type": "object",
        **described,
        "properties": properties,
        "required": required,
        "additionalProperties": is_open,
    }


def schema(hint: Any, description: str = "", **keywords: Any) -> Json:
    """Make the schema of a type, with a description and more *keywords*.

    Raises:
        KeyError: JSON Schema has no word for the type.
    """
    described = {"description": description} if description else {}
    return {**_of_type(hint), **described, **keywords}


def _of_type(hint: Any) -> Json:
    if hint is Any:
        return {}
    if is_typeddict(hint):
        return ref(component_name(hint))
    origin = get_origin(hint)
    if origin is None:
        return {"type": _NAMES[hint]}
    return _of_generic(origin, get_args(hint))


def _of_generic(origin: Any, arguments: tuple[Any, ...]) -> Json:
    if origin is NotRequired:
        return _of_type(arguments[0])
    if origin is Annotated:
        return _annotated(*arguments)
    if origin is Literal:
        return {"const": arguments[0]} if len(arguments) == 1 else {"enum": list(arguments)}
    if origin is list:
        return {"type": "array", "items": _of_type(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of_type(arguments[1]) or True}
    if origin in (Union, types.UnionType):
        return _one_of(arguments)
    raise KeyError(origin)


def _annotated(hint: Any, *annotations: str | Json) -> Json:
    found = _of_type(hint)
    for annotation in annotations:
        found |= {"description": annotation} if isinstance(annotation, str) else annotation
    return found


def _one_of(hints: tuple[Any, ...]) -> Json:
    found = [_of_type(hint) for hint in hints]
    if all(one.keys() == {"type"} for one in found):
        return {"type": [one["type"] for one in found]}
    return {"anyOf": found}
