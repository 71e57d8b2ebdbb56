"""A session under another id, which nobody knows who knew the one before: for a login, of another owner then."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..domain.commands import Delete, NoteAlias, Share
from ..domain.ids import new_id
from ..domain.results import ANY, CALLER, Alias, Owner, Scope, Snapshot
from ..domain.validation import check_name
from ..errors import ConflictError, Forbidden, SessionMoved, SessionNotFound, behind_a_write
from ..sessions import diff
from ..sessions.session import AnySession
from ..stores.store import Store
from . import aliases
from .sessions import Conversations

_ATTEMPTS = 20
"""How often a session is copied anew because others wrote to it meanwhile."""


def rotate_id(
    conversations: Conversations, session_id: str, *, new_owner: str | None = None, owner: Owner | Scope = CALLER
) -> AnySession:
    """See ``ConversationStore.rotate_id``."""
    backend, whose = conversations.resolved(session_id, owner)
    store = backend.store
    if new_owner is not None:
        check_name(new_owner, "new_owner")
    for _ in range(_ATTEMPTS):
        snapshot = _rotatable(store, session_id, whose)
        heir = new_owner or snapshot.owner
        kept = [alias for alias in snapshot.aliases if alias.owner in (None, heir)]
        new = _copied(store, snapshot, heir, kept)
        try:
            expected = f"{snapshot.created_at_ms}-{snapshot.version}"
            store.apply(Delete(session_id=session_id, owner=whose, expected=expected))
        except (ConflictError, SessionNotFound):
            store.apply(Delete(session_id=new, owner=ANY))  # others wrote meanwhile
            continue
        with behind_a_write():
            for alias in snapshot.aliases:
                if alias in kept:
                    aliases.move(conversations, alias, session_id, new)
                else:  # it is the owner's before
                    aliases.forget(conversations, alias, session_id)
            return conversations.existing_session(new, owner=heir)
    raise ConflictError(session_id, "version", expected=None, actual=snapshot.version)


def _rotatable(store: Store, session_id: str, owner: Owner) -> Snapshot:
    """The session, if it is this owner's own, and goes on here."""
    snapshot = store.load(session_id, owner)
    if snapshot is None:
        raise SessionNotFound(session_id)
    if owner not in (ANY, snapshot.owner):
        raise Forbidden(session_id)
    if snapshot.moved_to:
        raise SessionMoved(session_id, snapshot.moved_to)
    return snapshot


def _copied(store: Store, snapshot: Snapshot, heir: str | None, led_by: Iterable[Alias]) -> str:
    """A copy of a session, *heir*'s, under a new id; the id."""
    copy = diff.copied(snapshot, new_id(), heir, snapshot.elements, snapshot.usage)
    is_anothers = heir != snapshot.owner
    store.apply(replace(copy, counts=is_anothers))  # else it has the place of the one before
    if not is_anothers:  # with another owner nobody has shared it
        for name, role in snapshot.shared.items():
            store.apply(Share(session_id=copy.session_id, owner=ANY, name=name, role=role))
    for alias in led_by:
        store.apply(NoteAlias(session_id=copy.session_id, owner=ANY, alias=alias, leads_here=True))
    return copy.session_id
