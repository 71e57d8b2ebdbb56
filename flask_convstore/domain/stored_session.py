"""A session as a store holds it, to which the rules are applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

from . import numbering
from .record import SessionRecord
from .results import Receipt, Snapshot, StoredEvent, StoredPart, Summary
from .types import ANY, COMPLETE, Limits, Owner

_FACTS = [fact.name for fact in fields(SessionRecord)]


@dataclass(slots=True)
class TurnLease:
    """The turn in progress.

    Attributes:
        attempt: The try of a turn that holds the lease.
        until_ms: The end of the lease.
        seq: The seq of the turn's message (0: it has none). The next seq is kept for the reply.
    """

    attempt: str
    until_ms: int
    seq: int


@dataclass(slots=True)
class ReplyStream:
    """The stream of a reply: its parts, and the time of its end (None: that of the session)."""

    epoch: int
    parts: list[StoredPart] = field(default_factory=list)
    ends_ms: int | None = None


@dataclass(slots=True, kw_only=True)
class StoredSession(SessionRecord):
    """A session that rules may change.

    Attributes:
        active_at_ms: The last interaction.
        turn: The turn in progress, or one whose lease has ended and that nobody has taken since.
        rewritten: The version at which all messages got other seqs (0: they never did).
        line: The attempts that stand in line for the turn, each with the end of its ticket. Copies share it.
        streams: The streams of the last replies, by their ids.
        reply: The id of the reply that is streamed in the turn in progress ("": none is).
        watched_ms, list_watched_ms: Until then its writes keep a log, and tell those who follow its owner's list.
        log: Its last writes, while it is watched. Copies share it.
    """

    active_at_ms: int = 0
    rewritten: int = 0
    turn: TurnLease | None = None
    line: dict[str, int] = field(default_factory=dict)
    streams: dict[str, ReplyStream] = field(default_factory=dict)
    reply: str = ""
    watched_ms: int = 0
    list_watched_ms: int = 0
    log: list[StoredEvent] = field(default_factory=list)

    @property
    def next_seq(self) -> int:
        """The seq of the next message."""
        return numbering.next_seq(self.first_seq, len(self.elements), self.gaps)

    def index_of(self, seq: int) -> int | None:
        """Find the place of the message *seq* among the elements. None: there is no such message."""
        return numbering.index_of(seq, self.first_seq, len(self.elements), self.gaps)

    @property
    def seqs(self) -> Sequence[int]:
        """The numbers of all messages."""
        return numbering.seqs_of(self.first_seq, len(self.elements), self.gaps)

    @property
    def data_bytes(self) -> int:
        """Bytes of the names and texts of all data fields."""
        return sum(len(name.encode()) + len(text) for name, text in self.fields.items())

    @property
    def size_bytes(self) -> int:
        """Bytes of data and messages."""
        return self.data_bytes + sum(map(len, self.elements))

    def copy(self) -> StoredSession:
        """Copy it, so that the copy can be changed."""
        return replace(self, elements=list(self.elements), fields=dict(self.fields), streams=dict(self.streams))

    def is_over(self, limits: Limits, now: int) -> bool:
        """Tell whether it has expired, or is past its greatest age."""
        return self.expires_at_ms <= now or self.created_at_ms + limits.max_age_ms <= now

    def is_visible_to(self, owner: Owner) -> bool:
        """Tell whether it is there for *owner*, who may share it."""
        return owner in (ANY, self.owner) or owner in self.shared

    def move_lifetime(self, limits: Limits, now: int) -> None:
        """Let it live from *now*: its own lifetime, else that of the settings, but never past its greatest age."""
        is_complete = self.fields.get(COMPLETE) == b"true"
        lifetime_ms = self.own_ttl_ms or (limits.ttl_complete_ms if is_complete else limits.ttl_ms)
        self.active_at_ms = now
        self.expires_at_ms = min(now + lifetime_ms, self.created_at_ms + limits.max_age_ms)

    def receipt(self, first_seq: int | None, history_version_before: int | None, level: str, now: int) -> Receipt:
        """Make the receipt of a write that was done *now*, or of a touch."""
        return Receipt(
            version=self.version,
            first_seq=first_seq,
            repeated=False,
            level=level,
            created_at_ms=self.created_at_ms,
            updated_at_ms=self.updated_at_ms,
            expires_at_ms=self.expires_at_ms,
            lifetime_ms=self.expires_at_ms - max(now, self.created_at_ms),
            history_version_before=history_version_before,
        )

    def snapshot(self, last: int | None, key: str) -> Snapshot:
        """Make a snapshot with its *last* messages (None: all). *key* names its place, for error texts."""
        count = len(self.elements)
        start = 0 if last is None else count - min(count, last)
        facts = {name: getattr(self, name) for name in _FACTS}
        facts |= {"fields": dict(self.fields), "elements": self.elements[start:], "shared": dict(self.shared)}
        return Snapshot(count=count, key=key, history_key=f"{key}:history", **facts)

    def summary(self) -> Summary:
        """Make a summary."""
        return Summary(
            session_id=self.session_id,
            owner=self.owner,
            version=self.version,
            created_at_ms=self.created_at_ms,
            updated_at_ms=self.updated_at_ms,
            expires_at_ms=self.expires_at_ms,
            active_at_ms=self.active_at_ms,
            message_count=len(self.elements),
            title=self.title,
            usage=self.usage,
            began_at_ms=self.began_at_ms,
        )
