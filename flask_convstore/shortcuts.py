"""What can be called without naming the store: each function works on the store of ``current_app``."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from flask import current_app

from .app.current import KEY
from .domain.results import Receipt
from .domain.types import CALLER, Owner, Scope
from .extension import ConversationStore
from .sessions.content import Content
from .sessions.session import AnySession

if TYPE_CHECKING:
    from .app.state import AppState

_NAME = "convstore"
"""The name of a store that was given none."""


def _default() -> ConversationStore:
    """The current app's store named ``convstore``, or its only one."""
    states: dict[str, AppState] = current_app.extensions.get(KEY, {})
    if _NAME in states:
        return states[_NAME].convstore  # type: ignore[no-any-return]
    if len(states) == 1:
        return next(iter(states.values())).convstore  # type: ignore[no-any-return]
    if not states:
        raise RuntimeError("this app has no ConversationStore: call ConversationStore(app), or init_app(app), first")
    names = ", ".join(sorted(states))
    raise RuntimeError(f"this app has no store named {_NAME!r} but {names}: call the method of the one you mean")


def save_session(
    session_id: str, data: Content, *, ttl: float | None = None, owner: Owner | Scope = CALLER
) -> AnySession:
    """``ConversationStore.save_session`` of the current app's store."""
    return _default().save_session(session_id, data, ttl=ttl, owner=owner)


def get_session(session_id: str, *, owner: Owner | Scope = CALLER) -> AnySession | None:
    """``ConversationStore.get_session`` of the current app's store."""
    return _default().get_session(session_id, owner=owner)


def delete_session(session_id: str, *, owner: Owner | Scope = CALLER) -> bool:
    """``ConversationStore.delete_session`` of the current app's store."""
    return _default().delete_session(session_id, owner=owner)


def save_message(key: Hashable, role: str, content: Any, *, owner: Owner | Scope = CALLER) -> Receipt:
    """``ConversationStore.save_message`` of the current app's store."""
    return _default().save_message(key, role, content, owner=owner)


def get_conversation(key: Hashable, *, last: int | None = None, owner: Owner | Scope = CALLER) -> list[Any]:
    """``ConversationStore.get_conversation`` of the current app's store."""
    return _default().get_conversation(key, last=last, owner=owner)


def clear_conversation(key: Hashable, *, owner: Owner | Scope = CALLER) -> bool:
    """``ConversationStore.clear_conversation`` of the current app's store."""
    return _default().clear_conversation(key, owner=owner)
