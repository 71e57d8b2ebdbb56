"""The tally: sums of what is observed of the calls to a store, by the minute, until somebody takes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from ..domain.clock import now_ms
from ..domain.commands import CommitTurn, Delete, MoveConversation
from ..domain.figures import bucket_of, minute_of, second_of
from ..domain.operation_names import OF_THREADS, end_of, is_failure
from ..domain.results import Begun, Receipt
from ..errors import StoreUnavailable, TooSlow, TurnLost
from ..stores.figures import Portion
from .metered_store import Observer, starts
from .updates import UPDATES

_MOST_MINUTES = 60
"""Minutes that wait while the server is away. Of older ones the sums are kept in the totals only."""

_FAILED_ENDS = ("failed", "interrupted", "lost")


class Tally(Observer):
    """The sums of one store in one process. Whoever observes goes through ``UPDATES``, and so does whoever takes.

    Args:
        tell: Called when there is something to take.
    """

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget the sums, in a forked process."""
        self._minutes: dict[int, Counter[str]] = {}
        self._totals: Counter[str] = Counter()
        self._first_ms: int | None = None

    @property
    def is_empty(self) -> bool:
        """There is nothing to take."""
        return not self._minutes

    def take(self, process: str, number: int) -> Portion | None:
        """Take the sums as a portion of this *process*. None: there is nothing to take."""
        taken: list[Portion] = []
        UPDATES.do(lambda: taken.append(self._taken(process, number)))
        return taken[0] if taken[0].minutes else None

    def _taken(self, process: str, number: int) -> Portion:
        portion = Portion(process, number, self._minutes, self._totals, self._first_ms)
        self.begin_anew()
        return portion

    # ---- observed

    def called(self, kind: str, given: Any, seconds: float, trips: int) -> None:
        if kind in OF_THREADS:
            return
        self._count(bucket_of(seconds))
        errors = [one for one in (given if isinstance(given, list) else [given]) if isinstance(one, BaseException)]
        if any(map(is_failure, errors)):
            self._count("failed")
        if any(isinstance(error, StoreUnavailable) and not isinstance(error, TooSlow) for error in errors):
            self._count(second_of(now_ms()))

    def answered(self, kind: str, command: object, given: Any) -> None:
        receipt = given.receipt if isinstance(given, Begun) else given
        if getattr(receipt, "fallback", None):
            self._count(second_of(now_ms()))
        if isinstance(receipt, Receipt) and not receipt.repeated:
            self._wrote(command, receipt)

    def failed(self, kind: str, command: object, error: BaseException) -> None:
        if isinstance(error, TurnLost) and isinstance(command, _ENDS):
            self._ended("lost")

    def _wrote(self, command: object, receipt: Receipt) -> None:
        if starts(command, receipt):
            self._count_for_all("started")
            if not receipt.fallback:  # which has a clock of its own
                self._first_ms = min(receipt.created_at_ms, self._first_ms or receipt.created_at_ms)
        elif isinstance(command, Delete):
            self._count_for_all("deleted")
        elif isinstance(command, _ENDS):
            self._ended(end_of(command))

    def _ended(self, end: str) -> None:
        self._count("turns")
        if end in _FAILED_ENDS:
            self._count("failed_turns")

    def _count_for_all(self, name: str) -> None:
        self._totals[name] += 1
        self._count(name)

    def _count(self, name: str) -> None:
        minute = minute_of(now_ms())
        if minute not in self._minutes:
            self._minutes[minute] = Counter()
            while len(self._minutes) > _MOST_MINUTES:
                del self._minutes[min(self._minutes)]
        self._minutes[minute][name] += 1
        self._tell()


_ENDS = (CommitTurn, MoveConversation)
