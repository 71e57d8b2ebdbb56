"""Ids of new sessions.

An id is a UUID of version 4. An id that is made while the store is away tells so, and when, since its session may be in the
journal of one host only. It is a UUID of version 8 (RFC 9562): 48 bits are milliseconds since 1970, 74 are random.
"""

from __future__ import annotations

import secrets
import uuid

from .clock import now_ms

STARTS_WITHIN_MS = 60_000
"""Age up to which an id that was made while the store was away may be that of a session that just begins."""


def new_id() -> str:
    """Make the id of a session in the store."""
    return str(uuid.uuid4())


def id_named(key: str) -> str:
    """Make the one id for *key*, 32 hexadecimal digits."""
    return str(uuid.UUID(hex=key, version=4))


def id_made_away() -> str:
    """Make the id of a session that is started while the store is away."""
    number = now_ms() << 80 | secrets.randbits(80)
    number = number & ~(0xF << 76) | 8 << 76
    return str(uuid.UUID(int=number & ~(0b11 << 62) | 0b10 << 62))


def made_away_at_ms(session_id: str) -> int | None:
    """The time when an id was made while the store was away. None for any other id."""
    if len(session_id) != 36 or session_id[14] != "8":
        return None
    try:
        number = uuid.UUID(session_id)
    except ValueError:
        return None
    return number.int >> 80 if number.version == 8 and str(number) == session_id else None
