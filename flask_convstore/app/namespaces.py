"""Namespaces: conversations beside the sessions, with keys of their own, of named mappings and of ``save_message``."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Literal

from ..config import YEARS, Settings
from ..domain.validation import check_lifetime
from ..errors import InvalidInput
from ..operations.access import Backend

if TYPE_CHECKING:
    from .state import AppState


class Namespace:
    """Conversations beside the sessions, with keys of their own.

    Args:
        changed: Makes the settings in which it differs from the sessions.
    """

    def __init__(self, name: str, changed: Callable[[Settings], dict[str, Any]]) -> None:
        self._name = name
        self._changed = changed

    def backend_in(self, state: AppState) -> Backend:
        """Find or make the settings and the store in an application."""
        known = state.backends.get(self._name)
        if known:
            return known
        changed = {"conversation_prefix": "", "max_sessions": 0, **self._changed(state.settings)}
        return state.backend_of(self._name, **changed)


class Namespaces:
    """The namespaces of one store that were asked for. The same name is the same namespace."""

    def __init__(self) -> None:
        self._known: dict[str, Namespace] = {}
        self._options: dict[str, dict[str, Any]] = {}

    def known(self) -> Collection[Namespace]:
        """List the namespaces that were asked for."""
        return list(self._known.values())

    def of_mapping(
        self,
        name: str,
        *,
        ttl: float | None,
        history_key: str | None,
        conflict: Literal["merge", "raise"] | None,
    ) -> Namespace:
        """Find or make the namespace of a mapping, with options that must not change."""
        if not isinstance(name, str) or not 1 <= len(name) <= 100 or not name.isprintable() or set(name) & set("{}:"):
            raise InvalidInput(
                f"a name is 1 to 100 characters, no braces, no colons, no control characters, not {name!r}", "name"
            )
        if ttl is not None:
            check_lifetime(ttl, YEARS)
        if conflict not in (None, "merge", "raise"):
            raise InvalidInput(f"it is 'merge' or 'raise', not {conflict!r}", "conflict")
        given = {"ttl": ttl, "history_key": history_key, "conflict": conflict}
        known = self._options.setdefault(name, given)
        for option, value in given.items():
            if value not in (None, known[option]):
                raise InvalidInput(
                    f"the mapping {name!r} has another {option}, {known[option]!r}: choose another name", option
                )
        options = {"ttl": ttl, "ttl_complete": ttl, "history_key": history_key, "conflict": conflict}
        changed = {setting: value for setting, value in options.items() if value is not None}
        return self._named(f"map:{name}", lambda settings: {"prefix": f"{settings.prefix}map:{name}:", **changed})

    def of_chats(self) -> Namespace:
        """Find or make the namespace of the chats."""
        return self._named("conversations", _of_chats)

    def _named(self, name: str, changed: Callable[[Settings], dict[str, Any]]) -> Namespace:
        return self._known.setdefault(name, Namespace(name, changed))


def _of_chats(settings: Settings) -> dict[str, Any]:
    """Make the settings in which chats differ from sessions."""
    return {
        "prefix": settings.conversation_prefix or f"{settings.prefix}conversation:",
        "ttl": settings.conversation_ttl,
        "ttl_complete": settings.conversation_ttl,
    }
