"""The thread of a process that feeds the streams of all replies which are produced there.

A producer puts chunks into its ``Feed`` and is never held up. The thread sends the first chunk at once, and then what has
come within 50 ms or 1 KB, for all producers in one round trip. It also keeps their turns, and gives up those whose model
is silent or takes too long.

A stream that the store cannot take is local: those who follow it in this process get it, and nobody else.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..domain.clock import monotonic
from ..domain.commands import FeedReply
from ..domain.parts import encoded
from ..domain.results import StoredPart
from ..domain.types import Owner
from ..errors import ConvstoreError, ReplyFailed, ReplyStalled, ReplyTooLong, StoreError, StoreMisconfigured
from ..stores.store import Store
from .channel import Channel

_log = logging.getLogger("flask_convstore")

_BATCH_SECONDS = 0.05
_BATCH_CHARACTERS = 1000
_BEAT_SECONDS = 0.8
"""Time after which a turn is kept, though no chunk has come."""
LEASE_MS = 2500
"""Lease of a turn whose reply is streamed. Followers know of the producer's death by its end."""
_RETRY_SECONDS = 0.2
_IDLE_SECONDS = 60.0
"""Time that the thread without a producer waits for one before it ends."""
_LONGEST_EXCHANGE = 30.0
"""Longest wait, at a reply's end, for an exchange that is under way."""


@dataclass(frozen=True, slots=True)
class TimeAllowed:
    """Time that a producer is allowed, in seconds: without a chunk, and in all."""

    idle: float
    longest: float


class Feed:
    """The stream of one reply on its way to the store.

    Attributes:
        lost: The reason why the turn is not ours any more.
        parts: All parts of the stream so far.

    Args:
        give_up: Ends the reply from another thread, for a reason ("": the turn is lost).
        keep: Keeps the turn of a stream that has become local.
    """

    def __init__(
        self,
        channel: Channel,
        owner: Owner,
        attempt: str,
        epoch: int,
        allowed: TimeAllowed,
        give_up: Callable[[ReplyFailed | None], None],
        keep: Callable[[], None],
    ) -> None:
        self.channel = channel
        self.epoch = epoch
        self.parts: list[bytes] = []
        self.lost: ConvstoreError | None = None
        self.due_at = math.inf
        self._owner = owner
        self._attempt = attempt
        self._allowed = allowed
        self._give_up = give_up
        self._keep = keep
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._is_sending = False
        self._has_text = False
        self._texts: list[str] = []
        self._length = 0
        self._acknowledged = 0
        self._sent_at = -math.inf
        self._begun_at = self._chunk_at = monotonic()

    def put(self, text: str = "", part: bytes | None = None) -> bool:
        """Add a piece of the text, or another part. True if the feeder has to know at once."""
        with self._lock:
            self._chunk_at = now = monotonic()
            was_due = self.due_at
            if text:
                self._texts.append(text)
                self._length += len(text)
            if part is not None:
                self._seal()
                self.parts.append(part)
            is_first = bool(text) and not self._has_text
            self._has_text = self._has_text or is_first
            due_at = max(now, self._sent_at + _BATCH_SECONDS)
            self.due_at = min(was_due, now if is_first or self._length >= _BATCH_CHARACTERS else due_at)
            return self.due_at < was_due

    def _seal(self) -> None:
        """Make one part of the pieces of text that have come. The lock must be held."""
        if self._texts:
            self.parts.append(encoded("text", "".join(self._texts)))
            self._texts, self._length = [], 0

    def taken(self) -> FeedReply | None:
        """Make the command that feeds what has come. None: the stream is local, and those who follow it here have it now."""
        with self._lock:
            self._seal()
            self._sent_at = now = monotonic()
            self.due_at = now + _BEAT_SECONDS
            if self.channel.is_local:
                self._acknowledge(len(self.parts))
                return None
            self._is_sending = True
            return FeedReply(
                session_id=self.channel.session_id,
                owner=self._owner,
                turn=self._attempt,
                lease_ms=LEASE_MS,
                reply=self.channel.reply,
                epoch=self.epoch,
                first=self._acknowledged + 1,
                parts=tuple(self.parts[self._acknowledged :]),
            )

    def told(self, answer: int | ConvstoreError) -> None:
        """Take the answer to what was fed."""
        with self._lock:
            self._is_sending = False
            self._idle.notify_all()
            if isinstance(answer, int):
                self._acknowledge(answer)
            elif isinstance(answer, StoreMisconfigured):
                self.channel.is_local = True
            elif isinstance(answer, StoreError):
                self.due_at = monotonic() + _RETRY_SECONDS
            else:
                self.lost = answer
        if isinstance(answer, StoreMisconfigured):
            self.become_local(answer)

    def _acknowledge(self, answer: int) -> None:
        """Give those parts to who follows the stream here that are in the store. The lock must be held."""
        before, self._acknowledged = self._acknowledged, answer
        if answer < len(self.parts):
            self.due_at = min(self.due_at, monotonic() + (0 if answer < before else _BATCH_SECONDS))
        if answer > before:
            self.channel.extend(
                self.epoch, [StoredPart(number + 1, self.parts[number]) for number in range(before, answer)]
            )

    def become_local(self, error: StoreMisconfigured) -> None:
        """Go on in this process alone, since the server does not let this user keep streams."""
        self.channel.is_local = True
        self.due_at = monotonic()
        _warn_once(error)
        try:
            self._keep()
        except StoreError as failure:
            _log.warning("a turn's lease could not be renewed, it is tried again: %s", failure)
        except ConvstoreError as lost:
            self.lost = lost

    def lateness(self, now: float) -> ReplyFailed | None:
        """Tell why the model is given up. None: it is not."""
        session_id, allowed = self.channel.session_id, self._allowed
        if now - self._chunk_at > allowed.idle:
            return ReplyStalled(session_id, f"the model gave nothing for {allowed.idle:g} s (CONVSTORE_STREAM_IDLE)")
        if now - self._begun_at > allowed.longest:
            return ReplyTooLong(session_id, f"the reply took longer than {allowed.longest:g} s (CONVSTORE_TURN_MAX)")
        return None

    def give_up(self, error: ReplyFailed | None) -> None:
        """End the reply from another thread, since the producer's hangs. None: the turn is lost."""
        threading.Thread(target=self._give_up, args=(error,), name="convstore-giving-up", daemon=True).start()

    def finished(self) -> int:
        """Take no more, once no exchange is under way. Return the number of the newest part that the store has."""
        with self._lock:
            self._idle.wait_for(lambda: not self._is_sending, _LONGEST_EXCHANGE)
            self._seal()
            return self._acknowledged


class Feeder:
    """Feeds the streams of one place in one process, in a thread that ends when there are none."""

    def __init__(self, store: Store) -> None:
        self.pid = os.getpid()
        self._store: Store = weakref.proxy(store)  # else the registry would keep it for ever
        self._changed = threading.Condition()
        self._feeds: set[Feed] = set()
        self._wakes_at = math.inf
        self._thread: threading.Thread | None = None

    def add(self, feed: Feed) -> None:
        """Feed a stream from now on."""
        with self._changed:
            self._feeds.add(feed)
            feed.due_at = monotonic()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="convstore-feeder", daemon=True)
                self._thread.start()
            self._changed.notify()

    def hasten(self, feed: Feed) -> None:
        """Look at a stream that is due earlier than it was."""
        with self._changed:
            if feed.due_at < self._wakes_at:
                self._changed.notify()

    def remove(self, feed: Feed) -> int:
        """Feed a stream no longer. Return the number of the newest part that the store has."""
        with self._changed:
            self._feeds.discard(feed)
        return feed.finished()

    def _run(self) -> None:
        while self._is_needed():
            self._feed_due()  # a step of its own, so that this thread holds nothing of what has ended

    def _is_needed(self) -> bool:
        with self._changed:
            if not self._feeds and not self._wait(_IDLE_SECONDS) and not self._feeds:
                self._thread = None
                return False
            return True

    def _feed_due(self) -> None:
        """Feed the streams that are due, or wait until one is."""
        with self._changed:
            now = monotonic()
            next_at = min((feed.due_at for feed in self._feeds), default=math.inf)
            if next_at > now:
                self._wait(min(next_at - now, _BEAT_SECONDS))
                return
            due = [feed for feed in self._feeds if feed.due_at <= now]
            commands = [feed.taken() for feed in due]
        self._feed(due, commands)

    def _wait(self, seconds: float) -> bool:
        self._wakes_at = monotonic() + seconds
        try:
            return self._changed.wait(seconds)
        finally:
            self._wakes_at = -math.inf

    def _feed(self, due: list[Feed], commands: list[FeedReply | None]) -> None:
        fed = [(feed, command) for feed, command in zip(due, commands, strict=True) if command]
        for (feed, _), answer in zip(fed, self._answers([command for _, command in fed]), strict=True):
            feed.told(answer)
        now = monotonic()
        for feed in due:
            lateness = feed.lateness(now)
            if feed.lost or lateness:
                with self._changed:
                    self._feeds.discard(feed)
                feed.give_up(lateness)

    def _answers(self, commands: list[FeedReply]) -> Sequence[int | ConvstoreError]:
        try:
            return self._store.feed(commands) if commands else ()
        except ConvstoreError as error:
            return [error] * len(commands)
        except Exception as error:
            _log.exception("a streamed reply could not be fed")
            return [StoreError(str(error))] * len(commands)


_warned: set[str] = set()


def _warn_once(error: StoreMisconfigured) -> None:
    if str(error) not in _warned:
        _warned.add(str(error))
        _log.warning(
            "replies are streamed within their own process only, and cannot be resumed, since the server refuses to keep "
            "streams. docs/security.md has the rights that a user needs: %s",
            error,
        )


_feeders: weakref.WeakKeyDictionary[Store, dict[str, Feeder]] = weakref.WeakKeyDictionary()
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):  # where processes can fork
    os.register_at_fork(after_in_child=lambda: globals().update(_lock=threading.RLock()))


def feeder(store: Store, session_id: str, *, is_local: bool) -> Feeder:
    """Find or make the feeder of a session's place in this process. A forked process needs a new one.

    Args:
        is_local: The stream is local from the beginning. It never waits for a store that is away.
    """
    place = "local" if is_local else store.place_of(session_id)
    with _lock:
        feeders = _feeders.setdefault(store, {})
        found = feeders.get(place)
        if found is None or found.pid != os.getpid():
            found = feeders[place] = Feeder(store)
        return found
