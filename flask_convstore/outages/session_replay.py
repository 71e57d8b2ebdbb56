"""The replay of one session: its commands that wait are handed over to the store, in order, by their tokens."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeGuard

from ..domain.clock import CLOCKS_DIFFER_MS
from ..domain.commands import BeginTurn, Command, Delete, Drop, Extend, Merge, NoteAlias, Put, RenewTurn, Touch
from ..domain.results import Receipt, Snapshot
from ..domain.types import ANY
from ..errors import (
    ConflictError,
    ConvstoreError,
    MessageNotFound,
    SessionExists,
    SessionNotFound,
    StoreMisconfigured,
    StoreUnavailable,
    TurnInProgress,
    TurnLost,
)
from ..stores.store import Store
from .beside import Taking, fitted, takes_out, taking_own, with_own_drops
from .command_json import command_of
from .fallback import FallbackStore
from .journal import UNBORN_MS, Journal, JournalledSession, Row
from .journal_view import JournalView

_log = logging.getLogger("flask_convstore")


def _tell_nobody(_: Exception) -> None:
    pass


class Replayed(NamedTuple):
    """One namespace: the store that its commands are for, and the fallback around it that keeps them.

    *tell* is called with the error of what could not be handed over.
    """

    namespace: str
    store: Store
    fallback: FallbackStore
    tell: Callable[[Exception], None] = _tell_nobody


class ServerForgot(Exception):
    """The store does not know a session any more whose beginning was replayed: it has lost its memory."""


class Replay:
    """The replay of one session: all its commands, in order. The progress is noted, whatever happens.

    Commands of a session that was deleted or has expired meanwhile are dropped and counted. Later writes of others to
    the session stay: see ``beside``. A part without a place beside them is set aside and told, and the rest goes on. A
    session with a command that the store refuses for good is set aside. Where the store has forgotten the session, it is
    replayed from its beginning.

    Args:
        batch: Most commands that are replayed before that is noted. After a crash they come again, and the store must know
            all their tokens. The beginning of a turn is noted at once, since it may not come again when the turn has ended.
        behind_ms: Milliseconds by which the store's clock is behind the journal's, or somewhat more.
        begun_again: Sessions that this process has replayed from their beginning a second time.
    """

    def __init__(
        self,
        part: Replayed,
        journal: Journal,
        journalled: JournalledSession,
        batch: int,
        behind_ms: int,
        begun_again: set[tuple[str, str, int]],
    ) -> None:
        self._store = part.store
        self._fallback = part.fallback
        self._namespace = part.namespace
        self._tell = part.tell
        self._journal = journal
        self._journalled = journalled
        self._batch = batch
        self._behind_ms = behind_ms
        self._begun_again = begun_again
        self._own: JournalView | None = None

    def run(self) -> None:
        """Replay what waits.

        Raises:
            StoreUnavailable, StoreMisconfigured, TurnInProgress: The store does not take the next command for now.
        """
        going: JournalledSession | None = self._journalled
        while going:
            reached, dropped = going, 0
            try:
                for row in self._next_rows(going):
                    command = command_of(row.text)
                    reached, is_dropped = self._replayed(reached, row, command)
                    dropped += is_dropped
                    if isinstance(command, BeginTurn):
                        break
            except (StoreUnavailable, StoreMisconfigured, TurnInProgress):
                self._note(reached, dropped)
                raise
            except ServerForgot:
                _log.warning("the store has forgotten a session while it was handed over. It is handed over again")
                self._note(reached._replace(replayed=0), 0)
                return
            except (ConvstoreError, ValueError) as error:
                self._note(reached, dropped)
                self._journal.set_aside(self._namespace, reached, str(error))
                self._tell(error)
                _log.error("a session in the journal cannot be replayed. Its other commands were set aside: %s", error)
                return
            going = self._note(reached, dropped)

    def sent(self, journalled: JournalledSession, row: Row, given: Command | BeginTurn) -> Command | BeginTurn | None:
        """Make of the command *given* in *row* what the store is sent. None where that takes more than this one call."""
        command = self._as_of(row, _as_there(given, journalled))
        if takes_out(command) or _drops_oldest(command) or getattr(command, "instead_of", None):
            return None
        return self._as_start(row, command) if _is_start(command) else command

    def reached(
        self, journalled: JournalledSession, row: Row, given: Command | BeginTurn, receipt: Receipt | None
    ) -> JournalledSession:
        """Return the session as it is when the command *given* in *row* was done."""
        done = journalled._replace(replayed=row.number)
        return _started_as(done, given, receipt) if _is_start(given) else done

    def _next_rows(self, going: JournalledSession) -> Sequence[Row]:
        return self._journal.rows(self._namespace, going, going.replayed, self._batch)

    def _note(self, reached: JournalledSession, dropped: int) -> JournalledSession | None:
        return self._journal.replayed(self._namespace, reached, dropped)

    def _replayed(
        self, journalled: JournalledSession, row: Row, given: Command | BeginTurn
    ) -> tuple[JournalledSession, bool]:
        """Do the command *given* in *row*. Return the session as it is then, and whether the command had to be dropped."""
        command = self._as_of(row, _as_there(given, journalled))
        is_start = _is_start(command)
        done = journalled._replace(replayed=row.number)
        try:
            if is_start:
                return self._started(done, row, command), False
            if takes_out(command):
                self._taken(journalled, row, command)
            else:
                self._done(row, self._with_own_drops(journalled, row, command))
        except SessionNotFound:
            if is_start:
                raise
            if self._may_be_forgotten(journalled):
                raise ServerForgot from None
            return done, not isinstance(command, (Touch, NoteAlias, RenewTurn, Delete))
        except TurnLost:
            if not isinstance(command, (RenewTurn, BeginTurn)):  # a turn that was begun before, and has ended
                raise
        return done, False

    def _may_be_forgotten(self, journalled: JournalledSession) -> bool:
        """Tell whether to begin again with a session that is not there any more. One that has ended is known to the store.

        The second time in this process it is given up.
        """
        this = self._namespace, journalled.session_id, journalled.first
        if this in self._begun_again or self._store.has_ended(journalled.session_id, ANY):
            return False
        self._begun_again.add(this)
        return True

    def _started(self, journalled: JournalledSession, row: Row, command: Put) -> JournalledSession:
        """Start a session in the store too. Return it as the journal knows it then.

        Raises:
            SessionNotFound: The id is another owner's.
        """
        receipt = self._done(row, self._as_start(row, command))
        if command.instead_of:  # a first try may have left that session, and nobody knows its id
            with contextlib.suppress(SessionNotFound):
                left = Delete(session_id=command.instead_of, owner=command.owner, token=f"{command.token}'")
                self._store.apply(left)
        return _started_as(journalled, command, receipt)

    def _as_start(self, row: Row, command: Put) -> Put:
        """Let a session begin by the store's clock, and replace nothing that was written since."""
        if command.mode == "replace":
            command = replace(command, unchanged_since_ms=row.at_ms - self._behind_ms)
        return replace(command, started_at_ms=self._there_ms(command.started_at_ms or 0))

    def _there_ms(self, here_ms: int) -> int:
        """Convert a time of the journal to the store's, unless one round trip explains the difference."""
        return here_ms - self._behind_ms if abs(self._behind_ms) > CLOCKS_DIFFER_MS else here_ms

    def _as_of(self, row: Row, command: Any) -> Any:
        """Give *command* the rest of its lease, or its time of deletion, as it was accepted earlier."""
        if isinstance(command, (BeginTurn, RenewTurn)):
            left_ms = row.at_ms + command.lease_ms - self._journal.now_ms()
            return replace(command, lease_ms=min(command.lease_ms, max(0, left_ms)))
        return replace(command, at_ms=self._there_ms(row.at_ms)) if isinstance(command, Delete) else command

    def _done(self, row: Row, given: Command | BeginTurn) -> Receipt | None:
        """Do a command, without what has no place beside the writes of others. None if all of it has none."""
        command = given
        while True:
            try:
                return self._applied(command)
            except (ConflictError, MessageNotFound, SessionExists) as error:
                fits = fitted(command, error, lambda: self._there(given))
                if fits is None or fits.left_out:
                    self._leave_out(row, given.session_id, error)
                if fits is None:
                    return None
                command = fits.command

    def _applied(self, command: Command | BeginTurn) -> Receipt:
        return self._store.begin(command).receipt if isinstance(command, BeginTurn) else self._store.apply(command)

    def _taken(self, journalled: JournalledSession, row: Row, command: Taking) -> None:
        """Do a command that takes messages out. It takes none of others."""
        before = self._own_before(journalled, row)
        after = self._own_before(journalled, row, behind=1)
        left = set(after.seqs) if after else set()
        pairs = zip(before.seqs, before.elements, strict=True) if before else ()
        gone = [element for seq, element in pairs if seq not in left]
        while True:
            drops, fit = taking_own(command, gone, self._there(command))
            try:
                for drop in drops:
                    with contextlib.suppress(MessageNotFound):
                        self._store.apply(drop)
                self._applied(fit)
                return
            except (ConflictError, MessageNotFound) as error:  # others have written since it was read
                if isinstance(command, Drop) and command.expected:
                    self._leave_out(row, command.session_id, error)
                    return
                command = replace(command, expected="")

    def _there(self, command: Command | BeginTurn) -> Snapshot:
        there = self._store.load(command.session_id, command.owner, is_interaction=False)
        if there is None:
            raise SessionNotFound(command.session_id)
        return there

    def _leave_out(self, row: Row, session_id: str, error: ConvstoreError) -> None:
        self._journal.keep_aside(self._namespace, session_id, row, str(error))
        self._tell(error)
        _log.error(
            "others have written to a session while the store was away from here. A part without a place beside that was "
            "set aside in the journal, as command %d: %s",
            row.number,
            error,
        )

    def _with_own_drops(self, journalled: JournalledSession, row: Row, command: Any) -> Any:
        """See that a command that drops the oldest messages drops none of others."""
        if not _drops_oldest(command):
            return command
        own = self._own_before(journalled, row)
        return with_own_drops(command, own, self._there(command)) if own else command

    def _own_before(self, journalled: JournalledSession, row: Row, behind: int = 0) -> Snapshot | None:
        """The session as its own commands before *row* tell it, or so many more."""
        view = self._own = self._own or self._fallback.new_view(journalled)
        before = journalled._replace(last=row.number - 1 + behind)
        for one in self._journal.rows(self._namespace, before, view.seen):
            view.fold(one)
        return view.load(ANY, None, row.at_ms)


def _is_start(command: Command | BeginTurn) -> TypeGuard[Put]:
    return isinstance(command, Put) and command.started_at_ms is not None


def _started_as(journalled: JournalledSession, start: Put, receipt: Receipt | None) -> JournalledSession:
    """Return a session with its times of creation, here and in the store.

    One that has ended since has none in the store. Nothing of this one is for its successor.
    """
    there_ms = (receipt and receipt.created_at_ms) or UNBORN_MS
    return journalled._replace(created_here_ms=start.started_at_ms or 0, created_there_ms=there_ms)


def _drops_oldest(command: Command | BeginTurn) -> bool:
    history = command.history if isinstance(command, Merge) else None
    return isinstance(history, Extend) and history.drop_below > 1


def _as_there(command: Any, journalled: JournalledSession) -> Any:
    """Give *command* the time of creation that its session has in the store, where it has another one here."""
    here, there = journalled.created_here_ms, journalled.created_there_ms
    if here == there or (isinstance(command, Put) and command.started_at_ms):
        return command
    if getattr(command, "created_at_ms", None) == here:
        command = replace(command, created_at_ms=there)
    expected = getattr(command, "expected", "")
    if expected.startswith(f"{here}-"):
        command = replace(command, expected=expected.replace(f"{here}-", f"{there}-", 1))
    return command
