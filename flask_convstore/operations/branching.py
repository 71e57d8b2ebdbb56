"""Sessions made from sessions: a conversation that goes on shortened (compact), or twice (fork)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..domain.commands import Append, Delete, NoteAlias, Share, Update
from ..domain.ids import new_id
from ..domain.messages import Usage, stored_message
from ..domain.results import ANY, CALLER, Owner, Scope, Snapshot
from ..domain.validation import check_whole
from ..errors import ConflictError, ConvstoreError, InvalidInput, SessionNotFound, behind_a_write
from ..sessions import content, diff
from ..sessions.session import AnySession
from . import aliases
from .sessions import Backend, Conversations
from .turns import Policy, Turn, hold

Summary = str | Mapping[str, Any] | Callable[[list[Any]], Any]
"""A text (a system message), a message; or a function that makes one of them from the bodies that will be left out."""


def compact(
    conversations: Conversations,
    session_id: str,
    summary: Summary,
    *,
    keep: int = 10,
    policy: Policy | None = None,
    owner: Owner | Scope = CALLER,
) -> AnySession:
    """See ``ConversationStore.compact``."""
    check_whole(keep, "keep")
    backend = conversations.backend
    whose = conversations.whose(owner)
    turn, snapshot = hold(conversations, session_id, policy=policy, owner=whose)
    with turn:
        start = max(0, len(snapshot.elements) - keep)
        message = _message(summary(_bodies(snapshot, start)) if callable(summary) else summary)
        elements = content.added([message], backend.form).elements + tuple(snapshot.elements[start:])
        successor = _create(backend, snapshot, elements, snapshot.usage)
        try:
            for name, role in snapshot.shared.items():
                backend.store.apply(Share(session_id=successor, owner=snapshot.owner, name=name, role=role))
            snapshot = _moved(backend, turn, snapshot, successor)
        except ConvstoreError as error:
            if error.written is False:
                with contextlib.suppress(ConvstoreError):
                    backend.store.apply(Delete(session_id=successor, owner=snapshot.owner))
            raise
    with behind_a_write():
        for alias in snapshot.aliases:  # until then resolve() finds the way
            aliases.move(conversations, alias, session_id, successor)
        return conversations.existing_session(successor, owner=whose)


_ATTEMPTS = 20
"""How often what others wrote meanwhile is taken along: the turn keeps out turns only."""


def _moved(backend: Backend, turn: Turn, snapshot: Snapshot, successor: str) -> Snapshot:
    """End *turn* by moving the conversation to *successor*, with what was added since *snapshot*; how the old one was then.

    Raises:
        ConflictError: Its messages were dropped or rewritten meanwhile; nothing was written to it.
        TurnLost, SessionNotFound: Nothing was written to it.
    """
    for _ in range(_ATTEMPTS):
        for alias in snapshot.aliases:
            backend.store.apply(NoteAlias(session_id=successor, owner=snapshot.owner, alias=alias, leads_here=True))
        try:
            turn.move_to(successor, snapshot.version)
            return snapshot
        except ConflictError as error:
            conflict = error
        now = backend.store.load(turn.session_id, ANY)
        if now is None or now.created_at_ms != snapshot.created_at_ms:
            raise SessionNotFound(turn.session_id)
        known = len(snapshot.elements)
        if now.elements[:known] != snapshot.elements or now.next_seq - now.count != snapshot.next_seq - snapshot.count:
            raise conflict
        for command in _written_between(snapshot, now, successor):
            backend.store.apply(command)
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


def fork(
    conversations: Conversations, session_id: str, seq: int | None = None, *, owner: Owner | Scope = CALLER
) -> AnySession:
    """See ``ConversationStore.fork``."""
    if seq is not None:
        check_whole(seq, "seq")
    backend, whose = conversations.resolved(session_id, owner)
    snapshot = backend.store.load(session_id, whose)
    if snapshot is None:
        raise SessionNotFound(session_id)
    first_seq = snapshot.next_seq - len(snapshot.elements)
    kept = snapshot.elements if seq is None else snapshot.elements[: max(0, seq - first_seq + 1)]
    if whose is not ANY and whose != snapshot.owner:  # who shares a session makes one of their own of it
        snapshot = replace(snapshot, owner=whose)
    fork_id = _create(backend, snapshot, kept)
    with behind_a_write():
        return conversations.existing_session(fork_id, owner=whose)


def _create(backend: Backend, snapshot: Snapshot, elements: Sequence[bytes], usage: Usage | None = None) -> str:
    """A new session of the owner of *snapshot*, with all that it has but for the messages; its id.

    No quota removes the one of *snapshot* for that.
    """
    command = diff.copied(snapshot, new_id(), snapshot.owner, elements, usage)
    backend.store.apply(replace(command, spared=snapshot.session_id))
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
