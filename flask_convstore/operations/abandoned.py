"""The end of a streamed reply by another than its producer: by whoever stops it, or finds that its producer has died.

The turn is taken first, so that the producer adds nothing any more. Then what the stream holds is stored as the reply, in
the step that ends the stream.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from ..domain.commands import Closing, CommitTurn, TakeReply, digest_of, new_token
from ..domain.messages import Message, message_of, with_id, with_status
from ..domain.numbering import seq_in
from ..domain.parts import Fate, Head, closing_parts, content_of, decoded, draft_of, encoded, epoch_of, head_of
from ..domain.results import ReplyParts
from ..errors import (
    ReplyFailed,
    ReplyInterrupted,
    ReplyStalled,
    ReplyTooLong,
    SessionNotFound,
    StoreError,
    TurnInProgress,
    TurnLost,
    TurnUnended,
)
from ..sessions import content
from ..streaming.feeding import LEASE_MS
from ..streaming.listening import listening
from .access import Access

_log = logging.getLogger("flask_convstore")

End = Literal["stopped", "interrupted"]


_DEATH = "the process that made the reply has died"


class Ended(NamedTuple):
    """A reply that was ended.

    Attributes:
        message: The reply as it is stored (None: nothing of it had come).
        version: The session's version.
    """

    message: Message | None
    version: int
    fate: Fate


def end(
    access: Access,
    session_id: str,
    reply: str,
    fate: End,
    *,
    is_over: bool,
    reason: str = _DEATH,
) -> Ended:
    """Take the turn of a streamed reply, and store what had come until now.

    Args:
        reason: The reason why it is ``interrupted``, for clients.
        is_over: Only where the producer has died.

    Raises:
        TurnLost: It is not in progress any more.
        TurnInProgress: Its producer has not died.
        SessionNotFound, Forbidden: Nothing was written.
    """
    attempt = new_token()
    take = TakeReply(
        session_id=session_id, owner=access.owner, turn=attempt, lease_ms=LEASE_MS, reply=reply, is_over=is_over
    )
    found = access.store.take_reply(take)
    error = failure(ReplyInterrupted(session_id, reason)) if fate == "interrupted" else None
    try:
        command, ended = _command(access, session_id, attempt, found, fate, error)
        receipt = access.apply(command)
    except (StoreError, TurnLost, SessionNotFound):
        raise
    except Exception as refused:  # else no turn could begin any more
        _log.error("session %r: what had come of reply %s cannot be stored: %r", session_id, reply, refused)
        command, ended = _failed(access, session_id, attempt, found)
        receipt = access.apply(command)
    listening(access.store).look_at(session_id, reply)
    message = None
    if command.elements:
        message = message_of(with_id(command.elements[-1], reply), receipt.first_seq or 0)
    return Ended(message, receipt.version, ended)


def end_dead(access: Access, session_id: str, reply: str) -> None:
    """Store what had come of a reply whose producer has died, unless somebody was faster."""
    with contextlib.suppress(TurnLost, TurnInProgress, SessionNotFound):
        end(access, session_id, reply, "interrupted", is_over=True)


def end_before(access: Access, session_id: str, unended: TurnUnended) -> None:
    """End the turn before, so that another one can begin: its producer has died, or it is superseded."""
    with contextlib.suppress(TurnLost, TurnInProgress):
        if unended.is_over:
            end(access, session_id, unended.reply, "interrupted", is_over=True)
        else:
            reason = "another turn has taken over"
            end(access, session_id, unended.reply, "interrupted", is_over=False, reason=reason)


def _command(
    access: Access, session_id: str, attempt: str, found: ReplyParts, fate: End, error: dict[str, Any] | None
) -> tuple[CommitTurn, Fate]:
    texts = [part.text for part in found.parts]
    draft, head = draft_of(texts), head_in(texts)
    elements: tuple[bytes, ...] = ()
    usage = None
    status, ended = _without_reply(fate)
    if not draft.is_empty:
        given, _, usage = content.added([draft.body], access.limits)
        last = with_status(given[-1], fate)
        if seq_in(found.reply) is None:  # the turn began while the store was away
            last = with_id(last, found.reply)
        elements = (*(one.encode() for one in head.added), *draft.added, last)
        status, ended = "", fate
    closing = closing_parts(elements, ended, error)
    if not texts:
        closing.insert(0, encoded("head", content_of(head)))
    command = CommitTurn(
        session_id=session_id,
        owner=access.owner,
        turn=attempt,
        elements=elements,
        status=status,
        usage=usage,
        closing=_closing(access, attempt, found, closing),
        is_taken=True,
    )
    if not head.token or ended == "failed":  # one that has failed can be tried again
        return command, ended
    token, digest = f"{head.token}\n{head.version}", digest_of(f"{attempt} {status}", elements)
    return replace(command, token=token, digest=digest), ended


def _failed(access: Access, session_id: str, attempt: str, found: ReplyParts) -> tuple[CommitTurn, Fate]:
    """End a turn with nothing of its reply."""
    error = failure(ReplyFailed(session_id, "the reply cannot be stored"))
    closing = _closing(access, attempt, found, closing_parts((), "failed", error))
    command = CommitTurn(
        session_id=session_id, owner=access.owner, turn=attempt, status="failed", closing=closing, is_taken=True
    )
    return command, "failed"


def _closing(access: Access, attempt: str, found: ReplyParts, parts: list[bytes]) -> Closing:
    epoch = found.epoch or epoch_of(attempt)
    return Closing(found.reply, epoch, len(found.parts) + 1, tuple(parts), keep_ms(access))


def _without_reply(fate: End) -> tuple[Literal["", "unanswered", "failed"], Fate]:
    """Tell what becomes of the message of a reply of which nothing had come."""
    return ("unanswered", "stopped") if fate == "stopped" else ("failed", "failed")


def head_in(texts: list[bytes]) -> Head:
    """Find the head of a stream. One that has lost all parts has an empty one."""
    if texts:
        kind, found = decoded(texts[0])
        if kind == "head":
            return head_of(found)
    return Head("", "", 0, ())


def failure(error: ReplyFailed) -> dict[str, Any]:
    """Tell clients why a reply is not whole."""
    return {"kind": error.kind, "reason": error.reason}


_FAILURES = {kind.kind: kind for kind in (ReplyFailed, ReplyStalled, ReplyTooLong, ReplyInterrupted)}


def error_of(session_id: str, told: dict[str, Any]) -> ReplyFailed:
    """Make the error of a failure that a stream tells."""
    return _FAILURES.get(told["kind"], ReplyFailed)(session_id, told["reason"])


def keep_ms(access: Access) -> int:
    """Milliseconds for which a stream is kept behind its end."""
    return round(access.settings.stream_keep * 1000)
