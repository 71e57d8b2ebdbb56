"""All sessions of an owner, page by page. Each step can be repeated: what was interrupted goes on when called again."""

from __future__ import annotations

import contextlib
import time

from ..domain.commands import Delete
from ..domain.messages import Usage
from ..domain.results import CALLER, Owner, Scope
from ..errors import ConvstoreError, CorruptValue, OwnerRequired, SessionNotFound
from ..sessions.session import AnySession
from . import aliases
from .sessions import Conversations


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
    try:
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
    except ConvstoreError as error:
        error.written = True if deleted else error.written
        raise
    return deleted, True
