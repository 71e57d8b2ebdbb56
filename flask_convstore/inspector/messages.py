"""Messages as a person reads them: the text as it stands, and everything else folded, as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .wording import counted, hidden

MOST_CHARACTERS = 20_000
"""Most characters of one text on a page. The export has all."""

_TEXTS = ("content", "parts", "text")
_TEXT_TYPES = ("text", "input_text", "output_text")
_ANSWERING = ("tool", "function")
_NAMES = ("name", "tool_call_id")


class ShownPart(NamedTuple):
    """A part of a message.

    Attributes:
        text: A text, or indented JSON.
        label: The line to which it is folded ("": it is shown as it stands).
        is_hidden: *text* tells of the content's size only.
    """

    text: str
    label: str = ""
    is_hidden: bool = False


class ShownMessage(NamedTuple):
    """A message on a page.

    Attributes:
        role: ``user``, ``assistant`` or another one of the app's ("message": it tells none).
        facts: What its envelope tells, each as label and text.
    """

    seq: int
    message_id: str
    role: str
    created_at_ms: int
    status: str | None
    parts: list[ShownPart]
    facts: list[tuple[str, str]]


def shown_message(line: Mapping[str, Any], *, hide_text: bool) -> ShownMessage:
    """Make a message of an export ready for a page. With *hide_text* only sizes are shown of all that the app wrote."""
    body, metadata = line["body"], line.get("metadata")
    parts = list(_parts(body))
    if metadata:
        parts.append(_folded("Metadata", metadata))
    if line.get("edits"):
        parts.append(_folded("Earlier texts", line["edits"]))
    if hide_text:
        parts = [ShownPart(hidden(part.text), is_hidden=True) for part in parts]
    parts = [part._replace(text=_bounded(part.text)) for part in parts]
    tokens = line.get("tokens")
    facts = [("tokens", f"{tokens['input']:,} in, {tokens['output']:,} out")] if tokens else []
    message_id = line.get("id") or f"msg-{line['seq']}"
    return ShownMessage(line["seq"], message_id, role_of(body), line["created_at_ms"], line.get("status"), parts, facts)


def role_of(body: Any) -> str:
    """Read the role of a message."""
    role = body.get("role") if isinstance(body, dict) else None
    return role if isinstance(role, str) and role else "message"


def indented(value: Any) -> str:
    """Write JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _parts(body: Any) -> Iterator[ShownPart]:
    if isinstance(body, dict):
        yield from _parts_of_dict(body)
    else:
        yield ShownPart(body if isinstance(body, str) else indented(body))


def _parts_of_dict(body: Mapping[str, Any]) -> Iterator[ShownPart]:
    is_answer = body.get("role") in _ANSWERING
    name = next((name for name in _TEXTS if body.get(name)), "")
    if name:
        yield from _answer(body, body[name]) if is_answer else _content(body[name])
    for call in _calls(body):
        yield _folded(f"Calls {_name_of(call)}", call)
    others = _without(body, {"role", name, "tool_calls", *(_NAMES if is_answer else ())})
    if others:
        yield _folded(", ".join(map(str, others)), others)


def _without(body: Mapping[str, Any], shown: set[str]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in shown and value is not None}


def _answer(body: Mapping[str, Any], content: Any) -> Iterator[ShownPart]:
    names = " ".join(str(body[key]) for key in _NAMES if body.get(key))
    yield _folded(f"Answer of {names or 'a tool'}", content)


def _content(content: Any) -> Iterator[ShownPart]:
    for one in content if isinstance(content, list) else [content]:
        text = _text_in(one)
        if text is not None:
            yield ShownPart(text)
        else:
            kind = one.get("type") if isinstance(one, dict) else None
            yield _folded(str(kind or "Content"), one)


def _text_in(part: Any) -> str | None:
    """Read the text of a part of a content. None if it is something else."""
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and part.get("type", "text") in _TEXT_TYPES and isinstance(part.get("text"), str):
        return str(part["text"])
    return None


def _calls(body: Mapping[str, Any]) -> list[Any]:
    calls = body.get("tool_calls")
    return calls if isinstance(calls, list) else [calls] if calls else []


def _name_of(call: Any) -> str:
    if not isinstance(call, dict):
        return "a tool"
    function = call.get("function")
    name = function.get("name") if isinstance(function, dict) else call.get("name")
    return name if isinstance(name, str) else "a tool"


def _folded(label: str, value: Any) -> ShownPart:
    return ShownPart(value if isinstance(value, str) else indented(value), label)


def _bounded(text: str) -> str:
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[:MOST_CHARACTERS]}\n… {counted(len(text) - MOST_CHARACTERS, 'more character')}: the export has them."
