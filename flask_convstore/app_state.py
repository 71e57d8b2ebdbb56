"""What one store is in one application: its settings, its client, and the stores of its namespaces around each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import redis
from flask import Flask

from . import per_request, signals
from .circuit import Circuit, CircuitStore
from .clients import patience_of
from .config import Settings
from .conversations import Backend, Conversations, limits_of
from .memory_store import MemoryStore
from .models import Owner, Receipt
from .observed_store import ObservedStore
from .redis_calls import Durability
from .redis_cluster import LazyCluster
from .redis_store import RedisStore
from .store import Store
from .units import units


@dataclass(frozen=True, slots=True)
class AppState:
    """One store in one application.

    Attributes:
        convstore: The extension object; ``current_app`` tells it which state is meant.
        app: The application.
        settings: Those of the sessions.
        client: The Redis client; None for ``memory://``.
        circuit: Knows whether the server answers; one for all namespaces.
        backends: Settings and store of each namespace: "" the sessions, and those that lie beside them.
    """

    convstore: Any
    app: Flask = field(repr=False)
    settings: Settings = field(repr=False)
    client: redis.Redis | LazyCluster | None = field(repr=False)  # redis-py 7 shows the password
    circuit: Circuit
    backends: dict[str, Backend] = field(default_factory=dict)

    @property
    def backend(self) -> Backend:
        """The settings and the store of the sessions."""
        return self.backend_of("")

    def backend_of(self, namespace: str, **changed: Any) -> Backend:
        """The settings, *changed* as the namespace has them, and the store of a namespace."""
        backend = self.backends.get(namespace)
        if backend is None:
            settings = replace(self.settings, **changed)
            backend = self.backends.setdefault(namespace, Backend(settings, self._store(settings, namespace)))
        return backend

    def _store(self, settings: Settings, namespace: str) -> Store:
        limits = limits_of(settings)
        store: Store = MemoryStore(limits)
        if self.client:
            durability = Durability(settings.durability)
            redis_store = RedisStore(self.client, settings.prefix, limits, patience_of(settings), durability)
            store = CircuitStore(redis_store, self.circuit)
        return ObservedStore(store, self.sender(namespace), _refresh_loaded)

    def sender(self, namespace: str = "") -> signals.Send:
        """What sends this store's signals."""
        return signals.sender(self.app, convstore=self.convstore, namespace=namespace)


def _refresh_loaded(store: Store, command: Any, receipt: Receipt) -> None:
    """What was written through another door is taken over by the mappings that have loaded it."""
    for unit in units(per_request.request_unit()):
        unit.refresh(store, command, receipt)


class Namespace(Conversations):
    """Conversations beside the sessions, with keys of their own.

    Args:
        sessions: Whose caller it has.
        state: Gives the state of the current application.
        changed: The settings that it has otherwise.
    """

    def __init__(
        self,
        sessions: Conversations,
        namespace: str,
        state: Callable[[], AppState],
        changed: Callable[[Settings], dict[str, Any]],
    ) -> None:
        self._sessions = sessions
        self._namespace = namespace
        self._state = state
        self._changed = changed

    @property
    def backend(self) -> Backend:
        state = self._state()
        known = state.backends.get(self._namespace)
        return known or state.backend_of(self._namespace, **self._changed(state.settings))

    def caller(self) -> Owner:
        return self._sessions.caller()
