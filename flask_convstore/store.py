"""What every store does, in the domain's words.

A store keeps sessions as text it never looks into. The readable reference is ``MemoryStore``; every other store answers
as it does, and a store may stand around another one (measuring, a circuit, a journal).
"""

from __future__ import annotations

from typing import Protocol

from .models import BeginTurn, Begun, Command, Owner, Receipt, Snapshot


class Store(Protocol):
    """Sessions of one application. Safe to use from several threads."""

    def apply(self, command: Command) -> Receipt:
        """Do one write, all or nothing, and once: a known token changes nothing and gets the first receipt.

        Raises:
            SessionNotFound: None for this owner; only a replacing ``Save`` creates one.
            ConflictError: What the command relies on has changed; nothing was written.
            TokenReused: The token came before with another digest; nothing was written.
            TooLarge: A limit would be passed; nothing was written.
            TurnLost: The turn to commit or to renew has been taken over; nothing was written.
            CorruptValue: The stored session is not whole; nothing was written.
            StoreUnavailable: No answer in time; the command may be applied again as it is.
        """
        ...

    def begin(self, command: BeginTurn) -> Begun:
        """Add a message, take the turn, and read the session, all at one moment and once.

        Raises:
            TurnInProgress: Somebody has the turn; nothing was written.
            TurnLost: The token is known, its turn was not ended, and others have written since.
            SessionNotFound, ConflictError, TokenReused, TooLarge, CorruptValue, StoreUnavailable: As ``apply``.
        """
        ...

    def load(self, session_id: str, owner: Owner, last: int | None = None) -> Snapshot | None:
        """The session with its *last* messages (None: all), read at one moment; None if there is none for this owner.

        Moves the lifetime.
        """
        ...

    def turn_remaining_ms(self, session_id: str, owner: Owner) -> int:
        """How long the turn in progress is leased from now; 0 or less if there is none.

        Raises:
            SessionNotFound: None for this owner.
        """
        ...

    def ping(self) -> float:
        """How many milliseconds an answer takes; StoreUnavailable if none comes."""
        ...

    def close(self) -> None:
        """Give up connections. The store may be used again and opens new ones."""
        ...
