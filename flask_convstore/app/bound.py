"""BoundStore: a store bound to an application, for code that runs without a context."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from flask import Flask

from ..domain.types import Owner
from ..mapping.mapping import SessionMapping
from . import current
from .app_conversations import AppConversations
from .namespaces import Namespaces

if TYPE_CHECKING:
    from .state import AppState


class Extension(Protocol):
    """The part of a ``ConversationStore`` that its bound stores use."""

    _namespaces: Namespaces

    def _state_in(self, app: Flask) -> AppState: ...

    def _caller(self, state: AppState) -> Owner: ...

    def _newcomers(self) -> str | None: ...


class BoundStore(AppConversations):
    """The conversations of one application, in any thread, with or without a context.

    Made by ``convstore.on(app)`` and by ``open_store(url)``. In a request of the application an operation without ``owner=``
    works for the owner of that request. Elsewhere it works for the owner for whom the store was bound.

    Leaving a ``with`` block of it writes what is left of changes in ``sessions``, and closes the connections.

    Attributes:
        owner: The owner for whom the store was bound.
        sessions: The sessions as a mapping. Without a context its changes are written within five seconds, or by ``flush``.
    """

    def __init__(self, extension: Extension, app: Flask, owner: Owner) -> None:
        self._extension = extension
        self._app = app
        self.owner = owner
        self._namespaces = extension._namespaces
        self.sessions: SessionMapping[Any] = SessionMapping(self._access, lambda: current.current_unit(app))

    def __enter__(self) -> BoundStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.sessions.flush()
        finally:
            self.close()

    def _state(self) -> AppState:
        return self._extension._state_in(self._app)

    def _caller(self, state: AppState) -> Owner:
        return self._extension._caller(state) if current.is_in_request_of(self._app) else self.owner

    def _newcomers(self) -> str | None:
        return self._extension._newcomers() if current.is_in_request_of(self._app) else None
