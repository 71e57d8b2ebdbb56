"""A store around a store: tells of every write, and of outages. What it tells is done already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from . import signals
from .errors import StoreUnavailable
from .models import (
    Append,
    BeginTurn,
    Begun,
    Command,
    CommitTurn,
    Delete,
    Extend,
    Receipt,
    RenewTurn,
    Rewrite,
    Save,
    Touch,
)
from .store import Store, StoreAround

_T = TypeVar("_T")


class ObservedStore(StoreAround):
    """A ``Store``; its methods are those of ``Store``.

    Args:
        send: Sends a signal.
        wrote: Is told the id of a session that was written to.
    """

    def __init__(self, store: Store, send: signals.Send, wrote: Callable[[Store, str], None]) -> None:
        super().__init__(store)
        self._send = send
        self._wrote = wrote
        self._answers = True

    def apply(self, command: Command) -> Receipt:
        receipt = super().apply(command)
        if not receipt.repeated and not isinstance(command, (Touch, RenewTurn)):
            self._tell(command, receipt)
            self._wrote(self, command.session_id)
        return receipt

    def begin(self, command: BeginTurn) -> Begun:
        begun = super().begin(command)
        if not begun.receipt.repeated:
            self._tell(command, begun.receipt)
            self._wrote(self, command.session_id)
        return begun

    def _call(self, method: Callable[..., _T], *arguments: Any, **options: Any) -> _T:
        try:
            given = super()._call(method, *arguments, **options)
        except StoreUnavailable as error:
            if self._answers:
                self._answers = False
                self._send(signals.store_degraded, reason=str(error))
            raise
        if not self._answers:
            self._answers = True
            self._send(signals.store_recovered)
        return given

    def _tell(self, command: Save | Append | Delete | CommitTurn | BeginTurn, receipt: Receipt) -> None:
        facts: dict[str, Any] = {"session_id": command.session_id, "owner": command.owner}
        if isinstance(command, Delete):
            self._send(signals.session_deleted, **facts, receipt=receipt)
            return
        if isinstance(command, Save):
            if receipt.version == 1:
                self._send(signals.session_started, **facts, receipt=receipt)
            self._send(signals.session_saved, **facts, receipt=receipt)
            if command.overwrites:
                self._send(signals.changes_overwritten, **facts, fields=command.overwrites)
        count = _messages_added(command)
        if count:
            self._send(signals.messages_appended, **facts, receipt=receipt, count=count)


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
