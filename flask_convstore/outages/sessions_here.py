"""The sessions that are in the journal, as this process knows them: whole ones, and continuations.

Each is a view, into which its commands are folded. A command is done in the view first, and then kept in the journal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from ..domain.commands import (
    Append,
    BeginTurn,
    Command,
    Delete,
    Edit,
    Merge,
    Put,
    RenewTurn,
    Touch,
    named_away,
)
from ..domain.messages import own_id
from ..domain.results import Begun, Receipt, Snapshot
from ..domain.rules import creates
from ..domain.types import ANY, Limits, Owner, Scope
from ..errors import ConflictError, ConvstoreError, MessageNotFound, NothingKnown, SessionNotFound, StoreUnavailable
from .circuit import Circuit
from .command_json import command_of, text_of
from .continuation import all_keys, as_change, as_first_change, beginning, key_of
from .journal import AGELESS_MS, NEVER_MS, UNBORN_MS, Journal, JournalledSession
from .journal_view import JournalView
from .recent import Recent
from .redaction import is_redaction, without_found, without_text


class SessionsHere:
    """The sessions of one namespace that are in the journal. It raises as the journal.

    Args:
        namespace, limits, circuit, wake, continues, has_owners: As ``FallbackStore`` has them.
        recent: What a continuation begins with.
    """

    def __init__(
        self,
        journal: Journal,
        namespace: str,
        limits: Limits,
        circuit: Circuit,
        wake: Callable[[], None],
        recent: Recent,
        *,
        continues: bool,
        has_owners: Callable[[], bool],
    ) -> None:
        self._journal = journal
        self._namespace = namespace
        self._limits = limits
        self._circuit = circuit
        self._wake = wake
        self._recent = recent
        self._continues = continues
        self._has_owners = has_owners
        self._views: dict[str, JournalView] = {}
        self._seen: set[str] = set()
        self._opened = 0

    # ---- finding

    def has(self, session_id: str, owner: Owner) -> bool:
        """Tell whether the session may be here. That costs next to nothing while nothing is."""
        if not self._journal.may_hold():
            if self._views:
                self.forget_all()
            return False
        self._wake()
        is_here = bool(self._keys_of(session_id, owner))
        if not is_here and session_id in self._seen:
            self.forget(session_id)
            self._circuit.try_now()  # another process has handed it over
        return is_here

    def has_for_anybody(self, session_id: str) -> bool:
        """Tell whether the session, or a part of it, is here for anybody."""
        return self._journal.may_hold() and bool(self._journal.keys(self._namespace, session_id, all_keys(session_id)))

    def is_known(self, session_id: str) -> bool:
        """Tell whether a session is here that this process has seen here. That asks nothing of one that it has not."""
        return session_id in self._seen and self.has_for_anybody(session_id)

    def _keys_of(self, session_id: str, owner: Owner) -> list[str]:
        """List the keys under which the session is here for *owner*, the one of the whole session first."""
        key = self._key_of(session_id, owner)
        return self._journal.keys(self._namespace, session_id, (key, key))

    def _key_of(self, session_id: str, owner: Owner) -> str:
        """Name the continuation in which *owner* reads and writes. Where no session has an owner, there is only one."""
        is_servers = isinstance(owner, Scope) and self._has_owners()
        return key_of(session_id, ANY if is_servers else None if isinstance(owner, Scope) else owner)

    @contextlib.contextmanager
    def viewed(self, session_id: str, owner: Owner) -> Iterator[JournalView | None]:
        """The view of a session, if it is still here and visible to *owner*. For this thread alone."""
        with self._journal.reading():
            views = (self._view(key) for key in self._keys_of(session_id, owner))
            found = next((view for view in views if view and view.is_of(owner)), None)
            if found:
                self._refuse_part(found)
            yield found

    def _refuse_part(self, view: JournalView) -> None:
        """Refuse a part of a session where the app does not go on with parts (any more)."""
        if view.is_partial and not self._continues:
            raise StoreUnavailable(
                "a part of the session is not handed over yet, as CONVSTORE_OUTAGE was continue", written=False
            )

    def _view(self, key: str) -> JournalView | None:
        """The view of a session or continuation, with all its commands folded, or None if it is not here."""
        if self._opened != self._journal.opened:  # perhaps another file
            self._views.clear()
            self._seen.clear()
            self._opened = self._journal.opened
        while journalled := self._journal.find(self._namespace, key):
            view = self._views.get(key)
            if not view or view.journalled.first != journalled.first or view.seen > journalled.last:
                view = self.begun_view(key)
                view.journalled = journalled
            for row in self._journal.rows(self._namespace, journalled, view.seen):
                view.fold(row)
            view.journalled = journalled
            if view.seen == journalled.last:
                return view
            self._views.pop(key, None)  # another process has handed it over meanwhile
        self._views.pop(key, None)
        return None

    def new_view(self, journalled: JournalledSession) -> JournalView:
        """Make a view of a session into which nothing is folded yet."""
        return JournalView(self._limits, journalled, self._journal.now_ms)

    def begun_view(self, key: str) -> JournalView:
        """Begin the view of a session or continuation that is not here yet, or is folded anew."""
        view = self._views[key] = JournalView(self._limits, JournalledSession(key), self._journal.now_ms)
        self._seen.add(view.journalled.session_id)
        return view

    def forget(self, session_id: str) -> None:
        """Drop what this process has folded of a session."""
        if session_id in self._seen:
            self._seen.discard(session_id)
            first, last = all_keys(session_id)
            for key in [key for key in self._views if key == session_id or first <= key <= last]:
                del self._views[key]

    def forget_all(self) -> None:
        """Drop what this process has folded, since the store answers."""
        self._views.clear()
        self._seen.clear()
        self._circuit.try_now()

    # ---- doing

    def do(self, command: Command | BeginTurn, *, may_start: bool = False) -> Any:
        """Do *command* here. Return None if it is not for here.

        An owner who may not see the session is told the same as if the session were not here.
        """
        with self.changing(command.session_id):
            view = self._view_for(command)
            if view is None and not may_start:
                return None
            answer = self._added_or_absent(view or self.begun_view(command.session_id), command)
            is_partial = bool(view and view.is_partial)
        if isinstance(answer, SessionNotFound):
            raise answer
        return _marked_answer(answer, self._journal.kind, is_partial=is_partial)

    def _view_for(self, command: Command | BeginTurn) -> JournalView | None:
        """Find the view of the session, or of its continuation, in which *command* is done. None: it is not for here."""
        for key in self._keys_of(command.session_id, command.owner):
            view = self._view(key)
            if view and (creates(command) or view.is_of(command.owner)):
                self._refuse_part(view)
                is_of_there = isinstance(command, RenewTurn) and not view.began(command.turn)
                return None if is_of_there else view
        return None

    def go_on(self, command: Command | BeginTurn) -> Any:
        """Do *command* in the continuation of its session, which it may begin."""
        key = self._key_of(command.session_id, command.owner)
        with self.changing(key):
            view = self._view(key)
            if view is None:
                view = self._begun(key, command)
            answer = self._added_or_absent(view, command)
            is_partial = view.is_partial
        if isinstance(answer, SessionNotFound):
            raise answer
        return _marked_answer(answer, self._journal.kind, is_partial=is_partial)

    def _begun(self, key: str, command: Command | BeginTurn) -> JournalView:
        """Begin a continuation with what is remembered of the session."""
        view, now = self.begun_view(key), self._journal.now_ms()
        remembered = self._recent.find(command.session_id, command.owner)
        start = beginning(command, remembered, self._limits.history_key, now)
        view.do(start, now)
        owner = None if isinstance(command.owner, Scope) else command.owner
        journalled = view.journalled._replace(owner=owner, expires_at_ms=AGELESS_MS)
        token = continued_at(command.session_id, now)
        view.journalled = self._journal.add(self._namespace, journalled, now, text_of(start), token)
        view.seen, view.last_at_ms = view.journalled.last, now
        return view

    def has_continued(self, session_id: str, created_at_ms: int) -> bool:
        """Tell whether a part of a session was here that began then."""
        if not (self._continues and self._journal.exists()):
            return False
        token = continued_at(session_id, created_at_ms)
        return self._journal.started_with(self._namespace, token) is not None

    @contextlib.contextmanager
    def changing(self, key: str) -> Iterator[None]:
        """A transaction of the journal. Where it fails, the view may tell of what was not written: it is dropped."""
        try:
            with self._journal.writing():
                yield
        except BaseException as error:
            if not isinstance(error, ConvstoreError) or isinstance(error, StoreUnavailable):
                self.forget(key.partition("\n")[0])
            raise
        self._wake()

    def _added_or_absent(self, view: JournalView, command: Any) -> Receipt | Begun | SessionNotFound:
        """Do as ``added``. A delete that has found no session is noted, so that its repeat spares one that began since."""
        is_known = isinstance(command, Delete) and view.knows(command.token)
        try:
            return self.added(view, command)
        except SessionNotFound as error:
            if not isinstance(command, Delete) or is_known or not view.knows(command.token):
                raise
            absence = replace(command, created_at_ms=UNBORN_MS, expected="", loaded_version=None)
            now = self._journal.now_ms()
            view.journalled = self._journal.add(self._namespace, view.journalled, now, text_of(absence))
            view.seen, view.last_at_ms = view.journalled.last, now
            return error

    def added(self, view: JournalView, command: Any) -> Receipt | Begun:
        """Do *command* in the view, and add to the journal what makes every other view the same."""
        now = self._journal.now_ms()
        is_compared = view.is_partial and isinstance(command, Put)  # with all messages
        there = view.load(ANY, None if is_compared else 0, now)
        is_start = creates(command) and there is None
        command = _as_meant(view, named_away(command), there)
        if isinstance(command, Put) and is_start:
            command = replace(command, started_at_ms=now)
        answer = self._told(view, command, now)
        receipt = answer.receipt if isinstance(answer, Begun) else answer
        if receipt.repeated and not receipt.expires_at_ms:
            return answer  # the session is gone, and stays so
        if is_start:
            self._keep_start(view, command, receipt, now)
        else:
            self._keep(view, command, _as_kept(command, answer, is_partial=view.is_partial), receipt, now)
        return answer

    def _keep_start(self, view: JournalView, command: Any, receipt: Receipt, now: int) -> None:
        """Add the start of a session to the journal. Its owner is known from then on."""
        start = _as_start(command, receipt, is_first=not view.journalled.first)
        owner = None if isinstance(command.owner, Scope) else command.owner
        view.journalled = view.journalled._replace(owner=owner)
        self._keep(view, command, start, receipt, now, token=command.token if command.digest else None)

    def _keep(
        self, view: JournalView, command: Any, kept: Any, receipt: Receipt, now: int, token: str | None = None
    ) -> None:
        """Add to the journal what is *kept* of a command."""
        if is_redaction(kept):
            kept = self._redacted(view, kept)
        ends = NEVER_MS if isinstance(command, Delete) else receipt.expires_at_ms
        journalled = view.journalled._replace(expires_at_ms=AGELESS_MS if view.journalled.is_continuation else ends)
        view.journalled = self._journal.add(self._namespace, journalled, now, text_of(kept), token)
        view.seen, view.last_at_ms = view.journalled.last, now

    def _told(self, view: JournalView, command: Any, now: int) -> Receipt | Begun:
        """Do *command* in the view. What the view does not find may be in the store, where the view is partial."""
        try:
            return view.do(command, now)
        except (MessageNotFound, ConflictError) as error:
            if view.is_partial and not _names_known(command, view.load(ANY, 0, now), error):
                reason = "the store is away, and this host does not know the whole session"
                raise NothingKnown(reason, fallback=self._journal.kind) from error
            raise

    def _redacted(self, view: JournalView, command: Edit) -> Edit:
        """Take the text that *command* redacts out of the commands before. Return it without that text too."""
        now = view.load(ANY, None)
        others = {own_id(element) for element in now.elements} - {own_id(command.loaded)} if now else ()
        rows = self._journal.rows(self._namespace, view.journalled, 0)
        self._journal.rewrite(without_text(rows, command, others))
        return without_found(command)

    # ---- ending

    def end(self, journalled: JournalledSession, at_ms: int) -> None:
        """Put a session's beginning and its end, without any content, in the place of its commands.

        Of a continuation nothing stays, since the session is the store's.
        """
        if journalled.is_continuation:
            self._journal.end(self._namespace, journalled, [])
            self.forget(journalled.session_id)
            return
        rows = self._journal.rows(self._namespace, journalled, 0)
        instead, created = [], journalled.created_here_ms
        try:
            for row in rows:
                command = command_of(row.text)
                if isinstance(command, Put) and command.started_at_ms:
                    created = command.started_at_ms
                    short = replace(command, shape="data", fields=(), elements=(), first_title="")
                    instead = [(row.at_ms, text_of(short))] if row.number > journalled.replayed else []
        except ValueError:
            return  # the replay sets it aside
        end = Delete(session_id=journalled.session_id, owner=ANY, created_at_ms=created)
        self._journal.end(self._namespace, journalled, [*instead, (at_ms, text_of(end))])
        self.forget(journalled.session_id)


def is_start(text: bytes) -> bool:
    """Tell whether a command starts a session. One that cannot be read is for the replay to set aside."""
    try:
        command = command_of(text)
    except ValueError:
        return False
    return isinstance(command, Put) and command.started_at_ms is not None


def is_delete(text: bytes) -> bool:
    """Tell whether a command deletes a session. One that cannot be read does not."""
    try:
        return isinstance(command_of(text), Delete)
    except ValueError:
        return False


def _as_meant(view: JournalView, command: Any, there: Snapshot | None) -> Any:
    """Make of a whole session, where a view is partial, a change of what is *there*."""
    if there is None or not view.is_partial:
        return command
    is_first = view.journalled.first == view.journalled.last
    return as_first_change(command, there) if is_first else as_change(command, there)


def _as_start(command: Put | Merge, receipt: Receipt, *, is_first: bool) -> Put:
    """The start of a session as the journal keeps it: with its time of creation.

    A start that is not the first takes the place of the session before, which had expired here, and may live longer there.
    """
    whole = command.as_put() if isinstance(command, Merge) else command
    return replace(whole, mode=whole.mode if is_first else "replace", started_at_ms=receipt.created_at_ms)


def _as_kept(command: Command | BeginTurn, answer: Receipt | Begun, *, is_partial: bool) -> Command | BeginTurn:
    """Any other command as the journal keeps it. A repeat has only moved the lifetime, unless it took a turn anew."""
    is_turn_taken_anew = isinstance(answer, Begun) and not answer.reply
    receipt = answer.receipt if isinstance(answer, Begun) else answer
    if receipt.repeated and not is_turn_taken_anew:
        return Touch(session_id=command.session_id, owner=ANY)
    if isinstance(command, (Merge, Append, Delete)):
        is_of_there = is_partial and command.created_at_ms not in (None, receipt.created_at_ms)
        return command if is_of_there else replace(command, loaded_version=None)  # it was not late
    return replace(command, last=0) if isinstance(command, BeginTurn) else command


def continued_at(session_id: str, created_at_ms: int) -> str:
    """Name the beginning of a continuation, as the token of a start."""
    return "\n".join((str(created_at_ms), session_id))


def _names_known(command: Any, now: Snapshot | None, error: ConvstoreError) -> bool:
    """Tell whether a command that was refused names what is known here: a state of the session that was told here."""
    if isinstance(error, MessageNotFound) or now is None:
        return False
    is_versions = isinstance(error, ConflictError) and error.what == "version" and not error.is_field
    return not is_versions or command.expected.startswith(f"{now.created_at_ms}-")


def marked(receipt: Receipt, fallback: str, *, is_partial: bool = False) -> Receipt:
    """Mark that *receipt* comes from here."""
    return replace(receipt, level=fallback, fallback=fallback, partial=is_partial)


def _marked_answer(answer: Receipt | Begun, fallback: str, *, is_partial: bool) -> Receipt | Begun:
    """Mark that *answer* and all in it come from here."""
    if isinstance(answer, Receipt):
        return marked(answer, fallback, is_partial=is_partial)
    return answer._replace(
        receipt=marked(answer.receipt, fallback, is_partial=is_partial),
        reply=answer.reply and marked(answer.reply, fallback, is_partial=is_partial),
        snapshot=answer.snapshot and answer.snapshot.with_facts(fallback=fallback, partial=is_partial),
    )
