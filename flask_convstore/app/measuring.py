"""Metrics, figures and traces of a store in an app: where they are on, stores around the store, and else nothing at all.

The packages that they need are optional, and are imported only where a setting turns them on.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from flask import Flask

from .. import signals
from ..config import Settings
from ..domain.results import Health
from ..domain.types import ANY
from ..errors import ConfigurationError, StoreError, StoreUnavailable
from ..operations.access import InsideTurn
from ..operations.figures import figures
from ..stores.figures import FiguresStore
from ..stores.store import Store
from ..streaming.listening import tell_of_followers

if TYPE_CHECKING:
    from ..outages.circuit import Circuit
    from ..outages.journal import Journal
    from ..telemetry.meter import Meter
    from ..telemetry.metrics import HostFacts
    from ..telemetry.portions import Portions
    from ..telemetry.tracing import TurnSpans

_MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"


def check(settings: Settings, prefix: str) -> None:
    """Check that the packages are there that *settings* need.

    Raises:
        ConfigurationError: One is missing, or the folder of the metrics is.
    """
    needed = {"METRICS": ("prometheus_client", "metrics"), "TRACING": ("opentelemetry.trace", "tracing")}
    problems = [
        f"{prefix}_{name} needs {package.partition('.')[0]}: install the extra [{extra}] of flask-convstore"
        for name, (package, extra) in needed.items()
        if getattr(settings, name.lower()) and not _is_there(package)
    ]
    folder = os.environ.get(_MULTIPROCESS)
    if settings.metrics and folder is not None and not os.path.isdir(folder):
        problems.append(f"{_MULTIPROCESS} names no folder ({folder!r}): make an empty one before the app starts")
    if problems:
        raise ConfigurationError(problems)


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # the package around it is missing
        return False


class Measuring:
    """The measuring of one store in one app. With all settings off it does nothing.

    Args:
        url: URL of the server. "": the app's own client knows it.
        figures: Gives the place where what happened is kept.
        places: Gives the places of sessions that are known.

    Attributes:
        name: Name of the store.
        inside_turn: Makes the span of a turn current. None: turns are not traced.
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        url: str,
        figures: Callable[[], FiguresStore],
        places: Callable[[], dict[str, str]],
    ) -> None:
        self.name = name
        self.inside_turn: InsideTurn | None = None
        self._spans: TurnSpans | None = None
        self._meter: Meter | None = None
        self._portions: Portions | None = None
        if settings.tracing:
            from ..telemetry.tracing import TurnSpans, target_of

            self._spans = TurnSpans(name, target_of(url))
            self.inside_turn = self._spans.inside
        if settings.metrics:
            from ..telemetry.meter import Meter

            self._meter = Meter(name)
        self._figures, self._places = figures, places
        if settings.figures:
            self.count()

    def count(self) -> bool:
        """Count what happens, from now on. False: it is counted already."""
        if self._portions:
            return False
        from ..telemetry.portions import Portions

        self._portions = Portions(self._figures, self._places)
        return True

    def watch(self, app: Flask, convstore: object, circuit: Circuit) -> None:
        """Count what the store in *app* tells beside its calls."""
        meter = self._meter
        if not meter:
            return

        def count(_: Any, **facts: Any) -> None:
            if facts["convstore"] is convstore:
                meter.lost_changes()

        circuit.tell = meter.circuit_changed
        self._count = count  # a signal holds its receivers weakly
        signals.changes_lost.connect(count, app)

    def around(self, store: Store) -> Store:
        """Put the stores that measure around *store*."""
        if self._spans:
            from ..telemetry.traced_store import TracedStore

            store = TracedStore(store, self._spans)
        observers = [one for one in (self._meter, self._portions and self._portions.tally) if one]
        if observers:
            from ..telemetry.metered_store import MeteredStore

            store = MeteredStore(store, observers)
        if self._meter:
            tell_of_followers(store, self._meter.followed)
        return store

    def counted(self, store: Store) -> Store:
        """Put a store that counts around *store*, which was made before anything was counted."""
        from ..telemetry.metered_store import MeteredStore

        return MeteredStore(store, [self._portions.tally]) if self._portions else store

    def send_figures(self) -> None:
        """Send what this process has counted, before somebody looks."""
        if self._portions:
            self._portions.send()

    def refresh(self) -> None:
        """Bring the gauges of this process up to date."""
        if self._meter:
            self._meter.refresh()


class Measured(Protocol):
    """The part of the state of a store that the page shows."""

    settings: Settings
    journal: Journal | None
    measuring: Measuring
    figures: FiguresStore

    def health(self, *, brief: bool = False) -> Health: ...

    def places(self) -> dict[str, str]: ...


def page(states: Iterable[Measured]) -> tuple[bytes, str]:
    """Make the page of the metrics of an app's stores. Return its media type too."""
    from ..telemetry import metrics

    measured = [state for state in states if state.settings.metrics]
    return metrics.page(map(_facts, measured)), metrics.CONTENT_TYPE


def _facts(state: Measured) -> HostFacts:
    """Ask a store and its journal."""
    from ..telemetry.metrics import HostFacts

    state.measuring.refresh()
    health = state.health(brief=True)
    values: dict[str, float] = {"convstore_up": health.connected, "convstore_degraded": health.degraded}
    if state.settings.figures and health.connected:
        values |= _figures(state)
    if state.journal:
        try:
            status = state.journal.status()
        except StoreUnavailable:
            return HostFacts(state.measuring.name, values)  # it is told as degraded
        values |= {
            "convstore_journal_commands": status.pending,
            "convstore_journal_bytes": status.size_bytes,
            "convstore_journal_oldest_age_seconds": health.pending_age_s or 0,
            "convstore_journal_set_aside_commands": status.aside,
            "convstore_journal_dropped_commands": status.dropped,
        }
    return HostFacts(state.measuring.name, values)


def _figures(state: Measured) -> dict[str, float]:
    """Count the sessions. Empty where the server does not tell."""
    state.measuring.send_figures()
    try:
        found = figures(state.figures, state.places(), ANY)
    except StoreError:
        return {}
    return {
        "convstore_sessions": found.alive,
        "convstore_sessions_expired": found.expired or 0,
        "convstore_stored_messages": found.messages,
        "convstore_stored_bytes": found.size,
    }
