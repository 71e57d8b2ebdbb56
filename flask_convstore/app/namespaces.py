"""Namespaces: conversations beside the sessions, with keys of their own. Named mappings and chats have one each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ..config import YEARS, Settings, history_keys
from ..domain.types import Lifetime
from ..domain.validation import check_lifetime
from ..errors import InvalidInput
from ..operations.access import Backend

if TYPE_CHECKING:
    from .state import AppState


_CHATS = "conversations"


class Namespace:
    """Conversations beside the sessions, with keys of their own.

    Args:
        name: Its name in the journal.
        changed: Makes the settings in which the namespace differs from the sessions.
    """

    def __init__(self, name: str, changed: Callable[[Settings], dict[str, Any]]) -> None:
        self.name = name
        self._changed = changed

    @property
    def place(self) -> str:
        """The name of the place, for people: ``chats`` or ``mapping:<name>``."""
        return "chats" if self.name == _CHATS else self.name.replace("map:", "mapping:", 1)

    def backend_in(self, state: AppState) -> Backend:
        """Find or make the namespace's settings and store in an application."""
        known = state.backends.get(self.name)
        if known:
            return known
        changed = {"conversation_prefix": "", "max_sessions": 0, **self._changed(state.settings)}
        return state.backend_of(self.name, **changed)


class Namespaces:
    """The namespaces of one store that are in use. The same name is the same namespace."""

    def __init__(self) -> None:
        self._known: dict[str, Namespace] = {}
        self._options: dict[str, dict[str, Any]] = {}

    def known(self) -> Collection[Namespace]:
        """List the namespaces that are in use."""
        return list(self._known.values())

    def of_mapping(
        self,
        name: str,
        *,
        ttl: Lifetime | None,
        history_key: str | Sequence[str] | None,
        conflict: Literal["merge", "raise"] | None,
        types: Literal["plain", "tagged"] | None,
    ) -> Namespace:
        """Find or make the namespace of a mapping, with options that must not change.

        Raises:
            InvalidInput: The name or an option is bad, or another mapping of this name has another option.
        """
        if not _is_name(name):
            reason = f"must be 1 to 100 characters without braces, colons and control characters, not {name!r}"
            raise InvalidInput(reason, "name")
        if ttl is not None:
            ttl = check_lifetime(ttl, YEARS)
        if conflict not in (None, "merge", "raise"):
            raise InvalidInput(f"must be 'merge' or 'raise', not {conflict!r}", "conflict")
        if types not in (None, "plain", "tagged"):
            raise InvalidInput(f"must be 'plain' or 'tagged', not {types!r}", "types")
        keys = None if history_key is None else history_keys(history_key)
        options = {"ttl": ttl, "history_key": keys, "conflict": conflict, "types": types}
        self._check_options(name, options)
        changed = {setting: value for setting, value in {**options, "ttl_complete": ttl}.items() if value is not None}
        return self._named(f"map:{name}", lambda settings: {"prefix": f"{settings.prefix}map:{name}:", **changed})

    def of_chats(self) -> Namespace:
        """Find or make the namespace of the chats."""
        return self._named(_CHATS, _of_chats)

    def _check_options(self, name: str, options: dict[str, Any]) -> None:
        """Refuse options that differ from those of the mapping's first use. None takes the known value."""
        known = self._options.setdefault(name, options)
        for option, value in options.items():
            if value not in (None, known[option]):
                reason = f"the mapping {name!r} has another {option}, {known[option]!r}: choose another name"
                raise InvalidInput(reason, option)

    def _named(self, name: str, changed: Callable[[Settings], dict[str, Any]]) -> Namespace:
        return self._known.setdefault(name, Namespace(name, changed))


def _is_name(name: object) -> bool:
    """Tell whether a key in Redis can contain *name*."""
    if not isinstance(name, str):
        return False
    is_short = 1 <= len(name) <= 100
    has_separator = bool(set(name) & set("{}:"))
    return is_short and name.isprintable() and not has_separator


def _of_chats(settings: Settings) -> dict[str, Any]:
    """Make the settings in which chats differ from sessions."""
    return {
        "prefix": settings.conversation_prefix or f"{settings.prefix}conversation:",
        "ttl": settings.conversation_ttl,
        "ttl_complete": settings.conversation_ttl,
    }
