"""Messages and sessions as clients see them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flask import Response, request, url_for
from flask.globals import request_ctx

from ..config import Settings
from ..domain.messages import Message, plain_head, stored_message
from ..domain.numbering import id_of
from ..sessions.baseline import Baseline
from ..sessions.session import AnySession, base_of, data_of
from .answers import MessageJson, SessionJson, message_json, plain_json, session_json
from .response import answer


def message_shown(message: Message | None, settings: Settings) -> MessageJson | None:
    """Show a message. None if there is none, or if clients may not see its role."""
    if message is None:
        return None
    role = message.body.get("role") if isinstance(message.body, dict) else None
    return message_json(message) if role is None or role in settings.visible_roles else None


def messages_shown(messages: Iterable[Message], settings: Settings) -> list[MessageJson]:
    """Show the messages that clients may see."""
    roles = (None, *settings.visible_roles)  # one without a role is always seen
    return [message_json(message) for message in messages if message.get("role") in roles]


def session_shown(session: AnySession, settings: Settings) -> SessionJson:
    """Show a session with its data and its messages."""
    history = _history_shown(base_of(session), settings.visible_roles)
    return session_json(base_of(session).snapshot, history, data_of(session, settings.history_key[0]))


def _history_shown(base: Baseline, roles: tuple[str, ...]) -> list[MessageJson]:
    """Show the messages that clients may see. Most have nothing but a time in their envelope, and need no ``Message``.

    Raises:
        CorruptValue: An envelope is not ours.
    """
    snapshot, history = base.snapshot, []
    for element, seq, body in zip(snapshot.elements, base.seqs, snapshot.joined.decode(), strict=True):
        plain = plain_head(element)
        if plain is None:
            message = stored_message(element, seq, snapshot.history_key)
        role = body.get("role") if isinstance(body, dict) else None
        if role is None or role in roles:
            shown = plain_json(id_of(seq), seq, body, int(plain[1])) if plain else message_json(message)
            history.append(shown)
    return history


_PROMPTS = ("system", "developer")


def is_apps(settings: Settings, body: object) -> bool:
    """Tell whether a message is the app's word to the model, such as a system prompt. Clients cannot take it back.

    Clients may not write its role, and may not see it, unless it is a prompt that the app shows.
    """
    role = body.get("role") if isinstance(body, dict) else None
    if role is None or role in settings.client_roles:
        return False
    return role in _PROMPTS or role not in settings.visible_roles


def roles_to_take(settings: Settings) -> tuple[str | None, ...]:
    """List the roles of the messages that clients may take back. None stands for a message without a role."""
    return (*(role for role in settings.visible_roles if not is_apps(settings, {"role": role})), None)


def created(session: AnySession, settings: Settings, status: int = 201) -> Response:
    """Answer with a session and its location."""
    return located(answer(session_shown(session, settings), status, session), session.session_id)


def located(response: Response, session_id: str) -> Response:
    """Add the location of a session to a response."""
    values = {**_values_of_prefix(), "session_id": session_id}
    response.headers["Location"] = url_for(".get_session", **values)
    return response


_OURS = {"session_id", "seq"}


def _values_of_prefix() -> dict[str, Any]:
    """Find the values of the blueprint's prefix, such as ``tenant`` in ``/<tenant>/sessions``.

    The app may have taken them out of the view's arguments by a ``url_value_preprocessor``, so the path is matched again.
    """
    rule, adapter = request.url_rule, request_ctx.url_adapter
    if rule is None or adapter is None or rule.arguments <= _OURS:
        return {}
    _, values = adapter.match()
    return {name: value for name, value in values.items() if name not in _OURS}
