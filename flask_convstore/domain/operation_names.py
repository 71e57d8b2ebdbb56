"""Names of operations and of their outcomes, for metrics, traces and logs. Their number is bounded by the code."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any, get_args

from .. import errors
from .commands import BeginTurn, Command, CommitTurn, FeedReply, LinkAlias, MoveConversation, TakeReply

OK = "ok"
REPEATED = "repeated"
FAILED = "error"
"""Outcome of an operation that an exception of another package has ended, such as one from a signal's handler."""


def _named(kind: type[Any]) -> str:
    """Write the name of a class as that of an operation: ``BeginTurn`` is ``begin_turn``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


_COMMANDS = {kind: _named(kind) for kind in (*get_args(Command), BeginTurn, FeedReply, TakeReply, LinkAlias)}
_METHODS = {"renew": "renew_turn", "feed": "feed_reply", "follow": "follow_alias"}


OF_THREADS = frozenset(
    {"renew_turn", "feed_reply", "reply_parts", "session_events", "watch_list", "wait_for_turn", "ping", "about"}
)
"""Calls that threads and checks make again and again, or that wait on purpose."""


def operation_of(method: Callable[..., Any], arguments: tuple[Any, ...]) -> str:
    """Name a call to a store: by its command, else by its method."""
    command = _COMMANDS.get(type(arguments[0])) if arguments else None
    return command or _METHODS.get(method.__name__, method.__name__)


def command_name(command: object, other: str) -> str:
    """Name a command. Anything else has the *other* name."""
    return _COMMANDS.get(type(command), other)


def outcome_of(error: BaseException) -> str:
    """Name the outcome of an operation that has raised *error*."""
    kind: Any = type(error)
    return _outcome(kind)


def is_failure(error: BaseException) -> bool:
    """Tell whether the store has failed. A refusal, such as that of a second turn, is no failure."""
    return isinstance(error, errors.StoreError) or not isinstance(error, errors.ConvstoreError)


@cache
def _outcome(kind: type[BaseException]) -> str:
    known = (base for base in kind.__mro__ if base.__module__ == errors.__name__)
    return next(map(_named, known), FAILED)


_MARKS = {b',"status":"%b"}' % fate.encode(): fate for fate in ("stopped", "interrupted")}


def end_of(command: CommitTurn | MoveConversation) -> str:
    """Name the end of a turn: ``replied``, ``unanswered``, ``failed``, ``stopped``, ``interrupted`` or ``moved``."""
    if isinstance(command, MoveConversation):
        return "moved"
    if command.status or not command.elements:
        return command.status or "unanswered"
    envelope = command.elements[-1].partition(b"\n")[0]
    return next((fate for mark, fate in _MARKS.items() if envelope.endswith(mark)), "replied")
