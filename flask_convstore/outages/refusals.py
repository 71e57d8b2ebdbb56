"""Refusals: calls that a server refuses for good, and errors that nobody knows, which count as such when they repeat.

An unknown error may be an outage of a kind that is not in the table of failures, such as a proxy's. The journal helps then.
It may also be a wrong setting, which the journal would hide for ever. So the error is an outage at first. After ``TIMES``
calls without a success in between it is one no longer. The success of another kind of call proves nothing: a server may
answer reads, and refuse to write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import StoreMisconfigured, StoreUnavailable

TIMES = 3
"""Calls after which an unknown error is no outage. The first two may be the two halves of one event, such as a fail-over."""

Kind = tuple[str, type[Any] | None]
"""A method of a store, and the type of its first argument, as a command has it."""


def kind_of(method: Callable[..., Any], arguments: tuple[Any, ...]) -> Kind:
    """Name the kind of a call."""
    return method.__name__, type(arguments[0]) if arguments else None


class Refusals:
    """The kinds of calls that one server has refused to this process, until a success of one of them.

    Attributes:
        kinds: The kinds of calls.
        problem: The last refusal for good (None: there is none).
    """

    def __init__(self) -> None:
        self.kinds: set[Kind] = set()
        self._unexplained = 0
        self.problem: str | None = None

    def refused(self, kind: Kind, error: StoreMisconfigured) -> bool:
        """Note that the server refuses calls of that *kind* for good. Tell whether this is news."""
        self.kinds.add(kind)
        is_news = self.problem is None
        self.problem = str(error)
        return is_news

    def explained(self, kind: Kind, error: StoreUnavailable) -> StoreMisconfigured | None:
        """Note an error that nobody knows. Return what it has become if it has come too often for an outage."""
        self.kinds.add(kind)
        self._unexplained += 1
        if self._unexplained < TIMES:
            return None
        refused = StoreMisconfigured(
            f"{error.reason}. It has come again and again, so that it is taken for a wrong setting, and not for an outage: "
            "check the URL, and the version and the rights at the server (docs/servers.md)"
        )
        refused.written = error.written
        return refused

    def accepted(self, kind: Kind) -> bool:
        """Note that the server has done a call of that *kind*. Tell whether this ends a refusal for good."""
        if kind not in self.kinds:
            return False
        was_told = self.problem is not None
        self.kinds.clear()
        self._unexplained, self.problem = 0, None
        return was_told
