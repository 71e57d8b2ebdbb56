"""Access: settings, store and owner of one call, resolved once at the door and handed to every operation.

Each write of an operation goes through ``Access.apply`` or ``Access.begin``, so that whatever the unit of work has loaded of
the session is brought up to date.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from ..config import Settings
from ..domain.clock import monotonic
from ..domain.commands import Append, BeginTurn, Command, Target, Write
from ..domain.deadlines import OPERATION
from ..domain.results import Begun, Messages, Receipt, Snapshot
from ..domain.titles import TITLED_ROLE
from ..domain.types import ANY, Lifetime, Owner, Scope
from ..domain.validation import check_lifetime, check_name
from ..errors import ConvstoreError, NothingKnown, SessionMoved, SessionNotFound, StoreUnavailable, TooManyTurns
from ..sessions.content import ContentLimits
from ..sessions.type_changes import TypeChanges
from ..stores.store import Store

State = tuple[int, int] | tuple[None, None]
"""Time of creation in milliseconds since 1970, and version, of a session that was read."""

NOT_SEEN: State = (None, None)

_NEWCOMERS = 10
"""Number of callers without a cookie who may share an address, such as that of an office."""

FOR_CLEANING = 0.2
"""Share of the time of an operation that is left for taking back what it has begun, and cannot end in time."""

_P = ParamSpec("_P")
_T = TypeVar("_T")
_S = TypeVar("_S", Snapshot, Snapshot | None)


Around = Callable[[Callable[[], None]], Callable[[], None]]
"""Function that gives the function which a thread runs its context."""


def copied_context(run: Callable[[], None]) -> Callable[[], None]:
    """Let a function run in a copy of the present context variables."""
    return functools.partial(copy_context().run, run)


InsideTurn = Callable[[str], contextlib.AbstractContextManager[object]]
"""Function from the attempt that has a turn to a block inside of the turn, such as one in which its span is current."""


class Loaded(Protocol):
    """One unit of work, as operations use it."""

    def refresh(self, store: Store, command: Write, receipt: Receipt) -> None:
        """Bring loaded values up to date with a write that an operation has made."""
        ...

    def seen(self, store: Store, session_id: str) -> State:
        """Find the state of a session that the app has read last in this unit, or made since."""
        ...


class UnitOfWork(Protocol):
    """The part of the running units of work that operations use."""

    def units(self) -> Sequence[Loaded]:
        """List the units of work that the running code is in, the innermost first."""
        ...

    def note_seen(self, store: Store, snapshot: Snapshot) -> None:
        """Note which state of a session the app has read."""
        ...

    def note_seen_in_part(self, store: Store, session_id: str, messages: int) -> None:
        """Note that the app has read no more than so many messages of a session, as the store is away."""
        ...

    def seen_in_part(self, store: Store, session_id: str) -> int | None:
        """Count the messages that the app has read of a session, where that was a part of it. None: it was not."""
        ...

    def flush(self) -> None:
        """Write the changes of loaded values."""
        ...


class NothingLoaded:
    """The unit of work of an operation that runs outside of any mapping."""

    def units(self) -> Sequence[Loaded]:
        """Know of none."""
        return ()

    def note_seen(self, store: Store, snapshot: Snapshot) -> None:
        """Do nothing: whoever has no unit of work may have read it long ago."""

    def note_seen_in_part(self, store: Store, session_id: str, messages: int) -> None:
        """Do nothing, as ``note_seen``."""

    def seen_in_part(self, store: Store, session_id: str) -> int | None:
        """Know of no session."""
        return None

    def flush(self) -> None:
        """Do nothing, since nothing is loaded."""


@dataclass(frozen=True)
class Backend:
    """The settings and the store of one namespace in one application.

    Attributes:
        server: Name of the server, without a password.
        unit_of_work: The loaded values, which each write brings up to date.
        name: Name of the store or mapping, for the log.
        around: Gives a function that a thread runs the context of the running code.
        inside_turn: What a turn's handler runs in (None: nothing).
    """

    settings: Settings
    store: Store
    server: str = ""
    unit_of_work: UnitOfWork = field(default_factory=NothingLoaded)
    name: str = "a store"
    around: Around = copied_context
    inside_turn: InsideTurn | None = None

    @cached_property
    def origin(self) -> str:
        """Name of server and namespace. A session that was loaded from another one is saved as a plain value."""
        return f"{self.server} {self.settings.prefix}"

    @cached_property
    def limits(self) -> ContentLimits:
        """The limits of content, and the keys of the history."""
        settings, is_tagged = self.settings, self.settings.types == "tagged"
        first_key, *other_keys = settings.history_key
        return ContentLimits(
            first_key,
            settings.max_message_bytes,
            settings.max_data_bytes,
            settings.max_metadata_depth,
            tuple(other_keys),
            has_titles=TITLED_ROLE in settings.visible_roles,
            is_tagged=is_tagged,
            changes=TypeChanges(self.name, is_tagged=is_tagged),
        )

    @cached_property
    def limits_of_messages(self) -> ContentLimits:
        """The limits of values whose messages have a class, which knows their types."""
        changes = self.limits.changes
        return replace(self.limits, changes=changes and changes.beside_messages())

    @cached_property
    def limits_of_classes(self) -> ContentLimits:
        """The limits of values that a class or an annotation makes, which knows the types."""
        return replace(self.limits, changes=None)

    @cached_property
    def limits_of_functions(self) -> ContentLimits:
        """The limits of values that functions of the app make from plain JSON."""
        return replace(self.limits, changes=None, is_tagged=False)


class Access:
    """One caller's access to one store.

    Attributes:
        backend: The settings and the store of the namespace.
        owner: The name of the caller, None for nobody, ``ANY`` for the server.
        newcomers: Names all callers from one place who have just become owners. None: this one is known.
        settings, store, limits: As the backend has them.
    """

    __slots__ = ("backend", "limits", "newcomers", "owner", "settings", "store")

    def __init__(self, backend: Backend, owner: Owner, newcomers: Callable[[], str | None] = lambda: None) -> None:
        if owner is not None and not isinstance(owner, Scope):
            owner = check_name(owner, "owner")
        self.backend = backend
        self.owner = owner
        self.newcomers = newcomers
        self.settings = backend.settings
        self.store = backend.store
        self.limits = backend.limits

    def of(self, owner: Owner) -> Access:
        """Give access to the same store for another *owner*."""
        return Access(self.backend, owner)

    @property
    def of_server(self) -> Access:
        """Access to the same store for the server, with nothing loaded."""
        return Access(replace(self.backend, unit_of_work=NothingLoaded()), ANY)

    def units(self) -> Sequence[Loaded]:
        """List the units of work that the running code is in, the innermost first."""
        return self.backend.unit_of_work.units()

    def seen(self, units: Sequence[Loaded], session_id: str) -> State:
        """Find the state of a session that the app has read last in one of *units*, or made since."""
        states = (unit.seen(self.store, session_id) for unit in units)
        return next((state for state in states if state is not NOT_SEEN), NOT_SEEN)

    def apply(self, command: Command, units: Sequence[Loaded] | None = None) -> Receipt:
        """Apply one write. Raises as ``Store.apply``.

        Args:
            units: The units of work that the running code is in (None: they are looked for).
        """
        receipt = self.send(command)
        self._refresh(self.units() if units is None else units, command, receipt)
        return receipt

    def send(self, command: Command) -> Receipt:
        """Apply one write, and leave loaded values as they are. Raises as ``Store.apply``."""
        try:
            return self.store.apply(command)
        except SessionMoved as moved:
            raise self._as_told(moved) from None

    def apply_each(self, commands: Sequence[Append]) -> list[Receipt | ConvstoreError]:
        """Apply several writes, each all or nothing for itself. One that failed is an error in the list."""
        answers = self.store.apply_each(commands)
        for index, (command, answer) in enumerate(zip(commands, answers, strict=True)):
            if isinstance(answer, SessionMoved):
                answers[index] = self._as_told(answer)
            elif isinstance(answer, Receipt):
                self.tell(command, answer)
        return answers

    def tell(self, command: Command, receipt: Receipt) -> None:
        """Bring loaded values up to date with an acknowledged write."""
        self._refresh(self.units(), command, receipt)

    def _refresh(self, units: Sequence[Loaded], command: Command | BeginTurn, receipt: Receipt) -> None:
        if isinstance(command, Write):
            for unit in units:
                unit.refresh(self.store, command, receipt)

    def begin(self, command: BeginTurn) -> Begun:
        """Begin a turn. Raises as ``Store.begin``."""
        try:
            begun = self.store.begin(command)
        except SessionMoved as moved:
            raise self._as_told(moved) from None
        self._refresh(self.units(), command, begun.receipt)
        return begun

    def load(
        self,
        session_id: str,
        last: int | None = None,
        *,
        is_interaction: bool = True,
        fields: Sequence[str] | None = None,
    ) -> Snapshot | None:
        """Read a session with its *last* messages, or all. None if this owner has no such session."""
        try:
            return self.store.load(session_id, self.owner, last, is_interaction=is_interaction, fields=fields)
        except SessionMoved as moved:
            if not self._sees(moved.moved_to):
                return None
            return self.store.load(session_id, ANY, last, is_interaction=is_interaction, fields=fields)

    def known(self, session_id: str, *, is_interaction: bool = True) -> Snapshot | None:
        """Read a whole session, as far as it is known. None also where the store is away and nothing is known here."""
        try:
            return self.load(session_id, is_interaction=is_interaction)
        except NothingKnown:
            self.note_seen_in_part(session_id)
            return None

    def messages(self, session_id: str, before: int | None, limit: int, after: int | None = None) -> Messages | None:
        """Read some messages of a session, as ``Store.messages`` does. None if this owner has no such session."""
        try:
            return self.store.messages(session_id, self.owner, before, limit, after)
        except SessionMoved as moved:
            if not self._sees(moved.moved_to):
                return None
            return self.store.messages(session_id, ANY, before, limit, after)

    def message(self, session_id: str, target: Target) -> Messages | None:
        """Read one message, as ``Store.message`` does. None if this owner has no such session."""
        try:
            return self.store.message(session_id, self.owner, target)
        except SessionMoved as moved:
            return self.store.message(session_id, ANY, target) if self._sees(moved.moved_to) else None

    def salvage(self, session_id: str) -> Snapshot | None:
        """Read what is left of a session, as ``Store.salvage`` does. None if this owner has no such session."""
        try:
            return self.store.salvage(session_id, self.owner)
        except SessionMoved as moved:
            return self.store.salvage(session_id, ANY) if self._sees(moved.moved_to) else None

    def _sees(self, session_id: str) -> bool:
        return self.load(session_id, 0, is_interaction=False) is not None

    def _as_told(self, moved: SessionMoved) -> ConvstoreError:
        """Choose the error for a caller. With whom the conversation is shared no longer, finds no session."""
        archived = self.store.load(moved.session_id, ANY, 0, is_interaction=False)
        is_guest = archived is not None and self.owner not in (ANY, archived.owner)
        return SessionNotFound(moved.session_id) if is_guest and not self._sees(moved.moved_to) else moved

    def load_many(
        self, session_ids: Sequence[str], *, is_interaction: bool = True
    ) -> list[Snapshot | ConvstoreError | None]:
        """Read several sessions. A session that cannot be read is an error in the list, one that is not known is None."""
        try:
            found = self.store.load_many(session_ids, self.owner, is_interaction=is_interaction)
        except NothingKnown:
            return [self.known(session_id, is_interaction=is_interaction) for session_id in session_ids]
        for index, session in enumerate(found):
            if isinstance(session, SessionMoved):
                found[index] = self.load(session.session_id, is_interaction=is_interaction)
        return found

    def note_seen(self, snapshot: Snapshot) -> None:
        """Note which state of a session the app has read."""
        self.backend.unit_of_work.note_seen(self.store, snapshot)
        if snapshot.partial:
            self.note_seen_in_part(snapshot.session_id, len(snapshot.elements))

    def note_seen_in_part(self, session_id: str, messages: int = 0) -> None:
        """Note that the app has read no more than so many *messages* of a session, as the store is away."""
        self.backend.unit_of_work.note_seen_in_part(self.store, session_id, messages)

    def seen_in_part(self, session_id: str) -> int | None:
        """Count the messages that the running request has read of a session, where that was a part. None: it was not."""
        return self.backend.unit_of_work.seen_in_part(self.store, session_id)

    def whole(self, session_id: str) -> Snapshot | None:
        """Read a session of which all is needed. None if this owner has no such session.

        Raises:
            StoreUnavailable: The store is away, and this host knows a part only.
        """
        return whole(self.load(session_id))

    def flush(self) -> None:
        """Write the changes of the unit of work."""
        self.backend.unit_of_work.flush()

    def count_turn(self) -> None:
        """Count a turn that begins, or whatever makes a session. Turns are not counted while the store is away.

        An anonymous caller without a cookie has a new owner each time. Those from one address are counted together, up to
        ten times as many.

        Raises:
            TooManyTurns: The owner has begun as many turns in this minute as the settings allow. Nothing was written.
        """
        most = self.settings.max_turns_per_minute
        if not most or not isinstance(self.owner, str):
            return
        newcomers = self.newcomers()
        name, most = (newcomers, _NEWCOMERS * most) if newcomers else (self.owner, most)
        with contextlib.suppress(StoreUnavailable):
            wait_ms = self.store.spend(name, most)
            if wait_ms:
                raise TooManyTurns(wait_ms)

    def ttl_ms(self, ttl: Lifetime | None) -> int | None:
        """Convert a lifetime in seconds to milliseconds. None stays None.

        Raises:
            InvalidInput: The lifetime is no number, shorter than a second, or longer than ``CONVSTORE_MAX_TTL``.
        """
        if ttl is None:
            return None
        return round(check_lifetime(ttl, self.settings.max_ttl) * 1000)


def whole(snapshot: _S) -> _S:
    """Give back what was read, if it was all of the session, or nothing.

    Raises:
        StoreUnavailable: The store is away, or not all is handed over, and this host knows a part only.
    """
    if snapshot and snapshot.partial:
        reason = "the store is away, or was, and this host does not know the whole session"
        raise StoreUnavailable(reason, written=False, is_down=True)
    return snapshot


def in_time(operation: Callable[Concatenate[Access, _P], _T]) -> Callable[Concatenate[Access, _P], _T]:
    """Give an operation, with all its round trips, the time of one call (``CONVSTORE_BUDGET``)."""

    @functools.wraps(operation)
    def ending(access: Access, /, *arguments: _P.args, **options: _P.kwargs) -> _T:
        with OPERATION.of(monotonic() + access.settings.budget):
            return operation(access, *arguments, **options)

    return ending
