"""The small types that the other words are made of: owners, roles, aliases, limits.

Nothing here knows Redis, Flask or HTTP.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Literal, NamedTuple, TypeVar, dataclass_transform, get_args

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def as_value(kind: type[_T]) -> type[_T]:
    """Make *kind* a dataclass with slots and keywords that nobody changes, as mypy sees it.

    For what every call makes. A dataclass that Python itself freezes takes three times as long to make.
    """
    return dataclass(slots=True, kw_only=True)(kind)


class Scope(enum.Enum):
    """Owners that are no name."""

    ANY = "any"
    CALLER = "caller"


ANY: Final = Scope.ANY
"""``owner=ANY``: server access, whoever the owner is."""
CALLER: Final = Scope.CALLER
"""The default: the caller in a request, ``ANY`` outside of one."""

Owner = str | None | Literal[Scope.ANY]
"""An owner's name, None for nobody (ownerless sessions only), or ``ANY``."""

Order = Literal["updated", "active"]
"""Order of a list: by the last change, or by the last interaction to within a minute."""
ORDERS: tuple[Order, ...] = get_args(Order)
"""All of them."""

Lifetime = float | timedelta
"""A lifetime: seconds, or a ``timedelta``."""

Role = Literal["reader", "writer"]
"""Rights of another owner in a session. A writer may do all but delete it, share it, compact it, and give it a lifetime or
an alias."""


class Alias(NamedTuple):
    """An outside name of a conversation, in the scope of an owner (None: nobody's)."""

    owner: str | None
    name: str

    def sort_key(self) -> tuple[str, str]:
        """Sort nobody's first, then by owner and name."""
        return self.owner or "", self.name


COMPLETE = "complete"
"""Name of the data field that gives a session the lifetime of a complete one, once the field is true."""

TOMBSTONE_MS = 24 * 3600 * 1000
"""Time for which it is known that a session was deleted or has expired. So long no write brings it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Lifetimes and sizes that a store keeps to.

    A session lives *ttl_ms* from its last interaction, *ttl_complete_ms* once its field ``complete`` is true, unless it was
    saved with a lifetime of its own. It never lives longer than *max_age_ms* from its creation. Its tombstone lives
    *tombstone_ms* longer. While it lives, a write is known by its token if it is one of the last *max_tokens*, and for
    *receipt_ms* however many come behind it. Over *max_history* messages the oldest go if *trim*, else the write is refused.
    Over *max_sessions* (0: any number) of one owner the oldest goes if *evict*, else the start is refused. The history of a
    session that does not remember its key has *history_key*.
    """

    ttl_ms: int
    ttl_complete_ms: int
    max_age_ms: int
    tombstone_ms: int
    max_tokens: int
    max_history: int
    trim: bool
    max_data_bytes: int
    max_session_bytes: int
    receipt_ms: int = 0
    max_sessions: int = 0
    evict: bool = True
    history_key: str = "history"
