"""Shapes: the form of a session's content, as a text that is stored with the session.

| shape | content |
| --- | --- |
| ``full:<key>`` | a dict with its history under that key |
| ``full`` | the same, under the first key of the settings: as it was stored before sessions remembered their keys |
| ``data`` | a dict without a history |
| ``list`` | a bare list of messages |
| ``value`` | any other value, which is the text of the one nameless field |
"""

from __future__ import annotations

from functools import lru_cache

Shape = str
"""A line of the table above."""

_PLAIN = ("full", "data", "list", "value")
_FULL = "full:"


def full(key: str) -> Shape:
    """Make the shape of a dict with its history under *key*."""
    return _FULL + key


def is_shape(text: object) -> bool:
    """Tell whether a stored text is a shape."""
    return text in _PLAIN or (isinstance(text, str) and text.startswith(_FULL) and text != _FULL)


def has_history(shape: Shape) -> bool:
    """Tell whether there is a history, which may be empty."""
    return shape == "list" or shape.startswith("full")


@lru_cache(maxsize=100)  # each read and each write asks
def key_of(shape: Shape, first_key: str) -> str | None:
    """Find the key of the history. None if the content is no dict with a history.

    Args:
        first_key: The first key of the settings.
    """
    if shape.startswith(_FULL):
        return shape[len(_FULL) :]
    return first_key if shape == "full" else None
