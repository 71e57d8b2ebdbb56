"""Warnings of types that JSON changes: told when such a value is written, since the next request finds another type."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..domain import json_text
from ..domain.messages import Message
from ..domain.value_types import TAGGED_TYPES, changed_parts
from ..errors import printable

_log = logging.getLogger("flask_convstore")

_MOST = 20
"""Most warnings of one store in a process."""


_OBJECTS = "objects of a class"
"""Stands for the name of a field where objects of the app's class are told."""


class TypeChanges:
    """Tells once of each type and top-level name whose values do not come back as they went in. Never tells a value.

    Once something was told of a name, only its 1st, 2nd, 4th, 8th … later write is looked at. So telling costs nothing where
    it no longer helps.

    Args:
        store: The store or mapping, for the log.
        is_tagged: Types with a tag come back.
    """

    def __init__(self, store: str, *, is_tagged: bool) -> None:
        self._store = store
        self._is_tagged = is_tagged
        self._are_messages_known = False
        self._told: set[tuple[type, str]] = set()
        self._writes: dict[str, int] = {}

    def beside_messages(self) -> TypeChanges:
        """Make the same that looks at no messages, since their class is known."""
        beside = copy.copy(self)
        beside._are_messages_known = True
        return beside

    def look_at_messages(self, messages: Iterable[Any], key: str, first_index: int = 0) -> None:
        """Look at messages that are written under *key*."""
        if self._are_messages_known:
            return
        for index, message in enumerate(messages, first_index):
            body = message.body if isinstance(message, Message) else message
            self.look_at(body, key, f"{key}[{index}]")

    def look_at(self, value: Any, name: str, path: str = "") -> None:
        """Look at a value that is written under the top-level *name*. *path* is its place there."""
        if json_text.comes_back(value, is_tagged=self._is_tagged) or len(self._told) >= _MOST or not self._is_due(name):
            return
        for kind, place in changed_parts(value, path or name, self._is_kept).items():
            if (kind, name) not in self._told and len(self._told) < _MOST:
                self._told.add((kind, name))
                self._tell(kind, place)

    def look_at_objects(self, find: Callable[[], Mapping[type, tuple[str, type]]]) -> None:
        """Look at an object that the app's class makes.

        Args:
            find: Maps each type that it loses to the path of the first part of it, and the type that this comes back as.
        """
        if len(self._told) >= _MOST or not self._is_due(_OBJECTS):
            return
        for kind, (path, returned) in find().items():
            if (kind, _OBJECTS) not in self._told and len(self._told) < _MOST:
                self._told.add((kind, _OBJECTS))
                self._tell_returned(kind, path, returned)

    def _tell_returned(self, kind: type, path: str, returned: type) -> None:
        tagged = ", or set CONVSTORE_TYPES=tagged" if path and kind in TAGGED_TYPES and not self._is_tagged else ""
        cure = f"Annotate it with its type in its class{tagged}" if path else f"Name both: load={returned.__name__} | …"
        _log.warning(
            "%s: %s holds a %s, which comes back as a %s. %s.",
            self._store,
            printable(path) if path else "a value",
            kind.__name__,
            returned.__name__,
            cure,
        )

    def _is_due(self, name: str) -> bool:
        if len(self._writes) > 10 * _MOST:
            return False
        writes = self._writes[name] = self._writes.get(name, 0) + 1
        return writes & (writes - 1) == 0

    def _is_kept(self, kind: type) -> bool:
        if issubclass(kind, str | int | float) or kind.__module__.startswith("flask_convstore."):
            return True
        return self._is_tagged and kind in TAGGED_TYPES

    def _tell(self, kind: type, path: str) -> None:
        tagged = ", or set CONVSTORE_TYPES=tagged" if kind in TAGGED_TYPES else ""
        _log.warning(
            "%s: %s holds a %s, which JSON does not bring back as it was. Name its type by load= or messages= of a "
            "mapping%s.",
            self._store,
            printable(path) if path else "a value",
            kind.__name__,
            tagged,
        )
