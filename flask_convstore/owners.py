"""What is done with the sessions of an owner, page by page: each step can be taken again, so each can be gone on with."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

from . import aliases, changes
from .checks import check_name
from .commands import Delete, Share, Touch
from .conversations import Conversations
from .errors import (
    ConflictError,
    CorruptValue,
    Forbidden,
    OwnerRequired,
    SessionMoved,
    SessionNotFound,
)
from .ids import new_id
from .messages import Usage
from .models import ANY, CALLER, Owner, Scope, Snapshot
from .sessions import AnySession

_ATTEMPTS = 20


def required(conversations: Conversations, owner: Owner | Scope) -> str:
    """The name of the owner that is meant.

    Raises:
        OwnerRequired: It is nobody in particular.
    """
    whose = conversations.whose(owner)
    if not isinstance(whose, str):
        raise OwnerRequired
    return whose


def current(conversations: Conversations, *, owner: Owner | Scope = CALLER) -> AnySession | None:
    """See ``ConversationStore.current_session``."""
    whose = required(conversations, owner)
    for summary in conversations.summaries(newest_first=True, owner=whose):
        session = conversations.get_session(summary.session_id, owner=whose)
        if session is not None and not session.moved_to:
            return session
    return None


def usage(conversations: Conversations, *, owner: Owner | Scope = CALLER) -> Usage:
    """See ``ConversationStore.usage``."""
    costs = [summary.usage for summary in conversations.summaries(owner=required(conversations, owner))]
    return Usage(sum(cost.input for cost in costs), sum(cost.output for cost in costs))


def delete(
    conversations: Conversations, *, seconds: float | None = None, owner: Owner | Scope = CALLER
) -> tuple[int, bool]:
    """See ``ConversationStore.delete_owner``; how many, and whether that was all: after so many *seconds* it stops."""
    whose, store, deleted = required(conversations, owner), conversations.backend.store, 0
    deadline = None if seconds is None else time.monotonic() + seconds
    for summary in conversations.summaries(owner=whose):
        if deadline is not None and time.monotonic() > deadline:
            return deleted, False
        with contextlib.suppress(CorruptValue):  # it is deleted all the same
            snapshot = store.load(summary.session_id, whose, 0, is_interaction=False)
            for alias in snapshot.aliases if snapshot else ():
                aliases.forget(conversations, alias, summary.session_id)
        try:
            store.apply(Delete(session_id=summary.session_id, owner=whose))
            deleted += 1
        except SessionNotFound:
            continue
    return deleted, True


def rotate_id(
    conversations: Conversations, session_id: str, *, new_owner: str | None = None, owner: Owner | Scope = CALLER
) -> AnySession:
    """See ``ConversationStore.rotate_id``."""
    backend, whose = conversations.resolved(session_id, owner)
    if new_owner is not None:
        check_name(new_owner, "new_owner")
    snapshot: Snapshot | None = None
    for _ in range(_ATTEMPTS):
        snapshot = backend.store.load(session_id, whose)
        if snapshot is None:
            raise SessionNotFound(session_id)
        if whose not in (ANY, snapshot.owner):
            raise Forbidden(session_id)
        if snapshot.moved_to:
            raise SessionMoved(session_id, snapshot.moved_to)
        heir = new_owner or snapshot.owner
        copy = changes.copied(snapshot, new_id(), heir, snapshot.elements, snapshot.usage)
        # Where it stays the owner's it has the place of the one before.
        backend.store.apply(replace(copy, counts=heir != snapshot.owner))
        if copy.owner == snapshot.owner:  # with another owner nobody has shared it
            for name, role in snapshot.shared.items():
                backend.store.apply(Share(session_id=copy.session_id, owner=ANY, name=name, role=role))
        kept = [alias for alias in snapshot.aliases if alias.owner in (None, copy.owner)]
        for alias in kept:
            backend.store.apply(Touch(session_id=copy.session_id, owner=ANY, led_by=alias))
        try:
            expected = f"{snapshot.created_at_ms}-{snapshot.version}"
            backend.store.apply(Delete(session_id=session_id, owner=whose, expected=expected))
        except (ConflictError, SessionNotFound):
            backend.store.apply(Delete(session_id=copy.session_id, owner=ANY))  # others wrote meanwhile
            continue
        for alias in snapshot.aliases:
            if alias in kept:
                aliases.move(conversations, alias, session_id, copy.session_id)
            else:  # it is the owner's before
                aliases.forget(conversations, alias, session_id)
        return conversations.existing_session(copy.session_id, owner=copy.owner)
    raise ConflictError(session_id, "version", expected=None, actual=snapshot.version if snapshot else 0)
