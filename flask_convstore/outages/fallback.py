"""A store around a store. While that one is away, sessions are started here, kept in a journal, and handed over later.

A session is wholly here or wholly there. Here are the sessions that were started while the store did not answer. All
commands of such a session go to the journal until the last of them was replayed, also when the store answers again. From
then on the session is there. So nothing overtakes, and nothing is answered that is not known whole. The store is asked for
any other session.

Where the app says so, any other session is gone on with while the store is away, see ``continuation``. Then each owner has a
part of it here, and what is read of that is marked.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ..domain.commands import (
    Append,
    BeginTurn,
    Command,
    Delete,
    Edit,
    EventPosition,
    LinkAlias,
    Merge,
    Put,
    RenewTurn,
    ReplyPosition,
    TakeReply,
    Target,
    Touch,
    named_away,
)
from ..domain.ids import id_made_away
from ..domain.messages import own_id
from ..domain.results import Begun, Messages, Page, Receipt, ReplyParts, SessionEvents, Snapshot, part_of
from ..domain.rules import creates
from ..domain.types import ANY, Alias, Limits, Order, Owner, Scope
from ..errors import (
    ConflictError,
    ConvstoreError,
    MessageNotFound,
    NothingKnown,
    SessionNotFound,
    StoreUnavailable,
    TooSlow,
    TurnLost,
)
from ..stores.store import UNTOLD_PAUSE, Store, StoreAround, load_each, one_by_one, renew_each, written
from .alias_journal import AliasJournal
from .beside import added_to
from .circuit import Circuit
from .command_json import command_of, text_of
from .continuation import all_keys, as_added, as_change, as_first_change, beginning, can_begin, key_of
from .journal import AGELESS_MS, NEVER_MS, UNBORN_MS, Journal, JournalledSession
from .journal_view import JournalView
from .recent import Recent
from .redaction import is_redaction, without_found, without_text

_T = TypeVar("_T")
_P = TypeVar("_P", ReplyPosition, EventPosition)
_R = TypeVar("_R")

_log = logging.getLogger("flask_convstore")

_BATCH = 100
"""Sessions that are ended at a time."""

_UNTOLD = (
    "the session was started while the store was away, and is not handed over yet: its replies are told there only"
)

_HERE = "journal"
"""The place of the sessions that are here."""


class FallbackStore(StoreAround):
    """A ``Store``. See there for its methods.

    Args:
        circuit: Tells whether the store is worth a try.
        namespace: Names whose commands these are in the journal, which several stores share.
        wake: Called when commands wait in the journal, so that they are replayed.
        keys: Gives the keys that sign ids, as ``OtherHostsStore`` has them.
        continues: Sessions that are not known whole are gone on with.
        has_owners: Tells whether sessions may have owners. Then the server goes on apart from callers without one.
        keep_warm: Number of sessions that are remembered for that.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        circuit: Circuit,
        namespace: str,
        limits: Limits,
        wake: Callable[[], None],
        keys: Callable[[], Sequence[bytes]] = tuple,
        *,
        continues: bool = False,
        has_owners: Callable[[], bool] = lambda: False,
        keep_warm: int = 0,
    ) -> None:
        super().__init__(store)
        self._journal = journal
        self._circuit = circuit
        self._namespace = namespace
        self._limits = limits
        self._wake = wake
        self._keys = keys
        self._continues = continues
        self._has_owners = has_owners
        self._recent = Recent(keep_warm if continues else 0)
        self._aliases = AliasJournal(journal, namespace)
        self._views: dict[str, JournalView] = {}
        self._seen: set[str] = set()
        self._opened = 0

    def _call(self, method: Callable[..., _T], *arguments: Any, **options: Any) -> _T:
        if self._journal.may_hold():
            self._wake()
        return super()._call(method, *arguments, **options)

    # ---- writes

    def apply(self, command: Command) -> Receipt:
        try:
            receipt = self._done_somewhere(command)
        except SessionNotFound:
            self._recent.forget(command.session_id, command.owner)
            raise
        self._recent.wrote(command, receipt)
        if is_redaction(command):
            self._redact_aside(command)
        return receipt

    def _done_somewhere(self, command: Command) -> Receipt:
        """Do *command* here, if the session is here, else in the store. Where that is away, it may be done here."""
        is_here = self._is_here(command.session_id, command.owner)
        if isinstance(command, Put) and command.mode != "first" and self._starts(command):
            return (self._created if command.mode == "create" else self._replaced)(command, is_here)
        receipt: Receipt | None = self._journalled(command) if is_here else None
        return receipt or self._done(command, self._applied)

    def _starts(self, command: Put) -> bool:
        """Tell whether *command* starts a whole session here, and no continuation, while the store is away."""
        return command.may_start_away or not (self._continues and command.may_continue)

    def _done(self, command: Command | BeginTurn, do: Callable[[Any], _T]) -> _T:
        """Do *command* in the store. Where that is away, it may go on here with a session that is not known whole."""
        may_continue = self._continues and can_begin(command)
        if may_continue and self._circuit.is_open:
            return self._continued(command)  # type: ignore[no-any-return]
        try:
            return do(command)
        except StoreUnavailable as error:
            if error.written or not self._is_away(error):
                raise
            if not may_continue:
                raise self._unknown(error) from error
            try:
                return self._continued(command)  # type: ignore[no-any-return]
            except StoreUnavailable as too:
                raise error from too

    def _applied(self, command: Command) -> Receipt:
        """Apply *command* in the store. It may be of a part that was read here before all was handed over."""
        if isinstance(command, Put) and command.seen_in_part is not None:
            there = self._store.load(command.session_id, command.owner, is_interaction=False)
            return self._store.apply(added_to(command, there) if there else command)
        try:
            return self._store.apply(command)
        except SessionNotFound:
            created_at_ms = getattr(command, "created_at_ms", None)
            if created_at_ms is None or not self._has_continued(command.session_id, created_at_ms):
                raise
            return self._store.apply(as_added(command))

    def _has_continued(self, session_id: str, created_at_ms: int) -> bool:
        """Tell whether a part of a session was here that began then."""
        if not (self._continues and self._journal.exists()):
            return False
        token = _continued_at(session_id, created_at_ms)
        return self._journal.started_with(self._namespace, token) is not None

    def _is_away(self, error: StoreUnavailable) -> bool:
        """Tell whether a session may be gone on with after *error*. A server that answers is not away."""
        return self._continues and error.is_down is not False and not isinstance(error, TooSlow)

    def _unknown(self, error: StoreUnavailable) -> StoreUnavailable:
        """Make of *error* one that says that nothing is known here of the session."""
        if not self._is_away(error) or error.written is not False:
            return error
        return NothingKnown(error.reason, fallback=self._journal.kind, is_down=error.is_down)

    def apply_each(self, commands: Sequence[Command | BeginTurn]) -> list[Receipt | ConvstoreError]:
        if self._journal.may_hold():
            return one_by_one(lambda command: written(self, command), commands)
        answers = super().apply_each(commands)
        return [self._each(command, answer) for command, answer in zip(commands, answers, strict=True)]

    def _each(self, command: Command | BeginTurn, answer: Receipt | ConvstoreError) -> Receipt | ConvstoreError:
        """Go on here with a session where the *answer* is that the store is away."""
        if not isinstance(answer, StoreUnavailable):
            return answer

        def answered(_: Any) -> Receipt:
            raise answer

        (gone_on,) = one_by_one(lambda one: self._done(one, answered), [command])
        return gone_on.receipt if isinstance(gone_on, Begun) else gone_on

    def begin(self, command: BeginTurn) -> Begun:
        is_here = self._is_here(command.session_id, command.owner)
        begun: Begun | None = self._journalled(replace(command, wait_ms=0)) if is_here else None
        begun = begun or self._done(command, self._store.begin)
        self._recent.began(command, begun)
        return begun

    def renew(self, commands: Sequence[RenewTurn]) -> list[ConvstoreError | None]:
        if any(self._is_here(command.session_id, command.owner) for command in commands):
            return renew_each(self, commands)
        return self._store.renew(commands)

    def place_of(self, session_id: str) -> str:
        is_seen = session_id in self._seen  # a turn that is here was begun in one
        return _HERE if is_seen and self._is_anybodys(session_id) else self._store.place_of(session_id)

    def _created(self, command: Put, is_here: bool) -> Receipt:
        """Create a session in the store. Where that is away, it may be started here, under an id that tells so."""
        started = self._started_with(command)
        if started:
            return self._created_again(command, started)
        receipt: Receipt | None = self._journalled(command) if is_here else None
        if receipt:
            return receipt
        try:
            return self._created_there(command)
        except StoreUnavailable as error:
            if error.written or not command.may_start_away:
                raise
            return self._started_away(command, error)

    def _created_there(self, command: Put) -> Receipt:
        if self._circuit.is_open and self._journal.may_hold():
            raise StoreUnavailable(
                "the server did not answer, and another process asks it already", written=False, is_down=True
            )
        return self._store.apply(command)

    def _created_again(self, command: Put, session_id: str) -> Receipt:
        """Repeat a start whose token has started *session_id* before, here or in the store by now."""
        again = replace(command, session_id=session_id)
        receipt: Receipt | None = self._journalled(again) if self._is_here(session_id, command.owner) else None
        return replace(receipt or self._created_there(again), session_id=session_id)

    def _started_with(self, command: Put) -> str | None:
        """The session that was started here with the token of *command* (None: there is none).

        Raises:
            StoreUnavailable: The journal cannot tell.
        """
        if not (command.may_start_away and command.digest and self._journal.exists()):
            return None
        try:
            return self._journal.started_with(self._namespace, command.token)
        except StoreUnavailable:
            if self._journal.may_hold():
                raise
            return None

    def _started_away(self, command: Put, error: StoreUnavailable) -> Receipt:
        """Start the session here, under another id, after *error*. The receipt tells the id.

        An id that was made from a token may be known to somebody. One of our own is not, and a session that was left under
        it is removed.
        """
        lost = command.session_id if error.written is None and not command.digest else None
        away = replace(command, session_id=id_made_away(self._keys()), instead_of=lost)
        try:
            with self._changing(away.session_id):
                started = self._started_with(command)  # by another worker meanwhile
                receipt = None if started else self._added(self._new_view(away.session_id), away)
        except StoreUnavailable as too:
            raise error from too
        if started:
            return self._created_again(command, started)
        marked: Receipt = _marked(receipt, self._journal.kind)
        return replace(marked, session_id=away.session_id)

    def _replaced(self, command: Put, is_here: bool) -> Receipt:
        """Replace a session, or create it. Where the store is away, the session starts anew here."""
        is_away = self._circuit.is_open
        receipt: Receipt | None = self._journalled(command, may_start=is_away) if is_here or is_away else None
        if receipt:
            return receipt
        try:
            return self._store.apply(command)
        except StoreUnavailable as error:
            if error.written:
                raise
            return self._started_instead(command, error)

    def _started_instead(self, command: Put, error: StoreUnavailable) -> Receipt:
        """Start the session here. By its token the store knows it, whether the try has landed there or lands later."""
        try:
            receipt: Receipt = self._journalled(command, may_start=True)
        except StoreUnavailable as too:
            reason = f"{error.reason}. {too.reason[:1].upper()}{too.reason[1:]}"
            raise StoreUnavailable(reason, written=error.written, is_down=error.is_down) from error
        return receipt

    def _journalled(self, command: Command | BeginTurn, *, may_start: bool = False) -> Any:
        """Do *command* here. Return None if it is not for here.

        An owner who may not see the session is told the same as if the session were not here.
        """
        with self._changing(command.session_id):
            view = self._view_for(command)
            if view is None and not may_start:
                return None
            answer = self._added_or_absent(view or self._new_view(command.session_id), command)
            is_partial = bool(view and view.is_partial)
        if isinstance(answer, SessionNotFound):
            raise answer
        return _marked(answer, self._journal.kind, is_partial=is_partial)

    def _view_for(self, command: Command | BeginTurn) -> JournalView | None:
        """Find the view of the session, or of its continuation, in which *command* is done. None: it is not for here."""
        for key in self._keys_of(command.session_id, command.owner):
            view = self._view(key)
            if view and (creates(command) or view.is_of(command.owner)):
                self._refuse_part(view)
                is_of_there = isinstance(command, RenewTurn) and not view.began(command.turn)
                return None if is_of_there else view
        return None

    def _continued(self, command: Command | BeginTurn) -> Any:
        """Do *command* in the continuation of its session, which it may begin."""
        key = self._key_of(command.session_id, command.owner)
        with self._changing(key):
            view = self._view(key)
            if view is None:
                view = self._begun(key, command)
            answer = self._added_or_absent(view, command)
            is_partial = view.is_partial
        if isinstance(answer, SessionNotFound):
            raise answer
        return _marked(answer, self._journal.kind, is_partial=is_partial)

    def _begun(self, key: str, command: Command | BeginTurn) -> JournalView:
        """Begin a continuation with what is remembered of the session."""
        view, now = self._new_view(key), self._journal.now_ms()
        remembered = self._recent.find(command.session_id, command.owner)
        start = beginning(command, remembered, self._limits.history_key, now)
        view.do(start, now)
        owner = None if isinstance(command.owner, Scope) else command.owner
        journalled = view.journalled._replace(owner=owner, expires_at_ms=AGELESS_MS)
        token = _continued_at(command.session_id, now)
        view.journalled = self._journal.add(self._namespace, journalled, now, text_of(start), token)
        view.seen, view.last_at_ms = view.journalled.last, now
        return view

    @contextlib.contextmanager
    def _changing(self, key: str) -> Iterator[None]:
        """A transaction of the journal. Where it fails, the view may tell of what was not written: it is dropped."""
        try:
            with self._journal.writing():
                yield
        except BaseException as error:
            if not isinstance(error, ConvstoreError) or isinstance(error, StoreUnavailable):
                self._drop_views(key.partition("\n")[0])
            raise
        self._wake()

    def new_view(self, journalled: JournalledSession) -> JournalView:
        """Make a view of a session into which nothing is folded yet."""
        return JournalView(self._limits, journalled, self._journal.now_ms)

    def _new_view(self, key: str) -> JournalView:
        view = self._views[key] = JournalView(self._limits, JournalledSession(key), self._journal.now_ms)
        self._seen.add(view.journalled.session_id)
        return view

    def _drop_views(self, session_id: str) -> None:
        """Drop what this process has folded of a session."""
        if session_id in self._seen:
            self._seen.discard(session_id)
            first, last = all_keys(session_id)
            for key in [key for key in self._views if key == session_id or first <= key <= last]:
                del self._views[key]

    def _added_or_absent(self, view: JournalView, command: Any) -> Receipt | Begun | SessionNotFound:
        """Do as ``_added``. A delete that has found no session is noted, so that its repeat spares one that began since."""
        is_known = isinstance(command, Delete) and view.knows(command.token)
        try:
            return self._added(view, command)
        except SessionNotFound as error:
            if not isinstance(command, Delete) or is_known or not view.knows(command.token):
                raise
            absence = replace(command, created_at_ms=UNBORN_MS, expected="", loaded_version=None)
            now = self._journal.now_ms()
            view.journalled = self._journal.add(self._namespace, view.journalled, now, text_of(absence))
            view.seen, view.last_at_ms = view.journalled.last, now
            return error

    def _added(self, view: JournalView, command: Any) -> Receipt | Begun:
        """Do *command* in the view, and add to the journal what makes every other view the same."""
        now, journalled = self._journal.now_ms(), view.journalled
        is_whole = view.is_partial and isinstance(command, Put)  # only that one is compared with all messages
        there = view.load(ANY, None if is_whole else 0, now)
        is_start = creates(command) and there is None
        command = _as_meant(view, named_away(command), there)
        if isinstance(command, Put) and is_start:
            command = replace(command, started_at_ms=now)
        answer = self._told(view, command, now)
        receipt = answer.receipt if isinstance(answer, Begun) else answer
        if receipt.repeated and not receipt.expires_at_ms:
            return answer  # the session is gone, and stays so
        token = None
        if is_start:
            kept: Command | BeginTurn = _as_start(command, receipt, is_first=not journalled.first)
            token = command.token if command.digest else None
            journalled = journalled._replace(owner=None if isinstance(command.owner, Scope) else command.owner)
        else:
            kept = _as_kept(command, answer, is_partial=view.is_partial)
        if is_redaction(kept):
            kept = self._redacted(view, kept)
        ends = NEVER_MS if isinstance(command, Delete) else receipt.expires_at_ms
        ends = AGELESS_MS if journalled.is_continuation else ends
        journalled = journalled._replace(expires_at_ms=ends)
        view.journalled = self._journal.add(self._namespace, journalled, now, text_of(kept), token)
        view.seen, view.last_at_ms = view.journalled.last, now
        return answer

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

    def _redact_aside(self, command: Edit) -> None:
        """Take the text that *command* has redacted out of what was set aside. A failure is logged."""
        try:
            if not self._journal.exists():
                return
            changed = without_text(self._journal.set_aside_rows(self._namespace), command)
            if changed:
                with self._journal.writing():
                    self._journal.rewrite(changed, aside=True)
                self._journal.scrub()
        except StoreUnavailable as error:
            _log.warning("redacted text may be left among what was set aside in the journal: %s", error)

    # ---- reads

    def load(
        self,
        session_id: str,
        owner: Owner,
        last: int | None = None,
        *,
        is_interaction: bool = True,
        fields: Sequence[str] | None = None,
    ) -> Snapshot | None:
        view = None
        if self._is_here(session_id, owner):
            with self._viewed(session_id, owner) as view:
                snapshot = view.load(_seer(view, owner), last) if view else None
                is_stale = bool(view and snapshot and is_interaction and view.is_stale(snapshot))
        if view is None:
            return self._loaded(session_id, owner, last, is_interaction=is_interaction, fields=fields)
        if is_stale:
            self._touch(session_id, owner)
        return snapshot and replace(part_of(snapshot, fields), fallback=self._journal.kind, partial=view.is_partial)

    def _loaded(self, session_id: str, owner: Owner, last: int | None, **options: Any) -> Snapshot | None:
        """Load a session from the store. Where that is away, from memory."""
        try:
            found = self._asked_for(self._store.load, session_id, owner, last, **options)
        except NothingKnown:
            remembered = self._recent.find(session_id, owner)
            if remembered is None:
                raise
            cut = remembered.elements[-last:] if last else remembered.elements[: None if last is None else 0]
            part = replace(remembered, elements=cut, fallback=self._journal.kind, partial=True)
            return part_of(part, options["fields"])
        if last is None:
            self._recent.read(found, owner)
        return found

    def _asked_for(self, read: Callable[..., _T], *arguments: Any, **options: Any) -> _T:
        """Read in the store. Where that is away, nothing may be known. What is not there any more is forgotten."""
        try:
            found = read(*arguments, **options)
        except StoreUnavailable as error:
            raise self._unknown(error) from error
        if found is None:
            self._recent.forget(*arguments[:2])
        return found

    def load_many(
        self, session_ids: Sequence[str], owner: Owner, *, is_interaction: bool = True
    ) -> list[Snapshot | ConvstoreError | None]:
        if self._journal.may_hold():
            return load_each(self, session_ids, owner, is_interaction=is_interaction)
        return self._asked_for(super().load_many, session_ids, owner, is_interaction=is_interaction)

    def page(
        self,
        owner: Owner,
        cursor: str | None = None,
        limit: int = 100,
        *,
        newest_first: bool = False,
        order: Order = "active",
    ) -> Page:
        found = super().page(owner, cursor, limit, newest_first=newest_first, order=order)
        if not isinstance(owner, str) or not self._journal.may_hold():
            return found
        return found._replace(pending=len(self.journalled(owner)))

    def salvage(self, session_id: str, owner: Owner) -> Snapshot | None:
        if self._is_here(session_id, owner):
            return self.load(session_id, owner, is_interaction=False)
        return self._store.salvage(session_id, owner)

    def messages(
        self, session_id: str, owner: Owner, before: int | None, limit: int, after: int | None = None
    ) -> Messages | None:
        if self._is_here(session_id, owner):
            with self._viewed(session_id, owner) as view:
                if view:
                    return self._page_of(view, view.messages(_seer(view, owner), before, limit, after))
        return self._asked_for(self._store.messages, session_id, owner, before, limit, after)

    def _page_of(self, view: JournalView, found: Messages | None) -> Messages | None:
        return found and found._replace(fallback=self._journal.kind, partial=view.is_partial)

    def message(self, session_id: str, owner: Owner, target: Target) -> Messages | None:
        if self._is_here(session_id, owner):
            with self._viewed(session_id, owner) as view:
                if view:
                    return self._one_of(view, view.message(_seer(view, owner), target))
        return self._asked_for(self._store.message, session_id, owner, target)

    def _one_of(self, view: JournalView, found: Messages | None) -> Messages | None:
        """The page of a message. A message that is not here may be in the store, where the view is partial."""
        if view.is_partial and found and not found.elements:
            raise NothingKnown("the store is away, and may have the message", fallback=self._journal.kind)
        return self._page_of(view, found)

    def turn_remaining_ms(self, session_id: str, owner: Owner) -> int:
        if self._is_here(session_id, owner):
            with self._viewed(session_id, owner) as view:
                if view:
                    return view.turn_remaining_ms(_seer(view, owner))
        return self._asked_for(self._store.turn_remaining_ms, session_id, owner)

    def take_reply(self, command: TakeReply) -> ReplyParts:
        told = self._told_here(command.session_id, command.owner)
        if told:
            raise told
        return self._store.take_reply(command)

    def reply_parts(self, asked: Sequence[ReplyPosition]) -> list[ReplyParts | ConvstoreError]:
        def told(position: ReplyPosition) -> ReplyParts | ConvstoreError | None:
            lost = self._told_here(position.session_id, position.owner)
            return ReplyParts(position.reply, 0, []) if isinstance(lost, TurnLost) else lost

        return self._asked(asked, told, self._store.reply_parts)

    def session_events(self, asked: Sequence[EventPosition]) -> list[SessionEvents | ConvstoreError]:
        def told(position: EventPosition) -> ConvstoreError | None:
            is_here = self._told_here(position.session_id, position.owner) is not None
            return StoreUnavailable(_UNTOLD, written=False) if is_here else None

        return self._asked(asked, told, self._store.session_events)

    def _told_here(self, session_id: str, owner: Owner) -> ConvstoreError | None:
        """Tell why the reply in progress of a session cannot be read or taken that is here. None: it is not here."""
        if not self._is_here(session_id, owner):
            return None
        try:
            with self._viewed(session_id, owner) as view:
                if view is None:
                    return None
                in_progress = view.turn_remaining_ms(_seer(view, owner)) > 0
                if view.is_partial and not in_progress:
                    return None
        except StoreUnavailable as error:
            return error
        return StoreUnavailable(_UNTOLD, written=False) if in_progress else TurnLost(session_id)

    def _asked(
        self,
        asked: Sequence[_P],
        told: Callable[[_P], _R | None],
        ask: Callable[[Sequence[_P]], list[_R]],
    ) -> list[_R]:
        """Answer for those sessions that are here by *told*, and for the others by the store."""
        if not self._journal.may_hold():
            return self._call(ask, asked)
        here = [told(position) for position in asked]
        there = [position for position, answer in zip(asked, here, strict=True) if answer is None]
        answers = iter(self._call(ask, there) if there else ())
        return [next(answers) if answer is None else answer for answer in here]

    def wait_for_turn(self, session_id: str, attempt: str, seconds: float) -> bool:
        if not self._is_anybodys(session_id):
            return self._store.wait_for_turn(session_id, attempt, seconds)
        time.sleep(min(seconds, UNTOLD_PAUSE))
        return False

    # ---- aliases

    def follow(self, alias: Alias, lifetime_ms: int) -> str | None:
        led = self._aliases.find(alias) if self._journal.may_hold() else None
        return led.session_id if led else super().follow(alias, lifetime_ms)

    def follow_all(self, aliases: Sequence[Alias], lifetime_ms: int) -> list[str | None]:
        if self._journal.may_hold():
            return [self.follow(alias, lifetime_ms) for alias in aliases]
        return super().follow_all(aliases, lifetime_ms)

    def link(self, command: LinkAlias) -> str | None:
        if self._journal.may_hold() and self._aliases.find(command.alias):
            return self._led(command)
        if self._continues and self._circuit.is_open:
            return self._led(command)
        try:
            return super().link(command)
        except StoreUnavailable as error:
            if not self._is_away(error):
                raise
            return self._led(command)

    def link_all(self, commands: Sequence[LinkAlias]) -> list[str | None]:
        if self._continues or self._journal.may_hold():
            return [self.link(command) for command in commands]
        return super().link_all(commands)

    def _led(self, command: LinkAlias) -> str | None:
        """Lead an alias here, if it leads where the command expects, as far as that is known here."""
        with self._journal.writing():
            led = self._aliases.find(command.alias)
            if led and command.expected not in (ANY, led.session_id):
                return led.session_id
            self._aliases.link(command)
        self._wake()
        return command.session_id

    def _touch(self, session_id: str, owner: Owner) -> None:
        with contextlib.suppress(StoreUnavailable):  # the read itself can be answered
            self._journalled(Touch(session_id=session_id, owner=owner))

    def _is_here(self, session_id: str, owner: Owner) -> bool:
        """Tell whether the session may be here. That costs next to nothing while nothing is."""
        if not self._journal.may_hold():
            if self._views:
                self.forget()
            return False
        self._wake()
        is_here = bool(self._keys_of(session_id, owner))
        if not is_here and session_id in self._seen:
            self._drop_views(session_id)
            self._circuit.try_now()  # another process has handed it over
        return is_here

    def _is_anybodys(self, session_id: str) -> bool:
        """Tell whether the session, or a part of it, is here for anybody."""
        return self._journal.may_hold() and bool(self._journal.keys(self._namespace, session_id, all_keys(session_id)))

    def _keys_of(self, session_id: str, owner: Owner) -> list[str]:
        """List the keys under which the session is here for *owner*, the one of the whole session first."""
        key = self._key_of(session_id, owner)
        return self._journal.keys(self._namespace, session_id, (key, key))

    def _key_of(self, session_id: str, owner: Owner) -> str:
        """Name the continuation in which *owner* reads and writes. Where no session has an owner, there is only one."""
        is_servers = isinstance(owner, Scope) and self._has_owners()
        return key_of(session_id, ANY if is_servers else None if isinstance(owner, Scope) else owner)

    @contextlib.contextmanager
    def _viewed(self, session_id: str, owner: Owner) -> Iterator[JournalView | None]:
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
                view = self._new_view(key)
                view.journalled = journalled
            for row in self._journal.rows(self._namespace, journalled, view.seen):
                view.fold(row)
            view.journalled = journalled
            if view.seen == journalled.last:
                return view
            self._views.pop(key, None)  # another process has handed it over meanwhile
        self._views.pop(key, None)
        return None

    # ---- handing over

    def journalled(self, owner: str) -> list[str]:
        here = self._journal.owned(self._namespace, owner) if self._journal.exists() else []
        return [journalled.session_id for journalled in here if journalled.expires_at_ms != NEVER_MS]

    def forget_owner(self, owner: str, ended: Sequence[tuple[str, int]]) -> None:
        """Do as ``Store.forget_owner``. What the journal holds of *owner* is reduced to the ends of sessions first."""
        self._recent.forget_owner(owner)
        if self._journal.exists():
            for journalled in self._journal.owned(self._namespace, owner):
                self._end(journalled, self._journal.now_ms())
            self._journal.drop_aside(
                [row.number for row in self._journal.set_aside_rows(self._namespace) if _is_of(row.text, owner)]
            )
            self._journal.scrub()
        super().forget_owner(owner, ended)

    def scrub(self) -> None:
        if self._journal.may_hold():
            self._journal.scrub()
        super().scrub()

    def forget(self, session_id: str | None = None) -> None:
        """Forget the view of a session that is not here any more. None: forget all views, since the store answers."""
        if session_id is None:
            self._views.clear()
            self._seen.clear()
            self._circuit.try_now()
        else:
            self._drop_views(session_id)

    def end_expired(self) -> None:
        """End the sessions whose lifetime is over. The store hears only that they began and ended."""
        for journalled in self._journal.expired(self._namespace, _BATCH):
            self._end(journalled, journalled.expires_at_ms)

    def end_forgotten(self, journalled: JournalledSession, until_ms: int) -> None:
        """End a session that began until then, by this host's clock. The store hears only that it began and ended."""
        rows = self._journal.rows(self._namespace, journalled, 0)
        begun = [row.at_ms for row in rows if _is_start(row.text)]
        if begun and max(begun) <= until_ms and journalled.expires_at_ms != NEVER_MS:
            if journalled.is_continuation and any(_is_delete(row.text) for row in rows):
                self._delete_there(journalled)
            self._end(journalled, max(until_ms, rows[-1].at_ms))

    def _delete_there(self, journalled: JournalledSession) -> None:
        """Delete a session in the store whose owner has had all sessions deleted. A later one stays."""
        session_id, owner = journalled.session_id, journalled.owner
        there = self._store.load(session_id, owner, 0, is_interaction=False)
        forgotten_ms = self._store.forgotten_at_ms([owner]).get(owner) if owner else None
        if there and forgotten_ms and there.created_at_ms <= forgotten_ms and owner == there.owner:
            self._store.apply(Delete(session_id=session_id, owner=owner, created_at_ms=there.created_at_ms))

    def _end(self, journalled: JournalledSession, at_ms: int) -> None:
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


def _is_start(text: bytes) -> bool:
    """Tell whether a command starts a session. One that cannot be read is for the replay to set aside."""
    try:
        command = command_of(text)
    except ValueError:
        return False
    return isinstance(command, Put) and command.started_at_ms is not None


def _is_delete(text: bytes) -> bool:
    """Tell whether a command deletes a session. One that cannot be read does not."""
    try:
        return isinstance(command_of(text), Delete)
    except ValueError:
        return False


def _is_of(text: bytes, owner: str) -> bool:
    """Tell whether a command that was set aside is *owner*'s. One that cannot be read is nobody's."""
    try:
        return command_of(text).owner == owner
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


def _continued_at(session_id: str, created_at_ms: int) -> str:
    """Name the beginning of a continuation, as the token of a start."""
    return f"{created_at_ms}\n{session_id}"


def _names_known(command: Any, now: Snapshot | None, error: ConvstoreError) -> bool:
    """Tell whether a command that was refused names what is known here: a state of the session that was told here."""
    if isinstance(error, MessageNotFound) or now is None:
        return False
    is_versions = isinstance(error, ConflictError) and error.what == "version" and not error.is_field
    return not is_versions or command.expected.startswith(f"{now.created_at_ms}-")


def _seer(view: JournalView, owner: Owner) -> Owner:
    """The owner for whom a view is read. A continuation is only its own owner's, also where nobody has begun it."""
    return ANY if view.journalled.is_continuation else owner


def _marked(answer: Any, fallback: str, *, is_partial: bool = False) -> Any:
    """Mark that *answer* comes from here."""
    if isinstance(answer, Receipt):
        return replace(answer, level=fallback, fallback=fallback, partial=is_partial)
    return replace(
        answer,
        receipt=_marked(answer.receipt, fallback, is_partial=is_partial),
        reply=answer.reply and _marked(answer.reply, fallback, is_partial=is_partial),
        snapshot=answer.snapshot and replace(answer.snapshot, fallback=fallback, partial=is_partial),
    )
