"""Chats by a key of the app's, a user's id say: a message is added in one round trip, whether there is a chat yet or not."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from ..domain.commands import Extend, Merge, digest_of, token_or_new
from ..domain.keys import id_of
from ..domain.messages import Message
from ..domain.results import CALLER, Owner, Receipt, Scope
from ..errors import InvalidInput
from ..sessions.content import added
from .sessions import Conversations


def save_message(
    conversations: Conversations,
    key: Hashable,
    role: str,
    content: Any,
    *,
    metadata: dict[str, Any] | None = None,
    token: str | None = None,
    owner: Owner | Scope = CALLER,
) -> Receipt:
    """See ``ConversationStore.save_message``."""
    if not isinstance(role, str) or not role:
        raise InvalidInput(f"it is a text such as 'user', not {role!r}; nothing was written", "role")
    session_id = id_of(key)
    backend, whose = conversations.resolved(session_id, owner)
    elements, first_title, usage = added([Message({"role": role, "content": content}, metadata)], backend.form)
    return backend.store.apply(
        Merge(
            session_id=session_id,
            owner=whose,
            shape="full",
            history=Extend(0, elements),
            creates=True,
            first_title=first_title,
            usage=usage,
            token=token_or_new(token),
            digest="" if token is None else digest_of("message", elements),
        )
    )


def get_conversation(
    conversations: Conversations, key: Hashable, *, last: int | None = None, owner: Owner | Scope = CALLER
) -> list[Any]:
    """See ``ConversationStore.get_conversation``."""
    session = conversations.get_session(id_of(key), last=last, owner=owner)
    return [] if session is None else conversations.history_of(session)


def clear_conversation(conversations: Conversations, key: Hashable, *, owner: Owner | Scope = CALLER) -> bool:
    """See ``ConversationStore.clear_conversation``."""
    return conversations.delete_session(id_of(key), owner=owner)
