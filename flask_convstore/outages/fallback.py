"""A store around a store: while that one is away, sessions are started here, kept in a journal, and handed over later.

A session is wholly here or wholly there. Here are those that were started while the store did not answer: all commands of
such a session go to the journal, also when the store answers again, until the last of them was replayed; from then on it is
there. So nothing overtakes, and nothing is answered that is not known whole: of any other session the store is asked.

What a session is like is told from its commands in the journal, by a ``MemoryStore``; each process does that for itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from ..domain.clock import now_ms
from ..domain.commands import BeginTurn, Command, Delete, Merge, Put, Touch, new_token
from ..domain.ids import STARTS_WITHIN_MS, made_away_at_ms
from ..domain.results import ANY, Begun, Limits, Messages, Owner, Receipt, Scope, Snapshot
from ..domain.rules import creates
from ..errors import ConvstoreError, CorruptValue, SessionMoved, SessionNotFound, StoreUnavailable
from ..stores.memory import MemoryStore
from ..stores.store import Store, StoreAround
from .circuit import Circuit
from .command_json import command_of, text_of
from .journal import NEVER_MS, Entry, Journal, Row

_T = TypeVar("_T")


class _View:
    """A session as its commands in the journal tell it."""

    def __init__(self, limits: Limits, entry: Entry) -> None:
        self.entry = entry
        self.seen = 0
        self.last_at_ms = 0
        self._now_ms: int | None = None
        self._store = MemoryStore(limits, lambda: now_ms() if self._now_ms is None else self._now_ms)

    def fold(self, row: Row) -> None:
        """Do what was done then. That it was done proves that the session was there."""
        try:
            command = command_of(row.text)
            if not (isinstance(command, Put) and command.started_at_ms):
                self._store.keep(command.session_id, row.at_ms + 1)
            self._do(command, row.at_ms, in_place=True)
        except SessionNotFound as error:
            if not isinstance(command, Delete):
                raise _unreadable(row, error) from error
        except (ValueError, ConvstoreError) as error:
            raise _unreadable(row, error) from error
        self.seen, self.last_at_ms = row.number, row.at_ms

    def do(self, command: Command | BeginTurn, at_ms: int) -> Receipt | Begun:
        """Do *command* as of *at_ms*."""
        return self._do(command, at_ms, in_place=False)

    def _do(self, command: Command | BeginTurn, at_ms: int, *, in_place: bool) -> Receipt | Begun:
        self._now_ms = at_ms
        try:
            if isinstance(command, BeginTurn):
                return self._store.begin(command, in_place=in_place)
            return self._store.apply(command, in_place=in_place)
        finally:
            self._now_ms = None

    def load(self, owner: Owner, last: int | None, at_ms: int | None = None) -> Snapshot | None:
        """The session now, or as of then."""
        self._now_ms = at_ms
        try:
            return self._store.load(self.entry.session_id, owner, last, is_interaction=False)
        finally:
            self._now_ms = None

    def messages(self, owner: Owner, before: int | None, limit: int) -> Messages | None:
        return self._store.messages(self.entry.session_id, owner, before, limit)

    def turn_remaining_ms(self, owner: Owner) -> int:
        return self._store.turn_remaining_ms(self.entry.session_id, owner)

    def is_of(self, owner: Owner) -> bool:
        return owner in (ANY, self.entry.owner) or self.load(owner, 0) is not None

    def is_stale(self, snapshot: Snapshot) -> bool:
        """Whether a read must be noted in the journal: there a session lives from its last command."""
        return now_ms() - self.last_at_ms > (snapshot.expires_at_ms - self.last_at_ms) / 10


def _unreadable(row: Row, error: Exception) -> CorruptValue:
    return CorruptValue(f"the journal, command {row.number}", f"it cannot be done again ({error})")


class FallbackStore(StoreAround):
    """A ``Store``; its methods are those of ``Store``.

    Args:
        circuit: Tells whether the store is worth a try.
        namespace: Whose commands these are in the journal, which several stores share.
        wake: Is called when commands wait in the journal: somebody shall replay them.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        circuit: Circuit,
        namespace: str,
        limits: Limits,
        wake: Callable[[], None],
    ) -> None:
        super().__init__(store)
        self._journal = journal
        self._circuit = circuit
        self._namespace = namespace
        self._limits = limits
        self._wake = wake
        self._views: dict[str, _View] = {}
        self._opened = 0

    def _call(self, method: Callable[..., _T], *arguments: Any, **options: Any) -> _T:
        if self._journal.may_hold():
            self._wake()
        return super()._call(method, *arguments, **options)

    # ---- writes

    def apply(self, command: Command) -> Receipt:
        is_here = self._is_here(command.session_id)
        if not is_here and not isinstance(command, Put):
            return self._store.apply(command)
        receipt: Receipt = self._write(command, self._store.apply, is_here)
        return receipt

    def begin(self, command: BeginTurn) -> Begun:
        if not self._is_here(command.session_id):
            return self._store.begin(command)
        begun: Begun = self._write(command, self._store.begin, True)
        return begun

    def _write(self, command: Any, do: Callable[[Any], Any], is_here: bool) -> Any:
        is_put = isinstance(command, Put)
        starts_here = is_put and (
            (command.mode == "create" and not self._was_started(command) and _is_just_made_away(command.session_id))
            or (command.mode == "replace" and self._circuit.is_open)
        )
        if starts_here or is_here:
            answer = self._journalled(command, may_start=starts_here)
            if answer is not None:
                return answer
        try:
            if is_put and command.mode == "create" and self._circuit.is_open and self._journal.may_hold():
                raise StoreUnavailable("the server did not answer, and others ask it", written=False, is_down=True)
            return do(command)
        except StoreUnavailable as error:
            if error.written or not is_put or command.mode not in ("create", "replace"):
                raise
            if command.mode == "create":
                error.can_start = True
                raise
            return self._started_instead(command, error)

    def _was_started(self, command: Put | Merge) -> bool:
        """Whether the token of *command* has started its session here; SessionMoved if it was one of another id."""
        if not command.digest or not self._journal.exists():
            return False
        try:
            started = self._journal.started_with(self._namespace, command.token)
        except StoreUnavailable:
            if self._journal.may_hold():
                raise
            return False
        if started not in (None, command.session_id):
            raise SessionMoved(command.session_id, str(started))
        return started is not None

    def _started_instead(self, command: Put, error: StoreUnavailable) -> Any:
        """Start the session here; whether the try on the store has landed, or lands later, this one takes its place."""
        try:
            return self._journalled(replace(command, token=new_token(), earlier_token=command.token), may_start=True)
        except StoreUnavailable as too:
            reason = f"{error.reason}; {too.reason}"
            raise StoreUnavailable(reason, written=error.written, is_down=error.is_down) from error

    def _journalled(self, command: Any, *, may_start: bool) -> Any:
        """Do *command* here; None if it is not for here."""
        session_id = command.session_id
        is_creating = creates(command)
        try:
            with self._journal.writing():
                view = self._view(session_id)
                if not view and not may_start:
                    return None
                if view and not is_creating and not view.is_of(command.owner):
                    return None  # who may not see it is told what they would be told if it were not here
                if not view:
                    view = self._views[session_id] = _View(self._limits, Entry(session_id, None, 0, 0, 0, 0))
                answer = self._add(view, command)
        except BaseException as error:
            if not isinstance(error, ConvstoreError) or isinstance(error, StoreUnavailable):
                self._views.pop(session_id, None)  # it may tell of what was not written
            raise
        self._wake()
        return _marked(answer, self._journal.kind)

    def _add(self, view: _View, command: Any) -> Receipt | Begun:
        """Do *command* in the view, and add to the journal what makes every other view the same."""
        now, entry = now_ms(), view.entry
        is_start = creates(command) and view.load(ANY, 0, now) is None
        if is_start:
            self._was_started(command)  # meanwhile, by another worker, under another id
        if isinstance(command, Put) and is_start:
            command = replace(command, started_at_ms=now)
        answer = view.do(command, now)
        receipt = answer.receipt if isinstance(answer, Begun) else answer
        if receipt.repeated and not receipt.expires_at_ms:
            return answer  # the session is gone, and stays so
        kept = command
        if is_start:
            # Whatever was there, also one that had expired here, and lives longer there: this takes its place.
            whole = command.as_put() if isinstance(command, Merge) else command
            mode = "replace" if entry.first else whole.mode
            kept = replace(whole, mode=mode, started_at_ms=receipt.created_at_ms)
            entry = entry._replace(owner=None if isinstance(command.owner, Scope) else command.owner)
        elif receipt.repeated and not (isinstance(answer, Begun) and not answer.reply):
            kept = Touch(session_id=command.session_id, owner=ANY)  # only the lifetime has moved
        elif isinstance(command, BeginTurn):
            kept = replace(command, last=0)
        ends = NEVER_MS if isinstance(command, Delete) else receipt.expires_at_ms
        token = command.token if is_start and command.digest else None
        entry = entry._replace(expires_at_ms=ends)
        view.entry = self._journal.add(self._namespace, entry, now, text_of(kept), token)
        view.seen, view.last_at_ms = view.entry.last, now
        return answer

    # ---- reads

    def load(
        self, session_id: str, owner: Owner, last: int | None = None, *, is_interaction: bool = True
    ) -> Snapshot | None:
        if not self._is_here(session_id):
            return self._store.load(session_id, owner, last, is_interaction=is_interaction)
        with self._viewed(session_id, owner) as view:
            if view:
                snapshot = view.load(owner, last)
                if snapshot and is_interaction and view.is_stale(snapshot):
                    self._touch(session_id, owner)
                return snapshot and replace(snapshot, fallback=self._journal.kind)
        return self._store.load(session_id, owner, last, is_interaction=is_interaction)

    def messages(self, session_id: str, owner: Owner, before: int | None, limit: int) -> Messages | None:
        if not self._is_here(session_id):
            return self._store.messages(session_id, owner, before, limit)
        with self._viewed(session_id, owner) as view:
            if view:
                found = view.messages(owner, before, limit)
                return found and found._replace(fallback=self._journal.kind)
        return self._store.messages(session_id, owner, before, limit)

    def turn_remaining_ms(self, session_id: str, owner: Owner) -> int:
        if not self._is_here(session_id):
            return self._store.turn_remaining_ms(session_id, owner)
        with self._viewed(session_id, owner) as view:
            if view:
                return view.turn_remaining_ms(owner)
        return self._store.turn_remaining_ms(session_id, owner)

    def _touch(self, session_id: str, owner: Owner) -> None:
        with contextlib.suppress(StoreUnavailable):  # what was asked for can be answered
            self._journalled(Touch(session_id=session_id, owner=owner), may_start=False)

    def _is_here(self, session_id: str) -> bool:
        """Whether the session may be here; costs next to nothing while nothing is."""
        if not self._journal.may_hold():
            if self._views:
                self.forget()
            return False
        self._wake()
        is_here = self._journal.find(self._namespace, session_id) is not None
        if not is_here and session_id in self._views:
            self._views.pop(session_id, None)
            self._circuit.try_now()  # another process has handed it over
        return is_here

    @contextlib.contextmanager
    def _viewed(self, session_id: str, owner: Owner) -> Iterator[_View | None]:
        """The session, if it is here still and this owner's; for this thread alone."""
        with self._journal.reading():
            view = self._view(session_id)
            yield view if view and view.is_of(owner) else None

    def _view(self, session_id: str) -> _View | None:
        """The session as all its commands tell it; None if it is not here."""
        if self._opened != self._journal.opened:  # perhaps another file
            self._views.clear()
            self._opened = self._journal.opened
        while entry := self._journal.find(self._namespace, session_id):
            view = self._views.get(session_id)
            if not view or view.entry.first != entry.first or view.seen > entry.last:
                view = self._views[session_id] = _View(self._limits, entry)
            for row in self._journal.rows(self._namespace, entry, view.seen):
                view.fold(row)
            view.entry = entry
            if view.seen == entry.last:
                return view
            self._views.pop(session_id, None)  # another process has handed it over between the two looks
        self._views.pop(session_id, None)
        return None

    # ---- handing over

    def forget(self, session_id: str | None = None) -> None:
        """A session is not here any more; or, None, nothing is: the store answers somebody."""
        if session_id is None:
            self._views.clear()
            self._circuit.try_now()
        else:
            self._views.pop(session_id, None)

    def end_expired(self) -> None:
        """Of sessions whose lifetime is over the store hears as little as it must: that they began, and ended."""
        for entry in self._journal.expired(self._namespace, _BATCH):
            rows = self._journal.rows(self._namespace, entry, 0)
            instead, created = [], entry.created_here_ms
            try:
                for row in rows:
                    command = command_of(row.text)
                    if isinstance(command, Put) and command.started_at_ms:
                        created = command.started_at_ms
                        short = replace(command, shape="data", fields=(), elements=())
                        instead = [(row.at_ms, text_of(short))] if row.number > entry.replayed else []
            except ValueError:
                continue  # it will be set aside
            end = Delete(session_id=entry.session_id, owner=ANY, created_at_ms=created)
            self._journal.end(self._namespace, entry, [*instead, (entry.expires_at_ms, text_of(end))])
            self.forget(entry.session_id)


_BATCH = 100


def _is_just_made_away(session_id: str) -> bool:
    """Whether the id was made because the store is away, for a session that shall start now."""
    made = made_away_at_ms(session_id)
    return made is not None and abs(now_ms() - made) < STARTS_WITHIN_MS


def _marked(answer: Any, fallback: str) -> Any:
    """*answer* with the mark that it comes from here."""
    if isinstance(answer, Receipt):
        return replace(answer, level=fallback, fallback=fallback)
    return replace(
        answer,
        receipt=_marked(answer.receipt, fallback),
        reply=answer.reply and _marked(answer.reply, fallback),
        snapshot=answer.snapshot and replace(answer.snapshot, fallback=fallback),
    )
