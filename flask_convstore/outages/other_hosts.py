"""A store around a store, for sessions that may be on another host.

While the store is away, other hosts may start sessions in their journals, under ids that tell so. Until such a session has
been handed over, and for as long as it may live, nobody can say that it is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..domain.clock import now_ms
from ..domain.commands import BeginTurn, Command, EventPosition, RenewTurn, ReplyPosition, TakeReply, Target
from ..domain.ids import made_away_at_ms
from ..domain.results import Begun, Lease, Messages, Receipt, ReplyParts, SessionEvents, Snapshot
from ..domain.rules import creates
from ..domain.types import Limits, Owner
from ..errors import ConvstoreError, SessionNotFound, StoreUnavailable
from ..stores.store import Store, StoreAround

_AHEAD_MS = 24 * 3600 * 1000
"""An id that was made by a clock that is so far ahead is no id of ours."""


class OtherHostsStore(StoreAround):
    """A ``Store``. See there for its methods. It raises ``StoreUnavailable`` where it would be wrong to deny a session.

    Args:
        keys: Gives the keys by which the hosts know each other's ids. Without a key any id of the form may be one.
    """

    def __init__(self, store: Store, limits: Limits, keys: Callable[[], Sequence[bytes]] = tuple) -> None:
        super().__init__(store)
        self._keys = keys
        self._longest_ms = max(limits.ttl_ms, limits.ttl_complete_ms)

    def apply(self, command: Command) -> Receipt:
        try:
            return self._store.apply(command)
        except SessionNotFound:
            if not creates(command):
                self._refuse_unknown(command.session_id, command.owner)
            raise

    def begin(self, command: BeginTurn) -> Begun:
        try:
            return self._store.begin(command)
        except SessionNotFound:
            self._refuse_unknown(command.session_id, command.owner)
            raise

    def renew(self, commands: Sequence[RenewTurn]) -> list[ConvstoreError | None]:
        return self._known(commands, self._store.renew(commands))

    def take_reply(self, command: TakeReply) -> ReplyParts:
        try:
            return self._store.take_reply(command)
        except SessionNotFound:
            self._refuse_unknown(command.session_id, command.owner)
            raise

    def reply_parts(self, asked: Sequence[ReplyPosition]) -> list[ReplyParts | ConvstoreError]:
        return self._known(asked, self._store.reply_parts(asked))

    def session_events(self, asked: Sequence[EventPosition]) -> list[SessionEvents | ConvstoreError]:
        return self._known(asked, self._store.session_events(asked))

    def _known(self, asked: Sequence[RenewTurn | ReplyPosition | EventPosition], answers: list[Any]) -> list[Any]:
        """Replace answers that deny a session where that would be wrong."""
        for index, (one, answer) in enumerate(zip(asked, answers, strict=True)):
            if isinstance(answer, SessionNotFound):
                try:
                    self._refuse_unknown(one.session_id, one.owner)
                except StoreUnavailable as unknown:
                    answers[index] = unknown
        return answers

    def load(
        self,
        session_id: str,
        owner: Owner,
        last: int | None = None,
        *,
        is_interaction: bool = True,
        fields: Sequence[str] | None = None,
    ) -> Snapshot | None:
        found = self._store.load(session_id, owner, last, is_interaction=is_interaction, fields=fields)
        if found is None:
            self._refuse_unknown(session_id, owner)
        return found

    def load_many(
        self, session_ids: Sequence[str], owner: Owner, *, is_interaction: bool = True
    ) -> list[Snapshot | ConvstoreError | None]:
        found = self._store.load_many(session_ids, owner, is_interaction=is_interaction)
        for session_id, snapshot in zip(session_ids, found, strict=True):
            if snapshot is None:
                self._refuse_unknown(session_id, owner)
        return found

    def messages(
        self, session_id: str, owner: Owner, before: int | None, limit: int, after: int | None = None
    ) -> Messages | None:
        found = self._store.messages(session_id, owner, before, limit, after)
        if found is None:
            self._refuse_unknown(session_id, owner)
        return found

    def message(self, session_id: str, owner: Owner, target: Target) -> Messages | None:
        found = self._store.message(session_id, owner, target)
        if found is None:
            self._refuse_unknown(session_id, owner)
        return found

    def turn_lease(self, session_id: str, owner: Owner) -> Lease:
        try:
            return self._store.turn_lease(session_id, owner)
        except SessionNotFound:
            self._refuse_unknown(session_id, owner)
            raise

    def _refuse_unknown(self, session_id: str, owner: Owner) -> None:
        made = made_away_at_ms(session_id, self._keys()) if session_id[14:15] == "8" else None
        if made is None or not made - _AHEAD_MS < now_ms() < made + self._longest_ms:
            return
        if not self._store.has_ended(session_id, owner):
            reason = "the session was started while the store was away, by a host that has not handed it over yet"
            raise StoreUnavailable(reason, written=False)
