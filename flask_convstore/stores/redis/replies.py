"""Conversion of replies to receipts, snapshots, or the errors that refusals become.

Retries and waiting are in `calls`, and the errors of connections in `failures`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ...domain.clock import LATEST_MS
from ...domain.commands import (
    BEHIND,
    BeginTurn,
    Command,
    CommitTurn,
    Drop,
    Edit,
    Expecting,
    FeedReply,
    Merge,
    MoveConversation,
    TakeReply,
)
from ...domain.messages import Usage
from ...domain.numbering import gaps_in
from ...domain.results import Receipt, Snapshot, StoredEvent, StoredPart
from ...domain.shapes import is_shape
from ...domain.types import Alias
from ...errors import (
    ConflictError,
    ConvstoreError,
    CorruptValue,
    Forbidden,
    MessageIdReused,
    MessageNotFound,
    NothingToReplace,
    SessionExists,
    SessionMoved,
    SessionNotFound,
    StreamBehind,
    TokenReused,
    TooLarge,
    TurnInProgress,
    TurnLost,
    TurnUnended,
    is_history_key,
    session_too_large,
    stored_data_too_large,
    too_many_messages,
)
from ..store import one_by_one
from .arguments import alias_of
from .calls import AfterLoss

_A = TypeVar("_A")
_R = TypeVar("_R")

Refusable = Command | BeginTurn | FeedReply | TakeReply

_NUMBERS = (b"version", b"created", b"updated", b"count", b"first", b"history_version")


_DONE = (b"ok", b"repeated", b"resumed")
_TOO_LARGE: dict[bytes, Callable[[int, int], TooLarge]] = {
    b"history": too_many_messages,
    b"data": stored_data_too_large,
    b"session": session_too_large,
}
_BY_SESSION: dict[bytes, Callable[[str], ConvstoreError]] = {
    b"missing": SessionNotFound,
    b"exists": SessionExists,
    b"forbidden": Forbidden,
}
"""The refusals that tell nothing but the session."""


def refuse_moved(session_id: str, reply: list[Any]) -> None:
    """Raise the error for a read of a guest, whose conversation goes on in another session.

    Raises:
        SessionMoved: The *reply* says so.
    """
    if reply[0] == b"moved":
        raise SessionMoved(session_id, reply[2].decode())


def refuse(command: Refusable | None, reply: list[Any], keys: tuple[str, str, str]) -> None:
    """Raise the error for a script's *reply* to *command* (None: a read), unless the command was done."""
    word = reply[0]
    if word in _DONE:
        return
    if word == b"corrupt" or command is None:
        raise _corrupt(reply, keys)
    if word == b"missing" and isinstance(reply, AfterLoss):
        raise _gone_meanwhile(command.session_id)
    if word in _BY_SESSION:
        raise _BY_SESSION[word](command.session_id)
    raise _refusal(command, word, reply)


def _gone_meanwhile(session_id: str) -> SessionNotFound:
    """Make the error of a write whose first answer was lost. The session that could tell of it is gone with its receipts."""
    told = "It may have been written before, since the answer to the first try was lost."
    error = SessionNotFound(session_id, f"session {session_id!r} does not exist, was deleted or has expired. {told}")
    error.written = None
    return error


def _refusal(command: Refusable, word: bytes, reply: list[Any]) -> ConvstoreError:
    if word == b"conflict":
        return _conflict(command, reply)
    if word == b"history_key":
        return is_history_key(reply[2].decode())
    if word == b"too_large":
        return _TOO_LARGE[reply[2]](reply[3], reply[4])
    if word in (b"lost", b"busy", b"unended"):
        return _no_turn(command, reply)
    if word == b"behind":
        return StreamBehind(command.session_id, reply[2])
    if word == b"moved":
        return SessionMoved(command.session_id, reply[2].decode())
    if word == b"gone":
        return _gone(command)
    if word == b"known":
        return MessageIdReused(reply[2].decode())
    assert word == b"reused", word
    # The token of a turn's end is known with another digest if another attempt has ended the turn.
    is_end_of_turn = isinstance(command, (CommitTurn, MoveConversation))
    return TurnLost(command.session_id) if is_end_of_turn else TokenReused()


def _no_turn(command: Refusable, reply: list[Any]) -> TurnLost | TurnInProgress | TurnUnended:
    if reply[0] == b"unended":
        return TurnUnended(command.session_id, reply[2].decode(), reply[3] <= 0)
    is_begun_again = isinstance(command, BeginTurn) and command.element is not None
    if reply[0] == b"lost":
        return TurnLost(command.session_id, is_stored=is_begun_again)
    return TurnInProgress(command.session_id, reply[2], is_stored=is_begun_again and reply[3] == 1)


def _gone(command: Any) -> MessageNotFound:
    """The session lacks the message that *command* names."""
    if isinstance(command, Edit):
        return MessageNotFound(command.session_id, command.seq)
    if isinstance(command, Drop):
        return MessageNotFound(
            command.session_id, command.message if command.message is not None else command.after or 0
        )
    return NothingToReplace(command.session_id, command.replaces)


def _corrupt(reply: list[Any], keys: tuple[str, str, str]) -> CorruptValue:
    session, history, tokens = keys
    part = reply[2] if reply[0] == b"corrupt" else b"session"
    if part == b"history":
        return CorruptValue(history, f"it does not hold the number of messages that {session} counts")
    if part in (b"tokens", b"receipts"):
        key = tokens if part == b"tokens" else f"{session}:receipts"
        return CorruptValue(key, "it holds a receipt that is not ours")
    return CorruptValue(session, "it is not a session of flask-convstore")


def _conflict(command: Refusable, reply: list[Any]) -> ConflictError:
    expected = command.loaded_version if isinstance(command, Merge) else None
    what = reply[3].decode()
    if what == "version" and isinstance(command, Expecting) and not command.expected.startswith(BEHIND):
        expected = int(command.expected.rpartition("-")[2])
    field = what.removeprefix("d:") if what.startswith("d:") else None
    return ConflictError(
        command.session_id, field or what, expected=expected, actual=reply[2], is_field=field is not None
    )


def receipt_of(reply: list[Any], level: str) -> Receipt:
    version, first_seq, created, updated, expires, history_version = reply[2:8]
    return Receipt(
        version=version,
        first_seq=first_seq or None,
        repeated=False,
        level=level,
        created_at_ms=created,
        updated_at_ms=updated,
        expires_at_ms=expires,
        lifetime_ms=expires - updated,
        history_version_before=history_version,
        left_out=reply[9] if len(reply) > 9 else 0,
    )


def first_receipt(reply: list[Any], kept: bytes, key: str, level: str, ttl_ms: int) -> Receipt:
    """Read the receipt *kept* under a token, as ``_remember.lua`` writes it. *ttl_ms* is the lifetime of most sessions."""
    try:
        *numbers, versions, lifetime = (*kept.split(b" ", 5), b"", b"")[:5]
        version, first_seq, at = map(int, numbers)
        history_version, lifetime_ms = version - int(versions or 1), int(lifetime or ttl_ms)
    except ValueError:
        raise CorruptValue(key, "it holds a receipt that is not ours") from None
    created, _, expires = reply[3:6]
    return Receipt(
        version=version,
        first_seq=first_seq or None,
        repeated=True,
        level=level,
        created_at_ms=created,
        updated_at_ms=at,
        expires_at_ms=expires,
        lifetime_ms=lifetime_ms,
        history_version_before=history_version,
    )


def snapshot_of(
    session_id: str, keys: tuple[str, str, str], found: list[Any], last: int | None, expires_at_ms: int
) -> Snapshot:
    """Make a snapshot from the replies to ``reading``, of which the last one is a dict."""
    *lists, stored = found
    elements, head = [*lists, [], []][:2]
    try:
        fields, aliases, shared = _prefixed(stored)
        version, created, updated, count, first, history_version = map(int, map(stored.__getitem__, _NUMBERS))
        shape = stored[b"shape"].decode()
        gaps = gaps_in(stored[b"gaps"].decode()) if b"gaps" in stored else ()
        optional = _optional_facts(stored)
    except (KeyError, ValueError) as error:
        raise CorruptValue(keys[0], f"it is not a session of flask-convstore ({_told(error)})") from None
    times = created, updated, optional.get("began_at_ms") or created
    if not is_shape(shape) or min(times) <= 0 or max(times) >= LATEST_MS:
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
        fields=fields,
        elements=elements,
        first_seq=first,
        gaps=gaps,
        count=count,
        head=head,
        history_version=history_version,
        key=keys[0],
        history_key=keys[1],
        aliases=tuple(sorted(aliases, key=Alias.sort_key)) if aliases else (),
        shared=shared,
        **optional,
    )


def _told(error: Exception) -> str:
    """Name an error. Only that of a missing field tells more, since the text of another one may quote the value."""
    return repr(error) if isinstance(error, KeyError) else type(error).__name__


def salvaged(session_id: str, keys: tuple[str, str, str], flat: list[bytes], elements: list[bytes]) -> Snapshot:
    """Make a snapshot of what is left of a session: its fields and messages, whatever they are."""
    stored = dict(zip(flat[::2], flat[1::2], strict=True))
    shape = stored.get(b"shape", b"").decode(errors="replace")
    return Snapshot(
        session_id=session_id,
        shape=shape if is_shape(shape) else "full",
        created_at_ms=0,
        fields={name[2:].decode(errors="replace"): text for name, text in stored.items() if name[:2] == b"d:"},
        elements=elements,
        aliases=tuple(alias_of(name[2:].decode(errors="replace")) for name in stored if name[:2] == b"a:"),
        count=len(elements),
        key=keys[0],
        history_key=keys[1],
    )


def _optional_facts(stored: dict[bytes, Any]) -> dict[str, Any]:
    """Read the facts that not every session has."""
    facts: dict[str, Any] = {}
    if b"owner" in stored:
        facts["owner"] = stored[b"owner"].decode()[1:]
    if b"title" in stored:
        facts["title"] = stored[b"title"].decode()
    if stored.get(b"ttl", b"").isdigit():
        facts["own_ttl_ms"] = int(stored[b"ttl"])
    if b"began" in stored:
        facts["began_at_ms"] = int(stored[b"began"])
    if b"moved_to" in stored:
        facts["moved_to"] = stored[b"moved_to"].decode()
    if b"history_replaced" in stored:
        facts["replaced"] = int(stored.get(b"replaced", 0))
        facts["history_replaced"] = int(stored[b"history_replaced"])
    if b"history_bytes" in stored:
        facts["stored_bytes"] = int(stored[b"history_bytes"]) + int(stored.get(b"data_bytes", 0))
    if b"tokens_in" in stored:
        facts["usage"] = Usage(int(stored[b"tokens_in"]), int(stored[b"tokens_out"]))
    return facts


def _prefixed(stored: dict[bytes, Any]) -> tuple[dict[str, bytes], list[Alias], dict[str, Any]]:
    """Read the fields of a hash with a prefix: the data fields, the aliases that lead here, the roles of other owners."""
    fields: dict[str, bytes] = {}
    aliases: list[Alias] = []
    shared: dict[str, Any] = {}
    for name, value in stored.items():
        if name[1:2] != b":":
            continue
        if name[:1] == b"d":
            fields[name[2:].decode()] = value
        elif name[:1] == b"a":
            aliases.append(alias_of(name[2:].decode()))
        elif name[:1] == b"s":
            shared[name[2:].decode()] = value.decode()
    return fields, aliases, shared


def each_of(asked: Sequence[_A], replies: Sequence[Any], read: Callable[[_A, Any], _R]) -> list[_R | ConvstoreError]:
    """Read the replies to several calls, by what each has *asked*. An error of one is a value, and spoils no other."""

    def known(pair: tuple[_A, Any]) -> _R:
        one, reply = pair
        if isinstance(reply, ConvstoreError):
            raise reply
        return read(one, reply)

    return one_by_one(known, zip(asked, replies, strict=True))


def parts_in(entries: list[Any]) -> tuple[int, list[StoredPart]]:
    """Read the entries of a reply's stream. Return its epoch too, 0 where there are none."""
    parts, epoch = [], 0
    for position, (_, text, _, stored) in entries:
        number, _, epoch_text = position.partition(b"-")
        epoch = int(epoch_text)
        first_seq, version = map(int, stored.split()) if stored else (0, 0)
        parts.append(StoredPart(int(number), text, first_seq, version))
    return epoch, parts


def events_in(entries: list[Any]) -> list[StoredEvent]:
    """Read the entries of a session's log."""
    return [
        StoredEvent(int(position.partition(b"-")[0]), kind.decode(), int(seq))
        for position, (_, kind, _, seq) in entries
    ]
