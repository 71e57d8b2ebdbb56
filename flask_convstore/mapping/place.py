"""Place: a value's place in a store."""

from __future__ import annotations

from typing import Any

from ..domain.types import Owner
from ..operations.access import Access
from ..stores.store import Store
from .converters import Converter

NO_VALUE: Any = object()
"""The value of a place without one. None is a value."""

Identity = tuple[Store, Owner, str, Any]
"""Store, owner, session id, and the converter's source."""


class Place:
    """The place of a value in a store.

    Attributes:
        converter: Turns the value into JSON and back. None: the value is JSON.
        identity: Tells places apart in one unit of work.
    """

    __slots__ = ("access", "converter", "first_key", "identity", "origin", "session_id")

    def __init__(self, access: Access, converter: Converter | None, session_id: str) -> None:
        self.access = access
        self.converter = converter
        self.session_id = session_id
        self.identity: Identity = (access.store, access.owner, session_id, converter and converter.source)
        self.first_key = access.limits.history_key
        self.origin = access.backend.origin
