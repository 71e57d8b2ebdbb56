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
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ..domain.commands import (
    BeginTurn,
    Command,
    Delete,
    Edit,
    EventPosition,
    LinkAlias,
    Put,
    RenewTurn,
    ReplyPosition,
    TakeReply,
    Target,
    Touch,
)
from ..domain.ids import id_made_away
from ..domain.results import Begun, Lease, Messages, Page, Receipt, ReplyParts, SessionEvents, Snapshot, part_of
from ..domain.types import ANY, Alias, Limits, Order, Owner
from ..errors import (
    ConvstoreError,
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
from .command_json import command_of
from .continuation import as_added, can_begin
from .journal import NEVER_MS, Journal, JournalledSession
from .journal_view import JournalView
from .recent import Recent
from .redaction import is_redaction, without_text
from .sessions_here import SessionsHere, is_delete, is_start, marked

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
        self._wake = wake
        self._keys = keys
        self._continues = continues
        self._recent = Recent(keep_warm if continues else 0)
        self._aliases = AliasJournal(journal, namespace)
        self._here = SessionsHere(
            journal,
            namespace,
            limits,
            circuit,
            wake,
            self._recent,
            continues=continues,
            has_owners=has_owners,
        )

    def _call(self, method: Callable[..., _T], *arguments: Any, **options: Any) -> _T:
        if self._journal.may_hold():
            self._wake()
        return super()._call(method, *arguments, **options)

    # ---- writes

    def apply(self, command: Command) -> Receipt:
        try:
            is_here = self._here.has(command.session_id, command.owner)
            if is_here or self._continues or isinstance(command, Put):
                receipt = self._done_somewhere(command, is_here)
            else:
                receipt = self._applied(command)
        except SessionNotFound:
            self._recent.forget(command.session_id, command.owner)
            raise
        if self._continues:
            self._recent.wrote(command, receipt)
        if isinstance(command, Edit) and is_redaction(command):
            self._redact_aside(command)
        return receipt

    def _done_somewhere(self, command: Command, is_here: bool) -> Receipt:
        """Do *command* here, if the session is here, else in the store. Where that is away, it may be done here."""
        if isinstance(command, Put) and command.mode != "first" and self._starts(command):
            return (self._created if command.mode == "create" else self._replaced)(command, is_here)
        receipt: Receipt | None = self._here.do(command) if is_here else None
        return receipt or self._done(command, self._applied)

    def _starts(self, command: Put) -> bool:
        """Tell whether *command* starts a whole session here, and no continuation, while the store is away."""
        return command.may_start_away or not (self._continues and command.may_continue)

    def _done(self, command: Command | BeginTurn, do: Callable[[Any], _T]) -> _T:
        """Do *command* in the store. Where that is away, it may go on here with a session that is not known whole."""
        may_continue = self._continues and can_begin(command)
        if may_continue and self._circuit.is_open:
            return self._here.go_on(command)  # type: ignore[no-any-return]
        try:
            return do(command)
        except StoreUnavailable as error:
            if error.written or not self._is_away(error):
                raise
            if not may_continue:
                raise self._unknown(error) from error
            try:
                return self._here.go_on(command)  # type: ignore[no-any-return]
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
            if created_at_ms is None or not self._here.has_continued(command.session_id, created_at_ms):
                raise
            return self._store.apply(as_added(command))

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
        is_here = self._here.has(command.session_id, command.owner)
        begun: Begun | None = self._here.do(replace(command, wait_ms=0)) if is_here else None
        if begun is None:
            begun = self._done(command, self._store.begin) if self._continues else self._store.begin(command)
        if self._continues:
            self._recent.began(command, begun)
        return begun

    def renew(self, commands: Sequence[RenewTurn]) -> list[ConvstoreError | None]:
        if any(self._here.has(command.session_id, command.owner) for command in commands):
            return renew_each(self, commands)
        return self._store.renew(commands)

    def place_of(self, session_id: str) -> str:
        return _HERE if self._here.is_known(session_id) else self._store.place_of(session_id)

    def _created(self, command: Put, is_here: bool) -> Receipt:
        """Create a session in the store. Where that is away, it may be started here, under an id that tells so."""
        started = self._started_with(command)
        if started:
            return self._created_again(command, started)
        receipt: Receipt | None = self._here.do(command) if is_here else None
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
        receipt: Receipt | None = self._here.do(again) if self._here.has(session_id, command.owner) else None
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
            with self._here.changing(away.session_id):
                started = self._started_with(command)  # by another worker meanwhile
                made = None if started else self._here.added(self._here.begun_view(away.session_id), away)
        except StoreUnavailable as too:
            raise error from too
        if started:
            return self._created_again(command, started)
        assert isinstance(made, Receipt)
        return replace(marked(made, self._journal.kind), session_id=away.session_id)

    def _replaced(self, command: Put, is_here: bool) -> Receipt:
        """Replace a session, or create it. Where the store is away, the session starts anew here."""
        is_away = self._circuit.is_open
        receipt: Receipt | None = self._here.do(command, may_start=is_away) if is_here or is_away else None
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
            receipt: Receipt = self._here.do(command, may_start=True)
        except StoreUnavailable as too:
            reason = f"{error.reason}. {too.reason[:1].upper()}{too.reason[1:]}"
            raise StoreUnavailable(reason, written=error.written, is_down=error.is_down) from error
        return receipt

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
        if self._here.has(session_id, owner):
            with self._here.viewed(session_id, owner) as view:
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
        if self._here.has(session_id, owner):
            return self.load(session_id, owner, is_interaction=False)
        return self._store.salvage(session_id, owner)

    def messages(
        self, session_id: str, owner: Owner, before: int | None, limit: int, after: int | None = None
    ) -> Messages | None:
        if self._here.has(session_id, owner):
            with self._here.viewed(session_id, owner) as view:
                if view:
                    return self._page_of(view, view.messages(_seer(view, owner), before, limit, after))
        return self._asked_for(self._store.messages, session_id, owner, before, limit, after)

    def _page_of(self, view: JournalView, found: Messages | None) -> Messages | None:
        return found and found._replace(fallback=self._journal.kind, partial=view.is_partial)

    def message(self, session_id: str, owner: Owner, target: Target) -> Messages | None:
        if self._here.has(session_id, owner):
            with self._here.viewed(session_id, owner) as view:
                if view:
                    return self._one_of(view, view.message(_seer(view, owner), target))
        return self._asked_for(self._store.message, session_id, owner, target)

    def _one_of(self, view: JournalView, found: Messages | None) -> Messages | None:
        """The page of a message. A message that is not here may be in the store, where the view is partial."""
        if view.is_partial and found and not found.elements:
            raise NothingKnown("the store is away, and may have the message", fallback=self._journal.kind)
        return self._page_of(view, found)

    def turn_lease(self, session_id: str, owner: Owner) -> Lease:
        if self._here.has(session_id, owner):
            with self._here.viewed(session_id, owner) as view:
                if view:
                    return view.turn_lease(_seer(view, owner))
        return self._asked_for(self._store.turn_lease, session_id, owner)

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
        if not self._here.has(session_id, owner):
            return None
        try:
            with self._here.viewed(session_id, owner) as view:
                if view is None:
                    return None
                in_progress = view.turn_lease(_seer(view, owner)).remaining_ms > 0
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
        if not self._here.has_for_anybody(session_id):
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
        if self._journal.may_hold():
            return [self.link(command) for command in commands]
        try:
            return super().link_all(commands)
        except StoreUnavailable as error:
            if not self._is_away(error):
                raise
            return [self._led(command) for command in commands]

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
            self._here.do(Touch(session_id=session_id, owner=owner))

    # ---- handing over

    def journalled(self, owner: str) -> list[str]:
        here = self._journal.owned(self._namespace, owner) if self._journal.exists() else []
        return [journalled.session_id for journalled in here if journalled.expires_at_ms != NEVER_MS]

    def forget_owner(self, owner: str, ended: Sequence[tuple[str, int]]) -> None:
        """Do as ``Store.forget_owner``. What the journal holds of *owner* is reduced to the ends of sessions first."""
        self._recent.forget_owner(owner)
        if self._journal.exists():
            for journalled in self._journal.owned(self._namespace, owner):
                self._here.end(journalled, self._journal.now_ms())
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
            self._here.forget_all()
        else:
            self._here.forget(session_id)

    def new_view(self, journalled: JournalledSession) -> JournalView:
        """Make a view of a session into which nothing is folded yet."""
        return self._here.new_view(journalled)

    def end_expired(self) -> None:
        """End the sessions whose lifetime is over. The store hears only that they began and ended."""
        for journalled in self._journal.expired(self._namespace, _BATCH):
            self._here.end(journalled, journalled.expires_at_ms)

    def end_forgotten(self, journalled: JournalledSession, until_ms: int) -> None:
        """End a session that began until then, by this host's clock. The store hears only that it began and ended."""
        rows = self._journal.rows(self._namespace, journalled, 0)
        begun = [row.at_ms for row in rows if is_start(row.text)]
        if begun and max(begun) <= until_ms and journalled.expires_at_ms != NEVER_MS:
            if journalled.is_continuation and any(is_delete(row.text) for row in rows):
                self._delete_there(journalled)
            self._here.end(journalled, max(until_ms, rows[-1].at_ms))

    def _delete_there(self, journalled: JournalledSession) -> None:
        """Delete a session in the store whose owner has had all sessions deleted. A later one stays."""
        session_id, owner = journalled.session_id, journalled.owner
        there = self._store.load(session_id, owner, 0, is_interaction=False)
        forgotten_ms = self._store.forgotten_at_ms([owner]).get(owner) if owner else None
        if there and forgotten_ms and there.created_at_ms <= forgotten_ms and owner == there.owner:
            self._store.apply(Delete(session_id=session_id, owner=owner, created_at_ms=there.created_at_ms))


def _is_of(text: bytes, owner: str) -> bool:
    """Tell whether a command that was set aside is *owner*'s. One that cannot be read is nobody's."""
    try:
        return command_of(text).owner == owner
    except ValueError:
        return False


def _seer(view: JournalView, owner: Owner) -> Owner:
    """The owner for whom a view is read. A continuation is only its own owner's, also where nobody has begun it."""
    return ANY if view.journalled.is_continuation else owner
