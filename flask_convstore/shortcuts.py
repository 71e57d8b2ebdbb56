"""Functions that need no name of a store: ``open_store``, and the methods of the store of ``current_app``."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from flask import Flask, current_app

from .app.bound import OpenStore
from .app.current import KEY
from .domain.results import Receipt
from .domain.types import ANY, CALLER, Lifetime, Owner, Scope
from .extension import ConversationStore
from .sessions.content import Content
from .sessions.session import ListSession, LoadedSession, Session

if TYPE_CHECKING:
    from .app.state import AppState

_NAME = "convstore"
"""Name of a store that was given no other."""


def open_store(
    url: str | None = None, *, folder: str | os.PathLike[str] = "instance", owner: Owner = ANY, **settings: Any
) -> OpenStore:
    """Open the store of an app in a script or a worker that has no app. Waits for no server.

    A setting is named as in the app, in small letters and without ``CONVSTORE_``: ``open_store(url, prefix="chat:")``.
    The others come from the environment. Give the settings of the app that it shares the server with.

    While the server is away calls raise ``StoreUnavailable``, since a script may end before it could hand anything over. A
    worker that runs on may have ``fallback="journal"``.

    Args:
        url: Where the sessions are. None: as ``CONVSTORE_URL`` in the environment says.
        folder: Folder of the journal and of an embedded server.
        owner: The owner for whom calls without ``owner=`` work. By default the server, which sees all.

    Raises:
        ConfigurationError: Settings are unknown or bad. All of them are listed.
    """
    app = Flask("flask_convstore", instance_path=os.path.abspath(folder))
    given = {"fallback": os.environ.get("CONVSTORE_FALLBACK", "none"), **settings}
    if given["fallback"] == "none":
        given.setdefault("outage", "refuse")  # whatever the environment says to the app
    if url is not None:
        given["url"] = url
    app.config.update({f"CONVSTORE_{name.upper()}": value for name, value in given.items()})
    convstore = ConversationStore(app)
    return OpenStore(convstore, app, convstore.on(app, owner=owner).owner)


def _default() -> ConversationStore:
    """Find the current app's store named ``convstore``, or its only store.

    Raises:
        RuntimeError: There is no such store, or no current app.
    """
    states: dict[str, AppState] = current_app.extensions.get(KEY, {})
    if _NAME in states:
        return states[_NAME].convstore  # type: ignore[no-any-return]
    if len(states) == 1:
        return next(iter(states.values())).convstore  # type: ignore[no-any-return]
    if not states:
        raise RuntimeError("this app has no ConversationStore: call ConversationStore(app), or init_app(app), first")
    names = ", ".join(sorted(states))
    raise RuntimeError(f"this app has no store named {_NAME!r} but {names}: call the method of one of these")


@overload
def save_session(
    session_id: str, data: Mapping[str, Any], *, ttl: Lifetime | None = None, owner: Owner | Scope = CALLER
) -> Session: ...


@overload
def save_session(
    session_id: str, data: Sequence[Any], *, ttl: Lifetime | None = None, owner: Owner | Scope = CALLER
) -> ListSession: ...


def save_session(
    session_id: str, data: Content, *, ttl: Lifetime | None = None, owner: Owner | Scope = CALLER
) -> LoadedSession:
    """Save a session, and return *data* as a session.

    A session that came from ``get_session`` or ``save_session`` is merged. Only its changes are written, beside the
    writes of others, and the session itself is returned. A plain dict or list replaces the session or creates it.

    Args:
        data: A dict of fields, with the messages, if any, under the key of the history. Or a bare list of messages.
        ttl: Seconds that the session lives from each interaction. None keeps the present lifetime.
        owner: Name of the owner, None for nobody, or ``ANY``. By default the owner of the request, outside of one ``ANY``.

    Raises:
        NotSerializable: JSON cannot hold a value. The error has its path. Nothing was written.
        TooLarge: A limit is passed. Nothing was written.
        ConflictError: Another write has changed a history that was rewritten here. With ``CONVSTORE_CONFLICT=raise`` also a
            field that was changed here. Nothing was written.
        SessionNotFound: The loaded session was deleted or has expired. Or the id is another owner's. Nothing was written.
        StoreUnavailable: No answer came in time. The error says whether anything was written.
    """
    return _default().save_session(session_id, data, ttl=ttl, owner=owner)


def get_session(
    session_id: str,
    *,
    last: int | None = None,
    fields: Iterable[str] | None = None,
    owner: Owner | Scope = CALLER,
) -> LoadedSession | None:
    """Load a session exactly as it was saved, and move its lifetime. None if this owner has no such session.

    Args:
        last: Number of newest messages to load. None loads all. A session that was loaded in part takes new messages and
            changed fields. To drop or rewrite messages, load all.
        fields: Names of the data fields to load. None loads all, ``()`` none. Saving such a session writes what was changed
            in it. It can set no field that was not asked for, and be saved under no other id.
        owner: As in ``save_session``.

    Raises:
        InvalidInput: *fields* is no list of names.
        StoreUnavailable: No answer came in time.
        CorruptValue: The stored session is damaged. The error has its key.
    """
    return _default().get_session(session_id, last=last, fields=fields, owner=owner)


def delete_session(
    session_id: str, *, expected: str = "", token: str | None = None, owner: Owner | Scope = CALLER
) -> bool:
    """Delete a session for good. False if there was none.

    Args:
        token: Your own name for this call. A repeat gets the first answer, and deletes no session that began since.
        expected: The version that the session must have, or its state (an ETag, ``<created_ms>-<version>``). "": any.
        owner: As in ``save_session``.

    Raises:
        ConflictError: The session has another version. Nothing was written.
        Forbidden: The session is only shared with this owner. Nothing was written.
        StoreUnavailable: No answer came in time. The error says whether anything was written.
    """
    return _default().delete_session(session_id, expected=expected, token=token, owner=owner)


def save_message(
    key: Hashable,
    role: str,
    content: Any,
    *,
    metadata: dict[str, Any] | None = None,
    token: str | None = None,
    owner: Owner | Scope = CALLER,
) -> Receipt:
    """Add ``{"role": …, "content": …}`` to the chat of *key*, and begin the chat if there is none. One round trip.

    Chats are apart from the sessions, and live for ``CONVSTORE_CONVERSATION_TTL``, 7 days, from the last interaction.

    Args:
        key: The key of the chat: a text, a number, None, or a tuple of these.
        metadata: The app's own facts about the message, kept beside its body.
        token: Your own name for this message. Repeating the call with the same token changes nothing.
        owner: As in ``save_session``.

    Raises:
        NotSerializable, TooLarge, TokenReused: Nothing was written.
        StoreUnavailable: No answer came in time. With a *token* the call may be repeated.
    """
    return _default().save_message(key, role, content, metadata=metadata, token=token, owner=owner)


def get_conversation(key: Hashable, *, last: int | None = None, owner: Owner | Scope = CALLER) -> list[Any]:
    """List the messages of the chat of *key*, its *last* ones or all, oldest first. Empty if there is no chat.

    Args:
        key: As in ``save_message``.
        owner: As in ``save_session``.

    Raises:
        StoreUnavailable: No answer came in time.
        CorruptValue: The stored chat is damaged. The error has its key.
    """
    return _default().get_conversation(key, last=last, owner=owner)


def clear_conversation(key: Hashable, *, token: str | None = None, owner: Owner | Scope = CALLER) -> bool:
    """Delete the chat of *key* in one round trip. False if there was none.

    Args:
        key: As in ``save_message``.
        token: As in ``delete_session``.
        owner: As in ``save_session``.

    Raises:
        StoreUnavailable: No answer came in time. The error says whether anything was written.
    """
    return _default().clear_conversation(key, token=token, owner=owner)
