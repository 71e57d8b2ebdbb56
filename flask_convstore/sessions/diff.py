"""Diff of a session's content and its baseline, as a command.

The JSON texts of the content are compared with those of the baseline. So a change is found however deep it lies, and
only the difference travels. Appending messages and dropping the oldest become an ``Extend``, which merges with others'
writes. Any other change of the history is a ``Rewrite``, which conflicts if the history has changed since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..domain import json_text
from ..domain.commands import Extend, FieldChange, Merge, Mode, Put, Rewrite
from ..domain.messages import Usage, own_id, with_body, with_id
from ..domain.numbering import gaps_between, id_of, seqs_of
from ..domain.results import Snapshot
from ..domain.shapes import Shape, has_history, key_of
from ..domain.types import Owner
from ..errors import InvalidInput, is_history_key
from .baseline import Baseline
from .content import (
    ContentLimits,
    Continued,
    Given,
    History,
    Texts,
    changed_texts,
    check_count,
    check_data_size,
    elements_of,
    encoded_fields,
    first_title_of,
    listed,
    look_at_fields,
    look_at_messages,
    refuse_twice,
    texts,
    too_large,
    usage_of,
)


def difference(
    base: Baseline, content: Any, limits: ContentLimits, owner: Owner, ttl_ms: int | None, *, given: Texts | None = None
) -> Merge | None:
    """Make the command that merges the difference between *base* and *content*. None if there is none.

    Args:
        given: The part of the stored state that the app was given. Only what differs from it was changed. None: the app was
            given all of it.

    Raises:
        InvalidInput: *content* cannot be saved. The error has the place and the reason.
    """
    known = base.snapshot
    shape, fields, history = changed_texts(content, limits, known.joined, known)
    if given is None and _is_same(known, shape, fields, history):
        return None
    _refuse_unread(known, fields)
    limits = limits.for_shape(shape, known.shape)
    if given is None:
        history_change = _change_of_all(base, history, limits)
    else:
        given_shape, given_fields, given_history = given
        shape = known.shape if shape == given_shape else shape
        fields = _with_changes(known.fields, given_fields, fields)
        history = listed(history, known.joined)
        history_change = _change_of_given(base, known.bodies, given_history, history, limits)
    field_changes = _compared(known.fields, fields, content, limits)
    if not field_changes and history_change is None and shape == known.shape:
        return None
    told = _told_by(known, content, history, history_change, limits) if history_change is not None else _NOTHING_TOLD
    return Merge(
        session_id=known.session_id,
        owner=owner,
        shape=None if shape == known.shape else shape,
        history_key=limits.history_key,
        fields=field_changes,
        history=history_change,
        created_at_ms=known.created_at_ms,
        loaded_version=known.version,
        ttl_ms=ttl_ms,
        first_title=told.first_title,
        usage=told.usage,
    )


class _Told(NamedTuple):
    """Title and cost, as the new messages of a session tell them."""

    first_title: str = ""
    usage: Usage | None = None


_NOTHING_TOLD = _Told()


def _told_by(
    known: Snapshot, content: Any, history: History | Continued, change: Extend | Rewrite, limits: ContentLimits
) -> _Told:
    """Warn of types that JSON changes in new messages, and find what those tell that are appended."""
    look_at_messages(content, _new_ones(known, history, change), limits)
    news, objects = _news(history, change)
    return _Told(first_title_of(news, limits, objects), usage_of(news)) if news else _NOTHING_TOLD


def _is_same(known: Snapshot, shape: Shape, fields: Mapping[str, bytes], history: History | Continued) -> bool:
    """Tell whether nothing of a session with messages has changed."""
    is_same_history = isinstance(history, Continued) and not history.more
    return is_same_history and shape == known.shape and fields == known.fields


def _refuse_unread(known: Snapshot, fields: Mapping[str, bytes]) -> None:
    """Refuse to set a field that a session, read in part, does not know.

    Raises:
        InvalidInput: There is one. Nothing was written.
    """
    if known.read is None:
        return
    unread = next((name for name in fields if name not in known.fields and name not in known.read), None)
    if unread is not None:
        raise InvalidInput(
            "this session was read without this field: name it in fields= when you read, or set it with update_session(). "
            "Nothing was written.",
            unread,
        )


def _news(history: History | Continued, change: Extend | Rewrite) -> tuple[list[Given], list[Any]]:
    """List the messages that *change* appends, and what the app has given for them, where that is known."""
    if isinstance(history, Continued):
        return history.more, history.objects
    count = len(change.elements) if isinstance(change, Extend) else 0
    return (history[-count:] if history and count else []), []


def _new_ones(known: Snapshot, history: History | Continued, change: Extend | Rewrite) -> Sequence[int]:
    """List the indexes of the messages that *change* writes and that were not stored before."""
    if isinstance(history, Continued):
        return range(len(known.elements), len(known.elements) + len(history.more))
    if isinstance(change, Extend):
        return range(len(history or ()) - len(change.elements), len(history or ()))
    before = set(known.bodies)
    return [index for index, (body, _) in enumerate(history or ()) if body not in before]


def _with_changes(
    stored: Mapping[str, bytes], given: Mapping[str, bytes], now: Mapping[str, bytes]
) -> dict[str, bytes]:
    """Apply the changes from *given* to *now* to the *stored* fields."""
    fields = {name: text for name, text in stored.items() if given.get(name) == now.get(name)}
    return fields | {name: text for name, text in now.items() if given.get(name) != text}


def changed_fields(
    loaded: Mapping[str, bytes], data: Mapping[str, Any], limits: ContentLimits
) -> tuple[FieldChange, ...]:
    """Compare *data* with the fields as they were *loaded*.

    Raises:
        InvalidInput: A field cannot be saved, or has the key of the history. The error has the place and the reason.
    """
    if limits.history_key in data:
        raise is_history_key(limits.history_key)
    return _compared(loaded, encoded_fields(data, limits, "data", loaded), data, limits)


def _compared(
    before: Mapping[str, bytes], after: Mapping[str, bytes], content: Any, limits: ContentLimits
) -> tuple[FieldChange, ...]:
    """Find the fields of *content* whose texts have changed, and warn of types that JSON changes in them."""
    if before == after:
        return ()
    changes, given = [], {}
    for name in {**after, **before}:
        was, now = before.get(name), after.get(name)
        if was != now:
            changes.append(FieldChange(name, was, now))
        if now is not None and was != now:
            given[name] = now
    check_data_size(given.items(), limits)
    look_at_fields(content, given, limits)
    return tuple(changes)


def _change_of_all(base: Baseline, history: History | Continued, limits: ContentLimits) -> Extend | Rewrite | None:
    """Compare *history* with the messages of *base*."""
    known = base.snapshot
    if not isinstance(history, Continued) or not has_history(known.shape):
        return _history_change(base, known.bodies, listed(history, known.joined), limits)
    return Extend(0, tuple(elements_of(history.more, limits, len(known.elements)))) if history.more else None


def _history_change(
    base: Baseline, before: list[bytes], history: list[Given] | None, limits: ContentLimits
) -> Extend | Rewrite | None:
    """Compare *history* with the messages of *base*, whose bodies were *before*. None if they are the same."""
    had_history = has_history(base.snapshot.shape)
    if history is None:
        return _rewrite(base, None, limits, resets=bool(before)) if had_history else None
    after = [body for body, _ in history]
    if before == after and had_history:
        return None
    dropped = _mergeably_dropped(base, before, after)
    if dropped is not None:
        kept = len(before) - dropped
        added = tuple(elements_of(history[kept:], limits, kept))
        if not dropped:
            return Extend(0, added)
        is_taken = all(body in before for body in after[kept:])  # nothing new pushes the oldest out
        return Extend(base.seqs[dropped - 1] + 1, added, base.snapshot.first_seq if is_taken else 0)
    elements = tuple(_rewritten(base, before, history, limits))
    refuse_twice(map(own_id, elements))
    return _rewrite(base, elements, limits, resets=_begins_anew(before, after))


def _is_moved(dropped: list[bytes], added: list[bytes]) -> bool:
    """Tell whether messages that were *dropped* were put at the end. A single one may be said again, beside others."""
    put_back = (Counter(dropped) & Counter(added)).total()
    return 0 < put_back >= min(2, len(dropped), len(added))


def _mergeably_dropped(base: Baseline, before: list[bytes], after: list[bytes]) -> int | None:
    """Count the oldest messages that are missing in *after*. None if that is no change beside those of others."""
    if before and not after:
        return None
    dropped = dropped_of(before, after)
    if not dropped:
        return dropped
    is_moved = _is_moved(before[:dropped], after[len(before) - dropped :])
    return dropped if _known_whole(base, dropped) and not is_moved else None


def _begins_anew(before: list[bytes], after: list[bytes]) -> bool:
    """Tell whether *after* has nothing of what was said *before*, from the user's first message on, and no summary of it.

    It is either a part of the same opening, or goes on with another message of the user. A single message that has changed
    in its place was edited. Messages without a role may be anything, such as a record or a summary.
    """
    if not after:
        return True
    if len(before) == len(after) and sum(map(bytes.__ne__, before, after)) == 1:
        return False
    opening, new_opening = _opening(before), _opening(after)
    said = before[opening:]
    if not said or not set(said).isdisjoint(after):
        return False
    if new_opening < len(after):
        return bool(_role_of(after[new_opening]) == "user")
    return set(after) <= set(before[:opening])


def _opening(bodies: list[bytes]) -> int:
    """Count the messages before the first one that a user may have said: system prompts, a greeting, or a summary."""
    return next((index for index, body in enumerate(bodies) if _role_of(body) in (None, "user")), len(bodies))


def _role_of(body: bytes) -> Any:
    message = json_text.decode(body)
    return message.get("role") if isinstance(message, dict) else None


def _change_of_given(
    base: Baseline, before: list[bytes], given: list[Given] | None, now: list[Given] | None, limits: ContentLimits
) -> Extend | Rewrite | None:
    """Compare the history *now* with the one *given* to the app, which may be a part of the stored one."""
    if given is None or not now:
        return None if given == now else _history_change(base, before, now, limits)
    given_bodies, now_bodies = ([body for body, _ in messages] for messages in (given, now))
    if given_bodies == now_bodies:
        return None
    if given_bodies == before:
        return _history_change(base, before, now, limits)
    if dropped_of(given_bodies, now_bodies) == 0:
        return Extend(0, tuple(elements_of(now[len(given) :], limits, len(given))))
    return Rewrite(-1, tuple(elements_of(now, limits)))  # conflicts, since others' messages lie between


def dropped_of(before: list[bytes], after: list[bytes]) -> int | None:
    """Count the oldest messages that are missing in *after*. None if it does not go on from the others.

    A history with none of its messages left is a rewrite, since it may as well be an edit.
    """
    if not after:
        return len(before)
    for index in range(len(before)):
        if before[index] == after[0] and before[index:] == after[: len(before) - index]:
            return index
    return None if before else 0


def _known_whole(base: Baseline, dropped: int) -> bool:
    """Tell whether the *dropped* messages are the oldest in the store, with nothing unseen between them."""
    oldest = seqs_of(base.snapshot.first_seq, base.snapshot.count, base.snapshot.gaps)[:dropped]
    return list(base.seqs[:dropped]) == list(oldest)


def _rewrite(base: Baseline, elements: tuple[bytes, ...] | None, limits: ContentLimits, *, resets: bool) -> Rewrite:
    if base.is_partial:
        loaded = f"only its last {len(base.snapshot.elements)} messages were loaded"
        raise InvalidInput(f"{loaded}. Load all to drop or rewrite any. Nothing was written.", limits.history_key)
    return Rewrite(base.snapshot.history_version, elements, resets)


def named(snapshot: Snapshot, seqs: Sequence[int] | None = None) -> list[bytes]:
    """Give each message the id that it has now, which stays under whatever seq.

    Args:
        seqs: The seqs of the messages (None: as in the snapshot).
    """
    numbered = zip(snapshot.elements, snapshot.seqs if seqs is None else seqs, strict=True)
    return [with_id(element, id_of(seq)) for element, seq in numbered]


def _rewritten(base: Baseline, before: list[bytes], history: list[Given], limits: ContentLimits) -> Iterator[bytes]:
    """Make the elements of *history*. Unchanged messages keep their envelopes, as does a single edited one.

    All get other seqs. So the elements of *base* are given ids of their own, which stay.
    """
    if not history:
        return
    elements = named(base.snapshot, base.seqs)
    after = [body for body, _ in history]
    shorter = min(len(before), len(after))
    head = next((index for index in range(shorter) if before[index] != after[index]), shorter)
    rest = shorter - head
    tail = next((index for index in range(rest) if before[-1 - index] != after[-1 - index]), rest)
    yield from elements[:head]
    if len(before) == len(after) == head + 1 + tail and "id" not in history[head][1]:
        element = with_body(elements[head], after[head])
        if len(element) > limits.max_message_bytes:
            raise too_large(element, limits, head)
        yield element
    else:
        known = list(zip(before, elements, strict=True))[head : len(before) - tail]
        yield from _aligned(known, history[head : len(after) - tail], limits, head)
    yield from elements[len(before) - tail :]


def _aligned(
    known: Sequence[tuple[bytes, bytes]], history: list[Given], limits: ContentLimits, first_index: int
) -> Iterator[bytes]:
    """Make the elements of *history*. A message that is *known*, as its body and element, stays that.

    Of several alike, the next one in their order.
    """
    places: dict[bytes, list[int]] = {}
    for place, (body, _) in enumerate(known):
        places.setdefault(body, []).append(place)
    behind = 0
    for index, (body, facts) in enumerate(history, first_index):
        found = [] if facts else places.get(body, [])
        if not found:
            yield from elements_of([(body, facts)], limits, index)
            continue
        at = next((place for place in found if place >= behind), found[0])
        found.remove(at)
        yield known[at][1]
        behind = at + 1


def whole(
    session_id: str, content: Any, limits: ContentLimits, owner: Owner, ttl_ms: int | None, mode: Mode = "replace"
) -> Put:
    """Make the command that makes *content* the whole session.

    Raises:
        InvalidInput: *content* cannot be saved. The error has the place and the reason.
    """
    refuse_part(content)
    if isinstance(content, Mapping):
        check_count(len(content) - (limits.history_key in content))
    shape, fields, history = texts(content, limits)
    limits = limits.for_shape(shape)
    check_data_size(fields.items(), limits)
    look_at_fields(content, fields, limits)
    look_at_messages(content, range(len(history or ())), limits)
    return Put(
        session_id=session_id,
        owner=owner,
        mode=mode,
        shape=shape,
        fields=tuple(fields.items()),
        elements=tuple(elements_of(history or [], limits)),
        ttl_ms=ttl_ms,
        first_title=first_title_of(history or (), limits, _messages_in(content, limits) if history else ()),
        usage=usage_of(history or ()),
        may_continue=True,
    )


def refuse_part(content: Any) -> None:
    """Refuse to make a whole session of one that was read in part.

    Raises:
        InvalidInput: *content* is such a session. Nothing was written.
    """
    base = getattr(content, "_base", None)
    if isinstance(base, Baseline) and base.snapshot.read is not None:
        reason = "this session was read with fields=, so it is not whole: read it without fields= to save it elsewhere"
        raise InvalidInput(f"{reason}. Nothing was written.")


def _messages_in(content: Any, limits: ContentLimits) -> Sequence[Any]:
    messages: Sequence[Any] = content.get(limits.history_key, ()) if isinstance(content, Mapping) else content
    return messages if isinstance(messages, (list, tuple)) else ()


def joining(session_id: str, content: Any, limits: ContentLimits, owner: Owner, ttl_ms: int | None) -> Merge:
    """Make the command that creates a session with *content*, or adds it to a session that another writer has created.

    Raises:
        InvalidInput: As ``whole``.
    """
    put = whole(session_id, content, limits, owner, ttl_ms)
    return Merge(
        session_id=session_id,
        owner=owner,
        shape=put.shape,
        history_key=key_of(put.shape, limits.history_key) or "",
        fields=tuple(FieldChange(name, None, text) for name, text in put.fields),
        history=Extend(0, put.elements) if has_history(put.shape) else None,
        creates=True,
        ttl_ms=ttl_ms,
        first_title=put.first_title,
        usage=put.usage,
        token=put.token,
    )


def copied(
    snapshot: Snapshot,
    session_id: str,
    owner: Owner,
    elements: Sequence[bytes],
    usage: Usage | None,
    *,
    seqs: Sequence[int],
    next_seq: int,
) -> Put:
    """Make the command that creates another session with the fields, title and lifetime of *snapshot*, and *elements*.

    Args:
        seqs: The seqs that the elements have there.
        next_seq: The seq of the first message that comes later.
    """
    return Put(
        session_id=session_id,
        owner=owner,
        mode="create",
        shape=snapshot.shape,  # with its first message, a session without a history has one
        fields=tuple(snapshot.fields.items()),
        elements=tuple(elements),
        first_seq=seqs[0] if seqs else next_seq,
        gaps=gaps_between(seqs, next_seq),
        ttl_ms=snapshot.own_ttl_ms,
        first_title=snapshot.title or "",
        usage=usage,
    )
