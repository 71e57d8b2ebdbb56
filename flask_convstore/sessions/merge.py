"""Three-way merge of concurrent changes: of a field that is to be written, and of a loaded value that others have changed.

A loaded value is brought up to date in place, since the app holds on to its parts. A change that was made in it stays, and
still counts as a change.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ..domain import json_text
from ..domain.commands import Append, CommitTurn, Extend, FieldChange, Merge, Update, named_away
from ..domain.messages import bodies_of
from ..domain.results import Receipt
from ..domain.shapes import key_of
from . import diff, three_way
from .baseline import Baseline
from .content import ContentLimits, Given, texts


class Began(NamedTuple):
    """The content that was set where nothing was. Two requests may set the same at once.

    Attributes:
        is_default: The content was only set for want of another.
    """

    fields: Mapping[str, bytes] = {}
    bodies: list[bytes] = []  # noqa: RUF012  nobody changes it
    is_default: bool = False


_EMPTY = (
    b"null", b"false", b"0", b"0.0", b'""', b"[]", b"{}",
    *(json_text.encode(kind(), is_tagged=True) for kind in (tuple, set, frozenset)),
)  # fmt: skip
"""Initial values that say nothing."""


_DIGITS = b"-0123456789"
"""Beginnings of numbers in JSON text."""

_STEPS_OF_A_PART = 10
"""Steps of comparing a part of an element in Python, where aligning takes one."""


class Settled(NamedTuple):
    """A field as it must be written now that others have written it too.

    Attributes:
        is_merged: Both have changed it.
        collisions: Paths of the parts where one change had to give way.
    """

    change: FieldChange
    is_merged: bool = False
    collisions: tuple[str, ...] = ()


def settled(change: FieldChange, began: Began, stored: bytes | None, effort: three_way.Effort | None = None) -> Settled:
    """Merge *change* with the value that others have *stored*. The merges of one write share their *effort*."""
    if stored == change.loaded:
        return Settled(change)
    start = _value(change.loaded)
    if change.loaded is None and change.name in began.fields:
        yielding = _yielding(change, began, stored)
        if yielding:
            return yielding
        start = _start(began, _value(began.fields[change.name]), _value(change.value), _value(stored))
    merged = three_way.merge(start, _value(change.value), _value(stored), change.name, effort)
    text = None if merged.value is three_way.MISSING else json_text.write(merged.value)
    is_merged = stored != change.value or text != stored
    return Settled(FieldChange(change.name, stored, text), is_merged, merged.collisions)


def _yielding(change: FieldChange, began: Began, stored: bytes | None) -> Settled | None:
    """Let a field stay that only the others have made something of, since both began. None if it does not stay.

    A bare number may be counted from nothing by both, which is told. Numbers in a dict that begins are constants, as a rule.
    """
    begun = began.fields[change.name]
    is_nothing = began.is_default or begun in _EMPTY
    if begun != change.value or not (is_nothing or stored == begun):
        return None
    is_count = not is_nothing and change.name == "" and begun[:1] in _DIGITS
    return Settled(FieldChange(change.name, stored, stored), collisions=(change.name,) * is_count)


def merged_bodies(before: list[bytes], ours: list[bytes], theirs: list[bytes], path: str) -> three_way.Merged:
    """Merge the messages of two writers, as JSON texts. The merged value is a list of JSON texts."""
    base_values, our_values, their_values = (list(map(json_text.parse, side)) for side in (before, ours, theirs))
    merged = three_way.merge(base_values, our_values, their_values, path)
    return three_way.Merged([json_text.write(body) for body in merged.value], merged.collisions)


def merged_records(began: Began, ours: list[bytes], theirs: list[bytes], path: str) -> three_way.Merged | None:
    """Merge the elements of two records that two writers made at once, as JSON texts. None if they are no records.

    Args:
        began: The elements with which ours began, before they were changed.
    """
    begun, one, other = (list(map(json_text.parse, side)) for side in (began.bodies, ours, theirs))
    if not three_way.are_records(one, other):
        return None
    start = _start(began, begun, one, other) if three_way.are_records(begun, one) else three_way.MISSING
    merged = three_way.merge(start, one, other, path)
    return three_way.Merged([json_text.write(part) for part in merged.value], merged.collisions)


def _start(began: Began, begun: Any, ours: Any, theirs: Any) -> Any:
    """Choose the baseline of a value that two writers began at once. A default yields to what the other one has set."""
    return begun if began.is_default else _common_start(begun, ours, theirs)


def _common_start(begun: Any, ours: Any, theirs: Any) -> Any:
    """Choose the parts of *begun* from which *theirs* may have been made too. What we set is no baseline of theirs."""
    if _are_all(dict, begun, ours, theirs):
        return _common_fields(begun, ours, theirs)
    if _are_all(list, begun, ours, theirs):
        return _common_elements(begun, ours, theirs)
    text = json_text.write(begun)
    is_set_by_both = text == json_text.write(ours) != json_text.write(theirs)
    return three_way.MISSING if is_set_by_both and text not in _EMPTY else begun


def _common_fields(begun: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    names = begun.keys() & ours.keys() & theirs.keys()
    parts = {name: _common_start(begun[name], ours[name], theirs[name]) for name in names}
    return {name: part for name, part in parts.items() if part is not three_way.MISSING}


def _common_elements(begun: list[Any], ours: list[Any], theirs: list[Any]) -> list[Any]:
    if not (three_way.are_records(ours, theirs) and three_way.are_records(begun, ours)):
        return three_way.common_beginning(begun, theirs)
    parts = [_common_start(*place) for place in zip(begun, ours, theirs, strict=True)]
    return [None if part is three_way.MISSING else part for part in parts]


def _are_all(kind: type, *values: Any) -> bool:
    return all(isinstance(value, kind) for value in values)


def _value(text: bytes | None) -> Any:
    return three_way.MISSING if text is None else json_text.parse(text)


def take_over(
    value: dict[str, Any] | list[Any],
    before: Baseline,
    base: Baseline,
    content: dict[str, Any] | list[Any],
    limits: ContentLimits,
    held: Any = None,
    merges: bool = False,
) -> Baseline:
    """Take *content*, which is stored as *base*, over into *value*, which was stored as *before*.

    Return the new baseline of *value*. Where *value* was changed and did not merge, that is still *before*.

    Args:
        merges: Fields that both sides have changed are merged now. Otherwise, and where they collide, when they are written.
        held: The value that *value* was copied from, which is up to date already. The two may share their history.
    """
    if isinstance(value, list):
        assert isinstance(content, list)
        return _take_over_history(value, before, base, content, limits)
    assert isinstance(content, dict)
    shape, fields, given = texts(value, limits, before.snapshot.joined, before.snapshot)
    theirs = key_of(base.snapshot.shape, limits.history_key)
    now = _take_over_key(value, key_of(shape, limits.history_key), given, before, theirs, limits)
    keys = {now, theirs}
    base = base.but(fields=_take_over_fields(value, fields, before, base, content, keys, merges=merges))
    if now is None or theirs is None:
        return _take_over_presence(value, now, before, base, theirs, content)
    shared = isinstance(held, dict) and held.get(theirs) is value[now]
    return base if shared else _take_over_history(value[now], before, base, content[theirs], limits)


def _take_over_key(
    value: dict[str, Any],
    now: str | None,
    given: list[Given] | None,
    before: Baseline,
    theirs: str | None,
    limits: ContentLimits,
) -> str | None:
    """Take over the key *theirs* of the history, which is *now* here. Return the key that it has here then."""
    if now is None:
        return None
    is_unchanged = [body for body, _ in given or ()] == before.snapshot.bodies
    if theirs is None and is_unchanged:
        del value[now]
        return None
    is_same_as_before = now == key_of(before.snapshot.shape, limits.history_key)
    if theirs is None or theirs == now or not is_same_as_before:
        return now
    value[theirs] = value.pop(now)
    return theirs


def _take_over_presence(
    value: dict[str, Any],
    now: str | None,
    before: Baseline,
    base: Baseline,
    theirs: str | None,
    content: dict[str, Any],
) -> Baseline:
    """As ``take_over``, for a history that at least one side does not have. *now* is its key here, *theirs* there."""
    if theirs is None and now is None:
        return base
    if theirs is not None and before.snapshot.shape == "data":
        value[theirs] = content[theirs]
        return base
    return _with_history_of(before, base)  # removed here, or removed there and changed here


def _take_over_fields(
    value: dict[str, Any],
    fields: Mapping[str, bytes],
    before: Baseline,
    base: Baseline,
    content: Mapping[str, Any],
    keys: Collection[str | None],
    *,
    merges: bool,
) -> dict[str, bytes]:
    """Take over the fields, whose texts in *value* are *fields*. Return the fields of the new baseline.

    Args:
        keys: The keys of the history, which are left alone.
    """
    loaded, stored = before.snapshot.fields, base.snapshot.fields
    known, effort = dict(stored), three_way.Effort()
    for name in {**loaded, **stored, **fields}.keys() - keys:
        was, theirs, mine = loaded.get(name), stored.get(name), fields.get(name)
        change = FieldChange(name, was, mine)
        if mine == was != theirs:
            if name in content:
                value[name] = _into(value.get(name), content[name], effort)
            else:
                del value[name]
        elif mine != was:  # also where it equals theirs: both may have counted, or taken the same
            is_merged = merges and was != theirs and _is_merged_here(value, change, theirs, effort)
            _put(known, name, theirs if is_merged else was)
    return known


def _is_merged_here(value: dict[str, Any], change: FieldChange, theirs: bytes | None, effort: three_way.Effort) -> bool:
    """Merge a changed field with *theirs* in *value*. False if the two collide, or if the field is not as JSON has it."""
    name, was, mine = change
    ours = _value(mine)
    merged = three_way.merge(_value(was), ours, _value(theirs), name, effort)
    if merged.collisions or merged.value is three_way.MISSING or ours != value.get(name):
        return False
    value[name] = _into(value[name], merged.value, effort)
    return True


def _put(fields: dict[str, bytes], name: str, text: bytes | None) -> None:
    """Set a field, or remove it (None)."""
    if text is None:
        fields.pop(name, None)
    else:
        fields[name] = text


def with_written(
    value: Any, before: Baseline, command: Merge | Append | Update | CommitTurn, receipt: Receipt, limits: ContentLimits
) -> Baseline:
    """Take the writes of *command* into *before*, where *value* has them too.

    A copy of it was saved, or the app has set a field through two doors.
    """
    known = dict(before.snapshot.fields)
    _, fields, history = texts(value, limits, before.snapshot.joined, before.snapshot)
    for name, *_, text in command.fields:
        if fields.get(name) == text:
            _put(known, name, text)
    before = before.but(fields=known)
    if receipt.fallback:
        command = named_away(command)
    change = command.history if isinstance(command, Merge) else None
    if not isinstance(change, Extend) or not change.elements or history is None:
        return before
    return _with_appended(before, change.elements, [body for body, _ in history], receipt.first_seq or 0)


def _with_appended(before: Baseline, elements: Sequence[bytes], mine: list[bytes], first_seq: int) -> Baseline:
    """Take new *elements*, numbered from *first_seq*, into *before*, where the messages *mine* have them too."""
    was = before.snapshot.bodies
    dropped = diff.dropped_of(was, mine)
    if dropped is None or mine[len(was) - dropped :][: len(elements)] != bodies_of(elements):
        return before
    count = before.snapshot.count + len(elements)
    extended = before.but(elements=[*before.snapshot.elements, *elements], count=count)
    return replace(extended, seqs=[*before.seqs, *range(first_seq, first_seq + len(elements))])


def _into(old: Any, new: Any, effort: three_way.Effort) -> Any:
    """Put *new* into the object *old* where that can be, since the app may hold it. Return the object that counts."""
    if _are_all(dict, old, new):
        return _into_dict(old, new, effort)
    if _are_all(set, old, new):
        old.intersection_update(new)
        old.update(new)
        return old
    if _are_all(list, old, new):
        old_texts, new_texts = ([three_way.text_of(json_text.tagged(part)) for part in parts] for parts in (old, new))
        old[:] = _aligned_into(old, new, old_texts, new_texts, effort)
        return old
    return new


def _into_dict(old: dict[Any, Any], new: dict[Any, Any], effort: three_way.Effort) -> dict[Any, Any]:
    for name in [name for name in old if name not in new]:
        del old[name]
    old.update({name: _into(old.get(name), part, effort) for name, part in new.items()})
    return old


def _aligned_into(
    old: list[Any], new: list[Any], old_texts: Sequence[Any], new_texts: Sequence[Any], effort: three_way.Effort
) -> list[Any]:
    """Put each new element into the old one that it was, or that it has replaced. The texts tell which are alike."""
    differences = three_way.differences(old_texts, new_texts, effort)
    if differences is None:
        return new
    aligned = list(new)
    start = shift = 0
    for old_range, new_range in [*differences, (range(len(old), len(old)), range(len(new), len(new)))]:
        for place in range(start, old_range.start):
            aligned[place + shift] = old[place]
        for was, now in _pairs(old, old_range, new, new_range, effort):
            aligned[now] = _into(old[was], new[now], effort)
        start, shift = old_range.stop, new_range.stop - old_range.stop
    return aligned


def _pairs(
    old: list[Any], old_range: range, new: list[Any], new_range: range, effort: three_way.Effort
) -> list[tuple[int, int]]:
    """Pair old elements with the new ones that they became: those with the most parts alike.

    If none are alike, and there are as many, they are paired in order. An old element without a pair was removed.
    """
    if len(old_range) == len(new_range) == 1:
        return [(old_range.start, new_range.start)]
    if not effort.covers(_STEPS_OF_A_PART * len(old_range) * sum(_size(new[now]) for now in new_range)):
        return []
    paired = _pairs_alike(old, old_range, new, new_range)
    is_all_edited = not paired and len(old_range) == len(new_range)
    return list(zip(old_range, new_range, strict=True)) if is_all_edited else list(paired.items())


def _pairs_alike(old: list[Any], old_range: range, new: list[Any], new_range: range) -> dict[int, int]:
    """Pair elements that have parts in common, those with the most of them first."""
    scores = [(_parts_alike(old[was], new[now]), was, now) for was in old_range for now in new_range]
    paired: dict[int, int] = {}
    taken: set[int] = set()
    for score, was, now in sorted(scores, key=lambda found: (-found[0], found[1:])):
        if score and was not in paired and now not in taken:
            paired[was] = now
            taken.add(now)
    return paired


def _size(value: Any) -> int:
    return 1 + len(value) if isinstance(value, (dict, list)) else 1


def _parts_alike(one: Any, other: Any) -> int:
    """Count the parts that two dicts, or the first ones that two lists, have in common."""
    if _are_all(dict, one, other):
        return sum(one[name] == other[name] for name in one.keys() & other.keys())
    if _are_all(list, one, other):
        return len(three_way.common_beginning(one, other))
    return 0


def _take_over_history(
    mine: Any, before: Baseline, base: Baseline, theirs: list[Any], limits: ContentLimits
) -> Baseline:
    """Take over the messages. A rewrite that was made here stays, and conflicts in the end if theirs has changed."""
    if not isinstance(mine, list):
        return _with_history_of(before, base)
    was = before.snapshot.bodies
    _, _, given = texts(list(mine), limits, before.snapshot.joined)
    dropped = diff.dropped_of(was, [body for body, _ in given or ()])
    if dropped is None:
        return _with_history_of(before, base)
    kept = len(was) - dropped
    stored = zip(base.seqs, base.snapshot.bodies, theirs, strict=True)
    gone = set(before.seqs[:dropped])
    left = [part for part in stored if part[0] not in gone]
    taken = _messages_into(mine[:kept], was[dropped:], before.seqs[dropped:], left)
    mine[:] = taken + mine[kept:]
    return base


def _messages_into(
    old: list[Any], old_bodies: list[bytes], old_seqs: Sequence[int], stored: list[tuple[int, bytes, Any]]
) -> list[Any]:
    """Put each stored message into the old one that it was. A rewrite gives all messages new numbers."""
    known = {seq: (message, body) for seq, message, body in zip(old_seqs, old, old_bodies, strict=True)}
    effort = three_way.Effort()
    if not any(seq in known for seq, _, _ in stored):
        new, bodies = [message for _, _, message in stored], [body for _, body, _ in stored]
        return _aligned_into(old, new, old_bodies, bodies, effort)
    taken = []
    for seq, body, message in stored:
        mine, was = known.get(seq, (None, b""))
        taken.append(mine if was == body else _into(mine, message, effort))
    return taken


def _with_history_of(before: Baseline, base: Baseline) -> Baseline:
    """Make *base* with the messages of *before*, so that these are still compared with what they were."""
    history = ("shape", "elements", "first_seq", "gaps", "count", "history_version")
    kept = base.but(**{name: getattr(before.snapshot, name) for name in history})
    return replace(kept, seqs=before.seqs)
