"""Replies > values: a script's receipt, a session that was read, or the error that a refusal becomes."""

from __future__ import annotations

from typing import Any, get_args

from ...domain.clock import LATEST_MS
from ...domain.commands import BeginTurn, Command, CommitTurn, Edit, Expecting, Merge, MoveConversation
from ...domain.messages import NO_USAGE, Usage
from ...domain.results import Receipt, Snapshot
from ...domain.types import Alias, Shape
from ...errors import (
    ConflictError,
    CorruptValue,
    Forbidden,
    MessageNotFound,
    SessionExists,
    SessionMoved,
    SessionNotFound,
    TokenReused,
    TooLarge,
    TurnInProgress,
    TurnLost,
)
from .arguments import alias_of

_SHAPES = get_args(Shape)
_NUMBERS = (b"version", b"created", b"updated", b"count", b"first", b"history_version")


_TOO_LARGE = {
    b"history": "the session would have too many messages",
    b"data": "the data would be too large in bytes of JSON",
    b"session": "the session would be too large in bytes of JSON",
}


def refuse(command: Command | BeginTurn | None, reply: list[Any], keys: tuple[str, str, str]) -> None:
    """Raise what a script's *reply* to *command* refuses."""
    word = reply[0]
    if word in (b"ok", b"repeated", b"resumed"):
        return
    if word == b"corrupt" and reply[2] == b"history":
        raise CorruptValue(keys[1], f"it does not hold the number of messages that {keys[0]} counts")
    if word == b"corrupt" and reply[2] == b"tokens":
        raise CorruptValue(keys[2], "it holds a receipt that is not ours")
    if word == b"corrupt" or command is None:
        raise CorruptValue(keys[0], "it is not a session of flask-convstore")
    if word == b"conflict":
        raise _conflict(command, reply)
    if word == b"reused" and isinstance(command, (CommitTurn, MoveConversation)):
        raise TurnLost(command.session_id)  # another attempt has ended this turn
    if word == b"reused":
        raise TokenReused
    if word == b"too_large":
        raise TooLarge(_TOO_LARGE[reply[2]], limit=reply[3], size=reply[4])
    if word == b"forbidden":
        raise Forbidden(command.session_id)
    if word == b"gone" and isinstance(command, Edit):
        raise MessageNotFound(command.session_id, command.seq)
    if word == b"busy":
        raise TurnInProgress(command.session_id, reply[2])
    if word == b"moved":
        raise SessionMoved(command.session_id, reply[2].decode())
    raise {b"missing": SessionNotFound, b"exists": SessionExists, b"lost": TurnLost}[word](command.session_id)


def _conflict(command: Command | BeginTurn, reply: list[Any]) -> ConflictError:
    expected = command.loaded_version if isinstance(command, Merge) else None
    what = reply[3].decode()
    if what == "version" and isinstance(command, Expecting):
        expected = int(command.expected.rpartition("-")[2])
    field = what.removeprefix("d:") if what.startswith("d:") else None
    return ConflictError(
        command.session_id, field or what, expected=expected, actual=reply[2], is_field=field is not None
    )


def receipt_of(reply: list[Any], level: str) -> Receipt:
    version, first_seq, created, updated, expires, history_version = reply[2:8]
    lifetime = expires - updated
    return Receipt(version, first_seq or None, False, level, created, updated, expires, lifetime, history_version)


def first_receipt(reply: list[Any], kept: bytes, key: str, level: str) -> Receipt:
    """The receipt *kept* under a token: ``version first_seq at history_version_before lifetime digest``."""
    try:
        version, first_seq, at, history_version, lifetime = map(int, kept.split(b" ", 5)[:5])
    except ValueError:
        raise CorruptValue(key, "it holds a receipt that is not ours") from None
    created, _, expires = reply[3:6]
    return Receipt(version, first_seq or None, True, level, created, at, expires, lifetime, history_version)


def snapshot_of(
    session_id: str, keys: tuple[str, str, str], found: list[Any], last: int | None, expires_at_ms: int
) -> Snapshot:
    """A session from the replies to ``reading``."""
    flat, *lists = found
    elements = lists[0] if lists else []
    # A connection of the app's own client may give a dict.
    stored: dict[bytes, Any] = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
    try:
        fields, aliases, shared = _prefixed(stored)
        version, created, updated, count, first, history_version = [int(stored[name]) for name in _NUMBERS]
        shape = stored[b"shape"].decode()
        title = stored[b"title"].decode() if b"title" in stored else None
        own_ttl = stored.get(b"ttl", b"")
        usage = Usage(int(stored[b"tokens_in"]), int(stored[b"tokens_out"])) if b"tokens_in" in stored else NO_USAGE
    except (KeyError, ValueError) as error:
        raise CorruptValue(keys[0], f"it is not a session of flask-convstore ({error!r})") from None
    if shape not in _SHAPES or not 0 < created < LATEST_MS > updated:
        raise CorruptValue(keys[0], "its shape or one of its times is none of ours")
    if len(elements) != (count if last is None else min(count, last)):
        raise CorruptValue(keys[1], f"it does not hold the number of messages that {keys[0]} counts")
    return Snapshot(
        session_id=session_id,
        version=version,
        shape=shape,
        created_at_ms=created,
        updated_at_ms=updated,
        expires_at_ms=expires_at_ms,
        title=title,
        fields=fields,
        elements=elements,
        first_seq=first,
        count=count,
        history_version=history_version,
        key=keys[0],
        history_key=keys[1],
        owner=stored[b"owner"].decode()[1:] if b"owner" in stored else None,
        own_ttl_ms=int(own_ttl) if own_ttl.isdigit() else None,
        moved_to=stored[b"moved_to"].decode() if b"moved_to" in stored else None,
        aliases=tuple(sorted(aliases, key=Alias.sort_key)) if aliases else (),
        usage=usage,
        shared=shared,
    )


def _prefixed(stored: dict[bytes, Any]) -> tuple[dict[str, bytes], list[Alias], dict[str, Any]]:
    """What names with a prefix hold: the data fields, the aliases that lead here, the roles of other owners."""
    fields: dict[str, bytes] = {}
    aliases: list[Alias] = []
    shared: dict[str, Any] = {}
    for name in [name for name in stored if name[1:2] == b":"]:
        if name[:1] == b"d":
            fields[name[2:].decode()] = stored[name]
        elif name[:1] == b"a":
            aliases.append(alias_of(name[2:].decode()))
        elif name[:1] == b"s":
            shared[name[2:].decode()] = stored[name].decode()
    return fields, aliases, shared
