"""Commands > what scripts and plain commands are given: names in keys, arguments behind those that every write has."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote, unquote

from ...domain.commands import (
    Append,
    BeginTurn,
    CommitTurn,
    Delete,
    Edit,
    Extend,
    FieldChange,
    RenewTurn,
    Rewrite,
    Save,
    Share,
    Touch,
)
from ...domain.messages import Usage
from ...domain.results import ANY, Alias, Owner
from .calls import Argument

_PLAIN = re.compile(r"[A-Za-z0-9_.~:/@+=,-]+").fullmatch


def in_key(name: str) -> str:
    """A session's id, an owner's or an alias's name as keys have it: no name reaches into another's keys."""
    return name if _PLAIN(name) else quote(name, safe=":/@+=,")


def session_key(prefix: str, session_id: str) -> str:
    """The key of a session's hash."""
    return f"{prefix}{{{in_key(session_id)}}}"


def alias_text(alias: Alias) -> str:
    """An alias as keys have it: the first colon parts its owner from its name."""
    return f"{quote(alias.owner or '', safe='')}:{in_key(alias.name)}"


def alias_of(text: str) -> Alias:
    """The alias that keys have as *text*."""
    owner, _, name = text.partition(":")
    return Alias(unquote(owner) or None, unquote(name))


def owner_argument(owner: Owner) -> str:
    """Who asks, as scripts have it."""
    return "*" if owner is ANY else "" if owner is None else f"={owner}"


def reading(keys: tuple[str, str, str], last: int | None) -> list[Sequence[Argument]]:
    """What is read of a session, besides what its script replies."""
    if last == 0:  # LRANGE -0 -1 would be everything
        return [("HGETALL", keys[0])]
    return [("HGETALL", keys[0]), ("LRANGE", keys[1], 0 if last is None else -last, -1)]


def keeping(command: Touch | RenewTurn | Share) -> tuple[str, list[Argument], bool]:
    """The script that needs no token, what it gets after the lifetimes, and whether it writes something of the app's."""
    if isinstance(command, Share):
        return "share", [command.name, command.role or ""], True
    if isinstance(command, RenewTurn):
        return "renew_turn", [command.turn, command.lease_ms], False
    led_by, left_by = ((alias and alias_text(alias)) or "" for alias in (command.led_by, command.left_by))
    arguments: list[Argument] = [command.created_at_ms or "", command.ttl_ms or "", 0, led_by, left_by]
    return "touch", arguments, bool(command.ttl_ms or led_by or left_by)


def beginning(command: BeginTurn) -> list[Argument]:
    """What ``begin_turn`` gets after the arguments that every write has."""
    head: list[Argument] = [command.expected, command.lease_ms, int(command.supersede), command.attempt]
    head += _facts(command)
    return [*head, command.element] if command.element else head


def writing(
    command: Save | Append | Delete | CommitTurn | Edit, *, is_placed: bool = True
) -> tuple[str, list[Argument]]:
    """The script for a write, and what it gets after the arguments that every write has."""
    head: list[Argument]
    if isinstance(command, Append):
        head = [command.created_at_ms or "", command.expected, command.ttl_ms or "", *_facts(command)]
        head.append(len(command.fields))
        for name, value in command.fields:
            head += (name, value or b"")
        return "append", [*head, *command.elements]
    if isinstance(command, Edit):
        created = command.created_at_ms or ""
        return "edit", [created, command.expected, command.seq, command.loaded, command.element, _title(command)]
    if isinstance(command, CommitTurn):
        fields = _triples(command.fields)
        what = (command.turn, command.status, command.moved_to, command.expected, _usage(command.usage))
        return "commit_turn", [*what, len(command.fields), *fields, *command.elements]
    if isinstance(command, Save):
        change, bound, elements = _history_arguments(command.history)
        head = [command.mode, command.created_at_ms or "", command.shape or "", command.ttl_ms or "", change, bound]
        head += [command.started_at_ms or "", *_facts(command), command.earlier_token, int(is_placed)]
        return "save", [*head, len(command.fields), *_triples(command.fields), *elements]
    return "delete", [command.expected, command.created_at_ms or "", command.at_ms or ""]


def _facts(command: Save | Append | BeginTurn) -> tuple[str, str]:
    """The title and the usage that a command tells, as ``_facts.lua`` has them."""
    title = _title(command) if isinstance(command, Append) else ""
    if not title and command.first_title:
        title = f"?{command.first_title}"
    return title, _usage(command.usage) if command.usage else ""


def _title(command: Append | Edit) -> str:
    if command.title is None:
        return ""
    return f"={command.title}" if command.title else "-"


def _usage(usage: Usage | None) -> str:
    return f"{usage.input} {usage.output}" if usage else ""


def _triples(fields: Sequence[FieldChange]) -> list[Argument]:
    return [part for name, loaded, value in fields for part in (name, loaded or b"", value or b"")]


def _history_arguments(change: Extend | Rewrite | None) -> tuple[str, int, tuple[bytes, ...]]:
    if change is None:
        return "keep", 0, ()
    if isinstance(change, Extend):
        return "extend", change.drop_below, change.elements
    if change.elements is None:
        return "remove", change.history_version, ()
    return "rewrite", change.history_version, change.elements
