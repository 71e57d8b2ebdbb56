"""Ids of new sessions.

An id is a UUID of version 4. An id that is made while the store is away tells so, and when, since its session may be in the
journal of one host only. It is a UUID of version 8 (RFC 9562): 48 bits are milliseconds since 1970, 74 are random. Where the
hosts share a key, 32 of these are a signature instead. So nobody else can make an id for which a host must say that its
session may be elsewhere.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Sequence

from .clock import now_ms

STARTS_WITHIN_MS = 60_000
"""Age up to which an id that was made while the store was away may be that of a session that just begins."""


def new_id() -> str:
    """Make the id of a session in the store."""
    return str(uuid.uuid4())


def id_named(key: str) -> str:
    """Make the one id for *key*, 32 hexadecimal digits."""
    return str(uuid.UUID(hex=key, version=4))


def id_made_away(keys: Sequence[bytes] = ()) -> str:
    """Make the id of a session that is started while the store is away, signed by the first of the *keys*."""
    number = now_ms() << 80 | secrets.randbits(80)
    number = number & ~(0xF << 76) | 8 << 76
    number = number & ~(0b11 << 62) | 0b10 << 62
    return str(uuid.UUID(int=number & ~_SIGNED | _signature(number, keys[0]) if keys else number))


def made_away_at_ms(session_id: str, keys: Sequence[bytes] = ()) -> int | None:
    """The time when an id was made while the store was away. None for any other id, and one that no key has signed."""
    if len(session_id) != 36 or session_id[14] != "8":
        return None
    try:
        number = uuid.UUID(session_id)
    except ValueError:
        return None
    if number.version != 8 or str(number) != session_id:
        return None
    is_ours = not keys or any(number.int & _SIGNED == _signature(number.int, key) for key in keys)
    return number.int >> 80 if is_ours else None


_SIGNED = 0xFFFF_FFFF
"""The bits of an id that are its signature."""


def _signature(number: int, key: bytes) -> int:
    text = (number >> 32).to_bytes(12, "big")
    digest = hashlib.blake2b(text, digest_size=4, key=hashlib.blake2b(key).digest(), person=b"convstore-away")
    return int.from_bytes(digest.digest(), "big")
