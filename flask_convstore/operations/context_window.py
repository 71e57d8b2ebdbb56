"""Context window: the part of a history that a model is shown.

The newest messages that fit are chosen, and messages that belong together stay together. A call of tools is recognised in
these forms: ``tool_calls`` answered by messages of role ``tool``, items ``function_call`` answered by
``function_call_output`` (both OpenAI), and parts ``tool_use`` answered by parts ``tool_result`` (Anthropic).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from ..domain.validation import check_whole
from ..errors import InvalidInput

Count = Callable[[Any], int]
"""A function from a message's body to its number of tokens."""


def window(
    history: Sequence[Any], *, last: int | None = None, tokens: int | None = None, count: Count | None = None
) -> list[Any]:
    """Choose the newest messages of *history*: *last* messages at most, and *tokens* as *count* counts them. Oldest first.

    System messages at the beginning are always chosen, and count. A call of tools and its answers are chosen together or
    not at all, so that no window begins with an answer, unless there are only answers. The newest message, with the messages
    that belong to it, is chosen even if it is too long.

    Raises:
        InvalidInput: A limit is no whole number, or *tokens* is given without *count*.
    """
    for name, limit in (("last", last), ("tokens", tokens)):
        if limit is not None:
            check_whole(limit, name)
    if tokens is not None and count is None:
        raise InvalidInput(
            "tokens= needs a function from a message's body to its number of tokens: pass count=", "count"
        )
    budget = _Budget(last, tokens, count)
    system = list(itertools.takewhile(_is_system, history))
    budget.spend(system)
    chosen: list[Sequence[Any]] = []
    for group in reversed(_groups(history[len(system) :])):
        budget.spend(group)
        if chosen and budget.is_overdrawn():
            break
        chosen.append(group)
    return system + [message for group in reversed(chosen) for message in group]


class _Budget:
    """The messages and the tokens that a window may still take."""

    def __init__(self, messages: int | None, tokens: int | None, count: Count | None) -> None:
        self._messages = math.inf if messages is None else messages
        self._tokens = math.inf if tokens is None else tokens
        self._count = None if tokens is None else count  # counting may be slow

    def spend(self, messages: Sequence[Any]) -> None:
        """Take *messages* into the window."""
        self._messages -= len(messages)
        if self._count:
            self._tokens -= sum(map(self._count, messages))

    def is_overdrawn(self) -> bool:
        """Tell whether the window has taken too much."""
        return self._messages < 0 or self._tokens < 0


def _is_system(message: Any) -> bool:
    return _role(message) in ("system", "developer")


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


def _groups(messages: Sequence[Any]) -> list[Sequence[Any]]:
    """Divide messages into groups that belong together: a call of tools, its answers, and the messages between them.

    Answers at the beginning whose call is missing are left out, unless there are only answers.
    """
    if not messages:
        return []
    begins = [True] * len(messages)
    called: dict[str, int] = {}
    for index, message in enumerate(messages):
        answered = _answered(message)
        if answered is not None:
            first = min((called[call] for call in answered if call in called), default=index - 1)
            begins[first + 1 : index + 1] = [False] * (index - first)
        called.update(dict.fromkeys(_calls(message), index))
    starts = [index for index, is_first in enumerate(begins) if is_first] or [0]
    return [messages[start:end] for start, end in itertools.pairwise([*starts, len(messages)])]


def _calls(message: Any) -> list[Any]:
    """List the ids of the calls of tools that a message makes."""
    if not isinstance(message, dict):
        return []
    if message.get("type") == "function_call":
        return _texts([message.get("call_id")])
    given = message.get("tool_calls")
    calls = [call for call in given if isinstance(call, dict)] if isinstance(given, list) else []
    return _texts([call.get("id") for call in [*calls, *_parts(message, "tool_use")]])


def _answered(message: Any) -> list[Any] | None:
    """List the ids of the calls that a message answers and names. None if the message is no answer."""
    if isinstance(message, dict) and message.get("type") == "function_call_output":
        return _texts([message.get("call_id")])
    if _role(message) in ("tool", "function"):
        return _texts([message.get("tool_call_id")])
    results = _parts(message, "tool_result")
    return _texts([part.get("tool_use_id") for part in results]) if results else None


def _parts(message: Any, kind: str) -> list[Any]:
    """List the parts of a message's content that are of one *kind*."""
    content = message.get("content") if isinstance(message, dict) else None
    parts = content if isinstance(content, list) else []
    return [part for part in parts if isinstance(part, dict) and part.get("type") == kind]


def _texts(values: list[Any]) -> list[str]:
    return [value for value in values if isinstance(value, str)]
