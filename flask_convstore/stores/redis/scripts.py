"""The Lua scripts: a file for each atomic operation, with the files that it includes, and the limits as constants.

A line ``--#include _name.lua`` stands for the text of that file. Shared functions would cost each call, shared text costs
nothing. In the same way the limits of a store stand in the text, as each argument of a call takes its time.

| constant            | holds                                                               |
| ------------------- | ------------------------------------------------------------------- |
| `TTL`               | milliseconds that a session lives from now                          |
| `TTL_COMPLETE`      | the same once its field "complete" is true                          |
| `MAX_AGE`           | milliseconds that a session lives from its creation at most         |
| `TOMBSTONE`         | milliseconds that the tokens outlive the session                    |
| `MAX_TOKENS`        | tokens that are kept                                                |
| `RECEIPT_MS`        | milliseconds for which any token is kept                            |
| `MAX_HISTORY`       | messages that a session may have                                    |
| `TRIM`              | over `MAX_HISTORY` the oldest go (true), or the write is refused    |
| `MAX_DATA_BYTES`    | names and values of all data fields                                 |
| `MAX_SESSION_BYTES` | data and messages                                                   |
| `HISTORY_KEY`       | key of the history of a session that tells no other                 |
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import NamedTuple

from ...domain.types import Limits

_INCLUDE = re.compile(r"^[ \t]*--#include (\S+)$", re.MULTILINE)
_SPECIAL = re.compile(r'["\\\x00-\x1f]')
_CONSTANT = re.compile(r"\b[A-Z]+(?:_[A-Z]+)*\b")


class Script(NamedTuple):
    """A script: its text, and the digest by which a server knows it."""

    text: str
    digest: str


class Scripts(dict[str, Script]):
    """The scripts by name, each made when it is first used.

    Args:
        limits: None for those who run only scripts without a constant.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__()
        self._constants = dict(_constants(limits)) if limits else {}

    def __missing__(self, name: str) -> Script:
        body = text_of(name)
        used = _constants_in(name)
        lines = [f"local {constant} = {text}\n" for constant, text in self._constants.items() if constant in used]
        text = "".join((*lines, body))
        script = Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
        return self.setdefault(name, script)


@cache
def _constants_in(name: str) -> frozenset[str]:
    """Find the names in capital letters in a script."""
    return frozenset(_CONSTANT.findall(text_of(name)))


def _constants(limits: Limits) -> Iterator[tuple[str, str]]:
    """Give each constant as Lua text."""
    yield "TTL", f"{limits.ttl_ms}"
    yield "TTL_COMPLETE", f"{limits.ttl_complete_ms}"
    yield "MAX_AGE", f"{limits.max_age_ms}"
    yield "TOMBSTONE", f"{limits.tombstone_ms}"
    yield "MAX_TOKENS", f"{limits.max_tokens}"
    yield "RECEIPT_MS", f"{limits.receipt_ms}"
    yield "MAX_HISTORY", f"{limits.max_history}"
    yield "TRIM", "true" if limits.trim else "false"
    yield "MAX_DATA_BYTES", f"{limits.max_data_bytes}"
    yield "MAX_SESSION_BYTES", f"{limits.max_session_bytes}"
    yield "HISTORY_KEY", _as_lua(limits.history_key)


def _as_lua(text: str) -> str:
    """Write a text as Lua does."""
    return '"{}"'.format(_SPECIAL.sub(lambda found: f"\\{ord(found[0]):03d}", text))


@cache
def text_of(name: str) -> str:
    """Read the text of a script, with all includes and without constants."""
    return _read(f"{name}.lua")


def _read(file: str) -> str:
    text = resources.files(__package__).joinpath("lua", file).read_text("utf-8")
    return _INCLUDE.sub(lambda include: _read(include[1]), text)
