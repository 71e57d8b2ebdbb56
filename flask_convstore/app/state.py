"""State of one store in one application: settings, client, and the stores around stores of each namespace."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import sys
import threading
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis
from flask import Flask
from redis.cluster import RedisCluster

from .. import signals
from ..config import Settings, limits_of
from ..domain.forks import Forking, watch
from ..domain.results import Health
from ..errors import StoreUnavailable
from ..operations.access import Backend
from ..operations.health import health_of
from ..outages.circuit import Circuit, CircuitFigures, CircuitStore
from ..outages.fallback import FallbackStore
from ..outages.journal import Journal
from ..outages.other_hosts import OtherHostsStore
from ..outages.outage_watch import OutageWatch
from ..outages.replay import Replayer
from ..outages.session_replay import Replayed
from ..stores.connect import client_of, patience_of, target_of
from ..stores.figures import FiguresStore
from ..stores.memory import MemoryStore
from ..stores.memory_figures import MemoryFigures
from ..stores.redis.calls import Durability
from ..stores.redis.cluster import LazyCluster
from ..stores.redis.figures import RedisFigures
from ..stores.redis.store import RedisStore
from ..stores.store import Store
from ..telemetry.observed_store import ObservedStore
from ..urls import masked
from .current import CurrentUnit, in_context
from .measuring import Measuring

_log = logging.getLogger("flask_convstore")

_BATCH = 100
"""Most commands of a session that are replayed before the progress is noted. A store that keeps few tokens needs fewer."""


@dataclass(eq=False)
class AppState(Forking):
    """One store in one application.

    Attributes:
        convstore: The extension object. One object serves many applications.
        app: The application.
        settings: The settings of the sessions.
        client: The Redis client. None for ``memory://``.
        server: The name of the server, without a password. Each ``memory://`` is another server.
        circuit: The circuit breaker of the server, for all namespaces.
        journal: The journal of writes while the server is away. None: there is none.
        backend: Settings and store of the sessions.
        backends: Settings and store of each namespace that is in use. "" names the sessions.
        measuring: Metrics and traces.
        figures: Counts what is there, and keeps what has happened.
    """

    convstore: Any
    app: Flask = field(repr=False)
    settings: Settings = field(repr=False)
    client: redis.Redis | LazyCluster | None = field(repr=False)  # redis-py 7 shows the password
    server: str
    circuit: Circuit
    journal: Journal | None = None
    backends: dict[str, Backend] = field(default_factory=dict)
    measuring: Measuring = field(init=False, repr=False)
    figures: FiguresStore = field(init=False, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    _replayer: Replayer | None = field(default=None, repr=False)
    _parts: dict[str, Replayed] = field(default_factory=dict, repr=False)
    _watches: list[OutageWatch] = field(default_factory=list, repr=False)
    _memories: dict[str, MemoryStore] = field(default_factory=dict, repr=False)
    backend: Backend = field(init=False, repr=False)

    def __post_init__(self) -> None:
        is_of_url = self.client is None or self.server == masked(self.settings.url)
        url = self.settings.url if is_of_url else ""
        self.measuring = Measuring(self.settings, self.convstore.name, url, lambda: self.figures, self.places)
        self.measuring.watch(self.app, self.convstore, self.circuit)
        self.backend = self.backend_of("")
        watch(self)

    def in_child(self) -> None:
        self._lock = threading.RLock()

    def backend_of(self, namespace: str, **changed: Any) -> Backend:
        """Find or make settings and store of a namespace. *changed* are the settings that differ from the sessions'."""
        backend = self.backends.get(namespace)
        if backend is None:
            with self._lock:
                if namespace not in self.backends:
                    settings = replace(self.settings, **changed)
                    store = self.measuring.around(self._store(settings, namespace))
                    self.backends[namespace] = Backend(
                        settings,
                        store,
                        self.server,
                        CurrentUnit(),
                        self._name_of(namespace),
                        in_context,
                        self.measuring.inside_turn,
                    )
                backend = self.backends[namespace]
        return backend

    def count_figures(self) -> None:
        """Count what happens from now on, as with ``CONVSTORE_FIGURES``."""
        with self._lock:
            if self.measuring.count():
                for namespace, backend in self.backends.items():
                    self.backends[namespace] = replace(backend, store=self.measuring.counted(backend.store))
                self.backend = self.backends[""]

    def _name_of(self, namespace: str) -> str:
        """Name the sessions, or what lies beside them, for the log."""
        store = f"the store {self.convstore.name!r}"
        kind, _, name = namespace.partition(":")
        return f"the mapping {name!r} of {store}" if name else f"{kind} of {store}" if kind else store

    def health(self, *, brief: bool = False) -> Health:
        """Ask the store, the circuit and the journal how they are."""
        health = health_of(self.backend.store, brief=brief, can_start=self._can_start)
        refused = self.circuit.refusals.problem if health.connected else None  # else it is the problem already
        health = replace(
            health,
            circuit="open" if self.circuit.is_open else "closed",
            degraded=health.degraded or refused is not None,
            problem=_joined(health.problem, refused),
        )
        if not self.journal:
            return health
        try:
            status = self.journal.status()
        except StoreUnavailable as error:
            is_degraded = health.degraded or self.journal.may_hold()
            problem = _joined(health.problem, error.reason)
            return replace(health, degraded=is_degraded, pending=None, problem=problem)
        age = (self.journal.now_ms() - status.oldest_at_ms) / 1000 if status.oldest_at_ms else None
        return replace(
            health,
            degraded=health.degraded or status.pending > 0,
            pending=status.pending,
            pending_age_s=age,
            dropped=status.dropped,
            set_aside=status.aside,
            problem=_joined(health.problem, status.problem),
        )

    def hand_over(self) -> None:
        """Let a thread hand the journal over to the server, if there is one, until nothing waits any more."""
        if self.journal and self.client is not None:
            self._replay()

    def is_unreachable(self, error: StoreUnavailable) -> None:
        """Tell that the server could not be reached at the start, unless a call has told it already."""
        if not any(watch.is_out for watch in self._watches):
            self._watches[0].failed(error, "first_look")

    def tell_where(self) -> None:
        """Log where the sessions are, without a password."""
        is_here = self.client is None
        facts = {
            "convstore_store": self.convstore.name,
            "convstore_target": "memory://" if is_here else self.server,
            "convstore_fallback": self.settings.fallback if self.journal else "none",
            "convstore_durability": "memory" if is_here else self.settings.durability,
        }
        text = "the store %(convstore_store)r is at %(convstore_target)s, with the durability %(convstore_durability)s"
        _log.info(f"{text} and the fallback %(convstore_fallback)s", facts, extra=facts)

    def _can_start(self) -> bool:
        return self.journal is not None and self.journal.is_usable()

    def _store(self, settings: Settings, namespace: str) -> Store:
        """Put the stores of a namespace around each other."""
        limits, send = limits_of(settings), self.sender(namespace)
        if self.client is None:
            memory = self._memories[settings.prefix] = MemoryStore(limits)
            if not namespace:
                self.figures = MemoryFigures(self._memories)
            return ObservedStore(memory, send)
        durability = Durability(settings.durability)
        redis_store = RedisStore(
            self.client,
            settings.prefix,
            limits,
            patience_of(settings),
            durability,
            tells_policy=not namespace,
            is_embedded=self.server.startswith("embedded:"),
        )
        is_told = any(watch.is_out for watch in self._watches)
        watch = OutageWatch(send, masked(settings.url), settings.fallback, is_out=is_told)
        self._watches.append(watch)
        called = CircuitStore(redis_store, self.circuit, watch, settings.budget)
        watched = CircuitStore(redis_store, self.circuit, watch, settings.budget, is_for_callers=False)
        if not namespace:
            figures = RedisFigures(self.client, settings.prefix, patience_of(settings))
            self.figures = CircuitFigures(figures, self.circuit, settings.budget)
        store: Store = OtherHostsStore(called, limits, self._keys)
        if self.journal:
            fallback = FallbackStore(
                store,
                self.journal,
                self.circuit,
                namespace,
                limits,
                self._replay,
                self._keys,
                continues=settings.outage == "continue",
                has_owners=lambda: self.convstore._has_owners(settings),
                keep_warm=settings.keep_warm,
            )
            self._parts[namespace] = Replayed(namespace, watched, fallback, self._lost_in(namespace))
            store = fallback
        return ObservedStore(store, send)

    def places(self) -> dict[str, str]:
        """Name the places of sessions that this process knows, each with the beginning of its keys."""
        namespaces = self.convstore._namespaces
        namespaces.of_chats()
        beside = {known.place: known.backend_in(self).settings.prefix for known in namespaces.known()}
        return {"sessions": self.settings.prefix, **beside}

    def _lost_in(self, namespace: str) -> Callable[[Exception], None]:
        """Make what is called with the error of a journalled write that could not be handed over."""
        send = self.sender(namespace)
        return lambda error: send(signals.changes_lost, error=error)

    def _keys(self) -> list[bytes]:
        """List the app's secret keys, which its hosts share, the present one first. Apps set them late."""
        config = self.app.config
        keys = [config.get("SECRET_KEY"), *reversed(config.get("SECRET_KEY_FALLBACKS") or ())]
        return [key.encode() if isinstance(key, str) else key for key in keys if key]

    def _replay(self) -> None:
        """Wake the replay of the journal."""
        assert self.journal
        with self._lock:
            if self._replayer is None:
                batch = max(1, min(_BATCH, self.settings.max_tokens // 2))
                self._replayer = Replayer(self.journal, self.circuit, self._all_parts, batch)
        self._replayer.wake()

    def _all_parts(self) -> Collection[Replayed]:
        """List the parts of all namespaces. The journal may hold commands of one that this process has not used yet."""
        for namespace in self.convstore._namespaces.known():
            namespace.backend_in(self)
        return list(self._parts.values())

    def sender(self, namespace: str = "") -> signals.Send:
        """Make the function that sends this store's signals."""
        return signals.sender(self.app, convstore=self.convstore, namespace=namespace)


def make_state(convstore: Any, app: Flask, settings: Settings, given: redis.Redis | RedisCluster | None) -> AppState:
    """Make the state of *convstore* in *app*, with the client that was *given*, if any. Waits for no server.

    Raises:
        ConfigurationError: The client cannot be used.
    """
    client = client_of(settings, given, Path(app.instance_path))
    server = masked(settings.url) if given is None else target_of(given)
    if client is None:
        server = f"memory://{uuid.uuid4()}"
    target = f"{server} {settings.prefix}"
    folder = Path(app.instance_path, "convstore", _folder_name(convstore.name, target))
    journal = _journal_of(settings, folder, target, is_needed=client is not None)
    return AppState(convstore, app, settings, client, server, Circuit(settings.circuit_failures), journal)


def _journal_of(settings: Settings, folder: Path, target: str, *, is_needed: bool) -> Journal | None:
    """Make the journal for a *target* that may be away. None if the settings want none, or the system cannot have one."""
    if settings.fallback == "none" or not is_needed:
        if is_needed and settings.outage == "continue":
            _log.warning(
                "CONVSTORE_OUTAGE=continue needs a journal: with CONVSTORE_FALLBACK=none calls are refused in an outage."
            )
        return None
    _warn_of_uwsgi()
    is_kept = settings.fallback == "journal"
    if is_kept and not importlib.util.find_spec("fcntl"):
        _log.warning("CONVSTORE_FALLBACK=journal needs file locks, which this system lacks. There is no fallback.")
        return None
    return Journal(folder if is_kept else None, target, settings.journal_max_bytes, settings.budget)


def _warn_of_uwsgi() -> None:
    """Warn where uWSGI runs threads only while requests run. The journal is handed over by a thread, and leases kept."""
    options = getattr(sys.modules.get("uwsgi"), "opt", None)  # that module is only inside uWSGI
    if options is not None and not {"enable-threads", "threads"} & {_text_of(name) for name in options}:
        _log.warning(
            "uWSGI runs without --enable-threads. The journal is handed over, and the leases of turns are renewed, only "
            "while requests run: add --enable-threads."
        )


def _text_of(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _folder_name(name: str, target: str) -> str:
    return f"{quote(name, safe='')}-{hashlib.blake2b(target.encode(), digest_size=6).hexdigest()}"


def _joined(*problems: str | None) -> str | None:
    return "; ".join(problem for problem in problems if problem) or None
