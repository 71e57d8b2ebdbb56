"""Redaction in the journal: the text of a redacted message leaves all commands that have brought it.

They stay what they were but for that text, so that all of them can still be folded and handed over. The redaction itself
keeps no text of what it has found. It is done to the message with its id, whatever that says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeGuard

from ..domain import json_text
from ..domain.commands import BeginTurn, Command, Edit
from ..domain.messages import is_redacted, own_id, redacted
from ..domain.titles import title_of
from .command_json import command_of, text_of
from .journal import Row

_NOT_OURS = (ValueError, TypeError, LookupError)


def is_redaction(command: Command | BeginTurn) -> TypeGuard[Edit]:
    """Tell whether *command* removes the text of a message for good."""
    return isinstance(command, Edit) and is_redacted(command.element)


def without_found(command: Edit) -> Edit:
    """Take the text that a redaction has found out of it."""
    return replace(command, loaded=_emptied(command.loaded))


def without_text(rows: Sequence[Row], command: Edit, others: Collection[str] = ()) -> list[Row]:
    """Take the text that *command* redacts out of commands of its session. Return the rows that are others then.

    Args:
        others: Ids of the session's other messages, which stay even where they say the same.
    """
    known = [(row, given) for row in rows if (given := _known(row)) and given.session_id == command.session_id]
    text = _text_of(command, [given for _, given in known], others)
    changed = [(row, text_of(_changed(given, text))) for row, given in known]
    return [row._replace(text=without) for row, without in changed if without != row.text]


class _Text(NamedTuple):
    """The text of one message.

    Attributes:
        name: The id of the message ("": it has none).
        bodies: All its versions.
        titles: Titles that are made of these.
        others: Ids of messages that keep their text, even where it is the same.
    """

    name: str
    bodies: Collection[bytes]
    titles: Collection[str]
    others: Collection[str]

    def is_of(self, element: bytes) -> bool:
        """Tell whether *element* is that message, or says the same and is none of the others."""
        name = own_id(element)
        return bool(name and name == self.name) or (_body(element) in self.bodies and name not in self.others)


def _text_of(redaction: Edit, commands: Sequence[Command | BeginTurn], others: Collection[str]) -> _Text:
    """Collect the text of the redacted message from the *redaction*, and from the *commands* before."""
    name = own_id(redaction.loaded)
    versions = [one for command in commands for one in _elements_in(command) if name and own_id(one) == name]
    bodies = {_body(one) for one in [redaction.loaded, *versions] if not is_redacted(one)}
    return _Text(name, bodies, {_title(body) for body in bodies} - {""}, others)


def _known(row: Row) -> Command | BeginTurn | None:
    """Read the command in *row*. None: it cannot be read, and is for the replay to set aside."""
    with contextlib.suppress(ValueError):
        return command_of(row.text)
    return None


def _elements_in(command: Any) -> Iterator[bytes]:
    """Walk through the messages in *command*."""
    yield from filter(None, (getattr(command, "loaded", None), getattr(command, "element", None)))
    yield from getattr(command, "elements", ())
    yield from getattr(getattr(command, "history", None), "elements", None) or ()


def _changed(command: Any, text: _Text) -> Any:
    """Take *text* out of the messages in *command*, and out of its title."""
    changes = dict(_messages_changed(command, text))
    changes |= {name: "" for name in ("title", "first_title") if getattr(command, name, None) in text.titles}
    return replace(command, **changes) if changes else command


def _messages_changed(command: Any, text: _Text) -> Iterator[tuple[str, Any]]:
    """Give the parts of *command* that hold messages, without *text*."""

    def emptied(element: bytes) -> bytes:
        return _emptied(element) if text.is_of(element) else element

    yield from ((name, emptied(found)) for name in ("element", "loaded") if (found := getattr(command, name, None)))
    elements = getattr(command, "elements", ())
    if any(map(text.is_of, elements)):
        yield "elements", tuple(map(emptied, elements))
        if getattr(command, "closing", None):
            yield "closing", replace(command.closing, parts=())  # they tell the reply once more
    history = getattr(command, "history", None)
    if history and history.elements:
        yield "history", replace(history, elements=tuple(map(emptied, history.elements)))


def _emptied(element: bytes) -> bytes:
    """Redact a message. A damaged one is left with nothing."""
    try:
        return redacted(element)
    except _NOT_OURS:
        return b""


def _body(element: bytes) -> bytes:
    return element.partition(b"\n")[2]


def _title(body: bytes) -> str:
    try:
        return title_of(json_text.decode(body))
    except _NOT_OURS:
        return ""
