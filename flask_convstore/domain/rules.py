"""A session in memory, and what each command does to it: the readable reference of what the scripts write.

Whose it is, how long it lives and which writes are repeats is ``memory_store``'s to know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from ..errors import (
    ConflictError,
    Forbidden,
    MessageNotFound,
    SessionExists,
    SessionMoved,
    SessionNotFound,
    TooLarge,
    TurnInProgress,
    TurnLost,
)
from .commands import (
    Append,
    BeginTurn,
    Command,
    CommitTurn,
    Delete,
    Edit,
    Expecting,
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
from .messages import NO_USAGE, Usage, with_status
from .results import ANY, Alias, Limits, Receipt, Role, Shape, Snapshot, Summary


@dataclass(slots=True)
class MemoryTurn:
    """Who has the turn, until when, and the number of its message; 0: it has none."""

    attempt: str
    until: int
    seq: int


@dataclass(slots=True)
class MemorySession:
    """One session; times are milliseconds since 1970, by the store's clock."""

    owner: str | None
    shape: Shape
    created: int
    updated: int = 0
    expires: int = 0
    active: int = 0
    version: int = 0
    ttl: int | None = None
    history_version: int = 0
    first_seq: int = 1
    elements: list[bytes] = field(default_factory=list)
    fields: dict[str, bytes] = field(default_factory=dict)
    turn: MemoryTurn | None = None
    moved_to: str | None = None
    aliases: frozenset[Alias] = frozenset()
    title: str | None = None
    usage: Usage = NO_USAGE
    shared: Mapping[str, Role] = field(default_factory=dict)

    @property
    def next_seq(self) -> int:
        return self.first_seq + len(self.elements)

    @property
    def data_bytes(self) -> int:
        return sum(len(name.encode()) + len(text) for name, text in self.fields.items())

    @property
    def bytes(self) -> int:
        return self.data_bytes + sum(map(len, self.elements))


def copy_of(session: MemorySession) -> MemorySession:
    """*session*, to be changed."""
    return replace(session, elements=list(session.elements), fields=dict(session.fields))


def refuse_guest(command: Command | BeginTurn, session: MemorySession | None) -> None:
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


def creates(command: Command | BeginTurn) -> bool:
    """Tell whether *command* creates a session where there is none."""
    return isinstance(command, Put) or (isinstance(command, Merge) and command.creates)


def takes_place(command: Write) -> bool:
    """Tell whether the session that *command* creates takes one of its owner's places."""
    if isinstance(command, Put):
        return command.counts and command.started_at_ms is None
    return isinstance(command, Merge)


def write(command: Write, session: MemorySession, limits: Limits, now: int) -> int | None:
    """Do *command* to *session*, and trim it. Return the seq of the first message that it adds."""
    next_seq = session.next_seq
    first_seq = _WRITES[type(command)](command, session, now)
    added = session.next_seq - next_seq
    if limits.trim and 0 < added <= limits.max_history:
        _drop(session, len(session.elements) - limits.max_history)
    _tell(command, session)
    return first_seq


def _put(command: Put, session: MemorySession, now: int) -> int | None:
    if session.version and command.mode != "replace":
        raise SessionExists(command.session_id)
    session.fields.clear()
    session.moved_to = session.title = None
    session.version += 1
    session.shape = command.shape
    session.ttl = command.ttl_ms or session.ttl
    _drop(session, len(session.elements))
    session.history_version = session.version
    return _add(session, command.elements, command.fields)


def _merge(command: Merge, session: MemorySession, now: int) -> int | None:
    is_new = not session.version
    if not is_new:
        _refuse_unmergeable(command, session)
    session.version += 1
    if is_new or not command.creates:
        session.shape = command.shape or session.shape
    session.ttl = command.ttl_ms or session.ttl
    history = command.history
    if history is None and not is_new:
        return _add(session, (), _values(command.fields))
    if isinstance(history, Rewrite):
        _drop(session, len(session.elements))
    elif history:
        _drop(session, history.drop_below - session.first_seq)
    session.history_version = session.version
    return _add(session, (history and history.elements) or (), _values(command.fields))


def _refuse_unmergeable(command: Merge, session: MemorySession) -> None:
    """Refuse changes that do not fit the session as it is now."""
    _refuse_another(command.session_id, command.created_at_ms, session)
    if command.history and command.history.elements:
        _refuse_moved(command.session_id, session)
    if isinstance(command.history, Rewrite) and command.history.history_version != session.history_version:
        _refuse_conflict(command, "history", session)
    _refuse_collisions(command, session)


def _append(command: Append, session: MemorySession, now: int) -> int | None:
    _refuse_another(command.session_id, command.created_at_ms, session)
    if command.elements:
        _refuse_moved(command.session_id, session)
    _refuse_unexpected(command, session)
    session.version += 1
    return _add(session, command.elements, command.fields)


def _update(command: Update, session: MemorySession, now: int) -> None:
    _refuse_unexpected(command, session)
    session.version += 1
    session.ttl = command.ttl_ms or session.ttl
    _add(session, (), command.fields)


def _delete(command: Delete, session: MemorySession, now: int) -> None:
    _refuse_another(command.session_id, command.created_at_ms, session)
    _refuse_unexpected(command, session)


def _begin(command: BeginTurn, session: MemorySession, now: int) -> int | None:
    _refuse_moved(command.session_id, session)
    _refuse_unexpected(command, session)
    previous = session.turn
    if previous and previous.until > now and not command.supersede:
        raise TurnInProgress(command.session_id, previous.until - now)
    session.version += 1
    seq = session.next_seq if command.element else 0
    session.turn = MemoryTurn(command.attempt, now + command.lease_ms, seq)
    return _add(session, (command.element,) if command.element else (), ())


def _commit(command: CommitTurn, session: MemorySession, now: int) -> int | None:
    _refuse_lost(command, session)
    _refuse_collisions(command, session)
    session.version += 1
    session.turn = None
    return _add(session, command.elements, _values(command.fields))


def _move(command: MoveConversation, session: MemorySession, now: int) -> None:
    _refuse_lost(command, session)
    _refuse_unexpected(command, session)
    session.version += 1
    session.turn = None
    session.moved_to = command.moved_to


def _edit(command: Edit, session: MemorySession, now: int) -> int:
    _refuse_another(command.session_id, command.created_at_ms, session)
    _refuse_unexpected(command, session)
    index = command.seq - session.first_seq
    if not 0 <= index < len(session.elements):
        raise MessageNotFound(command.session_id, command.seq)
    if session.elements[index] != command.loaded:
        _refuse_conflict(command, "message", session)
    session.version += 1
    session.elements[index] = command.element
    session.history_version = session.version
    return command.seq


_WRITES: dict[type[Any], Callable[[Any, MemorySession, int], int | None]] = {
    Put: _put,
    Merge: _merge,
    Append: _append,
    Update: _update,
    Delete: _delete,
    BeginTurn: _begin,
    CommitTurn: _commit,
    MoveConversation: _move,
    Edit: _edit,
}


def _values(fields: Iterable[FieldChange]) -> list[tuple[str, bytes | None]]:
    return [(change.name, change.value) for change in fields]


def _add(session: MemorySession, elements: Iterable[bytes], fields: Iterable[tuple[str, bytes | None]]) -> int | None:
    """Add messages and set fields; the seq of the first message."""
    first_seq = session.next_seq
    session.elements += elements
    for name, value in fields:
        if value is None:
            session.fields.pop(name, None)
        else:
            session.fields[name] = value
            # A bare list is a dict with its first field.
            session.shape = "full" if session.shape == "list" else session.shape
    if session.next_seq == first_seq:
        return None
    # A session without a history has one with its first message.
    session.shape = "full" if session.shape == "data" else session.shape
    session.history_version = session.version
    return first_seq


def _tell(command: Write, session: MemorySession) -> None:
    """Keep what a command tells beside data and messages: the title, and the cost of the messages."""
    if isinstance(command, (Update, Edit)) and command.title is not None:
        session.title = command.title or None
    if isinstance(command, (Put, Merge, Append, BeginTurn)):
        session.title = session.title or command.first_title or None
    if isinstance(command, (Put, Merge, Append, BeginTurn, CommitTurn)) and command.usage:
        session.usage = Usage(*map(sum, zip(session.usage, command.usage, strict=True)))


def adjust(command: Harmless, session: MemorySession, now: int) -> None:
    """Do what has no token, as it is harmless to repeat."""
    _ADJUSTMENTS[type(command)](command, session, now)


def _touch(command: Touch, session: MemorySession, now: int) -> None:
    _refuse_another(command.session_id, command.created_at_ms, session)
    session.ttl = command.ttl_ms or session.ttl


def _note_alias(command: NoteAlias, session: MemorySession, now: int) -> None:
    others = session.aliases - {command.alias}
    session.aliases = others | {command.alias} if command.leads_here else others


def _renew(command: RenewTurn, session: MemorySession, now: int) -> None:
    _refuse_lost(command, session)
    assert session.turn
    session.turn.until = now + command.lease_ms


def _share(command: Share, session: MemorySession, now: int) -> None:
    if session.shared.get(command.name) != command.role:
        session.version += 1
        session.updated = max(now, session.created)
    others = {name: role for name, role in session.shared.items() if name != command.name}
    session.shared = {**others, command.name: command.role} if command.role else others


_ADJUSTMENTS: dict[type[Any], Callable[[Any, MemorySession, int], None]] = {
    Touch: _touch,
    NoteAlias: _note_alias,
    RenewTurn: _renew,
    Share: _share,
}


def _refuse_another(session_id: str, created_at_ms: int | None, session: MemorySession) -> None:
    """Refuse a session that is not the one that is meant, but its successor."""
    if created_at_ms not in (None, session.created):
        raise SessionNotFound(session_id)


def _refuse_moved(session_id: str, session: MemorySession) -> None:
    if session.moved_to:
        raise SessionMoved(session_id, session.moved_to)


def _refuse_lost(command: CommitTurn | MoveConversation | RenewTurn, session: MemorySession) -> None:
    """Refuse an attempt that has not the turn."""
    if not session.turn or session.turn.attempt != command.turn:
        raise TurnLost(command.session_id)


def _refuse_unexpected(command: Expecting, session: MemorySession) -> None:
    if command.expected not in ("", str(session.version), f"{session.created}-{session.version}"):
        expected = int(command.expected.rpartition("-")[2])
        raise ConflictError(command.session_id, "version", expected=expected, actual=session.version)


def _refuse_collisions(command: Merge | CommitTurn, session: MemorySession) -> None:
    for change in command.fields:
        stored = session.fields.get(change.name)
        if stored != change.loaded and (stored != change.value or _may_hide_changes(stored)):
            _refuse_conflict(command, change.name, session, is_field=True)


def _refuse_conflict(
    command: Merge | CommitTurn | Edit, what: str, session: MemorySession, is_field: bool = False
) -> NoReturn:
    expected = command.loaded_version if isinstance(command, Merge) else None
    raise ConflictError(command.session_id, what, expected=expected, actual=session.version, is_field=is_field)


def _may_hide_changes(text: bytes | None) -> bool:
    """Whether two changes may be hidden in one value that two writers made the same: both may have counted, or appended."""
    return text is not None and text[:1] in b"-0123456789[{"


def _drop(session: MemorySession, count: int) -> None:
    """Drop the oldest *count* messages, as far as there are any."""
    count = max(0, min(count, len(session.elements)))
    del session.elements[:count]
    session.first_seq += count


def mark_message(command: Write, session: MemorySession, turn: MemoryTurn | None, now: int) -> None:
    """Tell in its message what became of the *turn* that was there before *command*, if the message still is.

    After its size was checked: a session that is full does not keep a turn from ending.
    """
    if isinstance(command, CommitTurn):
        status: str = command.status
    elif isinstance(command, MoveConversation):
        status = ""
    elif isinstance(command, BeginTurn) and turn:
        status = "superseded" if turn.until > now else "interrupted"
    else:
        return
    assert turn
    index = turn.seq - session.first_seq
    if 0 <= index < len(session.elements):
        session.elements[index] = with_status(session.elements[index], status)
    if status:
        session.history_version = session.version


def refuse_too_large(session: MemorySession, before: MemorySession | None, limits: Limits, reserved: int) -> None:
    """Refuse what makes a session larger than it may be; so many more messages as are *reserved* must fit too."""
    count, data, size = len(session.elements), session.data_bytes, session.bytes
    added = session.next_seq > (before.next_seq if before else 1)
    room = limits.max_history - (0 if limits.trim else reserved)
    if count > room and added:
        raise TooLarge("the session would have too many messages", limit=limits.max_history, size=count + reserved)
    if data > limits.max_data_bytes and data > (before.data_bytes if before else 0):
        reason = "the data would be too large in bytes of JSON"
        raise TooLarge(reason, limit=limits.max_data_bytes, size=data)
    if size > limits.max_session_bytes and size > (before.bytes if before else 0):
        reason = "the session would be too large in bytes of JSON"
        raise TooLarge(reason, limit=limits.max_session_bytes, size=size)


def receipt_of(session: MemorySession, first_seq: int | None, history_version: int | None, now: int) -> Receipt:
    """What a write, or a touch, of *session* has done *now*."""
    return Receipt(
        version=session.version,
        first_seq=first_seq,
        repeated=False,
        level="memory",
        created_at_ms=session.created,
        updated_at_ms=session.updated,
        expires_at_ms=session.expires,
        lifetime_ms=session.expires - max(now, session.created),
        history_version_before=history_version,
    )


def snapshot_of(session_id: str, session: MemorySession, last: int | None) -> Snapshot:
    """*session*, with its *last* messages (None: all)."""
    count = len(session.elements)
    return Snapshot(
        session_id=session_id,
        version=session.version,
        shape=session.shape,
        created_at_ms=session.created,
        updated_at_ms=session.updated,
        expires_at_ms=session.expires,
        title=session.title,
        usage=session.usage,
        shared=dict(session.shared),
        fields=dict(session.fields),
        elements=session.elements[count - min(count, last) :] if last is not None else list(session.elements),
        next_seq=session.next_seq,
        count=count,
        history_version=session.history_version,
        key=f"memory://{session_id}",
        history_key=f"memory://{session_id}:history",
        owner=session.owner,
        own_ttl_ms=session.ttl,
        moved_to=session.moved_to,
        aliases=tuple(sorted(session.aliases, key=Alias.sort_key)),
    )


def summary_of(session_id: str, session: MemorySession) -> Summary:
    """*session* without its data and messages."""
    return Summary(
        session_id=session_id,
        owner=session.owner,
        version=session.version,
        created_at_ms=session.created,
        updated_at_ms=session.updated,
        expires_at_ms=session.expires,
        active_at_ms=session.active,
        message_count=len(session.elements),
        title=session.title,
        usage=session.usage,
    )
