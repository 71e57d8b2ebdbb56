"""Stores around a store that tell: one of every write, one of outages. What they tell is done already."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, TypeVar

from blinker import NamedSignal

from . import signals
from .errors import StoreUnavailable
from .models import (
    Append,
    BeginTurn,
    Begun,
    Command,
    CommitTurn,
    Delete,
    Edit,
    Extend,
    Receipt,
    RenewTurn,
    Rewrite,
    Save,
    Share,
    Touch,
)
from .store import Store, StoreAround

_log = logging.getLogger("flask_convstore")

_T = TypeVar("_T")


_Write = Save | Append | Delete | CommitTurn | BeginTurn | Edit
Wrote = Callable[[Store, _Write, Receipt], None]

_waiting: ContextVar[list[Callable[[], None]] | None] = ContextVar("flask_convstore_waiting", default=None)


@contextlib.contextmanager
def told_after() -> Iterator[None]:
    """Who is told of writes in this block is told at its end, when the caller knows of them too."""
    if _waiting.get() is not None:
        yield
        return
    waiting: list[Callable[[], None]] = []
    before = _waiting.set(waiting)
    try:
        yield
    finally:
        _waiting.reset(before)
        for tell in waiting:
            tell()


class ObservedStore(StoreAround):
    """A ``Store``; its methods are those of ``Store``.

    Args:
        send: Sends a signal.
        wrote: Is told of every command that has written something.
    """

    def __init__(self, store: Store, send: signals.Send, wrote: Wrote) -> None:
        super().__init__(store)
        self._send = send
        self._wrote = wrote

    def apply(self, command: Command) -> Receipt:
        receipt = self._store.apply(command)
        if isinstance(command, (Touch, RenewTurn, Share)):
            return receipt
        # A token that nobody else knows is known already when an answer was lost and the write repeated below. A turn's end
        # is its own attempt's, and told when that hears of it.
        is_first = not receipt.repeated or not command.digest or isinstance(command, CommitTurn)
        self._tell(command, receipt, is_first)
        return replace(receipt, repeated=False) if receipt.repeated and is_first else receipt

    def begin(self, command: BeginTurn) -> Begun:
        begun = self._store.begin(command)
        self._tell(command, begun.receipt, not begun.receipt.repeated or not command.digest)
        return begun

    def _tell(self, command: _Write, receipt: Receipt, is_first: bool) -> None:
        if is_first:
            self._signal(command, receipt)
        waiting = _waiting.get()
        if waiting is None:
            self._wrote(self, command, receipt)
        else:
            waiting.append(lambda: self._wrote(self, command, receipt))

    def _signal(self, command: _Write, receipt: Receipt) -> None:
        def send(signal: NamedSignal, **facts: Any) -> None:
            if signal.receivers:
                self._send(signal, session_id=command.session_id, owner=command.owner, **facts)

        if isinstance(command, Delete):
            send(signals.session_deleted, receipt=receipt)
            return
        if isinstance(command, Edit):
            send(signals.message_edited, receipt=receipt, seq=command.seq)
            return
        if isinstance(command, Save):
            if receipt.version == 1:
                send(signals.session_started, receipt=receipt)
            send(signals.session_saved, receipt=receipt)
            if command.overwrites:
                send(signals.changes_overwritten, fields=command.overwrites)
        if signals.messages_appended.receivers and (count := _messages_added(command)):
            send(signals.messages_appended, receipt=receipt, count=count)


class WatchedStore(StoreAround):
    """A ``Store``; its methods are those of ``Store``. Tells, and logs, when it stops answering, and when it answers again.

    Args:
        send: Sends a signal.
        target: Names it in the log, without a password.
        fallback: What is done meanwhile, as ``CONVSTORE_FALLBACK`` says.
    """

    def __init__(self, store: Store, send: signals.Send, target: str, fallback: str) -> None:
        super().__init__(store)
        self._send = send
        self._facts = {"convstore_target": target, "convstore_fallback": fallback}
        self._answers = True
        self._is_down = False

    def _call(self, method: Callable[..., _T], *arguments: Any, **options: Any) -> _T:
        try:
            given = method(*arguments, **options)
        except StoreUnavailable as error:
            self._is_down = self._is_down or error.is_down
            if self._answers:
                self._answers = False
                facts = {**self._facts, "convstore_reason": error.reason}
                text = "the store at %(convstore_target)s does not answer: %(convstore_reason)s"
                _log.warning(f"{text}; fallback: %(convstore_fallback)s", facts, extra=facts)
                self._send(signals.store_degraded, reason=str(error))
            raise
        # A server that refuses writes only, being full say, answers everything else as before.
        if not self._answers and (self._is_down or isinstance(given, (Receipt, Begun))):
            self._answers, self._is_down = True, False
            _log.warning("the store at %(convstore_target)s answers again", self._facts, extra=self._facts)
            self._send(signals.store_recovered)
        return given


def _messages_added(command: Save | Append | CommitTurn | BeginTurn) -> int:
    if isinstance(command, BeginTurn):
        return int(command.element is not None)
    if isinstance(command, Save):
        # In the place of all messages: those of a new session are added to none.
        added = isinstance(command.history, Extend) or (
            command.mode != "merge" and isinstance(command.history, Rewrite)
        )
        return len(command.history.elements or ()) if command.history and added else 0
    return len(command.elements)
