"""Baseline: the last known stored state of a session, from which changes are measured."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ..domain.commands import Extend, FieldChange, Merge, Put, Rewrite, named_away
from ..domain.messages import NO_USAGE
from ..domain.results import Receipt, Snapshot
from ..domain.types import as_value


class Pending(NamedTuple):
    """A save whose answer never came.

    Attributes:
        command: The changes that were made.
        attempt: What was sent for them: the same, or their merge with what others had written.
    """

    command: Merge
    attempt: Merge


@as_value
class Baseline:
    """The last known stored state of a session: read, created or merged.

    Attributes:
        origin: The store in which the session lies.
        snapshot: The state. After a merge its ``count`` is that of the messages known here, and its ``history_version``
            belongs to the last change of the messages that is known whole.
        seqs: The numbers of the messages. There are gaps where others wrote between.
        pending: It is repeated, with its token, before the next save.
    """

    origin: str
    snapshot: Snapshot
    seqs: Sequence[int]
    pending: Pending | None = None

    @property
    def state(self) -> tuple[int, int]:
        """The time of creation and the version. Of two baselines with one id the greater one is the later one."""
        return self.snapshot.created_at_ms, self.snapshot.version

    @property
    def is_partial(self) -> bool:
        """Only the last messages were loaded."""
        return self.snapshot.count > len(self.snapshot.elements)

    def but(self, **facts: Any) -> Baseline:
        """Make the same baseline with other *facts* in its snapshot."""
        return replace(self, snapshot=self.snapshot.with_facts(**facts))


def base_read(snapshot: Snapshot, origin: str) -> Baseline:
    """The baseline of a session that was just read."""
    return Baseline(origin=origin, snapshot=snapshot, seqs=snapshot.seqs)


def base_created(command: Put | Merge, receipt: Receipt, origin: str) -> Baseline:
    """The baseline of a session that *command* has made as a whole."""
    if receipt.fallback:
        command = named_away(command, receipt.session_id)
    is_history_new = isinstance(command, Put) or command.creates or command.history is not None
    whole = command.as_put() if isinstance(command, Merge) else command
    snapshot = Snapshot(
        session_id=receipt.session_id or whole.session_id,
        version=receipt.version,
        shape=whole.shape,
        created_at_ms=receipt.created_at_ms,
        updated_at_ms=receipt.updated_at_ms,
        expires_at_ms=receipt.expires_at_ms,
        title=whole.first_title or None,
        fields=dict(whole.fields),
        elements=list(whole.elements),
        # An empty history says nothing of where the next one begins: dropping from it later is a rewrite, if need be.
        first_seq=receipt.first_seq or 1,
        count=len(whole.elements),
        history_version=receipt.version if is_history_new else 0,
        own_ttl_ms=whole.ttl_ms,
        usage=whole.usage or NO_USAGE,
        fallback=receipt.fallback,
        partial=receipt.partial,
    )
    return Baseline(origin=origin, snapshot=snapshot, seqs=_seqs(whole.elements, receipt))


def base_merged(base: Baseline, command: Merge, receipt: Receipt, token: str) -> Baseline:
    """*base* with the changes of *command*, which was done under *token*, and nothing of what others wrote meanwhile.

    Where others have changed the history, ``history_version`` stays behind. A later rewrite would undo their change: it
    conflicts.
    """
    if receipt.fallback:
        command = named_away(command, token=token)
    before, seqs = base.snapshot, base.seqs
    facts: dict[str, Any] = {}
    if isinstance(command.history, Extend):
        seqs, facts = _extended(base, command.history, receipt)
    elif isinstance(command.history, Rewrite):
        seqs, facts = _rewritten(before, command.history, receipt)
    snapshot = before.with_facts(
        stored_bytes=None,
        version=receipt.version,
        updated_at_ms=receipt.updated_at_ms,
        expires_at_ms=receipt.expires_at_ms,
        shape=command.shape or before.shape,
        fields=_changed(before.fields, command.fields) if command.fields else before.fields,
        own_ttl_ms=command.ttl_ms or before.own_ttl_ms,
        fallback=receipt.fallback,
        partial=receipt.partial,
        **facts,
    )
    return Baseline(origin=base.origin, snapshot=snapshot, seqs=seqs)


def _changed(fields: dict[str, bytes], changes: Sequence[FieldChange]) -> dict[str, bytes]:
    changed = dict(fields)
    for name, _, text in changes:
        if text is None:
            changed.pop(name, None)
        else:
            changed[name] = text
    return changed


def _extended(base: Baseline, change: Extend, receipt: Receipt) -> tuple[Sequence[int], dict[str, Any]]:
    """Make the numbers of the messages, and the facts of the snapshot that *change* has made others."""
    before = base.snapshot
    dropped = bisect_left(base.seqs, change.drop_below) if change.drop_below else 0
    seqs = _in_line(base.seqs[dropped:], _seqs(change.elements, receipt))
    first_seq = seqs[0] if dropped and seqs else max(before.first_seq, change.drop_below)
    nobody_else = receipt.history_version_before == before.history_version
    return seqs, {
        "elements": [*before.elements[dropped:], *change.elements],
        "first_seq": first_seq,
        "gaps": tuple(gap for gap in before.gaps if gap[0] > first_seq) if before.gaps else (),
        "count": before.count - dropped + len(change.elements),
        "history_version": receipt.version if nobody_else else before.history_version,
    }


def _rewritten(before: Snapshot, change: Rewrite, receipt: Receipt) -> tuple[Sequence[int], dict[str, Any]]:
    elements = change.elements or ()
    return _seqs(elements, receipt), {
        "elements": list(elements),
        "first_seq": receipt.first_seq or before.next_seq,
        "gaps": (),
        "count": len(elements),
        "history_version": receipt.version,
    }


def _in_line(seqs: Sequence[int], following: range) -> Sequence[int]:
    """Put numbers behind others. Without a gap it is a range."""
    if isinstance(seqs, range) and seqs and seqs.stop == following.start:
        return range(seqs.start, following.stop)
    return [*seqs, *following]


def _seqs(elements: Sequence[bytes], receipt: Receipt) -> range:
    first = receipt.first_seq or 1
    return range(first, first + len(elements))
