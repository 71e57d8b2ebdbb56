"""Sessions made from sessions: compact (a shortened conversation that goes on), and fork (a second conversation)."""

from __future__ import annotations

import contextlib
import secrets
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ..domain.commands import Append, Delete, NoteAlias, Share, Update
from ..domain.deadlines import OPERATION
from ..domain.ids import new_id
from ..domain.messages import Usage, as_summary, is_summary, stored_message, with_id
from ..domain.numbering import id_of
from ..domain.pairs import is_prompt, whole_start
from ..domain.results import Snapshot
from ..domain.types import ANY
from ..domain.validation import check_session_id, check_whole
from ..errors import ConflictError, ConvstoreError, CorruptValue, InvalidInput, SessionNotFound, behind_a_write
from ..sessions import content, diff
from ..sessions.session import AnySession, content_of
from . import aliases, sessions
from .access import FOR_CLEANING, Access, in_time, whole
from .owners import Watch
from .turns import Policy, Turn, hold, seconds_for

_V = TypeVar("_V")

SummaryInput = str | Mapping[str, Any] | Callable[[list[Any]], Any]
"""A text (a system message), a message, or a function that makes one of them from the bodies that will be left out."""

Kept = Callable[[Any], bool]
"""A function from a message's body to whether the message stays."""

Numbered = Sequence[tuple[int, bytes]]
"""Messages with their seqs."""

_ATTEMPTS = 20
"""Most attempts to move a session while others write to it. The turn keeps out turns only."""


def compact(
    access: Access,
    session_id: str,
    summary: SummaryInput,
    *,
    keep: int = 10,
    policy: Policy | None = None,
    kept_head: Kept = is_prompt,
    seconds: float | None = None,
) -> AnySession:
    """Go on in a new session, which begins with a summary and the last *keep* messages.

    An answer of a tool whose call is left out is left out too. An earlier summary does not stay at the beginning.

    Args:
        kept_head: Tells by a body whether a message at the beginning stays there, before the summary.
        seconds: Time for all of it. None: no limit beyond that of each call.

    Raises:
        TooSlow: The session is too large to be read in that time. Nothing was written.
    """
    check_whole(keep, "keep")
    with OPERATION.within(seconds_for(access, policy)):
        access.count_turn()
        access.flush()
        watch = Watch(seconds)
        turn, snapshot = hold(access, session_id, policy=policy)
        with turn:
            whole(snapshot)
            watch.check_half()
            numbered = _summarised(access, snapshot, summary, keep, kept_head)
            with OPERATION.sparing(FOR_CLEANING):
                successor = _create(access, snapshot, numbered, snapshot.usage, next_seq=snapshot.next_seq)
            snapshot = _go_on_in(access, turn, snapshot, successor)
        with behind_a_write():
            # An alias that is not yet moved still leads there, since resolve() follows the move.
            aliases.move(access, snapshot.aliases, session_id, successor)
            return sessions.existing(access, successor)


def _summarised(access: Access, snapshot: Snapshot, summary: SummaryInput, keep: int, kept_head: Kept) -> Numbered:
    """Put a summary in the place of all messages but the head that stays, and the last *keep*."""
    head = _head(snapshot, kept_head)
    summaries = [at for at, element in enumerate(snapshot.elements[: head + 1]) if is_summary(element)]
    head = min([head, *summaries])
    start = _start(snapshot, max(head + len(summaries), len(snapshot.elements) - keep))
    bodies = _bodies(snapshot, start) if callable(summary) else []
    with OPERATION.paused():
        message = _message(summary(bodies) if callable(summary) else summary)
    (added,) = map(as_summary, content.added([message], access.limits).elements)
    return _shortened(snapshot, head, added, start)


def _go_on_in(access: Access, turn: Turn, snapshot: Snapshot, successor: str) -> Snapshot:
    """Share *successor* as this session is shared, and move the conversation there, as ``_move``.

    Where nothing was moved, the successor is removed.
    """
    try:
        with OPERATION.sparing(FOR_CLEANING):
            for name, role in snapshot.shared.items():
                access.apply(Share(session_id=successor, owner=snapshot.owner, name=name, role=role))
            return _move(access, turn, snapshot, successor)
    except ConvstoreError as error:
        if error.written is False:
            with contextlib.suppress(ConvstoreError):
                access.apply(Delete(session_id=successor, owner=snapshot.owner))
        raise


def _move(access: Access, turn: Turn, snapshot: Snapshot, successor: str) -> Snapshot:
    """End *turn* by moving the conversation to *successor*, with the writes since *snapshot*.

    Returns:
        The old session as it was when it was moved.

    Raises:
        ConflictError: Messages of the old session were dropped or rewritten meanwhile. Nothing was written to that session.
        TurnLost, SessionNotFound: Nothing was written to the old session.
    """
    for _ in range(_ATTEMPTS):
        for alias in snapshot.aliases:
            access.apply(NoteAlias(session_id=successor, owner=snapshot.owner, alias=alias, leads_here=True))
        try:
            turn.move_to(successor, snapshot.version)
            return snapshot
        except ConflictError as error:
            conflict = error
        now = access.of(ANY).load(turn.session_id)
        if now is None or now.created_at_ms != snapshot.created_at_ms:
            raise SessionNotFound(turn.session_id)
        if not _has_only_grown(snapshot, now):
            raise conflict
        for command in _written_between(snapshot, now, successor):
            access.apply(command)
        snapshot = now
    raise conflict


def _has_only_grown(before: Snapshot, now: Snapshot) -> bool:
    """Tell whether messages were added only, none dropped and none rewritten."""
    is_oldest_there = now.first_seq == before.first_seq
    return is_oldest_there and now.elements[: len(before.elements)] == before.elements


def _written_between(before: Snapshot, now: Snapshot, session_id: str) -> Iterator[Append | Update | Share]:
    """Make the commands that repeat in another session the writes to this one between *before* and *now*."""
    changed = _changed(before.fields, now.fields)
    added = tuple(now.elements[len(before.elements) :])
    usage = Usage(now.usage.input - before.usage.input, now.usage.output - before.usage.output)
    if changed or added or any(usage):
        yield Append(
            session_id=session_id,
            owner=before.owner,
            elements=added,
            fields=tuple(changed),
            usage=usage if any(usage) else None,
        )
    if now.title != before.title:
        yield Update(session_id=session_id, owner=before.owner, title=now.title or "")
    for name, role in _changed(before.shared, now.shared):
        yield Share(session_id=session_id, owner=before.owner, name=name, role=role)


def _changed(before: Mapping[str, _V], now: Mapping[str, _V]) -> list[tuple[str, _V | None]]:
    """List the names whose value differs, with the value now. None if there is none."""
    names = {**before, **now}
    return [(name, now.get(name)) for name in names if before.get(name) != now.get(name)]


@in_time
def fork(
    access: Access,
    session_id: str,
    seq: int | None = None,
    *,
    kept_head: Kept = lambda body: False,
    seconds: float | None = None,
) -> AnySession:
    """Make a new session with the same data, and the messages up to *seq*, or all.

    Args:
        kept_head, seconds: As in ``compact``.

    Raises:
        TooSlow: As in ``compact``. Nothing was written.
    """
    if seq is not None:
        check_whole(seq, "seq")
    check_session_id(session_id)
    access.count_turn()
    access.flush()
    watch = Watch(seconds)
    snapshot = access.whole(session_id)
    if snapshot is None:
        raise SessionNotFound(session_id)
    watch.check_half()
    count = len(snapshot.elements)
    if seq is not None:
        count = max(_head(snapshot, kept_head), bisect_right(snapshot.seqs, seq))
    kept = list(zip(snapshot.seqs[:count], snapshot.elements[:count], strict=True))
    if access.owner is not ANY and access.owner != snapshot.owner:
        snapshot = replace(snapshot, owner=access.owner)  # a guest's fork is the guest's own
    next_seq = snapshot.next_seq if count >= len(snapshot.elements) else 1
    fork_id = _create(access, snapshot, kept, next_seq=next_seq)
    with behind_a_write():
        return sessions.existing(access, fork_id)


def _shortened(snapshot: Snapshot, head: int, summary: bytes, start: int) -> Numbered:
    """Put *summary* in the place of the messages between the *head* and those from *start* on. These keep their seqs.

    The summary takes the seq of the last message that it stands for, and an id of its own. Where it stands for none, all
    that come behind take new seqs and keep their ids.
    """
    numbered = list(zip(snapshot.seqs, snapshot.elements, strict=True))
    if start > head:
        seq = numbered[start - 1][0]
        return [*numbered[:head], (seq, with_id(summary, f"{id_of(seq)}-{secrets.token_hex(2)}")), *numbered[start:]]
    behind = [with_id(element, id_of(seq)) for seq, element in numbered[start:]]
    return [*numbered[:head], *enumerate([summary, *behind], snapshot.next_seq)]


def _create(
    access: Access, snapshot: Snapshot, numbered: Numbered, usage: Usage | None = None, *, next_seq: int
) -> str:
    """Copy *snapshot*, with other messages, to a new session of the same owner, and return the new id.

    A full quota does not remove the old session to make a place for the new one.

    Args:
        next_seq: The least seq of the first message that comes later.

    Raises:
        CorruptValue: A field or one of these messages is damaged. Nothing was written.
    """
    content_of(replace(snapshot, elements=[]), access.limits.history_key)
    for seq, element in numbered:
        stored_message(element, seq, snapshot.history_key)
    seqs, elements = [seq for seq, _ in numbered], [element for _, element in numbered]
    command = diff.copied(
        snapshot,
        new_id(),
        snapshot.owner,
        elements,
        usage,
        seqs=seqs,
        next_seq=max(next_seq, seqs[-1] + 1 if seqs else 1),
    )
    access.apply(replace(command, spared=snapshot.session_id))
    return command.session_id


def _head(snapshot: Snapshot, is_kept: Kept) -> int:
    """Count the messages at the beginning that stay."""
    count = 0
    while (
        count < len(snapshot.elements) and not is_summary(snapshot.elements[count]) and is_kept(_body(snapshot, count))
    ):
        count += 1
    return count


def _start(snapshot: Snapshot, start: int) -> int:
    """Find the first message that can stay, from *start* on. A damaged message is no reason to lose others."""
    first = max(0, start - 1)
    with contextlib.suppress(CorruptValue):
        bodies = [_body(snapshot, index) for index in range(first, len(snapshot.elements))]
        return first + whole_start(bodies, start - first)
    return start


def _bodies(snapshot: Snapshot, count: int) -> list[Any]:
    """List the bodies of the oldest *count* messages.

    Raises:
        CorruptValue: A stored message is damaged.
    """
    return [_body(snapshot, index) for index in range(count)]


def _body(snapshot: Snapshot, index: int) -> Any:
    return stored_message(snapshot.elements[index], snapshot.seqs[index], snapshot.history_key).body


def _message(summary: Any) -> Any:
    """Make a message of a summary. A text becomes a system message."""
    if isinstance(summary, str):
        return {"role": "system", "content": summary}
    if isinstance(summary, Mapping):
        return dict(summary)
    kind = type(summary).__name__
    raise InvalidInput(f"must be a text or a message, not a {kind}. Nothing was written.", "summary")
