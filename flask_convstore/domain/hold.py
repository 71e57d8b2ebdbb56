"""A lock whose holder may be cut short.

An exception from elsewhere, such as a signal's, can come where no code clears up behind it, even in a ``finally`` or
between two steps of a ``with``. Nobody would give the lock back then. So the lock knows the function that has it. Whoever
wants the lock and sees that this function has ended takes it over.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from types import FrameType

from .clock import monotonic

_LOOK = 0.2
"""Seconds between two looks at a holder."""

_NAMELESS = 0.5
"""Seconds after which a lock without a name on it was left. One that takes it writes its name at once."""


_MAY_BE_SUSPENDED = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR
"""Flags of code whose frames may stand still, and whose own state would be lost where they are asked."""


class User:
    """One use of a lock: the thread, and the function in it that has the lock until it gives it back or ends.

    Args:
        frame: The function's frame. None: it has the lock until it gives it back.
    """

    def __init__(self, frame: FrameType | None) -> None:
        self.thread = threading.get_ident()
        self.frame = frame

    def has_ended(self) -> bool:
        """Tell whether the function does not run any more, in no thread and no greenlet.

        Only the frame itself is asked. The frames of a thread that runs must not be walked through: it may go on meanwhile,
        and Python 3.11 then reads what is no frame any more.
        """
        if self.frame is None:
            return False
        try:
            self.frame.clear()  # the local variables of one that has ended are nobody's
        except RuntimeError:
            return False
        return True


class Hold:
    """A lock. It is not reentrant, but tells its holder that it has it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deciding = threading.Lock()
        self._user: User | None = None

    def is_mine(self) -> bool:
        """Tell whether a function that called this one has the lock, in this thread."""
        user = self._user
        if user is None or user.thread != threading.get_ident():
            return False
        return user.frame is None or _is_below(sys._getframe(1), user.frame)

    def take(self, user: User, deadline: float) -> bool:
        """Take the lock. False if that cannot be done until *deadline*, by ``monotonic``."""
        pause = nameless = 0.0
        while True:
            if self._lock.acquire(timeout=pause):
                self._user = user
                return True
            seen = self._user
            nameless = 0.0 if seen else nameless + pause
            is_left = seen.has_ended() if seen else nameless > _NAMELESS
            if is_left and self._take_over(seen, user):
                return True
            left = deadline - monotonic()
            if left <= 0:
                return False
            pause = min(_LOOK, left)

    def _take_over(self, seen: User | None, user: User) -> bool:
        """Let *user* have the lock of *seen*, which has ended (None: before it wrote its name)."""
        with self._deciding:
            if self._user is not seen or not self._lock.locked():
                return False
            self._user = user
            return True

    def give_back(self, user: User) -> None:
        """Give the lock back, unless *user* does not have it, or not any more."""
        if self._user is user:
            self._user = None
            with contextlib.suppress(RuntimeError):
                self._lock.release()


def here() -> User:
    """The use of a lock by the function that called, past the generators of ``contextlib``."""
    frame: FrameType | None = sys._getframe(1)
    while frame and (frame.f_code.co_flags & _MAY_BE_SUSPENDED or frame.f_code.co_filename == contextlib.__file__):
        frame = frame.f_back
    return User(frame)


def _is_below(running: FrameType | None, frame: FrameType) -> bool:
    """Tell whether *frame* is *running*, a frame of this thread, or called it."""
    while running is not None:
        if running is frame:
            return True
        running = running.f_back
    return False
