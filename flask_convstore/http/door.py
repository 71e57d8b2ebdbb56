"""Door: what the views of one store are handed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..domain.results import Health, Owner, Scope
from ..operations.access import Access
from ..operations.replies import Replier
from .openapi.document import Served


class Door(NamedTuple):
    """Everything that the views of one store are handed.

    Attributes:
        access: Resolves the settings and the store, and the owner that is meant.
        replier: Gives the handler of messages, if the app has one.
        served: Tells what the app serves, by the name that the blueprint is registered with.
        health: Asks the store how it is.
    """

    access: Callable[[Owner | Scope], Access]
    replier: Callable[[], Replier | None]
    served: Callable[[str], Served]
    health: Callable[[], Health]
