"""Access: settings, store and owner of one call, resolved once at the door and handed to every operation.

Each write of an operation goes through ``Access.apply`` or ``Access.begin``, so that whatever the unit of work has loaded of
the session is brought up to date.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from ..config import Settings
from ..domain.commands import BeginTurn, Command, Write
from ..domain.results import Begun, Receipt, Snapshot
from ..domain.types import Lifetime, Owner, Scope
from ..domain.validation import check_lifetime, check_name
from ..errors import ConvstoreError, StoreUnavailable, TooManyTurns
from ..sessions.content import ContentLimits
from ..stores.store import Store


class UnitOfWork(Protocol):
    """The part of the running unit of work that operations use."""

    def refresh(self, store: Store, command: Write, receipt: Receipt) -> None:
        """Bring loaded values up to date with a write that an operation has made."""
        ...

    def flush(self) -> None:
        """Write the changes of loaded values."""
        ...


class NothingLoaded:
    """The unit of work of an operation that runs outside of any mapping."""

    def refresh(self, store: Store, command: Write, receipt: Receipt) -> None:
        """Do nothing, since nothing is loaded."""

    def flush(self) -> None:
        """Do nothing, since nothing is loaded."""


@dataclass(frozen=True)
class Backend:
    """The settings and the store of one namespace in one application.

    Attributes:
        server: Name of the server, without a password.
        unit_of_work: The loaded values, which each write brings up to date.
    """

    settings: Settings
    store: Store
    server: str = ""
    unit_of_work: UnitOfWork = field(default_factory=NothingLoaded)

    @cached_property
    def origin(self) -> str:
        """Name of server and namespace. A session that was loaded from another one is saved as a plain value."""
        return f"{self.server} {self.settings.prefix}"

    @cached_property
    def limits(self) -> ContentLimits:
        """The limits of content, and the key of the history."""
        settings = self.settings
        return ContentLimits(
            settings.history_key, settings.max_message_bytes, settings.max_data_bytes, settings.max_metadata_depth
        )


class Access:
    """One caller's access to one store.

    Attributes:
        backend: The settings and the store of the namespace.
        owner: The name of the caller, None for nobody, ``ANY`` for the server.
        settings, store, limits: As the backend has them.
    """

    __slots__ = ("backend", "limits", "owner", "settings", "store")

    def __init__(self, backend: Backend, owner: Owner) -> None:
        if owner is not None and not isinstance(owner, Scope):
            check_name(owner, "owner")
        self.backend = backend
        self.owner = owner
        self.settings = backend.settings
        self.store = backend.store
        self.limits = backend.limits

    def of(self, owner: Owner) -> Access:
        """Give access to the same store for another *owner*."""
        return Access(self.backend, owner)

    def apply(self, command: Command) -> Receipt:
        """Apply one write. Raises as ``Store.apply``."""
        receipt = self.store.apply(command)
        self.tell(command, receipt)
        return receipt

    def tell(self, command: Command, receipt: Receipt) -> None:
        """Bring loaded values up to date with an acknowledged write."""
        if isinstance(command, Write):
            self.backend.unit_of_work.refresh(self.store, command, receipt)

    def begin(self, command: BeginTurn) -> Begun:
        """Begin a turn. Raises as ``Store.begin``."""
        begun = self.store.begin(command)
        self.backend.unit_of_work.refresh(self.store, command, begun.receipt)
        return begun

    def load(self, session_id: str, last: int | None = None, *, is_interaction: bool = True) -> Snapshot | None:
        """Read a session with its *last* messages, or all. None if this owner has no such session."""
        return self.store.load(session_id, self.owner, last, is_interaction=is_interaction)

    def load_many(
        self, session_ids: Sequence[str], *, is_interaction: bool = True
    ) -> list[Snapshot | ConvstoreError | None]:
        """Read several sessions. A session that cannot be read is an error in the list."""
        return self.store.load_many(session_ids, self.owner, is_interaction=is_interaction)

    def flush(self) -> None:
        """Write the changes of the unit of work."""
        self.backend.unit_of_work.flush()

    def count_turn(self) -> None:
        """Count a turn that begins. Turns are not counted while the store is away.

        Raises:
            TooManyTurns: The owner has begun as many turns in this minute as the settings allow. Nothing was written.
        """
        most = self.settings.max_turns_per_minute
        if not most or not isinstance(self.owner, str):
            return
        with contextlib.suppress(StoreUnavailable):
            wait_ms = self.store.spend(self.owner, most)
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
