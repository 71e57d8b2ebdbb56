"""A message and the reply to it. The app's handler makes the reply within a turn. A repeat gets the first answer again."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from ..domain.commands import Append, Target, digest_if_known, named_away, token_or_new
from ..domain.messages import Message, message_of
from ..domain.numbering import id_away, id_of
from ..domain.results import Begun, Receipt
from ..domain.validation import check_session_id
from ..errors import (
    ConvstoreError,
    InvalidInput,
    MessageNotFound,
    ReplyFailed,
    SessionNotFound,
    StoreError,
    StoreMisconfigured,
    TurnInProgress,
    TurnLost,
)
from ..sessions import content
from . import coroutines, sessions
from .access import Access
from .streamed import StoredReply, StreamedReply, follow
from .turns import Turn, as_messages, begin, left_behind, request_of

_log = logging.getLogger("flask_convstore")

Handler = Callable[[Turn], Any]
"""Function from a turn to a reply: a text, a message dict, a ``Message``, an iterator of chunks of text, or None."""


@dataclass(frozen=True, slots=True)
class Replier:
    """The handler, and the number of messages that the handler needs (None: all)."""

    handler: Handler
    last: int | None = None


class Exchange(NamedTuple):
    """A message and the reply to it, as stored.

    Attributes:
        message, reply: None if there was none. Of a repeated call also None if the message is gone.
        receipt: The receipt of the last write.
        previous: The message before, if its turn was interrupted or superseded.
    """

    message: Message | None
    reply: Message | None
    receipt: Receipt
    previous: Message | None = None


class TurnEnded(TurnLost):
    """The turn of this token was ended before. The error has the message and the reply. Nothing was written.

    Attributes:
        message, reply: As stored. None if there is none, or none any more.
    """

    def __init__(self, session_id: str, exchange: Exchange) -> None:
        super().__init__(session_id)
        self.message = exchange.message
        self.reply = exchange.reply
        reason = "the turn of this token was ended before: take the reply from this error"
        self.args = (f"session {session_id!r}: {reason}. Nothing was written.",)


def converse(
    access: Access,
    session_id: str,
    message: Any,
    replier: Replier | None,
    *,
    token: str | None = None,
    expected: str = "",
    replaces: Target | None = None,
    is_counted: bool = True,
) -> Exchange:
    """Store a user's message, call the handler, and store its reply. With a *token*, a repeat gets the first answer.

    Args:
        message: A body, or a ``Message``.
        replaces: The message that gives way to this one, with all behind it.
        is_counted: Count this turn as one of the owner's in this minute. False: the caller has counted the turn.

    Raises:
        ReplyFailed: The handler raised, or returned no reply. The message is stored, and marked.
        ConvstoreError: As ``begin`` and ``Turn.reply``. An error after the message was stored says so.
    """
    if replier is None:
        return _only_store(access, session_id, message, token, expected, replaces, is_counted)
    turn, begun = begin(
        access,
        session_id,
        message,
        last=replier.last,
        token=token,
        expected=expected,
        replaces=replaces,
        is_counted=is_counted,
    )
    if turn is None and begun.snapshot is None:
        raise SessionNotFound(session_id)
    if turn is None:
        return first_exchange(access, session_id, begun)
    try:
        with turn:
            bodies = _reply_of(replier.handler, turn)
            reply, receipt = turn.end(bodies or None, bodies)
        answered = turn.message if reply else replace(turn.message, status="unanswered")
        # Read the message before last, since a corrupt one must not keep the reply from being stored.
        return Exchange(answered, reply, receipt, turn.previous)
    except InvalidInput as error:
        _log.error("the reply handler returned what cannot be stored: %s", error)
        raise ReplyFailed(session_id, "the reply cannot be stored") from error
    except ConvstoreError as error:
        error.written = True
        raise


def streamed_exchange(
    access: Access,
    session_id: str,
    message: Any,
    replier: Replier,
    *,
    token: str | None = None,
    expected: str = "",
    replaces: Target | None = None,
    is_counted: bool = True,
) -> StreamedReply | StoredReply:
    """Do as ``converse``, and return as soon as the turn has begun. The handler runs in a thread of its own.

    A repeat follows the reply that the first call has begun.

    Raises:
        ConvstoreError: As ``begin``.
    """
    begin_turn = partial(
        begin,
        access,
        session_id,
        message,
        last=replier.last,
        token=token,
        expected=expected,
        replaces=replaces,
        is_counted=is_counted,
        follows=True,
    )
    try:
        turn, begun = begin_turn()
    except TurnInProgress as busy:
        if not busy.written:
            raise
        found = follow(access, session_id, "")
        if isinstance(found, StreamedReply):
            return found
        turn, begun = begin_turn()  # it has ended meanwhile
    if turn:
        return turn.begin_stream(partial(replier.handler, turn))
    if begun.snapshot is None:
        raise SessionNotFound(session_id)
    first = first_exchange(access, session_id, begun)
    reply_id = (
        first.reply.id if first.reply else _id_of_none(session_id, begun.token or token or "", begun, first.message)
    )
    with suppress(MessageNotFound, StoreMisconfigured):
        found = follow(access, session_id, reply_id)
        if isinstance(found, StreamedReply):
            return found
    return StoredReply(session_id, reply_id, first.reply, first.message)


def _id_of_none(session_id: str, token: str, begun: Begun, message: Message | None) -> str:
    """Make the id under which the reply would stand, if the turn had one."""
    is_away = message is not None and message.id == id_away(session_id, token, 0)
    return id_away(session_id, token, 1) if is_away else id_of((begun.receipt.first_seq or 0) + 1)


def _only_store(
    access: Access,
    session_id: str,
    message: Any,
    token: str | None,
    expected: str,
    replaces: Target | None,
    is_counted: bool,
) -> Exchange:
    """Store the message of an app that has no handler, and replies in its own way."""
    check_session_id(session_id)
    elements, first_title, usage = content.added([message], access.limits)
    if is_counted:
        access.count_turn()
    command = Append(
        session_id=session_id,
        owner=access.owner,
        elements=elements,
        expected=expected,
        replaces=replaces or "",
        first_title=first_title,
        usage=usage,
        token=token_or_new(token),
        digest=digest_if_known(token, request_of("append", replaces), elements),
    )
    receipt = access.apply(command)
    if receipt.repeated and not receipt.expires_at_ms:
        raise SessionNotFound(session_id)
    if receipt.repeated:
        return first_exchange(access, session_id, Begun(receipt, None))
    (element,) = (named_away(command) if receipt.fallback else command).elements
    return Exchange(message_of(element, receipt.first_seq or 0), None, receipt)


def first_exchange(access: Access, session_id: str, begun: Begun) -> Exchange:
    """Read the message and the reply of the first call with this token.

    Raises:
        SessionNotFound: The session is gone.
    """
    session = sessions.existing(access, session_id)
    seq, reply = begun.receipt.first_seq or 0, begun.reply
    message = session.message(seq)
    reply_seq = reply.first_seq if reply else None
    is_unanswered = message is not None and message.status == "unanswered"
    replied = session.message(reply_seq) if reply_seq and not is_unanswered else None
    return Exchange(message, replied, reply or begun.receipt, left_behind(session, seq))


def _reply_of(handler: Handler, turn: Turn) -> list[Any]:
    """Call the handler, and make messages of its reply. [] if the handler has none."""
    try:
        reply = handler(turn)
        is_ready = isinstance(reply, (str, dict))  # the common cases need no further test
        if not is_ready and (inspect.isawaitable(reply) or isinstance(reply, AsyncIterator)):
            reply = coroutines.run(_awaited(reply))
        return as_messages(reply, turn.session_id)
    except StoreError:
        raise
    except (Exception, asyncio.CancelledError) as error:
        is_http_answer = hasattr(error, "get_response")  # from the app's abort()
        if is_http_answer:
            raise
        _log.exception("the reply handler failed")
        raise ReplyFailed(turn.session_id, "the reply handler failed") from error


async def _awaited(reply: Any) -> Any:
    """Await the reply of an async handler, and all of its chunks."""
    if inspect.isawaitable(reply):
        reply = await reply
    return iter([chunk async for chunk in reply]) if isinstance(reply, AsyncIterator) else reply
