"""Conversion of commands to the keys and arguments of scripts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote

from ...domain.commands import (
    Append,
    BeginTurn,
    Closing,
    CommitTurn,
    Delete,
    Drop,
    Edit,
    Extend,
    FeedReply,
    FieldChange,
    Harmless,
    Merge,
    MoveConversation,
    NoteAlias,
    Put,
    RenewTurn,
    Rewrite,
    Share,
    Target,
    Update,
    Write,
)
from ...domain.numbering import text_of
from ...domain.types import ANY, Alias, Owner
from .calls import Argument

_PLAIN = re.compile(r"[A-Za-z0-9_.~:/@+=,-]+").fullmatch


def in_key(name: str) -> str:
    """Encode a session's id, an owner's or an alias's name for a key, so that no name reaches into another's keys.

    Equal names have one key: a member of a text enum is written as the text that it equals.
    """
    return str.__str__(name) if _PLAIN(name) else quote(name, safe=":/@+=,")


def session_key(prefix: str, session_id: str) -> str:
    """Make the key of a session's hash."""
    return f"{prefix}{{{in_key(session_id)}}}"


@lru_cache(maxsize=1024)
def session_keys(prefix: str, session_id: str) -> tuple[str, str, str]:
    """Make the keys of a session's hash, of its history and of its tokens."""
    key = session_key(prefix, session_id)
    return key, f"{key}:history", f"{key}:tokens"


def alias_text(alias: Alias) -> str:
    """Encode an alias for a key. The first colon parts its owner from its name."""
    return f"{quote(alias.owner or '', safe='')}:{in_key(alias.name)}"


def alias_of(text: str) -> Alias:
    """Decode the alias that a key holds as *text*."""
    owner, _, name = text.partition(":")
    return Alias(unquote(owner) or None, unquote(name))


def owner_argument(owner: Owner) -> str:
    """Encode the owner who asks for a script."""
    return "*" if owner is ANY else "" if owner is None else f"={owner}"


def target_argument(target: Target) -> Argument:
    """Encode the seq or the id of a message. "": none."""
    return "=" + target if isinstance(target, str) and target else f"{target}"


FACTS = (
    "version",
    "created",
    "updated",
    "count",
    "first",
    "history_version",
    "shape",
    "owner",
    "title",
    "ttl",
    "began",
    "moved_to",
    "replaced",
    "history_replaced",
    "tokens_in",
    "tokens_out",
    "gaps",
)
"""Names of the fields of a session's hash that a snapshot has beside its data."""


def reading(
    keys: tuple[str, str, str], last: int | None, head: int = 0, fields: Sequence[str] | None = None
) -> list[Sequence[Argument]]:
    """Make the commands that read a session behind its script: its messages if there is any to read, then its hash.

    The hash comes last. If it has the version that the script has told, the messages between belong to that version too.

    Args:
        head: Number of oldest messages that are read beside the *last* ones.
        fields: As in ``Store.load``.
    """
    whole: Sequence[Argument] = ("HGETALL", keys[0])
    if fields is not None:
        whole = ("HMGET", keys[0], *FACTS, *("d:" + name for name in fields))
    if last == 0:  # LRANGE -0 -1 reads everything
        return [whole]
    oldest = [("LRANGE", keys[1], "0", f"{head - 1}")] if head and last is not None else []
    return [("LRANGE", keys[1], "0" if last is None else f"-{last}", "-1"), *oldest, whole]


def named(values: Sequence[bytes | None], fields: Sequence[str]) -> dict[bytes, bytes]:
    """Name the values that ``reading`` brings of a part of a session. Those that are not there are left out."""
    names = (*FACTS, *("d:" + name for name in fields))
    return {name.encode(): value for name, value in zip(names, values, strict=True) if value is not None}


def keeping(command: Harmless) -> tuple[str, list[Argument], bool]:
    """Choose the script for a command without a token, and its arguments. The third value: it writes app data."""
    if isinstance(command, Share):
        return "share", [command.name, command.role or ""], True
    if isinstance(command, RenewTurn):
        return "renew_turn", [command.turn, f"{command.lease_ms}"], False
    if isinstance(command, NoteAlias):
        return "note_alias", [alias_text(command.alias), _flag(command.leads_here)], True
    return "touch", [_number(command.created_at_ms), _number(command.ttl_ms), "0"], bool(command.ttl_ms)


def beginning(command: BeginTurn) -> list[Argument]:
    """Make the arguments of ``begin_turn`` behind those that every write has."""
    head: list[Argument] = [command.expected, f"{command.lease_ms}", _flag(command.supersede), command.attempt]
    head += (_first_title(command), _usage(command), target_argument(command.replaces), f"{command.wait_ms}")
    return [*head, command.element] if command.element else head


def writing(command: Write, *, is_placed: bool = True) -> tuple[str, list[Argument]]:
    """Choose the script for a write, and its arguments behind those that every write has.

    Args:
        is_placed: The owner has a place for a session that may have to be created.
    """
    name, arguments_of = WRITES[type(command)]
    return name, arguments_of(command) if is_placed else arguments_of(command, is_placed)


def _put(command: Put, is_placed: bool = True) -> list[Argument]:
    head: list[Argument] = [command.mode, command.shape, _number(command.ttl_ms), _number(command.started_at_ms)]
    head += (_first_title(command), _usage(command), _number(command.unchanged_since_ms), _flag(is_placed))
    changed = command.changed_at_ms
    head += ("", "") if changed is None else (_number(command.began_at_ms), f"{changed}")
    head += (f"{command.first_seq}", text_of(command.gaps))
    return [*head, f"{len(command.fields)}", *_pairs(command.fields), *command.elements]


def _merge(command: Merge, is_placed: bool = True) -> list[Argument]:
    change, bound, elements = _history(command.history)
    head: list[Argument] = [
        _number(command.created_at_ms),
        command.shape or "",
        _number(command.ttl_ms),
        change,
        bound,
    ]
    head += (_first_title(command), _usage(command), _flag(is_placed) if command.creates else "")
    head += (_loaded(command), command.history_key)
    return [*head, f"{len(command.fields)}", *_triples(command.fields), *elements]


def _append(command: Append) -> list[Argument]:
    # Most appends have nothing of all this, and each call takes its time.
    created, loaded, title, fields = command.created_at_ms, command.loaded_version, command.first_title, command.fields
    return [
        f"{created}" if created else "",
        command.expected,
        "" if loaded is None else f"{loaded}",
        f"?{title}" if title else "",
        _usage(command) if command.usage else "",
        target_argument(command.replaces) if command.replaces else "",
        f"{len(fields)}",
        *(_pairs(fields) if fields else ()),
        *command.elements,
    ]


def _drop(command: Drop) -> list[Argument]:
    if command.message is not None:
        return [command.expected, "message", target_argument(command.message)]
    if command.after is not None:
        return [command.expected, "after", target_argument(command.after)]
    return [command.expected, "newest", f"{command.newest}"]


def _update(command: Update) -> list[Argument]:
    return [command.expected, _number(command.ttl_ms), _title(command), *_pairs(command.fields)]


def _delete(command: Delete) -> list[Argument]:
    return [command.expected, _number(command.created_at_ms), _loaded(command), _number(command.at_ms)]


def _commit(command: CommitTurn) -> list[Argument]:
    fields, ending = _triples(command.fields), _closing(command.closing)
    parts = f"{len(command.closing.parts) if command.closing else 0}"
    head = (command.turn, command.status, _usage(command), f"{len(command.fields)}", parts)
    return [*head, *ending, *fields, *command.elements]


def _closing(closing: Closing | None) -> list[Argument]:
    if closing is None:
        return []
    return [closing.reply, f"{closing.epoch}", f"{closing.first}", f"{closing.keep_ms}", *closing.parts]


def feeding(command: FeedReply) -> list[Argument]:
    """Make the arguments of ``feed_reply`` behind the lifetimes."""
    head = (command.turn, f"{command.lease_ms}", command.reply, f"{command.epoch}", f"{command.first}")
    return [*head, *command.parts]


def _move(command: MoveConversation) -> list[Argument]:
    return [command.turn, command.moved_to, command.expected]


def _edit(command: Edit) -> list[Argument]:
    created = _number(command.created_at_ms)
    head: list[Argument] = [created, command.expected, f"{command.seq}", command.loaded, command.element]
    return [*head, _title(command), _usage(command)]


WRITES: dict[type[Any], tuple[str, Callable[..., list[Argument]]]] = {
    Put: ("put", _put),
    Merge: ("merge", _merge),
    Append: ("append", _append),
    Drop: ("drop", _drop),
    Update: ("update", _update),
    Delete: ("delete", _delete),
    CommitTurn: ("commit_turn", _commit),
    MoveConversation: ("move_conversation", _move),
    Edit: ("edit", _edit),
}
"""The script for a write, and the function that makes its arguments behind those that every write has."""


def _loaded(command: Merge | Delete) -> str:
    return "" if command.loaded_version is None else f"{command.loaded_version}"


def _number(number: int | None) -> str:
    """Encode a number of which there may be none. 0 is none."""
    return f"{number}" if number else ""


def _flag(flag: bool) -> str:
    return "1" if flag else "0"


def _first_title(command: Put | Merge | Append | BeginTurn) -> str:
    """Encode a title for a session that has none, as ``_facts.lua`` has it."""
    return f"?{command.first_title}" if command.first_title else ""


def _title(command: Update | Edit) -> str:
    if command.title is None:
        return ""
    return f"={command.title}" if command.title else "-"


def _usage(command: Put | Merge | Append | BeginTurn | CommitTurn | Edit) -> str:
    usage = command.usage
    return f"{usage.input} {usage.output}" if usage else ""


def _pairs(fields: Sequence[tuple[str, bytes | None]]) -> list[Argument]:
    return [part for name, value in fields for part in (name, value or b"")]


def _triples(fields: Sequence[FieldChange]) -> list[Argument]:
    return [part for name, loaded, value in fields for part in (name, loaded or b"", value or b"")]


def _history(change: Extend | Rewrite | None) -> tuple[str, Argument, tuple[bytes, ...]]:
    if change is None:
        return "keep", "0", ()
    if isinstance(change, Extend) and change.oldest_seq:
        return "take", f"{change.oldest_seq}-{change.drop_below}", change.elements
    if isinstance(change, Extend):
        return "extend", f"{change.drop_below}", change.elements
    return "reset" if change.resets else "rewrite", f"{change.history_version}", change.elements or ()
