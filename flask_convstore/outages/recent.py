"""The sessions that a process has used last: their fields and newest messages, for when the store is away."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace
from typing import Any

from ..domain.commands import Append, BeginTurn, Command, CommitTurn, Extend, Harmless, Merge, Rewrite, Share, Update
from ..domain.forks import Forking, watch
from ..domain.results import Begun, Receipt, Snapshot
from ..domain.types import Owner

_MESSAGES = 50
"""Most messages that are remembered of a session."""

_BYTES = 2**18
"""Most bytes of messages, and of fields, that are remembered of a session."""


class Recent(Forking):
    """The last *most* sessions, each for the owners that have used it. 0: nothing is remembered.

    A session that was changed by anybody else since it was read here, as its version tells, is forgotten.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.RLock()  # collecting garbage may end another call in its midst
        self._memories: OrderedDict[str, dict[Owner, Snapshot]] = OrderedDict()
        watch(self)

    def in_child(self) -> None:
        self._lock = threading.RLock()

    def read(self, snapshot: Snapshot | None, owner: Owner) -> None:
        """Remember what was read."""
        if not self._most or snapshot is None or snapshot.read is not None or snapshot.fallback:
            return
        if sum(map(len, snapshot.fields.values())) > _BYTES:
            self.forget(snapshot.session_id, owner)
            return
        with self._lock:
            self._memories.setdefault(snapshot.session_id, {})[owner] = _bounded(snapshot)
            self._memories.move_to_end(snapshot.session_id)
            while len(self._memories) > self._most:
                self._memories.popitem(last=False)

    def find(self, session_id: str, owner: Owner) -> Snapshot | None:
        """Find a session as it was known last. None: it is not remembered."""
        with self._lock:
            return self._memories.get(session_id, {}).get(owner)

    def forget(self, session_id: str, owner: Owner) -> None:
        """Forget a session for one owner."""
        with self._lock:
            self._memories.get(session_id, {}).pop(owner, None)

    def forget_for_all(self, session_id: str) -> None:
        """Forget a session for everybody: some may not see it any more, or not what was in it."""
        with self._lock:
            self._memories.pop(session_id, None)

    def forget_owner(self, owner: str) -> None:
        """Forget all sessions of *owner*, and all that *owner* has seen."""
        with self._lock:
            for session_id, seen in list(self._memories.items()):
                if owner in seen or any(snapshot.owner == owner for snapshot in seen.values()):
                    del self._memories[session_id]

    def began(self, command: BeginTurn, begun: Begun) -> None:
        """Remember a session whose turn has begun."""
        self.read(begun.snapshot, command.owner)

    def wrote(self, command: Command, receipt: Receipt) -> None:
        """Take over what was written, or forget the session."""
        if not self._memories:
            return
        with self._lock:
            seen = self._memories.get(command.session_id, {})
            before = seen.get(command.owner)
            if _takes_away(command) and (before or not receipt.fallback):  # away, anybody may seem to have done it
                self.forget_for_all(command.session_id)
            elif before and not (receipt.fallback or receipt.repeated or isinstance(command, Harmless)):
                after = _with(before, command, receipt)
                if after:
                    seen[command.owner] = after
                else:
                    del seen[command.owner]


def _takes_away(command: Command) -> bool:
    """Tell whether there may be less of the session afterwards, for anybody."""
    return isinstance(command, Share) or not (isinstance(command, Harmless) or _added_by(command) is not None)


def _with(before: Snapshot, command: Any, receipt: Receipt) -> Snapshot | None:
    """Add to *before* what *command* has written. None where that is more than an addition, or others have written too."""
    added = _added_by(command)
    if added is None or receipt.version != before.version + 1:
        return None
    first_seq = receipt.first_seq or 0
    first_seq = first_seq - len(added) + 1 if isinstance(command, CommitTurn) else first_seq
    follows = not added or first_seq == before.next_seq or not before.elements
    elements = [*before.elements, *added] if follows else [*added]
    count = before.count + len(added)
    after = replace(
        before,
        version=receipt.version,
        history_version=receipt.version if added else before.history_version,
        updated_at_ms=receipt.updated_at_ms,
        expires_at_ms=receipt.expires_at_ms,
        fields=_changed(before.fields, command.fields),
        elements=elements,
        first_seq=first_seq + len(added) - count if added else before.first_seq,
        count=count,
    )
    return _bounded(after)


def _added_by(command: Any) -> tuple[bytes, ...] | None:
    """List the messages that *command* adds. None where it does more."""
    if isinstance(command, Merge):
        return _added_by_change(command.history)
    if isinstance(command, Update):
        return ()
    is_addition = isinstance(command, CommitTurn) or (isinstance(command, Append) and not command.replaces)
    return command.elements if is_addition else None


def _added_by_change(change: Extend | Rewrite | None) -> tuple[bytes, ...] | None:
    if change is None:
        return ()
    return change.elements if isinstance(change, Extend) and not change.drop_below else None


def _changed(fields: dict[str, bytes], changes: Any) -> dict[str, bytes]:
    changed = {change[0]: change[-1] for change in changes}
    return {name: text for name, text in {**fields, **changed}.items() if text is not None}


def _bounded(snapshot: Snapshot) -> Snapshot:
    """Keep the newest messages, as far as their seqs follow each other and they are small enough."""
    seqs, kept, size = snapshot.seqs, 0, 0
    for place in range(len(seqs) - 1, -1, -1):
        size += len(snapshot.elements[place])
        follows = kept == 0 or seqs[place] + 1 == seqs[place + 1]
        if kept == _MESSAGES or size > _BYTES or not follows:
            break
        kept += 1
    first_seq = seqs[-1] + 1 - snapshot.count if kept else snapshot.next_seq - snapshot.count
    elements = snapshot.elements[len(seqs) - kept :]
    return replace(snapshot, elements=elements, first_seq=first_seq, gaps=(), head=[])
