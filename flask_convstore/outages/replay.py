"""The replay of a journal: commands that wait are handed over to the store in the background.

Each session's commands go in order, by their tokens. One process of a host replays at a time, under a lock that ends with
the process. Until the store answers, the replay asks for it, so that no caller has to wait for that.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, NamedTuple

from ..domain.clock import now_ms
from ..domain.commands import BeginTurn, Command, Delete, NoteAlias, Put, RenewTurn, Touch
from ..domain.forks import Forking, watch
from ..errors import ConvstoreError, SessionNotFound, StoreMisconfigured, StoreUnavailable, TurnInProgress, TurnLost
from ..stores.store import Store
from .circuit import Circuit
from .command_json import command_of
from .fallback import FallbackStore
from .journal import Journal, JournalledSession, Row

_log = logging.getLogger("flask_convstore")

_PAGE = 100
_PAUSE = 0.2
"""Seconds between two tries. While the circuit is open, most tries end before anything is sent."""


class Part(NamedTuple):
    """One namespace: the store that its commands are for, and the fallback around it that keeps them."""

    namespace: str
    store: Store
    fallback: FallbackStore


class Replayer(Forking):
    """Replays a journal in a thread of its own, which lives while commands wait.

    Args:
        parts: Gives the namespaces for which the journal may hold commands.
        batch: Number of commands that are replayed before it is noted. After a crash so many may be replayed again.
    """

    def __init__(self, journal: Journal, circuit: Circuit, parts: Callable[[], Collection[Part]], batch: int) -> None:
        self._journal = journal
        self._circuit = circuit
        self._parts = parts
        self._batch = batch
        self._lock = threading.Lock()
        self._runs_in = 0
        watch(self)

    def in_child(self) -> None:
        self._lock = threading.Lock()

    def wake(self) -> None:
        """Start the thread, unless it runs."""
        if self._runs_in == os.getpid():
            return
        thread = threading.Thread(target=self._run, name="convstore-replay", daemon=True)
        with self._lock:
            if self._runs_in == os.getpid():
                return
            try:
                thread.start()
            except RuntimeError as error:  # the next call tries again
                _log.error("the journal is not replayed, no thread can be started: %s", error)
            else:
                self._runs_in = os.getpid()

    def _run(self) -> None:
        told = ""
        while True:
            try:
                if self._is_done():
                    return
                self._replay()
                told = ""
                if self._journal.unmark_if_empty():
                    continue
            except StoreUnavailable:
                pass  # the circuit knows, and health shows it
            except Exception as error:
                if str(error) != told:
                    told = str(error)
                    _log.exception("the journal cannot be replayed for now")
            time.sleep(_PAUSE)

    def _is_done(self) -> bool:
        with self._lock:
            if self._journal.may_hold():
                return False
            for part in self._parts():
                part.fallback.forget()
            self._runs_in = 0
            return True

    def _replay(self) -> None:
        parts = self._parts()
        unknown = set(self._journal.namespaces()) - {part.namespace for part in parts}
        if unknown:
            self._journal.warn(f"writes wait for mappings that this app has not made yet: {', '.join(sorted(unknown))}")
        for part in parts:
            part.fallback.end_expired()
        next(iter(parts)).store.ping()
        with self._journal.replaying() as is_mine:
            if not is_mine:
                self._circuit.try_now()  # the process that replays has got an answer
                return
            for part in parts:
                self._replay_all(part)

    def _replay_all(self, part: Part) -> None:
        after, failed = 0, None
        while entries := self._journal.sessions(part.namespace, after, _PAGE):
            for journalled in entries:
                try:
                    replay(part.store, self._journal, part.namespace, journalled, self._batch)
                except TurnInProgress:
                    continue  # another host's turn: it ends, or its lease does
                except StoreUnavailable as error:
                    if self._circuit.is_open:
                        raise
                    failed = error  # perhaps only a part of a Cluster is away
                    continue
                part.fallback.forget(journalled.session_id)
            after = entries[-1].first
        if failed:
            raise failed


def replay(store: Store, journal: Journal, namespace: str, journalled: JournalledSession, batch: int) -> None:
    """Hand over one session: all its commands, in order. The progress is noted, whatever happens.

    Commands of a session that was deleted or has expired meanwhile are dropped and counted. A session with a command that
    the store refuses for good is set aside.

    Args:
        batch: Most commands that are replayed before that is noted. After a crash they come again, and the store must know
            all their tokens. The beginning of a turn is noted at once, since it may not come again when the turn has ended.

    Raises:
        StoreUnavailable, StoreMisconfigured, TurnInProgress: The store does not take the next command for now.
    """
    going: JournalledSession | None = journalled
    while going:
        reached, dropped = going, 0
        try:
            for row in journal.rows(namespace, going, going.replayed, batch):
                command = command_of(row.text)
                reached, is_dropped = _replayed(store, reached, row, command)
                dropped += is_dropped
                if isinstance(command, BeginTurn):
                    break
        except (StoreUnavailable, StoreMisconfigured, TurnInProgress):
            journal.replayed(namespace, reached, dropped)
            raise
        except (ConvstoreError, ValueError) as error:
            journal.replayed(namespace, reached, dropped)
            journal.set_aside(namespace, reached, str(error))
            _log.error("a session in the journal cannot be replayed. Its other commands were set aside: %s", error)
            return
        going = journal.replayed(namespace, reached, dropped)


def _replayed(
    store: Store, journalled: JournalledSession, row: Row, given: Command | BeginTurn
) -> tuple[JournalledSession, bool]:
    """Do the command *given* in *row*. Return the session as it is then, and whether the command had to be dropped."""
    command = _as_of(row, _as_there(given, journalled))
    if isinstance(command, Put) and command.started_at_ms is not None:
        return _started(store, journalled, command)._replace(replayed=row.number), False
    is_dropped = False
    try:
        if isinstance(command, BeginTurn):
            store.begin(command)
        else:
            store.apply(command)
    except SessionNotFound:
        is_dropped = not isinstance(command, (Touch, NoteAlias, RenewTurn, Delete))
    except TurnLost:
        if not isinstance(command, (RenewTurn, BeginTurn)):  # a turn that was begun before, and has ended
            raise
    return journalled._replace(replayed=row.number), is_dropped


def _started(store: Store, journalled: JournalledSession, command: Put) -> JournalledSession:
    """Start a session in the store too. Return it as the journal knows it then.

    Raises:
        SessionNotFound: The id is another owner's.
    """
    receipt = store.apply(command)
    if command.instead_of:  # a first try may have left that session, and nobody knows its id
        with contextlib.suppress(SessionNotFound):
            left = Delete(session_id=command.instead_of, owner=command.owner, token=f"{command.token}'")
            store.apply(left)
    return journalled._replace(created_here_ms=command.started_at_ms or 0, created_there_ms=receipt.created_at_ms)


def _as_of(row: Row, command: Any) -> Any:
    """Give *command* the rest of its lease, or its time of deletion, as it was accepted earlier."""
    if isinstance(command, (BeginTurn, RenewTurn)):
        left_ms = row.at_ms + command.lease_ms - now_ms()
        return replace(command, lease_ms=min(command.lease_ms, max(0, left_ms)))
    return replace(command, at_ms=row.at_ms) if isinstance(command, Delete) else command


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
