"""Sessions made from sessions: a conversation that goes on shortened (compact), or twice (fork)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..domain.commands import Append, Delete, NoteAlias, Share, Update
from ..domain.ids import new_id
from ..domain.messages import Usage, stored_message
from ..domain.results import Snapshot
from ..domain.types import ANY
from ..domain.validation import check_session_id, check_whole
from ..errors import ConflictError, ConvstoreError, InvalidInput, SessionNotFound, behind_a_write
from ..sessions import content, diff
from ..sessions.session import AnySession
from . import aliases, sessions
from .access import Access
from .turns import Policy, Turn, hold

SummaryInput = str | Mapping[str, Any] | Callable[[list[Any]], Any]
"""A text (a system message), a message; or a function that makes one of them from the bodies that will be left out."""


def compact(
    access: Access,
    session_id: str,
    summary: SummaryInput,
    *,
    keep: int = 10,
    policy: Policy | None = None,
) -> AnySession:
    """Go on in a new session, which begins with a summary and the last *keep* messages."""
    check_whole(keep, "keep")
    access.flush()
    turn, snapshot = hold(access, session_id, policy=policy)
    with turn:
        start = max(0, len(snapshot.elements) - keep)
        message = _message(summary(_bodies(snapshot, start)) if callable(summary) else summary)
        elements = content.added([message], access.limits).elements + tuple(snapshot.elements[start:])
        successor = _create(access, snapshot, elements, snapshot.usage)
        try:
            for name, role in snapshot.shared.items():
                access.apply(Share(session_id=successor, owner=snapshot.owner, name=name, role=role))
            snapshot = _moved(access, turn, snapshot, successor)
        except ConvstoreError as error:
            if error.written is False:
                with contextlib.suppress(ConvstoreError):
                    access.apply(Delete(session_id=successor, owner=snapshot.owner))
            raise
    with behind_a_write():
        for alias in snapshot.aliases:  # until then resolve() finds the way
            aliases.move(access, alias, session_id, successor)
        return sessions.existing(access, successor)


_ATTEMPTS = 20
"""How often what others wrote meanwhile is taken along: the turn keeps out turns only."""


def _moved(access: Access, turn: Turn, snapshot: Snapshot, successor: str) -> Snapshot:
    """End *turn* by moving the conversation to *successor*, with what was added since *snapshot*; how the old one was then.

    Raises:
        ConflictError: Its messages were dropped or rewritten meanwhile; nothing was written to it.
        TurnLost, SessionNotFound: Nothing was written to it.
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
        known = len(snapshot.elements)
        if now.elements[:known] != snapshot.elements or now.next_seq - now.count != snapshot.next_seq - snapshot.count:
            raise conflict
        for command in _written_between(snapshot, now, successor):
            access.apply(command)
        snapshot = now
    raise conflict


def _written_between(before: Snapshot, now: Snapshot, session_id: str) -> Iterator[Append | Update | Share]:
    """The commands that write to another session what was written to this one between *before* and *now*."""
    names = {**before.fields, **now.fields}
    changed = [(name, now.fields.get(name)) for name in names if before.fields.get(name) != now.fields.get(name)]
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
    for name in {**before.shared, **now.shared}:
        if before.shared.get(name) != now.shared.get(name):
            yield Share(session_id=session_id, owner=before.owner, name=name, role=now.shared.get(name))


def fork(access: Access, session_id: str, seq: int | None = None) -> AnySession:
    """Make a new session with the same data, and the messages up to *seq* (None: all)."""
    if seq is not None:
        check_whole(seq, "seq")
    check_session_id(session_id)
    access.flush()
    snapshot = access.load(session_id)
    if snapshot is None:
        raise SessionNotFound(session_id)
    first_seq = snapshot.next_seq - len(snapshot.elements)
    kept = snapshot.elements if seq is None else snapshot.elements[: max(0, seq - first_seq + 1)]
    if access.owner is not ANY and access.owner != snapshot.owner:  # the fork is the guest's own
        snapshot = replace(snapshot, owner=access.owner)
    fork_id = _create(access, snapshot, kept)
    with behind_a_write():
        return sessions.existing(access, fork_id)


def _create(access: Access, snapshot: Snapshot, elements: Sequence[bytes], usage: Usage | None = None) -> str:
    """A new session of the owner of *snapshot*, with all that it has but for the messages; its id.

    No quota removes the one of *snapshot* for that.
    """
    command = diff.copied(snapshot, new_id(), snapshot.owner, elements, usage)
    access.apply(replace(command, spared=snapshot.session_id))
    return command.session_id


def _bodies(snapshot: Snapshot, count: int) -> list[Any]:
    """The bodies of the oldest *count* messages.

    Raises:
        CorruptValue: One is not what we write.
    """
    first_seq = snapshot.next_seq - len(snapshot.elements)
    oldest = enumerate(snapshot.elements[:count], first_seq)
    return [stored_message(element, seq, snapshot.history_key).body for seq, element in oldest]


def _message(summary: Any) -> Any:
    if isinstance(summary, str):
        return {"role": "system", "content": summary}
    if isinstance(summary, Mapping):
        return dict(summary)
    raise InvalidInput(f"it is a text or a message, not a {type(summary).__name__}; nothing was written", "summary")
