"""The replay of a journal: commands that wait are handed over to the store in the background, session by session.

One process of a host replays at a time, under a lock that ends with
the process. Until the store answers, the replay asks for it, so that no caller has to wait for that.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from ..domain.clock import hear
from ..domain.forks import Forking, watch
from ..errors import StoreUnavailable, TurnInProgress
from .alias_journal import AliasJournal
from .circuit import Circuit
from .continuation_replay import ContinuationReplay, in_order
from .handover import HandOver
from .journal import Journal, JournalledSession
from .session_replay import Replay, Replayed

_log = logging.getLogger("flask_convstore")

_PAGE = 100
_PAUSE = 0.2
"""Seconds between two tries. While the circuit is open, most tries end before anything is sent."""


class Replayer(Forking):
    """Replays a journal in a thread of its own, which lives while commands wait.

    Args:
        parts: Gives the namespaces for which the journal may hold commands.
        batch: Number of commands that are replayed before it is noted. After a crash so many may be replayed again.
    """

    def __init__(
        self, journal: Journal, circuit: Circuit, parts: Callable[[], Collection[Replayed]], batch: int
    ) -> None:
        self._journal = journal
        self._circuit = circuit
        self._parts = parts
        self._batch = batch
        self._lock = threading.RLock()  # collecting garbage may end another call in its midst
        self._runs_in = 0
        self._begun_again: set[tuple[str, str, int]] = set()
        watch(self)

    def in_child(self) -> None:
        self._lock = threading.RLock()

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
        server_ms = next(iter(parts)).store.time_ms()
        hear(server_ms)
        behind_ms = self._journal.now_ms() - server_ms  # and some of the round trip: rather too early than too late
        with self._journal.replaying() as is_mine:
            if not is_mine:
                self._circuit.try_now()  # the process that replays has got an answer
                return
            for part in parts:
                self._lead_aliases(part)
                self._replay_all(part, behind_ms)

    def _lead_aliases(self, part: Replayed) -> None:
        """Lead the aliases in the store that were led here to nothing, or whose session is handed over."""
        aliases = AliasJournal(self._journal, part.namespace)
        for led in aliases.leading_nowhere():
            part.store.link(led.command(led.session_id))
            aliases.forget(led)

    def _replay_all(self, part: Replayed, behind_ms: int) -> None:
        failed: list[StoreUnavailable] = []

        def facts(journalled: JournalledSession) -> Any:
            return part, self._journal, journalled, self._batch, behind_ms, self._begun_again

        def alone(journalled: JournalledSession) -> None:
            try:
                if journalled.is_continuation:
                    session_id = journalled.session_id
                    in_order(self._journal, part.namespace, session_id, lambda one: ContinuationReplay(*facts(one)))
                else:
                    Replay(*facts(journalled)).run()
            except TurnInProgress:
                return  # another host's turn: it ends, or its lease does
            except StoreUnavailable as error:
                if self._circuit.is_open:
                    raise
                failed.append(error)  # perhaps only a part of a Cluster is away
                return
            part.fallback.forget(journalled.session_id)

        waiting = self._waiting(part, behind_ms, failed)
        hand_over = HandOver(part, self._journal, waiting, lambda one: Replay(*facts(one)), alone, self._batch)
        hand_over.run()
        for error in (*failed, hand_over.failed):
            if error:
                raise error

    def _waiting(self, part: Replayed, behind_ms: int, failed: list[StoreUnavailable]) -> Iterator[JournalledSession]:
        """Iterate over the sessions that wait, oldest first, but for those of which a part that is away may know more."""
        after = 0
        while entries := self._journal.sessions(part.namespace, after, _PAGE):
            new = {one: str(one.owner) for one in entries if one.owner is not None and not one.replayed}
            forgotten = self._forgotten(part, sorted(set(new.values())), failed)
            for one in entries:
                forgotten_ms = forgotten.get(new[one]) if one in new else None
                if forgotten_ms is not None:
                    part.fallback.end_forgotten(one, forgotten_ms + behind_ms)
                if one not in new or new[one] in forgotten:
                    yield one
            after = entries[-1].first

    def _forgotten(
        self, part: Replayed, owners: Sequence[str], failed: list[StoreUnavailable]
    ) -> dict[str, int | None]:
        """Ask when all sessions of *owners* were deleted on another host (None: never).

        An owner of whom a part of the store knows that is away is left out, and the error is added to *failed*.
        """
        try:
            found = part.store.forgotten_at_ms(owners)
        except StoreUnavailable as error:
            if self._circuit.is_open:
                raise
            if len(owners) == 1:
                failed.append(error)
                return {}
            each = [self._forgotten(part, [owner], failed) for owner in owners]
            return {owner: at_ms for one in each for owner, at_ms in one.items()}
        return {owner: found.get(owner) for owner in owners}
