"""Messages as a person reads them: the text as it stands, and everything else folded, as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ..domain import json_text
from .wording import counted, hidden

MOST_CHARACTERS = 20_000
"""Most characters of one message on a page, or of one field. The export has all."""
_MOST_PARTS = 100
"""Most parts of one message on a page."""

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
    body, tokens = line["body"], line.get("tokens")
    parts = list(_shown_parts(line, hide_text=hide_text))
    facts = [("tokens", f"{tokens['input']:,} in, {tokens['output']:,} out")] if tokens else []
    message_id = line.get("id") or f"msg-{line['seq']}"
    return ShownMessage(line["seq"], message_id, role_of(body), line["created_at_ms"], line.get("status"), parts, facts)


def role_of(body: Any) -> str:
    """Read the role of a message."""
    role = body.get("role") if isinstance(body, dict) else None
    return role if isinstance(role, str) and role else "message"


def written(value: Any, most: int = MOST_CHARACTERS) -> str:
    """Write a text as it stands, and all else as JSON."""
    if not isinstance(value, str):
        return indented(value, most)
    left = len(value) - most
    return value if left <= 0 else f"{value[:most]}\n… {counted(left, 'more character')}: the export has them."


def indented(value: Any, most: int = MOST_CHARACTERS) -> str:
    """Write JSON for people. No more of it is made than a page shows."""
    text = ""
    for chunk in _JSON.iterencode(value):
        text += chunk
        if len(text) > most:
            return f"{text[:most]}\n… The export has the rest."
    return text


def hidden_value(value: Any) -> str:
    """Write the length of a value, as JSON if it is no text, in the place of the value."""
    return hidden(value if isinstance(value, str) else json_text.write(value).decode())


_JSON = json.JSONEncoder(indent=2, ensure_ascii=False, default=str)


class _Part(NamedTuple):
    value: Any
    label: str = ""


def _shown_parts(line: Mapping[str, Any], *, hide_text: bool) -> Iterator[ShownPart]:
    """Make the parts of a message ready, as many of them as a page shows."""
    left = MOST_CHARACTERS
    for place, (value, label) in enumerate(_all_parts(line)):
        if left <= 0 or place == _MOST_PARTS:
            more = "There is more of it." if hide_text else "… There is more of it: the export has all."
            yield ShownPart(more, is_hidden=hide_text)
            return
        text = hidden_value(value) if hide_text else written(value, left)
        yield ShownPart(text, "" if hide_text else label, is_hidden=hide_text)
        left -= len(text)


def _all_parts(line: Mapping[str, Any]) -> Iterator[_Part]:
    yield from _parts(line["body"])
    for name, label in (("metadata", "Metadata"), ("edits", "Earlier texts")):
        if line.get(name):
            yield _Part(line[name], label)


def _parts(body: Any) -> Iterator[_Part]:
    if isinstance(body, dict):
        yield from _parts_of_dict(body)
    else:
        yield _Part(body)


def _parts_of_dict(body: Mapping[str, Any]) -> Iterator[_Part]:
    is_answer = body.get("role") in _ANSWERING
    name = next((name for name in _TEXTS if body.get(name)), "")
    if name:
        yield from _answer(body, body[name]) if is_answer else _content(body[name])
    for call in _calls(body):
        yield _Part(call, f"Calls {_name_of(call)}")
    others = _without(body, {"role", name, "tool_calls", *(_NAMES if is_answer else ())})
    if others:
        yield _Part(others, ", ".join(map(str, others)))


def _without(body: Mapping[str, Any], shown: set[str]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in shown and value is not None}


def _answer(body: Mapping[str, Any], content: Any) -> Iterator[_Part]:
    names = " ".join(str(body[key]) for key in _NAMES if body.get(key))
    yield _Part(content, f"Answer of {names or 'a tool'}")


def _content(content: Any) -> Iterator[_Part]:
    for one in content if isinstance(content, list) else [content]:
        text = _text_in(one)
        if text is not None:
            yield _Part(text)
        else:
            kind = one.get("type") if isinstance(one, dict) else None
            yield _Part(one, str(kind or "Content"))


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
