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
    """Where a room is, and what is run on each of its mutants.

    Attributes:
        tests: Words that make names of files: ``turns`` is tests/test_turns.py.
        only: Which of them, as pytest's -k has it.
    """

    name: str
    tests: str
    only: str = IN_MEMORY

    @property
    def files(self) -> list[str]:
        return [f"tests/test_{name}.py" for name in self.tests.split()]


# Of no use are files whose tests have names that pytest takes for something else, as "d[key] = value".
_STORE = "store turns editing branches sharing quota aliases index idempotency"
_TURNS = "turns branches chats sharing idempotency failures editing quota blueprint aliases"

LUA = Room("lua", f"redis_store {_STORE}", ON_VALKEY)

ROOMS = {
    room.name: room
    for room in (
        Room("sessions", "sessions mapping editing mapping_races"),
        Room("contents", "contents changes sessions mapping turns editing"),
        Room("bases", "bases sessions mapping mapping_races"),
        Room("changes", "changes bases sessions mapping mapping_races"),
        Room("merging", "merging mapping mapping_races sessions"),
        Room("windows", "windows turns blueprint"),
        Room("turns", _TURNS),
        Room("exchanges", _TURNS),
        Room("leases", "leases turns"),
        Room("editing", "editing sharing branches"),
        Room("updating", "editing sharing branches"),
        Room("branches", "branches sharing editing owners quota"),
        Room("memory_session", f"memory_store {_STORE}"),
        Room("memory_store", f"memory_store {_STORE} owners"),
        Room("redis_store", f"redis_store {_STORE} owners trips", ON_VALKEY),
        Room("redis_arguments", f"redis_store {_STORE} owners durability", ON_VALKEY),
        Room("redis_replies", f"redis_store {_STORE} owners", ON_VALKEY),
        Room("fallback", "fallback outage", ON_VALKEY),
        Room("journal", "fallback outage", ON_VALKEY),
        Room("journal_file", "fallback outage", ON_VALKEY),
        LUA,
    )
}

_T = TypeVar("_T")


def sampled(there: Sequence[_T], sample: int, seed: int) -> list[_T]:
    """So many of what is there, 0: all; a larger sample has the smaller one in it."""
    shuffled = random.Random(seed).sample(there, len(there))
    return shuffled[: sample or None]
