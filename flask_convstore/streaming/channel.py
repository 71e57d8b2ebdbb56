"""A stream as this process knows it: all its parts so far. Those who follow it have a position in it, and no queue."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..domain.commands import ReplyPosition
from ..domain.parts import is_end
from ..domain.results import StoredPart
from ..domain.types import ANY
from .followed import Followed

_AT_ONCE = 1000
"""Parts that are read in one round trip."""


class Channel(Followed):
    """The stream of one reply, shared by all who follow it in this process.

    Attributes:
        session_id, reply: The session, and the id of the reply.
        epoch: The number of the attempt that made the parts (0: there are none yet).
        parts: The parts from the first one on. They are added to, and never changed but with the generation.
        generation: It rises where parts are another attempt's than before, so that followers begin anew.
        is_local: No store keeps the stream. It can be followed in this process only.
        recover: Ends the stream for a producer that has died.
        answered: The number of the last question to the store that was answered wholly.
    """

    def __init__(self, session_id: str, reply: str, recover: Callable[[], None] | None = None) -> None:
        super().__init__(("session", session_id), ("reply", session_id, reply))
        self.session_id = session_id
        self.reply = reply
        self.epoch = 0
        self.parts: list[StoredPart] = []
        self.generation = 0
        self.is_local = False
        self.was_orphaned = False
        self.recover = recover
        self.answered = 0
        self._in_store = 0

    @property
    def is_over(self) -> bool:
        return self.failure is not None or bool(self.parts and is_end(self.parts[-1].text))

    @property
    def position(self) -> ReplyPosition:
        """The place from which to read on."""
        after = (self._in_store, self.epoch) if self._in_store else None
        return ReplyPosition(self.session_id, ANY, self.reply, after, _AT_ONCE)

    def extend(self, epoch: int, parts: Sequence[StoredPart], *, restarts: bool = False, is_all: bool = True) -> None:
        """Add parts that have come. Those that are known are left out. They wake all who follow.

        Args:
            is_all: The stream has no more of them at the moment.
        """
        with self._changed:
            if epoch and epoch != self.epoch:
                self._begin_anew(epoch)
            elif restarts:
                self._in_store = 0
            for part in parts:
                self._add(part)
            self.is_loaded = self.is_loaded or is_all
            self.answered = self.asked if is_all else self.answered
            self._changed.notify_all()

    def _begin_anew(self, epoch: int) -> None:
        self.generation += 1 if self.epoch else 0
        self.epoch, self.parts, self._in_store, self.failure = epoch, [], 0, None

    def _add(self, part: StoredPart) -> None:
        known = len(self.parts)
        if part.number <= known and self.parts[part.number - 1].text != part.text:
            # The server had lost the parts from here on, and another one has ended the stream.
            self.parts = self.parts[: part.number - 1]
            self.generation += 1
            known = len(self.parts)
        if part.number == known + 1:
            self.parts.append(part)
        self._in_store = max(self._in_store, part.number)

    def has(self, position: tuple[int, int]) -> bool:
        """Tell whether the part of this number and epoch is known."""
        number, epoch = position
        return epoch == self.epoch and number <= len(self.parts)

    def wait_for(self, position: tuple[int, int], asked: int, seconds: float) -> bool:
        """Wait until a position is known, or the store was asked more often than *asked*. True if the position is known."""
        self._wait_for(lambda: self.has(position) or self.answered > asked or self.is_over, seconds)
        return self.has(position)

    def wait_begun(self, epoch: int, seconds: float) -> None:
        """Wait, *seconds* at most, until there are parts of an attempt."""
        self._wait_for(lambda: self.epoch == epoch or self.failure is not None, seconds)

    def wait_behind(self, generation: int, number: int, seconds: float) -> bool:
        """Wait, *seconds* at most, until there is more than *number* parts, or no more will come. True if so."""

        def is_news() -> bool:
            return self.generation != generation or len(self.parts) > number or self.is_over

        return self._wait_for(is_news, seconds)
