"""Streamed replies as they are read: from any position, in any process, while they are made and some minutes after."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

from ..domain.clock import monotonic
from ..domain.commands import ReplyPosition
from ..domain.messages import Message, message_of, with_id
from ..domain.parts import Fate, Part, decoded
from ..domain.results import ReplyParts, StoredPart
from ..domain.types import ANY
from ..domain.validation import check_session_id, check_target
from ..errors import (
    ConvstoreError,
    MessageNotFound,
    ReplyInterrupted,
    SessionMoved,
    SessionNotFound,
    StoreError,
    StoreMisconfigured,
    StoreUnavailable,
    TurnLost,
)
from ..streaming.channel import Channel
from ..streaming.listening import listening
from . import abandoned, messages, sessions
from .access import Access

EventKind = Literal["message", "delta", "part", "reply", "reset", "error", "done"]

_HEARTBEAT = 15.0
"""Seconds of silence after which a reader is told that all is well."""

_CHECKED_EVERY = 5.0
"""Seconds after which a reader's right to read is checked again. A session may be shared no longer, or be another's."""

_POSITION = re.compile(r"(\d{1,9})-(\d{1,10})")


class Event(NamedTuple):
    """An event of a streamed reply.

    Attributes:
        kind: ``message`` (the user's message), ``delta`` (a piece of the text), ``part``, ``reply`` (the reply as it is
            stored), ``reset`` (all before is to be forgotten), ``error``, ``done`` (the last one).
        id: The position behind it.
        value: A ``Message`` for ``message`` (None: the turn has none) and ``reply``, a text for ``delta``, a ``Part`` for
            ``part``, a ``ReplyFailed`` for ``error``, the fate of the reply for ``done``: ``complete``, ``stopped``,
            ``interrupted``, ``failed``, ``unanswered``. None for ``reset``.
        version: The session's version with the reply. 0 where it is not known.
    """

    kind: EventKind
    id: str
    value: Any
    version: int = 0


class StreamedReply:
    """A reply that is streamed, or was. Iterate over it for its text, piece by piece.

    Attributes:
        session_id: The session.
        id: The id under which the reply stands, or will stand.
        is_away: It is made while the store is away.
        partial: Nor is the session known whole.
    """

    def __init__(
        self,
        access: Access,
        channel: Channel,
        after: tuple[int, int] | None = None,
        *,
        epoch: int = 0,
        message: Message | None = None,
        is_away: bool = False,
        partial: bool = False,
    ) -> None:
        self.session_id = channel.session_id
        self.id = channel.reply
        self.is_away = is_away
        self.partial = partial
        self._access = access
        self._channel = channel
        self._after = after
        self._epoch = epoch
        self._message = message

    @property
    def is_resumable(self) -> bool:
        """It can be read from elsewhere, as far as is known yet. False: the store is away, or refuses to keep streams."""
        return not self._channel.is_local

    def __iter__(self) -> Iterator[str]:
        """Iterate over the pieces of the text, as they come.

        Raises:
            ReplyFailed: The reply is not whole.
        """
        for event in self.events():
            if event is None:
                continue
            if event.kind == "delta":
                yield event.value
            elif event.kind == "error":
                raise event.value

    def wait(self) -> Message | None:
        """Wait for the end. Return the reply as it is stored, whole or not. None if there is none.

        Raises:
            ReplyFailed: Nothing was stored, since the handler has failed.
        """
        reply, failure = None, None
        for event in self.events():
            if event and event.kind == "reply":
                reply = event.value
            elif event and event.kind == "error":
                failure = event.value
        if reply is None and failure:
            raise failure
        return reply

    def events(self, heartbeat: float = _HEARTBEAT) -> Iterator[Event | None]:
        """Iterate over the events, as they come. None: nothing has come for *heartbeat* seconds."""
        here = listening(self._access.store)
        with here.following(self._channel) as channel:
            until = monotonic() + heartbeat
            while not channel.wait_loaded(min(heartbeat, until - monotonic())):
                yield None
                until = monotonic() + heartbeat
            number = self._after[0] if self._after else 0
            generation = channel.generation
            if self._after and not here.knows(channel, self._after):
                number = 0
                yield Event("reset", f"0-{channel.epoch}", None)
            yield from self._following(channel, number, generation, heartbeat)

    def _following(self, channel: Channel, number: int, generation: int, heartbeat: float) -> Iterator[Event | None]:
        checked_at, epoch = monotonic(), self._epoch
        while True:
            if channel.epoch != epoch or monotonic() - checked_at > _CHECKED_EVERY:
                checked_at, epoch = monotonic(), channel.epoch
                if not self._may_go_on():
                    yield from self._failed(channel, number, SessionNotFound(self.session_id))
                    return
            if channel.generation != generation:
                number, generation = 0, channel.generation
                yield Event("reset", f"0-{channel.epoch}", None)
            new = channel.parts[number:]
            yield from self._events_of(new, channel.epoch)
            number += len(new)
            if new:
                continue
            if channel.is_over:
                yield from self._failed(channel, number, channel.failure)
                return
            if not channel.wait_behind(generation, number, heartbeat):
                yield None

    def _events_of(self, parts: Iterable[StoredPart], epoch: int) -> Iterator[Event]:
        for event in events_of(parts, epoch, self.session_id, self.id):
            yield event if event.kind != "message" else event._replace(value=self._message_of(event.value))

    def _may_go_on(self) -> bool:
        """Tell whether the reader may still read the session, which may be another one of the same id by now."""
        if self._access.owner is ANY or not self.is_resumable:
            return True
        asked = ReplyPosition(self.session_id, self._access.owner, self.id, None, 1)
        try:
            (page,) = self._access.store.reply_parts([asked])
        except StoreError:
            return True  # nothing comes while the store is away
        return not isinstance(page, (SessionNotFound, SessionMoved))

    def _message_of(self, message_id: str) -> Message | None:
        """Find the user's message as it is now. None: there is none, or it was taken out."""
        if self._message or not message_id:
            return self._message
        with contextlib.suppress(SessionNotFound, SessionMoved):
            return messages.get(self._access, self.session_id, message_id)
        return None

    def _failed(self, channel: Channel, number: int, failure: ConvstoreError | None) -> Iterator[Event | None]:
        """End a stream that has no end: its session is gone, its conversation was replaced, or it could not be stored.

        The reply may stand all the same, if it was changed since, or if its stream could not be kept.
        """
        if failure is None:
            return
        stored = None
        if isinstance(failure, TurnLost):
            with contextlib.suppress(ConvstoreError):
                stored = _reply_in(self._access, self.session_id, self.id)
        if stored:
            yield from StoredReply(self.session_id, self.id, stored, is_reset=True).events()
            return
        error = ReplyInterrupted(self.session_id, _reason_of(failure))
        yield Event("error", f"{number + 1}-{channel.epoch}", error)
        yield Event("done", f"{number + 2}-{channel.epoch}", "failed")


def _reason_of(error: ConvstoreError | None) -> str:
    if isinstance(error, SessionNotFound):
        return "the session is gone"
    if isinstance(error, TurnLost):
        return "another turn has taken over, or the conversation was replaced"
    if isinstance(error, StoreMisconfigured):
        return "the server does not show the stream"
    return "the reply could not be stored"


def event_of(part: StoredPart, epoch: int, session_id: str, reply: str) -> Event | None:
    """Make the event that a part of a stream is. None for a part that is nobody's business. A message has its id only."""
    kind, content = decoded(part.text)
    position = f"{part.number}-{epoch}"
    if kind == "head":
        return Event("message", position, content["message"])
    if kind == "text":
        return Event("delta", position, content)
    if kind == "part":
        return Event("part", position, Part(content["kind"], content["content"]))
    if kind == "reply":
        message = message_of(with_id(content.encode(), reply), part.first_seq)
        return Event("reply", position, message, part.version)
    if kind == "error":
        return Event("error", position, abandoned.error_of(session_id, content))
    return Event("done", position, content) if kind == "done" else None


def events_of(parts: Iterable[StoredPart], epoch: int, session_id: str, reply: str) -> Iterator[Event]:
    """Make the events that parts of a stream are."""
    events = (event_of(part, epoch, session_id, reply) for part in parts)
    return (event for event in events if event)


def position_in(text: str | None) -> tuple[int, int] | None:
    """Read the id of an event. None: it is none of ours, or there is none. A position that cannot be is another stream's."""
    if not text:
        return None
    found = _POSITION.fullmatch(text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def follow(access: Access, session_id: str, reply: str, after: str | None = None) -> StoredReply | StreamedReply | None:
    """Find a reply that is streamed, or was. None: no reply is in progress (*reply* is ``""``).

    Args:
        reply: Its id, or "" for the one in progress. With *after* "" is the one of that event, as long as its stream is kept
            and more follows.
        after: The id of the last event that the reader has. Only what follows comes then.

    Raises:
        MessageNotFound: There is no such reply.
        SessionNotFound, StoreUnavailable: As ``get_session``.
    """
    check_session_id(session_id)
    if reply:
        check_target(reply, "reply")
    asked = ReplyPosition(session_id, access.owner, reply, None if reply else position_in(after), 1)
    (page,) = access.store.reply_parts([asked])
    if isinstance(page, ConvstoreError):
        raise page
    if page.parts or page.remaining_ms is not None:
        server = access.of_server
        channel = Channel(session_id, page.reply, lambda: abandoned.end_dead(server, session_id, page.reply))
        return StreamedReply(access, channel, position_in(after), epoch=page.epoch)
    return _stored(access, session_id, page, after) if reply else None


def _stored(access: Access, session_id: str, page: ReplyParts, after: str | None) -> StoredReply:
    message = _reply_in(access, session_id, page.reply)
    if message is None:
        raise MessageNotFound(session_id, page.reply)
    return StoredReply(session_id, message.id, message, is_reset=bool(after))


def _reply_in(access: Access, session_id: str, reply: str) -> Message | None:
    """Find a reply among the messages. None: there is none, or no session."""
    message = messages.get(access, session_id, reply)
    return message if message is not None and message.get("role") == "assistant" else None


class StoredReply:
    """A reply whose stream is gone, or that had none. It has the same events, made of the messages.

    Attributes:
        session_id, id, is_away, partial, is_resumable: As a ``StreamedReply`` has them.
    """

    is_away = partial = False
    is_resumable = True

    def __init__(
        self,
        session_id: str,
        reply_id: str,
        reply: Message | None,
        message: Message | None = None,
        *,
        is_reset: bool = False,
    ) -> None:
        self.session_id = session_id
        self.id = reply_id
        self._message = message
        self._reply = reply
        self._is_reset = is_reset

    def __iter__(self) -> Iterator[str]:
        """Iterate over the text, which comes in one piece. A message of another role than the assistant's has none."""
        is_assistants = self._reply is not None and self._reply.get("role") == "assistant"
        content = self._reply.get("content") if self._reply and is_assistants else None
        return iter([content] if isinstance(content, str) and content else [])

    def wait(self) -> Message | None:
        """Return the reply."""
        return self._reply

    def events(self, heartbeat: float = _HEARTBEAT) -> Iterator[Event | None]:
        """Iterate over the events."""
        if self._is_reset:
            yield Event("reset", "0-0", None)
        found: list[tuple[EventKind, Any]] = [("message", self._message)] if self._message else []
        found += [("delta", piece) for piece in self]
        found += [("reply", self._reply)] if self._reply else []
        found.append(("done", _fate_of(self._reply)))
        for number, (kind, value) in enumerate(found, 1):
            yield Event(kind, f"{number}-0", value)


def _fate_of(message: Message | None) -> Fate:
    if message is None:
        return "unanswered"
    return message.status if message.status in ("stopped", "interrupted") else "complete"  # type: ignore[return-value]


def stop(access: Access, session_id: str, reply: str) -> abandoned.Ended:
    """Stop a reply that is streamed, in whatever process, and store what had come until now.

    Stopping a reply that has ended changes nothing.

    Args:
        reply: Its id, or "" for the one in progress.

    Raises:
        MessageNotFound: There is no such reply, or none is in progress.
        Forbidden: Another owner shares the session, for reading.
        SessionNotFound, StoreUnavailable: Nothing was written.
    """
    check_session_id(session_id)
    if reply:
        check_target(reply, "reply")
    else:
        found = follow(access, session_id, "")
        if found is None:
            raise MessageNotFound(session_id, "current")
        reply = found.id
    try:
        return abandoned.end(access, session_id, reply, "stopped", is_over=False)
    except TurnLost:
        return _ended_before(access, session_id, reply)


def _ended_before(access: Access, session_id: str, reply: str) -> abandoned.Ended:
    """Tell of a reply that had ended before it was stopped."""
    found = follow(access, session_id, reply)
    assert found
    message: Message | None = None
    fate: Fate = "complete"
    for event in found.events(heartbeat=1.0):
        if event is None:
            raise StoreUnavailable("the reply is about to end", written=False, is_down=False)
        if event.kind == "reply":
            message = event.value
        elif event.kind == "done":
            fate = event.value
    session = sessions.existing(access, session_id, last=0)
    return abandoned.Ended(message, session.version, fate)
