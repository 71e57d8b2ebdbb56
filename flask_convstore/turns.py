"""One turn: the user's message is stored, the handler sees it with all before it, its reply is stored behind it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

from .conversations import Conversations
from .errors import ConvstoreError, InvalidInput, ReplyFailed, SessionNotFound, StoreError
from .models import Message, Owner, Receipt
from .sessions import AnySession

_log = logging.getLogger("flask_convstore")

Handler = Callable[["Turn"], Any]
"""Gets the turn; returns the reply: a text, a message dict, a ``Message``, an iterator of chunks of text, or None."""


class Turn:
    """What a reply handler gets.

    Attributes:
        session_id: Whose turn it is.
        message: The user's message, stored already.
        owner: Whose session it is.
        created_at_ms: When the session was created: the reply goes to this one, not to a successor of the same id.
    """

    def __init__(
        self, conversations: Conversations, session_id: str, owner: Owner, message: Message, created_at_ms: int
    ) -> None:
        self.session_id = session_id
        self.message = message
        self.conversations = conversations
        self.owner = owner
        self.created_at_ms = created_at_ms

    @cached_property
    def _session(self) -> AnySession:
        session = self.conversations.get_session(self.session_id, owner=self.owner)
        if session is None:
            raise SessionNotFound(self.session_id)
        return session

    @cached_property
    def history(self) -> list[Any]:
        """The bodies of all messages, oldest first; the last one is the new message's. Read when first asked for."""
        history = self.conversations.history_of(self._session)
        came_later = self._session.last_seq - self.message.seq
        return history[: max(0, len(history) - came_later)]

    @cached_property
    def data(self) -> dict[str, Any]:
        """The session's fields, read when first asked for. Change them by ``append(session_id, data={…})``."""
        return self.conversations.data_of(self._session)


def answer(turn: Turn, handler: Handler | None) -> tuple[Message, Receipt] | None:
    """Ask the handler and store its reply; None where there is no handler or no reply.

    Raises:
        ReplyFailed: The handler raised, or returned what is no reply. The user's message is stored; whatever else is
            raised here says so too.
    """
    try:
        body = _asked(handler, turn) if handler else None
        if body is None:
            return None
        conversations = turn.conversations
        return conversations.append_message(turn.session_id, body, owner=turn.owner, created_at_ms=turn.created_at_ms)
    except InvalidInput as error:
        _log.error("the reply handler returned what cannot be stored: %s", error)
        raise ReplyFailed(turn.session_id, "the reply cannot be stored") from error
    except ConvstoreError as error:
        error.written = True
        raise


def _asked(handler: Handler, turn: Turn) -> Any:
    """The handler's reply as a message, or None."""
    try:
        return as_message(handler(turn))
    except StoreError:
        raise
    except Exception as error:
        if hasattr(error, "get_response"):  # an HTTP answer of the app's own, from abort()
            raise
        _log.exception("the reply handler failed")
        raise ReplyFailed(turn.session_id, "the reply handler failed") from error


def as_message(reply: object) -> Any:
    """What a handler returned as a message: a text is the assistant's, and so is a dict without a role."""
    if reply is None or isinstance(reply, Message):
        return reply
    if isinstance(reply, str):
        return {"role": "assistant", "content": reply}
    if isinstance(reply, Mapping):
        return dict(reply) if "role" in reply else {"role": "assistant", **reply}
    if isinstance(reply, Iterable) and not isinstance(reply, (bytes, list, tuple)):
        return {"role": "assistant", "content": "".join(reply)}
    raise TypeError(f"a reply is a text, a message dict, an iterator of texts, or None, not a {type(reply).__name__}")
