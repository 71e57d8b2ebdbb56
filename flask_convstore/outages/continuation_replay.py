"""The replay of a continuation: it is added to the session that is in the store. An alias may tell which one that is."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ..domain.commands import (
    BeginTurn,
    Command,
    CommitTurn,
    Delete,
    Drop,
    Edit,
    Extend,
    LinkAlias,
    Merge,
    MoveConversation,
    Put,
    Rewrite,
    new_token,
)
from ..domain.messages import bodies_of, message_of, own_id
from ..domain.results import Receipt, Snapshot
from ..domain.types import ANY, Alias
from ..errors import (
    ConflictError,
    ConvstoreError,
    Forbidden,
    MessageNotFound,
    SessionExists,
    SessionMoved,
    SessionNotFound,
    StoreMisconfigured,
    StoreUnavailable,
    StreamBehind,
    TokenReused,
    TurnInProgress,
    TurnLost,
)
from .alias_journal import AliasJournal
from .beside import behind, count_seen, seqs_there
from .command_json import command_of
from .continuation import all_keys, as_added, as_addition
from .journal import UNBORN_MS, Journal, JournalledSession, Row
from .session_replay import Replay

_log = logging.getLogger("flask_convstore")

_UNANSWERED = (StoreUnavailable, StoreMisconfigured, TurnInProgress)

_ALONE_MS = 10_000
"""Time after which another host may add to a session, where the one that did so has died."""

NEVER = sys.maxsize
"""The number of no command: no other continuation comes first."""


def in_order(
    journal: Journal, namespace: str, session_id: str, make: Callable[[JournalledSession], ContinuationReplay]
) -> None:
    """Replay all continuations of a session, their commands in the order in which this host has taken them.

    Raises:
        StoreUnavailable, StoreMisconfigured, TurnInProgress: The store does not take the next command for now.
    """
    while parts := _next_of(journal, namespace, session_id):
        replays = [make(part) for _, part in parts]
        replays[0].before = parts[1][0] if len(parts) > 1 else NEVER
        try:
            replays[0].run()
        except TurnInProgress:
            for other in replays[1:]:
                other.run()  # perhaps one of them has the turn
            raise


def _next_of(journal: Journal, namespace: str, session_id: str) -> list[tuple[int, JournalledSession]]:
    """List the continuations of a session, each with the number of its next command, in that order."""
    found = (journal.find(namespace, key) for key in journal.keys(namespace, session_id, all_keys(session_id)))
    parts = [part for part in found if part and part.is_continuation]
    numbered = ((journal.rows(namespace, part, part.replayed, 1), part) for part in parts)
    return sorted((rows[0].number, part) for rows, part in numbered if rows)


class ContinuationReplay(Replay):
    """The replay of one continuation, or of its commands *before* a number.

    Where an alias led to it that leads to another session in the store, it is added to that one. The session in which it
    was begun is left there as one that has moved. Hosts add to a session one after the other.
    """

    before = NEVER
    """The number of a command of another continuation of the session, which comes first."""

    def run(self) -> None:
        self._ends: dict[str, str] = {}
        self._answered: set[str] = set()
        session_id, owner = self._journalled.session_id, self._owner()
        self._into, is_there = self._meeting(session_id, owner)
        if self._into != session_id:
            self._leave_moved(session_id, owner)
        self._stranger = ANY if is_there else self._stranger_to(self._into, owner)
        with self._alone():
            super().run()

    def _owner(self) -> Any:
        rows = self._journal.rows(self._namespace, self._journalled, 0, 1)
        return command_of(rows[0].text).owner if rows else ANY

    def _stranger_to(self, session_id: str, owner: Any) -> Any:
        """Find whose writes have no place in a session that *owner* does not see (ANY: all have one).

        Those of the server have one, which may go on together with callers without an owner.
        """
        return owner if owner != ANY and self._facts(session_id, ANY) else ANY

    # ---- where it belongs

    def _meeting(self, session_id: str, owner: Any) -> tuple[str, bool]:
        """Find the session to which the commands are added, and lead the aliases there. Tell if it is there for *owner*."""
        into, aliases = session_id, AliasJournal(self._journal, self._namespace).leading_to(session_id)
        for led in aliases:
            leads_to = self._store.link(led.command(session_id))
            if leads_to in (None, session_id):
                continue
            if self._facts(leads_to, owner):
                into = leads_to
            else:
                self._store.link(replace(led.command(session_id), expected=leads_to))
        while (there := self._facts(into, owner)) and there.moved_to:
            into = there.moved_to
        for led in aliases:
            if into != session_id:
                self._store.link(replace(led.command(into), expected=session_id))
        return into, there is not None

    def _facts(self, session_id: str, owner: Any) -> Snapshot | None:
        try:
            return self._store.load(session_id, owner, 0, is_interaction=False, fields=())
        except SessionMoved:
            return self._store.load(session_id, ANY, 0, is_interaction=False, fields=())

    def _leave_moved(self, session_id: str, owner: Any) -> None:
        """Leave the session that was told while the store was away, so that it leads to the one that there is."""
        token = "\n".join((session_id, self._into))
        this: dict[str, Any] = {"session_id": session_id, "owner": owner}
        with contextlib.suppress(SessionExists, SessionMoved, TurnLost, SessionNotFound):
            self._store.apply(
                Put(**this, mode="create", shape="full", started_at_ms=self._journal.now_ms(), token=token)
            )
            turn = BeginTurn(**this, element=None, lease_ms=_ALONE_MS, attempt=token, token=f"{token}\nturn")
            self._store.begin(turn)
            self._store.apply(MoveConversation(**this, turn=token, moved_to=self._into, token=f"{token}\nend"))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other hosts from adding to the session.

        Raises:
            TurnInProgress: Another host adds to it.
        """
        self._lock = Alias(None, f"\nhand-over {self._into}")
        self._name = new_token()
        if self._locked(None, self._name) != self._name:
            raise TurnInProgress(self._into, _ALONE_MS)
        try:
            yield
        finally:
            with contextlib.suppress(ConvstoreError):
                self._locked(self._name, None)

    def _locked(self, expected: str | None, name: str | None) -> str | None:
        return self._store.link(LinkAlias(alias=self._lock, session_id=name, expected=expected, lifetime_ms=_ALONE_MS))

    def _note(self, reached: JournalledSession, dropped: int) -> JournalledSession | None:
        going = super()._note(reached, dropped)
        if going:
            self._locked(self._name, self._name)
        return going if going and self._next_rows(going) else None

    def _next_rows(self, going: JournalledSession) -> Sequence[Row]:
        return [row for row in super()._next_rows(going) if row.number < self.before]

    # ---- its commands

    def _replayed(
        self, journalled: JournalledSession, row: Row, given: Command | BeginTurn
    ) -> tuple[JournalledSession, bool]:
        self._going = journalled
        self._is_of_here = getattr(given, "created_at_ms", None) in (None, journalled.created_here_ms)
        is_beginning = isinstance(given, Put) and given.is_remembered
        if given.owner == self._stranger != ANY and not is_beginning:
            self._refused(row, SessionNotFound(self._into))
            return journalled._replace(replayed=row.number), False
        try:
            return super()._replayed(journalled, row, replace(given, session_id=self._into))
        except _UNANSWERED:
            raise
        except SessionMoved as error:
            raise TurnInProgress(self._into, 0) from error  # the next run follows it
        except ConvstoreError as error:
            if is_beginning:
                raise
            self._refused(row, error)
            return journalled._replace(replayed=row.number), False

    def _refused(self, row: Row, error: ConvstoreError) -> None:
        """Set one command aside. The session may refuse it for good, and takes the others."""
        self._journal.keep_aside(self._namespace, self._into, row, str(error))
        self._tell(error)
        _log.error("command %d of the journal was refused, and set aside: %s", row.number, error)

    def _started(self, journalled: JournalledSession, row: Row, command: Put) -> JournalledSession:
        if not command.is_remembered:
            return super()._started(journalled, row, command)
        here_ms = command.started_at_ms or 0
        bare = Put(
            session_id=command.session_id,
            owner=command.owner,
            mode="create",
            shape=command.shape,
            started_at_ms=self._there_ms(here_ms),
            token=command.token,
        )
        return journalled._replace(created_here_ms=here_ms, created_there_ms=self._there_since_ms(bare))

    def _there_since_ms(self, bare: Put) -> int:
        """Create the session, unless it is there. Return its time of creation."""
        if self._stranger != ANY:
            return self._there(replace(bare, owner=ANY)).created_at_ms
        try:
            return self._store.apply(bare).created_at_ms or UNBORN_MS
        except (SessionExists, Forbidden):
            there = self._facts(bare.session_id, bare.owner)
            if there is None:
                raise
            return there.created_at_ms

    def _done(self, row: Row, given: Command | BeginTurn) -> Receipt | None:
        if isinstance(given, Delete) and self._others_wrote(row, given):
            self._leave_out(row, given.session_id, ConflictError(given.session_id, "version", expected=None, actual=0))
            return None
        if isinstance(given, Merge) and isinstance(given.history, Rewrite) and self._is_of_here:
            given = self._rewriting_own(row, given)
        try:
            return super()._done(row, given)
        except (TurnLost, SessionNotFound, StreamBehind) as error:
            if self._is_second_reply(given):
                self._refused(row, TokenReused("another reply was given under this token before. Nothing was written."))
                return None
            other = self._otherwise(given, error)
            if other == given:
                raise
            return self._added(row, other) if other else None

    def _is_second_reply(self, command: Any) -> bool:
        """Tell whether *command* ends a turn that another attempt has ended, with another reply."""
        return isinstance(command, CommitTurn) and command.token.rpartition("\n")[0] in self._answered

    def _added(self, row: Row, addition: Any) -> Receipt | None:
        """Do what takes the place of a command that was refused. Another attempt may have ended the turn by its token."""
        try:
            return super()._done(row, addition)
        except TokenReused:
            return super()._done(row, replace(addition, token=f"{addition.token}'"))

    def _applied(self, command: Command | BeginTurn) -> Receipt:
        if isinstance(command, BeginTurn):
            begun = self._store.begin(command)
            if begun.reply:
                self._answered.add(command.token)
            self._ends[command.token] = f"{begun.token or command.token}\n{begun.receipt.version}"
            return begun.receipt
        if isinstance(command, CommitTurn):
            command = replace(command, token=self._end_token(command))
        return self._store.apply(command)

    def _end_token(self, command: CommitTurn) -> str:
        """The token by which a turn that is begun again finds its end. It names the version there of the turn's message."""
        token = command.token.rpartition("\n")[0]
        if token and token not in self._ends:
            self._begin_again(token)
        return self._ends.get(token, command.token)

    def _begin_again(self, token: str) -> None:
        """Begin a turn of ours again, which another process has begun in the store, to learn the version of its message."""
        for row in self._journal.rows(self._namespace, self._going, 0):
            command = command_of(row.text)
            if isinstance(command, BeginTurn) and command.token == token:
                with contextlib.suppress(TurnLost):
                    self._applied(replace(command, session_id=self._into, expected="", replaces=""))

    def _otherwise(self, given: Any, error: ConvstoreError) -> Any:
        """Find what to do in the place of *given*, which was refused. None: there is nothing left to do."""
        if isinstance(error, TurnLost):
            return _without_turn(given)
        if isinstance(error, StreamBehind):  # whoever follows the reply reads it in the session
            return replace(given, closing=None)
        there = self._facts(given.session_id, given.owner)
        if there is None or getattr(given, "created_at_ms", None) in (None, there.created_at_ms):
            return given
        # The session is another one than was read. What was done to that one is added.
        added = as_added(given)
        if isinstance(added, Merge):
            fields = tuple(change._replace(loaded=None) for change in added.fields)
            added = replace(added, fields=fields)
        return added

    def _rewriting_own(self, row: Row, command: Merge) -> Merge:
        """Take out the own messages that *command* leaves out. Return it with those that it adds."""
        before, after = self._own_before(self._going, row), self._own_before(self._going, row, behind=1)
        known = _names(before)
        gone = known - _names(after)
        self._drop_own(command, [element for element in before.elements if own_id(element) in gone] if before else [])
        for one in _changed_in_place(before, after):
            super()._done(row, replace(one, session_id=command.session_id, token=f"{command.token}'{one.token}"))
        added: Sequence[bytes] = [one for one in after.elements if own_id(one) not in {"", *known}] if after else ()
        if after and added:
            added = self._without_read(command, added, known, after.elements.index(added[0]))
        return replace(command, history=Extend(0, tuple(added)))

    def _without_read(
        self, command: Merge, added: Sequence[bytes], own: Collection[str], place: int
    ) -> Sequence[bytes]:
        """Take those that the app has read before out of the messages that were *added*, from *place* on."""
        there = [element for element in self._there(command).elements if own_id(element) not in own]
        if command.seen_in_part is None:  # it had read all, or saves without reading
            return behind(added, there)
        return added[count_seen(bodies_of(added), bodies_of(there), command.seen_in_part - place) :]

    def _drop_own(self, command: Merge, elements: Sequence[bytes]) -> None:
        for seq in seqs_there(elements, self._there(command)):
            drop = Drop(session_id=command.session_id, owner=ANY, message=seq, token=f"{command.token}'{seq}")
            with contextlib.suppress(MessageNotFound):
                self._store.apply(drop)

    def _with_own_drops(self, journalled: JournalledSession, row: Row, command: Any) -> Any:
        """See that a command which drops the oldest messages drops own ones, which stand behind those of others."""
        history = command.history if isinstance(command, Merge) and self._is_of_here else None
        if not isinstance(history, Extend) or history.drop_below <= 1:
            return command
        own = self._own_before(journalled, row)
        if own:
            pairs = zip(own.seqs, own.elements, strict=True)
            self._drop_own(command, [element for seq, element in pairs if seq < history.drop_below])
        return replace(command, history=replace(history, drop_below=0, oldest_seq=0))

    def _others_wrote(self, row: Row, command: Delete) -> bool:
        """Tell whether the session has messages of others that came since the store was away."""
        there = self._there(command)
        names = _names(self._own_before(self._going, row))
        since = self._there_ms(self._going.created_here_ms)
        return any(
            message_of(element, 0).created_at_ms > since and own_id(element) not in names for element in there.elements
        )


def _changed_in_place(before: Snapshot | None, after: Snapshot | None) -> Iterator[Edit]:
    """Make the edits of own messages that a rewrite has left in the session with another text."""
    changed = {own_id(element): element for element in after.elements} if after else {}
    pairs = zip(before.seqs, before.elements, strict=True) if before else ()
    for seq, loaded in pairs:
        name = own_id(loaded)
        element = changed.get(name, loaded) if name else loaded
        if element != loaded:
            yield Edit(session_id="", owner=ANY, seq=seq, loaded=loaded, element=element, token=name)


def _names(session: Snapshot | None) -> set[str]:
    """The ids of a session's messages. All that are written while the store is away have one."""
    return {own_id(element) for element in session.elements} - {""} if session else set()


def _without_turn(command: Any) -> Any:
    """Make of the end of a turn that is lost what adds its content. None: it has none."""
    if not isinstance(command, CommitTurn):
        return command
    addition = as_addition(command)
    has_content = addition.fields or (addition.history and addition.history.elements)
    return addition if has_content else None
