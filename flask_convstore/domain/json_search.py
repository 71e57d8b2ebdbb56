"""Search of a value for the first part that JSON cannot hold, and the place of that part.

A value is searched level by level, and nearly all of the work is done by functions in C. So a hostile value costs about what
it costs to decode. A place is put together only for the part that is found, since the places of all parts of a value may
take a thousand times the value's own memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, islice
from operator import indexOf
from typing import Any, NamedTuple

_LEAVES = frozenset({str, int, float, bool, type(None)})
"""Types of parts that contain nothing."""

_TOGETHER = 1000
"""Number of parts that are looked at together."""
_WIDEST = 5_000_000
"""Most parts of one level that contain others. Only a value that contains some of its parts very often has more."""

_LONGEST_KEY = 80
_LONGEST_PLACE = 400
"""Characters of a key and of a place in error texts."""

Key = str | int | None
"""Name of a part in its object, or index in its list. None for the value of an enum, which is at the same place."""


@dataclass(slots=True)
class _Level:
    """Parts of one depth that contain others: lists, dicts, and parts of other types.

    Attributes:
        is_there: There is such a part, be it empty.
        inside: The parts of other types once more, each with the key of a child and the child, which may be made anew.
    """

    lists: list[list[Any]] = field(default_factory=list)
    dicts: list[dict[Any, Any]] = field(default_factory=list)
    others: list[Any] = field(default_factory=list)
    is_there: bool = False
    inside: list[tuple[Any, Key, Any]] = field(default_factory=list)

    @property
    def width(self) -> int:
        """Number of parts that are not empty."""
        return len(self.lists) + len(self.dicts) + len(self.others)

    def values(self) -> Iterator[Any]:
        """Iterate over the children of the lists and dicts."""
        return chain(chain.from_iterable(self.lists), chain.from_iterable(map(dict.values, self.dicts)))

    def take(self, together: list[Any]) -> list[Any]:
        """Take those of some parts that may contain others. Return the rest, which are leaves."""
        kinds = set(map(type, together))
        if kinds <= _LEAVES:
            return together
        self.is_there = True
        self.lists += filter(None, _of_type(list, kinds, together))
        self.dicts += filter(None, _of_type(dict, kinds, together))
        if not kinds <= _KNOWN:
            self.others += [part for part in together if type(part) not in _KNOWN]
        return [part for part in together if type(part) in _LEAVES] if kinds & _LEAVES else []


def _of_type(kind: type, kinds: set[type], together: list[Any]) -> list[Any]:
    """Select the parts of one type. *kinds* are the types that there are."""
    if kind not in kinds:
        return []
    return together if len(kinds) == 1 else [part for part in together if type(part) is kind]


_KNOWN = _LEAVES | {list, dict}


class Search(NamedTuple):
    """Search for one kind of part.

    Attributes:
        deepest: Number of levels that are searched.
        leaves: Selects the refused ones among several leaves.
        is_refused: Tells whether a part that is neither leaf, list nor dict is refused itself, whatever it contains.
        children: Lists the keys and parts of such a part.
        has_keys: The keys of dicts are searched as leaves are. A key that is no text is refused.
    """

    deepest: int
    leaves: Callable[[list[Any]], list[Any]]
    is_refused: Callable[[Any], bool]
    children: Callable[[Any], Iterable[tuple[Key, Any]]]
    has_keys: bool = True

    def find(self, value: object) -> tuple[list[Key], Any] | None:
        """Find the first refused part of *value*. Return its keys, from the outside in, and the part.

        Raises:
            RecursionError: The value is deeper than so many levels, or contains itself.
        """
        levels: list[_Level] = []
        level = _Level()
        refused = self._sorted([value], level)
        while level.is_there and not refused:
            if len(levels) == self.deepest or level.width > _WIDEST:
                raise RecursionError
            refused = self._refused_itself(level)
            if not refused:
                levels.append(level)
                level = _Level()
                refused = self._sorted(self._inside(levels[-1]), level)
        return (self._keys(levels, refused[0]), refused[0]) if refused else None

    def _sorted(self, parts: Iterable[Any], level: _Level) -> list[Any]:
        """Let *level* take the parts that may contain others. Return the first refused leaves."""
        rest = iter(parts)
        while together := list(islice(rest, _TOGETHER)):
            leaves = level.take(together)
            refused = self.leaves(leaves) if leaves else leaves
            if refused:
                return refused
        return []

    def _refused_itself(self, level: _Level) -> list[Any]:
        """List the first part of *level* that is refused itself: a dict for one of its keys, or one of another type."""
        names: Iterator[Any] = chain.from_iterable(level.dicts if self.has_keys else ())
        while together := list(islice(names, _TOGETHER)):
            refused = [name for name in together if not isinstance(name, str)] or self.leaves(together)
            if refused:
                holder, _ = _at(level.dicts, _index(chain.from_iterable(level.dicts), refused[0]))
                return [holder]
        return list(islice(filter(self.is_refused, level.others), 1))

    def _inside(self, level: _Level) -> Iterator[Any]:
        level.inside = [(part, key, child) for part in level.others for key, child in self.children(part)]
        return chain(level.values(), (child for _, _, child in level.inside))

    def _keys(self, levels: Sequence[_Level], part: Any) -> list[Key]:
        """Find the keys that lead to *part*, of which each level has a parent."""
        keys: list[Key] = []
        for level in reversed(levels):
            found = self._holder(level, part)
            if found is None:
                return []
            part, key = found
            keys.append(key)
        return keys[::-1]

    def _holder(self, level: _Level, part: Any) -> tuple[Any, Key] | None:
        """Find a parent of *part* in *level*, and the key of *part* there."""
        index = _index(chain.from_iterable(level.lists), part)
        if index is not None:
            return _at(level.lists, index)
        index = _index(chain.from_iterable(map(dict.values, level.dicts)), part)
        if index is not None:
            holder, within = _at(level.dicts, index)
            return holder, next(islice(holder, within, None))
        return next(((one, key) for one, key, child in level.inside if child is part), None)


def _index(parts: Iterable[Any], part: Any) -> int | None:
    """Find the index of this very *part* among *parts*. None if it is not there."""
    try:
        return indexOf(map(id, parts), id(part))
    except ValueError:
        return None


def _at(holders: Sequence[Any], index: int | None) -> tuple[Any, int]:
    """Find which of the *holders* has the part with this *index* in all, and the index of the part in the holder."""
    assert index is not None
    number = indexOf(map(index.__lt__, accumulate(map(len, holders))), True)
    return holders[number], index - sum(map(len, islice(holders, number)))


def place_of(path: str, keys: Sequence[Key]) -> str:
    """Write the place that *keys* lead to from *path*. Long keys and places are shortened."""
    for key in keys:
        if isinstance(key, str):
            path += f".{shortened(key)}" if path else shortened(key)
        elif key is not None:
            path += f"[{key}]"
    return path if len(path) <= _LONGEST_PLACE else f"{path[: _LONGEST_PLACE // 2]}…{path[-_LONGEST_PLACE // 2 :]}"


def shortened(name: str) -> str:
    """Shorten a *name* for an error text."""
    return name if len(name) <= _LONGEST_KEY else f"{name[: _LONGEST_KEY - 1]}…"
