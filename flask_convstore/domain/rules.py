"""A session in memory, and what each command does to it: the readable reference of what the scripts write.

Whose it is, how long it lives and which writes are repeats is ``memory_store``'s to know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NoReturn

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
    Extend,
    RenewTurn,
    Rewrite,
    Save,
    Share,
    Touch,
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
    may_write = session.shared[str(command.owner)] == "writer"
    if isinstance(command, Touch):
        may = not (command.ttl_ms or command.led_by or command.left_by)
    else:
        may = may_write and not isinstance(command, (Delete, Share))
        may = may and not (isinstance(command, (Append, Save)) and command.ttl_ms)
        may = may and not (isinstance(command, BeginTurn) and command.element is None)
        may = may and not (isinstance(command, Save) and ends_predecessor(command))
    if not may:
        raise Forbidden(command.session_id)


def ends_predecessor(command: Save) -> bool:
    """Whether the session that it replaces ends with it, as if it had been deleted."""
    return command.mode == "replace" and command.started_at_ms is not None


def write(command: Write, session: MemorySession, limits: Limits, now: int) -> int | None:
    """Do *command* to *session*, and trim it; the seq of the first message it adds."""
    next_seq = session.next_seq
    first_seq = _changed(command, session, now)
    added = session.next_seq - next_seq
    if limits.trim and 0 < added <= limits.max_history:
        _drop(session, len(session.elements) - limits.max_history)
    _tell(command, session)
    return first_seq


def _changed(command: Write, session: MemorySession, now: int) -> int | None:
    """What *command* does to *session*; the seq of the first message it adds."""
    if isinstance(command, Save):
        return _save(command, session)
    if isinstance(command, Append):
        _refuse_another(command.session_id, command.created_at_ms, session)
        if command.elements:
            _refuse_moved(command.session_id, session)
        _refuse_unexpected(command, session)
        session.version += 1
        session.ttl = command.ttl_ms or session.ttl
        return _add(session, command.elements, command.fields)
    if isinstance(command, BeginTurn):
        return _begin(command, session, now)
    if isinstance(command, CommitTurn):
        return _commit(command, session)
    if isinstance(command, Edit):
        return _edit(command, session)
    _refuse_another(command.session_id, command.created_at_ms, session)
    _refuse_unexpected(command, session)
    return None


def _save(command: Save, session: MemorySession) -> int | None:
    shape = command.shape
    if command.mode == "merge" or (command.mode == "upsert" and session.version):
        shape = shape if command.mode == "merge" else None
        _refuse_another(command.session_id, command.created_at_ms, session)
        if command.history and command.history.elements:
            _refuse_moved(command.session_id, session)
        if isinstance(command.history, Rewrite) and command.history.history_version != session.history_version:
            _refuse_conflict(command, "history", session)
        _refuse_collisions(command, session)
    elif command.mode in ("create", "first") and session.version:
        raise SessionExists(command.session_id)
    else:
        session.fields.clear()
        session.moved_to = session.title = None
    session.version += 1
    session.shape = shape or session.shape
    session.ttl = command.ttl_ms or session.ttl
    fields = [(change.name, change.value) for change in command.fields]
    if command.history is None:
        return _add(session, (), fields)
    oldest = command.history.drop_below if isinstance(command.history, Extend) else session.next_seq
    _drop(session, oldest - session.first_seq)
    session.history_version = session.version
    return _add(session, command.history.elements or (), fields)


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


def _commit(command: CommitTurn, session: MemorySession) -> int | None:
    turn = session.turn
    if not turn or turn.attempt != command.turn:
        raise TurnLost(command.session_id)
    if command.expected not in ("", str(session.version)):
        raise ConflictError(command.session_id, "version", expected=int(command.expected), actual=session.version)
    _refuse_collisions(command, session)
    session.version += 1
    session.turn = None
    fields = [(change.name, change.value) for change in command.fields]
    first_seq = _add(session, command.elements, fields)
    session.moved_to = command.moved_to or session.moved_to
    return first_seq


def _edit(command: Edit, session: MemorySession) -> int:
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
    """Keep what a command tells beside data and messages: the title, and what the messages have cost."""
    if isinstance(command, (Append, Edit)) and command.title is not None:
        session.title = command.title or None
    elif isinstance(command, (Append, BeginTurn, Save)) and command.first_title:
        session.title = session.title or command.first_title
    if not isinstance(command, (Delete, Edit)) and command.usage:
        session.usage = Usage(*map(sum, zip(session.usage, command.usage, strict=True)))


def adjust(command: Touch | RenewTurn | Share, session: MemorySession, now: int) -> None:
    """Do what has no token, as it is harmless to repeat."""
    if isinstance(command, RenewTurn):
        if not session.turn or session.turn.attempt != command.turn:
            raise TurnLost(command.session_id)
        session.turn.until = now + command.lease_ms
    elif isinstance(command, Share):
        if session.shared.get(command.name) != command.role:
            session.version += 1
            session.updated = max(now, session.created)
        others = {name: role for name, role in session.shared.items() if name != command.name}
        session.shared = {**others, command.name: command.role} if command.role else others
    else:
        _refuse_another(command.session_id, command.created_at_ms, session)
        session.ttl = command.ttl_ms or session.ttl
        session.aliases = (session.aliases - {command.left_by}) | ({command.led_by} if command.led_by else set())


def _refuse_another(session_id: str, created_at_ms: int | None, session: MemorySession) -> None:
    """Refuse a session that is not the one that is meant, but its successor."""
    if created_at_ms not in (None, session.created):
        raise SessionNotFound(session_id)


def _refuse_moved(session_id: str, session: MemorySession) -> None:
    if session.moved_to:
        raise SessionMoved(session_id, session.moved_to)


def _refuse_unexpected(command: Append | Delete | BeginTurn | Edit, session: MemorySession) -> None:
    if command.expected not in ("", str(session.version), f"{session.created}-{session.version}"):
        expected = int(command.expected.rpartition("-")[2])
        raise ConflictError(command.session_id, "version", expected=expected, actual=session.version)


def _refuse_collisions(command: Save | CommitTurn, session: MemorySession) -> None:
    for change in command.fields:
        stored = session.fields.get(change.name)
        if stored != change.loaded and (stored != change.value or _may_hide_changes(stored)):
            _refuse_conflict(command, change.name, session, is_field=True)


def _refuse_conflict(
    command: Save | CommitTurn | Edit, what: str, session: MemorySession, is_field: bool = False
) -> NoReturn:
    expected = command.loaded_version if isinstance(command, Save) else None
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
    if not turn or not isinstance(command, (BeginTurn, CommitTurn)):
        return
    if isinstance(command, CommitTurn):
        status: str = command.status
    else:
        status = "superseded" if turn.until > now else "interrupted"
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
