"""The rules of reply streams: feeding, taking, reading and ending one. The Lua scripts mirror them."""

from __future__ import annotations

from ..errors import StreamBehind, TurnInProgress, TurnLost
from .commands import BeginTurn, Closing, CommitTurn, Drop, Edit, FeedReply, Merge, Put, Rewrite, TakeReply, Write
from .results import ReplyParts, StoredPart
from .stored_session import ReplyStream, StoredSession

_KEPT = 4
"""Streams that a session keeps."""


def feed(command: FeedReply, session: StoredSession, now: int) -> int:
    """Add parts to a stream that is fed in order, and keep the turn. Return the number of the newest part.

    Where that is below the number before the first part, parts are missing, and none was added.

    Raises:
        TurnLost: The turn has ended, or another one has taken over.
    """
    if not session.turn or session.turn.attempt != command.turn:
        raise TurnLost(command.session_id)
    last = _newest(session, command.reply, command.epoch)
    if command.parts and last >= command.first - 1:
        if last == 0:
            session.reply = command.reply
            _open(session, command.reply, command.epoch)
        last = _add(session, Closing(command.reply, command.epoch, command.first, command.parts, 0))
    session.turn.until_ms = now + command.lease_ms
    return last


def _open(session: StoredSession, reply: str, epoch: int) -> None:
    """Begin a stream. The session keeps the last few."""
    session.streams.pop(reply, None)
    while len(session.streams) >= _KEPT:
        del session.streams[next(iter(session.streams))]
    session.streams[reply] = ReplyStream(epoch)


def take(command: TakeReply, session: StoredSession, now: int) -> ReplyParts:
    """Take the turn whose reply is streamed. Return what the stream holds.

    Raises:
        TurnLost: No turn with this reply is in progress.
        TurnInProgress: Its lease has not ended.
    """
    turn = session.turn
    if not turn or session.reply != command.reply:
        raise TurnLost(command.session_id)
    if command.is_over and turn.until_ms > now and turn.attempt != command.turn:
        raise TurnInProgress(command.session_id, turn.until_ms - now)
    turn.attempt, turn.until_ms = command.turn, now + command.lease_ms
    stream = session.streams.get(command.reply)
    return ReplyParts(command.reply, stream.epoch, list(stream.parts)) if stream else ReplyParts(command.reply, 0, [])


def read(session: StoredSession, reply: str, after: tuple[int, int] | None, limit: int, now: int) -> ReplyParts:
    """Read a stream from the position *after* on, which is a number and an epoch.

    Without a *reply* it is the stream of that position, or else that of the turn in progress.
    """
    current = session.reply if session.turn else ""
    reply = reply or _with_position(session, after, now) or current
    if not reply:
        return ReplyParts("", 0, [])
    remaining = max(0, session.turn.until_ms - now) if session.turn and reply == current else None
    stream = _kept(session, reply, now)
    begin = _index_behind(after, stream)
    parts = stream.parts[begin or 0 :][:limit]
    return ReplyParts(reply, stream.epoch, parts, begin is None, remaining)


def _with_position(session: StoredSession, after: tuple[int, int] | None, now: int) -> str:
    """Find the stream that has a position. "": none has."""
    if after is None:
        return ""
    return next((name for name in session.streams if _index_behind(after, _kept(session, name, now))), "")


def _kept(session: StoredSession, reply: str, now: int) -> ReplyStream:
    """Find a stream. One that is not there, or not any more, has no parts."""
    stream = session.streams.get(reply)
    if not stream or (stream.ends_ms is not None and stream.ends_ms <= now):
        return ReplyStream(0)
    return stream


def _index_behind(after: tuple[int, int] | None, stream: ReplyStream) -> int | None:
    """Find the index of the first part behind a position. None: the position is not in the stream."""
    if after is None:
        return 0
    number, epoch = after
    return number if epoch == stream.epoch and 0 < number <= len(stream.parts) else None


def is_unended(command: BeginTurn, session: StoredSession, now: int, *, is_known: bool) -> bool:
    """Tell whether the turn before was streamed, and has to be ended before this one begins."""
    turn = session.turn
    if not turn or not session.reply or turn.attempt == command.attempt:
        return False
    return turn.until_ms <= now or (command.supersede and not is_known)


def refuse_behind(command: CommitTurn, session: StoredSession) -> None:
    """Refuse to end a stream that lacks parts.

    Raises:
        StreamBehind: Nothing was written.
    """
    closing = command.closing
    if closing:
        last = _newest(session, closing.reply, closing.epoch)
        if last < closing.first - 1:
            raise StreamBehind(command.session_id, last)


def close(command: CommitTurn, session: StoredSession, first_seq: int | None, now: int) -> None:
    """End a turn's stream with its last parts. One that is not ended goes."""
    reply, session.reply = session.reply, ""
    closing = command.closing
    if not closing:
        session.streams.pop(reply, None)
    else:
        if _newest(session, closing.reply, closing.epoch) == 0:
            _open(session, closing.reply, closing.epoch)
        _add(session, closing, first_seq or 0, session.version)
        session.streams[closing.reply].ends_ms = now + closing.keep_ms


def forget(command: Write, session: StoredSession) -> None:
    """Remove streams that hold what *command* has changed or taken out. That of the turn in progress stays."""
    if not session.turn:
        session.reply = ""
    is_rewrite = isinstance(command, Put) or (isinstance(command, Merge) and isinstance(command.history, Rewrite))
    takes_out = isinstance(command, (Edit, Drop)) or bool(getattr(command, "replaces", ""))
    if is_rewrite or takes_out:
        session.streams = {name: stream for name, stream in session.streams.items() if name == session.reply}


def _newest(session: StoredSession, reply: str, epoch: int) -> int:
    """The number of the newest part of a stream. 0: there is none of this attempt."""
    stream = session.streams.get(reply)
    return len(stream.parts) if stream and stream.epoch == epoch else 0


def _add(session: StoredSession, closing: Closing, first_seq: int = 0, version: int = 0) -> int:
    stream = session.streams[closing.reply]
    parts = list(stream.parts)
    for number, text in enumerate(closing.parts, closing.first):
        if number > len(parts):
            parts.append(StoredPart(number, text, first_seq, version))
    session.streams[closing.reply] = ReplyStream(closing.epoch, parts, stream.ends_ms)
    return len(parts)
