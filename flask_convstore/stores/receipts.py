"""The receipts of one session's writes in memory, as the scripts keep them: some end with it, some outlive it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..domain.commands import Delete, Write
from ..domain.results import Receipt
from ..domain.rules import creates
from ..domain.types import ANY, Owner

Kept = tuple[Receipt, str]
"""A receipt, and the digest of its request."""

_MOST_LASTING = 4
"""Writes that may create a session, whose receipts outlive it beside that of its creation."""
_MOST_LEFT = 8
"""Other writes to a session that was deleted, whose receipts outlive it."""


@dataclass(slots=True)
class Receipts:
    """The receipts of a session's last writes.

    Attributes:
        has_begun: There was a session. Else a delete has found none.
        ended, expires: The end of the last session that was deleted, and of all this, in milliseconds since 1970.
        receipts_end: The end of *receipts* and *ids*: those of the session.
        lasting: Receipts that outlive it, of writes that may bring it back.
    """

    owner: str | None
    has_begun: bool = False
    ended: int = 0
    expires: int = 0
    receipts_end: int = 0
    receipts: dict[str, Kept] = field(default_factory=dict)
    lasting: dict[str, Kept] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    def find(self, token: str, *, is_lasting: bool = True) -> Kept | None:
        """Find a receipt, with *is_lasting* also among those that outlive their session."""
        return self.receipts.get(token) or (self.lasting.get(token) if is_lasting else None)

    def is_known_to(self, owner: Owner) -> bool:
        """Tell whether *owner* may hear of a session that is gone."""
        return owner in (ANY, self.owner)

    def live_until(self, end: int, now: int, tombstone_ms: int) -> None:
        """Move the end of the session. Receipts that have ended before are forgotten."""
        self.forget_ended(now)
        self.receipts_end, self.expires = end, end + tombstone_ms

    def forget_ended(self, now: int) -> None:
        """Forget the receipts that have ended with their session."""
        if self.receipts_end <= now:
            self.receipts, self.ids = {}, {}

    def remember(self, command: Write, receipt: Receipt, created: int, most: int, young_ms: int) -> None:
        """Keep the receipt of a write. Now and then those before the last *most* are dropped, as the scripts do.

        Receipts of writes after *young_ms* are kept in any case.
        """
        kept = receipt, command.digest
        if isinstance(command, Delete):
            self.lasting[command.token] = kept
            self._leave_behind(young_ms)
            return
        is_creation = receipt.version == 1 and creates(command)
        if creates(command):
            self.lasting[command.token] = kept
        if not is_creation:
            self.receipts[command.token] = kept
        if receipt.version > most and receipt.version % math.ceil(most / 4) == 0:
            self.receipts = _younger(self.receipts, receipt.version - most, young_ms)
            self.lasting = _younger(self.lasting, receipt.version - most, young_ms)
        if creates(command) and not is_creation:
            self._keep_last(created)

    def _leave_behind(self, young_ms: int) -> None:
        """Keep some of the receipts that end with a deleted session: the last ones that a repeat may still ask for."""
        left = [
            (kept.version, token)
            for token, (kept, digest) in self.receipts.items()
            if (digest and "\n" not in token) or kept.updated_at_ms > young_ms
        ]
        self.lasting |= {token: self.receipts[token] for _, token in sorted(left)[-_MOST_LEFT:]}
        self.receipts, self.ids = {}, {}

    def _keep_last(self, created: int) -> None:
        """Keep some of the receipts that outlive a session: of its creation, and the last few."""
        others = [
            (kept.updated_at_ms, kept.version, token)
            for token, (kept, _) in self.lasting.items()
            if kept.version and not (kept.version == 1 and kept.updated_at_ms >= created)
        ]
        for _, _, token in sorted(others)[:-_MOST_LASTING]:
            del self.lasting[token]


def _younger(receipts: dict[str, Kept], oldest: int, young_ms: int) -> dict[str, Kept]:
    return {
        token: kept for token, kept in receipts.items() if kept[0].version > oldest or kept[0].updated_at_ms > young_ms
    }
