"""The rules: what each command does to a session. The Lua scripts mirror them.

``MemoryStore`` and the view of a journal apply them as they are. Who finds a session, keeps it, and knows which tokens came
before is the store.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, NoReturn, TypeGuard

from ..errors import (
    ConflictError,
    Forbidden,
    MessageIdReused,
    MessageNotFound,
    SessionExists,
    SessionMoved,
    SessionNotFound,
    TokenReused,
    TurnInProgress,
    TurnLost,
    is_history_key,
    session_too_large,
    stored_data_too_large,
    too_many_messages,
)
from . import numbering
from .commands import (
    ANYTHING,
    Append,
    BeginTurn,
    Command,
    CommitTurn,
    Delete,
    Drop,
    Edit,
    Expecting,
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
    Target,
    Touch,
    Update,
    Write,
)
from .messages import Usage, own_id, with_id, with_status
from .results import Receipt
from .shapes import Shape, full, has_history, key_of
from .stored_session import StoredSession, TurnLease
from .types import ANY, Alias, Limits, Owner


def refuse_moved_guest(session: StoredSession | None, owner: Owner) -> None:
    """Send on a guest of a conversation that was moved. The session in which it goes on tells who shares it now.

    Raises:
        SessionMoved: *owner* is a guest, and the conversation was moved.
    """
    if session and session.moved_to and owner not in (ANY, session.owner):
        raise SessionMoved(session.session_id, session.moved_to)


def refuse_guest(command: Command | BeginTurn, session: StoredSession | None) -> None:
    """Refuse what an owner who shares a session does not share."""
    if not session or command.owner in (ANY, session.owner):
        return
    is_writer = session.shared[str(command.owner)] == "writer"
    if not _is_guests(command, is_writer=is_writer):
        raise Forbidden(command.session_id)


def _is_guests(command: Command | BeginTurn, *, is_writer: bool) -> bool:
    """Tell whether a guest may do *command*. Every guest may move the lifetime, by an interaction."""
    if isinstance(command, Touch):
        return not command.ttl_ms
    return is_writer and not _is_owners_only(command)


def _is_owners_only(command: Command | BeginTurn) -> bool:
    if isinstance(command, (Delete, Share, NoteAlias)):
        return True
    if isinstance(command, BeginTurn):
        return command.element is None  # the holder of a turn without a message moves the conversation
    if isinstance(command, Put) and command.ends_predecessor:
        return True
    return isinstance(command, (Put, Merge, Update)) and bool(command.ttl_ms)


def creates(command: Command | BeginTurn) -> TypeGuard[Put | Merge]:
    """Tell whether *command* creates a session where there is none."""
    return isinstance(command, Put) or (isinstance(command, Merge) and command.creates)


def refuse_written_since(command: Put, session: StoredSession) -> None:
    """Keep *session* from being replaced, where others have written to it since the replacement was accepted.

    Raises:
        ConflictError: They have.
    """
    since = command.unchanged_since_ms
    if since is not None and session.updated_at_ms > since:
        raise ConflictError(command.session_id, "version", expected=None, actual=session.version)


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
    first_seq = _WRITES[type(command)](command, session, now)
    added = len(added_by(command, first_seq, session))
    first_key = (isinstance(command, Merge) and command.history_key) or limits.history_key
    _find_key(session, first_key, given, added)
    _refuse_history_key(command, session, first_key, given, held, shape)
    if limits.trim and 0 < added <= limits.max_history:
        _drop_oldest(session, len(session.elements) - limits.max_history)
    _tell(command, session)
    if sizes:
        if added:
            _refuse_too_many(session, limits, reserved=int(isinstance(command, BeginTurn)))
        _refuse_too_large(session, limits, *sizes)
    _mark_message(command, session, turn, now)
    session.updated_at_ms = max(now, session.created_at_ms)
    return first_seq


def added_by(command: Write, first_seq: int | None, session: StoredSession) -> list[bytes]:
    """List the messages that *command* has added to *session*, from *first_seq* on (None: there are none)."""
    if first_seq is None or isinstance(command, (Edit, Drop, Delete)):
        return []
    return session.elements[session.index_of(first_seq) :]


def _put(command: Put, session: StoredSession, now: int) -> int | None:
    if session.version and command.mode != "replace":
        raise SessionExists(command.session_id)
    begins_anew = bool(session.elements) and not _goes_on(session.elements, command.elements)
    session.fields.clear()
    session.moved_to = session.title = None
    session.version += 1
    if begins_anew:
        session.replaced = session.version
        _begin_anew(session)
    session.shape = command.shape
    session.own_ttl_ms = command.ttl_ms or session.own_ttl_ms
    _drop_oldest(session, len(session.elements))
    session.history_version = session.version
    first_seq = _add(session, command.elements, command.fields)
    if session.version == 1 and command.gaps:
        session.gaps = command.gaps
        _drop_oldest(session, 0)
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
    return _unknown(elements, session) if is_repeatable else elements


def _change_history(command: Merge, session: StoredSession, *, is_new: bool) -> None:
    """Drop the messages that *command* drops, and note the change."""
    if is_new or command.history:
        session.history_version = session.version
    if session.elements and _resets(command):
        _begin_anew(session)
    _drop_oldest(session, _dropped_by(command.history, session))


def _dropped_by(history: Extend | Rewrite | None, session: StoredSession) -> int:
    """Count the oldest messages that a change of the history drops."""
    if history is None:
        return 0
    if isinstance(history, Rewrite):
        return len(session.elements)
    return numbering.behind(history.drop_below - 1, session.first_seq, len(session.elements), session.gaps)


def _goes_on(before: list[bytes], after: tuple[bytes, ...]) -> bool:
    """Tell whether a conversation goes on in the one that takes its place, which then has its newest message too."""
    body = before[-1][max(0, before[-1].find(b"\n")) :]
    return any(element.endswith(body) for element in after)


def _resets(command: Merge) -> bool:
    """Tell whether the change begins the conversation anew."""
    return isinstance(command.history, Rewrite) and command.history.resets


def _begin_anew(session: StoredSession) -> None:
    """Begin a conversation in the place of the one before. The turn of that one is lost."""
    session.history_replaced = session.version
    session.turn = None


def _refuse_unmergeable(command: Merge, session: StoredSession) -> None:
    """Refuse changes that do not fit the session as it is now."""
    _refuse_another(command.session_id, command.created_at_ms, session)
    if not _resets(command):
        adds = isinstance(command.history, Rewrite) or bool(command.history and command.history.elements)
        _refuse_late(command, session, adds=adds)
    if command.history and command.history.elements:
        _refuse_moved(command.session_id, session)
    if isinstance(command.history, Extend) and not command.creates:
        _refuse_known(command.history.elements, session)
    if isinstance(command.history, Rewrite) and command.history.history_version != session.history_version:
        _refuse_conflict(command, "history", session)
    _refuse_collisions(command, session)


def _append(command: Append, session: StoredSession, now: int) -> int | None:
    _refuse_another(command.session_id, command.created_at_ms, session)
    _refuse_late(command, session, adds=bool(command.elements))
    if command.elements:
        _refuse_moved(command.session_id, session)
    _refuse_unexpected(command, session)
    elements = _unknown(command.elements, session, command.replaces)
    session.version += 1
    _drop_replaced(command, session)
    return _add(session, elements, command.fields)


def _drop(command: Drop, session: StoredSession, now: int) -> int | None:
    _refuse_unexpected(command, session)
    count = len(session.elements)
    begin, end = count - min(count, command.newest), count
    if command.after == 0:
        begin = 0
    elif command.after is not None:
        begin = _place_of(command.after, session) + 1
    elif command.message is not None:
        begin = _place_of(command.message, session)
        end = begin + 1
    session.version += 1
    return _take_out(session, begin, end)


def _update(command: Update, session: StoredSession, now: int) -> None:
    _refuse_unexpected(command, session)
    session.version += 1
    session.own_ttl_ms = command.ttl_ms or session.own_ttl_ms
    _add(session, (), command.fields)


def _delete(command: Delete, session: StoredSession, now: int) -> None:
    _refuse_another(command.session_id, command.created_at_ms, session)
    _refuse_late(command, session, adds=False)
    _refuse_unexpected(command, session)


def _begin(command: BeginTurn, session: StoredSession, now: int) -> int | None:
    _refuse_moved(command.session_id, session)
    _refuse_unexpected(command, session)
    previous = session.turn
    if previous and previous.until_ms > now and not command.supersede:
        raise TurnInProgress(command.session_id, previous.until_ms - now)
    session.version += 1
    _drop_replaced(command, session)
    seq = session.next_seq if command.element else 0
    session.turn = TurnLease(command.attempt, now + command.lease_ms, seq)
    first_seq = _add(session, (command.element,) if command.element else (), ())
    if seq:
        session.gaps = numbering.with_gap(session.gaps, seq + 1, seq + 1)
    return first_seq


def _commit(command: CommitTurn, session: StoredSession, now: int) -> int | None:
    turn = _refuse_lost(command, session)
    _refuse_collisions(command, session)
    _refuse_known(command.elements, session)
    session.version += 1
    session.turn = None
    elements = list(command.elements)
    if turn.seq and (elements or command.status == "unanswered"):
        _give_kept_seq(session, turn.seq + 1, elements)
    return _add(session, elements, _values(command.fields))


def _give_kept_seq(session: StoredSession, kept: int, elements: list[bytes]) -> None:
    """Let the reply, the last of *elements*, have the seq *kept* for it, or its id where others have written since.

    A turn that needs no reply gives the seq back. One that failed does not, since a part of the reply may have been shown.
    """
    is_newest = session.gaps[-1:] == ((kept, kept),) and session.next_seq == kept + 1
    if is_newest and (not elements or (len(elements) == 1 and not own_id(elements[0]))):
        session.gaps = session.gaps[:-1]
    elif elements and any(begin <= kept <= end for begin, end in session.gaps):
        elements[-1] = with_id(elements[-1], numbering.id_of(kept))


def _move(command: MoveConversation, session: StoredSession, now: int) -> None:
    _refuse_lost(command, session)
    _refuse_unexpected(command, session)
    session.version += 1
    session.turn = None
    session.moved_to = command.moved_to


def _edit(command: Edit, session: StoredSession, now: int) -> int:
    _refuse_another(command.session_id, command.created_at_ms, session)
    _refuse_unexpected(command, session)
    index = _place_of(command.seq, session)
    if session.elements[index] != command.loaded:
        _refuse_conflict(command, "message", session)
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


def known_id(command: Write, session: StoredSession) -> str:
    """Find the id by which *command* is known as a repeat: all its messages are there. "" if it is none.

    Raises:
        MessageIdReused: A message with one of the ids is there, and is another one.
    """
    elements = _named_by(command, session)
    if elements is None:
        return ""
    known = _known_ids(elements, session, getattr(command, "replaces", ""))
    for element in elements:
        stored = known.get(own_id(element))
        if stored and not is_same_message(element, stored):
            raise MessageIdReused(own_id(element))
    is_all = bool(elements) and all(own_id(element) in known for element in elements)
    return own_id(elements[0]) if is_all else ""


def _named_by(command: Write, session: StoredSession) -> Sequence[bytes] | None:
    """List the messages of *command* by whose ids it may be known as a repeat. None: it may not."""
    if isinstance(command, BeginTurn):
        return (command.element,) if command.element else ()
    if not isinstance(command, (Append, Merge)) or command.created_at_ms not in (None, session.created_at_ms):
        return None
    if isinstance(command, Append):
        return command.elements
    return command.history.elements if command.creates and isinstance(command.history, Extend) else None


def _unknown(elements: Sequence[bytes], session: StoredSession, replaces: Target = "") -> list[bytes]:
    """Leave out the messages that *session* has by their ids."""
    known = _known_ids(elements, session, replaces)
    return [element for element in elements if own_id(element) not in known]


def _known_ids(elements: Iterable[bytes], session: StoredSession, replaces: Target = "") -> dict[str, bytes]:
    """Find the messages of *session* that have an id of one of *elements*, but for those that are replaced."""
    wanted = {name for name in map(own_id, elements) if name}
    if not wanted and not replaces:
        return {}
    end = _place_of(replaces, session) if replaces else None
    there = ((own_id(element), element) for element in session.elements[:end])
    return {name: element for name, element in there if name in wanted}


def is_same_message(given: bytes, stored: bytes) -> bool:
    """Tell whether *given* is what was *stored*. One that was edited since may have been anything."""
    head, _, body = stored.partition(b"\n")
    return b'"edited_at"' in head or given.partition(b"\n")[2] == body


def _refuse_known(elements: Iterable[bytes], session: StoredSession) -> None:
    for name in _known_ids(elements, session):
        raise MessageIdReused(name)


def _place_of(target: Target, session: StoredSession) -> int:
    """Find the place of a message among the elements.

    Raises:
        MessageNotFound: There is no such message.
    """
    index = find(target, session)
    if index is None:
        raise MessageNotFound(session.session_id, target)
    return index


def find(target: Target, session: StoredSession) -> int | None:
    """Find the place of the message with that seq or id. None: there is none."""
    if isinstance(target, int):
        return session.index_of(target)
    for place, element in enumerate(session.elements):
        if own_id(element) == target:
            return place
    seq = numbering.seq_in(target)
    index = session.index_of(seq) if seq else None
    return None if index is None or own_id(session.elements[index]) else index


def _drop_replaced(command: Append | BeginTurn, session: StoredSession) -> None:
    """Take out the message that *command* replaces, and all behind it."""
    if command.replaces:
        _take_out(session, _place_of(command.replaces, session), len(session.elements))


def _take_out(session: StoredSession, begin: int, end: int) -> int | None:
    """Take out the messages at places from *begin* to before *end*. Return the seq of the first one. None: there is none."""
    gone = session.seqs[begin:end]
    if not gone:
        return None
    seqs, following = list(session.seqs), session.next_seq
    del session.elements[begin:end], seqs[begin:end]
    _number(session, seqs, following)
    session.history_version = session.version
    if session.turn and session.turn.seq in gone:
        session.turn = None
    return gone[0]


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


def _refuse_history_key(
    command: Write,
    session: StoredSession,
    first_key: str,
    given: dict[str, bytes | None],
    held: Collection[str],
    shape_before: Shape,
) -> None:
    """Refuse a data field under the key of the history, which would hide it.

    Args:
        given: The fields of *command*.
        held: Those of them that the session had before.
    """
    key = key_of(session.shape, first_key) or first_key
    is_dict_with_history = session.shape != "list" and has_history(session.shape)
    is_hidden = is_dict_with_history and key in session.fields and (key in given or session.shape != shape_before)
    is_misused = isinstance(command, (Append, Update)) and key in given and key not in held
    if is_hidden or is_misused:
        raise is_history_key(key)


def _given_fields(command: Write) -> dict[str, bytes | None]:
    """The fields that *command* sets, or removes (None)."""
    return {field[0]: field[-1] for field in getattr(command, "fields", ())}


def _tell(command: Write, session: StoredSession) -> None:
    """Keep what a command tells beside data and messages: the title, and the cost of the messages."""
    if isinstance(command, (Update, Edit)) and command.title is not None:
        session.title = command.title or None
    if isinstance(command, (Put, Merge, Append, BeginTurn)):
        session.title = session.title or command.first_title or None
    if isinstance(command, (Put, Merge, Append, BeginTurn, CommitTurn)) and command.usage:
        session.usage = Usage(*map(sum, zip(session.usage, command.usage, strict=True)))


def adjust(command: Harmless, session: StoredSession, now: int) -> None:
    """Do what has no token, as it is harmless to repeat."""
    _ADJUSTMENTS[type(command)](command, session, now)


def _touch(command: Touch, session: StoredSession, now: int) -> None:
    _refuse_another(command.session_id, command.created_at_ms, session)
    session.own_ttl_ms = command.ttl_ms or session.own_ttl_ms


def _note_alias(command: NoteAlias, session: StoredSession, now: int) -> None:
    aliases = {*session.aliases} - {command.alias}
    if command.leads_here:
        aliases.add(command.alias)
    session.aliases = tuple(sorted(aliases, key=Alias.sort_key))


def _renew(command: RenewTurn, session: StoredSession, now: int) -> None:
    _refuse_lost(command, session).until_ms = now + command.lease_ms


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


def _refuse_another(session_id: str, created_at_ms: int | None, session: StoredSession) -> None:
    """Refuse a session that is not the one that is meant, but its successor."""
    if created_at_ms not in (None, session.created_at_ms):
        raise SessionNotFound(session_id)


def _refuse_late(command: Merge | Append | Delete, session: StoredSession, *, adds: bool) -> None:
    """Refuse what was begun before the content was replaced. What adds no messages minds the fields only."""
    last = max(session.replaced, session.history_replaced) if adds else session.replaced
    if command.loaded_version is not None and command.loaded_version < last:
        raise SessionNotFound(command.session_id)


def _refuse_moved(session_id: str, session: StoredSession) -> None:
    if session.moved_to:
        raise SessionMoved(session_id, session.moved_to)


def _refuse_lost(command: CommitTurn | MoveConversation | RenewTurn, session: StoredSession) -> TurnLease:
    """Refuse an attempt that has not the turn. Return the turn."""
    if not session.turn or session.turn.attempt != command.turn:
        raise TurnLost(command.session_id)
    return session.turn


def _refuse_unexpected(command: Expecting, session: StoredSession) -> None:
    if command.expected not in ("", str(session.version), f"{session.created_at_ms}-{session.version}"):
        expected = int(command.expected.rpartition("-")[2])
        raise ConflictError(command.session_id, "version", expected=expected, actual=session.version)


def _refuse_collisions(command: Merge | CommitTurn, session: StoredSession) -> None:
    for change in command.fields:
        stored = session.fields.get(change.name)
        if change.loaded not in (ANYTHING, stored) and (stored != change.value or _may_hide_changes(stored)):
            _refuse_conflict(command, change.name, session, is_field=True)


def _refuse_conflict(
    command: Merge | CommitTurn | Edit, what: str, session: StoredSession, is_field: bool = False
) -> NoReturn:
    expected = command.loaded_version if isinstance(command, Merge) else None
    raise ConflictError(command.session_id, what, expected=expected, actual=session.version, is_field=is_field)


def _may_hide_changes(text: bytes | None) -> bool:
    """Tell whether two writers may have come to the same value by two changes: both may have counted, or appended."""
    return text is not None and text[:1] in b"-0123456789[{"


def _drop_oldest(session: StoredSession, count: int) -> None:
    """Drop the oldest *count* messages, as far as there are any."""
    count = max(0, min(count, len(session.elements)))
    seqs, following = session.seqs, session.next_seq
    del session.elements[:count]
    if session.gaps:
        _number(session, seqs[count:], following)
    else:
        session.first_seq += count


def _number(session: StoredSession, seqs: Sequence[int], following: int) -> None:
    """Give the messages these numbers, and the next one that is *following*."""
    session.first_seq = seqs[0] if seqs else following
    session.gaps = numbering.gaps_between(seqs, following)


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


def _refuse_too_many(session: StoredSession, limits: Limits, reserved: int) -> None:
    """Refuse more messages than there may be. So many more as are *reserved* must fit too."""
    count, most = len(session.elements), limits.max_history
    if count > most - (0 if limits.trim else reserved):
        raise too_many_messages(most, count + reserved)


def _refuse_too_large(session: StoredSession, limits: Limits, data_before: int, size_before: int) -> None:
    """Refuse what is over a limit and has grown. A session that was over it before may shrink, or stay."""
    data, size = session.data_bytes, session.size_bytes
    if data > limits.max_data_bytes and data > data_before:
        raise stored_data_too_large(limits.max_data_bytes, data)
    if size > limits.max_session_bytes and size > size_before:
        raise session_too_large(limits.max_session_bytes, size)


def refuse_reused(command: Write, first_digest: str) -> None:
    """Refuse a known token that came with another request before."""
    if first_digest == command.digest:
        return
    if isinstance(command, (CommitTurn, MoveConversation)):
        raise TurnLost(command.session_id)  # another attempt has ended this turn
    raise TokenReused


def repeated(first: Receipt, session: StoredSession | None) -> Receipt:
    """Make the receipt of a repeat from the *first* one. The *session* is None if it is gone."""
    created, expires = (session.created_at_ms, session.expires_at_ms) if session else (0, 0)
    return replace(first, repeated=True, created_at_ms=created, expires_at_ms=expires)


def take_again(command: BeginTurn, first: Receipt, session: StoredSession, now: int) -> None:
    """Take a turn that was begun with the same token before, and was not ended.

    Raises:
        TurnInProgress: An earlier attempt, or another turn, is in progress.
        TurnLost: Others have written since.
    """
    turn, seq = session.turn, first.first_seq or 0
    if not turn or turn.attempt != command.attempt:
        if turn and turn.until_ms > now:
            raise TurnInProgress(command.session_id, turn.until_ms - now)
        _refuse_written_behind(command, seq, session)
    session.turn = TurnLease(command.attempt, now + command.lease_ms, seq)


def _refuse_written_behind(command: BeginTurn, seq: int, session: StoredSession) -> None:
    """Refuse where the turn's message, *seq*, is not the last any more. Else the seq behind it is kept for the reply."""
    last_seq = session.seqs[-1] if session.elements else session.first_seq - 1
    if seq != last_seq or (command.element and not session.elements):
        raise TurnLost(command.session_id)
    if seq:
        session.gaps = numbering.with_gap(session.gaps, seq + 1, seq + 1)
