"""Place: a value's place in a store."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from ..domain import json_text
from ..domain.results import Snapshot
from ..domain.shapes import key_of
from ..domain.types import Owner
from ..operations.access import Access
from ..sessions.content import ContentLimits, key_in
from ..stores.store import Store
from .converters import Converter
from .returning import losses

NO_VALUE: Any = object()
"""The value of a place without one. None is a value."""

Identity = tuple[Store, Owner, str, Any]
"""Store, owner, session id, and the converter's source."""


class Place:
    """The place of a value in a store.

    Attributes:
        converter: Turns the value into JSON and back. None: the value is JSON.
        identity: Tells places apart in one unit of work.
        limits: Limits and form of its content.
    """

    __slots__ = ("access", "converter", "first_key", "identity", "limits", "origin", "session_id")

    def __init__(self, access: Access, converter: Converter | None, session_id: str) -> None:
        self.access = access
        self.converter = converter
        self.session_id = session_id
        self.identity: Identity = (access.store, access.owner, session_id, converter and converter.source)
        self.first_key = access.limits.history_key
        self.origin = access.backend.origin
        self.limits = access.limits if converter is None else self._limits(converter)

    def load(self, content: Any, stored: Snapshot) -> Any:
        """Make the value of the *content* of the session as it is *stored*."""
        converter = self.converter
        if converter is None:
            return content
        if converter.is_of_messages:
            return converter.load(content, key_of(stored.shape, self.first_key))
        return converter.load(content)

    def dump(self, value: Any, stored: Snapshot | None) -> Any:
        """Turn the value into what is stored, in place of the session as it is *stored*."""
        converter = self.converter
        if converter is None:
            return value
        if converter.is_of_messages:
            return converter.dump(value, key_in(value, self.limits, stored) if isinstance(value, Mapping) else None)
        dump = converter.dump_tagged if self.limits.is_tagged else None
        return (dump or converter.dump)(value)

    def look_at(self, value: Any) -> None:
        """Warn of types that an object which was written loses on its way through JSON."""
        changes, converter = self.access.backend.limits.changes, self.converter
        if changes and converter and not (converter.is_pair or converter.is_of_messages):
            changes.look_at_objects(lambda: losses(value, self._returned(value, converter)))

    def _returned(self, value: Any, converter: Converter) -> Any:
        """Make *value* again, as the next request will. *value* itself if that fails, since its error will tell."""
        with contextlib.suppress(Exception):
            text = json_text.encode(self.dump(value, None), is_tagged=self.limits.is_tagged)
            return converter.load(json_text.decode(text))
        return value

    def _limits(self, converter: Converter) -> ContentLimits:
        backend = self.access.backend
        if converter.is_of_messages:
            return backend.limits_of_messages
        return backend.limits_of_functions if converter.is_pair else backend.limits_of_classes
