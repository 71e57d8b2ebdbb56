"""The meter: what is observed of the calls to a store, as metrics for Prometheus. Needs prometheus-client."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client import Gauge

from ..domain.clock import monotonic
from ..domain.commands import (
    Append,
    BeginTurn,
    CommitTurn,
    Delete,
    Edit,
    FeedReply,
    Merge,
    MoveConversation,
    Put,
    RenewTurn,
    TakeReply,
)
from ..domain.forks import Forking, watch
from ..domain.operation_names import OK, REPEATED, end_of, outcome_of
from ..domain.results import Begun, Receipt, Snapshot
from ..errors import SessionNotFound, TurnInProgress, TurnLost
from . import metrics
from .held_turns import HeldTurns
from .metered_store import Observer, starts
from .updates import UPDATES

_LARGE_BYTES = 2**20
_MOST_LARGE = 10_000
"""Number of large sessions that a process remembers, so that each counts once."""

_TICKET_SECONDS = 3.0
"""Time after which a turn that stands in line and gives no sign of life has given up."""

_NO_SESSION = "session_not_found"
_READS = frozenset({"load", "messages", "message", "salvage"})
"""Reads whose answer is None where there is no session."""


class _Portion:
    """The part of a gauge that is one object's. Several apps of a process may have stores of one name."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._value = 0.0

    def set(self, value: float) -> None:
        before, self._value = self._value, value
        if value != before:
            self._gauge.inc(value - before)

    def forget(self) -> None:
        """Begin anew in a forked process. Where each process has its own file, its gauge does so by itself."""
        self._value = 0.0
        if metrics.MULTIPROCESS not in os.environ:
            self._gauge.set(0)


class Meter(Observer, Forking):
    """The figures of one store in one application.

    Args:
        name: Name of the store.
        clock: Seconds since any point in time.
    """

    def __init__(self, name: str, clock: Callable[[], float] = monotonic) -> None:
        self.clock = clock
        self._name = name
        self._held: HeldTurns[float] = HeldTurns(clock)
        self._waiting: HeldTurns[float] = HeldTurns(clock)
        self._large: OrderedDict[str, None] = OrderedDict()
        self._known: dict[tuple[Any, ...], Any] = {}
        gauges = (metrics.TURNS, metrics.WAITING, metrics.STREAMS, metrics.FOLLOWERS, metrics.CIRCUIT)
        self._turns, self._waiters, self._streams, self._followers, self._circuit = (
            _Portion(gauge.labels(name)) for gauge in gauges
        )
        for counter in (
            metrics.STARTED,
            metrics.DELETED,
            metrics.LOST,
            metrics.LARGE,
            metrics.CHANGES_LOST,
            metrics.STOPS,
        ):
            counter.labels(name)  # so that it is there from 0 on
        watch(self)

    def in_child(self) -> None:
        for level in (self._turns, self._waiters, self._streams, self._followers, self._circuit):
            level.forget()

    def _of(self, metric: Any, *labels: str) -> Any:
        """Find the child of a metric with these labels behind the store's."""
        key = (metric, *labels)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = metric.labels(self._name, *labels)
        return found

    def called(self, kind: str, given: Any, seconds: float, trips: int) -> None:
        self._of(metrics.SECONDS, kind).observe(seconds)
        if trips:
            self._of(metrics.TRIPS, kind).inc(trips)

    def answered(self, kind: str, command: object, given: Any) -> None:
        begun = given if isinstance(given, Begun) else None
        receipt = begun.receipt if begun else given
        self._of(metrics.OPERATIONS, kind, _outcome_of(kind, receipt)).inc()
        fallback = getattr(receipt, "fallback", None)
        if fallback:
            self._of(metrics.FALLBACK, kind, fallback).inc()
        if isinstance(receipt, Receipt) and not receipt.repeated:
            self._wrote(command, receipt)
        snapshot = begun.snapshot if begun else given
        if isinstance(snapshot, Snapshot):
            self._read(snapshot)
        if begun and isinstance(command, BeginTurn):
            self._began(command, begun)
        else:
            self._went_on(command)

    def failed(self, kind: str, command: object, error: BaseException) -> None:
        self._of(metrics.OPERATIONS, kind, outcome_of(error)).inc()
        if isinstance(command, BeginTurn):
            self._begins_not(command, error)
        elif isinstance(error, (TurnLost, SessionNotFound)) and isinstance(command, _OF_TURNS):
            self._lost(command.turn, error)

    def _wrote(self, command: object, receipt: Receipt) -> None:
        for element in _elements(command):
            self._of(metrics.MESSAGE_BYTES).observe(len(element))
        if starts(command, receipt):
            self._of(metrics.STARTED).inc()
        elif isinstance(command, Delete):
            self._of(metrics.DELETED).inc()

    def _read(self, snapshot: Snapshot) -> None:
        size = _size_of(snapshot)
        if size is None:
            return
        self._of(metrics.SESSION_BYTES).observe(size)
        if size > _LARGE_BYTES and snapshot.session_id not in self._large:
            self._large[snapshot.session_id] = None
            self._of(metrics.LARGE).inc()
            while len(self._large) > _MOST_LARGE:
                self._large.popitem(last=False)

    # ---- turns

    def _began(self, command: BeginTurn, begun: Begun) -> None:
        since = self._waiting.pop(command.attempt)
        if since is not None:
            self._of(metrics.WAITED).observe(self.clock() - since)
        if begun.snapshot and not begun.reply and command.element is not None:
            self._held.add(command.attempt, command.lease_ms / 1000, self.clock())
        self._show()

    def _begins_not(self, command: BeginTurn, error: BaseException) -> None:
        if isinstance(error, TurnInProgress) and command.wait_ms:
            since = self._waiting.get(command.attempt)
            self._waiting.add(command.attempt, _TICKET_SECONDS, self.clock() if since is None else since)
        else:
            since = self._waiting.pop(command.attempt)
            if since is not None:
                self._of(metrics.WAITED).observe(self.clock() - since)
        self._show()

    def _went_on(self, command: object) -> None:
        if isinstance(command, (CommitTurn, MoveConversation)):
            began = self._held.pop(command.turn)
            if began is not None:
                self._of(metrics.HANDLED, end_of(command)).observe(self.clock() - began)
            self._show()
        elif isinstance(command, (RenewTurn, FeedReply)):
            self._held.renew(command.turn, command.lease_ms / 1000)
        elif isinstance(command, TakeReply) and not command.is_over:
            self._of(metrics.STOPS).inc()

    def _lost(self, attempt: str, error: BaseException) -> None:
        began = self._held.pop(attempt)
        if began is None:
            return
        is_taken = isinstance(error, TurnLost)
        if is_taken:
            self._of(metrics.LOST).inc()
        self._of(metrics.HANDLED, "lost" if is_taken else "deleted").observe(self.clock() - began)
        self._show()

    def _show(self) -> None:
        self._held.take_expired()
        self._waiting.take_expired()
        self._turns.set(len(self._held))
        self._waiters.set(len(self._waiting))

    # ---- told by others

    def circuit_changed(self, is_open: bool) -> None:
        """Show whether the server is asked."""
        UPDATES.do(self._circuit.set, is_open)

    def followed(self, streams: int, followers: int) -> None:
        """Show how much is streamed and followed here."""
        UPDATES.do(self._streams.set, streams)
        UPDATES.do(self._followers.set, followers)

    def lost_changes(self) -> None:
        """Count changes that were lost."""
        UPDATES.do(lambda: self._of(metrics.CHANGES_LOST).inc())

    def refresh(self) -> None:
        """Forget turns whose leases have ended."""
        UPDATES.do(self._show)


def _size_of(snapshot: Snapshot) -> int | None:
    """Find the size of a session. None: only a part was read, and the store does not tell."""
    if snapshot.stored_bytes is not None:
        return snapshot.stored_bytes
    if snapshot.read is not None or len(snapshot.elements) < snapshot.count:
        return None
    data = sum(len(name.encode()) + len(text) for name, text in snapshot.fields.items())
    return data + sum(map(len, snapshot.elements))


_OF_TURNS = (CommitTurn, MoveConversation, RenewTurn, FeedReply)


def _outcome_of(kind: str, given: Any) -> str:
    """Name the outcome of an operation that has answered."""
    if isinstance(given, Receipt) and given.repeated:
        return REPEATED
    return _NO_SESSION if given is None and kind in _READS else OK


def _elements(command: object) -> Sequence[bytes]:
    """List the messages that a command writes."""
    if isinstance(command, (Put, Append, CommitTurn)):
        return command.elements
    if isinstance(command, Merge):
        return (command.history and command.history.elements) or ()
    if isinstance(command, (BeginTurn, Edit)) and command.element is not None:
        return (command.element,)
    return ()
