"""The record of a session: all that is known of it. Whatever holds a session declares only what it knows besides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .messages import NO_USAGE, Usage
from .numbering import Gaps
from .shapes import Shape
from .types import Alias, Role


@dataclass(slots=True, kw_only=True)
class SessionRecord:
    """A session. Times are milliseconds since 1970, by the clock of its store.

    Attributes:
        owner: The owner's name (None: nobody).
        version: Number of writes (0: it was not written yet).
        fields: The JSON texts of the data fields.
        elements: The messages, oldest first.
        first_seq: The seq of the oldest message in the store. Where there is none, the seq of the next.
        gaps: The seqs between the oldest message and the next one that no message has.
        history_version: The version at the last change of the messages.
        replaced: The version at which the content took the place of another conversation (0: it never did).
        history_replaced: The version at which the messages did.
        own_ttl_ms: The lifetime of its own (None: it has that of the settings).
        moved_to: The session in which the conversation goes on (None: it goes on here).
        aliases: The aliases that were told to lead here, sorted. One may have been led elsewhere since.
        usage: The cost of its messages in all, also of those that are gone.
        shared: The roles of other owners.
        began_at_ms: The time of creation that it shows, where that is another one: it was imported (None: the same).
    """

    session_id: str
    owner: str | None = None
    shape: Shape = "full"
    version: int = 0
    created_at_ms: int
    updated_at_ms: int = 0
    expires_at_ms: int = 0
    title: str | None = None
    fields: dict[str, bytes] = field(default_factory=dict)
    elements: list[bytes] = field(default_factory=list)
    first_seq: int = 1
    gaps: Gaps = ()
    history_version: int = 0
    replaced: int = 0
    history_replaced: int = 0
    own_ttl_ms: int | None = None
    moved_to: str | None = None
    aliases: tuple[Alias, ...] = ()
    usage: Usage = NO_USAGE
    shared: Mapping[str, Role] = field(default_factory=dict)
    began_at_ms: int | None = None

    @property
    def shown_created_at_ms(self) -> int:
        """The time of creation as people see it. ``created_at_ms`` tells one session of an id from another."""
        return self.created_at_ms if self.began_at_ms is None else self.began_at_ms
