"""The thread of a process that hears of all streams which are followed there, and reads what is new in one round trip.

One subscribed connection is the bell. Each stream is also looked at now and then, in case a bell was lost. FACTS: blocking
reads of many streams cannot gain a stream while they wait, and cross slots in a Cluster. docs/streaming.md has the figures.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from weakref import WeakKeyDictionary

from ..domain.clock import monotonic
from ..domain.results import ReplyParts
from ..errors import ConvstoreError, SessionNotFound, StoreError, TurnLost
from ..stores.store import Bell, Store
from .channel import Channel

_log = logging.getLogger("flask_convstore")

_LOOKS_EVERY = 1.0
"""Seconds between two looks at a stream for which no bell has rung."""

_SLICE = 0.05
"""Longest wait for a bell. A stream that is followed from now on is listened to after it."""

_PAUSE = 0.25
"""Seconds until the store is asked again, if it did not answer."""


class Listening:
    """The streams that are followed in one process, in one store. A thread runs while there are any."""

    def __init__(self, store: Store) -> None:
        self.pid = os.getpid()
        self._store = store
        self._lock = threading.Lock()
        self._channels: dict[tuple[str, str], Channel] = {}
        self._new = threading.Event()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def following(self, channel: Channel) -> Iterator[Channel]:
        """Follow the stream of *channel*, or the channel of that stream that is followed already."""
        found = self.join(channel)
        try:
            yield found
        finally:
            self.leave(found)

    def join(self, channel: Channel) -> Channel:
        """Count one more who follows the stream of *channel*. Return the channel that all share."""
        key = channel.session_id, channel.reply
        with self._lock:
            found = self._channels.setdefault(key, channel)
            if found.is_over and not found.followers:
                found = self._channels[key] = channel
            found.followers += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="convstore-streams", daemon=True)
                self._thread.start()
        self._new.set()
        return found

    def leave(self, channel: Channel) -> None:
        """Count one fewer."""
        key = channel.session_id, channel.reply
        with self._lock:
            channel.followers -= 1
            if not channel.followers and self._channels.get(key) is channel:
                del self._channels[key]

    def look_at(self, session_id: str) -> None:
        """Look at the streams of a session at once, also at those that were fed here until now."""
        with self._lock:
            for channel in self._channels.values():
                if channel.session_id == session_id:
                    channel.is_fed_here = False
                    channel.looked_at = 0.0
        self._new.set()

    def _run(self) -> None:
        bell = self._store.bell()
        try:
            while channels := self._followed():
                self._hear(bell, channels)
        except BaseException:
            with self._lock:
                self._thread = None
            raise
        finally:
            bell.close()

    def _followed(self) -> list[Channel]:
        """List the channels. Where there are none, the thread ends."""
        with self._lock:
            if not self._channels:
                self._thread = None
            return list(self._channels.values())

    def _hear(self, bell: Bell, channels: list[Channel]) -> None:
        """Wait for the bell, and read on in all streams for which it has rung, or which are to be looked at."""
        bell.listen({channel.session_id for channel in channels})
        try:
            is_new = any(not channel.looked_at for channel in channels)
            rung = bell.wait(0 if is_new else _SLICE)
        except ConvstoreError as error:
            _log.debug("the bell is lost: %s", error)
            rung = set()
            self._new.wait(_SLICE)
        self._new.clear()
        now = monotonic()
        due = [
            channel for channel in channels if not channel.is_over and _is_due(channel, channel.session_id in rung, now)
        ]
        if due:
            self._read(due, now)

    def _read(self, channels: list[Channel], now: float) -> None:
        for channel in channels:
            channel.looked_at = now
        try:
            pages = self._store.reply_parts([channel.position for channel in channels])
        except StoreError as error:
            _log.debug("streams could not be read, they are tried again: %s", error)
            for channel in channels:
                channel.looked_at = now - _LOOKS_EVERY + _PAUSE
            return
        for channel, page in zip(channels, pages, strict=True):
            self._take(channel, page, now)

    def _take(self, channel: Channel, page: ReplyParts | ConvstoreError, now: float) -> None:
        if isinstance(page, SessionNotFound):
            channel.fail(page)
        elif isinstance(page, ConvstoreError):
            _log.debug("a stream could not be read, it is tried again: %s", page)
        else:
            channel.extend(page.epoch, page.parts, restarts=page.restarts)
            if len(page.parts) >= channel.position.limit:
                channel.looked_at = 0.0  # there is more
            elif not channel.is_over:
                self._mind(channel, page.remaining_ms)

    def _mind(self, channel: Channel, remaining_ms: int | None) -> None:
        """End a stream whose producer has died. It is given another look, since a server may have stood still."""
        if remaining_ms is None:
            channel.fail(TurnLost(channel.session_id))
            return
        was_orphaned, channel.was_orphaned = channel.was_orphaned, remaining_ms <= 0
        if was_orphaned and channel.was_orphaned and channel.recover:
            threading.Thread(target=_recover, args=(channel,), name="convstore-recovery", daemon=True).start()


def _is_due(channel: Channel, has_rung: bool, now: float) -> bool:
    if channel.is_fed_here:
        return False
    return has_rung or now - channel.looked_at >= _LOOKS_EVERY


def _recover(channel: Channel) -> None:
    try:
        assert channel.recover
        channel.recover()
    except ConvstoreError as error:
        _log.warning("a reply whose producer has died could not be ended, it is tried again: %s", error)


_listening: WeakKeyDictionary[Store, Listening] = WeakKeyDictionary()
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):  # where processes can fork
    os.register_at_fork(after_in_child=lambda: globals().update(_lock=threading.RLock()))


def listening(store: Store) -> Listening:
    """Find or make what this process follows in *store*. A forked process begins with nothing."""
    with _lock:
        found = _listening.get(store)
        if found is None or found.pid != os.getpid():
            found = _listening[store] = Listening(store)
        return found
