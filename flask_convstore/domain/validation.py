"""Validation of ids, names, titles, numbers and lifetimes that callers give. ``InvalidInput`` refuses them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TypeVar

from ..errors import InvalidInput, InvalidSessionId

_T = TypeVar("_T")

MAX_NAME = 200
"""The longest session id, owner, alias, token or title, in characters."""

MAX_SEQ = 2**53
"""The largest number that scripts, and JSON in browsers, hold exactly."""

RESERVED_IDS = frozenset({"health", "metrics", "export", "import", "openapi.json", "current", "events", "convstore.js"})
"""Names of routes beside ``/<session_id>``."""

END_OF_ROUTE = r"/(?:messages(?:/[^/]*)?|replies/[^/]*|events|compact|fork)\Z"
"""Ends of routes behind ``/<session_id>``, as a pattern."""

_usual = re.compile(rf"[A-Za-z0-9_:-]{{1,{MAX_NAME}}}").fullmatch
_unreachable = re.compile(rf"(?:^|/)\.\.?(?:/|\Z)|{END_OF_ROUTE}").search


def check_session_id(session_id: object) -> None:
    """Refuse what is no text of 1 to 200 characters without control characters, is reserved, or cannot stand in a path.

    Raises:
        InvalidSessionId: It is refused.
    """
    if type(session_id) is str and _usual(session_id) and session_id not in RESERVED_IDS:
        return
    reason = name_problem(session_id)
    if not reason:
        assert isinstance(session_id, str)
        if session_id in RESERVED_IDS:
            reason = f"{session_id!r} is reserved for a route"
        elif ("/" in session_id or session_id[:1] == ".") and _unreachable(session_id):
            cure = "it must have no part '.' or '..', nor end as a route does, as in '/messages'"
            reason = f"no path of HTTP leads to {session_id!r}: {cure}"
    if reason:
        raise InvalidSessionId(f"{reason}. Nothing was written.", "session_id")


def check_name(name: str, path: str) -> str:
    """Refuse what is no text of 1 to 200 characters without control characters. Return it as plain text, also of an enum."""
    if type(name) is str and _usual(name):
        return name
    reason = name_problem(name)
    if reason:
        raise InvalidInput(f"{reason}. Nothing was written.", path)
    return str.__str__(name)


def check_target(target: object, path: str = "seq") -> None:
    """Refuse what is neither the seq of a message nor an id."""
    if isinstance(target, str):
        check_name(target, path)
        if re.fullmatch("[0-9]+", target):
            raise InvalidInput(f"a seq is a number, not the text {target!r}. Nothing was written.", path)
    else:
        check_whole(target, path, 1, MAX_SEQ)


def check_message_id(message_id: object, path: str) -> None:
    """Refuse an id that an app or a client may not give to a message. Ids like ``msg-12`` are ours.

    Raises:
        InvalidInput: It is no text of 1 to 200 characters that can stand in a path and in an envelope, or it is one of ours.
    """
    reason = name_problem(message_id)
    if not reason and not is_message_id(message_id):
        reason = f"an id has no quote, no slash, and no point at its beginning, as {message_id!r} has"
    if not reason and re.fullmatch("(?:msg-)?[0-9]+", str(message_id)):
        reason = f"ids like {message_id!r} stand for the number of a message"
    if reason:
        raise InvalidInput(f"{reason}. Nothing was written.", path)


def is_message_id(message_id: object) -> bool:
    """Tell whether a message can have this id. It stands in a path and in an envelope."""
    return not name_problem(message_id) and not re.search(r'["\\/]|^\.', str(message_id))


def check_title(title: str) -> str:
    """Refuse what is no name, nor "" for no title. Return *title*."""
    return title if title == "" else check_name(title, "title")


def without_controls(text: _T) -> _T | str:
    """Put a space in the place of each control character, as a title holds none. Anything but a text stays."""
    return _controls.sub(" ", text) if isinstance(text, str) and not text.isprintable() else text


def check_whole(number: object, path: str, least: int = 0, most: int | None = None) -> None:
    """Refuse what is no whole number from *least* to *most* (None: or more)."""
    if (
        isinstance(number, int)
        and not isinstance(number, bool)
        and least <= number
        and (most is None or number <= most)
    ):
        return
    bounds = f"{least:,} or more" if most is None else f"{least:,} to {most:,}"
    raise InvalidInput(f"it is a whole number, {bounds}, not {number!r}. Nothing was written.", path)


def check_lifetime(given: object, longest: float) -> float:
    """Refuse what is no lifetime: seconds, or a ``timedelta``. Return the seconds."""
    seconds = given.total_seconds() if isinstance(given, timedelta) else given
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 1 <= seconds <= longest:
        raise InvalidInput(f"a lifetime {no_lifetime(seconds, longest)}. Nothing was written.", "ttl")
    return seconds


def is_for_ever(given: object) -> bool:
    """Tell whether *given* is a text by which an app asks for a session without an end."""
    return isinstance(given, str) and given.strip().lower() in ("never", "none", "forever", "infinite", "unlimited")


def no_lifetime(given: object, longest: float) -> str:
    """Explain why *given* is no lifetime."""
    text = f"must be 1 to {longest:.12g} seconds, not {given!r}"
    is_never = isinstance(given, (int, float)) and not 0 < given < longest
    is_never = is_never or is_for_ever(given)
    never = f". Nothing is kept for ever, so that no key is left behind: the longest is {longest:.12g}"
    return text + (never if is_never and not isinstance(given, bool) else "")


_controls = re.compile("[\x00-\x1f\x7f-\x9f]")
_control_character = _controls.search
_lone_surrogate = re.compile("[\ud800-\udfff]").search


def name_problem(name: object) -> str | None:
    """Explain why *name* is no name. None if it is one."""
    if not isinstance(name, str):
        return f"it must be a text, not {type(name).__name__}: use str()"
    if not 1 <= len(name) <= MAX_NAME:
        return f"it must have 1 to {MAX_NAME} characters, not {len(name)}"
    if name.isascii() and name.isprintable():
        return None
    if _control_character(name):
        return "it must not hold control characters"
    if _lone_surrogate(name):
        return "it must not hold lone surrogates"
    return None
