"""One session as its commands in the journal tell it, or the continuation of one.

The commands are folded by the rules of ``MemoryStore``. Each process does that for itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from ..domain.commands import BeginTurn, Command, CommitTurn, Delete, Edit, Merge, Put, Target
from ..domain.results import Begun, Lease, Messages, Receipt, Snapshot
from ..domain.types import ANY, Limits, Owner
from ..errors import ConvstoreError, CorruptValue, SessionNotFound
from ..stores.memory import MemoryStore
from .command_json import command_of
from .continuation import as_known
from .journal import JournalledSession, Row
from .redaction import is_redaction


class JournalView:
    """A session that the journal holds.

    Args:
        clock: The journal's time in milliseconds since 1970.

    Attributes:
        journalled: The journal's record of the session.
        seen: The number of the last command that was folded.
        last_at_ms: The time when that command was accepted.
        is_partial: The store may have more of the session. A session that was deleted here, and began anew, is whole.
    """

    def __init__(self, limits: Limits, journalled: JournalledSession, clock: Callable[[], int]) -> None:
        self.journalled = journalled
        self.seen = 0
        self.last_at_ms = 0
        self.is_partial = journalled.is_continuation
        self._attempts: set[str] = set()
        self._then_ms: int | None = None
        self._clock = clock
        self._store = MemoryStore(limits, lambda: clock() if self._then_ms is None else self._then_ms)

    def fold(self, row: Row) -> None:
        """Do again what was done then. The command in *row* is proof that the session was there.

        Raises:
            CorruptValue: The command cannot be done again.
        """
        try:
            command = command_of(row.text)
            if not (isinstance(command, Put) and command.started_at_ms):
                self._store.keep(command.session_id, row.at_ms + 1)
            if is_redaction(command):
                command = self._as_found(command, row.at_ms)
            self._do(command, row.at_ms, in_place=True)
        except SessionNotFound as error:
            if not isinstance(command, Delete):
                raise _unreadable(row, error) from error
        except (ValueError, ConvstoreError) as error:
            raise _unreadable(row, error) from error
        self.seen, self.last_at_ms = row.number, row.at_ms

    def _as_found(self, command: Edit, at_ms: int) -> Edit:
        """Let a redaction find the message as it is. The journal keeps no text of what it has found."""
        with self._as_of(at_ms):
            found = self._store.message(command.session_id, ANY, command.seq)
        return replace(command, loaded=found.elements[0]) if found and found.elements else command

    def do(self, command: Command | BeginTurn, at_ms: int) -> Receipt | Begun:
        """Do *command* as of *at_ms*."""
        return self._do(command, at_ms, in_place=False)

    def _do(self, given: Command | BeginTurn, at_ms: int, *, in_place: bool) -> Receipt | Begun:
        command = self._as_known(given, at_ms)
        with self._as_of(at_ms):
            if isinstance(command, BeginTurn):
                begun = self._store.begin(command, in_place=in_place)
                self._attempts.add(command.attempt)
                return begun
            receipt = self._store.apply(command, in_place=in_place)
        if isinstance(given, CommitTurn) and isinstance(command, Merge) and receipt.first_seq:
            # The receipt of a turn's end names the last message.
            receipt = replace(receipt, first_seq=receipt.first_seq + len(given.elements) - 1)
        if isinstance(command, Delete):
            self.is_partial = False
        return receipt

    def _as_known(self, command: Command | BeginTurn, at_ms: int) -> Any:
        """Let a command of a continuation name only what is known here."""
        if not self.is_partial:
            return command
        self.stay(at_ms)
        now = self.load(ANY, 0, at_ms)
        return as_known(command, now, self._attempts) if now else command

    def stay(self, at_ms: int) -> None:
        """Let a continuation live on. Its lifetime is for the store to know."""
        if self.is_partial:
            self._store.keep(self.journalled.session_id, at_ms + 1)

    def began(self, attempt: str) -> bool:
        """Tell whether a turn began here."""
        return attempt in self._attempts or not self.is_partial

    def load(self, owner: Owner, last: int | None, at_ms: int | None = None) -> Snapshot | None:
        """Read the session as of *at_ms* (None: now). That is no interaction."""
        self.stay(self._clock() if at_ms is None else at_ms)
        with self._as_of(at_ms):
            return self._store.load(self.journalled.session_id, owner, last, is_interaction=False)

    def messages(self, owner: Owner, before: int | None, limit: int, after: int | None = None) -> Messages | None:
        """Read messages, as ``Store.messages``."""
        self.stay(self._clock())
        return self._store.messages(self.journalled.session_id, owner, before, limit, after)

    def message(self, owner: Owner, target: Target) -> Messages | None:
        """Read one message, as ``Store.message``."""
        self.stay(self._clock())
        return self._store.message(self.journalled.session_id, owner, target)

    def turn_lease(self, owner: Owner) -> Lease:
        """Look at the turn, as ``Store.turn_lease``."""
        self.stay(self._clock())
        return self._store.turn_lease(self.journalled.session_id, owner)

    def knows(self, token: str) -> bool:
        """Tell whether a write, or a delete that has found nothing, is remembered under *token*."""
        return self._store.knows(self.journalled.session_id, token)

    def is_of(self, owner: Owner) -> bool:
        """Tell whether the session is visible to *owner*."""
        if owner in (ANY, self.journalled.owner) or self.journalled.is_continuation:
            return True
        return self.load(owner, 0) is not None

    def is_stale(self, snapshot: Snapshot) -> bool:
        """Tell whether a read must be noted in the journal. There a session lives from its last command."""
        return self._clock() - self.last_at_ms > (snapshot.expires_at_ms - self.last_at_ms) / 10

    @contextlib.contextmanager
    def _as_of(self, at_ms: int | None) -> Iterator[None]:
        self._then_ms = at_ms
        try:
            yield
        finally:
            self._then_ms = None


def _unreadable(row: Row, error: Exception) -> CorruptValue:
    return CorruptValue(f"the journal, command {row.number}", f"it cannot be done again ({error})", "Mend or remove it")
