"""Commands as JSON text, and back: what a journal keeps. Inert data; text that is no command of ours is a ValueError."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, get_args

from ..domain import json_text
from ..domain.commands import BeginTurn, Command, Extend, FieldChange, Rewrite
from ..domain.messages import Usage
from ..domain.results import Alias, Scope

_KINDS: dict[str, Any] = {kind.__name__: kind for kind in (*get_args(Command), BeginTurn, Extend, Rewrite)}
_TUPLES: dict[str, Any] = {kind.__name__: kind for kind in (FieldChange, Alias, Usage)}


def text_of(command: Command | BeginTurn) -> bytes:
    """*command* as JSON text."""
    return json_text.dump(_plain(command))


def command_of(text: bytes) -> Command | BeginTurn:
    """The command that *text* holds.

    Raises:
        ValueError: It holds none.
    """
    try:
        found: Command | BeginTurn = _value(json_text.decode(text))
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"this is no command ({error!r})") from error
    if type(found).__name__ not in _KINDS or isinstance(found, (Extend, Rewrite)):
        raise ValueError("this is no command")
    return found


def _plain(value: Any) -> Any:
    """Texts stay; bytes, which are UTF-8, tuples and our own kinds say what they are."""
    kind = type(value).__name__
    if isinstance(value, bytes):
        return {"bytes": value.decode()}
    if isinstance(value, Scope):
        return {"scope": value.value}
    if kind in _TUPLES:
        return {kind: [_plain(part) for part in value]}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if is_dataclass(value):
        return {kind: {part.name: _plain(getattr(value, part.name)) for part in fields(value)}}
    return value


def _value(plain: Any) -> Any:
    if isinstance(plain, list):
        return tuple(_value(part) for part in plain)
    if not isinstance(plain, dict):
        return plain
    ((kind, content),) = plain.items()
    if kind == "bytes":
        return content.encode()
    if kind == "scope":
        return Scope(content)
    if kind in _TUPLES:
        return _TUPLES[kind](*_value(content))
    return _KINDS[kind](**{name: _value(part) for name, part in content.items()})
