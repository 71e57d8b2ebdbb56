"""Conversion of the keys that apps use in a dict to session ids, and back."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Hashable
from typing import Any

from ..errors import InvalidSessionId, NotSerializable
from .validation import MAX_NAME, check_session_id

_ENCODED = "json:"


def id_of(key: Hashable) -> str:
    """Convert a mapping's key to a session id. A text that is an id stays as it is, any other key becomes JSON.

    Raises:
        TypeError: It is not hashable.
        NotSerializable: It is no text, whole number, None, or tuple of these.
        InvalidSessionId: It is too long.
    """
    hash(key)
    if isinstance(key, str):
        key = str.__str__(key)
        if not key.startswith(_ENCODED):
            with contextlib.suppress(InvalidSessionId):
                check_session_id(key)
                return key
    session_id = _ENCODED + json.dumps(_plain(key), separators=(",", ":"))
    try:
        check_session_id(session_id)
    except InvalidSessionId:
        session_id = session_id.replace("/", "\\/")  # the same JSON, which is no path
        check_session_id(session_id)
    return session_id


def key_of(session_id: str) -> Hashable:
    """Convert a session id back to the key."""
    return _hashable(json.loads(session_id[len(_ENCODED) :])) if session_id.startswith(_ENCODED) else session_id


def is_key(session_id: str) -> bool:
    """Tell whether a key has that id. Others can give sessions ids that look like one of ours, and are none."""
    if not session_id.startswith(_ENCODED):
        return True
    try:
        return id_of(key_of(session_id)) == session_id
    except (ValueError, TypeError, RecursionError):
        return False


def _plain(key: object) -> object:
    if isinstance(key, tuple):
        return [_plain(part) for part in key]
    if isinstance(key, float) and key.is_integer():
        return int(key)  # 1.0 and True are the key 1, as in a dict
    if isinstance(key, int) and abs(key) >= 10**MAX_NAME:
        raise InvalidSessionId(f"a key has at most {MAX_NAME} characters. Nothing was written.", "session_id")
    if key is None or isinstance(key, (str, int)):
        return int(key) if isinstance(key, int) else key
    raise NotSerializable(
        f"a key is a text, a whole number, None, or a tuple of these, not a {type(key).__name__}. Nothing was written."
    )


def _hashable(plain: Any) -> Hashable:
    return tuple(_hashable(part) for part in plain) if isinstance(plain, list) else plain
