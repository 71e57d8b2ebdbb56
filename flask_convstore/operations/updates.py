"""A session changed beside its messages: its fields, its title, its lifetime, and whom it is shared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..domain.commands import Share, Update
from ..domain.results import CALLER, Owner, Receipt, Role, Scope
from ..domain.validation import check_name, check_title
from ..errors import InvalidInput
from ..sessions import content
from .sessions import Conversations


def update(
    conversations: Conversations,
    session_id: str,
    data: Mapping[str, Any] | None = None,
    *,
    title: str | None = None,
    ttl: float | None = None,
    expected: str = "",
    removed: tuple[str, ...] = (),
    owner: Owner | Scope = CALLER,
) -> Receipt:
    """See ``ConversationStore.update_session``; *removed* are fields to remove, *expected* as ``delete_session`` has it."""
    backend, whose = conversations.resolved(session_id, owner)
    fields: dict[str, bytes | None] = dict.fromkeys(removed)
    fields.update(content.fields_to_set(data or {}, backend.form))
    if title is not None:
        check_title(title)
    return backend.store.apply(
        Update(
            session_id=session_id,
            owner=whose,
            fields=tuple(fields.items()),
            title=title,
            ttl_ms=conversations.ttl_ms(ttl),
            expected=expected,
        )
    )


def share(
    conversations: Conversations, session_id: str, name: str, role: Role | None, *, owner: Owner | Scope = CALLER
) -> None:
    """See ``ConversationStore.share``."""
    backend, whose = conversations.resolved(session_id, owner)
    if role not in (None, "reader", "writer"):
        raise InvalidInput(f"it is 'reader' or 'writer', not {role!r}; nothing was written", "role")
    check_name(name, "name")
    backend.store.apply(Share(session_id=session_id, owner=whose, name=name, role=role))
