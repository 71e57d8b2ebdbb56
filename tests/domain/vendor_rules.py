"""The documented rules of four vendors for the messages of a request, as a checker that knows nothing of our code.

Each function lists the offences of a history. Sources, as read in November 2026:

- OpenAI Chat Completions: an assistant message with ``tool_calls`` must be followed by tool messages that respond to each
  ``tool_call_id``. A tool message must be a response to a preceding message with ``tool_calls``.
- OpenAI Responses: "No tool output found for function call", "No tool call found for function call output", "Item of type
  reasoning was provided without its required following item", "Item was provided without its required reasoning item".
- Anthropic Messages: ``tool_use`` ids must have ``tool_result`` blocks immediately after, in the next message, and these
  come first in it. Each result belongs to a call of the message before. Messages are not empty. Neighbours of one role are
  one message.
- Gemini: a function call turn comes immediately after a user turn or a function response turn. A function response turn
  comes immediately after a function call turn, and has as many parts. Contents are not empty.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

History = list[dict[str, Any]]


def chat(history: History) -> list[str]:
    """Offences against the rules of OpenAI's Chat Completions."""
    found: list[str] = []
    awaited: list[str] = []
    for index, message in enumerate(history):
        if message["role"] == "tool":
            if message.get("tool_call_id") not in awaited:
                found.append(f"{index}: a tool message without a preceding call, or a second one")
            else:
                awaited.remove(message["tool_call_id"])
            continue
        if awaited:
            found.append(f"{index}: calls {awaited} are not followed by tool messages")
        calls = message.get("tool_calls") or []
        awaited = [call["id"] for call in calls]
        if "tool_calls" in message and not calls:
            found.append(f"{index}: an empty list of calls")
        if not calls and not message.get("content"):
            found.append(f"{index}: neither content nor calls")
    if awaited:
        found.append(f"end: calls {awaited} are not followed by tool messages")
    return found


_OUTPUTS = ("function_call", "custom_tool_call", "computer_call", "shell_call", "apply_patch_call")


def responses(history: History) -> list[str]:
    """Offences against the rules of OpenAI's Responses API. ``_of`` in an item names the reasoning that it needs."""
    found: list[str] = []
    called: list[tuple[str, str]] = []
    answered: list[tuple[str, str]] = []
    reasonings = {item["id"] for item in history if item.get("type") == "reasoning"}
    for index, item in enumerate(history):
        kind = item.get("type", "message")
        following = history[index + 1] if index + 1 < len(history) else {}
        if kind == "reasoning" and following.get("_of") != item["id"] and following.get("type") != "reasoning":
            found.append(f"{index}: a reasoning without its following item")
        if "_of" in item and item["_of"] not in reasonings:
            found.append(f"{index}: an item without its reasoning")
        if kind in _OUTPUTS:
            called.append((kind, item["call_id"]))
        elif kind == "mcp_approval_request":
            called.append(("mcp", item["id"]))
        elif kind == "mcp_approval_response":
            _answer(index, ("mcp", item["approval_request_id"]), called, answered, found)
        elif kind.endswith("_output"):
            _answer(index, (kind.removesuffix("_output"), item["call_id"]), called, answered, found)
        elif kind == "message" and not item.get("content"):
            found.append(f"{index}: an empty message")
    found += [f"no output for {call}" for call in called if call not in answered]
    return found


def _answer(index: int, key: tuple[str, str], called: list[Any], answered: list[Any], found: list[str]) -> None:
    if key not in called:
        found.append(f"{index}: no call for the output {key}")
    if key in answered:
        found.append(f"{index}: a second output {key}")
    answered.append(key)


def anthropic(history: History) -> list[str]:
    """Offences against the rules of Anthropic's Messages API. A system message is sent apart."""
    found: list[str] = []
    awaited: list[str] = []
    for role, messages in itertools.groupby((m for m in history if m["role"] != "system"), key=lambda m: m["role"]):
        parts: list[dict[str, Any]] = []
        for message in messages:
            content = message["content"]
            parts += [{"type": "text", "text": content}] if isinstance(content, str) else content
            if not content:
                found.append(f"an empty message of the {role}")
        results = [part["tool_use_id"] for part in parts if part["type"] == "tool_result"]
        calls = [part["id"] for part in parts if part["type"] == "tool_use"]
        if any(part["type"] != "tool_result" for part in parts[: len(results)]):
            found.append(f"results {results} are not the first parts")
        if sorted(results) != sorted(awaited):
            found.append(f"results {results} for the calls {awaited}")
        if calls and role != "assistant":
            found.append(f"the {role} calls")
        found += _server_pairs(parts)
        awaited = calls
    if awaited:
        found.append(f"end: no results for {awaited}")
    return found


def _server_pairs(parts: list[dict[str, Any]]) -> list[str]:
    calls = [part["id"] for part in parts if part["type"] == "server_tool_use"]
    results = [part["tool_use_id"] for part in parts if part["type"] == "web_search_tool_result"]
    return [] if calls == results else [f"the vendor's results {results} for its calls {calls}"]


def gemini(history: History) -> list[str]:
    """Offences against the rules of Gemini. A system instruction is sent apart."""
    found: list[str] = []
    before: tuple[str, list[Any]] = ("none", [])
    for index, content in enumerate(m for m in history if m["role"] != "system"):
        parts = content.get("parts", [])
        calls = [_gemini(part, "function_call", "functionCall") for part in parts]
        answers = [_gemini(part, "function_response", "functionResponse") for part in parts]
        kind, names = _gemini_kind(content, [c for c in calls if c], [a for a in answers if a])
        if not parts or any(part.get("text") == "" for part in parts):
            found.append(f"{index}: an empty content")
        if kind == "call" and before[0] not in ("user", "response"):
            found.append(f"{index}: a function call turn after {before[0]}")
        if kind == "call" and "thought_signature" not in next(part for part, c in zip(parts, calls, strict=True) if c):
            found.append(f"{index}: the first call has no signature")
        if (kind == "response") != (before[0] == "call"):
            found.append(f"{index}: {kind} after {before[0]}")
        elif kind == "response" and (sorted(names) != sorted(before[1]) or len(names) != len(parts)):
            found.append(f"{index}: responses {names} to calls {before[1]}")
        before = kind, names
    if before[0] == "call":
        found.append("end: no response")
    return found


def _gemini(part: dict[str, Any], *keys: str) -> Any:
    return next((part[key] for key in keys if key in part), None)


def _gemini_kind(content: dict[str, Any], calls: list[Any], answers: list[Any]) -> tuple[str, list[Any]]:
    if calls:
        return "call", [(call.get("id"), call["name"]) for call in calls]
    if answers:
        return "response", [(answer.get("id"), answer["name"]) for answer in answers]
    return content["role"], []


RULES: dict[str, Callable[[History], list[str]]] = {
    "chat": chat,
    "responses": responses,
    "anthropic": anthropic,
    "gemini": gemini,
}
