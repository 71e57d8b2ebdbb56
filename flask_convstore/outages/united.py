"""Union of a field that a host has changed while the store was away, and others have changed in the store meanwhile."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..domain import json_text, value_types

_MISSING: Any = object()


class United(NamedTuple):
    """A field with the keys of both sides.

    Attributes:
        text: The field as JSON text.
        is_whole: No change of this host was left out.
    """

    text: bytes
    is_whole: bool


def united(loaded: bytes | None, ours: bytes | None, theirs: bytes | None) -> United | None:
    """Unite two dicts, at any depth. What both have set to different values stays theirs. None: they are not two dicts.

    Args:
        loaded: The field as it was before *ours* (None: it was not there, or not known).
    """
    if not ours or not theirs or value_types.has_tags(ours) or value_types.has_tags(theirs):
        return None
    base, mine, other = (json_text.parse(text) if text else {} for text in (loaded, ours, theirs))
    if not isinstance(mine, dict) or not isinstance(other, dict):
        return None
    left_out: list[str] = []
    merged = _of(base, mine, other, left_out)
    return United(theirs if merged == other else json_text.write(merged), not left_out)


def _of(base: Any, ours: dict[str, Any], theirs: dict[str, Any], left_out: list[str]) -> dict[str, Any]:
    merged = dict(theirs)
    before = base if isinstance(base, dict) else {}
    for name in {**before, **ours}:
        was, mine, other = (side.get(name, _MISSING) for side in (before, ours, theirs))
        if mine in (was, other):
            continue
        if isinstance(mine, dict) and isinstance(other, dict):
            merged[name] = _of(was, mine, other, left_out)
        elif other != was:
            left_out.append(name)
        elif mine is _MISSING:
            del merged[name]
        else:
            merged[name] = mine
    return merged
