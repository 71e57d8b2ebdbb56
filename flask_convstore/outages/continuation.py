"""Continuations: what a host writes, while the store is away, to a session that it does not know whole.

A continuation begins with what the host remembers of the session, which is often nothing. All that follows is a change of
that, and is added to the session when the store is back. So a continuation replaces nothing that it has not seen.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, TypeVar

from ..domain.commands import (
    ANYTHING,
    Append,
    BeginTurn,
    Command,
    CommitTurn,
    Delete,
    Extend,
    FieldChange,
    Merge,
    NoteAlias,
    Put,
    Rewrite,
    Update,
    new_token,
)
from ..domain.messages import bodies_of
from ..domain.results import Snapshot
from ..domain.shapes import full
from ..domain.types import Owner, Scope

_C = TypeVar("_C", bound=Command | BeginTurn)

_FIRST_SEQ = 10**12
"""The seq of the first message of a session of which nothing is remembered. It stands behind all that may be there."""

_SERVER = "\n"
"""The server in a key, where sessions have owners. Nobody else may read what it writes to a session of somebody's."""

_BEGINNERS = (Put, Merge, Append, Update, Delete, BeginTurn, CommitTurn, NoteAlias)


def key_of(session_id: str, owner: Owner) -> str:
    """Name the continuation of a session by *owner* in a journal. No session and no owner has a name with a line end."""
    return "\n".join((session_id, _SERVER if isinstance(owner, Scope) else owner or ""))


def all_keys(session_id: str) -> tuple[str, str]:
    """The first and the last key that a continuation of a session may have."""
    return session_id + "\n", session_id + "\v"


def can_begin(command: Command | BeginTurn) -> bool:
    """Tell whether *command* can be done to a session of which nothing is known.

    What names a message or a version, and what works on the whole session, cannot. The end of a turn that was taken from its
    producer cannot either: who takes it after a fail-over stores another one.
    """
    if isinstance(command, Put):
        return command.may_continue
    if isinstance(command, BeginTurn) and command.element is None:
        return False
    needs_more = (getattr(command, name, None) for name in ("expected", "replaces", "is_taken"))
    is_free = not any(needs_more)
    return isinstance(command, _BEGINNERS) and is_free


def beginning(command: Command | BeginTurn, remembered: Snapshot | None, history_key: str, at_ms: int) -> Put:
    """Make the beginning of the continuation in which *command* comes first."""
    start = Put(
        session_id=command.session_id,
        owner=command.owner,
        mode="create",
        shape=getattr(command, "shape", None) or full(history_key),
        started_at_ms=at_ms,
        first_seq=_FIRST_SEQ,
        is_remembered=True,
        token=new_token(),
    )
    if remembered is None:
        return start
    return replace(
        start,
        shape=remembered.shape,
        fields=tuple(remembered.fields.items()),
        elements=tuple(remembered.elements),
        first_seq=remembered.seqs[0] if remembered.elements else remembered.next_seq,
        first_title=remembered.title or "",
    )


def as_change(command: _C, now: Snapshot) -> _C | Merge:
    """Make of a whole session, which takes the place of any other, the change of the one as it is known *now*."""
    if not isinstance(command, Put) or command.mode != "replace":
        return command
    return _change(command, now)


def as_first_change(command: _C, now: Snapshot) -> _C | Merge:
    """Do as ``as_change``, also with a session that shall be created: there is nothing yet but what is remembered."""
    return _change(command, now) if isinstance(command, Put) else command


def _change(put: Put, now: Snapshot) -> Merge:
    given = dict(put.fields)
    changed = [FieldChange(name, now.fields.get(name), text) for name, text in given.items()]
    removed = [FieldChange(name, text, None) for name, text in now.fields.items() if name not in given]
    same = 0
    for before, after in zip(bodies_of(now.elements), bodies_of(put.elements), strict=False):
        if before != after:
            break
        same += 1
    # Messages that are known already keep their names.
    elements = (*now.elements[:same], *put.elements[same:])
    return Merge(
        session_id=put.session_id,
        owner=put.owner,
        fields=tuple(change for change in (*changed, *removed) if change.loaded != change.value),
        history=Rewrite(now.history_version, elements),
        shape=put.shape,
        creates=True,
        ttl_ms=put.ttl_ms,
        first_title=put.first_title,
        usage=put.usage,
        seen_in_part=put.seen_in_part,
        token=put.token,
        digest=put.digest,
    )


def as_known(command: Any, now: Snapshot, attempts: Collection[str]) -> Any:
    """Let *command* name nothing that is not known here: a state of the session in the store, or a turn that began there.

    Args:
        now: The session as it is known here.
        attempts: The turns that began here.
    """
    if isinstance(command, CommitTurn) and command.turn not in attempts:
        return _with_any_fields(as_addition(command))
    is_of_here = getattr(command, "created_at_ms", None) in (None, now.created_at_ms)
    if is_of_here or isinstance(command, Put):
        return command
    known = replace(command, created_at_ms=None)
    if isinstance(known, (Merge, Append, Delete)):
        known = replace(known, loaded_version=None)
    if isinstance(known, Merge):
        return _with_any_fields(replace(known, history=_known_history(known.history, now)))
    return known


def _with_any_fields(command: Merge) -> Merge:
    """Let *command* set its fields whatever they are here."""
    return replace(command, fields=tuple(change._replace(loaded=ANYTHING) for change in command.fields))


def _known_history(history: Extend | Rewrite | None, now: Snapshot) -> Extend | Rewrite | None:
    if isinstance(history, Rewrite):
        return replace(history, history_version=now.history_version)
    return history and Extend(0, history.elements)


def as_addition(command: CommitTurn) -> Merge:
    """Make of the end of a turn what merges its messages and fields, whoever has the turn."""
    return Merge(
        session_id=command.session_id,
        owner=command.owner,
        fields=command.fields,
        history=Extend(0, command.elements if command.status != "failed" else ()),
        creates=True,
        usage=command.usage,
        token=command.token,
        digest=command.digest,
    )


def as_added(command: Any) -> Any:
    """Make of a change of a part, which was handed over since, what adds it to the session in the store.

    A history that was rewritten conflicts, since nobody here has seen all of it.
    """
    added = replace(command, created_at_ms=None)
    if isinstance(added, (Merge, Append, Delete)):
        added = replace(added, loaded_version=None)
    if isinstance(added, Merge) and isinstance(added.history, Rewrite):
        return replace(added, history=replace(added.history, history_version=-1))
    if isinstance(added, Merge) and added.history:
        return replace(added, history=Extend(0, added.history.elements or ()))
    return added
