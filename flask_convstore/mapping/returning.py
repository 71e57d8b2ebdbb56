"""Types that an object of the app loses on its way through JSON: found by making it again, and comparing the two."""

from __future__ import annotations

from typing import Any, NamedTuple

from .converters import parts_of

_MOST_PARTS = 10_000
"""Most parts of an object that are compared."""


class Loss(NamedTuple):
    """A part that comes back as another type.

    Attributes:
        path: Its place in the object, such as ``messages[0].at``. "": the object itself.
        returned: The type that it comes back as.
    """

    path: str
    returned: type


def losses(value: Any, returned: Any) -> dict[type, Loss]:
    """Map each type in *value* that is another one in *returned* to its first part. A text is as good as a StrEnum."""
    found: dict[type, Loss] = {}
    stack, compared = [("", value, returned)], 0
    while stack and compared < _MOST_PARTS:
        path, part, other = stack.pop()
        compared += 1
        if type(part) is type(other):
            stack += reversed(_pairs(path, part, other))
        elif not (isinstance(part, str | int | float) and part == other):
            found.setdefault(type(part), Loss(path, type(other)))
    return found


def _pairs(path: str, value: Any, returned: Any) -> list[tuple[str, Any, Any]]:
    """Pair the parts of two values of one type, with their paths. Sets have no order: a type that they lost is in none."""
    mine, other = parts_of(value), parts_of(returned)
    if isinstance(mine, dict) and isinstance(other, dict):
        return [(_named(path, name), part, other[name]) for name, part in mine.items() if name in other]
    if isinstance(mine, (set, frozenset)):
        return [(path, part, None) for part in sorted(mine - other, key=repr)]
    pairs = enumerate(zip(mine or (), other or (), strict=False))
    return [(f"{path}[{index}]", part, twin) for index, (part, twin) in pairs]


def _named(path: str, name: Any) -> str:
    return f"{path}.{name}" if path else str(name)
