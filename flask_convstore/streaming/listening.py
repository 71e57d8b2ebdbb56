"""The thread of a process that hears of all streams which are followed there, and reads what is new in one round trip.

One subscribed connection is the bell. Each stream is also looked at now and then, in case a bell was lost. Blocking reads
of many streams would not do: they cannot gain a stream while they wait, and cross slots in a Cluster. docs/streaming.md has
the figures.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ..domain.clock import monotonic
from ..domain.results import Heard, ReplyParts, Ring, Summary
from ..errors import ConvstoreError, StoreError, StoreMisconfigured, StoreUnavailable, TurnLost
from ..stores.store import Bell, Store
from .channel import Channel
from .feeds import WATCHED_MS, ListFeed, SessionFeed
from .followed import Followed

_log = logging.getLogger("flask_convstore")

_LISTED = 100
"""Sessions at the head of an owner's list that are watched."""

_SECOND_LOOK = 0.5
"""Seconds after which a stream is looked at again whose producer seems to have died."""

_SLICE = 0.05
"""Longest wait for a bell. A stream that is followed from now on is listened to after it."""

_IDLE = 1.0
"""Longest wait while all that is followed is made here, or has ended."""

_CATCHING_UP = 2.0
"""Longest wait for a part that a reader has from another process."""

_PAUSE = 0.25
"""Seconds until the store is asked again, if it did not answer."""

_DEAF_LOOKS_EVERY = 1.0
"""Seconds between two looks while no bell can be heard."""

_FORBIDDEN_PAUSE = 60.0
"""Seconds until a bell is tried again that the server does not let us hear."""


_F = TypeVar("_F", bound=Followed)


Tell = Callable[[int, int], None]
"""Function that is told how many streams are made in this process, and how many readers follow anything."""


class Listening:
    """All that is followed in one process, in one store. A thread runs while there is anything.

    Args:
        tell: Told whenever somebody comes or goes. None: nobody wants to know.
    """

    def __init__(self, store: Store, tell: Tell | None = None) -> None:
        self.pid = os.getpid()
        self._tell = tell
        self._store: Store = weakref.proxy(store)  # else the registry would keep it for ever
        self._lock = threading.Lock()
        self._followed: dict[tuple[str, ...], Followed] = {}
        self._new = threading.Event()
        self._thread: threading.Thread | None = None
        self._deaf_until = 0.0
        self._has_told = False

    @contextlib.contextmanager
    def following(self, followed: _F) -> Iterator[_F]:
        """Follow *followed*, or the same that others follow already."""
        found = self.join(followed)
        try:
            yield found
        finally:
            self.leave(found)

    def open(self, channel: Channel) -> None:
        """Follow a stream that is made here. One of the same name is another attempt's, or that of a session before."""
        channel.is_fed_here = True
        with self._lock:
            before = self._followed.pop(channel.key, None)
        if before and not before.is_over:
            before.fail(TurnLost(channel.session_id))
        self.join(channel)

    def join(self, followed: _F) -> _F:
        """Count one more who follows *followed*. Return what all share."""
        with self._lock:
            found = self._followed.setdefault(followed.key, followed)
            if found.is_over and (followed.is_fed_here or not found.followers):  # another attempt begins
                found = self._followed[followed.key] = followed
            found.followers += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="convstore-streams", daemon=True)
                self._thread.start()
            self._count()
        self._new.set()
        return found  # type: ignore[return-value]  # a key belongs to one class

    def leave(self, followed: Followed) -> None:
        """Count one fewer."""
        with self._lock:
            followed.followers -= 1
            if not followed.followers and self._followed.get(followed.key) is followed:
                del self._followed[followed.key]
            self._count()

    def _count(self) -> None:
        """Tell how much is followed. The lock must be held."""
        if self._tell:
            streams = sum(one.is_fed_here for one in self._followed.values())
            self._tell(streams, sum(one.followers for one in self._followed.values()) - streams)

    def look_at(self, session_id: str, reply: str) -> None:
        """Look at the stream of a reply at once, also if it was fed here until now."""
        with self._lock:
            channel = self._followed.get(("reply", session_id, reply))
            if channel:
                channel.is_fed_here = False
                channel.looked_at = 0.0
        self._new.set()

    def knows(self, channel: Channel, position: tuple[int, int]) -> bool:
        """Tell whether a stream has a position. Another process may have shown a part that is not known here yet."""
        asked = channel.asked
        if not channel.has(position) and not channel.is_over:
            channel.looked_at = 0.0
            self._new.set()
        return channel.wait_for(position, asked, _CATCHING_UP)

    def _run(self) -> None:
        bell = self._store.bell()
        while followed := self._all():
            try:
                self._hear(bell, followed)
            except Exception:
                _log.exception("the thread that follows streams has failed, and goes on")
                time.sleep(_PAUSE)
        bell.close()

    def _all(self) -> list[Followed]:
        """List all that is followed. Where there is nothing, the thread ends."""
        with self._lock:
            if not self._followed:
                self._thread = None
            return list(self._followed.values())

    def _hear(self, bell: Bell, followed: list[Followed]) -> None:
        """Wait for the bell, and read on wherever it has rung, or is to be looked at."""
        open_ones = [one for one in followed if not one.is_fed_here and not one.is_over]
        rung = self._rung(bell, open_ones)
        now = monotonic()
        due = [one for one in open_ones if self._is_due(one, rung.get(one.source, []), now)]
        for kind, read in (
            (Channel, self._read_streams),
            (SessionFeed, self._read_sessions),
            (ListFeed, self._read_lists),
        ):
            of_kind: list[Any] = [one for one in due if isinstance(one, kind)]
            if of_kind:
                self._read(read, of_kind, now)

    def _is_due(self, one: Followed, rings: list[Ring], now: float) -> bool:
        is_deaf = now < self._deaf_until
        return one.is_due(rings, now) or (is_deaf and now - one.looked_at >= _DEAF_LOOKS_EVERY)

    def _rung(self, bell: Bell, followed: list[Followed]) -> dict[Heard, list[Ring]]:
        """Wait until the bell has rung, unless something is to be looked at for the first time."""
        is_new = any(not one.looked_at for one in followed)
        rung: dict[Heard, list[Ring]] = {}
        bell.listen({one.source for one in followed})
        for ring in self._heard(bell, 0 if is_new or not followed else _SLICE):
            rung.setdefault(ring.source, []).append(ring)
        if not followed:
            self._new.wait(_IDLE)
        self._new.clear()
        return rung

    def _heard(self, bell: Bell, seconds: float) -> list[Ring]:
        """Wait for the bell. One that is lost, or that this user may not hear, is tried again after a while."""
        if monotonic() >= self._deaf_until:
            try:
                return bell.wait(seconds)
            except StoreMisconfigured as error:
                self._tell_once(error)
                self._deaf_until = monotonic() + _FORBIDDEN_PAUSE
            except ConvstoreError as error:
                self._deaf_until = monotonic() + _PAUSE
                _log.debug("the bell is lost: %s", error)
        self._new.wait(seconds)
        return []

    def _tell_once(self, error: StoreMisconfigured) -> None:
        if not self._has_told:
            self._has_told = True
            _log.warning(
                "what other processes do is seen here within a second only, since the server does not let this user listen. "
                "docs/security.md has the rights that a user needs: %s",
                error,
            )

    def _read(self, read: Callable[[list[Any], float], None], due: list[Any], now: float) -> None:
        for one in due:
            one.looked_at = now
            one.asked += 1
        try:
            read(due, now)
        except StoreMisconfigured as error:
            for one in due:
                one.fail(error)
        except StoreError as error:
            _log.debug("what is followed could not be read, it is tried again: %s", error)
            for one in due:
                one.looked_at = now - one.looks_every + _PAUSE

    def _read_streams(self, channels: list[Channel], now: float) -> None:
        pages = self._store.reply_parts([channel.position for channel in channels])
        for channel, page in zip(channels, pages, strict=True):
            self._take(channel, page, now)

    def _read_sessions(self, feeds: list[SessionFeed], now: float) -> None:
        pages = self._store.session_events([feed.position for feed in feeds])
        for feed, page in zip(feeds, pages, strict=True):
            if isinstance(page, StoreUnavailable):
                _log.debug("a log could not be read, it is tried again: %s", page)
            elif isinstance(page, ConvstoreError):
                feed.fail(page)
            else:
                feed.extend(page)

    def _read_lists(self, feeds: list[ListFeed], now: float) -> None:
        for feed in feeds:
            listed = self._listed(feed)
            self._store.watch_list(feed.owner, [summary.session_id for summary in listed], WATCHED_MS)
            feed.compare(listed if feed.has_all(listed) else self._listed(feed))

    def _listed(self, feed: ListFeed) -> list[Summary]:
        return self._store.page(feed.owner, None, _LISTED, newest_first=True, order="updated").sessions

    def _take(self, channel: Channel, page: ReplyParts | ConvstoreError, now: float) -> None:
        if isinstance(page, StoreUnavailable):
            _log.debug("a stream could not be read, it is tried again: %s", page)
        elif isinstance(page, ConvstoreError):
            channel.fail(page)
        else:
            is_all = len(page.parts) < channel.position.limit
            channel.extend(page.epoch, page.parts, restarts=page.restarts, is_all=is_all)
            if not is_all:
                channel.looked_at = 0.0
            elif not channel.is_over:
                self._mind(channel, page.remaining_ms, now)

    def _mind(self, channel: Channel, remaining_ms: int | None, now: float) -> None:
        """End a stream whose producer has died. It is given another look, since a server may have stood still."""
        if remaining_ms is None:
            channel.fail(TurnLost(channel.session_id))
            return
        until_end = max(_SECOND_LOOK, remaining_ms / 1000)
        channel.looked_at = min(now, now - channel.looks_every + until_end)
        was_orphaned, channel.was_orphaned = channel.was_orphaned, remaining_ms <= 0
        if was_orphaned and channel.was_orphaned and channel.recover:
            threading.Thread(target=_recover, args=(channel,), name="convstore-recovery", daemon=True).start()


def _recover(channel: Channel) -> None:
    try:
        assert channel.recover
        channel.recover()
    except ConvstoreError as error:
        _log.warning("a reply whose producer has died could not be ended, it is tried again: %s", error)


_listening: weakref.WeakKeyDictionary[Store, Listening] = weakref.WeakKeyDictionary()
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):  # where processes can fork
    os.register_at_fork(after_in_child=lambda: globals().update(_lock=threading.RLock()))


_watched: weakref.WeakKeyDictionary[Store, Tell] = weakref.WeakKeyDictionary()


def tell_of_followers(store: Store, tell: Tell) -> None:
    """Tell from now on how much is followed in *store* in this process."""
    _watched[store] = tell


def listening(store: Store) -> Listening:
    """Find or make what this process follows in *store*. A forked process begins with nothing."""
    with _lock:
        found = _listening.get(store)
        if found is None or found.pid != os.getpid():
            found = _listening[store] = Listening(store, _watched.get(store))
        return found
