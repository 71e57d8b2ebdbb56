"""Tool calls and their results in messages of clients. They speak for the model and the app, whatever the message's role.

A model believes a result of a tool. So whoever writes one needs the role ``tool``, and whoever writes a call ``assistant``.
The names are those of OpenAI, Anthropic, Google, Mistral and the AI SDK.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from itertools import compress, repeat
from operator import is_, methodcaller
from typing import Any

CALLS, RESULTS = "assistant", "tool"
"""Roles that may write calls of tools, and results of tools."""

_RESULT = re.compile(r"(tool|function|call)-?(result|output|response)$|^tool-|^dynamic-?tool$")
_CALL = re.compile(r"(tool|function|mcp|computer|shell|search|interpreter)-?(use|call|invocation)$")
_TOOL = re.compile(f"{_RESULT.pattern}|{_CALL.pattern}", re.MULTILINE)
"""Either of them, in any line."""
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
    return next((role for role in sorted(_roles_of_parts(content)) if role not in roles), None)


def _roles_of_parts(content: object) -> set[str]:
    """Find the roles that parts speak for, nearly all of it in C, since a hostile message has very many parts."""
    given = content if isinstance(content, list) else [content]
    parts: list[dict[str, Any]] = list(_of_type(given, dict))
    keys = _KEYS.keys() & set().union(*parts)
    roles = {_KEYS[key] for key in keys if any(map(methodcaller("get", key), parts))}
    named = set(_of_type(list(map(methodcaller("get", "type"), parts)), str))
    kinds = list(compress(named, map(_LONGEST_TYPE.__ge__, map(len, named))))
    if _TOOL.search(_plain("\n".join(kinds))):
        roles.update(*map(_roles_of_kind, kinds))
    return roles


def _of_type(values: list[Any], kind: type) -> Iterable[Any]:
    return compress(values, map(is_, map(type, values), repeat(kind)))


def _plain(kind: str) -> str:
    return kind.lower().replace("_", "-")


def _roles_of_kind(kind: str) -> list[str]:
    """Find the role that a part of this type speaks for."""
    name = _plain(kind)
    if _CALL.search(name):
        return [CALLS]
    return [RESULTS] if _RESULT.search(name) else []
