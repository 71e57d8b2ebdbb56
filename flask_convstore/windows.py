"""The part of a history that a model is shown: the newest messages that fit, with what belongs together kept together.

Knows the two forms in which tools are called: ``tool_calls`` answered by messages of role ``tool`` (OpenAI), and parts of
type ``tool_use`` answered by parts of type ``tool_result`` (Anthropic).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .errors import InvalidInput

Count = Callable[[Any], int]


def window(
    history: Sequence[Any], *, last: int | None = None, tokens: int | None = None, count: Count | None = None
) -> list[Any]:
    """The newest messages of *history*, oldest first: *last* messages at most, and *tokens* as *count* counts a body.

    System messages at its beginning are always there, and count. A call of tools and the answers to it are there whole or
    not at all, so nothing begins with an answer. The newest message, with what belongs to it, is there even if too long.

    Raises:
        InvalidInput: A limit is no whole number; *tokens* without *count*.
    """
    for name, limit in (("last", last), ("tokens", tokens)):
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise InvalidInput(f"it is a whole number, 0 or more, not {limit!r}", name)
    if tokens is not None and count is None:
        raise InvalidInput("tokens need a function that counts those of a message: count=", "count")

    def cost(messages: Sequence[Any]) -> int:
        return sum(count(message) for message in messages) if count and tokens is not None else 0

    heads = next((index for index, message in enumerate(history) if _role(message) not in _SYSTEM), len(history))
    system = list(history[:heads])
    room, budget = (None if last is None else last - heads), (None if tokens is None else tokens - cost(system))
    chosen: list[Sequence[Any]] = []
    for group in reversed(_groups(history[heads:])):
        spent = cost(group)
        fits = (room is None or len(group) <= room) and (budget is None or spent <= budget)
        if chosen and not fits:
            break
        chosen.append(group)
        room = None if room is None else room - len(group)
        budget = None if budget is None else budget - spent
    return system + [message for group in reversed(chosen) for message in group]


_SYSTEM = ("system", "developer")


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


def _groups(messages: Sequence[Any]) -> list[Sequence[Any]]:
    """Messages that belong together: a call of tools, and the answers behind it."""
    groups: list[Sequence[Any]] = []
    start = 0
    for index, message in enumerate(messages):
        if index and not _answers_tools(message):
            groups.append(messages[start:index])
            start = index
    return [*groups, messages[start:]] if messages else []


def _answers_tools(message: Any) -> bool:
    if _role(message) in ("tool", "function"):
        return True
    content = message.get("content") if isinstance(message, dict) else None
    return isinstance(content, list) and any(
        isinstance(part, dict) and part.get("type") == "tool_result" for part in content
    )
