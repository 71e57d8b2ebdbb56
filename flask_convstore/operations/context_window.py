"""The part of a history that a model is shown: the newest messages that fit, with what belongs together kept together.

Knows the forms in which tools are called: ``tool_calls`` answered by messages of role ``tool``, items ``function_call``
answered by ``function_call_output`` (both OpenAI), and parts ``tool_use`` answered by parts ``tool_result`` (Anthropic).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from ..domain.validation import check_whole
from ..errors import InvalidInput

Count = Callable[[Any], int]


def window(
    history: Sequence[Any], *, last: int | None = None, tokens: int | None = None, count: Count | None = None
) -> list[Any]:
    """The newest messages of *history*, oldest first: *last* messages at most, and *tokens* as *count* counts a body.

    System messages at its beginning are always there, and count. A call of tools and the answers to it are there whole or
    not at all, so nothing begins with an answer, unless there is nothing but answers. The newest message, with what belongs
    to it, is there even if too long.

    Raises:
        InvalidInput: A limit is no whole number; *tokens* without *count*.
    """
    for name, limit in (("last", last), ("tokens", tokens)):
        if limit is not None:
            check_whole(limit, name)
    if tokens is not None and count is None:
        raise InvalidInput("tokens need a function that counts those of a message: count=", "count")

    def cost(messages: Sequence[Any]) -> int:
        return sum(count(message) for message in messages) if count and tokens is not None else 0

    system = list(itertools.takewhile(lambda message: _role(message) in _SYSTEM, history))
    room = math.inf if last is None else last - len(system)
    budget = math.inf if tokens is None else tokens - cost(system)
    chosen: list[Sequence[Any]] = []
    for group in reversed(_groups(history[len(system) :])):
        room -= len(group)
        budget -= cost(group)
        if chosen and (room < 0 or budget < 0):
            break
        chosen.append(group)
    return system + [message for group in reversed(chosen) for message in group]


_SYSTEM = ("system", "developer")


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


def _groups(messages: Sequence[Any]) -> list[Sequence[Any]]:
    """Messages that belong together: a call of tools, all answers to it, and what lies between.

    Answers at the beginning, whose call is not there, are left out, unless there is nothing else.
    """
    begins, called = [True] * len(messages), dict[Any, int]()
    for index, message in enumerate(messages):
        answered = _answered(message)
        if answered is not None:
            first = min((called[call] for call in answered if call in called), default=index - 1)
            begins[first + 1 : index + 1] = [False] * (index - first)
        called.update(dict.fromkeys(_calls(message), index))
    starts = [index for index, is_first in enumerate(begins) if is_first] or [0]
    return [messages[start:end] for start, end in itertools.pairwise([*starts, len(messages)])] if messages else []


def _calls(message: Any) -> list[Any]:
    """The ids of the calls of tools that a message makes."""
    if not isinstance(message, dict):
        return []
    if message.get("type") == "function_call":
        return _texts([message.get("call_id")])
    calls = message.get("tool_calls")
    listed = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    return _texts([*(call.get("id") for call in listed), *(part.get("id") for part in _parts(message, "tool_use"))])


def _answered(message: Any) -> list[Any] | None:
    """The ids of the calls that a message answers, as far as it names them; None if it answers none."""
    if isinstance(message, dict) and message.get("type") == "function_call_output":
        return _texts([message.get("call_id")])
    if _role(message) in ("tool", "function"):
        return _texts([message.get("tool_call_id")])
    results = _parts(message, "tool_result")
    return _texts([part.get("tool_use_id") for part in results]) if results else None


def _parts(message: Any, kind: str) -> list[Any]:
    content = message.get("content") if isinstance(message, dict) else None
    parts = content if isinstance(content, list) else []
    return [part for part in parts if isinstance(part, dict) and part.get("type") == kind]


def _texts(values: list[Any]) -> list[str]:
    return [value for value in values if isinstance(value, str)]
