"""Three-way merge of JSON values: two writers changed one value, each from the same baseline.

| part                        | what both did                       | result                                              |
| --------------------------- | ----------------------------------- | --------------------------------------------------- |
| anything                    | only one changed it                 | that change                                         |
| text, bool, null            | made it, with the same value        | that value                                          |
| dict                        | changed different keys              | both changes                                        |
| dict                        | changed one key                     | the merge of its values                             |
| list of distinct names      | added or removed some, as in a set  | both changes, each name once                        |
| list                        | added elements                      | both: theirs, then ours                             |
| list                        | removed different elements          | without any of them                                 |
| list                        | one moved elements                  | that order, with the changes of the other           |
| list                        | dropped its oldest, and added some  | without any of the oldest                           |
| list                        | changed one element                 | the merge of its values                             |
| record: texts, numbers and  | changed it, or made it              | the merge of the values at each place               |
| lists, at fixed places      |                                     |                                                     |
| number                      | counted                             | both steps are added                                |
| number                      | counted beyond 64 bits              | collision: ours                                     |
| time (a number or a text)   | set                                 | the later one                                       |
| text, bool, null            | set to different values             | collision: ours                                     |
| text, bool, null            | changed it in the same way          | collision: the change once, as where both take a    |
|                             |                                     | step, or claim a thing                              |
| value of a dict, element of | removed it                          | collision: without it, though both may have used it |
| a set                       |                                     |                                                     |
| dict, list                  | made it, where a text, null or      | collision: the merge, as if it had been empty       |
|                             | number was                          |                                                     |
| value of a dict             | one changed it, one removed it      | collision: ours                                     |
| element of a list           | one changed it, one removed it      | collision: the changed one                          |
| anything                    | changed its type                    | collision: ours                                     |
| list                        | both replaced all elements          | collision: ours                                     |
| list                        | both moved elements                 | collision: our order, with their changes            |
| list                        | removed one element, as two would   | collision: without it, though both may have used it |
|                             | that take a task from a queue       |                                                     |
| list of distinct names      | added one name                      | collision: the name once                            |
| list of distinct whole      | added one number                    | collision: the number twice                         |
| numbers, as ids             |                                     |                                                     |
| list of distinct names      | replaced all names                  | collision: the new ones of both                     |
| list                        | made it, beginning with the same    | collision: that once, unless it is a system prompt  |
| pair of a text and a number | made it                             | collision: ours                                     |

Tagged JSON merges by its types: a set as the set that it is, a tuple at each place, a dict by its keys, and a time like one
that is a text. Any other tag is one value, which collides as a whole.

"Ours" is the later write, so that in a collision the last one wins, as in a dict. Each collision is told with its path.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from ..domain import value_types

MISSING: Any = object()
"""The value of a key that is not there."""

_TIMES = (range(10**9, 10**10), range(10**12, 10**13))
"""Numbers that are times: the seconds and milliseconds since 1970 of the years 2001 to 2286."""

_ISO_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d").match

_MESSAGE = re.compile(r".{65}|.*(\n|: |[.!?]$|(\S+ ){3})", re.DOTALL).match
"""Texts that are messages rather than names: long, with a colon, with the end of a sentence, or of four words."""

_MOST_STEPS = 10_000_000
"""Most steps of aligning lists for one write: half a second. Lists that repeat few elements take cubic time."""

_LONGEST_PATH = 200
"""Most characters of a path. Parts that lie deeper are told by the path around them."""


class Effort:
    """The steps that are left for aligning lists in the merges of one write."""

    def __init__(self) -> None:
        self._left = _MOST_STEPS

    def covers(self, steps: int) -> bool:
        """Take *steps* from those that are left. False if these are too few."""
        if steps > self._left:
            return False
        self._left -= steps
        return True


class Merged(NamedTuple):
    """The result of a merge.

    Attributes:
        value: The merged value. ``MISSING`` if there is none.
        collisions: Paths of the parts where one change had to give way, such as ``prefs.color`` or ``items[2]``.
    """

    value: Any
    collisions: tuple[str, ...]


def merge(base: Any, ours: Any, theirs: Any, path: str = "", effort: Effort | None = None) -> Merged:
    """Merge *ours* and *theirs*, which were both made from *base*. The arguments are not changed.

    Args:
        base: The baseline. ``MISSING`` if there was no value.
        path: The path of the value, for collisions.
        effort: The effort that the merges of one write share.
    """
    collisions: list[str] = []
    return Merged(_Merge(collisions, effort or Effort()).of(base, ours, theirs, path), tuple(collisions))


class _Merge:
    def __init__(self, collisions: list[str], effort: Effort) -> None:
        self._collisions = collisions
        self._effort = effort
        self._compared: dict[tuple[int, int], bool] = {}

    def of(self, base: Any, ours: Any, theirs: Any, path: str) -> Any:
        if self._same(ours, base):
            return theirs
        if self._same(theirs, base):
            return ours
        kind = _kind(ours)
        if kind is None or kind != _kind(theirs):
            return self._others(base, ours, theirs, path)
        if kind is int:
            return self._numbers(base, ours, theirs, path)
        told = len(self._collisions)
        merged = self._containers(kind, base, ours, theirs, path)
        is_put_by_both = base is not MISSING and _kind(base) in (None, int) and not self._same(ours, theirs)
        if is_put_by_both and len(self._collisions) == told:
            self._collisions.append(path)
        return merged

    def _containers(self, kind: type, base: Any, ours: Any, theirs: Any, path: str) -> Any:
        if kind is dict:
            return self._dicts(base if _kind(base) is dict else {}, ours, theirs, path)
        return self._sequences(kind, base if _kind(base) is kind else MISSING, ours, theirs, path)

    def _others(self, base: Any, ours: Any, theirs: Any, path: str) -> Any:
        """Merge what has no parts, or not the same type. Whatever both have changed, or removed, is told."""
        later = _later_time(ours, theirs)
        if later is not None:
            return later
        is_made_alike = base is MISSING and self._same(ours, theirs)
        return ours if is_made_alike else self._collided(ours, path)

    def _collided(self, winner: Any, path: str) -> Any:
        self._collisions.append(path)
        return winner

    def _dicts(self, base: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any], path: str) -> dict[str, Any]:
        if any(map(value_types.tag_of, (base, ours, theirs))):
            sides = [value_types.keyed(side) for side in (base, ours, theirs)]
            return value_types.of_keyed(self._fields(sides[0], sides[1], sides[2], path))
        return self._fields(base, ours, theirs, path)

    def _fields(self, base: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any], path: str) -> dict[str, Any]:
        merged = {}
        for name in {**theirs, **ours, **base}:
            place = _place_of(path, name)
            value = self.of(base.get(name, MISSING), ours.get(name, MISSING), theirs.get(name, MISSING), place)
            if value is not MISSING:
                merged[name] = value
        return merged

    def _numbers(self, base: Any, ours: Any, theirs: Any, path: str) -> Any:
        if any(int(ours) in times and int(theirs) in times for times in _TIMES):
            return max(ours, theirs)
        if not _is_number(base):
            # Both may have counted from nothing, or set the number: told even where the two are equal.
            return self._collided(ours, path)
        total = _added(theirs, ours, base)
        return total if _is_storable(total) else self._collided(ours, path)

    def _sequences(self, kind: type, base: Any, ours: Any, theirs: Any, path: str) -> Any:
        if kind is list:
            return self._lists(base, ours, theirs, path)
        was, mine, others = map(value_types.value_in, (base, ours, theirs))
        if kind is not tuple:
            self._collisions += [path] * _is_removed_twice(was, mine, others)
            merged = value_types.in_order(_sets([] if was is MISSING else was, mine, others, text_of))
            return value_types.with_tag(kind.__name__, merged)
        start = [MISSING] * len(mine) if was is MISSING else was
        if len(start) == len(mine) == len(others):
            return value_types.with_tag("tuple", self._records(start, mine, others, path))
        if was is MISSING:
            return self._collided(ours, path)
        return value_types.with_tag("tuple", self._lists(was, mine, others, path))

    def _lists(self, base: Any, ours: list[Any], theirs: list[Any], path: str) -> list[Any]:
        was = base if isinstance(base, list) else None
        if are_records(ours, theirs) and (was is None or are_records(was, ours)):
            return self._records(was or [MISSING] * len(ours), ours, theirs, path)
        return self._made_lists(ours, theirs, path) if was is None else self._elements(was, ours, theirs, path)

    def _made_lists(self, ours: list[Any], theirs: list[Any], path: str) -> list[Any]:
        """Merge two lists where none was: both appended to a new one, or both set a pair."""
        if _are_pairs(ours, theirs):
            return ours if self._same(ours, theirs) else self._collided(ours, path)
        begun = common_beginning(ours, theirs)
        if not all(map(_is_prompt, begun)):
            self._collisions.append(path)  # Both may have appended it, and it stays once.
        return self._elements(begun, ours, theirs, path)

    def _elements(self, base: list[Any], ours: list[Any], theirs: list[Any], path: str) -> list[Any]:
        are_names = not _is_of_messages(path) and all(map(_is_set_of_names, (base, ours, theirs)))
        merged = self._names(base, ours, theirs, path) if are_names else None
        if all(map(_is_set_of_ids, (base, ours, theirs))):
            self._collisions += [path] * _is_added_twice(base, ours, theirs)
        return self._edits(base, ours, theirs, path) if merged is None else merged

    def _edits(self, base: list[Any], ours: list[Any], theirs: list[Any], path: str) -> list[Any]:
        our_edit, their_edit = self._edit(base, ours), self._edit(base, theirs)
        if our_edit is None or their_edit is None or (our_edit.is_rewrite and their_edit.is_rewrite):
            self._collisions.append(path)
            return ours
        ours_moved, theirs_moved = our_edit.moved(base), their_edit.moved(base)
        if ours_moved and theirs_moved:
            self._collisions.append(path)  # Their order gives way.
        our_edit, their_edit = our_edit.without(ours_moved, base), their_edit.without(theirs_moved, base)
        added = our_edit.added(), their_edit.added()
        self._tell_taken_twice(base, our_edit.removed(), their_edit.removed(), added, path)
        if ours_moved or theirs_moved:
            order, edit = (ours, their_edit) if ours_moved else (theirs, our_edit)
            return self._reordered(base, order, edit, path)
        return self._edited(base, our_edit, their_edit, path)

    def _reordered(self, base: list[Any], order: list[Any], edit: _Edit, path: str) -> list[Any]:
        """Apply *edit* of the one side to the elements in the *order* of the other, which has moved some."""
        places: dict[str, deque[int]] = {}
        for index, part in enumerate(base):
            places.setdefault(text_of(part), deque()).append(index)
        merged: list[Any] = []
        for part in order:
            found = places.get(text_of(part))
            merged += edit.at(found.popleft(), part) if found else [part]
        for index in sorted(index for found in places.values() for index in found):  # removed by the one that moved
            if edit.replaced.get(index, MISSING) is not MISSING:
                self._collisions.append(f"{path}[{index}]")
            merged += edit.at(index, MISSING)
        return merged + edit.at(len(base), MISSING)

    def _names(self, base: list[str], ours: list[str], theirs: list[str], path: str) -> list[str] | None:
        """Merge distinct names as sets. None if their order counts: they were moved, or put before others."""
        self._collisions += [path] * _is_added_twice(base, ours, theirs)
        if not (_is_added_to(base, ours) and _is_added_to(base, theirs)):
            is_order_of_both = set(base) == set(ours) and self._same(ours, theirs)
            return self._collided(ours, path) if is_order_of_both else None
        if base and ours and theirs and set(base).isdisjoint([*ours, *theirs]):
            self._collisions.append(path)  # Both have put other names in the place of all.
        else:
            self._tell_taken_twice(base, _positions(base, ours), _positions(base, theirs), (ours, theirs), path)
        return _sets(base, ours, theirs)

    def _edit(self, base: list[Any], changed: list[Any]) -> _Edit | None:
        """Find the way from *base* to *changed*. None if aligning them takes too many steps."""
        found = self._places(base, changed)
        if found is None:
            return None
        replaced: dict[int, Any] = {}
        inserted: dict[int, list[Any]] = {}
        for old, new in found:
            paired = min(len(old), len(new))
            replaced.update((index, MISSING) for index in old)
            replaced.update(zip(old, changed[new.start : new.stop], strict=False))
            if len(new) > paired:
                inserted[old.stop] = changed[new.start + paired : new.stop]
        is_rewrite = bool(changed) and len(base) > 1 and len(replaced) == len(base)
        return _Edit(replaced, inserted, is_rewrite)

    def _places(self, base: list[Any], changed: list[Any]) -> list[tuple[range, range]] | None:
        """Find the places that differ. Elements are only written out where several have to be aligned."""
        start = _length_alike(base, changed, self._same)
        end = _length_alike(base[start:][::-1], changed[start:][::-1], self._same)
        old, new = range(start, len(base) - end), range(start, len(changed) - end)
        if not old or not new or len(old) == len(new) == 1:
            return [(old, new)]
        old_texts = [text_of(base[index]) for index in old]
        found = differences(old_texts, [text_of(changed[index]) for index in new], self._effort)
        return found and [(_shifted(one, start), _shifted(other, start)) for one, other in found]

    def _same(self, one: Any, other: Any) -> bool:
        """Compare two values, each pair of parts once: 1, 1.0 and True differ."""
        if one is other:
            return True
        if type(one) is not type(other) or one is MISSING:
            return False
        if not isinstance(one, (dict, list)):
            return repr(one) == repr(other) if isinstance(one, float) else bool(one == other)
        pair = id(one), id(other)
        if pair not in self._compared:
            self._compared[pair] = self._are_parts_same(one, other)
        return self._compared[pair]

    def _are_parts_same(self, one: Any, other: Any) -> bool:
        if isinstance(one, dict):
            return one.keys() == other.keys() and all(self._same(part, other[name]) for name, part in one.items())
        return len(one) == len(other) and all(map(self._same, one, other))

    def _tell_taken_twice(
        self, base: list[Any], ours: set[int], theirs: set[int], added: Sequence[list[Any]], path: str
    ) -> None:
        """Tell of elements that both have removed, unless both have dropped the oldest of a list that grows."""
        both = ours & theirs
        if not both:
            return
        known = {text_of(part) for part in base}
        grows = all(any(text_of(part) not in known for part in parts) for parts in added)
        if not (grows and all(_are_oldest(gone, len(base)) for gone in (ours, theirs))):
            self._collisions.append(f"{path}[{min(both)}]")

    def _records(self, base: list[Any], ours: list[Any], theirs: list[Any], path: str) -> list[Any]:
        places = zip(base, ours, theirs, strict=True)
        return [self.of(*values, f"{path}[{index}]") for index, values in enumerate(places)]

    def _edited(self, base: list[Any], our_edit: _Edit, their_edit: _Edit, path: str) -> list[Any]:
        merged: list[Any] = []
        for index in range(len(base) + 1):
            merged += their_edit.inserted.get(index, ())
            merged += our_edit.inserted.get(index, ())
            if index < len(base):
                was = base[index]
                our_value, their_value = our_edit.replaced.get(index, was), their_edit.replaced.get(index, was)
                value = self._element(was, our_value, their_value, f"{path}[{index}]")
                if value is not MISSING:
                    merged.append(value)
        return merged

    def _element(self, base: Any, ours: Any, theirs: Any, path: str) -> Any:
        if ours is MISSING and not self._same(theirs, base):
            # Their new element may stand in the place of the removed one by chance: nothing that was added is lost.
            return theirs if theirs is MISSING else self._collided(theirs, path)
        return self.of(base, ours, theirs, path)


def are_records(one: list[Any], other: list[Any]) -> bool:
    """Tell whether two lists are records of one form, such as ``[model, messages, time]``, and no lists of messages.

    A record has a value at each place, of the same type in both, and of several types in all: a list or a dict beside texts
    or numbers. Messages are dicts or texts, and never numbers.
    """
    if len(one) != len(other):
        return False
    places = [{_kind_of_place(part) for part in parts} - {None} for parts in zip(one, other, strict=True)]
    kinds = set().union(*places)
    is_mixed = bool(kinds & {list, dict}) and len(kinds) > 1
    return is_mixed and (int in kinds or dict not in kinds) and all(len(found) <= 1 for found in places)


def _are_pairs(one: list[Any], other: list[Any]) -> bool:
    """Tell whether two lists are set as a whole, such as ``[name, points]``: texts, and numbers or flags."""
    kinds, other_kinds = ([_kind_of_place(part) for part in parts] for parts in (one, other))
    return kinds == other_kinds and len(set(kinds)) > 1 and set(kinds) <= {int, str, bool}


def _is_prompt(message: Any) -> bool:
    """Tell whether a message is one with which each conversation begins."""
    return isinstance(message, dict) and message.get("role") in ("system", "developer")


def _kind_of_place(value: Any) -> type | None:
    """Name the type of an element of a record. None fits all, as a value that is yet to come."""
    if value is None:
        return None
    kind = _kind(value) or (str if value_types.tag_of(value) else type(value))
    return list if kind in _SEQUENCES else kind


class _Edit(NamedTuple):
    """The way from a baseline list to another one.

    Attributes:
        replaced: New values by index of the baseline, ``MISSING`` where the element was removed.
        inserted: New elements by the index that they stand before.
        is_rewrite: New elements stand in the place of all the old ones, of several.
    """

    replaced: dict[int, Any]
    inserted: dict[int, list[Any]]
    is_rewrite: bool

    def at(self, index: int, part: Any) -> list[Any]:
        """List what stands at *index* of the baseline now, where *part* was, behind what was put before it."""
        value = self.replaced.get(index, part)
        return [*self.inserted.get(index, ()), *([] if value is MISSING else [value])]

    def moved(self, base: list[Any]) -> Counter[str]:
        """Count the texts of elements that were taken from one place of *base* and put at another."""
        if not self.replaced or len(self.replaced) + len(self.inserted) == 1:
            return Counter()
        return Counter(text_of(base[index]) for index in self.replaced) & Counter(map(text_of, self.added()))

    def without(self, moved: Counter[str], base: list[Any]) -> _Edit:
        """Make the same edit with the *moved* elements left in their places."""
        if not moved:
            return self
        left, put = Counter(moved), Counter(moved)
        replaced: dict[int, Any] = {}
        inserted: dict[int, list[Any]] = {}
        for index in sorted({*self.replaced, *self.inserted}):
            new = [part for part in self.at(index, MISSING) if not _takes(put, part)]
            if index not in self.replaced or _takes(left, base[index]):
                inserted[index] = new
            else:
                is_edited = len(new) > 0 and new[-1] is self.replaced[index]
                replaced[index] = new.pop() if is_edited else MISSING
                inserted[index] = new
        return _Edit(replaced, inserted, is_rewrite=False)

    def removed(self) -> set[int]:
        """Find the places of removed elements."""
        return {index for index, part in self.replaced.items() if part is MISSING}

    def added(self) -> list[Any]:
        """List the new elements."""
        replacing = [part for part in self.replaced.values() if part is not MISSING]
        return replacing + [part for parts in self.inserted.values() for part in parts]


def _takes(texts: Counter[str], part: Any) -> bool:
    """Take the text of *part* from *texts*. False if it is not among them."""
    text = text_of(part)
    texts[text] -= 1
    return texts[text] >= 0


def differences(before: Sequence[Any], after: Sequence[Any], effort: Effort) -> list[tuple[range, range]] | None:
    """Find the places that differ, in the one list and in the other. None if that takes too many steps."""
    start = _length_alike(before, after)
    end = _length_alike(before[start:][::-1], after[start:][::-1])
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    if not old or not new:
        return [(range(start, start + len(old)), range(start, start + len(new)))]
    if not effort.covers(_most_steps(old, new)):
        return None
    return [
        (range(start + old_from, start + old_to), range(start + new_from, start + new_to))
        for kind, old_from, old_to, new_from, new_to in SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
        if kind != "equal"
    ]


def _most_steps(old: Sequence[Any], new: Sequence[Any]) -> int:
    """Estimate the steps of aligning two lists: each match that is found compares all equal elements anew."""
    counts = Counter(new)
    equal_pairs = sum(counts[text] for text in old)
    most_matches = min(len(old), len(new), equal_pairs)
    return (len(old) + equal_pairs) * (1 + most_matches)


def _sets(base: list[Any], ours: list[Any], theirs: list[Any], name_of: Callable[[Any], str] = str) -> list[Any]:
    in_base, in_ours, in_theirs = (set(map(name_of, side)) for side in (base, ours, theirs))
    kept = [part for part in theirs if (name := name_of(part)) in in_ours or name not in in_base]
    return kept + [part for part in ours if (name := name_of(part)) not in in_base and name not in in_theirs]


def _is_added_twice(base: list[Any], ours: list[Any], theirs: list[Any]) -> bool:
    return not set(base).issuperset(set(ours) & set(theirs))


def _is_removed_twice(base: Any, ours: list[Any], theirs: list[Any]) -> bool:
    """Tell whether an element of a set is gone from both. *base* may be missing."""
    left = {text_of(part) for part in (*ours, *theirs)}
    return base is not MISSING and any(text_of(part) not in left for part in base)


def _is_added_to(base: list[str], changed: list[str]) -> bool:
    """Tell whether the names that are left stand in their order, with new ones behind them only."""
    left = set(changed)
    kept = [name for name in base if name in left]
    return changed[: len(kept)] == kept


def _positions(base: list[str], changed: list[str]) -> set[int]:
    """Find the places of names that are not there any more."""
    left = set(changed)
    return {index for index, text in enumerate(base) if text not in left}


def _are_oldest(indexes: set[int], length: int) -> bool:
    """Tell the places of the oldest elements. A first one may stay, as a system prompt does."""
    first, last = min(indexes), max(indexes)
    return last - first == len(indexes) - 1 and (first == 0 or (first == 1 and last < length - 1))


def _place_of(path: str, name: str) -> str:
    """Make the path of a dict's part. Its length is bounded, since one path is made for each part."""
    if len(path) > _LONGEST_PATH:
        return path
    place = f"{path}.{name[:_LONGEST_PATH]}" if path else name[:_LONGEST_PATH]
    return f"{place[:_LONGEST_PATH]}…" if len(place) > _LONGEST_PATH or len(name) > _LONGEST_PATH else place


def _length_alike(one: Sequence[Any], other: Sequence[Any], is_same: Callable[[Any, Any], bool] = operator.eq) -> int:
    """Count the elements with which both lists begin."""
    shorter = min(len(one), len(other))
    return next((index for index in range(shorter) if not is_same(one[index], other[index])), shorter)


def _shifted(places: range, steps: int) -> range:
    return range(places.start + steps, places.stop + steps)


def common_beginning(one: list[Any], other: list[Any]) -> list[Any]:
    """Take what both lists begin with as their baseline, where they had none: a first message, say."""
    return one[: _length_alike([text_of(part) for part in one], [text_of(part) for part in other])]


def text_of(value: Any) -> str:
    """Write a value so that equal values, and only these, have equal texts: 1, 1.0 and True differ."""
    return json.dumps(value, sort_keys=True)


_SEQUENCES = (list, tuple, set, frozenset)
_TAGGED_KINDS: dict[str | None, type] = {None: dict, "dict": dict, "tuple": tuple, "set": set, "frozenset": frozenset}


def _kind(value: Any) -> type | None:
    """Name the types whose values merge: dict, list, tagged ones, and int for all numbers. None for others."""
    if isinstance(value, dict):
        return _TAGGED_KINDS.get(value_types.tag_of(value))
    return list if isinstance(value, list) else int if _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _added(theirs: Any, ours: Any, base: Any) -> Any:
    """Add the steps of both. Decimal fractions are added as they are written: 0.1 and 0.2 make 0.3."""
    if all(isinstance(number, int) for number in (theirs, ours, base)):
        return theirs + ours - base
    return float(Decimal(repr(theirs)) + Decimal(repr(ours)) - Decimal(repr(base)))


def _is_storable(number: float) -> bool:
    """Tell whether JSON text holds a number: an integer of up to 64 bits, or a finite fraction."""
    return -(2**63) <= number < 2**64 if isinstance(number, int) else math.isfinite(number)


def _later_time(ours: Any, theirs: Any) -> Any:
    """Choose the later of two times, texts or tagged. None if one is no time, or if they cannot be compared."""
    mine, other = value_types.value_in(ours), value_types.value_in(theirs)
    if not (isinstance(mine, str) and isinstance(other, str) and _ISO_TIME(mine) and _ISO_TIME(other)):
        return None
    read: Callable[[str], datetime] = datetime.fromisoformat
    try:
        return ours if read(mine) >= read(other) else theirs
    except (ValueError, TypeError):
        return None


def _is_set_of_names(value: list[Any]) -> bool:
    """Tell whether a list may be used as a set: of names, ids or tags, and not of messages."""
    return all(isinstance(part, str) and _MESSAGE(part) is None for part in value) and len(set(value)) == len(value)


def _is_set_of_ids(value: list[Any]) -> bool:
    """Tell whether a list may hold the ids of what was done: whole numbers, each one once, and no times."""
    are_ids = all(type(part) is int and not any(part in times for times in _TIMES) for part in value)
    return are_ids and len(set(value)) == len(value)


def _is_of_messages(path: str) -> bool:
    """Tell whether a list holds messages by its place: their usual keys, or a record."""
    return path.endswith("]") or path.rpartition(".")[2] in ("history", "messages")
