"""The aliases in a journal: where they were led while the store was away."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from ..domain.commands import LinkAlias
from ..domain.types import Alias, Scope
from .continuation import all_keys
from .journal import Journal

_ANYTHING = "\n"
"""An alias led somewhere, wherever. No session has such an id."""


class JournalledAlias(NamedTuple):
    """An alias that was led here.

    Attributes:
        session_id: The session to which it leads (None: to nothing).
        expected: The one to which it led before, as in ``LinkAlias``.
    """

    alias: Alias
    session_id: str | None
    expected: str | Literal[Scope.ANY] | None
    lifetime_ms: int

    def command(self, session_id: str | None) -> LinkAlias:
        """Make the command that leads the alias in the store."""
        return LinkAlias(alias=self.alias, session_id=session_id, expected=self.expected, lifetime_ms=self.lifetime_ms)


class AliasJournal:
    """The aliases of one namespace in a journal. It raises as the journal."""

    def __init__(self, journal: Journal, namespace: str) -> None:
        self._journal = journal
        self._namespace = namespace

    def find(self, alias: Alias) -> JournalledAlias | None:
        """Find an alias. None: it was not led here."""
        found = self._found("owner = ? AND name = ?", alias.owner or "", alias.name)
        return found[0] if found else None

    def leading_to(self, session_id: str) -> list[JournalledAlias]:
        """List the aliases that lead to a session."""
        return self._found("session_id = ?", session_id)

    def leading_nowhere(self) -> list[JournalledAlias]:
        """List the aliases that lead to nothing, or to a session that is not here any more."""
        return [led for led in self._found("1") if led.session_id is None or not self._is_here(led.session_id)]

    def link(self, command: LinkAlias) -> None:
        """Lead an alias, in a transaction of the journal's. What was expected of it at first is kept.

        Once it was led to nothing here, it leads nowhere in the store either, wherever it led there.
        """
        self._journal.mark()
        with self._journal.reading() as connection:
            expected = _ANYTHING if command.expected is Scope.ANY else command.expected
            query = (
                "INSERT INTO aliases VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (namespace, owner, name) DO UPDATE "
                "SET session_id = excluded.session_id, lifetime_ms = max(lifetime_ms, excluded.lifetime_ms), "
                "expected = CASE WHEN excluded.session_id IS NULL THEN ? ELSE expected END"
            )
            name = command.alias.owner or "", command.alias.name
            led = command.session_id, expected, command.lifetime_ms
            connection.execute(query, (self._namespace, *name, *led, _ANYTHING))

    def forget(self, led: JournalledAlias) -> None:
        """Forget an alias that was handed over, unless it was led elsewhere since."""
        with self._journal.writing() as connection:
            query = "DELETE FROM aliases WHERE namespace = ? AND owner = ? AND name = ? AND session_id IS ?"
            connection.execute(query, (self._namespace, led.alias.owner or "", led.alias.name, led.session_id))

    def _found(self, where: str, *values: Any) -> list[JournalledAlias]:
        query = f"SELECT owner, name, session_id, expected, lifetime_ms FROM aliases WHERE namespace = ? AND {where}"  # noqa: S608  ours
        with self._journal.reading() as connection:
            rows = connection.execute(query, (self._namespace, *values)).fetchall()
        return [
            JournalledAlias(Alias(owner or None, name), leads_to, Scope.ANY if was == _ANYTHING else was, life)
            for owner, name, leads_to, was, life in rows
        ]

    def _is_here(self, session_id: str) -> bool:
        return bool(self._journal.keys(self._namespace, session_id, all_keys(session_id)))
