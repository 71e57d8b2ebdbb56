"""The refusals: what keeps a command from being done to a session. Nothing was written then. The Lua scripts mirror them."""

from __future__ import annotations

from collections.abc import Collection
from typing import NoReturn

from ..errors import (
    ConflictError,
    Forbidden,
    SessionMoved,
    SessionNotFound,
    TokenReused,
    TurnLost,
    is_history_key,
    session_too_large,
    stored_data_too_large,
    too_many_messages,
)
from .commands import (
    ANYTHING,
    Append,
    BeginTurn,
    Command,
    CommitTurn,
    Delete,
    Edit,
    Expecting,
    Merge,
    MoveConversation,
    NoteAlias,
    Put,
    RenewTurn,
    Share,
    Touch,
    Update,
    Write,
)
from .shapes import Shape, has_history, key_of
from .stored_session import StoredSession, TurnLease
from .types import ANY, Limits, Owner


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


def refuse_reader(session_id: str, owner: Owner, session: StoredSession) -> None:
    """Refuse an owner who shares a session, and may only read it."""
    if owner not in (ANY, session.owner) and session.shared[str(owner)] != "writer":
        raise Forbidden(session_id)


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


def refuse_written_since(command: Put, session: StoredSession) -> None:
    """Keep *session* from being replaced, where others have written to it since the replacement was accepted.

    Raises:
        ConflictError: They have.
    """
    since = command.unchanged_since_ms
    if since is not None and session.updated_at_ms > since:
        raise ConflictError(command.session_id, "version", expected=None, actual=session.version)


def refuse_another(session_id: str, created_at_ms: int | None, session: StoredSession) -> None:
    """Refuse a session that is not the one that is meant, but its successor."""
    if created_at_ms not in (None, session.created_at_ms):
        raise SessionNotFound(session_id)


def refuse_late(command: Merge | Append | Delete, session: StoredSession, *, adds: bool) -> None:
    """Refuse what was begun before the content was replaced. What adds no messages minds the fields only."""
    last = max(session.replaced, session.history_replaced) if adds else session.replaced
    if command.loaded_version is not None and command.loaded_version < last:
        raise SessionNotFound(command.session_id)


def refuse_moved(session_id: str, session: StoredSession) -> None:
    if session.moved_to:
        raise SessionMoved(session_id, session.moved_to)


def refuse_lost(command: CommitTurn | MoveConversation | RenewTurn, session: StoredSession) -> TurnLease:
    """Refuse an attempt that has not the turn. Return the turn."""
    if not session.turn or session.turn.attempt != command.turn:
        raise TurnLost(command.session_id)
    return session.turn


def refuse_unexpected(command: Expecting, session: StoredSession) -> None:
    if command.expected not in ("", str(session.version), f"{session.created_at_ms}-{session.version}"):
        expected = int(command.expected.rpartition("-")[2])
        raise ConflictError(command.session_id, "version", expected=expected, actual=session.version)


def refuse_collisions(command: Merge | CommitTurn, session: StoredSession) -> None:
    for change in command.fields:
        stored = session.fields.get(change.name)
        collides_alike = isinstance(command, Merge) and change.loaded is not None
        may_be_alike = stored == change.value and not collides_alike and not _may_hide_changes(stored)
        if change.loaded not in (ANYTHING, stored) and not may_be_alike:
            refuse_conflict(command, change.name, session, is_field=True)


def refuse_conflict(
    command: Merge | CommitTurn | Edit, what: str, session: StoredSession, is_field: bool = False
) -> NoReturn:
    expected = command.loaded_version if isinstance(command, Merge) else None
    raise ConflictError(command.session_id, what, expected=expected, actual=session.version, is_field=is_field)


def _may_hide_changes(text: bytes | None) -> bool:
    """Tell whether two writers may have come to the same value by two changes: both may have counted, or appended."""
    return text is not None and text[:1] in b"-0123456789[{"


def refuse_history_key(
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


def refuse_too_many(session: StoredSession, limits: Limits, reserved: int) -> None:
    """Refuse more messages than there may be. So many more as are *reserved* must fit too."""
    count, most = len(session.elements), limits.max_history
    if count > most - (0 if limits.trim else reserved):
        raise too_many_messages(most, count + reserved)


def refuse_too_large(session: StoredSession, limits: Limits, data_before: int, size_before: int) -> None:
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
