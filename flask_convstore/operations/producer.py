"""The producer of a streamed reply: a thread of its own, apart from whoever reads the reply.

It takes what the handler gives, and puts it into the stream. At the end it stores the reply and ends the stream in one
step. A reader that goes does not stop it.
"""

from __future__ import annotations

import atexit
import contextlib
import inspect
import logging
import math
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

from ..domain import json_text
from ..domain.clock import monotonic
from ..domain.commands import Closing
from ..domain.messages import Message
from ..domain.parts import Draft, Fate, Head, Part, TextJoiner, closing_parts, content_of, draft_of, encoded, epoch_of
from ..domain.results import Receipt, StoredPart
from ..errors import (
    ConvstoreError,
    ReplyFailed,
    ReplyInterrupted,
    ReplyTooLong,
    SessionNotFound,
    StoreError,
    StoreMisconfigured,
    StoreUnavailable,
    StreamBehind,
    TurnLost,
)
from ..streaming.channel import Channel
from ..streaming.feeding import Feed, TimeAllowed, feeder
from ..streaming.listening import listening
from . import coroutines
from .abandoned import end_dead, failure, keep_ms
from .access import Access
from .sdk_replies import is_sdk_object, part_of_chunk

_log = logging.getLogger("flask_convstore")

_PAUSE = 0.25
"""Seconds until a reply that could not be stored is tried again."""


_ENVELOPE_BYTES = 150
"""Bytes of a message beside its text and its parts, at most."""


_LAST_SECONDS = 25.0
"""Time for replies to end when the process does. gunicorn kills a worker that has not ended 30 s after it was asked to."""

_STORING_SECONDS = 3.0
"""Time for those that had to be given up to be stored, while the store does not answer."""


class StreamedTurn(Protocol):
    """The part of a turn that a producer uses."""

    session_id: str
    attempt: str

    @property
    def is_away(self) -> bool: ...

    @property
    def reply_id(self) -> str: ...

    def head(self) -> Head:
        """Make the first part of the stream."""
        ...

    def keep(self) -> None:
        """Keep the turn until its end, where feeding the stream does not."""
        ...

    def end_stream(
        self, bodies: list[Any], fate: Fate, closing: Callable[[tuple[bytes, ...]], Closing | None]
    ) -> Receipt:
        """Store the reply, and end the turn and its stream. *closing* makes the end of the stream."""
        ...


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The outcome of a handler: messages that are no stream, its fate, and the error if the reply is not whole."""

    fate: Fate
    bodies: list[Any] | None = None
    error: ReplyFailed | None = None


class Producer:
    """Makes the reply of one turn.

    Args:
        as_messages: Makes messages of a reply that is no stream.
    """

    def __init__(self, access: Access, turn: StreamedTurn, as_messages: Callable[[Any, str], list[Any]]) -> None:
        self._access = access
        self._turn = turn
        self._as_messages = as_messages
        self._ending = threading.Lock()
        self._has_ended = False
        self._joiner = TextJoiner()
        self._size = 0
        self._newest_kind = ""
        settings = access.settings
        allowed = TimeAllowed(settings.stream_idle, settings.turn_max)
        session_id, reply = turn.session_id, turn.reply_id
        self.channel = Channel(session_id, reply, lambda: end_dead(access.of_server, session_id, reply))
        self.channel.is_local = turn.is_away
        listening(access.store).open(self.channel)
        epoch = epoch_of(turn.attempt)
        self._feed = Feed(self.channel, access.owner, turn.attempt, epoch, allowed, self._given_up, turn.keep)
        self._feeder = feeder(access.store, session_id, is_local=turn.is_away)

    def start(self, make: Callable[[], Any]) -> None:
        """Make the reply in a thread of its own.

        Args:
            make: Calls the handler. It runs in the context of the caller.
        """
        self._put(encoded("head", content_of(self._turn.head())))
        self._feeder.add(self._feed)
        run = self._access.backend.around(lambda: self._run_inside(make))
        _in_progress.add(self)
        threading.Thread(target=run, name="convstore-producer", daemon=True).start()

    def wait_begun(self, seconds: float) -> None:
        """Wait until the stream is there for all, *seconds* at most."""
        self.channel.wait_begun(self._feed.epoch, seconds)

    def note_added(self, elements: Iterable[bytes]) -> None:
        """Keep messages that stand before the reply, in case that another one has to end the turn."""
        self._put(encoded("added", [element.decode() for element in elements]))

    def _run_inside(self, make: Callable[[], Any]) -> None:
        inside = self._access.backend.inside_turn
        with inside(self._turn.attempt) if inside else contextlib.nullcontext():
            self._run(make)

    def _run(self, make: Callable[[], Any]) -> None:
        try:
            outcome = self._made(make)
        except BaseException as error:
            if self._feed.lost or self._has_ended:
                outcome = _Outcome("failed")
            else:
                outcome = _Outcome("failed", error=self._failure_of(error))
        self._end(outcome)

    def _failure_of(self, error: BaseException) -> ReplyFailed:
        """Choose what clients are told of an exception. What the handler raised is for the log."""
        if isinstance(error, ReplyFailed) and error.session_id == self._turn.session_id:
            return error
        _log.error("the reply handler failed", exc_info=error)
        return ReplyFailed(self._turn.session_id, "the reply handler failed")

    def _made(self, make: Callable[[], Any]) -> _Outcome:
        reply = make()
        if inspect.isawaitable(reply) or isinstance(reply, AsyncIterator):
            return coroutines.run(self._made_async(reply))
        return self._taken(reply)

    async def _made_async(self, reply: Any) -> _Outcome:
        if inspect.isawaitable(reply):
            reply = await reply
        if not isinstance(reply, AsyncIterator):
            return self._taken(reply)
        try:
            async for chunk in reply:
                self._take(chunk)
        finally:
            await _closed(reply)
        return _Outcome("complete")

    def _taken(self, reply: Any) -> _Outcome:
        if isinstance(reply, str):
            self._take(reply)
            return _Outcome("complete")
        if not is_stream(reply):
            return _Outcome("complete", self._as_messages(reply, self._turn.session_id))
        chunks = iter(reply)
        try:
            for chunk in chunks:
                self._take(chunk)
        finally:
            close = getattr(chunks, "close", None) or getattr(reply, "close", None)
            if close:
                close()
        return _Outcome("complete")

    def _take(self, chunk: Any) -> None:
        """Put one chunk into the stream.

        Raises:
            TurnLost: Nobody wants it any more.
        """
        if self._feed.lost or self._has_ended:
            raise TurnLost(self._turn.session_id)
        part = chunk if isinstance(chunk, Part) else part_of_chunk(chunk)
        if part.kind == "error":
            raise ReplyFailed(self._turn.session_id, part.content)
        is_joined = part.kind == "reasoning" == self._newest_kind
        self._newest_kind = part.kind
        if part.kind == "text":
            text = self._joiner.joined(part.content)
            self._grow(_bytes_of(text))
            self._put(text=text)
            return
        content = TextJoiner().joined(part.content) if part.kind == "reasoning" else part.content
        encoded_part = encoded("part", {"kind": part.kind, "content": content})
        self._grow(_bytes_of(content) if is_joined else len(encoded_part))
        self._put(encoded_part)

    def _grow(self, length: int) -> None:
        self._size += length
        most = self._access.settings.max_message_bytes
        if self._size > most - _ENVELOPE_BYTES:
            reason = f"the reply is larger than {most:,} bytes (CONVSTORE_MAX_MESSAGE_BYTES)"
            raise ReplyTooLong(self._turn.session_id, reason)

    def _put(self, part: bytes | None = None, *, text: str = "") -> None:
        if (text or part is not None) and self._feed.put(text, part):
            self._feeder.hasten(self._feed)

    # ---- the end

    def give_up(self, reason: str) -> None:
        """End the reply from another thread, as interrupted."""
        self._given_up(ReplyInterrupted(self._turn.session_id, reason))

    def _given_up(self, error: ReplyFailed | None) -> None:
        """End the reply from another thread: its model is silent, or the turn was lost (None)."""
        self._end(_Outcome("interrupted", error=error))

    def _end(self, outcome: _Outcome) -> None:
        with self._ending:
            if self._has_ended:
                return
            self._has_ended = True
        channel = self.channel
        try:
            rest = self._joiner.rest()
            if rest:
                self._feed.put(rest)
            last = self._feeder.remove(self._feed)
            if self._feed.lost:
                raise self._feed.lost
            self._commit(outcome, last)
        except SessionNotFound as error:
            channel.fail(error)
        except TurnLost as error:
            if channel.is_local:
                channel.fail(error)  # else another one has ended it: the stream tells how
        except ConvstoreError as error:
            _log.error("a streamed reply was not stored: %s", error)
            channel.fail(error)
        finally:
            _in_progress.remove(self)
            channel.is_fed_here = False
            listening(self._access.store).look_at(channel.session_id, channel.reply)
            listening(self._access.store).leave(channel)

    def _commit(self, outcome: _Outcome, last: int) -> None:
        """Store the reply, and end the stream. One that cannot be stored ends as failed."""
        try:
            self._committed(outcome, last)
        except (StoreError, TurnLost, SessionNotFound):
            raise
        except ConvstoreError as error:
            _log.error("the reply handler returned what cannot be stored: %s", error)
            unstored = ReplyFailed(self._turn.session_id, "the reply cannot be stored")
            self._committed(_Outcome("failed", [], unstored), last)

    def _committed(self, outcome: _Outcome, last: int) -> None:
        draft = draft_of(self._feed.parts) if outcome.bodies is None else Draft()
        bodies, fate = _bodies_and_fate(outcome, draft)
        deadline = monotonic() + self._access.settings.turn_max
        made: list[bytes] = []

        def closing(elements: tuple[bytes, ...]) -> Closing | None:
            error = failure(outcome.error) if outcome.error else None
            made[:] = [*self._feed.parts, *closing_parts(elements, fate, error)]
            if self.channel.is_local:
                return None
            parts = tuple(made[last:])
            return Closing(self.channel.reply, self._feed.epoch, last + 1, parts, keep_ms(self._access))

        while True:
            try:
                receipt = self._turn.end_stream(bodies, fate, closing)
                break
            except StreamBehind as behind:
                last = behind.last
            except StoreMisconfigured as error:
                if self.channel.is_local:
                    raise
                self._feed.become_local(error)
            except StoreUnavailable:
                if monotonic() > min(deadline, _in_progress.until):
                    raise
                time.sleep(_PAUSE)
        seq, version = receipt.first_seq or 0, receipt.version
        known = len(self.channel.parts)
        new = [StoredPart(number, text, seq, version) for number, text in enumerate(made[known:], known + 1)]
        self.channel.extend(self._feed.epoch, new)


def _bytes_of(text: str) -> int:
    """Count the bytes that a text adds to one that it is joined to."""
    return len(json_text.dump(text)) - 2


class _InProgress:
    """The replies that are made in this process. They may end before the process does.

    Attributes:
        until: The moment, by ``monotonic``, until which they are tried to be stored.
    """

    def __init__(self) -> None:
        self.until = math.inf
        self._changed = threading.Condition()
        self._producers: set[Producer] = set()

    def add(self, producer: Producer) -> None:
        with self._changed:
            self._producers.add(producer)

    def remove(self, producer: Producer) -> None:
        with self._changed:
            self._producers.discard(producer)
            self._changed.notify_all()

    def end(self) -> None:
        """Wait for a while, and give up those that have not ended."""
        with self._changed:
            if self._producers:
                _log.info("waiting %g s at most for replies that are in progress", _LAST_SECONDS)
            self._changed.wait_for(lambda: not self._producers, _LAST_SECONDS)
            late = list(self._producers)
        self.until = monotonic() + _STORING_SECONDS
        for producer in late:
            producer.give_up("the process that makes the reply ends")


_in_progress = _InProgress()


@atexit.register
def _end_all() -> None:
    _in_progress.end()  # in a forked child those of the child


if hasattr(os, "register_at_fork"):  # where processes can fork
    os.register_at_fork(after_in_child=lambda: globals().update(_in_progress=_InProgress()))


async def _closed(chunks: AsyncIterator[Any]) -> None:
    """Let an asynchronous generator end."""
    close = getattr(chunks, "aclose", None)
    if close:
        await close()


def _bodies_and_fate(outcome: _Outcome, draft: Draft) -> tuple[list[Any], Fate]:
    """Choose the messages to store, and the fate of the reply. One that fails keeps what had come."""
    if outcome.bodies is not None:
        return outcome.bodies, outcome.fate if outcome.bodies or outcome.fate == "failed" else "unanswered"
    if draft.is_empty:
        return [], "unanswered" if outcome.fate == "complete" else "failed"
    return [draft.body], "interrupted" if outcome.fate == "failed" else outcome.fate


def is_stream(reply: Any) -> TypeGuard[Iterable[Any]]:
    """Tell whether a handler's reply comes in chunks."""
    if reply is None or isinstance(reply, (str, bytes, list, tuple, Mapping, Message)):
        return False
    return isinstance(reply, Iterator) or (isinstance(reply, Iterable) and not is_sdk_object(reply))


def drafted(chunks: Iterable[Any], session_id: str) -> dict[str, Any]:
    """Join the chunks of a reply that nobody follows to its message.

    Raises:
        ReplyFailed: One of them is an error.
        TypeError: A chunk is neither a text, nor a part, nor a chunk of a known SDK.
    """
    draft, joiner = Draft(), TextJoiner()
    for chunk in chunks:
        part = chunk if isinstance(chunk, Part) else part_of_chunk(chunk)
        if part.kind == "error":
            raise ReplyFailed(session_id, part.content)
        if part.kind == "text":
            draft.take(encoded("text", joiner.joined(part.content)))
        else:
            draft.take(encoded("part", {"kind": part.kind, "content": part.content}))
    draft.pieces.append(joiner.rest())
    return draft.body
