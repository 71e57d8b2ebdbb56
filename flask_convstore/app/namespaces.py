"""Conversations beside the sessions, with keys of their own: those of named mappings, and the chats of ``save_message``."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Literal

from ..config import YEARS, Settings
from ..domain.results import Owner
from ..domain.validation import check_lifetime
from ..errors import InvalidInput
from ..operations.sessions import Backend, Conversations
from .state import AppState


class Namespace(Conversations):
    """Conversations beside the sessions, with keys of their own.

    Args:
        sessions: Whose caller it has.
        state: Gives the state of the current application.
        changed: The settings that it has otherwise.
    """

    def __init__(
        self,
        sessions: Conversations,
        namespace: str,
        state: Callable[[], AppState],
        changed: Callable[[Settings], dict[str, Any]],
    ) -> None:
        self._sessions = sessions
        self._namespace = namespace
        self._state = state
        self._changed = changed

    @property
    def backend(self) -> Backend:
        return self.backend_in(self._state())

    def backend_in(self, state: AppState) -> Backend:
        """The settings and the store in an application."""
        known = state.backends.get(self._namespace)
        if known:
            return known
        changed = {"conversation_prefix": "", "max_sessions": 0, **self._changed(state.settings)}
        return state.backend_of(self._namespace, **changed)

    def caller(self) -> Owner:
        return self._sessions.caller()


class Namespaces:
    """What lies beside the sessions of one store, as far as it was asked for; the same name is the same namespace.

    Args:
        sessions: Whose caller they have.
        state: Gives the state of the current application.
    """

    def __init__(self, sessions: Conversations, state: Callable[[], AppState]) -> None:
        self._sessions = sessions
        self._state = state
        self._known: dict[str, Namespace] = {}
        self._options: dict[str, dict[str, Any]] = {}

    def known(self) -> Collection[Namespace]:
        """All that were asked for."""
        return list(self._known.values())

    def of_mapping(
        self,
        name: str,
        *,
        ttl: float | None,
        history_key: str | None,
        conflict: Literal["merge", "raise"] | None,
    ) -> Namespace:
        """See ``ConversationStore.mapping``."""
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
        """See ``ConversationStore.save_message``."""
        return self._named("conversations", _of_chats)

    def _named(self, name: str, changed: Callable[[Settings], dict[str, Any]]) -> Namespace:
        return self._known.setdefault(name, Namespace(self._sessions, name, self._state, changed))


def _of_chats(settings: Settings) -> dict[str, Any]:
    """The settings that chats have otherwise."""
    return {
        "prefix": settings.conversation_prefix or f"{settings.prefix}conversation:",
        "ttl": settings.conversation_ttl,
        "ttl_complete": settings.conversation_ttl,
    }
