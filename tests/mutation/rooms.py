"""The rooms that are mutated, and for each the fast tests that look after it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

IN_MEMORY = "not [valkey and not [redis and not [fakeredis"
ON_VALKEY = "not [memory and not [redis and not [fakeredis"


@dataclass(frozen=True)
class Room:
    """The place of a room, and the tests that run on each of its mutants.

    Attributes:
        tests: Words that make names of files: ``turns`` is tests/operations/test_turns.py.
        only: A selection of them, as for pytest's -k.
    """

    name: str
    tests: str
    only: str = IN_MEMORY

    @property
    def path(self) -> str:
        return f"flask_convstore/{self.name.replace('.', '/')}.py"

    @property
    def files(self) -> list[str]:
        return ["tests/{}/test_{}.py".format(*word.rpartition("/")[::2]) for word in self.tests.split()]


# Of no use are files whose tests have names that pytest takes for something else, as "d[key] = value".
_STORE = (
    "stores/store operations/turns operations/messages operations/branching operations/sharing "
    "operations/quota operations/aliases stores/redis/owner_index http/idempotency"
)
_TURNS = (
    "operations/turns operations/branching operations/chats operations/sharing http/idempotency "
    "stores/redis/failures operations/messages operations/quota http/blueprint operations/aliases"
)

LUA = Room("lua", f"stores/redis/store {_STORE}", ON_VALKEY)

ROOMS = {
    room.name: room
    for room in (
        Room("sessions.session", "operations/sessions mapping/mapping operations/messages mapping/mapping_races"),
        Room(
            "sessions.content",
            "sessions/content sessions/diff operations/sessions mapping/mapping operations/turns operations/messages",
        ),
        Room("sessions.baseline", "sessions/baseline operations/sessions mapping/mapping mapping/mapping_races"),
        Room(
            "sessions.diff", "sessions/diff sessions/baseline operations/sessions mapping/mapping mapping/mapping_races"
        ),
        Room("sessions.merge", "sessions/merge mapping/mapping mapping/mapping_races operations/sessions"),
        Room("operations.context_window", "operations/context_window operations/turns http/blueprint"),
        Room("operations.turns", _TURNS),
        Room("operations.replies", _TURNS),
        Room("operations.leases", "operations/leases operations/turns"),
        Room("operations.messages", "operations/messages operations/sharing operations/branching"),
        Room("operations.updates", "operations/messages operations/sharing operations/branching"),
        Room(
            "operations.branching",
            "operations/branching operations/sharing operations/messages operations/owners operations/quota",
        ),
        Room("domain.rules", f"stores/memory {_STORE}"),
        Room("stores.memory", f"stores/memory {_STORE} operations/owners"),
        Room("stores.redis.store", f"stores/redis/store {_STORE} operations/owners stores/redis/trips", ON_VALKEY),
        Room(
            "stores.redis.arguments",
            f"stores/redis/store {_STORE} operations/owners stores/redis/durability",
            ON_VALKEY,
        ),
        Room("stores.redis.replies", f"stores/redis/store {_STORE} operations/owners", ON_VALKEY),
        Room("outages.fallback", "outages/fallback outages/outage", ON_VALKEY),
        Room("outages.journal", "outages/fallback outages/outage", ON_VALKEY),
        Room("outages.sqlite_file", "outages/fallback outages/outage", ON_VALKEY),
        LUA,
    )
}

_T = TypeVar("_T")


def sampled(there: Sequence[_T], sample: int, seed: int) -> list[_T]:
    """The first *sample* of a shuffled order, or all if it is 0. A larger sample has the smaller one in it."""
    shuffled = random.Random(seed).sample(there, len(there))
    return shuffled[: sample or None]
