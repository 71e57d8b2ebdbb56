"""What waits in a journal is handed over to the store, in the background: each session's commands in order, by their tokens.

One process of a host does it at a time, whichever it is; a lock that ends with the process says so. Until the store answers,
this asks for it, so that nobody who waits for an answer has to.
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
from ..errors import ConvstoreError, SessionNotFound, StoreMisconfigured, StoreUnavailable, TurnInProgress, TurnLost
from ..stores.store import Store
from .circuit import Circuit
from .command_json import command_of
from .fallback import FallbackStore
from .journal import Entry, Journal, Row

_log = logging.getLogger("flask_convstore")

_PAGE = 100
_PAUSE = 0.2
"""Seconds from one try to the next. While the circuit is open, most of them end before anything is sent."""


class Part(NamedTuple):
    """One namespace: the store that its commands are for, and the store around it that keeps them."""

    namespace: str
    store: Store
    fallback: FallbackStore


class Replayer:
    """Replays a journal, in a thread of its own, for as long as there is something in it.

    Args:
        parts: Gives what the journal may hold commands for.
        batch: How many commands are replayed before it is noted, and may be replayed again after a crash.
    """

    def __init__(self, journal: Journal, circuit: Circuit, parts: Callable[[], Collection[Part]], batch: int) -> None:
        self._journal = journal
        self._circuit = circuit
        self._parts = parts
        self._batch = batch
        self._lock = threading.Lock()
        self._runs_in = 0

    def wake(self) -> None:
        """There is something to do."""
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
                pass  # the circuit knows, and health says so
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
                self._circuit.try_now()  # the process that does it has got an answer
                return
            for part in parts:
                self._replay_all(part)

    def _replay_all(self, part: Part) -> None:
        after, failed = 0, None
        while entries := self._journal.sessions(part.namespace, after, _PAGE):
            for entry in entries:
                try:
                    replay(part.store, self._journal, part.namespace, entry, self._batch)
                except TurnInProgress:
                    continue  # another host's: it ends, or its lease does
                except StoreUnavailable as error:
                    if self._circuit.is_open:
                        raise
                    failed = error  # perhaps only a part of a Cluster is away
                    continue
                part.fallback.forget(entry.session_id)
            after = entries[-1].first
        if failed:
            raise failed


def replay(store: Store, journal: Journal, namespace: str, entry: Entry, batch: int) -> None:
    """Hand over one session: all its commands, in order. How far it has come is noted, whatever happens.

    Commands of a session that is not there any more, deleted or expired meanwhile, are dropped and counted. A session with a
    command that the store refuses for good is set aside.

    Args:
        batch: So many commands at most are replayed before that is noted: after a crash they come again, and the store must
            know all their tokens. Behind a turn's beginning it is noted at once: that may not come again when it has ended.

    Raises:
        StoreUnavailable, StoreMisconfigured, TurnInProgress: The store does not take the next command for now.
    """
    going: Entry | None = entry
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
            _log.error("a session in the journal cannot be replayed; what is left of it was set aside: %s", error)
            return
        going = journal.replayed(namespace, reached, dropped)


def _replayed(store: Store, entry: Entry, row: Row, given: Command | BeginTurn) -> tuple[Entry, bool]:
    """The entry when the command *given* in *row* was done, and whether that had to be dropped."""
    command = _as_of(row, _as_there(given, entry))
    if isinstance(command, Put) and command.started_at_ms is not None:
        return _started(store, entry, command)._replace(replayed=row.number), False
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
    return entry._replace(replayed=row.number), is_dropped


def _started(store: Store, entry: Entry, command: Put) -> Entry:
    """The entry when *command* has started its session in the store too.

    Raises:
        SessionNotFound: The id is another owner's.
    """
    receipt = store.apply(command)
    if command.instead_of:  # what a first try may have left, and nobody knows of
        with contextlib.suppress(SessionNotFound):
            left = Delete(session_id=command.instead_of, owner=command.owner, token=f"{command.token}'")
            store.apply(left)
    return entry._replace(created_here_ms=command.started_at_ms or 0, created_there_ms=receipt.created_at_ms)


def _as_of(row: Row, command: Any) -> Any:
    """*command* as one that was accepted then: with what is left of a lease, with the time of a deletion."""
    if isinstance(command, (BeginTurn, RenewTurn)):
        left_ms = row.at_ms + command.lease_ms - now_ms()
        return replace(command, lease_ms=min(command.lease_ms, max(0, left_ms)))
    return replace(command, at_ms=row.at_ms) if isinstance(command, Delete) else command


def _as_there(command: Any, entry: Entry) -> Any:
    """*command* with the time of creation that its session has in the store, where that is another one than here."""
    here, there = entry.created_here_ms, entry.created_there_ms
    if here == there or (isinstance(command, Put) and command.started_at_ms):
        return command
    if getattr(command, "created_at_ms", None) == here:
        command = replace(command, created_at_ms=there)
    expected = getattr(command, "expected", "")
    if expected.startswith(f"{here}-"):
        command = replace(command, expected=expected.replace(f"{here}-", f"{there}-", 1))
    return command
