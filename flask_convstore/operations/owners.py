"""All sessions of an owner, page by page. An interrupted operation goes on when it is called again."""

from __future__ import annotations

import time

from ..domain.commands import Delete
from ..domain.messages import Usage
from ..domain.types import Alias
from ..errors import ConvstoreError, CorruptValue, OwnerRequired, SessionNotFound
from ..sessions.session import AnySession
from . import aliases, sessions
from .access import Access
from .salvage import damage_log


def required(access: Access) -> str:
    """Name the owner of *access*.

    Raises:
        OwnerRequired: The call has no owner.
    """
    if not isinstance(access.owner, str):
        raise OwnerRequired
    return access.owner


def current(access: Access) -> AnySession | None:
    """Load the owner's session with the last interaction. None if there is none."""
    required(access)
    for summary in sessions.summaries(access, newest_first=True):
        try:
            session = sessions.get(access, summary.session_id)
        except CorruptValue as error:
            damage_log.tell(error)
            continue
        if session is not None and not session.moved_to:
            return session
    return None


def usage(access: Access) -> Usage:
    """Add up the tokens of a model that all the owner's sessions have cost."""
    required(access)
    costs = [summary.usage for summary in sessions.summaries(access)]
    return Usage(sum(cost.input for cost in costs), sum(cost.output for cost in costs))


def _aliases_of(access: Access, session_id: str) -> tuple[Alias, ...]:
    """List the aliases of a session, which may be damaged."""
    try:
        snapshot = access.load(session_id, 0, is_interaction=False)
    except CorruptValue:
        snapshot = access.salvage(session_id)
    return snapshot.aliases if snapshot else ()


def delete(access: Access, *, seconds: float | None = None) -> tuple[int, bool]:
    """Delete all sessions of the owner, and their aliases.

    Args:
        seconds: Time after which the deletion stops. None: no limit.

    Returns:
        The number of sessions deleted, and True if these were all.
    """
    owner, deleted = required(access), 0
    deadline = None if seconds is None else time.monotonic() + seconds
    try:
        for session_id in sessions.ids(access):
            if deadline is not None and time.monotonic() > deadline:
                return deleted, False
            for alias in _aliases_of(access, session_id):
                aliases.forget(access, alias, session_id)
            try:
                access.apply(Delete(session_id=session_id, owner=owner))
                deleted += 1
            except SessionNotFound:
                continue
    except ConvstoreError as error:
        error.written = True if deleted else error.written
        raise
    return deleted, True
