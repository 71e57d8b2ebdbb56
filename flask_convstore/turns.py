"""One turn: the user's message is stored, the handler sees it with all before it, its reply is stored behind it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

from .conversations import Conversations
from .errors import InvalidInput, ReplyFailed, SessionNotFound, StoreError
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
    """

    def __init__(self, conversations: Conversations, session_id: str, owner: Owner, message: Message) -> None:
        self.session_id = session_id
        self.message = message
        self.conversations = conversations
        self.owner = owner

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
        return history[: len(history) - came_later]

    @cached_property
    def data(self) -> dict[str, Any]:
        """The session's fields, read when first asked for. Change them by ``append(session_id, data={…})``."""
        return self.conversations.data_of(self._session)


def answer(turn: Turn, handler: Handler | None) -> tuple[Message, Receipt] | None:
    """Ask the handler and store its reply; None where there is no handler or no reply.

    Raises:
        ReplyFailed: The handler raised, or returned what is no reply; the user's message is stored.
    """
    body = _asked(handler, turn) if handler else None
    if body is None:
        return None
    try:
        return turn.conversations.append_message(turn.session_id, body, owner=turn.owner)
    except InvalidInput as error:
        _log.error("the reply handler returned what cannot be stored: %s", error)
        raise ReplyFailed("the reply cannot be stored; the message is stored") from error


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
        raise ReplyFailed("the reply handler failed; the message is stored") from error


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
