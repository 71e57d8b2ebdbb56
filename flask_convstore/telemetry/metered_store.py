"""A store around a store that times every call, and lets others observe it. It stands around all others."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..domain.clock import monotonic
from ..domain.commands import Merge, Put
from ..domain.operation_names import command_name, operation_of
from ..domain.results import Receipt
from ..domain.trips import TRIPS
from ..stores.store import Store, StoreAround
from .updates import UPDATES

_T = TypeVar("_T")

_LISTS = frozenset({"apply_each", "renew_turn", "feed_reply", "load_many", "reply_parts", "session_events"})
"""Calls that answer for each of several."""


class Observer(abc.ABC):
    """Something that is told of every call, behind it."""

    def note(self, kind: str, asked: Any, given: Any, seconds: float, trips: int) -> None:
        """Note the answer to a call, or its error, with its time and its round trips."""
        self.called(kind, given, seconds, trips)
        if kind not in _LISTS or not isinstance(asked, (list, tuple)):
            self._note_one(kind, asked, given)
            return
        answers = given if isinstance(given, list) else [given] * len(asked)
        for one, answer in zip(asked, answers, strict=False):
            self._note_one(command_name(one, kind), one, answer)

    def _note_one(self, kind: str, command: object, given: Any) -> None:
        if isinstance(given, BaseException):
            self.failed(kind, command, given)
        else:
            self.answered(kind, command, given)

    @abc.abstractmethod
    def called(self, kind: str, given: Any, seconds: float, trips: int) -> None:
        """Note a call as a whole. A batch is one call."""

    @abc.abstractmethod
    def answered(self, kind: str, command: object, given: Any) -> None:
        """Note the answer to a command, or to a read."""

    @abc.abstractmethod
    def failed(self, kind: str, command: object, error: BaseException) -> None:
        """Note the error of a command, or of a read."""


def starts(command: object, receipt: Receipt) -> bool:
    """Tell whether a command has created a session. The receipt is no repeat."""
    return isinstance(command, (Put, Merge)) and receipt.version == 1


class MeteredStore(StoreAround):
    """A ``Store``. See there for its methods.

    Args:
        clock: Seconds since any point in time.
    """

    def __init__(self, store: Store, observers: Sequence[Observer], clock: Callable[[], float] = monotonic) -> None:
        super().__init__(store)
        self._observers = observers
        self._clock = clock

    def _call(self, method: Callable[..., _T], *arguments: Any, **options: Any) -> _T:
        trips, began = TRIPS.count, self._clock()
        try:
            given = method(*arguments, **options)
        except BaseException as error:
            self._tell(method, arguments, error, self._clock() - began, TRIPS.count - trips)
            raise
        self._tell(method, arguments, given, self._clock() - began, TRIPS.count - trips)
        return given

    def _tell(
        self, method: Callable[..., Any], arguments: tuple[Any, ...], given: Any, seconds: float, trips: int
    ) -> None:
        kind, asked = operation_of(method, arguments), arguments[0] if arguments else None
        for observer in self._observers:
            UPDATES.do(observer.note, kind, asked, given, seconds, trips)
