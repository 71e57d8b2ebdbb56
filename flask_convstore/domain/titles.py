"""The title of a conversation, made of the message that it begins with."""

from __future__ import annotations

from typing import Any

from .validation import without_controls

TITLED_ROLE = "user"
"""Role of the message that a title is made of."""
_LONGEST_TITLE = 60
_LOOKED_AT = 200
"""Parts of a message, and characters of each part, that a title is made of."""


def title_of(body: Any) -> str:
    """Make the title of a conversation that begins with *body*: the beginning of a user's text, or "" for other bodies."""
    if not isinstance(body, dict) or body.get("role") != TITLED_ROLE:
        return ""
    content = body.get("content", body.get("parts"))
    words = content[:_LOOKED_AT].split() if isinstance(content, str) else _words_in(content)
    title = " ".join(words)
    if not title.isprintable():
        title = without_controls(title)
    return title if len(title) <= _LONGEST_TITLE else f"{title[: _LONGEST_TITLE - 1].rstrip()}…"


def _words_in(content: Any) -> list[str]:
    """Collect the words of a content that has parts."""
    words: list[str] = []
    for part in content[:_LOOKED_AT] if isinstance(content, list) else (content,):
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(text, str):
            words += text[:_LOOKED_AT].split()
    return words
