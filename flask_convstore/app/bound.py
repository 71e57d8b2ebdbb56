"""BoundStore: a store bound to an application, for code that runs without a context."""

from __future__ import annotations

import contextlib
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from flask import Flask

from ..domain.types import Owner
from ..mapping.mapping import SessionMapping
from ..mapping.scope import scoped
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

    Made by ``convstore.on(app)``. In a request of the application an operation without ``owner=``
    works for the owner of that request. Elsewhere it works for the owner for whom the store was bound.

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

    def _state(self) -> AppState:
        return self._extension._state_in(self._app)

    def _caller(self, state: AppState) -> Owner:
        return self._extension._caller(state) if current.is_in_request_of(self._app) else self.owner

    def _newcomers(self) -> str | None:
        return self._extension._newcomers() if current.is_in_request_of(self._app) else None


class OpenStore(BoundStore):
    """A store without an app, made by ``open_store(url)``. It is all that a ``BoundStore`` is.

    A ``with`` block of it is a unit of work: changes in values of ``sessions`` are written at its end or by ``flush``,
    and dropped if it raises. An assignment is written at once. At the end of the last block the connections are closed.
    A later call opens new ones.
    """

    def __init__(self, extension: Extension, app: Flask, owner: Owner) -> None:
        super().__init__(extension, app, owner)
        self._lock = threading.Lock()
        self._blocks: dict[int, list[contextlib.AbstractContextManager[None]]] = {}
        """The blocks that each thread is in."""

    def __enter__(self) -> OpenStore:
        block = scoped(current.current_unit(self._app), reads_anew=True)
        block.__enter__()
        with self._lock:
            self._blocks.setdefault(threading.get_ident(), []).append(block)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            block = self._blocks[threading.get_ident()].pop()
            self._blocks = {thread: blocks for thread, blocks in self._blocks.items() if blocks}
            is_last = not self._blocks
        try:
            block.__exit__(kind, error, trace)
        finally:
            if is_last:
                self.close()
