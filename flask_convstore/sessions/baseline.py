"""What the store is known to hold of a session: read, created or merged, it is the ground that changes are measured from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..domain.commands import Extend, Merge, Put, Rewrite
from ..domain.messages import NO_USAGE, Usage
from ..domain.results import Alias, Receipt, Shape, Snapshot
from ..domain.values import as_value


@as_value
class Base:
    """What the store is known to hold: the ground that changes are measured from.

    Attributes:
        origin: The store it lies in.
        seqs: The numbers of *elements*; there are gaps where others wrote between.
        first_seq: The seq of the oldest message in the store, loaded or not.
        count: How many messages the store has, loaded or not.
        history_version: The version at the last change of the messages that is known whole.
        history_key: Where the messages lie, for error texts.
        own_ttl_ms: Its lifetime, if it has one of its own.
        moved_to: The session in which the conversation goes on.
        aliases: Those that were led here.
        usage: What its messages cost.
        fallback: What served it while the store was away; None: the store.
        pending: A ``Merge`` whose answer never came; it is repeated, with its token, before the next one.
    """

    origin: str

    session_id: str
    version: int
    created_at_ms: int
    updated_at_ms: int
    expires_at_ms: int
    title: str | None = None
    shape: Shape
    fields: Mapping[str, bytes]
    elements: Sequence[bytes]
    seqs: Sequence[int]
    first_seq: int
    count: int
    history_version: int
    history_key: str = ""
    own_ttl_ms: int | None = None
    moved_to: str | None = None
    aliases: tuple[Alias, ...] = ()
    usage: Usage = NO_USAGE
    fallback: str | None = None
    pending: Merge | None = None

    @property
    def is_partial(self) -> bool:
        """Whether only the last messages were loaded."""
        return self.count > len(self.elements)


def base_read(snapshot: Snapshot, origin: str) -> Base:
    """What was just read."""
    return Base(
        origin=origin,
        session_id=snapshot.session_id,
        version=snapshot.version,
        created_at_ms=snapshot.created_at_ms,
        updated_at_ms=snapshot.updated_at_ms,
        expires_at_ms=snapshot.expires_at_ms,
        title=snapshot.title,
        shape=snapshot.shape,
        fields=snapshot.fields,
        elements=snapshot.elements,
        seqs=range(snapshot.next_seq - len(snapshot.elements), snapshot.next_seq),
        first_seq=snapshot.next_seq - snapshot.count,
        count=snapshot.count,
        history_version=snapshot.history_version,
        history_key=snapshot.history_key,
        own_ttl_ms=snapshot.own_ttl_ms,
        moved_to=snapshot.moved_to,
        aliases=snapshot.aliases,
        usage=snapshot.usage,
        fallback=snapshot.fallback,
    )


def base_created(save: Put | Merge, receipt: Receipt, origin: str) -> Base:
    """What a *save* of the whole left in the store."""
    is_history_new = True
    if isinstance(save, Put):
        shape, fields, elements = save.shape, dict(save.fields), save.elements
    else:
        is_history_new = save.creates or save.history is not None
        shape, elements = save.shape or "full", (save.history and save.history.elements) or ()
        fields = {name: text for name, _, text in save.fields if text is not None}
    return Base(
        origin=origin,
        session_id=receipt.session_id or save.session_id,
        version=receipt.version,
        created_at_ms=receipt.created_at_ms,
        updated_at_ms=receipt.updated_at_ms,
        expires_at_ms=receipt.expires_at_ms,
        shape=shape,
        fields=fields,
        elements=elements,
        seqs=_numbers(elements, receipt),
        # An empty history says nothing of where the next one begins: dropping from it later is a rewrite, if need be.
        first_seq=receipt.first_seq or 1,
        count=len(elements),
        history_version=receipt.version if is_history_new else 0,
        own_ttl_ms=save.ttl_ms,
        title=save.first_title or None,
        usage=save.usage or NO_USAGE,
        fallback=receipt.fallback,
    )


def base_merged(base: Base, save: Merge, receipt: Receipt) -> Base:
    """*base* with what a merging *save* changed, and nothing of what others wrote meanwhile.

    Where others changed the history, ``history_version`` stays behind: a later rewrite, which would undo their change,
    conflicts.
    """
    fields = {**base.fields, **{name: text for name, _, text in save.fields if text is not None}}
    for name, _, text in save.fields:
        if text is None:
            fields.pop(name, None)
    base = replace(
        base,
        version=receipt.version,
        updated_at_ms=receipt.updated_at_ms,
        expires_at_ms=receipt.expires_at_ms,
        shape=save.shape or base.shape,
        fields=fields,
        own_ttl_ms=save.ttl_ms or base.own_ttl_ms,
        fallback=receipt.fallback,
        pending=None,
    )
    if isinstance(save.history, Extend):
        return _extended(base, save.history, receipt)
    if isinstance(save.history, Rewrite):
        elements = save.history.elements or ()
        return replace(
            base,
            elements=elements,
            seqs=_numbers(elements, receipt),
            first_seq=receipt.first_seq or base.first_seq + base.count,
            count=len(elements),
            history_version=receipt.version,
        )
    return base


def _extended(base: Base, change: Extend, receipt: Receipt) -> Base:
    dropped = sum(seq < change.drop_below for seq in base.seqs)
    nobody_else = receipt.history_version_before == base.history_version
    return replace(
        base,
        elements=[*base.elements[dropped:], *change.elements],
        seqs=[*base.seqs[dropped:], *_numbers(change.elements, receipt)],
        first_seq=max(base.first_seq, change.drop_below),
        count=base.count - dropped + len(change.elements),
        history_version=receipt.version if nobody_else else base.history_version,
    )


def _numbers(elements: Sequence[bytes], receipt: Receipt) -> Sequence[int]:
    first = receipt.first_seq or 1
    return range(first, first + len(elements))
