"""Times that tests can rely on, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class Clock:
    """A time in milliseconds that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now


def server_time(client: Any) -> int:
    """The time of a server in milliseconds."""
    seconds, microseconds = client.time()
    return int(seconds * 1000 + microseconds // 1000)


class Moment:
    """The time that a block took, in milliseconds, by the clock that its store goes by.

    A lifetime that was moved in the block ends *ttl* milliseconds after some time in it: ``end - ttl in moment``.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock

    def __enter__(self) -> Moment:
        self.began = self._clock()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = self._clock()

    def __contains__(self, at_ms: int) -> bool:
        return self.began <= at_ms <= self.ended

    def __repr__(self) -> str:
        return f"Moment from {self.began} to {self.ended}"

    @property
    def length(self) -> int:
        return self.ended - self.began


def least_seconds(call: Callable[[], object], tries: int = 3) -> float:
    """The seconds of the quickest call: a busy machine holds up one or another, a budget that is not kept all of them."""
    taken = []
    for _ in range(tries):
        started = time.monotonic()
        call()
        taken.append(time.monotonic() - started)
    return min(taken)
