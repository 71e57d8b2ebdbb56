"""Merges of a write with what others wrote since its baseline was loaded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..domain.clock import monotonic, now_ms
from ..domain.commands import Extend, Merge, Rewrite, new_token
from ..domain.messages import bodies_of, join_element, own_id
from ..domain.results import Snapshot
from ..domain.shapes import key_of
from ..errors import ConflictError, SessionNotFound, StoreUnavailable
from ..sessions.baseline import Baseline
from ..sessions.diff import named
from ..sessions.merge import Began, Settled, merged_bodies, merged_records, settled
from ..sessions.three_way import Effort, Merged
from .access import Access

NOTHING = Began()
"""The beginning of a session that was loaded."""


def attempts(access: Access, session_id: str) -> Iterator[None]:
    """Count the tries of one write, when others are faster each time. The caller returns when one has landed.

    Raises:
        StoreUnavailable: ``CONVSTORE_BUDGET`` is over. Nothing was written.
    """
    budget = access.settings.budget
    deadline = monotonic() + budget
    yield
    while monotonic() < deadline:
        yield
    raise StoreUnavailable(f"session {session_id!r}: other writers were faster for {budget:g} s", written=False)


def settled_fields(command: Merge, snapshot: Snapshot, began: Began = NOTHING) -> list[Settled]:
    """Merge the fields of *command* with those that are stored now."""
    effort = Effort()
    return [settled(change, began, snapshot.fields.get(change.name), effort) for change in command.fields]


def beside_theirs(access: Access, command: Merge, attempt: Merge, began: Began, conflict: ConflictError) -> Merge:
    """Make *attempt*, which is for *command*, anew from the fields that are stored now.

    Raises:
        ConflictError: It is *conflict*, where the settings want an error for each field that both have changed.
        SessionNotFound: The session is gone.
    """
    snapshot = stored(access, command.session_id, 0)
    fields = settled_fields(command, snapshot, began)
    if access.settings.conflict == "raise" and any(field.is_merged or field.collisions for field in fields):
        raise conflict
    return _with_fields(attempt, fields)


def behind_theirs(access: Access, command: Merge, base: Baseline, began: Began, conflict: ConflictError) -> Merge:
    """Make *command*, which rewrites the history of *base* or drops its oldest, anew from what is stored now.

    Raises:
        ConflictError: It is *conflict*, where the settings want an error, or where the baseline is not known whole.
        SessionNotFound: The session is gone.
    """
    rewrite = _as_rewrite(command, base)
    if access.settings.conflict == "raise" or rewrite is None or rewrite.history_version < 0:
        raise conflict
    snapshot = stored(access, command.session_id, None)
    if snapshot.created_at_ms != base.snapshot.created_at_ms:
        raise SessionNotFound(command.session_id)
    attempt = _with_fields(command, settled_fields(command, snapshot, began))
    if rewrite.elements is None or rewrite.resets:
        gone = replace(rewrite, history_version=snapshot.history_version)
        return replace(attempt, history=gone, overwrites=(*attempt.overwrites, _path(access, snapshot)))
    theirs, ours = snapshot.bodies, bodies_of(rewrite.elements)
    merged = merged_bodies(base.snapshot.bodies, ours, theirs, _path(access, snapshot))
    return _with_history(attempt, snapshot, merged, rewrite.elements)


def _as_rewrite(command: Merge, base: Baseline) -> Rewrite | None:
    """Write the messages of *base* out that a command leaves which drops the oldest. None if there is no order to merge."""
    change = command.history
    if isinstance(change, Extend) and change.drop_below:
        left = named(base.snapshot, base.seqs)[sum(seq < change.drop_below for seq in base.seqs) :]
        return Rewrite(base.snapshot.history_version, (*left, *change.elements))
    return change if isinstance(change, Rewrite) else None


def made_by_both(access: Access, command: Merge, began: Began) -> Merge:
    """Make *command*, which creates a session, anew for one that another writer has created meanwhile.

    Messages with which both begin are not added again, nor those of a default. Two records, such as
    ``[model, messages, time]``, become one.

    Raises:
        ConflictError: Two records differ, where the settings want an error.
        SessionNotFound: The session is gone.
    """
    snapshot = stored(access, command.session_id, None)
    elements = (command.history and command.history.elements) or ()
    ours, theirs, began_with = bodies_of(elements), snapshot.bodies, began.bodies
    record = merged_records(began, ours, theirs, _path(access, snapshot))
    if record:
        is_merged = ours != theirs or record.value != theirs
        if access.settings.conflict == "raise" and is_merged:
            raise ConflictError(command.session_id, "history", expected=None, actual=snapshot.version)
        return _with_history(command, snapshot, record, elements)
    if ours[: len(began_with)] == began_with and (began.is_default or theirs[: len(began_with)] == began_with):
        return replace(command, history=Extend(0, elements[len(began_with) :]))
    return command


def _path(access: Access, snapshot: Snapshot) -> str:
    """Name the place of the history, for signals. A bare list has the first key of the settings."""
    first_key = access.limits.history_key
    return key_of(snapshot.shape, first_key) or first_key


def stored(access: Access, session_id: str, last: int | None) -> Snapshot:
    """Read a session that must be there.

    Raises:
        SessionNotFound: The session is gone.
    """
    snapshot = access.load(session_id, last)
    if snapshot is None:
        raise SessionNotFound(session_id)
    return snapshot


def _with_history(attempt: Merge, snapshot: Snapshot, merged: Merged, ours: Sequence[bytes]) -> Merge:
    """Make *attempt* write the *merged* messages. Known messages keep their envelopes and ids."""
    history = Rewrite(snapshot.history_version, tuple(_merged_elements([*named(snapshot), *ours], merged.value)))
    overwrites = (*attempt.overwrites, *merged.collisions)
    return replace(attempt, history=history, overwrites=overwrites, token=new_token())


def _merged_elements(known: Sequence[bytes], bodies: Sequence[bytes]) -> Iterator[bytes]:
    """Make the elements of *bodies*. Each of the *known* ones is used once, and each id too."""
    places: dict[bytes, deque[bytes]] = {}
    for body, element in zip(bodies_of(known), known, strict=True):
        places.setdefault(body, deque()).append(element)
    now, used = now_ms(), set()
    for body in bodies:
        found = places.get(body, deque())
        while found and own_id(found[0]) in used:
            found.popleft()
        element = found.popleft() if found else join_element(now, body)
        used.add(own_id(element) or None)
        yield element


def _with_fields(attempt: Merge, fields: list[Settled]) -> Merge:
    return replace(
        attempt,
        fields=tuple(field.change for field in fields),
        overwrites=tuple(path for field in fields for path in field.collisions),
        token=new_token(),
    )
