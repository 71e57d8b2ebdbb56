"""Chunks that are hard to carry: halves of characters, and text that looks like the protocol."""

from __future__ import annotations

import random

_HARD = [
    "",
    "\r",
    "\n",
    "\r\n",
    "\n\n",
    "\ud83d",  # half of a character: its other half may follow, or not
    "\ude00",
    "👩",
    "\u200d",
    "👩‍👩‍👧‍👦",
    "🇩",
    "🇪",
    "e\u0301",
    "\u2028",
    "\u2029",
    "\x85",
    "\x0b\x0c\x1c\x1d\x1e",
    "\x00",
    "\ufeff",
    "\ufffd",
    "data: no\n\n",
    "event: done\ndata: {}\n\n",
    "id: 5-5\n",
    ": waiting\n\n",
    "retry: 1\n",
    '{"done": "complete"}',
    '"},"',
    "\\ud83d\\u0000",
    "x" * 1500,
    "word ",
]


def hard_chunks(seed: int, count: int) -> list[str]:
    choice = random.Random(seed)
    return [choice.choice(_HARD) for _ in range(count)]


def joined(chunks: list[str]) -> str:
    """The text that a client has to get: halves that belong together are joined, and others become U+FFFD."""
    return "".join(chunks).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
