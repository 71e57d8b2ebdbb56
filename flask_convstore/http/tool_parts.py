"""Tool calls and their results in messages of clients. They speak for the model and the app, whatever the message's role.

A model believes a result of a tool. So whoever writes one needs the role ``tool``, and whoever writes a call ``assistant``.
The names are those of OpenAI, Anthropic, Google, Mistral and the AI SDK.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Collection, Iterable
from typing import Any

CALLS, RESULTS = "assistant", "tool"
"""Roles that may write calls of tools, and results of tools."""

_RESULT = re.compile(r"(tool|function|call)-?(result|output|response)$|^tool-|^dynamic-?tool$", re.MULTILINE)
_CALL = re.compile(r"(tool|function|mcp|computer|shell|search|interpreter)-?(use|call|invocation)$", re.MULTILINE)
_TYPE = operator.methodcaller("get", "type")
_LONGEST_TYPE = 100
"""Characters of the longest type of a part that is looked at. No type of a tool is longer."""
_KEYS = {
    **dict.fromkeys(("tool_call_id", "toolCallId", "tool_use_id", "function_response", "functionResponse"), RESULTS),
    **dict.fromkeys(("tool_calls", "toolCalls", "function_call", "functionCall", "toolInvocations"), CALLS),
}


def foreign_role(body: object, roles: Collection[str | None]) -> str | None:
    """Find the role that a message speaks for by a tool's call or result, if this role is not among *roles*.

    Args:
        body: A message's body. Its keys and the parts of its content are looked at.
    """
    if not isinstance(body, dict):
        return None
    found = {_KEYS[name] for name in _KEYS.keys() & body.keys() if body[name]}
    found.update(_roles_of_parts(body.get("content")), _roles_of_parts(body.get("parts")))
    return next((role for role in sorted(found) if role not in roles), None)


def foreign_part(content: object, roles: Collection[str | None]) -> str | None:
    """Find the role that a part of *content* speaks for, if this role is not among *roles*."""
    return next((role for role in _roles_of_parts(content) if role not in roles), None)


def _roles_of_parts(content: object) -> Iterable[str]:
    parts: list[Any] = content if isinstance(content, list) else [content]
    dicts = parts if set(map(type, parts)) == {dict} else [part for part in parts if isinstance(part, dict)]
    # A hostile message may have very many parts. All are looked at together, in C, before any is looked at alone.
    if not _KEYS.keys().isdisjoint(set().union(*dicts)) or _may_be_of_tools(map(_TYPE, dicts)):
        for part in dicts:
            yield from _roles_of_part(part)


def _may_be_of_tools(kinds: Iterable[Any]) -> bool:
    """Tell whether some of the types of parts may be those of tools."""
    found = list(kinds)
    texts = found if set(map(type, found)) == {str} else [kind for kind in found if isinstance(kind, str)]
    names = "\n".join(set(texts)).lower().replace("_", "-")
    return bool(_CALL.search(names) or _RESULT.search(names))


def _roles_of_part(part: dict[str, Any]) -> Iterable[str]:
    kind = part.get("type")
    if isinstance(kind, str) and len(kind) <= _LONGEST_TYPE:
        name = kind.lower().replace("_", "-")
        if _CALL.search(name):
            yield CALLS
        elif _RESULT.search(name):
            yield RESULTS
    yield from (_KEYS[key] for key in _KEYS.keys() & part.keys() if part[key])
