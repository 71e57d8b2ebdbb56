"""Rotation of a session's id. After a login nobody who knew the old id knows the new one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import replace

from ..domain.commands import Delete, NoteAlias, Share
from ..domain.deadlines import OPERATION
from ..domain.ids import new_id
from ..domain.results import Snapshot
from ..domain.types import ANY, Alias
from ..domain.validation import check_name, check_session_id
from ..errors import ConflictError, ConvstoreError, Forbidden, SessionMoved, SessionNotFound, behind_a_write
from ..sessions import diff
from ..sessions.session import AnySession
from . import aliases, sessions
from .access import FOR_CLEANING, Access, in_time

_ATTEMPTS = 20
"""Most attempts to copy a session while others write to it."""


@in_time
def rotate_id(access: Access, session_id: str, *, new_owner: str | None = None) -> AnySession:
    """Give the session a new id, and a *new_owner* if one is named. The old id leads nowhere from then on."""
    check_session_id(session_id)
    if new_owner is not None:
        new_owner = check_name(new_owner, "new_owner")
    for _ in range(_ATTEMPTS):
        snapshot = _rotatable(access, session_id)
        heir = new_owner or snapshot.owner
        kept = [alias for alias in snapshot.aliases if alias.owner in (None, heir)]
        new = new_id()
        try:
            with OPERATION.sparing(FOR_CLEANING):
                _copy(access.of(ANY), snapshot, new, heir, kept)
                expected = f"{snapshot.created_at_ms}-{snapshot.version}"
                access.apply(Delete(session_id=session_id, owner=access.owner, expected=expected))
        except (ConflictError, SessionNotFound):
            access.apply(Delete(session_id=new, owner=ANY))  # the copy is out of date
            continue
        except ConvstoreError as error:
            if error.written is False:
                with contextlib.suppress(ConvstoreError):
                    access.apply(Delete(session_id=new, owner=ANY))
            raise
        with behind_a_write():
            aliases.move(access, kept, session_id, new)
            aliases.move(access, sorted({*snapshot.aliases} - {*kept}), session_id, None)  # those of the old owner
            return sessions.existing(access.of(heir), new)
    raise ConflictError(session_id, "version", expected=None, actual=snapshot.version)


def _rotatable(access: Access, session_id: str) -> Snapshot:
    """Load the session, if this owner owns it, and if its conversation was not moved."""
    snapshot = access.whole(session_id)
    if snapshot is None:
        raise SessionNotFound(session_id)
    if access.owner not in (ANY, snapshot.owner):
        raise Forbidden(session_id)
    if snapshot.moved_to:
        raise SessionMoved(session_id, snapshot.moved_to)
    return snapshot


def _copy(access: Access, snapshot: Snapshot, new: str, heir: str | None, led_by: Iterable[Alias]) -> None:
    """Copy a session for *heir* to the id *new*."""
    copy = diff.copied(
        snapshot,
        new,
        heir,
        snapshot.elements,
        snapshot.usage,
        seqs=snapshot.seqs,
        next_seq=snapshot.next_seq,
    )
    has_new_owner = heir != snapshot.owner
    # A copy for the same owner takes the old session's place in the quota, and keeps its shares.
    access.apply(replace(copy, counts=has_new_owner))
    if not has_new_owner:
        for name, role in snapshot.shared.items():
            access.apply(Share(session_id=new, owner=ANY, name=name, role=role))
    for alias in led_by:
        access.apply(NoteAlias(session_id=new, owner=ANY, alias=alias, leads_here=True))
