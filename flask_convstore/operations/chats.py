"""Chats by a key of the app's own, such as a user's id.

A message is added in one round trip, whether the chat exists or not.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from ..domain.commands import Extend, Merge, digest_if_known, token_or_new
from ..domain.keys import id_of
from ..domain.messages import Message
from ..domain.results import Receipt
from ..domain.shapes import full
from ..errors import InvalidInput
from ..sessions.content import added
from ..sessions.session import history_of
from . import sessions
from .access import Access, in_time


@in_time
def save_message(
    access: Access,
    key: Hashable,
    role: str,
    content: Any,
    *,
    metadata: dict[str, Any] | None = None,
    token: str | None = None,
) -> Receipt:
    """Add a message to the chat of *key*, and begin the chat if there is none."""
    if not isinstance(role, str) or not role:
        raise InvalidInput(f"must be a text such as 'user', not {role!r}. Nothing was written.", "role")
    session_id = id_of(key)
    elements, first_title, usage = added([Message({"role": role, "content": content}, metadata)], access.limits)
    return access.apply(
        Merge(
            session_id=session_id,
            owner=access.owner,
            shape=full(access.limits.history_key),
            history=Extend(0, elements),
            creates=True,
            first_title=first_title,
            usage=usage,
            token=token_or_new(token),
            digest=digest_if_known(token, "message", elements),
        )
    )


@in_time
def get_conversation(access: Access, key: Hashable, *, last: int | None = None) -> list[Any]:
    """List the bodies of the chat of *key*, its *last* ones or all, oldest first."""
    session = sessions.known(access, id_of(key), last=last)
    return [] if session is None else history_of(session, access.limits.history_key)


@in_time
def clear_conversation(access: Access, key: Hashable, *, token: str | None = None) -> bool:
    """Delete the chat of *key*. False if there was none. *token* as in ``sessions.delete``."""
    return sessions.delete(access, id_of(key), token=token) is not None
