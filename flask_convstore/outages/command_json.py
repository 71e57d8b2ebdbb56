"""Commands as JSON text, and back. A journal keeps them so. Text that is no command of ours is a ValueError.

The tag of a command is a stored format: it stays, however its class may be called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

from ..domain import json_text
from ..domain.commands import (
    Append,
    BeginTurn,
    Closing,
    Command,
    CommitTurn,
    Delete,
    Drop,
    Edit,
    Extend,
    FieldChange,
    Merge,
    MoveConversation,
    NoteAlias,
    Put,
    RenewTurn,
    Rewrite,
    Share,
    Touch,
    Update,
)
from ..domain.messages import Usage
from ..domain.types import Alias, Scope

_COMMANDS: dict[str, Any] = {
    "Put": Put,
    "Merge": Merge,
    "Append": Append,
    "Drop": Drop,
    "Update": Update,
    "Delete": Delete,
    "BeginTurn": BeginTurn,
    "CommitTurn": CommitTurn,
    "MoveConversation": MoveConversation,
    "Edit": Edit,
    "Touch": Touch,
    "NoteAlias": NoteAlias,
    "RenewTurn": RenewTurn,
    "Share": Share,
}
_PARTS: dict[str, Any] = {"Extend": Extend, "Rewrite": Rewrite, "Closing": Closing}
_TUPLES: dict[str, Any] = {"FieldChange": FieldChange, "Alias": Alias, "Usage": Usage}
_TAGS = {kind: tag for tag, kind in (_COMMANDS | _PARTS | _TUPLES).items()}


def text_of(command: Command | BeginTurn) -> bytes:
    """*command* as JSON text."""
    return json_text.write(_plain(command))


def command_of(text: bytes) -> Command | BeginTurn:
    """The command that *text* holds.

    Raises:
        ValueError: It holds none.
    """
    try:
        ((tag, content),) = json_text.parse(text).items()
        given = {name: _value(part) for name, part in content.items()}
        make = _EARLIER.get(tag) or _COMMANDS[tag]
        command: Command | BeginTurn = make(**given)
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"this is no command ({error!r})") from error
    return command


def _plain(value: Any) -> Any:
    """Texts stay. Bytes, which are UTF-8, tuples and our own kinds say what they are."""
    if isinstance(value, bytes):
        return {"bytes": value.decode()}
    if isinstance(value, Scope):
        return {"scope": value.value}
    tag = _TAGS.get(type(value))
    if tag in _TUPLES:
        return {tag: [_plain(part) for part in value]}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if is_dataclass(value):
        return {tag: {part.name: _plain(getattr(value, part.name)) for part in fields(value)}}
    return value


def _value(plain: Any) -> Any:
    if isinstance(plain, list):
        return tuple(_value(part) for part in plain)
    if not isinstance(plain, dict):
        return plain
    ((tag, content),) = plain.items()
    if tag == "bytes":
        return content.encode()
    if tag == "scope":
        return Scope(content)
    if tag in _TUPLES:
        return _TUPLES[tag](*_value(content))
    return _PARTS[tag](**{name: _value(part) for name, part in content.items()})


# ---- commands as earlier versions kept them


def _earlier_save(*, mode: str, fields: Any, history: Any, **given: Any) -> Put | Merge:
    """Read the command that had five modes, and the facts of all of them."""
    if mode in ("merge", "upsert"):
        return Merge(fields=fields, history=history, creates=mode == "upsert", **_known(Merge, given))
    values = tuple((name, text) for name, _, text in fields if text is not None)
    elements = (history and history.elements) or ()
    return _earlier_put(mode=mode, fields=values, elements=elements, **given)


def _earlier_put(*, earlier_token: str = "", token: str, **given: Any) -> Put:
    """Read the command that got a new token where its first try may have landed. Its own one knows that."""
    return Put(token=earlier_token or token, **_known(Put, given))


def _known(kind: Any, given: dict[str, Any]) -> dict[str, Any]:
    names = {part.name for part in fields(kind)}
    return {name: value for name, value in given.items() if name in names}


def _earlier_append(*, title: Any = None, ttl_ms: Any = None, elements: Any, **given: Any) -> Append | Update:
    """Read the command that was also the update of a session's facts. No operation gave it both messages and facts."""
    if title is None and ttl_ms is None:
        return Append(elements=elements, **given)
    if elements:
        raise ValueError("it adds messages and changes the title or the lifetime")
    return Update(title=title, ttl_ms=ttl_ms, **_known(Update, given))


def _earlier_touch(*, led_by: Any = None, left_by: Any = None, **given: Any) -> Touch | NoteAlias:
    """Read the command that also noted an alias."""
    alias = led_by or left_by
    if alias:
        return NoteAlias(alias=alias, leads_here=led_by is not None, **_known(NoteAlias, given))
    return Touch(**given)


def _earlier_commit(*, moved_to: str = "", expected: str = "", **given: Any) -> CommitTurn | MoveConversation:
    """Read the command that also moved the conversation."""
    if moved_to:
        return MoveConversation(moved_to=moved_to, expected=expected, **_known(MoveConversation, given))
    return CommitTurn(**given)


_EARLIER: dict[str, Callable[..., Any]] = {
    "Save": _earlier_save,
    "Put": _earlier_put,
    "Append": _earlier_append,
    "Touch": _earlier_touch,
    "CommitTurn": _earlier_commit,
}
