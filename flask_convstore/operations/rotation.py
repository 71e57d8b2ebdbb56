"""Rotation of a session's id: after a login nobody who knew the old id knows the new one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..domain.commands import Delete, NoteAlias, Share
from ..domain.ids import new_id
from ..domain.results import Snapshot
from ..domain.types import ANY, Alias
from ..domain.validation import check_name, check_session_id
from ..errors import ConflictError, Forbidden, SessionMoved, SessionNotFound, behind_a_write
from ..sessions import diff
from ..sessions.session import AnySession
from . import aliases, sessions
from .access import Access

_ATTEMPTS = 20
"""How often a session is copied anew because others wrote to it meanwhile."""


def rotate_id(access: Access, session_id: str, *, new_owner: str | None = None) -> AnySession:
    """Give the session a new id, and *new_owner* as its owner if there is one. The old id leads nowhere from then on."""
    check_session_id(session_id)
    if new_owner is not None:
        check_name(new_owner, "new_owner")
    for _ in range(_ATTEMPTS):
        snapshot = _rotatable(access, session_id)
        heir = new_owner or snapshot.owner
        kept = [alias for alias in snapshot.aliases if alias.owner in (None, heir)]
        new = _copied(access.of(ANY), snapshot, heir, kept)
        try:
            expected = f"{snapshot.created_at_ms}-{snapshot.version}"
            access.apply(Delete(session_id=session_id, owner=access.owner, expected=expected))
        except (ConflictError, SessionNotFound):
            access.apply(Delete(session_id=new, owner=ANY))  # others wrote meanwhile
            continue
        with behind_a_write():
            for alias in snapshot.aliases:
                if alias in kept:
                    aliases.move(access, alias, session_id, new)
                else:  # it is the owner's before
                    aliases.forget(access, alias, session_id)
            return sessions.existing(access.of(heir), new)
    raise ConflictError(session_id, "version", expected=None, actual=snapshot.version)


def _rotatable(access: Access, session_id: str) -> Snapshot:
    """Load the session, if it is this owner's own, and goes on here."""
    snapshot = access.load(session_id)
    if snapshot is None:
        raise SessionNotFound(session_id)
    if access.owner not in (ANY, snapshot.owner):
        raise Forbidden(session_id)
    if snapshot.moved_to:
        raise SessionMoved(session_id, snapshot.moved_to)
    return snapshot


def _copied(access: Access, snapshot: Snapshot, heir: str | None, led_by: Iterable[Alias]) -> str:
    """Copy a session for *heir*, and return the id of the copy."""
    copy = diff.copied(snapshot, new_id(), heir, snapshot.elements, snapshot.usage)
    is_anothers = heir != snapshot.owner
    access.apply(replace(copy, counts=is_anothers))  # else it has the place of the one before
    if not is_anothers:  # with another owner nobody has shared it
        for name, role in snapshot.shared.items():
            access.apply(Share(session_id=copy.session_id, owner=ANY, name=name, role=role))
    for alias in led_by:
        access.apply(NoteAlias(session_id=copy.session_id, owner=ANY, alias=alias, leads_here=True))
    return copy.session_id
