"""A store around a store that sends a signal for every write, after it is done, and logs it at the level DEBUG."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from blinker import NamedSignal

from .. import signals
from ..domain.commands import (
    Append,
    BeginTurn,
    Command,
    CommitTurn,
    Delete,
    Drop,
    Edit,
    Extend,
    Merge,
    MoveConversation,
    Put,
    Update,
    Write,
)
from ..domain.operation_names import command_name
from ..domain.results import Begun, Receipt, Snapshot
from ..domain.types import Owner
from ..errors import ConvstoreError, SessionNotFound
from ..stores.store import Store, StoreAround
from .collisions import CollisionLog

_log = logging.getLogger("flask_convstore")

_WHOLE = ("",)
"""The path of a whole session."""


class ObservedStore(StoreAround):
    """A ``Store``. See there for its methods.

    Args:
        send: Sends a signal.
    """

    def __init__(self, store: Store, send: signals.Send) -> None:
        super().__init__(store)
        self._send = send
        self._collisions = CollisionLog()

    def apply(self, command: Command) -> Receipt:
        try:
            receipt = self._store.apply(command)
        except SessionNotFound:
            if isinstance(command, Delete) and command.loaded_version is not None:
                self._tell_collision(command)
            raise
        return self._told(command, receipt)

    def load(
        self,
        session_id: str,
        owner: Owner,
        last: int | None = None,
        *,
        is_interaction: bool = True,
        fields: Sequence[str] | None = None,
    ) -> Snapshot | None:
        snapshot = self._store.load(session_id, owner, last, is_interaction=is_interaction, fields=fields)
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("session %r: %s", session_id, f"loaded, version {snapshot.version}" if snapshot else "not found")
        return snapshot

    def apply_each(self, commands: Sequence[Command | BeginTurn]) -> list[Receipt | ConvstoreError]:
        answers = self._store.apply_each(commands)
        return [
            self._told(command, answer) if isinstance(answer, Receipt) else answer
            for command, answer in zip(commands, answers, strict=True)
        ]

    def _told(self, command: Any, receipt: Receipt) -> Receipt:
        """Tell of a write that was done. Commands without a token are not told."""
        tell = _TELLING.get(type(command))
        if tell is None:
            return receipt
        # A token that nobody else knows was seen before only if an answer was lost, and the write was repeated by the stores
        # below. The end of a turn belongs to its own attempt, and is told when that attempt hears of it.
        if receipt.repeated and command.digest and not isinstance(command, (CommitTurn, MoveConversation)):
            return receipt
        started_as = receipt.session_id
        told = replace(command, session_id=started_as) if started_as else command
        if _log.isEnabledFor(logging.DEBUG):
            _note(told, receipt)
        tell(self, told, receipt)
        return replace(receipt, repeated=False) if receipt.repeated else receipt

    def begin(self, command: BeginTurn) -> Begun:
        begun = self._store.begin(command)
        if not begun.receipt.repeated or not command.digest:
            if _log.isEnabledFor(logging.DEBUG):
                _note(command, begun.receipt)
            self._tell_added(command, begun.receipt)
        return begun

    def _tell_deleted(self, command: Delete, receipt: Receipt) -> None:
        self._send_if_heard(command, signals.session_deleted, receipt=receipt)
        if _had_changed(command, receipt):
            self._tell_collision(command)

    def _tell_collision(self, command: Delete) -> None:
        """Tell that two have deleted the session that one has loaded, or that it had a change which nobody saw."""
        self._collisions.tell(command.session_id, _WHOLE)
        self._send(signals.changes_overwritten, session_id=command.session_id, owner=command.owner, fields=_WHOLE)

    def _tell_edited(self, command: Edit, receipt: Receipt) -> None:
        self._send_if_heard(command, signals.message_edited, receipt=receipt, seq=command.seq)

    def _tell_dropped(self, command: Drop, receipt: Receipt) -> None:
        if receipt.first_seq:
            self._send_if_heard(command, signals.messages_dropped, receipt=receipt, replaced=None)

    def _tell_saved(self, command: Put | Merge, receipt: Receipt) -> None:
        if receipt.version == 1:
            self._send_if_heard(command, signals.session_started, receipt=receipt)
        self._send_if_heard(command, signals.session_saved, receipt=receipt)
        if isinstance(command, Merge) and command.overwrites:
            self._collisions.tell(command.session_id, command.overwrites)
            self._send_if_heard(command, signals.changes_overwritten, fields=command.overwrites)
        self._tell_added(command, receipt)

    def _tell_added(self, command: Write, receipt: Receipt) -> None:
        if isinstance(command, (Append, BeginTurn)) and command.replaces:
            self._send_if_heard(command, signals.messages_dropped, receipt=receipt, replaced=command.replaces)
        if signals.messages_appended.receivers:
            count = _messages_added(command) - receipt.left_out
            if count:
                self._send_if_heard(command, signals.messages_appended, receipt=receipt, count=count)

    def _send_if_heard(self, command: Write, signal: NamedSignal, **facts: Any) -> None:
        if signal.receivers:
            self._send(signal, session_id=command.session_id, owner=command.owner, **facts)


def _note(command: Write, receipt: Receipt) -> None:
    """Log the write of a session."""
    done = command_name(command, "written")
    if isinstance(command, (Put, Merge)):
        done = "created" if receipt.version == 1 else "saved"
    elif isinstance(command, Delete):
        done = "deleted"
    _log.debug("session %r: %s, version %d", command.session_id, done, receipt.version)


def _had_changed(command: Delete, receipt: Receipt) -> bool:
    """Tell whether the deleted session had another version than the one that was loaded. A fallback counts its own."""
    loaded = command.loaded_version
    return loaded is not None and receipt.version > loaded and receipt.fallback is None


def _messages_added(command: Write) -> int:
    if isinstance(command, BeginTurn):
        return int(command.element is not None)
    if isinstance(command, Merge):
        # A rewrite puts messages in the place of others.
        return len(command.history.elements) if isinstance(command.history, Extend) else 0
    return len(command.elements) if isinstance(command, (Put, Append, CommitTurn)) else 0


_TELLING: dict[type[Any], Callable[..., None]] = {
    Append: ObservedStore._tell_added,
    CommitTurn: ObservedStore._tell_added,
    BeginTurn: ObservedStore._tell_added,
    Put: ObservedStore._tell_saved,
    Merge: ObservedStore._tell_saved,
    Delete: ObservedStore._tell_deleted,
    Drop: ObservedStore._tell_dropped,
    Edit: ObservedStore._tell_edited,
    Update: ObservedStore._tell_added,
    MoveConversation: ObservedStore._tell_added,
}
"""The function that sends the signals of a write. Commands without a token have none."""
