"""The bodies of stored messages, joined in parts. C alone decodes a part, and finds whether values still have its text.

Equal text is not enough: orjson writes NaN as null, and a date has the text of a text, which tagged JSON tells apart. So the
types of the values are looked at too, unless only one value can have the text.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Sequence
from itertools import chain
from types import NoneType
from typing import Any

from . import json_text
from .json_types import dumps
from .messages import bodies_of
from .value_types import has_tags

_TOGETHER = 200
"""Number of bodies in a part. All of a long history would not fit into a processor's cache."""

_OF_TEXTS = frozenset({dict, list, str})
"""Types of the parts of most messages."""

_DECODED = _OF_TEXTS | {int, float, bool, NoneType}
"""Types that JSON text without tags is decoded to."""

_CONTAINERS = frozenset({dict, list})


class Bodies:
    """The JSON texts of the bodies of messages, whose elements nobody changes.

    Attributes:
        count: The number of messages.
    """

    __slots__ = ("_elements", "_of_texts", "_parts", "_texts", "count")

    def __init__(self, elements: Sequence[bytes]) -> None:
        self.count = len(elements)
        self._elements = elements
        self._parts: list[bytes] | None = None
        self._texts: list[bytes] | None = None
        self._of_texts: set[int] = set()  # the parts that hold nothing but texts

    @property
    def texts(self) -> list[bytes]:
        """Each text for itself, made once.

        Raises:
            ValueError: As ``bodies_of``.
        """
        if self._texts is None:
            self._texts = bodies_of(self._elements)
        return self._texts

    def decode(self, *, is_tracked: bool = False) -> list[Any]:
        """Decode the texts.

        Args:
            is_tracked: The values will be compared with the texts. A look at their types is cheaper before they may change.

        Raises:
            ValueError: As ``bodies_of``, or one is no JSON text.
        """
        values: list[Any] = []
        for number, part in enumerate(self._parts or self._join()):
            start = number * _TOGETHER
            count = min(_TOGETHER, self.count - start)
            together = json_text.decode_together(part, count)
            if together is None:
                together = json_text.decode_each(self.texts[start : start + count], start)
            elif is_tracked and _are_texts(gc.get_referents(*together)):
                self._of_texts.add(number)
            values += together
        return values

    def count_same(self, values: Sequence[Any], *, is_tagged: bool = False) -> int:
        """Count the *values*, from the first one on, that have these texts, faster than by encoding each.

        That is a number of whole parts. Values of which that is not sure do not count.

        Args:
            is_tagged: Types that JSON lacks have texts of their own: a date is not the same as its text.
        """
        same = 0
        for number, part in enumerate(self._parts or self._join()):
            end = min(same + _TOGETHER, self.count)
            if not self._is_of(number, part, values[same:end], is_tagged=is_tagged):
                break
            same = end
        return same

    def from_text(self, text: bytes) -> Bodies | None:
        """Give the bodies from the first one on that is *text*. None if none is, or already the first of all."""
        place = self.texts.index(text) if text in self.texts else 0
        if not place:
            return None
        left = Bodies(self._elements[place:])
        left._texts = self.texts[place:]
        return left

    def have_tags(self) -> bool:
        """Tell whether one of the texts may hold tags."""
        return any(map(has_tags, self._parts or self._join()))

    def _is_of(self, number: int, part: bytes, values: Sequence[Any], *, is_tagged: bool) -> bool:
        is_of_texts = number in self._of_texts
        if not is_of_texts and b"$" in part and has_tags(part):
            return json_text.is_encoded(values, part)
        if not _have_text(values, part):
            return False
        if is_of_texts and not is_tagged:
            return True  # nothing has another text
        kinds = _kinds_in(values)
        if kinds and kinds <= _OF_TEXTS:
            self._of_texts.add(number)
        return bool(kinds) or json_text.is_encoded(values, part, is_tagged=is_tagged)

    def _join(self) -> list[bytes]:
        """Make the parts. Each is the JSON text of a list."""
        elements, known, parts = self._elements, self._texts, []
        try:
            for start in range(0, self.count, _TOGETHER):
                end = start + _TOGETHER
                texts = bodies_of(elements[start:end]) if known is None else known[start:end]
                texts[0] = b"[" + texts[0]
                texts[-1] += b"]"
                parts.append(b",".join(texts))
        except ValueError:
            bodies_of(elements)  # raises with the index among all
            raise
        self._parts = parts
        return parts


def _have_text(values: Sequence[Any], text: bytes) -> bool:
    try:
        return dumps(values) == text
    except (TypeError, RecursionError):
        return False


def _kinds_in(values: Sequence[Any]) -> set[type]:
    """Collect the types of all parts of *values*. None at all if there is one that no JSON text is decoded to.

    Such as a number that is not finite.
    """
    kinds: set[type] = set()
    level: Sequence[Any] = values
    while level:
        of_level = set(map(type, level))
        if not of_level <= _DECODED or (float in of_level and not _are_finite(level)):
            return set()
        kinds |= of_level
        level = [] if of_level.isdisjoint(_CONTAINERS) else _parts_of(*level)
    return kinds


def _are_finite(parts: Sequence[Any]) -> bool:
    return all(map(math.isfinite, [part for part in parts if type(part) is float]))


def _are_texts(parts: list[Any]) -> bool:
    """Tell whether there is nothing but texts. ``startswith`` refuses anything else, in a sixth of the time of ``type``."""
    try:
        return not "".startswith(tuple(parts), 1)
    except TypeError:
        return False


def _values_of(*parts: Any) -> list[Any]:
    """List the parts of the dicts and lists among *parts*."""
    containers = [part for part in parts if type(part) in _CONTAINERS]
    return [*chain.from_iterable(part.values() if type(part) is dict else part for part in containers)]


class _WithPart:
    def __init__(self) -> None:
        self.part = 1.5


_OBJECT = _WithPart()
# The garbage collector lists all of them in a tenth of the time. From Python 3.13 on it sees the attributes of an object in
# the object only, and not in its dict.
_parts_of: Callable[..., list[Any]] = gc.get_referents if gc.get_referents(_OBJECT.__dict__) == [1.5] else _values_of
