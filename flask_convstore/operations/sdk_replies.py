"""Replies as the SDKs of model vendors give them: a response, a message, or a stream of chunks.

No SDK is imported. Their objects are known by their attributes:

- OpenAI's chat completions, and those that follow them: ``choices[0].message`` and ``choices[0].delta``
- OpenAI's responses: ``output_text``, and events with a text as ``delta``
- Anthropic: a list of ``content`` blocks, and ``delta.text`` of events
- LangChain: ``content`` of a message
- Gemini: ``text``
"""

from __future__ import annotations

from typing import Any

from ..domain.parts import Part


def is_sdk_object(value: object) -> bool:
    """Tell an SDK's object by the way in which it becomes JSON, or by its choices."""
    return any(hasattr(value, name) for name in ("model_dump", "to_dict", "choices"))


def text_of_response(response: Any) -> str | None:
    """Find the text of a response or of a message. None if it has none."""
    choice = _first(getattr(response, "choices", None))
    message = response if choice is None else getattr(choice, "message", choice)
    content = getattr(message, "content", None)
    if isinstance(content, list):
        return "".join(filter(None, map(_text_of_part, content))) or None
    return content if isinstance(content, str) else _own_text(message)


def text_of_chunk(chunk: Any) -> str:
    """Find the text of one chunk. "" if it has none.

    Raises:
        TypeError: It is neither a text nor a chunk of a known SDK.
    """
    if chunk is None or isinstance(chunk, str):
        return chunk or ""
    if hasattr(chunk, "choices") or hasattr(chunk, "delta"):
        return _text_of_delta(chunk)
    if _is_other_event(chunk):
        return ""
    text = text_of_response(chunk)
    if text is None and not is_sdk_object(chunk):
        raise TypeError(f"a chunk of a reply is a text, not a {type(chunk).__name__}: yield the text of each chunk")
    return text or ""


def part_of_chunk(chunk: Any) -> Part:
    """Make the part of a streamed reply that one chunk is. TypeError as ``text_of_chunk``."""
    return Part("text", text_of_chunk(chunk))


def _is_other_event(chunk: Any) -> bool:
    """Tell the events beside the deltas: the beginning of a message, or a text that the deltas gave already."""
    return hasattr(chunk, "type") and is_sdk_object(chunk) and not hasattr(chunk, "content")


def _text_of_delta(chunk: Any) -> str:
    choice = _first(getattr(chunk, "choices", None))
    delta = getattr(chunk if choice is None else choice, "delta", None)
    if isinstance(delta, str):  # the arguments of a tool come in such deltas too, and are no text of the reply
        return delta if getattr(chunk, "type", None) == "response.output_text.delta" else ""
    text = getattr(delta, "content", None) or getattr(delta, "text", None)
    return text if isinstance(text, str) else ""


def _first(values: Any) -> Any:
    return values[0] if isinstance(values, (list, tuple)) and values else None


def _text_of_part(part: Any) -> str | None:
    if isinstance(part, str):
        return part
    text = part.get("text") if isinstance(part, dict) else getattr(part, "text", None)
    return text if isinstance(text, str) else None


def _own_text(message: Any) -> str | None:
    texts = (getattr(message, name, None) for name in ("output_text", "text"))
    return next((text for text in texts if isinstance(text, str)), None)
