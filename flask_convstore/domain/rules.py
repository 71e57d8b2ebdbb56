"""The rules: what each command does to a session. The Lua scripts mirror them.

``MemoryStore`` and the view of a journal apply them as they are. Who finds a session, keeps it, and knows which tokens came
before is the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeGuard

from ..errors import MessageIdReused, NothingToReplace, SessionExists, TurnInProgress, TurnLost
from . import numbering, streams
from .commands import (
    Append,
    BeginTurn,
    Command,
    CommitTurn,
    Delete,
    Drop,
    Edit,
    Extend,
    FieldChange,
    Harmless,
    Merge,
    MoveConversation,
    NoteAlias,
    Put,
    RenewTurn,
    Rewrite,
    Share,
    Touch,
    Update,
    Write,
)
from .messages import NO_USAGE, Usage, own_id, tokens_of, with_status
from .refusals import (
    refuse_another,
    refuse_collisions,
    refuse_conflict,
    refuse_history_key,
    refuse_late,
    refuse_lost,
    refuse_moved,
    refuse_too_large,
    refuse_too_many,
    refuse_unexpected,
)
from .results import Receipt
from .shapes import full
from .stored_messages import (
    drop_oldest,
    find,
    give_kept_seq,
    goes_on,
    has_other_history,
    is_same_message,
    known_ids,
    place_of,
    refuse_known,
    take_out,
    trim,
    unknown,
)
from .stored_session import StoredSession, TurnLease
from .types import Alias, Limits


def creates(command: Command | BeginTurn) -> TypeGuard[Put | Merge]:
    """Tell whether *command* creates a session where there is none."""
    return isinstance(command, Put) or (isinstance(command, Merge) and command.creates)


def takes_place(command: Write) -> bool:
    """Tell whether the session that *command* creates takes one of its owner's places."""
    if isinstance(command, Put):
        return command.counts and command.started_at_ms is None
    return isinstance(command, Merge)


def may_evict(command: Write, limits: Limits) -> bool:
    """Tell whether another session may be evicted to make a place. An import takes free places only."""
    return limits.evict and not (isinstance(command, Put) and command.changed_at_ms is not None)


def new_session(command: Put | Merge, owner: str | None, ended_at_ms: int, now: int) -> StoredSession:
    """Make the empty session that *command* creates.

    The ETag names the time of creation. So a session starts a millisecond later, at least, than the one before it ended.
    """
    started_at_ms = command.started_at_ms if isinstance(command, Put) else None
    created_at_ms = max(started_at_ms or now, ended_at_ms + 1)
    session = StoredSession(session_id=command.session_id, owner=owner, created_at_ms=created_at_ms)
    if isinstance(command, Put):
        session.first_seq = command.first_seq
    return session


def date(command: Write, session: StoredSession, now: int) -> None:
    """Give a session that was imported its own times, once the write is acknowledged. A time to come is *now*."""
    if isinstance(command, Put) and command.changed_at_ms is not None:
        changed = min(command.changed_at_ms, now)
        session.began_at_ms = command.began_at_ms and min(command.began_at_ms, changed)
        session.updated_at_ms = session.active_at_ms = changed


def write(command: Write, session: StoredSession, limits: Limits, now: int, *, is_checked: bool = True) -> int | None:
    """Do *command* to *session*. Return the seq of the first message that it adds.

    Args:
        is_checked: Refuse what would make the session too large. False: the command was done before, and did not.
    """
    turn = session.turn
    sizes = (session.data_bytes, session.size_bytes) if is_checked else None
    given, shape = _given_fields(command), session.shape
    held = given.keys() & session.fields.keys()
    told = _told_again(command, session)
    first_seq = _WRITES[type(command)](command, session, now)
    added = len(added_by(command, first_seq, session))
    first_key = (isinstance(command, Merge) and command.history_key) or limits.history_key
    _find_key(session, first_key, given, added)
    refuse_history_key(command, session, first_key, given, held, shape)
    if limits.trim and 0 < added <= limits.max_history:
        trim(session, limits.max_history, added)
    _tell(command, session, told)
    if sizes:
        if added:
            refuse_too_many(session, limits, reserved=int(isinstance(command, BeginTurn)))
        refuse_too_large(session, limits, *sizes)
    _mark_message(command, session, turn, now)
    streams.forget(command, session)
    session.updated_at_ms = max(now, session.created_at_ms)
    return first_seq


def added_by(command: Write, first_seq: int | None, session: StoredSession) -> list[bytes]:
    """List the messages that *command* has added to *session*, from *first_seq* on (None: there are none).

    The receipt of a turn's end names the last of them.
    """
    if first_seq is None or isinstance(command, (Edit, Drop, Delete)):
        return []
    if isinstance(command, CommitTurn):
        return session.elements[len(session.elements) - len(command.elements) :]
    return session.elements[session.index_of(first_seq) :]


def _put(command: Put, session: StoredSession, now: int) -> int | None:
    if session.version and command.mode != "replace":
        raise SessionExists(command.session_id)
    begins_anew = bool(session.elements) and not goes_on(session.elements, command.elements)
    session.fields.clear()
    session.moved_to = session.title = None
    session.version += 1
    if begins_anew:
        session.replaced = session.version
        _begin_anew(session)
    session.shape = command.shape
    session.own_ttl_ms = command.ttl_ms or session.own_ttl_ms
    drop_oldest(session, len(session.elements))
    session.history_version = session.version
    first_seq = _add(session, command.elements, command.fields)
    if session.version == 1 and command.gaps:
        session.gaps = command.gaps
        drop_oldest(session, 0)
    return first_seq


def _merge(command: Merge, session: StoredSession, now: int) -> int | None:
    is_new = not session.version
    if not is_new:
        _refuse_unmergeable(command, session)
    session.version += 1
    if is_new or not command.creates:
        session.shape = command.shape or session.shape
    session.own_ttl_ms = command.ttl_ms or session.own_ttl_ms
    _change_history(command, session, is_new=is_new)
    return _add(session, _merged(command, session), _values(command.fields))


def _merged(command: Merge, session: StoredSession) -> Sequence[bytes]:
    """List the messages that *command* adds. One that may create the session leaves out those that are known."""
    elements = (command.history and command.history.elements) or ()
    is_repeatable = command.creates and isinstance(command.history, Extend)
    return unknown(elements, session) if is_repeatable else elements


def _change_history(command: Merge, session: StoredSession, *, is_new: bool) -> None:
    """Drop the messages that *command* drops, and note the change."""
    if is_new or command.history:
        session.history_version = session.version
    if session.elements and isinstance(command.history, Rewrite):
        session.rewritten = session.version
    if session.elements and _resets(command):
        _begin_anew(session)
    drop_oldest(session, _dropped_by(command.history, session))


def _dropped_by(history: Extend | Rewrite | None, session: StoredSession) -> int:
    """Count the oldest messages that a change of the history drops."""
    if history is None:
        return 0
    if isinstance(history, Rewrite):
        return len(session.elements)
    return numbering.behind(history.drop_below - 1, session.first_seq, len(session.elements), session.gaps)


def _resets(command: Merge) -> bool:
    """Tell whether the change begins the conversation anew."""
    return isinstance(command.history, Rewrite) and command.history.resets


def _begin_anew(session: StoredSession) -> None:
    """Begin a conversation in the place of the one before. The turn of that one is lost."""
    session.history_replaced = session.version
    session.turn = None


def _refuse_unmergeable(command: Merge, session: StoredSession) -> None:
    """Refuse changes that do not fit the session as it is now."""
    refuse_another(command.session_id, command.created_at_ms, session)
    if not _resets(command):
        adds = isinstance(command.history, Rewrite) or bool(command.history and command.history.elements)
        refuse_late(command, session, adds=adds)
    if command.history and command.history.elements:
        refuse_moved(command.session_id, session)
    if isinstance(command.history, Extend) and not command.creates:
        refuse_known(command.history.elements, session)
    if has_other_history(command.history, command.loaded_version, session):
        refuse_conflict(command, "history", session)
    refuse_collisions(command, session)


def _append(command: Append, session: StoredSession, now: int) -> int | None:
    refuse_another(command.session_id, command.created_at_ms, session)
    refuse_late(command, session, adds=bool(command.elements))
    if command.elements:
        refuse_moved(command.session_id, session)
    refuse_unexpected(command, session)
    elements = unknown(command.elements, session, command.replaces)
    session.version += 1
    _drop_replaced(command, session)
    return _add(session, elements, command.fields)


def _drop(command: Drop, session: StoredSession, now: int) -> int | None:
    refuse_unexpected(command, session)
    count = len(session.elements)
    begin, end = count - min(count, command.newest), count
    if command.after == 0:
        begin = 0
    elif command.after is not None:
        begin = place_of(command.after, session) + 1
    elif command.message is not None:
        begin = place_of(command.message, session)
        end = begin + 1
    session.version += 1
    return take_out(session, begin, end)


def _update(command: Update, session: StoredSession, now: int) -> None:
    refuse_unexpected(command, session)
    session.version += 1
    session.own_ttl_ms = command.ttl_ms or session.own_ttl_ms
    _add(session, (), command.fields)


def _delete(command: Delete, session: StoredSession, now: int) -> None:
    refuse_another(command.session_id, command.created_at_ms, session)
    refuse_late(command, session, adds=False)
    refuse_unexpected(command, session)


def _begin(command: BeginTurn, session: StoredSession, now: int) -> int | None:
    refuse_moved(command.session_id, session)
    refuse_unexpected(command, session)
    _stand_in_line(command, session, now)
    session.version += 1
    _drop_replaced(command, session)
    seq = session.next_seq if command.element else 0
    session.turn = TurnLease(command.attempt, now + command.lease_ms, seq)
    first_seq = _add(session, (command.element,) if command.element else (), ())
    if seq:
        session.gaps = numbering.with_gap(session.gaps, seq + 1, seq + 1)
    return first_seq


_LOOK_AGAIN_MS = 500
"""Time told to those who could have the turn if nobody stood before them in line."""


def _stand_in_line(command: BeginTurn, session: StoredSession, now: int) -> None:
    """Refuse an attempt that cannot have the turn now. One that waits takes a ticket, or keeps its place.

    Raises:
        TurnInProgress: Another turn is in progress, or others stand before this attempt.
    """
    line, remaining_ms = session.line, session.turn.until_ms - now if session.turn else 0
    _drop_tickets(session, now, kept=command.attempt)
    is_first = next(iter(line), command.attempt) == command.attempt
    if (remaining_ms > 0 or not is_first) and not command.supersede:
        if command.wait_ms:
            line[command.attempt] = now + command.wait_ms
        raise TurnInProgress(command.session_id, remaining_ms if remaining_ms > 0 else _LOOK_AGAIN_MS)
    line.pop(command.attempt, None)


def leave_line(session: StoredSession, attempt: str, now: int) -> None:
    """Take an attempt out of the line, if it stands there."""
    if session.line.pop(attempt, None) is not None:
        _drop_tickets(session, now)


def _drop_tickets(session: StoredSession, now: int, *, kept: str = "") -> None:
    """Take those out of the line whose tickets have ended, but for the attempt *kept*."""
    for attempt in [one for one, ends_ms in session.line.items() if ends_ms <= now and one != kept]:
        del session.line[attempt]


def _commit(command: CommitTurn, session: StoredSession, now: int) -> int | None:
    leave_line(session, command.turn, now)
    turn = refuse_lost(command, session)
    streams.refuse_behind(command, session)
    refuse_collisions(command, session)
    refuse_known(command.elements, session)
    session.version += 1
    session.turn = None
    elements = list(command.elements)
    has_reply = bool(elements) and not command.status
    if turn.seq and (has_reply or (not elements and command.status == "unanswered")):
        give_kept_seq(session, turn.seq + 1, elements)
    first_seq = _add(session, elements, _values(command.fields))
    last_seq = first_seq and session.next_seq - 1  # the reply is the last of the turn's messages
    streams.close(command, session, last_seq, now)
    return last_seq


def _move(command: MoveConversation, session: StoredSession, now: int) -> None:
    refuse_lost(command, session)
    refuse_unexpected(command, session)
    session.version += 1
    session.turn = None
    session.moved_to = command.moved_to


def _edit(command: Edit, session: StoredSession, now: int) -> int:
    refuse_another(command.session_id, command.created_at_ms, session)
    refuse_unexpected(command, session)
    index = place_of(command.seq, session)
    if session.elements[index] != command.loaded:
        refuse_conflict(command, "message", session)
    session.version += 1
    session.elements[index] = command.element
    session.history_version = session.version
    return command.seq


_WRITES: dict[type[Any], Callable[[Any, StoredSession, int], int | None]] = {
    Put: _put,
    Merge: _merge,
    Append: _append,
    Drop: _drop,
    Update: _update,
    Delete: _delete,
    BeginTurn: _begin,
    CommitTurn: _commit,
    MoveConversation: _move,
    Edit: _edit,
}


_EVENTS: dict[type[Any], str] = {
    Put: "saved",
    Merge: "saved",
    Append: "messages",
    Drop: "dropped",
    Update: "data",
    Delete: "delete",
    BeginTurn: "turn",
    CommitTurn: "reply",
    MoveConversation: "moved",
    Edit: "edited",
}


def event_of(command: Write) -> str:
    """Name what *command* is to those who follow the session."""
    return _EVENTS[type(command)]


def known_id(command: Write, session: StoredSession) -> str:
    """Find the id by which *command* is known as a repeat: all its messages are there. "" if it is none.

    Raises:
        MessageIdReused: A message with one of the ids is there, and is another one.
    """
    elements = _named_by(command, session)
    known = known_ids(elements, session, getattr(command, "replaces", ""))
    for element in reversed(elements):
        stored = known.get(own_id(element))
        if stored and not is_same_message(element, stored):
            raise MessageIdReused(own_id(element))
    is_all = bool(elements) and all(own_id(element) in known for element in elements)
    return own_id(elements[0]) if is_all and not getattr(command, "fields", ()) else ""


def _named_by(command: Write, session: StoredSession) -> Sequence[bytes]:
    """List the messages of *command* that are left out where the session has their ids."""
    if isinstance(command, BeginTurn):
        return (command.element,) if command.element else ()
    if not isinstance(command, (Append, Merge)) or command.created_at_ms not in (None, session.created_at_ms):
        return ()
    if isinstance(command, Append):
        return command.elements
    return command.history.elements if command.creates and isinstance(command.history, Extend) else ()


def left_out_by(command: Write, session: StoredSession) -> list[bytes]:
    """List the messages of *command* that are left out, since *session* has their ids."""
    elements = _named_by(command, session)
    known = known_ids(elements, session, getattr(command, "replaces", ""))
    return [element for element in elements if own_id(element) in known]


def _drop_replaced(command: Append | BeginTurn, session: StoredSession) -> None:
    """Take out the message that *command* replaces, and all behind it."""
    if not command.replaces:
        return
    place = find(command.replaces, session)
    if place is None:
        raise NothingToReplace(session.session_id, command.replaces)
    take_out(session, place, len(session.elements))


def _values(fields: Iterable[FieldChange]) -> list[tuple[str, bytes | None]]:
    return [(change.name, change.value) for change in fields]


def _add(session: StoredSession, elements: Iterable[bytes], fields: Iterable[tuple[str, bytes | None]]) -> int | None:
    """Add messages and set fields. Return the seq of the first message."""
    first_seq = session.next_seq
    session.elements += elements
    for name, value in fields:
        if value is None:
            session.fields.pop(name, None)
        else:
            session.fields[name] = value
    if session.next_seq == first_seq:
        return None
    session.history_version = session.version
    return first_seq


def _find_key(session: StoredSession, first_key: str, given: dict[str, bytes | None], added: int) -> None:
    """Give a session without a history one with its first message, and make a bare list a dict with its first field."""
    is_field_set = any(value is not None for value in given.values())
    if (session.shape == "data" and added) or (session.shape == "list" and is_field_set):
        session.shape = full(first_key)


def _given_fields(command: Write) -> dict[str, bytes | None]:
    """The fields that *command* sets, or removes (None)."""
    return {field[0]: field[-1] for field in getattr(command, "fields", ())}


def _told_again(command: Write, session: StoredSession) -> Usage:
    """Add up what *command* tells of the cost of messages that *session* has been told of before."""
    if not getattr(command, "usage", None):
        return NO_USAGE
    if isinstance(command, Put):
        return _told_by_whole(command, session.elements)
    left_out = (tokens_of(element) or NO_USAGE for element in left_out_by(command, session))
    return Usage(*map(sum, zip(NO_USAGE, *left_out, strict=True)))


def _told_by_whole(command: Put, before: Iterable[bytes]) -> Usage:
    """Add up the cost of those messages of a session that a whole one tells again, as it was told *before*."""
    spent: dict[bytes, list[Usage]] = {}
    for element in before:
        tokens = tokens_of(element)
        if tokens:
            spent.setdefault(element[element.find(b"\n") :], []).append(tokens)
    found = NO_USAGE
    for element in command.elements:
        known = spent.get(element[element.find(b"\n") :]) if tokens_of(element) else None
        if known:
            found = Usage(*map(sum, zip(found, known.pop(0), strict=True)))
    return found


def _tell(command: Write, session: StoredSession, told: Usage) -> None:
    """Keep what a command tells beside data and messages: the title, and the cost of the messages. *told* was before."""
    if isinstance(command, (Update, Edit)) and command.title is not None:
        session.title = command.title or None
    if isinstance(command, (Put, Merge, Append, BeginTurn)):
        session.title = session.title or command.first_title or None
    if isinstance(command, (Put, Merge, Append, BeginTurn, CommitTurn, Edit)) and command.usage:
        more = zip(session.usage, command.usage, told, strict=True)
        session.usage = Usage(*(before + now - again for before, now, again in more))


def adjust(command: Harmless, session: StoredSession, now: int) -> None:
    """Do what has no token, as it is harmless to repeat."""
    _ADJUSTMENTS[type(command)](command, session, now)


def _touch(command: Touch, session: StoredSession, now: int) -> None:
    refuse_another(command.session_id, command.created_at_ms, session)
    session.own_ttl_ms = command.ttl_ms or session.own_ttl_ms


def _note_alias(command: NoteAlias, session: StoredSession, now: int) -> None:
    aliases = {*session.aliases} - {command.alias}
    if command.leads_here:
        aliases.add(command.alias)
    session.aliases = tuple(sorted(aliases, key=Alias.sort_key))


def _renew(command: RenewTurn, session: StoredSession, now: int) -> None:
    refuse_lost(command, session).until_ms = now + command.lease_ms


def _share(command: Share, session: StoredSession, now: int) -> None:
    if session.shared.get(command.name) != command.role:
        session.version += 1
        session.updated_at_ms = max(now, session.created_at_ms)
    others = {name: role for name, role in session.shared.items() if name != command.name}
    session.shared = {**others, command.name: command.role} if command.role else others


_ADJUSTMENTS: dict[type[Any], Callable[[Any, StoredSession, int], None]] = {
    Touch: _touch,
    NoteAlias: _note_alias,
    RenewTurn: _renew,
    Share: _share,
}


def _mark_message(command: Write, session: StoredSession, turn: TurnLease | None, now: int) -> None:
    """Mark the message of the *turn* that was there before *command*, if the message is still there.

    This comes after the check of the size: a full session does not keep a turn from ending.
    """
    if isinstance(command, CommitTurn):
        status: str = command.status
    elif isinstance(command, MoveConversation):
        status = ""
    elif isinstance(command, BeginTurn) and turn:
        status = "superseded" if turn.until_ms > now else "interrupted"
    else:
        return
    assert turn
    index = session.index_of(turn.seq)
    if index is not None:
        session.elements[index] = with_status(session.elements[index], status)
    if status:
        session.history_version = session.version


def repeated(first: Receipt, session: StoredSession | None) -> Receipt:
    """Make the receipt of a repeat from the *first* one. The *session* is None if it is gone."""
    created, expires = (session.created_at_ms, session.expires_at_ms) if session else (0, 0)
    return replace(first, repeated=True, created_at_ms=created, expires_at_ms=expires)


def take_again(command: BeginTurn, first: Receipt, session: StoredSession, now: int) -> None:
    """Take a turn that was begun with the same token before, and was not ended.

    Raises:
        TurnInProgress: An earlier attempt, or a turn without a message, is in progress.
        TurnLost: Others have written since. Either error says that the message is stored.
    """
    turn, seq = session.turn, first.first_seq or 0
    if not turn or turn.attempt != command.attempt:
        if turn and turn.until_ms > now and turn.seq in (0, seq):
            is_stored = command.element is not None
            raise TurnInProgress(command.session_id, turn.until_ms - now, is_stored=is_stored)
        _refuse_written_behind(command, seq, session)
    session.turn = TurnLease(command.attempt, now + command.lease_ms, seq)


def _refuse_written_behind(command: BeginTurn, seq: int, session: StoredSession) -> None:
    """Refuse where the turn's message, *seq*, is not the last any more. Else the seq behind it is kept for the reply."""
    last_seq = session.seqs[-1] if session.elements else session.first_seq - 1
    if seq != last_seq or (command.element and not session.elements):
        raise TurnLost(command.session_id, is_stored=command.element is not None)
    if seq:
        session.gaps = numbering.with_gap(session.gaps, seq + 1, seq + 1)
