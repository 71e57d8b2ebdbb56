"""Forks: objects with a lock, or with the state of one process, begin anew in a forked child.

Only the thread that forks lives on in a child. A lock that another thread held there stays locked for ever, and the
work of that thread is never done.
"""

from __future__ import annotations

import os
import threading
import weakref


class Forking:
    """Something that a fork concerns, once it was given to ``watch``."""

    def before_fork(self) -> None:
        """Bring it into a state that a child can begin with, and keep other threads from changing that."""

    def after_fork(self) -> None:
        """Let the parent's other threads go on."""

    def in_child(self) -> None:
        """Begin anew. Only this thread is there."""


_watched: weakref.WeakSet[Forking] = weakref.WeakSet()
_adding = threading.Lock()
_one_forks = threading.Lock()
"""Threads that fork at the same time do so one after the other. Each lets go exactly what it has stopped."""
_stopped: list[Forking] = []


def watch(forking: Forking) -> None:
    """Tell *forking* of every fork, for as long as it lives."""
    with _adding:
        _watched.add(forking)


def _before() -> None:
    _one_forks.acquire()
    with _adding:
        watched = list(_watched)
    for forking in watched:
        forking.before_fork()
        _stopped.append(forking)


def _after() -> None:
    while _stopped:
        _stopped.pop().after_fork()
    _one_forks.release()


def _in_child() -> None:
    global _adding, _one_forks
    _adding, _one_forks = threading.Lock(), threading.Lock()
    _stopped.clear()
    for forking in list(_watched):
        forking.in_child()


if hasattr(os, "register_at_fork"):  # where processes can fork
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_in_child)
